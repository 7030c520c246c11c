"""What each topology must do that the others need not, in virtual time and double precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there

from federated.aggregation import QFedAvg  # noqa: E402
from federated.algorithms import FedNova, Scaffold  # noqa: E402
from federated.asynchronous import AsyncAggregator  # noqa: E402
from federated.compression import EightBit  # noqa: E402
from federated.context import TrainingContext  # noqa: E402
from federated.coordinated import (  # noqa: E402
    CoordinatedAggregator,
    CoordinatedIntermediateAggregator,
    CoordinatedTrainer,
    Coordinator,
)
from federated.costs import CostModel  # noqa: E402
from federated.cyclic import CyclicTrainer, SwarmTrainer  # noqa: E402
from federated.gossip import GossipTrainer, neighbours  # noqa: E402
from federated.job import FederatedJob, TrainingTask  # noqa: E402
from federated.partition import Dirichlet  # noqa: E402
from federated.programs import Aggregator, Trainer  # noqa: E402
from federated.ring import RingTrainer  # noqa: E402
from sim.base.errors import SpecError  # noqa: E402
from ssim.files.topology_file import read_topology  # noqa: E402
from supernet.data.digits import Digits  # noqa: E402
from supernet.families import CnnSmall  # noqa: E402
from tests.federated.quadratic import (  # noqa: E402
    FOLDER,
    SHAPES,
    FixedCosts,
    Quadratic,
    clients,
    far,
    job_of,
    run,
    shipped,
    state_of,
)
from tests.topology import cases  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Channel, Link, Role, Tag  # noqa: E402

FLAT: dict[str, Any] = {"trainer": Trainer, "aggregator": Aggregator}
SECONDS = 1e-9


def alone(verbs: tuple[str, ...], link: Link | None = None) -> Tag:
    """Trainers that speak with each other, and nobody else."""
    channel = Channel("c", ("trainer", "trainer"), verbs={"trainer": verbs}, link=link or Link())
    return Tag((Role("trainer", data=True),), (channel,))


# ---- classical


def test_one_step_of_each_on_all_its_examples_is_one_step_on_all_examples() -> None:
    plan = expand(cases.classical(), clients(1, 1, 1))
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    context = TrainingContext(Digits(train=200), Dirichlet(0.5), CnnSmall(width=4, hidden=16), datasets, 7)
    trainer = lambda **_: Trainer(epochs=1, batch=1000, rate=0.1)  # noqa: E731
    job = FederatedJob(context, CostModel(context), 1)
    makers = job.programs(FLAT)
    owners = {"trainer": replace(makers["trainer"], owner=trainer), "aggregator": makers["aggregator"]}  # type: ignore[type-var]
    found = state_of(SimEngine().run(plan, owners), "aggregator/0")
    network, train = context.load_state(context.initial_state()), context.splits.train
    logits = network.actuate(network.space.largest)(*train.inputs)
    gradients = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits, train.labels), list(context.parameters.values())
    )
    for (name, begin), gradient in zip(context.initial_state().items(), gradients, strict=True):
        assert (found[name] - (begin - 0.1 * gradient)).abs().max() < 1e-6, name


def test_the_order_in_which_parties_are_listed_does_not_matter() -> None:
    data = clients(3, 5, 8, 2)
    plans = [expand(cases.classical(), order) for order in (data, data[::-1])]
    states = [state_of(run(plan, FLAT, job_of(plan)), "aggregator/0") for plan in plans]
    assert far(*states) == 0


# ---- ring


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_a_ring_takes_as_long_as_worked_out(n: int) -> None:
    """Every chunk waits for the one before it: at its sender for the line, on the way for the latency."""
    rate, latency = 1e6 / 8, 0.002  # bytes a second
    plan = expand(alone(("ring",), Link(1e3 * latency, rate * 8 / 1e6)), clients(*[2] * n))
    report = run(plan, {"trainer": RingTrainer}, job_of(plan, rounds=1), SimEngine(record=True))
    words = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    chunks = [8 * len(part) for part in torch.arange(words).tensor_split(n)]
    messages = [span for span in report.spans if span.kind == "message"]
    ready = {span.peer: span.end_ns * SECONDS for span in messages if span.size_bytes not in chunks}
    came = begin = [ready[f"trainer/{rank}"] for rank in range(n)]  # when each has heard that all are ready
    free = [0.0] * n
    for step in range(2 * (n - 1)):
        sent = []
        for rank in range(n):
            free[rank] = max(came[rank], free[rank]) + chunks[(rank - step) % n] / rate
            sent.append(free[rank] + latency)
        came = [sent[rank - 1] for rank in range(n)]
    if words % n == 0:
        expected = 2 * (n - 1) * (8 * words / n / rate + latency)
        assert max(came) == pytest.approx(max(begin) + expected, abs=1e-12)
    assert max(span.end_ns for span in messages) * SECONDS == pytest.approx(max(came), abs=1e-8)


# ---- hybrid


def test_a_hybrid_uploads_one_model_a_cluster() -> None:
    found = read_topology(FOLDER / "hybrid.yaml")
    plan, owners = shipped("hybrid")
    report = run(plan, owners, job_of(plan, rounds=3))
    trainers = sum(worker.role == "trainer" for worker in plan.workers)
    groups = len(found.tag.channel("peers").groups)
    assert report.traffic["param"].messages == 3 * (trainers + groups) + trainers  # and all are dismissed


@pytest.mark.parametrize(
    "given",
    [{"algorithm": Scaffold()}, {"algorithm": FedNova()}, {"compression": EightBit()}, {"aggregation": QFedAvg()}],
)
def test_what_a_ring_cannot_average_is_refused(given: dict[str, Any]) -> None:
    plan, owners = shipped("hybrid")
    with pytest.raises(SpecError, match="not possible where rings average the updates"):
        run(plan, owners, job_of(plan, **given))


# ---- coordinated


@dataclass
class CostlyAveraging(FixedCosts):
    """Averaging dominates the duration of a round."""

    def averaging_s(self, updates: int) -> float:
        return 10.0 * updates


def coordinated(aggregators: int, trainers: int, rounds: int, slow: float) -> Any:
    tag = Tag(
        (
            Role("trainer", data=True),
            Role("middle", replicas=aggregators),
            Role("aggregator"),
            Role("coordinator"),
        ),
        (
            Channel("param", ("trainer", "middle"), verbs={"trainer": cases.FETCH, "middle": cases.SPREAD}),
            Channel("global", ("middle", "aggregator"), verbs={"middle": cases.FETCH, "aggregator": cases.SPREAD}),
            Channel("t", ("trainer", "coordinator"), verbs={"trainer": ("ask",), "coordinator": ("advise_trainers",)}),
            Channel("m", ("middle", "coordinator"), verbs={"middle": ("ask",), "coordinator": ("advise_middles",)}),
            Channel("a", ("aggregator", "coordinator"), verbs={"aggregator": ("ask",), "coordinator": ("advise_top",)}),
        ),
    )
    plan = expand(tag, clients(*range(1, trainers + 1)))
    owners: dict[str, Any] = {
        "trainer": CoordinatedTrainer,
        "middle": CoordinatedIntermediateAggregator,
        "aggregator": CoordinatedAggregator,
        "coordinator": Coordinator,
    }
    return run(
        plan,
        owners,
        replace(job_of(plan, rounds), costs=CostlyAveraging()),
        faults=[InjectedFault("middle/0", slow=slow)],
    )


@pytest.mark.parametrize("aggregators", [1, 2, 3])
def test_whoever_is_paired_with_whom_the_mean_is_of_all_and_each_takes_part_once_a_round(aggregators: int) -> None:
    report = coordinated(aggregators, 6, rounds=4, slow=1.0)
    plan = expand(cases.classical(), clients(*range(1, 7)))
    flat = state_of(run(plan, FLAT, job_of(plan, rounds=4)), "aggregator/0")
    assert far(state_of(report, "aggregator/0"), flat) < 1e-12
    paired = [entry.fields["loads"] for entry in report.log if entry.kind == "paired"]
    assert [sum(loads.values()) for loads in paired] == [6] * 4
    assert all(max(loads.values()) - min(loads.values()) <= 1 for loads in paired)
    assert {memory["trained"] for id_, memory in report.results.items() if id_.startswith("trainer")} == {4}


@pytest.mark.parametrize(
    ("aggregators", "slow", "bypassed"), [(2, 1.9, False), (2, 2.2, True), (4, 1.25, False), (4, 1.45, True)]
)
def test_who_straggles_is_bypassed_from_where_it_pays(aggregators: int, slow: float, bypassed: bool) -> None:
    report = coordinated(aggregators, 12, rounds=5, slow=slow)
    told = {entry.fields["worker"] for entry in report.log if entry.kind == "bypassed"}
    assert told == ({"middle/0"} if bypassed else set())


def test_to_bypass_is_quicker() -> None:
    """With an aggregator eight times as slow, rounds without it are as the others would be alone."""
    report = coordinated(2, 12, rounds=9, slow=8.0)
    ends = [0.0, *(entry.at_ns * SECONDS for entry in report.log if entry.kind == "round")]
    took = np.diff(ends)
    loads = [entry.fields["loads"] for entry in report.log if entry.kind == "paired"]
    with_it = [seconds for seconds, load in zip(took, loads, strict=True) if "middle/0" in load]
    without = [seconds for seconds, load in zip(took, loads, strict=True) if "middle/0" not in load]
    assert len(with_it) < len(without)  # it is tried again after 1, 2, 4, ... rounds
    assert max(without) < 0.3 * min(with_it)


# ---- asynchronous


def asynchronous(job: Any, plan: Any, engine: SimEngine | None = None, **config: Any) -> Any:
    makers = job.programs({"trainer": Trainer, "aggregator": AsyncAggregator})
    programs = {"trainer": makers["trainer"], "aggregator": lambda **_: makers["aggregator"](**config)}
    return (engine or SimEngine()).run(plan, programs)


def test_one_at_a_time_is_sequential_descent() -> None:
    plan = expand(cases.classical(), clients(3, 3, 3, 3))
    job = job_of(plan, rounds=7)
    report = asynchronous(job, plan, buffer=1, concurrency=1)
    taken = [entry.fields for entry in report.log if entry.kind == "buffered"]
    assert [fields["staleness"] for fields in taken] == [0] * 7
    data = {worker.id: worker.dataset for worker in plan.workers if worker.dataset is not None}
    state = job.context.initial_state()
    for fields in taken:
        task = TrainingTask(0, job.context.space.largest.id, state)
        change = job.train(data[fields["sender"]], task, {}, Trainer().settings).delta
        state = {name: part + change[name] for name, part in state.items()}
    assert far(state_of(report, "aggregator/0"), state) < 1e-12


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_no_more_work_at_once_than_may(concurrency: int) -> None:
    plan = expand(cases.classical(), clients(1, 2, 3, 4, 5, 6))
    job = job_of(plan, rounds=6)
    report = asynchronous(job, plan, SimEngine(record=True), buffer=2, concurrency=concurrency)
    edges = [
        edge
        for span in report.spans
        if span.kind == "compute" and span.worker.startswith("trainer")
        for edge in ((span.start_ns, 1), (span.end_ns, -1))
    ]
    at_work = np.cumsum([change for _, change in sorted(edges)])
    assert at_work.max() == concurrency


def test_a_late_update_counts_less() -> None:
    """One of two clients is so slow that its update is `staleness` versions old: it counts 1 / sqrt(1 + staleness)."""
    plan = expand(cases.classical(), clients(1, 1))
    job = job_of(plan, rounds=4)
    makers = job.programs({"trainer": Trainer, "aggregator": AsyncAggregator})
    programs = {"trainer": makers["trainer"], "aggregator": lambda **_: makers["aggregator"](buffer=1)}
    report = SimEngine().run(plan, programs, faults=[InjectedFault("trainer/1", slow=2.5)])
    taken = [(e.fields["sender"], e.fields["staleness"]) for e in report.log if e.kind == "buffered"]
    state, states = job.context.initial_state(), [job.context.initial_state()]
    memories: dict[str, dict[str, Any]] = {"trainer/0": {}, "trainer/1": {}}
    data = {worker.id: worker.dataset for worker in plan.workers if worker.dataset is not None}
    for sender, stale in taken[:4]:
        base = states[len(states) - 1 - stale]
        task = TrainingTask(0, job.context.space.largest.id, base)
        change = job.train(data[sender], task, memories[sender], Trainer().settings).delta
        state = {name: part + change[name] / (1 + stale) ** 0.5 for name, part in state.items()}
        states.append(state)
    assert max(stale for _, stale in taken) >= 1
    assert far(state_of(report, "aggregator/0"), state) < 1e-12


# ---- gossip


@pytest.mark.parametrize(("graph", "n"), [("ring", 2), ("ring", 7), ("complete", 5), ("torus", 12)])
def test_gossip_mixes_by_a_matrix_that_is_doubly_stochastic_and_contracts(graph: str, n: int) -> None:
    plan = expand(alone(("gossip",)), clients(*[1] * n))
    chance = torch.Generator().manual_seed(1)
    begin = {
        f"trainer/{number}": {name: torch.randn(s, generator=chance, dtype=torch.float64) for name, s in SHAPES.items()}
        for number in range(n)
    }
    job = Still(**vars(job_of(plan, 1)))

    @dataclass(eq=False)
    class Beginner(GossipTrainer):
        def load(self, io: Any) -> None:
            super().load(io)
            self.memory["state"] = begin[io.worker.id]

    makers = job.programs({"trainer": Beginner})
    report = SimEngine().run(plan, {"trainer": lambda **_: makers["trainer"](graph=graph)})
    adjacent = neighbours(n, graph, ())
    mixing = np.zeros((n, n))
    for one, others in enumerate(adjacent):
        for other in others:
            mixing[one, other] = 1 / (1 + max(len(others), len(adjacent[other])))
        mixing[one, one] = 1 - mixing[one].sum()
    assert np.allclose(mixing, mixing.T)
    old = np.stack([torch.cat([p.flatten() for p in begin[f"trainer/{i}"].values()]).numpy() for i in range(n)])
    new = np.stack(
        [torch.cat([p.flatten() for p in state_of(report, f"trainer/{i}").values()]).numpy() for i in range(n)]
    )
    assert np.abs(new - mixing @ old).max() < 1e-14
    second = sorted(np.abs(np.linalg.eigvalsh(mixing)))[-2]
    assert second < 1
    spread = [np.linalg.norm(models - models.mean(0)) for models in (old, new)]
    assert spread[1] <= second * spread[0] + 1e-12


class Still(Quadratic):
    """Nobody learns."""

    def train(self, dataset: Any, task: Any, memory: Any, settings: Any) -> Any:
        update = super().train(dataset, task, memory, settings)
        return replace(update, delta={name: torch.zeros_like(part) for name, part in update.delta.items()})


@pytest.mark.parametrize(
    ("n", "graph", "edges", "says"),
    [
        (4, "ring", ((0, 1), (2, 3)), "not connected"),
        (3, "ring", ((0, 3),), "invalid edge"),
        (3, "ring", ((1, 1),), "invalid edge"),
        (8, "torus", (), "no torus has this number of workers"),
    ],
)
def test_an_invalid_graph_is_refused(n: int, graph: str, edges: tuple[tuple[int, int], ...], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        neighbours(n, graph, edges)


# ---- cyclic and swarm


def test_a_cycle_is_sequential_descent() -> None:
    plan = expand(alone(("hand_on",)), clients(1, 2, 3, 4))
    job = job_of(plan, rounds=3)
    report = run(plan, {"trainer": CyclicTrainer}, job)
    state = job.context.initial_state()
    for _ in range(3):
        for dataset in job.context.datasets:
            change = job.train(
                dataset, TrainingTask(0, job.context.space.largest.id, state), {}, Trainer().settings
            ).delta
            state = {name: part + change[name] for name, part in state.items()}
    for number in range(4):
        assert far(state_of(report, f"trainer/{number}"), state) < 1e-12
    trained = {memory["trained"] for memory in report.results.values()}
    assert trained == {3}


def test_a_swarm_is_classical_and_all_have_their_turn() -> None:
    plan = expand(alone(("share", "spread")), clients(1, 5, 3))
    report = run(plan, {"trainer": SwarmTrainer}, job_of(plan, rounds=6), SimEngine(record=True))
    other = expand(cases.classical(), clients(1, 5, 3))
    flat = state_of(run(other, FLAT, job_of(other, rounds=6)), "aggregator/0")
    assert all(far(state_of(report, f"trainer/{number}"), flat) < 1e-12 for number in range(3))
    spread: dict[str, int] = {}
    for span in report.spans:
        if span.kind == "message":
            spread[span.worker] = spread.get(span.worker, 0) + 1
    assert set(spread.values()) == {2 * 2 + 4}  # in two of six rounds it spreads to two, in four it sends to one


# ---- parallel


def test_a_group_knows_nothing_of_the_others() -> None:
    groups = ("eu", "na")
    tag = cases.parallel(groups)

    def states(size: int) -> list[Any]:
        plan = expand(tag, [*clients(3, 4, group="eu"), *clients(size, 9, group="na", first=2)])
        report = run(plan, FLAT, job_of(plan))
        return [state_of(report, f"aggregator/{number}") for number in range(2)]

    one, other = states(2), states(7)
    assert far(one[0], other[0]) == 0
    assert far(one[1], other[1]) > 1e-6
