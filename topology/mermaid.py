"""Topologies as Mermaid text, which many Markdown viewers draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topology.diagram import Diagram


def mermaid(diagram: Diagram) -> str:
    """Return a diagram as the text of a Mermaid flowchart.

    Examples:
        >>> from topology.diagram import diagram_of_tag
        >>> from topology.tag import Channel, Role, Tag
        >>> tag = Tag((Role("trainer", data=True), Role("server")), (Channel("param", ("trainer", "server")),))
        >>> print(mermaid(diagram_of_tag(tag)))
        flowchart BT
            n0(["trainer<br/>one for each dataset"])
            n1["server"]
            n0 ---|"param"| n1
    """
    return "\n".join(_lines(diagram))


def _lines(diagram: Diagram) -> Iterator[str]:
    yield "flowchart BT"
    names = {node.id: f"n{number}" for number, node in enumerate(diagram.nodes)}
    for node in diagram.nodes:
        text = _quoted(
            node.label if node.label.startswith(node.role) or node.count > 1 else f"{node.role} {node.label}"
        )
        yield f"    {names[node.id]}([{text}])" if node.data else f"    {names[node.id]}[{text}]"
    for edge in diagram.edges:
        label = _quoted(edge.label or edge.channel)
        yield f"    {names[edge.first]} ---|{label}| {names[edge.second]}"


def _quoted(text: str) -> str:
    plain = text.replace('"', "'").replace("\n", "<br/>")
    return f'"{plain}"'
