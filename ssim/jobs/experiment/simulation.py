"""The simulation of a run of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S, ns_from_ms, ns_from_s
from sim.engine.driver import simulate
from ssim.jobs.experiment.arrivals import raise_if_interrupted, short_trace_of, stream_of, trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from sim.compiled.tabulate import Rule
    from sim.engine.run_metrics import RunMetrics
    from sim.engines import EngineChoice
    from ssim.jobs.experiment.run import ExperimentRun


def simulated(run: ExperimentRun, choice: EngineChoice, shared: Path | None = None) -> RunMetrics:
    """Return the outcome of a simulation: counts where no more is kept and the engine can, else every query.

    Args:
        run: The run.
        choice: The engine.
        shared: A folder in which processes that need its trace find it, made by the first of them.

    Raises:
        SsimError: The run failed, or was interrupted.
    """
    raise_if_interrupted()
    spec, parts = run.spec, run.parts
    streams = spec.keep in {"summary", "windows"} and parts.source.has_one_slo and not parts.source.has_classes
    rule = choice.rule
    found = _every_query(run, rule, shared) if rule is None or not streams else _counted(run, rule)
    raise_if_interrupted()
    return found


def _counted(run: ExperimentRun, rule: Rule) -> RunMetrics:
    from sim.compiled.replay import replay_counted, replay_stream

    parts, setup = run.parts, run.setup
    how = (setup.cluster, setup.table, rule)
    if (short := short_trace_of(run.trace_key, parts.source, run.seed)) is not None:
        return replay_counted(short, *how, measure=parts.measure, seed=run.seed)
    slo_ns, chunks = ns_from_ms(parts.source.slo_ms), stream_of(parts.source, run.seed)
    return replay_stream(chunks, slo_ns, parts.source.duration_ns, *how, measure=parts.measure, seed=run.seed)


def _every_query(run: ExperimentRun, rule: Rule | None, shared: Path | None) -> RunMetrics:
    trace, setup = trace_of(run.trace_key, run.parts.source, run.seed, shared), run.setup
    run.parts.measure.check(trace.duration_ns)
    if rule is not None:
        from sim.compiled.replay import replay_compiled

        result = replay_compiled(trace, setup.cluster, setup.table, rule, seed=run.seed)
    else:
        asked, planner = run.spec.planner, setup.planner()
        period_ns = NS_PER_S if asked is None else ns_from_s(asked.period_s)
        how = (setup.cluster, setup.table, setup.policies())
        result = simulate(trace, *how, seed=run.seed, planner=planner, period_ns=period_ns)
    return result.measured(run.parts.measure)
