"""Small random runs in small integers, so that ties and exact boundary hits are common."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from sim import (
    Cluster,
    Decision,
    Dispatch,
    Drop,
    Hold,
    LatencyTable,
    ProfiledSubnet,
    ServiceQueue,
    Trace,
    View,
    Wait,
    WorkerFailure,
    WorkerKind,
)
from sim.engine.planning import PlannerView, WorkerPlan
from sim.engine.residence import Memory
from sim.engine.scaling import Scaling
from sim.tables.law import FIXED, LatencyLaw, planned

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 12


@dataclass(frozen=True, slots=True)
class TablePlanner:
    """Answers from a random table by all that it sees, so that a wrong view shows in the run."""

    answers: tuple[int, ...]
    changes_policy: bool
    other: TablePolicy | None = None  # for a queue

    def plan(self, view: PlannerView) -> WorkerPlan:
        number = 3 * view.arrivals + 7 * view.queue_length + 8 * view.period_ns + 9 * view.slo_ns
        for queue in view.queues:
            counts = (queue.arrivals, queue.met, queue.late, queue.dropped, queue.rejected, queue.length, queue.slo_ns)
            number = 3 * number + sum(count * (i + 3) for i, count in enumerate(counts)) + round(2 * queue.weight)
            number += sum(table.latency(0, 1) for table in queue.tables.values())
        for kind in view.kinds:
            number = 3 * number + sum(kind.serving) + kind.load_ns + 7 * kind.starting + 5 * kind.failed + kind.queries
            number += round(1000 * kind.busy_share) if kind.serving and not math.isnan(kind.busy_share) else 0
        rows = [self.answers[(number + i) % len(self.answers)] for i in range(len(view.kinds))]
        wanted = {kind.name: row for kind, row in zip(view.kinds, rows, strict=True) if row < 7}
        resident = {}
        for kind in view.kinds:
            for worker in kind.serving if kind.units else ():
                number += sum(map(len, kind.resident[worker])) + 2 * sum(name < "s1" for name in kind.resident[worker])
                chosen: list[str] = []
                for i, name in enumerate(sorted(kind.units.named, reverse=number % 2 == 0)):
                    if (number + worker) % (i + 3) != 1 and kind.fit(*chosen, name):
                        chosen.append(name)
                if number % 4:
                    resident[worker] = chosen
        if not self.changes_policy:
            return WorkerPlan(wanted, resident=resident)
        everywhere = {"drops": number % 2 == 0} if number % 3 == 0 else {}
        own = [{}, {"waits": number % 7 == 0}, self.other or {}]
        given = {queue.name: own[(number + i) % 3] for i, queue in enumerate(view.queues)}
        return WorkerPlan(wanted, everywhere, {name: one for name, one in given.items() if one != {}}, resident)


LAWS = (LatencyLaw("lognormal"), LatencyLaw("lognormal", 2.0), LatencyLaw("samples"))


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """Answers from a random table by all that it can look up, so that a wrong look-up shows in the run."""

    answers: tuple[tuple[int, int], ...]  # (subnet, batch size) by slack and queue length
    waits: bool
    drops: bool
    picks_worker: bool

    def decide(self, view: View) -> Decision:
        system = view.system
        number = max(0, view.slack_ns) * 7 + view.queue_length
        number += view.table.latency(0, 1) + len(view.kind) + 2 * len(view.queue) + system.slo_ns * len(view.queue)
        number += sum(system.deadlines_ns(3)) + 3 * system.arrivals_within(6) + 5 * system.workers_alive
        if self.drops and number % 11 == 3:
            return Drop(1 + number % view.queue_length)
        if self.waits and number % 5 == 1 and view.slack_ns > 0:
            return Hold(number % view.slack_ns)
        if self.waits and number % 5 == 2 and view.slack_ns > 0:
            return Wait(view.now_ns + 1 + number % min(4, view.slack_ns))
        subnet, size = self.answers[number % len(self.answers)]
        free = system.free_workers()
        number += sum(system.loading_ns(0, worker) for worker in free)
        size = min(size, view.table.max_batch)
        subnet %= len(view.table.subnets)  # that of a queue may have fewer
        return Dispatch(subnet, size, free[number % len(free)] if self.picks_worker else None)


@dataclass(frozen=True, slots=True)
class Case:
    trace: Trace
    cluster: Cluster
    table: LatencyTable
    policy: TablePolicy
    planner: TablePlanner | None = None
    period_ns: int = 1


@st.composite
def cases(draw: Callable[..., object], *, faults: bool = True, drawn: bool = True, overlaps: bool = True) -> Case:
    integers = lambda low, high: draw(st.integers(low, high))  # noqa: E731 - says more than it costs
    queries, subnets = integers(1, 40), integers(1, 4)
    sizes = tuple(sorted(draw(st.sets(st.integers(1, 8), min_size=1, max_size=4))))
    grid = np.array([[integers(1, LONGEST) for _ in sizes] for _ in range(subnets)], dtype=np.int64)
    loading = [integers(0, 6) for _ in range(subnets)]
    names = tuple(ProfiledSubnet(f"s{i}", 50.0 + i, loading_ns=loading[i]) for i in range(subnets))
    law = draw(st.sampled_from([FIXED, FIXED, *LAWS])) if drawn else FIXED
    rng = np.random.default_rng(integers(0, 1000))  # many numbers of which none is special
    table = LatencyTable(
        "toy",
        names,
        sizes,
        grid,
        p99_ns=grid + rng.integers(0, 6, grid.shape),
        between=draw(st.sampled_from(["pad", "interpolate"])),
        samples_ns=[[rng.integers(1, LONGEST, rng.integers(1, 5)) for _ in sizes] for _ in names],
    )
    if law.is_drawn and draw(st.booleans()):
        table = planned(table, draw(st.sampled_from(["mean", "p95", 1.5])), law)
    gaps = draw(st.lists(st.integers(0, 10), min_size=queries, max_size=queries))
    arrivals = np.cumsum(np.array(gaps, dtype=np.int64))
    slo = draw(st.one_of(st.integers(1, 40), st.lists(st.integers(1, 40), min_size=queries, max_size=queries)))
    trace = Trace(arrivals, slo if isinstance(slo, int) else np.array(slo, dtype=np.int64), int(arrivals[-1]) + 1)
    workers = integers(1, 4)
    dispatch_ns = draw(st.sampled_from([0, 0, 1, 3]))
    cluster = Cluster(
        workers,
        dispatch_ns=dispatch_ns,
        actuation_ns=draw(st.sampled_from([0, 0, 2, 5, "table"])),
        drop=draw(st.sampled_from(["never", "expired", "hopeless"])),
        faults=tuple(_faults(draw, workers)) if faults and draw(st.booleans()) else (),
        latency=law,
        dispatch_per_query_ns=draw(st.sampled_from([0, 0, 1, 2])),
        network_ns=draw(st.sampled_from([0, 0, 1, 4])),
        dispatch_p99_over_median=draw(st.sampled_from([None, 1.5, 9.0])) if drawn and dispatch_ns else None,
        occupancy=draw(st.sampled_from([1, 1, 0.5, 0.3])) if overlaps else 1,
    )
    answers = st.lists(st.tuples(st.integers(0, subnets - 1), st.integers(1, sizes[-1])), min_size=1, max_size=7)
    policy = TablePolicy(tuple(draw(answers)), draw(st.booleans()), draw(st.booleans()), draw(st.booleans()))
    return Case(trace, cluster, table, policy)


@st.composite
def kind_cases(draw: Callable[..., object]) -> Case:
    """Return a case of `cases` with one to three kinds of workers; some of their subnets are equally accurate."""
    case = draw(cases())
    law, rng = case.cluster.latency, np.random.default_rng(draw(st.integers(0, 1000)))
    step = draw(st.sampled_from([0, 1]))
    names = tuple(replace(known, accuracy=50.0 + step * i) for i, known in enumerate(case.table.subnets))

    def table(sizes: tuple[int, ...]) -> LatencyTable:
        shape = len(names), len(sizes)
        grid = rng.integers(1, LONGEST + 1, shape)
        samples = [[rng.integers(1, LONGEST, rng.integers(1, 5)) for _ in sizes] for _ in names]
        found = LatencyTable("toy", names, sizes, grid, p99_ns=grid + rng.integers(0, 6, shape), samples_ns=samples)
        return planned(found, "p95", law) if law.is_drawn and rng.integers(2) else found

    workers = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    sizes = st.sets(st.integers(1, 8), min_size=1, max_size=3)
    tables = [table(tuple(sorted(draw(sizes)))) if draw(st.booleans()) else None for _ in workers]
    kinds = tuple(
        WorkerKind("k" * (i + 1), count, own, price_per_h=float(rng.integers(3)))
        for i, (count, own) in enumerate(zip(workers, tables, strict=True))
    )
    offer = draw(st.sampled_from(["kind", "fastest", "cheapest"]))
    faults = tuple(_faults(draw, sum(workers))) if case.cluster.faults else ()
    cluster = replace(case.cluster, workers=sum(workers), kinds=kinds, offer=offer, currency="EUR", faults=faults)
    return replace(case, cluster=cluster, table=table(case.table.batch_sizes))


@st.composite
def queue_cases(draw: Callable[..., object]) -> Case:
    """Return a case of `kind_cases`, or one without kinds, with up to three queues, some of them with other models.

    It has a queue or a queue for each worker, or both.
    """
    case = draw(kind_cases()) if draw(st.booleans()) else draw(cases())
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    routing = draw(st.sampled_from(["central", "central", "round_robin", "shortest", "random"]))
    count = draw(st.integers(1 if routing == "central" else 0, 3))
    kinds = case.cluster.kinds

    def tables() -> LatencyTable | dict[str, LatencyTable]:
        """Return the tables of another model, whose ids or accuracies may be those of the first one."""
        names = tuple(ProfiledSubnet(f"s{i}", 50.5 + i, loading_ns=i) for i in range(rng.integers(1, 4)))

        def of_kind() -> LatencyTable:
            sizes = tuple(sorted({1, int(rng.integers(1, 9))}))
            shape = len(names), len(sizes)
            grid = rng.integers(1, LONGEST + 1, shape)
            samples = [[rng.integers(1, LONGEST, rng.integers(1, 5)) for _ in sizes] for _ in names]
            return LatencyTable(
                "other", names, sizes, grid, p99_ns=grid + rng.integers(0, 6, shape), samples_ns=samples
            )

        return {kind.name: of_kind() for kind in kinds} if kinds else of_kind()

    queues = tuple(
        ServiceQueue(
            "q" * (i + 1),
            draw(st.sampled_from([None, 7, 20])),
            draw(st.sampled_from([1.0, 0.5, 3.0, 2])),
            draw(st.integers(1, 2)),
            draw(st.sampled_from([None, None, 50.0])),
            draw(st.sampled_from([None, None, 1, 3])),
            tables() if draw(st.booleans()) else None,
        )
        for i in range(count)
    )
    cluster = replace(case.cluster, queues=queues, routing=routing)
    if not count:
        return replace(case, cluster=cluster)
    codes = np.array(draw(st.lists(st.integers(0, count - 1), min_size=len(case.trace), max_size=len(case.trace))))
    trace = replace(case.trace, class_codes=codes, class_names=tuple(queue.name for queue in queues))
    same = count > 1 and len({queue.priority for queue in queues}) == 1
    order = draw(st.sampled_from(["edf", "slack", "edf" if same else "priority", "fair", "fair"]))
    return replace(case, trace=trace, cluster=replace(cluster, order=order))


@st.composite
def planned_cases(draw: Callable[..., object], *, queues: bool = True) -> Case:
    """Return a case of `cases`, `kind_cases` or `queue_cases` with a planner."""
    case = draw(st.one_of(cases(), kind_cases(), *([queue_cases()] if queues else [])))
    scaling = lambda workers: Scaling(  # noqa: E731 - as above
        workers + draw(st.integers(0, 3)), draw(st.integers(0, workers)), draw(st.sampled_from([0, 0, 3, 20]))
    )
    cluster = case.cluster
    if cluster.kinds:
        fixed = [draw(st.booleans()) and number > 0 for number in range(len(cluster.kinds))]
        pairs = zip(cluster.kinds, fixed, strict=True)
        kinds = tuple(kind if keeps else replace(kind, scaling=scaling(kind.workers)) for kind, keeps in pairs)
        if draw(st.booleans()) and kinds[1:]:  # a kind whose workers all are to come
            bounds = replace(scaling(0), max_workers=3)
            kinds = (replace(kinds[0], workers=0, scaling=bounds), *kinds[1:])
        workers = sum(kind.workers for kind in kinds)
        faults = tuple(fault for fault in cluster.faults if fault.worker < workers)
        cluster = replace(cluster, workers=workers, kinds=kinds, faults=faults)
    else:
        cluster = replace(cluster, scaling=scaling(cluster.workers))
    answers = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=6)))
    other = replace(case.policy, answers=case.policy.answers[::-1], waits=draw(st.booleans()))
    planner = TablePlanner(answers, draw(st.booleans()), draw(st.sampled_from([None, other])))
    return replace(case, cluster=cluster, planner=planner, period_ns=draw(st.integers(1, 30)))


@st.composite
def memory_cases(draw: Callable[..., object]) -> Case:
    """Return a case with or without kinds, queues, routing or a planner whose workers have little memory."""
    case = draw(st.one_of(cases(), kind_cases(), queue_cases(), planned_cases()))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    each, shared = draw(st.sampled_from([4, 0.5])), draw(st.sampled_from(["shared", "separate", "separate"]))

    def weighed(table: LatencyTable) -> LatencyTable:
        sizes = rng.integers(1, 6, len(table.subnets)).tolist()
        subnets = (replace(one, params=size) for one, size in zip(table.subnets, sizes, strict=True))
        return replace(table, subnets=tuple(replace(one, loading_ns=one.loading_ns or 2) for one in subnets))

    def memory() -> Memory:
        return Memory(draw(st.integers(math.ceil(5 * each), math.ceil(20 * each))), draw(st.sampled_from([None, 1e9])))

    kinds = tuple(
        replace(kind, table=kind.table and weighed(kind.table), memory=memory() if draw(st.booleans()) else None)
        for kind in case.cluster.kinds
    )
    queues = tuple(
        replace(
            queue,
            table={name: weighed(one) for name, one in queue.table.items()}
            if isinstance(queue.table, dict)
            else queue.table and weighed(queue.table),
        )
        for queue in case.cluster.queues
    )
    switch = case.cluster.actuation_ns
    cluster = replace(
        case.cluster,
        kinds=kinds,
        queues=queues,
        occupancy=1,
        actuation_ns=2 if switch == "table" else switch,
        memory=None if kinds else memory(),
        weights=shared,
        bytes_per_weight=each,
    )
    return replace(case, cluster=cluster, table=weighed(case.table))


@st.composite
def placement_cases(draw: Callable[..., object]) -> Case:
    """Return a case of `queue_cases` or `memory_cases` with queues and a placement, which workers have memory for."""
    of_queues = st.one_of(queue_cases(), memory_cases().filter(lambda case: case.planner is None))
    case = draw(of_queues.filter(lambda case: case.cluster.queues))
    workers = list(range(case.cluster.workers))
    placement = {queue.name: draw(st.lists(st.sampled_from(workers), unique=True)) for queue in case.cluster.queues}
    kinds = tuple(replace(kind, memory=kind.memory and _HOLDS_ALL) for kind in case.cluster.kinds)
    memory = case.cluster.memory and _HOLDS_ALL
    cluster = replace(case.cluster, routing="central", placement=placement, kinds=kinds, memory=memory)
    return replace(case, cluster=cluster)


_HOLDS_ALL = Memory(10**6, 1e9)


def _faults(draw: Callable[..., object], workers: int) -> list[WorkerFailure]:
    found = []
    for worker in range(workers):
        at = draw(st.integers(0, 150))
        for _ in range(draw(st.integers(0, 2))):
            recover = draw(st.one_of(st.none(), st.integers(at + 1, at + 60)))
            found.append(WorkerFailure(worker, at, recover))
            if recover is None:
                break
            at = recover + draw(st.integers(0, 30))
    return found
