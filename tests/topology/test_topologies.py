"""The topologies that come with the toolkit: each is right, says truly what it changes, and can be drawn."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from figures.style import save_as
from figures.topology import draw
from ssim.files.topology_file import programs_of, read_topology
from tests.topology import cases
from topology.description import described, diff, lines
from topology.diagram import MOST_NODES, diagram_of_plan, diagram_of_tag
from topology.expansion import expand
from topology.mermaid import mermaid
from topology.tag import Channel, Link, Role, Tag

FOLDER = Path(__file__).parents[2] / "topologies"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_all_that_are_promised_are_there() -> None:
    promised = "classical hierarchical distributed hybrid coordinated asynchronous parallel gossip cyclic swarm serving"
    assert {path.stem for path in FILES} == set(promised.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_right_and_says_what_it_changes(path: Path) -> None:
    found = read_topology(path)
    assert found.name == path.stem
    said = re.search(
        r"# Description from (\w+\.yaml): \+(\d+) -(\d+) lines\. Programs: \+(\d+) lines\.", path.read_text()
    )
    if said is None:
        assert path.stem in {"classical", "serving"}
        return
    changed = diff(read_topology(FOLDER / said[1]).tag, found.tag)
    assert (len(changed.added), len(changed.dropped)) == (int(said[2]), int(said[3]))
    assert sum(map(code_lines, owners(path) - owners(FOLDER / said[1]))) == int(said[4])


def owners(path: Path) -> set[type]:
    """The classes that the programs of a topology are made of."""
    pytest.importorskip("torch", reason="programs that train need the extra [torch]")
    programs = programs_of(path, read_topology(path)).values()
    return {owner for program in programs for owner in program.__mro__ if owner.__module__.startswith("federated.")}


def code_lines(owner: type) -> int:
    """The lines of a class without comments and docstrings, laid out as Python itself would."""
    tree = ast.parse(inspect.getsource(owner))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(tree).splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_can_be_drawn(path: Path, tmp_path: Path) -> None:
    found = read_topology(path)
    for name, picture in {"tag": diagram_of_tag(found.tag), "plan": diagram_of_plan(found.plan, found.name)}.items():
        once = save_as(draw(picture), tmp_path / f"{name}.svg").read_bytes()
        assert once == save_as(draw(picture), tmp_path / f"{name}.svg").read_bytes()
        text = mermaid(picture)
        assert text.startswith("flowchart BT\n")
        assert text.count(" ---|") == len(picture.edges)
        assert len(picture.nodes) == (len(found.tag.roles) if name == "tag" else len(found.plan))


def test_the_picture_of_workers_has_an_edge_for_each_pair_of_peers() -> None:
    plan = expand(cases.hierarchical(("a", "b"), replicas=2), cases.data(a=3, b=1))
    drawn = {frozenset((edge.first, edge.second)) for edge in diagram_of_plan(plan).edges}
    peers = {
        frozenset((worker.id, peer))
        for worker in plan.workers
        for channel in worker.at
        for peer in plan.peers(worker, channel)
    }
    assert drawn == peers


def test_many_workers_are_drawn_by_their_places() -> None:
    picture = diagram_of_plan(expand(cases.hierarchical(("a", "b")), cases.data(a=MOST_NODES, b=3)))
    assert [node.label for node in picture.nodes] == [
        f"{MOST_NODES} x trainer\na",
        "3 x trainer\nb",
        "mid\na",
        "mid\nb",
        "top",
    ]
    assert sum(node.count for node in picture.nodes) == MOST_NODES + 6
    assert len(picture.edges) == 4


def test_no_difference_but_in_words_is_no_difference() -> None:
    tag = cases.hierarchical(("a", "b"))
    again = Tag(
        tuple(Role(r.name, data=r.data, at=r.at, description="other words") for r in tag.roles[::-1]),
        tag.channels[::-1],
    )
    assert str(diff(tag, again)) == ""


def test_a_difference_is_a_line_for_each_fact() -> None:
    old = cases.classical()
    link = Link(latency_ms=3)
    new = Tag(
        (*old.roles[:1], Role("trainer", data=True, config={"lr": 0.1})),
        (Channel("param", old.channels[0].pair, link=link),),
    )
    changed = diff(old, new)
    assert str(changed).splitlines() == [
        "+ channels.param.link.latency_ms: 3",
        "- channels.param.verbs.aggregator: distribute, aggregate",
        "- channels.param.verbs.trainer: fetch, upload",
        "+ roles.trainer.config.lr: 0.1",
    ]
    assert diff(new, old).added == changed.dropped


def test_what_is_described_makes_the_same_tag() -> None:
    for tag in (cases.hierarchical(("a", "b"), replicas=2), cases.hybrid(), cases.diagonal()):
        data = described(tag)
        roles = [Role(name, **{**body, "at": tuple(body.get("at", ()))}) for name, body in data["roles"].items()]
        channels = [
            Channel(
                name,
                (body.pop("pair")[0], tag.channel(name).pair[1]),
                tuple(body.pop("groups", ("default",))),
                {role: tuple(verbs) for role, verbs in body.pop("verbs", {}).items()},
                **body,
            )
            for name, body in data["channels"].items()
        ]
        assert Tag(tuple(roles), tuple(channels)) == tag
        assert lines(tag) == lines(Tag(tuple(roles), tuple(channels)))
