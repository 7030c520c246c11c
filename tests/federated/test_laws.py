"""What must hold of any federated training, whatever its topology."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from hypothesis import given, settings  # noqa: E402 - after torch is known to be there
from hypothesis import strategies as st  # noqa: E402

from federated.algorithms import FedAvg, FedDyn, FedNova, FedOpt, FedProx, Scaffold  # noqa: E402
from federated.asynchronous import AsyncAggregator  # noqa: E402
from federated.gossip import GossipTrainer  # noqa: E402
from federated.programs import Aggregator, EagerAggregator, EagerIntermediateAggregator, IntermediateAggregator, Trainer  # noqa: E402
from federated.ring import HybridAggregator, HybridTrainer, RingTrainer  # noqa: E402
from sim.base.errors import ProgramError, SsimError  # noqa: E402
from tests.federated.quadratic import NAMES, SHAPES, clients, far, job_of, run, shipped, state_of  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.engines.local import LocalEngine  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Channel, Link, Role, Tag  # noqa: E402

FLAT: dict[str, Any] = {"trainer": Trainer, "aggregator": Aggregator}
TREE: dict[str, Any] = {"trainer": Trainer, "mid": IntermediateAggregator, "top": Aggregator}
SIZES = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), min_size=1, max_size=3)


def flat(sizes: list[int], **more: Any) -> Any:
    plan = expand(cases.classical(), clients(*sizes))
    return state_of(run(plan, FLAT, job_of(plan, **more)), "aggregator/0")


def grouped(tag: Tag, groups: list[list[int]], names: tuple[str, ...]) -> Any:
    datasets, first = [], 0
    for name, sizes in zip(names, groups, strict=True):
        datasets += clients(*sizes, group=name, first=first)
        first += len(sizes)
    return expand(tag, datasets)


@given(SIZES, st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_tree_comes_to_what_flat_averaging_comes_to(groups: list[list[int]], eager: bool) -> None:
    names = ("a", "b", "c")[: len(groups)]
    plan = grouped(cases.hierarchical(names), groups, names)
    owners = {**TREE, "mid": EagerIntermediateAggregator, "top": EagerAggregator} if eager else TREE
    tree = state_of(run(plan, owners, job_of(plan)), "top/0")
    assert far(tree, flat([size for sizes in groups for size in sizes])) < 1e-12


@pytest.mark.parametrize("groups", [[[1], [5]], [[3, 9, 2], [4]], [[1, 2, 3, 4], [7, 7]]])
def test_rings_in_clusters_come_to_what_flat_averaging_comes_to(groups: list[list[int]]) -> None:
    plan = grouped(cases.hybrid_for_rings(), groups, ("us", "eu"))
    owners: dict[str, Any] = {"trainer": HybridTrainer, "aggregator": HybridAggregator}
    found = state_of(run(plan, owners, job_of(plan)), "aggregator/0")
    assert far(found, flat([size for sizes in groups for size in sizes])) < 1e-12


def ring(latency_ms: float = 0.0, mbps: float | None = None) -> Tag:
    link = Link(latency_ms, mbps)
    role = Role("trainer", data=True)
    return Tag((role,), (Channel("ring", ("trainer", "trainer"), verbs={"trainer": ("ring",)}, link=link),))


@pytest.mark.parametrize("n", range(1, 9))
def test_a_ring_comes_to_the_weighted_mean_on_all(n: int) -> None:
    sizes = [1 + 3 * number % 5 for number in range(n)]
    plan = expand(ring(), clients(*sizes))
    report = run(plan, {"trainer": RingTrainer}, job_of(plan, rounds=2))
    states = [state_of(report, f"trainer/{number}") for number in range(n)]
    assert all(far(state, states[0]) == 0 for state in states)  # bit for bit
    assert far(states[0], flat(sizes, rounds=2)) < 1e-12
    size = 8 * sum(torch.Size(shape).numel() for shape in SHAPES.values())
    sent = report.traffic["ring"]
    words = sent.messages - 2 * 2 * n * (n - 1)  # two rounds of 2 (n - 1) chunks of each
    assert words == 2 * n * (n - 1)  # and of one word to each other
    assert sent.bytes >= 2 * 2 * (n - 1) * size


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_adding_at_once_comes_to_the_same_in_every_order_of_arrival(order: tuple[int, ...]) -> None:
    plan = expand(cases.classical(), clients(3, 5, 8))
    slow = [InjectedFault(f"trainer/{client}", slow=10.0**place) for place, client in enumerate(order)]
    eager = run(plan, {**FLAT, "aggregator": EagerAggregator}, job_of(plan), faults=slow)
    assert far(state_of(eager, "aggregator/0"), flat([3, 5, 8])) < 1e-12


@pytest.mark.parametrize("buffer", [1, 2, 3, 7])
def test_a_buffer_loses_and_doubles_nothing(buffer: int) -> None:
    plan = expand(cases.classical(), clients(1, 2, 3, 4, 5))
    job = job_of(plan, rounds=4)
    makers = job.programs({"trainer": Trainer, "aggregator": AsyncAggregator})
    aggregator = lambda **_: makers["aggregator"](buffer=buffer)  # noqa: E731
    report = SimEngine().run(plan, {"trainer": makers["trainer"], "aggregator": aggregator})
    taken = sum(entry.kind == "buffered" for entry in report.log)
    trained = sum(memory.get("trained", 0) for id_, memory in report.results.items() if id_.startswith("trainer"))
    left = sum(entry.fields["updates"] for entry in report.log if entry.kind == "discarded")
    assert 4 * buffer <= taken <= trained
    assert trained == 4 * buffer + left


@pytest.mark.parametrize("sizes", [(4,), (1, 9), (1, 2, 3, 4, 5, 6)])
def test_gossip_keeps_the_mean(sizes: tuple[int, ...]) -> None:
    tag = Tag((Role("trainer", data=True),), (Channel("g", ("trainer", "trainer"), verbs={"trainer": ("gossip",)}),))
    plan = expand(tag, clients(*sizes))
    job = job_of(plan, rounds=1)
    states = [state_of(run(plan, {"trainer": GossipTrainer}, job), f"trainer/{n}") for n in range(len(sizes))]
    for name in SHAPES:
        mean = torch.stack([state[name] for state in states]).mean(0)
        trained = [job.train(d, job_task(job), {}, Trainer().settings).delta[name] for d in job.context.datasets]
        assert torch.allclose(mean, torch.stack(trained).mean(0), atol=1e-12, rtol=0)


def job_task(job: Any) -> Any:
    from federated.job import TrainingTask

    return TrainingTask(0, job.context.space.largest.id, job.context.initial_state())


@pytest.mark.parametrize("algorithm", [Scaffold(), FedDyn(pull=1.0)])
def test_clients_that_differ_come_to_the_optimum_of_all_where_averaging_does_not(algorithm: Any) -> None:
    plan = expand(cases.classical(), clients(1, 1, 1))
    job = job_of(plan)
    curvatures = [job.context.curvature(d.id) for d in job.context.datasets]
    optimum = {
        name: sum(c * job.context.optimum(d.id)[name] for c, d in zip(curvatures, job.context.datasets, strict=True))
        / sum(curvatures)
        for name in SHAPES
    }
    assert far(flat([1, 1, 1], rounds=150), optimum) > 0.01
    assert far(flat([1, 1, 1], rounds=150, algorithm=algorithm), optimum) < 1e-6


@pytest.mark.parametrize("base", [FedAvg, FedProx, FedOpt, FedDyn, Scaffold])
def test_a_derived_algorithm_can_call_its_base_class(base: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Derived(base):  # type: ignore[misc]
        def gradient_correction(self, memory: Any, received: Any) -> Any:
            return super().gradient_correction(memory, received)

        def server_step(self, memory: Any, state: Any, mean: Any, mask: Any) -> Any:
            return super().server_step(memory, state, mean, mask)

    assert far(flat([3, 5], algorithm=Derived()), flat([3, 5], algorithm=base())) == 0


def test_super_works_in_derived_classes_with_slots() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Halved(FedAvg):
        def server_step(self, memory: Any, state: Any, mean: Any, mask: Any) -> Any:
            return super().server_step(memory, state, mean, mask)

    @dataclass(eq=False, slots=True)
    class Counted(Trainer):
        count: int = 0

        def load(self, io: Any) -> None:
            super().load(io)

    plan = expand(cases.classical(), clients(3, 5))
    job = job_of(plan, algorithm=Halved())
    assert far(state_of(run(plan, {**FLAT, "trainer": Counted}, job), "aggregator/0"), flat([3, 5])) == 0


@pytest.mark.parametrize("name", NAMES)
def test_each_topology_trains_and_goes_the_same_way_again(name: str) -> None:
    plan, owners = shipped(name)
    reports = [run(plan, owners, job_of(plan), SimEngine(record=True), seed=3) for _ in range(2)]
    assert reports[0].fingerprint() == reports[1].fingerprint()
    rounds = {entry.fields["round"] for entry in reports[0].log if entry.kind == "round"}
    assert rounds == {1, 2, 3}
    assert not reports[0].ended
    held = [memory["state"] for memory in reports[0].results.values() if "state" in memory]
    assert held
    assert all(torch.isfinite(part).all() and part.abs().max() > 0 for state in held for part in state.values())


@pytest.mark.parametrize("name", [n for n in NAMES if n != "asynchronous"])
def test_real_time_comes_to_the_weights_of_virtual_time(name: str) -> None:
    plan, owners = shipped(name)
    virtual = run(plan, owners, job_of(plan), seed=3)
    real = run(plan, owners, job_of(plan), LocalEngine(default_timeout_s=60), seed=3)
    for id_, memory in virtual.results.items():
        if "state" in memory:
            assert far(memory["state"], state_of(real, id_)) < 1e-12


@pytest.mark.parametrize("how", ["die_s", "leave_s"])
@pytest.mark.parametrize("name", NAMES)
def test_nobody_hangs_when_one_is_gone(name: str, how: str) -> None:
    plan, owners = shipped(name)
    middle_s = run(plan, owners, job_of(plan)).end_s / 2
    for role in owners:
        fault = InjectedFault(f"{role}/0", **{how: middle_s})
        with suppress(SsimError):  # it may say that nobody is left
            assert run(plan, owners, job_of(plan), SimEngine(default_timeout_s=30), faults=[fault]).ended


@pytest.mark.parametrize("broken", ["nan", "shape", "name"])
def test_a_damaged_update_is_refused_and_the_mean_is_of_the_others(broken: str) -> None:
    ways: dict[str, Any] = {
        "nan": lambda delta: {name: part * float("nan") for name, part in delta.items()},
        "shape": lambda delta: {**delta, "w": delta["w"][:3]},
        "name": lambda delta: {"w": delta["w"]},
    }
    plan = expand(cases.classical(), clients(3, 5, 8))
    report = run(plan, FLAT, job_of(plan, broken={"d01": ways[broken]}))
    refused = [entry.fields["sender"] for entry in report.log if entry.kind == "refused"]
    assert refused == ["trainer/1"] * 3
    sound = expand(cases.classical(), [d for d in clients(3, 5, 8) if d.id != "d01"])
    job = job_of(sound)
    job.context.datasets[:] = clients(3, 5, 8)  # the optima are numbered as above
    assert far(state_of(report, "aggregator/0"), state_of(run(sound, FLAT, job), "aggregator/0")) < 1e-12


def test_who_comes_late_takes_part_from_then_on() -> None:
    plan = expand(cases.classical(), clients(3, 5, 8))
    report = run(plan, FLAT, job_of(plan, rounds=6), faults=[InjectedFault("trainer/2", join_s=0.2)])
    counts = [entry.fields["parties"] for entry in report.log if entry.kind == "round"]
    assert (counts[0], counts[-1]) == (2, 3)
    assert counts == sorted(counts)


@given(SIZES, st.integers(2, 3))
@settings(max_examples=10, deadline=None)
def test_replicas_share_out_their_trainers(groups: list[list[int]], replicas: int) -> None:
    groups = [[*sizes, *[1] * replicas] for sizes in groups]  # enough for each
    names = ("a", "b", "c")[: len(groups)]
    plan = grouped(cases.hierarchical(names, replicas), groups, names)
    report = run(plan, TREE, job_of(plan))
    assert far(state_of(report, "top/0"), flat([size for sizes in groups for size in sizes])) < 1e-12
    assert {memory["trained"] for id_, memory in report.results.items() if id_.startswith("trainer")} == {3}
    trainers, middles = sum(map(len, groups)), replicas * len(groups)
    assert report.traffic["param"].messages == trainers * (2 * 3 + 1)  # a model and an update, and one dismissal
    assert report.traffic["global"].messages == middles * (2 * 3 + 1)


def test_a_replica_waits_for_who_comes_late() -> None:
    plan = grouped(cases.hierarchical(("a",), 2), [[4, 4]], ("a",))  # one trainer for each of the middle
    report = run(plan, TREE, job_of(plan), faults=[InjectedFault("trainer/1", join_s=0.01)])
    trained = [memory["trained"] for id_, memory in report.results.items() if id_.startswith("trainer")]
    assert trained == [3, 3]
    assert {entry.kind for entry in report.log} == {"joined", "round", "selected", "update"}


def test_a_replica_that_nobody_is_left_for_is_alone() -> None:
    plan = grouped(cases.hierarchical(("a",), 3), [[4, 4]], ("a",))
    report = run(plan, TREE, job_of(plan))
    assert far(state_of(report, "top/0"), flat([4, 4])) < 1e-12
    assert [entry.worker for entry in report.log if entry.kind == "no peers"] == ["mid/2"]


def test_rings_have_one_aggregator() -> None:
    tag = cases.hybrid_for_rings()
    tag = replace(tag, roles=tuple(replace(r, replicas=2) if r.name == "aggregator" else r for r in tag.roles))
    plan = grouped(tag, [[1, 2], [3]], ("us", "eu"))
    with pytest.raises(ProgramError, match="replica"):
        run(plan, {"trainer": HybridTrainer, "aggregator": HybridAggregator}, job_of(plan))


def optimum_of_all(job: Any) -> Any:
    """Where the weighted sum of the clients' quadratic losses is least."""
    context = job.context
    weights = {data.id: job.weight(data) * context.curvature(data.id) for data in context.datasets}
    total = sum(weights.values())
    parts = [(weight / total, context.optimum(id_)) for id_, weight in weights.items()]
    return {name: sum(weight * state[name] for weight, state in parts) for name in parts[0][1]}


def test_fednova_is_fedavg_where_all_take_as_many_steps() -> None:
    plan = expand(cases.classical(), clients(1, 2, 3))
    one, other = (run(plan, FLAT, job_of(plan, 5, algorithm=kind)) for kind in (FedAvg(), FedNova()))
    assert far(state_of(one, "aggregator/0"), state_of(other, "aggregator/0")) < 1e-12


def test_fednova_goes_to_the_optimum_of_all_where_some_take_more_steps_and_fedavg_does_not() -> None:
    tag = cases.classical()
    slow = Tag((tag.role("aggregator"), replace(tag.role("trainer"), config={"rate": 0.002})), tag.channels)
    plan = expand(slow, clients(1, 2, 3))
    distance = {}
    for kind in (FedAvg(), FedNova()):
        job = job_of(plan, 600, algorithm=kind, local_steps={"d00": 20, "d01": 1, "d02": 5})
        distance[type(kind).__name__] = far(state_of(run(plan, FLAT, job), "aggregator/0"), optimum_of_all(job))
    assert distance["FedNova"] < 0.03
    assert distance["FedAvg"] > 0.3


def test_fednova_is_the_same_in_a_tree() -> None:
    steps = {"d00": 20, "d01": 1, "d02": 5, "d03": 2}
    plan = expand(cases.classical(), clients(1, 2, 3, 4))
    flat = run(plan, FLAT, job_of(plan, 3, algorithm=FedNova(), local_steps=steps))
    groups = [*clients(1, 2, group="eu"), *clients(3, 4, group="na", first=2)]
    plan = expand(cases.hierarchical(("eu", "na")), groups)
    tree = run(plan, TREE, job_of(plan, 3, algorithm=FedNova(), local_steps=steps))
    top = next(id_ for id_, memory in tree.results.items() if "state" in memory)
    assert far(state_of(flat, "aggregator/0"), state_of(tree, top)) < 1e-12
