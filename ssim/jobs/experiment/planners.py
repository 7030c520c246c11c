"""The planner of an experiment file: from its name and parameters to an object, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import policies.planners
from policies.planners.checks import static_planner_view
from sim.base.errors import SsimError
from sim.base.units import ns_from_s
from sim.engine.planning import KindView, Planner, QueueView, ask_planner
from sim.engine.turns import check_scaling
from ssim.files.plugins import Issue, Slot
from ssim.jobs.identity import described

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.spec import ExperimentSpec, PlannerSpec

PLANNER = Slot(("planner",), "planner", policies.planners.SHORT_NAMES, Planner, "use")
"""Where an experiment file names a planner."""


def build_planner(asked: PlannerSpec, folder: Path) -> Planner:
    """Return the planner that a name and parameters describe.

    Args:
        asked: The name and the parameters.
        folder: Where modules are looked for.

    Raises:
        SpecError: There is no such planner, or something is wrong with its parameters; tells all of it.
    """
    built: Planner = PLANNER.built(asked.model_dump(), folder)
    return built


def planner_identity(asked: PlannerSpec | None, planner: Planner | None) -> dict[str, Any]:
    """Return all of a planner that decides a result; nothing without one."""
    if asked is None:
        return {}
    return {"planner": {**described(planner), "period_ns": ns_from_s(asked.period_s)}}


def planner_issues(
    spec: ExperimentSpec,
    planner: Planner | None,
    cluster: Cluster,
    policies: Iterable[Sequence[Policy]],
    table: LatencyTable,
) -> Iterator[Issue]:
    """Yield what is wrong with a planner, which is asked once for each policy.

    Args:
        spec: The file.
        planner: Its planner; None without one.
        cluster: The workers.
        policies: The policies of all queues, for each policy of the file.
        table: The table of the runs.
    """
    try:
        check_scaling(cluster, planner, ns_from_s(spec.planner.period_s) if spec.planner else 1)
    except SsimError as error:
        yield Issue.of(error, *error.location.split("."))
        return
    if planner is None:
        return
    of_queues = cluster.pools_by_queue(table)
    kinds = [
        KindView(
            pool.kind,
            pool.table,
            tuple(pool.workers),
            scaling=next((kind.scaling for kind in cluster.kinds if kind.name == pool.kind), cluster.scaling),
            price_per_h=next((kind.price_per_h for kind in cluster.kinds if kind.name == pool.kind), None),
        )
        for pool in sorted(of_queues[0], key=lambda pool: pool.workers.start)
    ]
    queues = [
        QueueView(
            name,
            {pool.kind: pool.table for pool in pools},
            slo_ns=2 * max(int(pool.table.latency_ns.max()) for pool in pools),
        )
        for name, pools in zip([queue.name for queue in cluster.queues] or [""], of_queues, strict=True)
    ]
    for each in policies:
        try:
            ask_planner(planner, static_planner_view(kinds, queues, cluster.dispatch_ns), each)
        except SsimError as error:
            yield Issue.of(error, "planner")
            return
