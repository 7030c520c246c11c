from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.structure import active_blocks


@pytest.mark.parametrize(
    ("depth", "dropped"), [(12, []), (9, [4, 8, 12]), (8, [3, 6, 9, 12]), (6, [2, 4, 6, 8, 10, 12])]
)
def test_every_other_drops_each_nth(depth: int, dropped: list[int]) -> None:
    """SuperServe's rule n mod (L / (L - D)) = 0, counted from 1, names those that are dropped."""
    assert [n for n, runs in enumerate(active_blocks(12, depth, "every_other"), 1) if not runs] == dropped


@given(st.integers(1, 48).flatmap(lambda blocks: st.tuples(st.just(blocks), st.integers(1, blocks))))
def test_as_many_run_as_are_asked_for(sizes: tuple[int, int]) -> None:
    blocks, depth = sizes
    for order in ("first", "every_other"):
        running = active_blocks(blocks, depth, order)
        assert (len(running), sum(running), running[0]) == (blocks, depth, True)
    assert active_blocks(blocks, depth, "first") == tuple(n < depth for n in range(blocks))
    # DynaBERT's code: floor(i / depth_mult) for i in range(depth)
    by_ratio = {int(i / (depth / blocks) + 1e-9) for i in range(depth)}
    assert [n for n, runs in enumerate(active_blocks(blocks, depth, "every_other")) if runs] == sorted(by_ratio)


def test_none_may_run() -> None:
    assert active_blocks(3, 0, "first") == active_blocks(3, 0, "every_other") == (False, False, False)
