"""Diagrams of topologies: no edge passes behind a box that is not its end, and nothing covers a label."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from figures.graph import Box, layout
from figures.topology import draw
from ssim.files.topology_file import read_topology
from topology.deployment import Dataset
from topology.diagram import MOST_NODES, Diagram, diagram_of_plan, diagram_of_tag
from topology.expansion import expand
from topology.tag import Tag

FILES = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))


def clear(diagram: Diagram) -> None:
    """Hold a diagram's layout to the law."""
    found = layout(diagram)
    for one, other in itertools.combinations(found.boxes.values(), 2):
        assert not one.overlaps(other)
    for path in found.paths:
        ends = {path.edge.first, path.edge.second}
        for id_, box in found.boxes.items():
            assert id_ in ends or not any(box.meets(*segment) for segment in path.segments), (path.edge, id_)
    labels = [path.label for path in found.paths if path.label is not None]
    for label in labels:
        assert not any(map(label.overlaps, found.boxes.values()))
    for label, second in itertools.combinations(labels, 2):
        assert not label.overlaps(second)
    for box in [*found.boxes.values(), *labels]:
        assert box.x - box.width / 2 >= -1e-9
        assert box.x + box.width / 2 <= found.width + 1e-9
        assert found.bottom <= box.bottom[1]
        assert box.top[1] <= found.top


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_edge_passes_behind_a_box_and_labels_are_free(path: Path) -> None:
    shipped = read_topology(path)
    clear(diagram_of_tag(shipped.tag))
    clear(diagram_of_plan(shipped.plan))
    groups = {(data.role, data.group) for worker in shipped.plan.workers if (data := worker.dataset)}
    for n in [*range(2, 10), 20, MOST_NODES + 1]:
        roles = tuple(
            role if role.data else replace(role, replicas=max(1, min(n, 9)), at=()) for role in shipped.tag.roles
        )
        datasets = [Dataset(f"{role}-{group}-{k}", role, group) for role, group in groups for k in range(n)]
        clear(diagram_of_plan(expand(Tag(roles, shipped.tag.channels), datasets)))
        one_each = [replace(role, replicas=1, at=()) if not role.data else role for role in shipped.tag.roles]
        clear(diagram_of_plan(expand(Tag(tuple(one_each), shipped.tag.channels), datasets)))


def test_a_segment_meets_a_box_that_it_passes_and_none_that_it_touches() -> None:
    box = Box(0.0, 0.0, 2.0, 1.0)
    assert box.meets((-3.0, 0.0), (3.0, 0.4))
    assert box.meets((0.0, 0.0), (0.1, 0.1))
    assert not box.meets((-3.0, 0.5), (3.0, 0.5))
    assert not box.meets((0.0, 0.5), (0.0, 3.0))
    assert not box.meets((-3.0, 0.0), (-1.5, 0.0))


def test_a_wide_diagram_fits_the_page() -> None:
    shipped = read_topology(next(path for path in FILES if path.stem == "classical"))
    plan = expand(shipped.tag, [Dataset(f"d{k:02}", "trainer") for k in range(MOST_NODES - 1)])
    assert draw(diagram_of_plan(plan)).get_size_inches()[0] <= 7.0 + 1e-9
