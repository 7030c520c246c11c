"""The public check of planners, including a user's own: `check_planner(planner, table)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S
from sim.engine.planning import KindView, PlannerView, ask_planner
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
    and no worker at all; first with workers that are all alike, then with two kinds, unless it plans one number.

    Args:
        planner: Any object with `plan(view)`.
        table: The latency table of the workers.
        policy: The policy whose parameters it may change.

    Returns:
        Whether it can plan several kinds of workers.

    Raises:
        PolicyError: The fault of the planner.
    """
    view = None
    for view in _views(table, ("",)):
        _, policy = ask_planner(planner, view, policy)
    if view is None or not isinstance(planner.plan(view).workers, Mapping):
        return False
    for view in _views(table, ("one", "two")):
        _, policy = ask_planner(planner, view, policy)
    return True


def static_planner_view(kinds: Sequence[KindView], slo_ns: int, dispatch_ns: int = 0) -> PlannerView:
    """Return the view of a first turn after 10 s in which 1,000 queries arrived and met their SLO.

    Args:
        kinds: The kinds of workers.
        slo_ns: The SLO.
        dispatch_ns: Overhead of each batch.
    """
    return PlannerView(_PERIOD_NS, 0, 1000, 1000, 0, 0, 0, slo_ns, dispatch_ns, tuple(kinds))


def _views(table: LatencyTable, names: Sequence[str]) -> Iterator[PlannerView]:
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
                queries=(arrivals - dropped) // len(names),
                busy_share=min(1.0, share) if workers else float("nan"),
                scaling=scaling,
                price_per_h=1.0,
            )
            for number, name in enumerate(names)
        )
        now_ns = (turn + 1) * _PERIOD_NS
        met = arrivals - late - dropped
        yield PlannerView(now_ns, now_ns - _PERIOD_NS, arrivals, met, late, dropped, late, slo_ns, 0, kinds)
