"""The public check of planners, including a user's own: `check_planner(planner, table, policy)`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from policies.planners.capacity import throughput_per_s
from sim.base.units import NS_PER_S
from sim.engine.cluster import Cluster, WorkerFailure
from sim.engine.driver import simulate
from sim.engine.metrics import slo_attainment
from sim.engine.planning import KindView, PlannerView, QueueView, ask_planner
from sim.engine.scaling import Scaling, serving_over_time
from sim.engine.service_queue import ServiceQueue
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

_PERIOD_NS = 10 * NS_PER_S

_LOADS = (0.5, 1.0, 3.0, 5.0, 3.0, 1.0, 0.2, 0.0, 0.0, 2.0)
"""The load of a run in each period, in workers that run largest batches on the most accurate subnet."""

_QUERIES = 3000
"""Queries of a run."""


class PlannerCheck(NamedTuple):
    """What a planner did in its check.

    Attributes:
        several: Whether it can plan several kinds of workers.
        workers: The fewest and the most workers that served in the run.
        attainment: The SLO attainment of the run.
    """

    several: bool
    workers: tuple[int, int]
    attainment: float


def check_planner(planner: Planner, table: LatencyTable, policy: Policy) -> PlannerCheck:
    """Check that a planner obeys its interface: it plans what can be carried out through a load that comes and goes.

    It sees no load, loads from light to far too heavy, late and dropped queries, workers that start and that failed,
    and no worker at all; first with workers that are all alike, then with two kinds and two queues, unless it plans
    one number. Then it plans runs whose load rises and falls, so that what it sees follows from its plans: one without
    queues and, unless it plans one number, one with two queues whose loads are never alike.

    Args:
        planner: Any object with `plan(view)`.
        table: The latency table of the workers.
        policy: The policy whose parameters it may change.

    Returns:
        What it did.

    Raises:
        PolicyError: The fault of the planner.
    """
    fresh = deepcopy(planner)
    view, policies = None, [policy]
    for view in _views(table, ("",)):
        _, policies = ask_planner(planner, view, policies)
    several = view is not None and isinstance(planner.plan(view).workers, Mapping)
    if several:
        policies = [policy, policy]
        for view in _views(table, ("one", "two"), ("first", "second")):
            _, policies = ask_planner(planner, view, policies)
        _run(deepcopy(fresh), table, policy, {"first": _LOADS, "second": _LOADS[3:] + _LOADS[:3]})
    return PlannerCheck(several, *_run(fresh, table, policy, {"": _LOADS}))


def _run(
    planner: Planner, table: LatencyTable, policy: Policy, loads: Mapping[str, Sequence[float]]
) -> tuple[tuple[int, int], float]:
    """Return the fewest and the most workers, and the SLO attainment, of a run with a load that varies.

    Args:
        planner: The planner.
        table: The latency table.
        policy: The policy of all queues.
        loads: The load in each period, by the name of the queue; empty without queues.
    """
    slo_ns = 2 * int(table.latency_ns.max())
    rate_per_s = throughput_per_s(table, len(table.subnets) - 1, slo_ns, 0)
    period_ns = round(_QUERIES / (sum(map(sum, loads.values())) * rate_per_s) * NS_PER_S)
    arrivals, codes = [], []
    for place, shares in enumerate(loads.values()):
        for turn, share in enumerate(shares):
            count = round(share * rate_per_s * period_ns / NS_PER_S)
            arrivals.append(turn * period_ns + np.arange(count) * period_ns // max(1, count))
            codes.append(np.full(count, place))
    at_ns, of = np.concatenate(arrivals), np.concatenate(codes)
    order = np.argsort(at_ns, kind="stable")
    names = tuple(filter(None, loads))
    cluster = Cluster(
        4,
        drop="expired",
        faults=(WorkerFailure(0, 3 * period_ns // 2, 7 * period_ns // 2),),
        scaling=Scaling(max_workers=8, startup_ns=period_ns // 2),
        queues=tuple(ServiceQueue(name) for name in names),
    )
    trace = Trace(at_ns[order], slo_ns, len(_LOADS) * period_ns)
    if names:
        trace = replace(trace, class_codes=of[order].astype(np.uint16), class_names=names)
    result = simulate(trace, cluster, table, policy, planner=planner, period_ns=period_ns)
    numbers = [cluster.workers]
    if result.fleet is not None:
        instants, numbers_then = serving_over_time(result.fleet.ready_ns, result.fleet.gone_ns)
        numbers = numbers_then[instants < trace.duration_ns].tolist()
    return (min(numbers), max(numbers)), slo_attainment(result)


def static_planner_view(kinds: Sequence[KindView], queues: Sequence[QueueView], dispatch_ns: int = 0) -> PlannerView:
    """Return the view of a first turn after 10 s in which 1,000 queries arrived in each queue and met their SLO.

    Args:
        kinds: The kinds of workers.
        queues: The queues, without any query.
        dispatch_ns: Overhead of each batch.
    """
    seen = tuple(replace(queue, arrivals=1000, met=1000) for queue in queues)
    return PlannerView(_PERIOD_NS, 0, dispatch_ns, tuple(kinds), seen)


def _views(table: LatencyTable, names: Sequence[str], queues: Sequence[str] = ("",)) -> Iterator[PlannerView]:
    slo_ns = 2 * int(table.latency_ns.max())
    full = table.max_batch * NS_PER_S / table.smallest_ns  # queries/s, more than a worker can serve
    scaling = Scaling(max_workers=8, min_workers=0, startup_ns=_PERIOD_NS)
    for turn, share in enumerate((0.0, 0.01, 0.3, 1.0, 5.0, 20.0, 5.0, 0.3, 0.01, 0.0, 0.0)):
        workers = min(turn, 4)
        arrivals = round(share * full * _PERIOD_NS / NS_PER_S)
        late, dropped = arrivals // 10, arrivals // 5
        kinds = tuple(
            KindView(
                name,
                table,
                serving=tuple(range(number * 8, number * 8 + workers)),
                starting=turn % 3,
                failed=turn % 2,
                queries=(arrivals - dropped) * len(queues) // len(names),
                busy_share=min(1.0, share) if workers else float("nan"),
                scaling=scaling,
                price_per_h=1.0,
            )
            for number, name in enumerate(names)
        )
        counts = (arrivals, arrivals - late - dropped, late, dropped, 0, late, slo_ns)
        tables = dict.fromkeys(names, table)
        now_ns = (turn + 1) * _PERIOD_NS
        seen = tuple(QueueView(name, tables, *counts) for name in queues)
        yield PlannerView(now_ns, now_ns - _PERIOD_NS, 0, kinds, seen)
