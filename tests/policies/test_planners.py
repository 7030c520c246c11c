"""Shipped planners: where they come to rest, what they forecast, and the program against all allocations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.allocated import Allocated
from policies.planners import SHORT_NAMES, check_planner
from policies.planners.capacity import throughput_per_s
from policies.planners.predictive import Predictive
from policies.planners.proteus import ProteusAllocation, allocated
from policies.planners.threshold import Threshold
from policies.slackfit import SlackFit
from sim import LatencyTable, PlannerView, ProfiledSubnet, Scaling
from sim.base.errors import PolicyError
from sim.engine.planning import KindView
from sim.tables.files import load_table
from ssim.files.plugins import find_class

NS = 10**9
TABLE = load_table("ofa-resnet50-rtx2080ti")


def view(rate: float, workers: int, turn: int = 1, startup_s: int = 0, **more: object) -> PlannerView:
    """Return what a planner sees of workers that serve at a rate, with turns of 10 s."""
    scaling = Scaling(1000, 0, startup_s * NS)
    kind = KindView("", TABLE, tuple(range(workers)), scaling=scaling, queries=round(10 * rate))
    seen = {"arrivals": round(10 * rate), "met": 0, "late": 0, "dropped": 0, "queue_length": 0, **more}
    return PlannerView(10 * turn * NS, 10 * (turn - 1) * NS, **seen, slo_ns=36_000_000, dispatch_ns=0, kinds=(kind,))


CAPACITY = throughput_per_s(TABLE, len(TABLE.subnets) - 1, 36_000_000, 0)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_shipped_planners_obey_the_interface(name: str) -> None:
    planner = find_class(name, SHORT_NAMES, "planner")()
    check_planner(planner, TABLE, Allocated())


def test_what_a_policy_lacks_is_found_by_the_check() -> None:
    with pytest.raises(PolicyError, match="changes a parameter that the policy lacks"):
        check_planner(ProteusAllocation(), TABLE, SlackFit())


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
@given(st.integers(0, 2**32), st.sampled_from([1.05, 1.0, 1.3]))
def test_the_program_finds_the_best_of_all_allocations(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    accuracies = sorted(rng.uniform(60, 90, 3).tolist())
    subnets = tuple(ProfiledSubnet(f"s{i}", accuracy) for i, accuracy in enumerate(accuracies))
    kinds = []
    for i in range(2):
        table = LatencyTable(f"t{i}", subnets, (1, 2, 4), np.sort(rng.integers(2, 60, (3, 3)) * 1_000_000))
        kinds.append(KindView(f"k{i}", table, tuple(range(10 * i, 10 * i + int(rng.integers(1, 4))))))
    seen = PlannerView(10 * NS, 0, int(rng.integers(1, 20_000)), 0, 0, 0, 0, 100_000_000, 0, tuple(kinds))
    found = allocated(seen, beta)
    values = []
    for counts in itertools.product(*(_splits(len(kind.serving), 3) for kind in kinds)):
        value = _accuracy(seen, counts, beta)
        if value is not None:
            values.append(value)
    assert (found is None) == (not values)
    if found is not None:
        assert [int(counts.sum()) for counts in found] == [len(kind.serving) for kind in kinds]
        assert _accuracy(seen, [tuple(counts) for counts in found], beta) == pytest.approx(max(values))


@pytest.mark.parametrize("stay", [None, Scaling(9, 3)])
@pytest.mark.parametrize("rate", [100, 2000, 5000, 9000])
def test_workers_that_stay_count_whatever_they_cost(stay: Scaling | None, rate: int) -> None:
    dear = KindView("dear", TABLE, (0, 1, 2), scaling=stay, price_per_h=4.0)
    cheap = KindView("cheap", TABLE, (), scaling=Scaling(50, 0), price_per_h=0.1)
    seen = PlannerView(NS, 0, rate, rate, 0, 0, 0, 36_000_000, 0, (dear, cheap))
    needed = math.ceil(rate / CAPACITY)
    plan = Predictive(headroom=0).plan(seen)
    assert plan.workers == {"dear": 3, "cheap": max(0, needed - 3)}


def _splits(count: int, parts: int) -> list[tuple[int, ...]]:
    return [split for split in itertools.product(range(count + 1), repeat=parts) if sum(split) == count]


def _accuracy(seen: PlannerView, counts: object, beta: float) -> float | None:
    """Return the best accuracy over the demand with fixed subnets: the most accurate ones are filled first."""
    served = []
    for kind, numbers in zip(seen.kinds, counts, strict=True):
        for subnet, number in enumerate(numbers):
            speed = throughput_per_s(kind.table, subnet, seen.slo_ns, 0)
            served.append((kind.table.subnets[subnet].accuracy, number * speed))
    left, value = 1.0, 0.0
    for accuracy, speed in sorted(served, reverse=True):
        share = min(left, speed / (beta * seen.rate_per_s))
        left, value = left - share, value + share * accuracy
    return value if left < 1e-9 else None


def test_a_worker_keeps_its_subnet_where_the_allocation_allows_it() -> None:
    planner = ProteusAllocation()
    first = dict(planner.plan(view(2000, 8)).parameters["allocation"])
    again = dict(planner.plan(view(2000, 8)).parameters["allocation"])
    more = dict(planner.plan(view(2400, 8)).parameters["allocation"])
    assert first == again
    kept = sum(min(list(first.values()).count(name), list(more.values()).count(name)) for name in set(first.values()))
    assert sum(first[worker] == more[worker] for worker in first) == kept
