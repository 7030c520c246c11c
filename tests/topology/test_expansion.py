"""From TAG to workers: Flame's golden examples, every rule, and that order has no influence."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.base.errors import SpecError
from tests.topology import cases
from topology.deployment import Dataset, Machine
from topology.expansion import expand
from topology.flaws import TagError
from topology.tag import Channel, Role, Tag

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from topology.plan import Plan

# The eight examples of Flame's control plane (cmd/controller/app/job, testdata): the TAG, its data, its tasks by role.
# The data of parallel_experiment says `uk` where its schema says `eu`; Flame gives that worker no group at all.
GOLDEN: dict[str, tuple[Tag, list[Dataset], dict[str, int]]] = {
    "mnist": (cases.classical(), cases.data(default=1), {"trainer": 1, "aggregator": 1}),
    "medmnist": (cases.classical(), cases.data(default=10), {"trainer": 10, "aggregator": 1}),
    "hier_mnist": (cases.hierarchical(("eu", "na")), cases.data(eu=2, na=2), {"trainer": 4, "mid": 2, "top": 1}),
    "asyncfl_hier_mnist": (
        cases.hierarchical(("default/eu", "default/na")),
        cases.data(**{"default/eu": 2, "default/na": 2}),
        {"trainer": 4, "mid": 2, "top": 1},
    ),
    "asyncfl_hier_mnist_lb": (
        cases.hierarchical(("red",), replicas=2),
        cases.data(red=1),
        {"trainer": 1, "mid": 2, "top": 1},
    ),
    "distributed_training": (cases.distributed(), cases.data(default=3), {"trainer": 3}),
    "hybrid": (cases.hybrid(), cases.data(eu=2, us=2), {"trainer": 4, "aggregator": 1}),
    "parallel_experiment": (
        cases.parallel(("us", "eu", "asia")),
        cases.data(us=1, eu=1, asia=1),
        {"trainer": 3, "aggregator": 3},
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_examples_of_flame(name: str) -> None:
    tag, datasets, expected = GOLDEN[name]
    plan = expand(tag, datasets)
    assert Counter(worker.role for worker in plan.workers) == expected
    for worker in plan.workers:
        assert set(worker.at) == {channel.name for channel in tag.channels_of(worker.role)}
        assert worker.dataset is None or worker.dataset.group in worker.at.values()
    total = {"mnist": 2, "medmnist": 11, "asyncfl_hier_mnist_lb": 4, "distributed_training": 3, "hybrid": 5}
    assert len(plan) == total.get(name, 6 if name == "parallel_experiment" else 7)


def test_the_mistake_in_flames_eighth_example_is_an_error_here() -> None:
    with pytest.raises(TagError, match=r"datasets.trainer.uk: 1 dataset of an unknown group \('uk'\)"):
        expand(cases.parallel(("us", "eu", "asia")), cases.data(us=1, uk=1, asia=1))


def test_replicas_share_their_place() -> None:
    plan = expand(cases.hierarchical(("red", "blue"), replicas=3), cases.data(blue=2, red=1))
    assert plan.peers(plan.worker("trainer/0"), "param") == ("mid/0", "mid/1", "mid/2")
    assert plan.peers(plan.worker("trainer/2"), "param") == ("mid/3", "mid/4", "mid/5")
    assert plan.peers(plan.worker("mid/4"), "param") == ("trainer/2",)
    assert plan.peers(plan.worker("top/0"), "global") == tuple(f"mid/{n}" for n in range(6))


def test_the_peers_of_a_ring_are_the_others_of_its_group() -> None:
    plan = expand(cases.hybrid(), cases.data(eu=2, us=3))
    assert plan.peers(plan.worker("trainer/0"), "ring") == ("trainer/1",)
    assert plan.peers(plan.worker("trainer/3"), "ring") == ("trainer/2", "trainer/4")


@st.composite
def forests(draw: st.DrawFn) -> tuple[tuple[Role, ...], tuple[Channel, ...], list[Dataset]]:
    groups = tuple(f"g{n}" for n in range(draw(st.integers(1, 4))))
    sizes = draw(st.lists(st.integers(1, 5), min_size=len(groups), max_size=len(groups)))
    tag = cases.hierarchical(groups, draw(st.integers(1, 3)))
    return tag.roles, tag.channels, cases.data(**dict(zip(groups, sizes, strict=True)))


@given(forests(), st.randoms(use_true_random=False))
def test_order_has_no_influence(given_: tuple[Any, Any, list[Dataset]], rng: random.Random) -> None:
    roles, channels, datasets = given_
    shuffled = [rng.sample(list(things), len(things)) for things in (roles, channels, datasets)]
    roles_again = tuple(
        Role(r.name, data=r.data, replicas=r.replicas, at=tuple(rng.sample(r.at, len(r.at)))) for r in shuffled[0]
    )
    first = expand(Tag(roles, channels), datasets)
    second = expand(Tag(roles_again, tuple(shuffled[1])), shuffled[2])
    assert list(first.workers) == list(second.workers)
    assert first.tag == second.tag


@given(forests())
def test_peers_see_each_other_and_every_dataset_has_one_worker(given_: tuple[Any, Any, list[Dataset]]) -> None:
    roles, channels, datasets = given_
    plan = expand(Tag(roles, channels), datasets)
    assert sorted(worker.dataset.id for worker in plan.workers if worker.dataset) == sorted(d.id for d in datasets)
    for worker in plan.workers:
        assert plan.worker(worker.id) == worker
        for channel in worker.at:
            for peer in plan.peers(worker, channel):
                assert worker.id in plan.peers(plan.worker(peer), channel)


def test_workers_are_a_sequence() -> None:
    plan = expand(cases.hierarchical(("a", "b")), cases.data(a=2, b=1))
    workers = list(plan.workers)
    assert [plan.workers[n] for n in range(len(plan))] == workers
    assert plan.workers[-1] == workers[-1]
    assert plan.workers[1:3] == workers[1:3]
    with pytest.raises(IndexError):
        plan.workers[len(plan)]
    with pytest.raises(SpecError, match="unknown worker"):
        plan.worker("mid/2")


def channel(*pair: str, **more: Any) -> Channel:
    return Channel("c", (pair[0], pair[1]), **more)


BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "an unknown role": (
        lambda: Tag((Role("trainer"),), (channel("trainer", "trainr"),)),
        r"channels.c.pair.1: unknown role \('trainr'\); did you mean 'trainer'\?",
    ),
    "no role": (lambda: Tag(()), "roles: must not be empty"),
    "a name twice": (lambda: Tag((Role("a"), Role("a"))), "roles.a: duplicate name"),
    "a role that hangs in the air": (
        lambda: Tag((Role("a"), Role("b"), Role("c")), (channel("a", "b"),)),
        "roles.c: not connected",
    ),
    "verbs of a role that is elsewhere": (
        lambda: Tag((Role("a"), Role("b")), (channel("a", "b", verbs={"d": ("x",)}),)),
        "channels.c.verbs.d: not a role of this channel",
    ),
    "a verb on two channels": (
        lambda: Tag(
            (Role("a"), Role("b")),
            (channel("a", "b", verbs={"a": ("x",)}), Channel("d", ("a", "b"), verbs={"a": ("x",)})),
        ),
        "channels.d.verbs.a.0: already a function tag of 'a' on channel 'c'",
    ),
    "an unknown group": (
        lambda: Tag((Role("a", at=({"c": "uk"},)), Role("b")), (channel("a", "b", groups=("eu",)),)),
        "roles.a.at.0.c: unknown group of the channel",
    ),
    "a channel forgotten": (
        lambda: Tag((Role("a", at=({},)), Role("b")), (channel("a", "b"),)),
        "roles.a.at.0: no group for a channel",
    ),
    "a channel too many": (
        lambda: Tag((Role("a", at=({"c": "default", "d": "default"},)), Role("b")), (channel("a", "b"),)),
        "roles.a.at.0.d: not a channel of this role",
    ),
    "an orphan group": (
        lambda: Tag((Role("a", at=({"c": "eu"},)), Role("b")), (channel("a", "b", groups=("eu", "na")),)),
        r"channels.c.groups.1: role 'a' has no workers in this group \('na'\)",
    ),
    "data and replicas": (
        lambda: Tag((Role("a", data=True, replicas=2),)),
        "roles.a.replicas: cannot be combined with data",
    ),
    "data twice in one place": (
        lambda: Tag((Role("a", data=True, at=({"c": "default"},) * 2), Role("b")), (channel("a", "b"),)),
        "roles.a.at.1: duplicate entry",
    ),
    "no data": (lambda: expand(cases.classical()), "roles.trainer: no dataset"),
    "data of nobody": (
        lambda: expand(cases.classical(), [*cases.data(default=1), Dataset("x", "aggregator")]),
        "datasets.aggregator: the role consumes no data",
    ),
    "data of an unknown role": (
        lambda: expand(cases.classical(), [*cases.data(default=1), Dataset("x", "trianer")]),
        "datasets.trianer: unknown role",
    ),
    "data in several places": (
        lambda: expand(cases.hybrid(), cases.data(us=1, eu=1, default=1)),
        "datasets.trainer.default: 1 dataset of an ambiguous group",
    ),
    "data twice": (
        lambda: expand(cases.classical(), cases.data(default=1) * 2),
        r"datasets: duplicate ids \(default-0\)",
    ),
    "data on an unknown machine": (
        lambda: expand(cases.classical(), [Dataset("x", "trainer", compute="moon")], [Machine("mood")]),
        r"datasets.trainer.default: unknown machine of x \('moon'\)",
    ),
    "a role on an unknown machine": (
        lambda: expand(Tag((Role("a", compute="moon"),))),
        r"roles.a.compute: unknown machine \('moon'\)",
    ),
    "a machine twice": (
        lambda: expand(Tag((Role("a"),)), machines=[Machine("m"), Machine("m")]),
        "computes.m: duplicate id",
    ),
    "a group without workers": (
        lambda: expand(cases.hierarchical(("a", "b")), cases.data(a=1)),
        "datasets.trainer: role 'trainer' has no workers in group 'b'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_told(case: str) -> None:
    make, message = BROKEN[case]
    with pytest.raises(TagError, match=message):
        make()


def test_all_flaws_are_told_at_once() -> None:
    with pytest.raises(TagError) as caught:
        Tag((Role("a"), Role("a", data=True, replicas=2)), (channel("a", "x", groups=()),))
    assert len(caught.value.flaws) == 4


def test_default_can_be_said() -> None:
    plan: Plan = expand(Tag((Role("a"),)), machines=[Machine("default", speed=2)])
    assert plan.machines["default"].speed == 2


def test_a_hundred_thousand_workers_take_less_than_two_seconds() -> None:
    groups = tuple(f"g{n}" for n in range(1000))
    tag = cases.hierarchical(groups)
    datasets = cases.data(**dict.fromkeys(groups, 100))
    datasets = datasets[::-1]
    start = time.perf_counter()
    plan = expand(tag, datasets)
    assert time.perf_counter() - start < 2
    assert len(plan) == 101_001
