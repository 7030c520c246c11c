"""Shipped planners: where they come to rest, what they forecast, and the program against all allocations."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.allocated import Allocated
from policies.packed import Packed
from policies.planners import SHORT_NAMES, check_planner
from policies.planners.capacity import capacity_per_s, throughput_per_s
from policies.planners.predictive import Predictive
from policies.planners.proteus import ProteusAllocation, allocated
from policies.planners.threshold import Threshold
from policies.slackfit import SlackFit
from sim import Cluster, LatencyTable, PlannerView, ProfiledSubnet, Scaling, ServiceQueue, Trace, WorkerPlan, simulate
from sim.base.errors import PolicyError
from sim.engine.planning import KindView, QueueView
from sim.tables.files import load_table
from ssim.files.plugins import find_class

NS = 10**9
TABLE = load_table("ofa-resnet50-rtx2080ti")


def view(rate: float, workers: int, turn: int = 1, startup_s: int = 0) -> PlannerView:
    """Return what a planner sees of workers that serve at a rate, with turns of 10 s."""
    scaling = Scaling(1000, 0, startup_s * NS)
    kind = KindView("", TABLE, tuple(range(workers)), scaling=scaling, queries=round(10 * rate))
    queue = QueueView("", {"": TABLE}, round(10 * rate), slo_ns=36_000_000)
    return PlannerView(10 * turn * NS, 10 * (turn - 1) * NS, 0, (kind,), (queue,))


CAPACITY = throughput_per_s(TABLE, len(TABLE.subnets) - 1, 36_000_000, 0)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_shipped_planners_obey_the_interface(name: str) -> None:
    planner = find_class(name, SHORT_NAMES, "planner")()
    check_planner(planner, TABLE, Packed(accuracy=80.16) if name == "nexus" else Allocated())


def test_what_a_policy_lacks_is_found_by_the_check() -> None:
    with pytest.raises(PolicyError, match="changes a parameter that the policy lacks"):
        check_planner(ProteusAllocation(), TABLE, SlackFit())


@dataclass
class Forgets:
    """Divides by what one queue may not have, or names a worker that may have gone or failed."""

    fault: str
    first: int | None = field(default=None, init=False)

    def plan(self, view: PlannerView) -> WorkerPlan:
        queue, *others = view.queues
        if self.fault == "a queue without arrivals" and view.arrivals and others:
            _ = others[0].arrivals / queue.arrivals
        if self.first is None and view.kinds[0].serving:
            self.first = view.kinds[0].serving[0]
        named = {} if self.first is None or self.fault != "a worker of the beginning" else {self.first: []}
        return WorkerPlan({kind.name: kind.workers for kind in view.kinds}, resident=named)


@pytest.mark.parametrize("fault", ["a queue without arrivals", "a worker of the beginning"])
def test_what_goes_wrong_only_under_a_load_that_varies_is_found_by_the_check(fault: str) -> None:
    with pytest.raises(PolicyError, match=r"ZeroDivisionError|a worker that does not serve"):
        check_planner(Forgets(fault), TABLE, SlackFit())


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 50_000), st.integers(1, 60), st.floats(0.3, 1), st.integers(1, 4))
def test_a_threshold_comes_to_rest_between_its_thresholds(rate: float, workers: int, up: float, quiet: int) -> None:
    planner = Threshold(up=up, down=up, quiet_turns=quiet)
    rate = round(10 * rate) / 10
    least = max(1, math.ceil(rate / CAPACITY - 1e-9))
    for turn in range(1, 70 * quiet + 200):
        workers = planner.plan(view(rate, workers, turn)).workers[""]
    assert rate <= workers * CAPACITY or workers >= least
    assert math.ceil(rate / CAPACITY - workers * up) <= 0, "no more workers are wanted"
    assert workers <= 1 or rate > (workers - 1) * CAPACITY * up, "none is too many"


@given(st.floats(1, 50_000), st.floats(0, 1))
def test_a_forecast_of_a_steady_rate_is_that_rate(rate: float, headroom: float) -> None:
    planner, rate = Predictive(headroom=headroom), round(10 * rate) / 10
    for turn in range(1, 5):
        workers = planner.plan(view(rate, 1, turn)).workers[""]
    assert workers == math.ceil(rate * (1 + headroom) / CAPACITY) or workers * CAPACITY == pytest.approx(
        rate * (1 + headroom)
    )


@given(st.integers(0, 50), st.integers(0, 60))
def test_a_forecast_of_a_line_lies_on_it_when_a_new_worker_serves(slope: int, startup_s: int) -> None:
    """With the latest rate and the latest change alone: after the start-up, and one period more."""
    planner = Predictive(headroom=0.0, level=1.0, trend=1.0)
    for turn in range(1, 4):
        workers = planner.plan(view(1000 + 10 * slope * turn, 1, turn, startup_s)).workers[""]
    assert workers == math.ceil((1000 + 10 * slope * 3 + slope * (startup_s + 10)) / CAPACITY - 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1.05, 1.0, 1.3]), st.integers(1, 2))
def test_the_program_finds_the_best_of_all_allocations(seed: int, beta: float, queues: int) -> None:
    rng = np.random.default_rng(seed)
    names, parts = ["k0", "k1"], 4 - queues
    kinds = [
        KindView(name, TABLE, tuple(range(10 * i, 10 * i + int(rng.integers(1, 4))))) for i, name in enumerate(names)
    ]
    seen = []
    for place in range(queues):
        subnets = tuple(
            ProfiledSubnet(f"s{i}", accuracy) for i, accuracy in enumerate(sorted(rng.uniform(60, 90, parts)))
        )
        grids = (np.sort(rng.integers(2, 60, (parts, 3)) * 1_000_000) for _ in names)
        tables = {name: LatencyTable(name, subnets, (1, 2, 4), grid) for name, grid in zip(names, grids, strict=True)}
        seen.append(QueueView(f"q{place}", tables, int(rng.integers(0, 20_000 // queues)), slo_ns=100_000_000))
    if not any(queue.arrivals for queue in seen):
        return
    view = PlannerView(10 * NS, 0, 0, tuple(kinds), tuple(seen))
    found = allocated(view, beta)
    values = []
    for counts in itertools.product(*(_splits(len(kind.serving), parts * queues) for kind in kinds)):
        value = _accuracy(view, [[each[i * parts : i * parts + parts] for i in range(queues)] for each in counts], beta)
        if value is not None:
            values.append(value)
    assert (found is None) == (not values)
    if found is not None:
        assert [sum(map(sum, counts)) for counts in found] == [len(kind.serving) for kind in kinds]
        assert _accuracy(view, found, beta) == pytest.approx(max(values))


@pytest.mark.parametrize("stay", [None, Scaling(9, 3)])
@pytest.mark.parametrize("rate", [100, 2000, 5000, 9000])
def test_workers_that_stay_count_whatever_they_cost(stay: Scaling | None, rate: int) -> None:
    dear = KindView("dear", TABLE, (0, 1, 2), scaling=stay, price_per_h=4.0)
    cheap = KindView("cheap", TABLE, (), scaling=Scaling(50, 0), price_per_h=0.1)
    queue = QueueView("", {"dear": TABLE, "cheap": TABLE}, rate, slo_ns=36_000_000)
    seen = PlannerView(NS, 0, 0, (dear, cheap), (queue,))
    needed = math.ceil(rate / CAPACITY)
    plan = Predictive(headroom=0).plan(seen)
    assert plan.workers == {"dear": 3, "cheap": max(0, needed - 3)}


def _splits(count: int, parts: int) -> list[tuple[int, ...]]:
    return [split for split in itertools.product(range(count + 1), repeat=parts) if sum(split) == count]


def _accuracy(view: PlannerView, counts: object, beta: float) -> float | None:
    """Return the best accuracy over the demand with fixed subnets: the most accurate ones are filled first.

    Args:
        view: What the planner sees.
        counts: For each kind, each queue and each subnet, the number of workers.
        beta: How many times the demand shall be served.
    """
    total = 0.0
    for place, queue in enumerate(view.queues):
        served = []
        for kind, numbers in zip(view.kinds, counts, strict=True):
            table = queue.tables[kind.name]
            for subnet, number in enumerate(numbers[place]):
                speed = throughput_per_s(table, subnet, queue.slo_ns, 0)
                served.append((table.subnets[subnet].accuracy, number * speed))
        left = 1.0 if queue.arrivals else 0.0
        for accuracy, speed in sorted(served, reverse=True):
            share = min(left, speed / (beta * view.rate_of(queue))) if queue.arrivals else 0.0
            left, total = left - share, total + share * accuracy * queue.arrivals
        if left > 1e-9:
            return None
    return total / view.arrivals


def test_a_worker_keeps_its_subnet_where_the_allocation_allows_it() -> None:
    planner = ProteusAllocation()
    first, again, more = (dict(planner.plan(view(rate, 8)).queues[""]["allocation"]) for rate in (2000, 2000, 2400))
    assert first == again
    kept = sum(min(list(first.values()).count(name), list(more.values()).count(name)) for name in set(first.values()))
    assert sum(first[worker] == more[worker] for worker in first) == kept


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=4), st.integers(0, 99))
def test_a_worker_serves_what_fills_its_time_in_the_mix_of_the_queues(arrivals: list[int], seed: int) -> None:
    """Alike queues are like one; else the times that a worker spends on the queries of a second add up to a second."""
    slos = np.random.default_rng(seed).choice([30, 36, 80, 200], len(arrivals)) * 1_000_000
    kind = KindView("k", TABLE, (0,))

    def capacity(*queues: tuple[int, int]) -> float:
        seen = tuple(QueueView(f"q{i}", {"k": TABLE}, count, slo_ns=int(slo)) for i, (count, slo) in enumerate(queues))
        return capacity_per_s(PlannerView(NS, 0, 0, (kind,), seen), kind, None)

    alike = [(count, slos[0]) for count in arrivals]
    assert capacity(*alike) == pytest.approx(capacity(alike[0]))
    found = capacity(*zip(arrivals, slos, strict=True))
    counts = arrivals if any(arrivals) else [1] * len(arrivals)
    shares = [count / sum(counts) for count in counts]
    seconds = [share * found / capacity((1, slo)) for share, slo in zip(shares, slos, strict=True)]
    assert sum(seconds) == pytest.approx(1)


def test_workers_of_an_allocation_serve_their_queue_only() -> None:
    """Two queues with demand share the workers out; a third one without any may use all of them."""
    kind = KindView("k", TABLE, tuple(range(8)))
    counts = {"busy": 10_000, "calm": 4_000, "empty": 0}
    queues = tuple(QueueView(name, {"k": TABLE}, count, slo_ns=100_000_000) for name, count in counts.items())
    given = ProteusAllocation().plan(PlannerView(10 * NS, 0, 0, (kind,), queues)).queues
    of = {name: dict(parameters["allocation"]) for name, parameters in given.items()}
    assert of["empty"] == {}
    assert [(of["busy"][worker] is None) + (of["calm"][worker] is None) for worker in range(8)] == [1] * 8
    tables = {name: Allocated(**parameters) for name, parameters in given.items()}
    rng = np.random.default_rng(5)
    arrival = np.sort(rng.integers(0, NS, 900))
    names = ("busy", "calm", "empty")
    trace = Trace(arrival, 100_000_000, NS, class_codes=rng.integers(0, 3, 900), class_names=names)
    cluster = Cluster(8, queues=tuple(ServiceQueue(name) for name in names))
    result = simulate(trace, cluster, TABLE, tables)
    for place, name in enumerate(names):
        used = {int(result.batches.worker[batch]) for batch in result.batch[(trace.class_codes == place)] if batch >= 0}
        assert used
        assert used <= {worker for worker in range(8) if of[name].get(worker, "any") is not None}


@given(st.lists(st.integers(0, 8000), min_size=2, max_size=30), st.integers(0, 60))
def test_a_stabilized_plan_is_the_highest_of_the_window(rates: list[int], window_s: int) -> None:
    plain, stable = Predictive(), Predictive(stabilization_s=window_s)
    plans, found = [], []
    for turn, rate in enumerate(rates, 1):
        plans.append(plain.plan(view(rate, 1, turn)).workers[""])
        found.append(stable.plan(view(rate, 1, turn)).workers[""])
    turns = -(-window_s // 10) or 1  # of 10 s that lie within the window, the latest included
    assert found == [max(plans[max(0, turn - turns + 1) : turn + 1]) for turn in range(len(plans))]
