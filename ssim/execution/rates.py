"""Runs at another rate of their queries: of a single trace, or of those of all queues in proportion."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sim.traces.merged import Merged, seed_of
from sim.traces.rates import mean_rate, mean_rate_setter, rate_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sim.traces.source import TraceSource
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.job import Job

    _Setter = Callable[[float], dict[str, float]]


def changed(run: ExperimentRun, section: str, parameters: Mapping[str, Any]) -> ExperimentRun:
    """Return a run with other parameters in a section of its file, of which no more than the summary is kept."""
    point = run.point
    content = {**point.content, section: {**point.content[section], **parameters}, "keep": "summary"}
    swept = {**point.swept, **{f"{section}.{name}": value for name, value in parameters.items()}}
    return dataclasses.replace(run, point=dataclasses.replace(point, content=content, swept=swept))


class AtRate:
    """A function from a run and a mean rate of all its queries to the run at this rate."""

    def __init__(self) -> None:
        self._setters: dict[tuple[str, int], list[_Setter]] = {}

    def __call__(self, run: ExperimentRun, rate: float) -> ExperimentRun:
        """Return the run; its traces change in proportion."""
        source = run.parts.source
        key = (repr(run.spec.traces()), run.seed if source.is_random else 0)
        if key not in self._setters:
            self._setters[key] = _setters(source, run.seed)
        setters = self._setters[key]
        if not isinstance(source, Merged):
            return changed(run, "trace", setters[0](rate))
        point, swept = run.point, dict(run.point.swept)
        queues = [dict(queue) for queue in point.content["queues"]]
        for place, setter in enumerate(setters):
            found = setter(rate)
            queues[place]["trace"] = queues[place]["trace"] | found
            swept |= {f"queues.{place}.trace.{name}": value for name, value in found.items()}
        content = {**point.content, "queues": queues, "keep": "summary"}
        return dataclasses.replace(run, point=dataclasses.replace(point, content=content, swept=swept))


def _setters(source: TraceSource, seed: int) -> list[_Setter]:
    """Return for each trace of a run the function from the mean rate of all to its parameters."""
    if not isinstance(source, Merged):
        return [mean_rate_setter(source, seed)]
    parts = [(part, seed_of(seed, name)) for name, part in source.parts]
    rates, total = [mean_rate(part, own) for part, own in parts], mean_rate_of(source, seed)

    def of_part(setter: _Setter, share: float) -> _Setter:
        return lambda rate: setter(rate * share)

    return [of_part(mean_rate_setter(part, own), rate / total) for (part, own), rate in zip(parts, rates, strict=True)]


def mean_rate_of(source: TraceSource, seed: int) -> float:
    """Return the mean rate of all queries of a run over the whole trace in queries/s.

    Args:
        source: The trace of a run, or those of its queues.
        seed: The seed of the run.
    """
    if not isinstance(source, Merged):
        return mean_rate(source, seed)
    rates = (mean_rate(part, seed_of(seed, name)) * part.duration_ns for name, part in source.parts)
    return sum(rates) / source.duration_ns


def swept_rate(experiment: Job) -> str | None:
    """Return the key of a sweep that a mean rate of all queries decides, or None."""
    source = experiment.runs[0].parts.source
    parts = {"trace": source}
    if isinstance(source, Merged):
        parts = {f"queues.{place}.trace": part for place, (_, part) in enumerate(source.parts)}
    decided = []
    for place, part in parts.items():
        names = rate_names(part)
        decided += [f"{place}.{name}" for name in names if name == "mean_qps" or names == [name]]
    return next((key for key in experiment.swept if key in decided), None)
