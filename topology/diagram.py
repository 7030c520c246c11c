"""The content of a drawing of a topology: nodes in levels, and edges between them.

Of a large plan, a node stands for all workers of a role in one place.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.plan import Plan
    from topology.tag import Channel, Tag, Variant

MOST_NODES = 30
"""A plan of more workers than this is drawn by places, with counts."""


@dataclass(frozen=True, slots=True)
class Node:
    """A role, a worker, or the workers of a role in one place.

    Attributes:
        id: Unique.
        label: Its text.
        role: Its role.
        level: The distance of its role from the roles with data, in channels; 0 is drawn at the bottom.
        data: Whether its role consumes data.
        count: The number of workers that it stands for.
    """

    id: str
    label: str
    role: str
    level: int
    data: bool
    count: int = 1


@dataclass(frozen=True, slots=True)
class Edge:
    """A channel between two nodes, or of a node with itself.

    Attributes:
        first: The id of a node.
        second: The id of a node.
        channel: The name of the channel.
        label: Its text.
    """

    first: str
    second: str
    channel: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Diagram:
    """Nodes and edges.

    Attributes:
        title: The title.
        nodes: By level, then in the order of the plan.
        edges: By channel.
        channels: The names of the channels, in the order of their colours.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    channels: tuple[str, ...]


def diagram_of_tag(tag: Tag, title: str = "") -> Diagram:
    """Return the diagram of roles and channels."""
    levels = _levels(tag)
    nodes = []
    for role in tag.roles:
        count = role.replicas * len(role.at)
        times = "one for each dataset" if role.data else f"x {count}"
        label = f"{role.name}\n{times}" if role.data or count > 1 else role.name
        label += "".join(f"\n{name}: {_size(variant)}" for name, variant in role.variants.items())
        nodes.append(Node(role.name, label, role.name, levels[role.name], role.data))
    edges = [Edge(*channel.pair, channel.name, _label(channel)) for channel in tag.channels]
    return _diagram(title, nodes, edges, tag)


def _size(variant: Variant) -> str:
    count = len(variant.datasets)
    return f"{count} dataset{'s' * (count > 1)}" if variant.share is None else f"{100 * variant.share:g} %"


def _label(channel: Channel) -> str:
    shown = ", ".join(channel.groups[:4]) + (", ..." if len(channel.groups) > 4 else "")  # noqa: PLR2004  (as many as fit)
    return channel.name if len(channel.groups) == 1 else f"{channel.name} ({shown})"


def diagram_of_plan(plan: Plan, title: str = "") -> Diagram:
    """Return the diagram of workers and their peers; of many workers, that of their places."""
    levels = _levels(plan.tag)
    single = len(plan) <= MOST_NODES
    nodes: list[Node] = []
    node_of: dict[str, str] = {}
    for name, workers in plan.roles.items():
        for place, groups in enumerate(workers.role.at):
            numbers = [number for number, at in enumerate(workers.places.tolist()) if at == place]
            shown = [group for channel, group in groups.items() if len(plan.tag.channel(channel).groups) > 1]
            for unit in [[number] for number in numbers] if single else [numbers] if numbers else []:
                id_ = f"{name}/{unit[0]}"
                label = _worker_label(name, unit[0], len(workers)) if single else _place_label(name, len(unit), shown)
                nodes.append(Node(id_, label, name, levels[name], workers.role.data, len(unit)))
                node_of |= {f"{name}/{number}": id_ for number in unit}
    edges = [edge for channel in plan.tag.channels for edge in _edges(plan, channel, node_of)]
    return _diagram(title, nodes, edges, plan.tag)


def _worker_label(role: str, number: int, count: int) -> str:
    return role if count == 1 else str(number)


def _place_label(role: str, count: int, groups: Sequence[str]) -> str:
    return "\n".join([role if count == 1 else f"{count} x {role}", *dict.fromkeys(groups)])


def _edges(plan: Plan, channel: Channel, node_of: dict[str, str]) -> list[Edge]:
    first, second = channel.pair
    edges: dict[Edge, None] = {}
    for group in channel.groups:
        ends = [[node_of[id_] for id_ in plan.members(channel.name, group, role)] for role in channel.pair]
        if first == second:  # all with all; a ring stands for it
            edges |= dict.fromkeys(_ring(ends[0], channel.name))
        else:
            pairs = itertools.product(dict.fromkeys(ends[0]), dict.fromkeys(ends[1]))
            edges |= {Edge(*pair, channel.name): None for pair in pairs}
    return list(edges)


def _ring(nodes: Sequence[str], channel: str) -> list[Edge]:
    distinct = list(dict.fromkeys(nodes))
    if len(distinct) == 1:
        return [Edge(distinct[0], distinct[0], channel)] if len(nodes) > 1 else []
    pairs = list(zip(distinct, distinct[1:] + distinct[:1], strict=True))
    return [Edge(*pair, channel) for pair in pairs[: None if len(distinct) > 2 else 1]]  # noqa: PLR2004


def _levels(tag: Tag) -> dict[str, int]:
    """Return the distance of each role from the nearest role with data, or from the first role, in channels."""
    starts = [role.name for role in tag.roles if role.data] or [tag.roles[0].name]
    levels = dict.fromkeys(starts, 0)
    waiting = deque(starts)
    while waiting:
        role = waiting.popleft()
        for channel in tag.channels_of(role):
            peer = channel.peer_of(role)
            if peer not in levels:
                levels[peer] = levels[role] + 1
                waiting.append(peer)
    return levels


def _diagram(title: str, nodes: Sequence[Node], edges: Sequence[Edge], tag: Tag) -> Diagram:
    ordered = tuple(sorted(nodes, key=lambda node: node.level))
    return Diagram(title, ordered, tuple(edges), tuple(channel.name for channel in tag.channels))
