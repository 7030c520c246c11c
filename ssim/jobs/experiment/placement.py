"""The placement of queues on workers in an experiment: as the file gives it, or found by simulation before a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from policies.placement import PlacementSearch, units_of_workers
from sim.base.errors import SpecError
from sim.base.streams import stream
from sim.engine.driver import simulate
from sim.engine.placement import NO_PLANNER
from ssim.jobs.experiment.arrivals import raise_if_interrupted

if TYPE_CHECKING:
    from policies.placement import SearchRule, Workers
    from sim.engine.cluster import Cluster
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.experiment.spec import ExperimentSpec


def search_rule(spec: ExperimentSpec) -> SearchRule | None:
    """Return how the placement of a file is searched; None if it is not."""
    given = spec.cluster.placement
    return given if isinstance(given, str) and given != "on_demand" else None


def search_identity(spec: ExperimentSpec) -> dict[str, Any]:
    """Return all of a search that decides a result; nothing without one."""
    rule = search_rule(spec)
    return {} if rule is None else {"placement": rule}


def checked_memory(spec: ExperimentSpec, cluster: Cluster, table: LatencyTable) -> Cluster:
    """Return a cluster whose memory can be checked: before a search, nothing is placed anywhere.

    Args:
        spec: The file.
        cluster: Its cluster.
        table: The table of the runs.

    Raises:
        SpecError: There is nothing to search for, a planner would change it, or a queue's model fits into no memory.
    """
    if search_rule(spec) is None:
        return cluster
    if spec.planner is not None:
        raise SpecError("cluster.placement", *NO_PLANNER)
    nowhere = replace(cluster, placement={queue.name: () for queue in cluster.queues})
    units_of_workers(cluster, table)
    return nowhere


def placed(run: ExperimentRun) -> Cluster:
    """Return the cluster of a run with its placement, which is searched if the file asks for that.

    The search simulates other arrivals than those of the run, if they are drawn: with random numbers of its own.

    Raises:
        SsimError: A simulation failed, or was interrupted.
    """
    setup, source, measure = run.setup, run.parts.source, run.parts.measure
    cluster, table = setup.cluster, setup.table
    if (rule := search_rule(run.spec)) is None:
        return cluster
    seed = int(stream(run.seed, "placement").integers(2**31)) if source.is_random else run.seed
    trace = source.trace_of(source.arrivals(seed), seed)

    def simulated(placement: Workers) -> Result:
        raise_if_interrupted()
        how = (replace(cluster, placement=placement), table, setup.policies())
        return simulate(trace, *how, seed=seed).measured(measure)

    best, _ = PlacementSearch(cluster, table, simulated).search(rule)
    return replace(cluster, placement=best.placement)
