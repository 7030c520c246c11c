"""The simulation of a run of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S, ns_from_ms, ns_from_s
from sim.compiled.tabulate import NotTabulableError, QueueRules
from sim.engine.driver import simulate
from sim.engine.energy import has_energy
from sim.engines import planning_for, simpy_instead
from ssim.jobs.experiment.arrivals import raise_if_interrupted, short_trace_of, stream_of, trace_of
from ssim.jobs.experiment.placement import placed

if TYPE_CHECKING:
    from pathlib import Path

    from sim.compiled.tabulate import Rule
    from sim.compiled.turns import Planning
    from sim.engine.run_metrics import RunMetrics
    from sim.engines import EngineChoice
    from ssim.jobs.experiment.run import ExperimentRun


def simulated(run: ExperimentRun, choice: EngineChoice, shared: Path | None = None) -> tuple[RunMetrics, EngineChoice]:
    """Return the outcome of a simulation, and the engine that ran it.

    That is SimPy instead of the compiled one if a planner changes the policy into one that only SimPy runs.

    Args:
        run: The run.
        choice: The engine that was chosen.
        shared: A folder in which processes that need its trace find it, made by the first of them.

    Raises:
        SsimError: The run failed, or was interrupted; or the compiled engine was asked for and can't end it.
    """
    raise_if_interrupted()
    try:
        found = _simulated(run, choice.rule, shared)
    except NotTabulableError as error:
        choice = simpy_instead(run.spec.engine, error)
        found = _simulated(run, choice.rule, shared)
    raise_if_interrupted()
    return found, choice


def _simulated(run: ExperimentRun, rule: Rule | QueueRules | None, shared: Path | None) -> RunMetrics:
    """Return counts where no more is kept and the engine can, else the outcome of every query."""
    spec, parts, setup = run.spec, run.parts, run.setup
    planner, period_ns = setup.planner(), NS_PER_S if spec.planner is None else ns_from_s(spec.planner.period_s)
    if rule is None:
        trace = trace_of(run.trace_key, parts.source, run.seed, shared)
        parts.measure.check(trace.duration_ns)
        how = (placed(run), setup.table, setup.policies())
        found = simulate(trace, *how, seed=run.seed, planner=planner, period_ns=period_ns)
        return found.measured(parts.measure)
    planning = planning_for(planner, period_ns, setup.policies(), setup.cluster, setup.table, parts.slo_ns)
    if isinstance(rule, QueueRules):
        from sim.compiled.queues import replay_queues

        trace = trace_of(run.trace_key, parts.source, run.seed, shared)
        parts.measure.check(trace.duration_ns)
        found = replay_queues(trace, setup.cluster, setup.table, rule, seed=run.seed, planning=planning)
        return found.measured(parts.measure)
    streams = spec.keep in {"summary", "windows"} and parts.source.has_one_slo and not parts.source.has_classes
    if streams and not any(has_energy(parts.cluster, parts.table, kind.name) for kind in parts.cluster.kinds):
        return _counted(run, rule, planning)
    from sim.compiled.replay import replay_compiled

    trace = trace_of(run.trace_key, parts.source, run.seed, shared)
    parts.measure.check(trace.duration_ns)
    result = replay_compiled(trace, setup.cluster, setup.table, rule, seed=run.seed, planning=planning)
    return result.measured(parts.measure)


def _counted(run: ExperimentRun, rule: Rule, planning: Planning | None) -> RunMetrics:
    from sim.compiled.replay import replay_counted, replay_stream

    parts, setup, seed = run.parts, run.setup, run.seed
    how = (setup.cluster, setup.table, rule, NS_PER_S, parts.measure)
    if (short := short_trace_of(run.trace_key, parts.source, seed)) is not None:
        return replay_counted(short, *how, seed=seed, planning=planning)
    slo_ns, chunks = ns_from_ms(parts.source.slo_ms), stream_of(parts.source, seed)
    return replay_stream(chunks, slo_ns, parts.source.duration_ns, *how, seed=seed, planning=planning)
