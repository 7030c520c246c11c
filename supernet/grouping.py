"""Finds the channels of a network that must be sliced together, and says why the others can't be sliced."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from supernet.attention import supports_heads
from supernet.layers import channels, groups, is_channel_norm, own_parameters, own_tensors
from supernet.nan_tracing import Injection
from supernet.structure import Channels, Group, Unsliceable
from supernet.trial import trial_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from supernet.nan_tracing import Arrivals, Tracer

_KEPT = "is in keep"
_NOT_CALLED = "is used by other code than a call of it"
_RESULT = "is part of the result"


class GroupFinder:
    """Injects NaN into the output of each layer and joins the channels that must be sliced together (union-find)."""

    def __init__(self, tracer: Tracer, blocks: tuple[str, ...], keep: Collection[str]) -> None:
        self.tracer, self.blocks, self.keep = tracer, blocks, keep
        self._reasons: dict[Channels, str] = {}
        self._crossing: set[Channels] = set()
        """Outputs that reach the result of the block they are in, and inputs that come from outside of it."""
        self._parent: dict[Channels, Channels] = {}
        self._units: dict[Channels, int] = {}
        self._places: dict[Channels, Channels] = {}
        """Each joined node, with its sections and dimension."""

    def trace_all(self) -> None:
        """Trace the output of each layer, then everything else."""
        for path, layer in self.tracer.layers.items():
            out = Channels(path, "out")
            if path not in self.tracer.shapes:
                self._fix(out, _NOT_CALLED)
                continue
            self._join(out, out, channels(layer, "out"))
            if groups(layer) > 1:  # the inputs and the outputs of a group belong together
                self._join(Channels(path, "in"), out, groups(layer))
            for side in ("in", "out"):
                error = trial_error(layer, side, self.tracer.shapes[path][0])
                if error:
                    self._fix(Channels(path, side), error)
            self._trace(path)
        for path, module in self.tracer.foreign.items():
            if isinstance(module, nn.MultiheadAttention) and path in self.tracer.shapes and supports_heads(module):
                heads = Channels(path, "heads")
                self._join(heads, heads, module.num_heads)
        self._fix_kept()
        self._examine(self.tracer.run_with_all_else_nan())
        self._fix_kept()  # tensors that were joined just now

    def _fix_kept(self) -> None:
        for node in list(self._parent):
            if self._is_kept(node.path):
                self._fix(node, _KEPT)

    def groups(self) -> tuple[Group, ...]:
        """Return the channels that can be sliced, in the order of the layers that output them."""
        fixed = {self._root(node) for node in self._reasons if node in self._parent}
        return tuple(
            Group(tuple(self._places[node] for node in nodes), self._units[root], self._block_of(nodes))
            for root, nodes in self._members().items()
            if root not in fixed and self._units[root] > 1
        )

    def unsliceable(self) -> tuple[Unsliceable, ...]:
        """Return the layers whose outputs are left whole, with the reason."""
        sliced = {(member.path, member.side) for group in self.groups() for member in group.members}
        members, found = self._members(), list[Unsliceable]()
        for path, module in self.tracer.modules.items():
            node, is_kept = Channels(path, "out"), self._is_kept(path)
            if isinstance(self.tracer.modules.get(path.rpartition(".")[0]), nn.MultiheadAttention):
                continue  # its output layer is sliced with it
            if path in self.tracer.layers and channels(self.tracer.layers[path], "out") > 1:
                reason = "" if (path, "out") in sliced else self._reason(node)
                nodes = members[self._root(node)] if node in self._parent else [node]
                inside = self._block_of(nodes) is not None and not self._crossing & {*nodes}
                is_kept = is_kept or any(self._reasons.get(other) == _KEPT for other in nodes)
                if reason and reason != _RESULT:
                    found.append(Unsliceable(path, reason, is_kept or not inside))
            elif path in self.tracer.opaque and path not in {member for member, _ in sliced}:
                is_leaf = not any(module.children())
                names = ", ".join(name for name, p in own_parameters(module).items() if p.dim() > 1)
                reason = f"is of type {type(module).__name__}" if is_leaf else f"has parameters of its own: {names}"
                is_inside = self._block_of([node]) is not None and is_leaf and not isinstance(module, nn.Embedding)
                found.append(Unsliceable(path, reason, is_kept or not is_inside))
        return tuple(found)

    def _reason(self, node: Channels) -> str:
        """Return why the channels of a group can't be sliced: the reason of this one, else that of any other."""
        if node in self._reasons:
            return self._reasons[node]
        if node not in self._parent:
            return ""
        others = [other for other in self._members()[self._root(node)] if other in self._reasons]
        if not others:
            return "has no units that can be sliced" if self._units[self._root(node)] == 1 else ""
        reason, path = self._reasons[others[0]], others[0].path
        return reason if path == node.path else f"belongs to {self._name(path)}, which {reason}"

    def _trace(self, path: str) -> None:
        """Join a layer's output with the layers that it reaches, or note that it can't be sliced."""
        out, count = Channels(path, "out"), channels(self.tracer.layers[path], "out")
        if count == 1:
            self._fix(out, "has one channel")
            return
        watched = ["", *self.blocks]
        probes = [[0], sorted({count // 2, count - 1})]
        arrivals = [self.tracer.run(Injection({path: probe}), watched) for probe in probes]
        reached = list(dict.fromkeys(taker for arrived in arrivals for taker in arrived.layers))
        others = [other for other in arrivals[0].others if not path.startswith(f"{other}.") and other != path]
        whole, block = "" in arrivals[0].outputs, self._block_of([out])
        if block is not None and self.blocks[block] in arrivals[0].outputs:
            self._crossing.add(out)
        if whole:
            self._fix(out, _RESULT)
        elif not reached:
            self._fix(out, f"goes through {self._name(others[0])}" if others else "reaches no other layer")
        layouts = {taker: _layout(count, taker, probes, arrivals) for taker in reached}
        if any(units < count for units, _ in layouts.values()):  # a few channels may fit by chance
            more = sorted({count // 3, 2 * count // 3, (count - 1) // 2} - {0, count // 2, count - 1})
            probes += [[channel] for channel in more]
            arrivals += [self.tracer.run(Injection({path: [channel]})) for channel in more]
            layouts = {taker: _layout(count, taker, probes, arrivals) for taker in reached}
        for taker, (units, sections) in layouts.items():
            entered = Channels(taker, "in" if taker in self.tracer.layers else "out")
            if self._block_of([out, entered]) is None:
                self._crossing.add(entered)
            if units > 1 and self._set_sections(out, sections):
                self._join(out, entered, units)
                continue
            self._fix(entered, "takes channels that are mixed or reordered")
            through = f"goes through {self._name(others[0])}" if others else ""
            self._fix(out, through or f"is mixed or reordered before {self._name(taker)}")
        if not whole:
            self._join_channel_norms(out, others)

    def _join_channel_norms(self, out: Channels, paths: Sequence[str]) -> None:
        """Join norms of groups or of single channels that a layer's output goes through."""
        for path in paths:
            module = self.tracer.modules[path]
            if is_channel_norm(module) and self._units[self._root(out)] > 1:
                units = module.num_groups if isinstance(module, nn.GroupNorm) else module.num_features
                self._join(out, Channels(path, "channels"), units)

    def _set_sections(self, out: Channels, sections: tuple[int, ...]) -> bool:
        """Set the sections of a layer's output; return whether they agree with those set before."""
        sections = sections if len(sections) > 1 else ()
        before = self._places.get(out, out)
        is_first = self._parent[out] == out and len(self._members()[out]) == 1
        if not is_first and before.sections != sections:
            return False
        self._places[out] = out._replace(sections=sections)
        return True

    def _examine(self, arrived: Arrivals) -> None:
        """Join tensors of other modules to the channels that they belong to, such as a scale for each; or fix these."""
        takers: list[str] = []
        for path in arrived.layers:
            node = Channels(path, "in")
            members = self._members().get(self._root(node), []) if node in self._parent else []
            can_be_sliced = members and not any(member in self._reasons for member in members)
            if can_be_sliced and self._block_of(members) is not None:
                takers.append(path)
            else:
                self._fix(node, "takes what is not the output of a layer alone")
        if not takers:
            return
        for path, module in self.tracer.foreign.items():
            owned = own_tensors(module)
            if owned and Channels(path, "channels") not in self._parent:
                reached = self.tracer.run(Injection(tensors=tuple(owned.values()))).layers.keys() & {*takers}
                for name, tensor in owned.items() if reached else ():
                    self._match(sorted(reached), Channels(path, name), tensor)

    def _match(self, takers: list[str], node: Channels, tensor: torch.Tensor) -> None:
        """Join a tensor to the inputs of layers if one of its dimensions is that of their units."""
        for dim, size in enumerate(tensor.shape):
            if size == 1:
                continue
            for units in {self._units[self._root(Channels(taker, "in"))] for taker in takers}:
                alike = [taker for taker in takers if self._units[self._root(Channels(taker, "in"))] == units]
                parts = size // units if size % units == 0 else 1
                first, last = (
                    self._reached_units(alike, units, tensor.narrow(dim, start, parts)) for start in (0, size - parts)
                )
                for taker in alike:
                    seen = first.get(taker, []), last.get(taker, [])
                    if not any(0 < len(reached) < units for reached in seen):
                        continue  # it reaches all units alike, or none
                    if size % units == 0 and seen[0] in ([], [0]) and seen[1] in ([], [units - 1]):
                        self._places[node] = node._replace(dim=dim)
                        self._join(Channels(taker, "in"), node, units)
                    else:
                        self._fix(Channels(taker, "in"), f"depends on {node.side} of {self._name(node.path)}")

    def _reached_units(self, takers: list[str], units: int, part: torch.Tensor) -> dict[str, list[int]]:
        """Return for each layer which units of its input a part of a tensor reaches."""
        arrived = self.tracer.run(Injection(tensors=[part])).layers
        return {
            taker: [n for n, at in enumerate(arrived[taker].unflatten(0, (units, -1)).any(dim=1).tolist()) if at]
            for taker in takers
            if taker in arrived
        }

    def _fix(self, node: Channels, reason: str) -> None:
        """Note why channels can't be sliced; the first reason counts."""
        self._reasons.setdefault(node, reason)

    def _name(self, path: str) -> str:
        return f"{path} ({type(self.tracer.modules[path]).__name__})".lstrip()

    def _is_kept(self, path: str) -> bool:
        return any(path == whole or path.startswith(f"{whole}.") for whole in self.keep)

    def _block_of(self, nodes: Sequence[Channels]) -> int | None:
        """Return the innermost block that contains all of some channels."""
        inside = [
            n
            for n, block in enumerate(self.blocks)
            if all(node.path == block or node.path.startswith(f"{block}.") for node in nodes)
        ]
        return inside[-1] if inside else None

    def _members(self) -> dict[Channels, list[Channels]]:
        members: dict[Channels, list[Channels]] = {}
        for node in self._parent:
            members.setdefault(self._root(node), []).append(node)
        return members

    def _root(self, node: Channels) -> Channels:
        while self._parent[node] != node:
            node = self._parent[node]
        return node

    def _join(self, first: Channels, second: Channels, units: int) -> None:
        """Record that channels must be sliced together, in units that both allow."""
        for node in (first, second):
            self._parent.setdefault(node, node)
            self._units.setdefault(node, 0)
            self._places.setdefault(node, node)
        root, child = self._root(first), self._root(second)
        self._parent[child] = root
        self._units[root] = math.gcd(self._units[root], self._units[child], units)


def _layout(
    count: int, taker: str, probes: Sequence[Sequence[int]], arrivals: Sequence[Arrivals]
) -> tuple[int, tuple[int, ...]]:
    """Return into how many equal units channels are divided on their way from one layer into another, in order.

    Args:
        count: The output channels of the first layer.
        taker: The second layer.
        probes: Some channels of the first layer, for each run.
        arrivals: Where these arrive.

    Returns:
        The largest number of units that divides the channels of both layers and for which NaN stays within its unit; 1,
        which can't be sliced, if there is no other. And the sections of the first layer's channels, each of which has a
        part of every unit: one, or several if layers are fused.
    """
    reached = [arrived.layers.get(taker) for arrived in arrivals]
    shown = next(channels for channels in reached if channels is not None)
    inputs = len(shown)
    seen = torch.stack([shown.new_zeros(inputs) if channels is None else channels for channels in reached])
    for sections in _possible_sections(count, inputs):
        common = math.gcd(*sections, inputs)
        for units in (number for number in range(common, 1, -1) if common % number == 0):
            expected = torch.zeros(len(probes), units, dtype=torch.bool, device=seen.device)
            for row, channels_ in enumerate(probes):
                expected[row, [_unit(channel, sections, units) for channel in channels_]] = True
            if torch.equal(seen.unflatten(1, (units, -1)).any(dim=2), expected):
                return units, sections
    return 1, (count,)


def _possible_sections(count: int, inputs: int) -> Iterator[tuple[int, ...]]:
    """Yield ways in which fused layers divide their outputs: in one to three parts; or queries, keys and values."""
    yield (count,)
    yield from ((count // parts,) * parts for parts in (2, 3) if count % parts == 0)
    if inputs < count < 3 * inputs and (count - inputs) % 2 == 0:
        yield inputs, (count - inputs) // 2, (count - inputs) // 2


def _unit(channel: int, sections: Sequence[int], units: int) -> int:
    for size in sections:
        if channel < size:
            return channel * units // size
        channel -= size
    raise IndexError(channel)
