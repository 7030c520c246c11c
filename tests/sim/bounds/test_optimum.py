"""The bound against the offline optimum, the offline optimum against trying everything, and both against policies."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import (
    Cluster,
    LatencyTable,
    ProfiledSubnet,
    Scaling,
    ServiceQueue,
    SpecError,
    Trace,
    WorkerFailure,
    WorkerKind,
    metrics,
    simulate,
)
from sim.bounds import Instance, Optimum, cost_frontier, instance_of, offline_optimum, upper_bound
from sim.engine.queue_metrics import by_queue, weighted_attainment
from sim.tables.files import load_table
from tests.laws.cases import Case, cases, kind_cases, planned_cases, queue_cases
from tests.laws.test_planned import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.bounds.instance import Values


def reached(case: Case, values: Values) -> float:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    attainment = metrics.slo_attainment(result)
    if values == "attainment" or not attainment:
        return attainment
    return attainment * metrics.mean_serving_accuracy(result) / 100


_Schedule = list[tuple[int, int, list[int]]]  # start, way and queries of each batch


def fits(instance: Instance, batches: _Schedule, *, limited: bool) -> bool:
    """Return whether all queries are answered in time by their own queue's ways, on no more workers than there are."""
    busy = np.zeros((len(instance.workers), int(instance.deadline_ns.max()) + 1), dtype=int)
    for start, way, members in batches:
        end = start + int(instance.duration_ns[way])
        if end > instance.deadline_ns[members].min() or len(members) > instance.max_queries[way]:
            return False
        if (instance.queue_of[members] != instance.queue[way]).any():
            return False
        busy[instance.group[way], start:end] += 1
    return not limited or bool((busy.max(axis=1) <= instance.workers).all())


def schedules(instance: Instance, *, limited: bool = True) -> Iterator[_Schedule]:
    """Yield all schedules: each query in turn goes nowhere, into a batch that is there, or begins one.

    Args:
        instance: The queries, workers and ways.
        limited: Whether there are as many workers as the instance has; else as many as a schedule needs.
    """
    latest = int(instance.deadline_ns.max())

    def from_query(query: int, batches: _Schedule) -> Iterator[_Schedule]:
        if not fits(instance, batches, limited=limited):
            return
        if query == len(instance):
            yield batches
            return
        arrival = int(instance.arrival_ns[query])
        yield from from_query(query + 1, batches)
        for i, (start, way, members) in enumerate(batches):
            if start >= arrival:
                more = (start, way, [*members, query])
                yield from from_query(query + 1, [*batches[:i], more, *batches[i + 1 :]])
        for start, way in itertools.product(range(arrival, latest), range(instance.ways)):
            yield from from_query(query + 1, [*batches, (start, way, [query])])

    return from_query(0, [])


def worth(instance: Instance, batches: _Schedule) -> float:
    return float(sum(instance.value[way] * len(members) for _, way, members in batches)) / len(instance)


def tried(instance: Instance) -> float:
    """The optimum by trying everything."""
    return max(worth(instance, batches) for batches in schedules(instance))


@st.composite
def instances(
    draw: Callable[..., Any],
    most: int,
    span: int,
    longest: int,
    *,
    overlaps: bool = False,
    kinds: bool = False,
    queues: bool = False,
) -> Instance:
    queries, subnets = draw(st.integers(1, most)), draw(st.integers(1, 2))
    gaps = draw(st.lists(st.integers(0, 3), min_size=queries, max_size=queries))

    def measured() -> LatencyTable:
        grid = draw(st.lists(st.integers(1, longest), min_size=2 * subnets, max_size=2 * subnets))
        names = tuple(ProfiledSubnet(f"s{i}", 60.0 + 15 * i) for i in range(subnets))
        sizes = (1, draw(st.integers(2, 3)))
        return LatencyTable("toy", names, sizes, np.array(grid, dtype=np.int64).reshape(subnets, 2))

    table = measured()
    arrivals = np.cumsum(np.array(gaps, dtype=np.int64))
    slos = st.integers(1, span)
    slo = draw(slos | st.lists(slos, min_size=queries, max_size=queries))
    trace = Trace(arrivals, slo if isinstance(slo, int) else np.array(slo, dtype=np.int64), int(arrivals[-1]) + 1)
    cluster = Cluster(
        draw(st.integers(1, 2)),
        dispatch_ns=draw(st.integers(0, 1)),
        dispatch_per_query_ns=draw(st.integers(0, 1)),
        network_ns=draw(st.sampled_from([0, 0, 2])),
        occupancy=draw(st.sampled_from([0.3, 0.5, 0.8])) if overlaps else 1,
    )
    if kinds:  # the last one has the table of the run, or of the first
        some = [WorkerKind("a", 1, measured()), WorkerKind("b", draw(st.integers(1, 2)), None)]
        some += [WorkerKind("c", 1, some[0].table)] if draw(st.booleans()) else []
        workers = sum(kind.workers for kind in some)
        cluster = dataclasses.replace(cluster, workers=workers, kinds=tuple(some), offer="fastest")
    if queues:  # the first one has the tables of the kinds, the second one another model
        own: Any = {kind.name: measured() for kind in cluster.kinds} or measured()
        some_queues = (ServiceQueue("q", slo_ns=draw(st.none() | slos)), ServiceQueue("r", weight=3.0, table=own))
        cluster = dataclasses.replace(cluster, queues=some_queues)
        codes = draw(st.lists(st.integers(0, 1), min_size=queries, max_size=queries))
        trace = dataclasses.replace(trace, class_codes=np.array(codes, np.uint16), class_names=("q", "r"))
    values = draw(st.sampled_from(["attainment", "accuracy"]))
    return instance_of(trace, cluster, table, values, weighted=queues and draw(st.booleans()))


def solved(instance: Instance, slot_ns: int = 1) -> Optimum:
    found = offline_optimum(instance, slot_ns)
    assert found.proven
    return found


@given(instances(most=3, span=7, longest=4))
@settings(max_examples=25)
def test_the_program_finds_what_trying_everything_finds(instance: Instance) -> None:
    found = solved(instance)
    assert found.lower == pytest.approx(found.upper, abs=1e-7)
    assert found.lower == pytest.approx(tried(instance), abs=1e-9)


@given(
    st.booleans().flatmap(lambda queues: instances(most=3, span=6, longest=4, kinds=True, queues=queues))
    | instances(most=3, span=6, longest=4, queues=True),
    st.integers(1, 9),
    st.sampled_from([0, 0, 2]),
)
@settings(max_examples=25, deadline=None)
def test_the_program_and_the_bound_hold_with_kinds_of_workers_and_queues(
    instance: Instance, slot_ns: int, iterations: int
) -> None:
    best = tried(instance)
    assert solved(instance).lower == pytest.approx(best, abs=1e-9)
    bound = upper_bound(instance, slot_ns, iterations)
    assert bound.upper >= best
    assert upper_bound(instance, slot_ns, 0, np.roll(bound.price, 1)).upper >= best  # as at any prices


@given(st.one_of(kind_cases(), queue_cases()), st.sampled_from(["attainment", "accuracy"]), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_no_policy_exceeds_the_bound_with_kinds_of_workers_and_queues(case: Case, values: Values, slot_ns: int) -> None:
    instance = instance_of(case.trace, case.cluster, case.table, values)
    assert reached(case, values) <= upper_bound(instance, slot_ns, 1).upper


@given(queue_cases(), st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_no_policy_exceeds_the_bound_by_weight(case: Case, slot_ns: int) -> None:
    if not case.cluster.queues:
        return
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    instance = instance_of(case.trace, case.cluster, case.table, "attainment", weighted=True)
    assert weighted_attainment(by_queue(result)) <= upper_bound(instance, slot_ns, 1).upper


@given(
    instances(most=3, span=6, longest=4, kinds=True, overlaps=True) | instances(most=3, span=6, longest=4, queues=True),
    st.integers(1, 9),
    st.data(),
)
@settings(max_examples=15, deadline=None)
def test_no_schedule_on_any_number_of_workers_exceeds_the_frontier(
    instance: Instance, slot_ns: int, data: st.DataObject
) -> None:
    """Each schedule at its own cost; and no less than the best one is bounded away where one query is all there is."""
    prices = data.draw(
        st.lists(st.just(0.0) | st.floats(1e-3, 5), min_size=(n := sum(map(len, instance.kinds))), max_size=n)
    )
    frontier = cost_frontier(instance, prices, slot_ns)
    hour_ns = [min(prices[kind] for kind in members) / 3.6e12 for members in instance.kinds]
    points = []
    for batches in schedules(instance, limited=False):
        cost = sum(hour_ns[instance.group[way]] * int(instance.occupied_ns[way]) for _, way, _ in batches)
        value = worth(instance, batches)
        assert value <= frontier.value(cost)
        assert frontier.least_cost(value) <= cost * (1 + 1e-9)
        points.append((value, cost))
    if len(instance) == 1:  # its schedules are the frontier: from each to the next there is a straight line
        best = max(value for value, _ in points)
        assert frontier.value(max(cost for _, cost in points)) == pytest.approx(best, abs=1e-8)
        least = min(cost for value, cost in points if value == best)
        assert frontier.least_cost(best + 1e-9) == pytest.approx(least)
        assert frontier.least_cost(best + 1e-6) == np.inf


@given(planned_cases(), st.sampled_from(["attainment", "accuracy"]), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_no_policy_with_any_planner_exceeds_the_frontier(case: Case, values: Values, slot_ns: int) -> None:
    """With queues, kinds, start-ups, failures, drawn latencies and overlaps, by what its workers cost."""
    result = run(case)
    prices = [kind.price_per_h or 0.0 for kind in case.cluster.kinds] or [1.0]
    hours = [
        (result.fleet.available_ns(result.horizon_ns, kind) + result.fleet.started_up_ns(result.horizon_ns, kind))
        / 3.6e12
        for kind in range(len(prices))
    ]
    frontier = cost_frontier(instance_of(case.trace, case.cluster, case.table, values), prices, slot_ns)
    value = metrics.slo_attainment(result)
    if values == "accuracy" and value:
        value *= metrics.mean_serving_accuracy(result) / 100
    assert value <= frontier.value(sum(hour * price for hour, price in zip(hours, prices, strict=True)))


def test_the_frontier_is_what_full_batches_of_steady_load_cost() -> None:
    """Many queries at once, one subnet: each costs its share of a full batch, and money buys queries in proportion."""
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1, 4), np.array([[2, 4]]) * 1_000_000)
    trace = Trace(np.zeros(400, np.int64), 50_000_000, 1_000_000)
    frontier = cost_frontier(instance_of(trace, Cluster(1), table, "attainment"), [3.6e12])  # a unit of cost a ns
    for part in (0.0, 0.25, 0.5, 1.0):
        assert frontier.value(part * 400 * 1_000_000) == pytest.approx(part, abs=1e-8)
        assert frontier.least_cost(part) == pytest.approx(part * 400 * 1_000_000, abs=2)


@given(instances(most=12, span=20, longest=9), st.integers(1, 30), st.sampled_from([0, 0, 2]))
@settings(max_examples=40)
def test_the_bound_is_not_below_the_optimum(instance: Instance, slot_ns: int, iterations: int) -> None:
    assert upper_bound(instance, slot_ns, iterations).upper >= solved(instance).lower


@given(instances(most=6, span=15, longest=9), st.integers(1, 9), st.data())
@settings(max_examples=40)
def test_any_prices_give_a_bound(instance: Instance, slot_ns: int, data: st.DataObject) -> None:
    slots = len(upper_bound(instance, slot_ns, 0).price)
    prices = data.draw(st.lists(st.floats(0, 2), min_size=slots, max_size=slots))
    assert upper_bound(instance, slot_ns, 0, np.array(prices)).upper >= solved(instance).lower


@given(instances(most=8, span=60, longest=40), st.integers(2, 9))
@settings(max_examples=25)
def test_rounding_brackets_the_optimum(instance: Instance, slot_ns: int) -> None:
    exact = solved(instance)
    rounded = offline_optimum(instance, min(slot_ns, int(instance.duration_ns.min())))
    assert rounded.lower <= exact.upper + 1e-7
    assert rounded.upper >= exact.lower - 1e-7


@given(instances(most=10, span=25, longest=9), st.integers(1, 3))
@settings(max_examples=40)
def test_the_schedule_that_is_found_can_be_run(instance: Instance, slot_ns: int) -> None:
    """Laid on workers and filled with queries one by one, in order of deadlines, it is worth what is said."""
    found = offline_optimum(instance, min(slot_ns, int(instance.duration_ns.min())))
    ends = sorted(
        (b.start_ns + int(instance.duration_ns[b.way]), b.start_ns, b.way)
        for b in found.batches
        for _ in range(b.batches)
    )
    busy = np.zeros(int(instance.deadline_ns.max()) + 1, dtype=int)
    for end, start, _ in ends:
        busy[start:end] += 1
    assert busy.max(initial=0) <= instance.cluster.workers
    held = sum(batch.queries for batch in found.batches)
    assert sum(instance.value[batch.way] * batch.queries for batch in found.batches) == pytest.approx(
        found.lower * len(instance)
    )
    assert all(batch.queries <= batch.batches * instance.max_queries[batch.way] for batch in found.batches)
    assert held == _matched(instance, found)


def _matched(instance: Instance, found: Optimum) -> int:
    """As many queries as find a place each in the batches, by augmenting paths."""
    places = [(b.start_ns, b.way) for b in found.batches for _ in range(b.queries)]
    taken: dict[int, int] = {}

    def place(query: int, seen: set[int]) -> bool:
        for i, (start, way) in enumerate(places):
            end = start + int(instance.duration_ns[way])
            if i in seen or not instance.arrival_ns[query] <= start or end > instance.deadline_ns[query]:
                continue
            seen.add(i)
            if i not in taken or place(taken[i], seen):
                taken[i] = query
                return True
        return False

    return sum(place(query, set()) for query in range(len(instance)))


@given(cases(), st.sampled_from(["attainment", "accuracy"]), st.integers(1, 12))
@settings(max_examples=30)
def test_no_policy_exceeds_the_bound(case: Case, values: Values, slot_ns: int) -> None:
    """With failures, switches, drop rules and SLOs of their own, too."""
    instance = instance_of(case.trace, case.cluster, case.table, values)
    assert reached(case, values) <= upper_bound(instance, slot_ns, 1).upper


def test_the_bound_is_near_the_optimum_where_load_is_tight() -> None:
    """A tenth of a point above what can't be exceeded, where the load costs more than one."""
    arrivals = np.sort(np.random.default_rng(3).integers(0, 25_000_000, 50))
    instance = instance_of(Trace(arrivals, 30_000_000, 25_000_000), Cluster(1), load_table("ofa-resnet50-rtx2080ti"))
    found = offline_optimum(instance, 2_000_000)
    bound = upper_bound(instance, 1_000_000).upper
    assert found.lower < bound
    assert bound - found.upper < 0.001
    assert instance.value.max() - found.upper > 0.01


def best_of_overlapping(instance: Instance) -> float:  # noqa: C901 - two searches, one in the other
    """Return the optimum where batches overlap, by trying everything: who is in which batch, and when each starts."""
    arrival, due, workers = instance.arrival_ns.tolist(), instance.deadline_ns.tolist(), instance.cluster.workers

    def best(query: int, groups: list[list[int]]) -> float:
        if query == len(instance):
            return placed([group for group in groups if group], [])
        found = best(query + 1, groups)  # unserved
        for group in [*groups, []]:
            others = [other for other in groups if other is not group]
            found = max(found, best(query + 1, [*others, [*group, query]]))
        return found

    def placed(groups: list[list[int]], taken: list[tuple[int, int]]) -> float:  # -1 if they can't be
        if not groups:
            return 0.0
        group, rest = groups[0], groups[1:]
        found = -1.0
        for way in range(instance.ways):
            busy, done = int(instance.occupied_ns[way]), int(instance.duration_ns[way])
            if len(group) > instance.max_queries[way]:
                continue
            for start in range(max(arrival[q] for q in group), min(due[q] for q in group) - done + 1):
                more = [*taken, (start, start + busy)]
                if max(sum(a <= t < b for a, b in more) for t, _ in more) > workers:
                    continue
                value = placed(rest, more)
                if value >= 0:
                    found = max(found, value + len(group) * float(instance.value[way]))
        return found

    return best(0, []) / len(instance)


@given(instances(most=3, span=9, longest=6, overlaps=True), st.integers(1, 4), st.sampled_from([0, 0, 2]))
@settings(max_examples=20, deadline=None)
def test_the_bound_is_not_below_the_optimum_of_batches_that_overlap(
    instance: Instance, slot_ns: int, iterations: int
) -> None:
    assert upper_bound(instance, slot_ns, iterations).upper >= best_of_overlapping(instance)


def test_nothing_that_can_be_answered_is_worth_nothing() -> None:
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[9]]))
    instance = instance_of(Trace(np.array([0, 3]), 5, 10), Cluster(1), table)
    assert offline_optimum(instance, 1).upper == 0
    assert upper_bound(instance, 2).upper < 1e-6


def test_wrong_input_is_told() -> None:
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[4]]))
    trace = Trace(np.array([0]), 5, 10)
    with pytest.raises(SpecError, match=r"slot_ns: invalid slot length \(5\); 1 to 4, the shortest batch"):
        offline_optimum(instance_of(trace, Cluster(1), table), 5)
    with pytest.raises(SpecError, match="slot_ns: invalid slot length"):
        upper_bound(instance_of(trace, Cluster(1), table), 0)
    for cluster, key in (
        (Cluster(1, occupancy=0.5), "occupancy"),
        (Cluster(1, 1, dispatch_p99_over_median=2.0), "dispatch_p99_over_median"),
    ):
        with pytest.raises(SpecError, match=rf"cluster.{key}: the offline optimum is for fixed latencies"):
            offline_optimum(instance_of(trace, cluster, table), 1)
    with pytest.raises(SpecError, match="supports neither failures"):
        offline_optimum(instance_of(trace, Cluster(2, faults=(WorkerFailure(0, 1),)), table), 1)
    with pytest.raises(SpecError, match="values: unknown kind"):
        instance_of(trace, Cluster(1), table, "speed")  # type: ignore[arg-type]
    scaled = instance_of(trace, Cluster(1, scaling=Scaling(2)), table)
    for bound in (upper_bound, lambda instance: offline_optimum(instance, 1)):
        with pytest.raises(SpecError, match="planner: workers that come and go have no bound by their number"):
            bound(scaled)
    for prices in ([], [1.0, 2.0], [-1.0], [float("nan")]):
        with pytest.raises(SpecError, match="price_per_h: is not a price for each kind"):
            cost_frontier(scaled, prices)
    many = Trace(np.arange(2000, dtype=np.int64), 4000, 2000)
    with pytest.raises(SpecError, match="needs too many variables"):
        offline_optimum(instance_of(many, Cluster(1), table), 1)
