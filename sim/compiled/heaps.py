"""Heaps in arrays, for the compiled loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.compiled.compiling import INT, INTS, READ_INTS, compiled

if TYPE_CHECKING:
    from sim.compiled.compiling import Ints


@compiled(INT(INTS, INTS, INT, INT, INT, INT))
def push(keys: Ints, items: Ints, start: int, size: int, key: int, item: int) -> int:
    """Push an item onto the heap of `size` places from `start`, ordered by key and then item; return the new size."""
    place = start + size
    while place > start:
        above = start + (place - start - 1) // 2
        if keys[above] < key or (keys[above] == key and items[above] < item):
            break
        keys[place], items[place] = keys[above], items[above]
        place = above
    keys[place], items[place] = key, item
    return size + 1


@compiled(INT(INTS, INTS, INT, INT))
def pop(keys: Ints, items: Ints, start: int, size: int) -> int:
    """Pop the first item of the heap of `size` places from `start`, which is not empty; return the new size."""
    place, last = start, start + size - 1
    key, item = keys[last], items[last]
    while True:
        below = 2 * place + 1 - start
        if below >= last:
            break
        other = below + 1
        if other < last and (keys[other] < keys[below] or (keys[other] == keys[below] and items[other] < items[below])):
            below = other
        if key < keys[below] or (key == keys[below] and item < items[below]):
            break
        keys[place], items[place] = keys[below], items[below]
        place = below
    keys[place], items[place] = key, item
    return size - 1


@compiled(INT(INTS, INT, INT, INT))
def without(heap: Ints, start: int, size: int, item: int) -> int:
    """Remove an item from a heap if it is there; return the new size. Slow, and as rare as failures."""
    kept = 0
    for place in range(start, start + size):
        if heap[place] != item:
            kept = push(heap, heap, start, kept, heap[place], heap[place])
    return kept


@compiled(INT(READ_INTS, INTS, INTS, INT, INT))
def merged(keys: Ints, child: Ints, sibling: Ints, one: int, other: int) -> int:
    """Return the root of two pairing heaps (Fredman et al., Algorithmica 1986) that become one; -1 if both are empty.

    Any number of such heaps share their arrays, each with room for all items.

    Args:
        keys: The key of each item; of equal keys, the smaller item is first.
        child: In and out: the child of each item that was merged last; -1 for none.
        sibling: In and out: the child of the same parent that was merged before; -1 for none.
        one: The root of a heap; -1 for an empty one.
        other: That of another.
    """
    if one < 0 or other < 0:
        return max(one, other)
    if keys[other] < keys[one] or (keys[other] == keys[one] and other < one):
        one, other = other, one
    sibling[other], child[one] = child[one], other
    return one


@compiled(INT(READ_INTS, INTS, INTS, INT))
def without_root(keys: Ints, child: Ints, sibling: Ints, root: int) -> int:
    """Return the root of a pairing heap, which is not empty, after its first item was removed; -1 if none is left."""
    pairs, item, root = -1, child[root], -1
    while item >= 0:
        other, after = sibling[item], -1
        if other >= 0:
            after = sibling[other]
            item = merged(keys, child, sibling, item, other)
        sibling[item], pairs = pairs, item
        item = after
    while pairs >= 0:
        after = sibling[pairs]
        root = merged(keys, child, sibling, root, pairs)
        pairs = after
    return root
