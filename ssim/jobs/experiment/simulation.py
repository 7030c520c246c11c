"""The simulation of a run of an experiment, by the engine that was chosen for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S, ns_from_ms, ns_from_s
from sim.compiled.tabulate import NotTabulableError
from sim.engine.driver import simulate
from sim.engines import planning_for, simpy_instead
from ssim.jobs.experiment.arrivals import short_trace_of, stream_of

if TYPE_CHECKING:
    from pathlib import Path

    from sim.engine.run_metrics import RunMetrics
    from sim.engines import EngineChoice
    from ssim.jobs.experiment.run import ExperimentRun


def simulated(run: ExperimentRun, choice: EngineChoice, shared: Path | None = None) -> tuple[RunMetrics, EngineChoice]:
    """Return what came out of a run, and the engine that ran it.

    That is SimPy instead of the compiled one if a planner changes the policy into one that only SimPy runs.

    Args:
        run: The run.
        choice: The engine that was chosen.
        shared: A folder in which processes that need its trace find it.

    Raises:
        SsimError: The run failed, or the compiled engine was asked for and can't run it to the end.
    """
    try:
        return _simulated(run, choice, shared), choice
    except NotTabulableError as error:
        choice = simpy_instead(run.spec.engine, error)
        return _simulated(run, choice, shared), choice


def _simulated(run: ExperimentRun, choice: EngineChoice, shared: Path | None) -> RunMetrics:
    """Return counts where no more is kept and the engine can count, else the outcome of every query."""
    parts, source, seed, rule = run.parts, run.parts.source, run.seed, choice.rule
    cluster, table = run.cluster, run.table
    asked, planner = run.spec.planner, run.planner()
    period_ns = NS_PER_S if asked is None else ns_from_s(asked.period_s)
    if rule is None:
        trace = run.trace(shared)
        parts.measure.check(trace.duration_ns)
        found = simulate(trace, cluster, table, run.policies(), seed=seed, planner=planner, period_ns=period_ns)
        return found.measured(parts.measure)
    from sim.compiled.replay import replay_compiled, replay_counted, replay_stream

    planning = planning_for(planner, period_ns, run.policy(), cluster, table, parts.slo_ns)
    if run.spec.keep in {"summary", "windows"} and source.has_one_slo and not source.has_classes:
        how = (cluster, table, rule, NS_PER_S, parts.measure)
        if (short := short_trace_of(run.trace_key, source, seed)) is not None:
            return replay_counted(short, *how, seed=seed, planning=planning)
        chunks, slo_ns = stream_of(source, seed), ns_from_ms(source.slo_ms)
        return replay_stream(chunks, slo_ns, source.duration_ns, *how, seed=seed, planning=planning)
    trace = run.trace(shared)
    parts.measure.check(trace.duration_ns)
    return replay_compiled(trace, cluster, table, rule, seed=seed, planning=planning).measured(parts.measure)
