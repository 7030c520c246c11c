"""What a drawing of a topology shows, whoever draws it: nodes in levels, and edges between them.

Workers of one role that sit in one place stand as one node when there are many: what is drawn stays readable.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.plan import Plan
    from topology.tag import Channel, Tag

MOST_NODES = 60
"""A plan of more workers than this is drawn by places, with counts."""


@dataclass(frozen=True, slots=True)
class Node:
    """A role, a worker, or the workers of a role in one place.

    Attributes:
        id: Unique.
        label: What stands in it.
        role: Its role.
        level: How far its role is from the data: 0 is drawn at the bottom.
        data: Whether its role has data.
        count: For how many workers it stands.
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
        label: What stands at it.
    """

    first: str
    second: str
    channel: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Diagram:
    """Nodes and edges.

    Attributes:
        title: What stands above.
        nodes: By level, then in the order of the plan.
        edges: By channel.
        channels: The names of the channels, in order: their number decides on a colour.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    channels: tuple[str, ...]


def diagram_of_tag(tag: Tag, title: str = "") -> Diagram:
    """Return the picture of roles and channels."""
    levels = _levels(tag)
    nodes = []
    for role in tag.roles:
        count = role.replicas * len(role.at)
        times = "one for each dataset" if role.data else f"x {count}"
        label = f"{role.name}\n{times}" if role.data or count > 1 else role.name
        nodes.append(Node(role.name, label, role.name, levels[role.name], role.data))
    edges = [Edge(*channel.pair, channel.name, _label(channel)) for channel in tag.channels]
    return _picture(title, nodes, edges, tag)


def _label(channel: Channel) -> str:
    shown = ", ".join(channel.groups[:4]) + (", ..." if len(channel.groups) > 4 else "")  # noqa: PLR2004  (as many as fit)
    return channel.name if len(channel.groups) == 1 else f"{channel.name} ({shown})"


def diagram_of_plan(plan: Plan, title: str = "") -> Diagram:
    """Return the picture of workers and who can send to whom; of many workers, that of their places."""
    levels = _levels(plan.tag)
    alone = len(plan) <= MOST_NODES
    nodes: list[Node] = []
    node_of: dict[str, str] = {}
    for name, staff in plan.roles.items():
        for place, groups in enumerate(staff.role.at):
            numbers = [number for number, at in enumerate(staff.places.tolist()) if at == place]
            shown = [group for channel, group in groups.items() if len(plan.tag.channel(channel).groups) > 1]
            for unit in [[number] for number in numbers] if alone else [numbers] if numbers else []:
                id_ = f"{name}/{unit[0]}"
                label = _name(name, unit[0], len(staff)) if alone else _crowd(name, len(unit), shown)
                nodes.append(Node(id_, label, name, levels[name], staff.role.data, len(unit)))
                node_of |= {f"{name}/{number}": id_ for number in unit}
    edges = [edge for channel in plan.tag.channels for edge in _edges(plan, channel, node_of)]
    return _picture(title, nodes, edges, plan.tag)


def _name(role: str, number: int, of: int) -> str:
    return role if of == 1 else str(number)


def _crowd(role: str, count: int, groups: Sequence[str]) -> str:
    return "\n".join([role if count == 1 else f"{count} x {role}", *dict.fromkeys(groups)])


def _edges(plan: Plan, channel: Channel, node_of: dict[str, str]) -> list[Edge]:
    first, second = channel.pair
    found: dict[Edge, None] = {}
    for group in channel.groups:
        ones, others = (plan.members(channel.name, group, role) for role in channel.pair)
        if first == second:  # all with all; a closed chain is what can be seen
            found |= dict.fromkeys(_chain([node_of[one] for one in ones], channel.name))
        else:
            nodes = dict.fromkeys(node_of[other] for other in others)
            found |= {
                Edge(one, other, channel.name): None
                for one in dict.fromkeys(node_of[one] for one in ones)
                for other in nodes
            }
    return list(found)


def _chain(nodes: Sequence[str], channel: str) -> list[Edge]:
    single = list(dict.fromkeys(nodes))
    if len(single) == 1:
        return [Edge(single[0], single[0], channel)] if len(nodes) > 1 else []
    pairs = zip(single, single[1:] + single[:1], strict=True)
    return [Edge(one, other, channel) for one, other in list(pairs)[: None if len(single) > 2 else 1]]  # noqa: PLR2004


def _levels(tag: Tag) -> dict[str, int]:
    """Return how many channels each role is away from the nearest role with data, or from the first role."""
    starts = [role.name for role in tag.roles if role.data] or [tag.roles[0].name]
    levels = dict.fromkeys(starts, 0)
    waiting = deque(starts)
    while waiting:
        role = waiting.popleft()
        for channel in tag.channels_of(role):
            other = channel.peer_of(role)
            if other not in levels:
                levels[other] = levels[role] + 1
                waiting.append(other)
    return levels


def _picture(title: str, nodes: Sequence[Node], edges: Sequence[Edge], tag: Tag) -> Diagram:
    ordered = tuple(sorted(nodes, key=lambda node: node.level))
    return Diagram(title, ordered, tuple(edges), tuple(channel.name for channel in tag.channels))
