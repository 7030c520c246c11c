"""The public check of planners, including a user's own: `check_planner(planner, table)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S
from sim.engine.planning import KindView, PlannerView, QueueView, ask_planner
from sim.engine.scaling import Scaling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

_PERIOD_NS = 10 * NS_PER_S


def check_planner(planner: Planner, table: LatencyTable, policy: Policy) -> bool:
    """Check that a planner obeys its interface: it plans what can be carried out through a load that comes and goes.

    It sees no load, loads from light to far too heavy, late and dropped queries, workers that start and that failed,
    and no worker at all; first with workers that are all alike, then with two kinds and two queues, unless it plans
    one number.

    Args:
        planner: Any object with `plan(view)`.
        table: The latency table of the workers.
        policy: The policy whose parameters it may change.

    Returns:
        Whether it can plan several kinds of workers.

    Raises:
        PolicyError: The fault of the planner.
    """
    view, policies = None, [policy]
    for view in _views(table, ("",)):
        _, policies = ask_planner(planner, view, policies)
    if view is None or not isinstance(planner.plan(view).workers, Mapping):
        return False
    policies = [policy, policy]
    for view in _views(table, ("one", "two"), ("first", "second")):
        _, policies = ask_planner(planner, view, policies)
    return True


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
