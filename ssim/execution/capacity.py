"""Capacities of an experiment: for each policy, seed and point of its sweep, the highest rate that holds the target.

Each rate that is tried is a run like any other and is stored as one: an interrupted search goes on where it was, and
a search with another target or precision uses what is there. All policies of a seed meet the same arrivals where they
meet the same rate, so that their capacities can be compared seed by seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.base.errors import NoArrivalsError, SpecError, TooLongError, did_you_mean
from sim.traces.merged import Merged
from sim.traces.rates import rate_names
from ssim.execution.rates import AtRate, changed, mean_rate_of, swept_rate
from ssim.execution.runner import run_all, write_index
from ssim.execution.search import CapacitySearch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.experiment.spec import CapacitySpec
    from ssim.jobs.job import Job, RunOutcome
    from ssim.results.store import Store


@dataclass(slots=True)
class Found:
    """The capacity of one policy for one seed at one point of the sweep, as far as it is known.

    Attributes:
        run: The run at the rate of the experiment file.
        search: The rates that were tried.
        error: Why a run of the search failed, or None.
    """

    run: ExperimentRun
    search: CapacitySearch
    error: RunOutcome | None = None

    @property
    def capacity(self) -> float | None:
        """The highest rate that held the target, or None where it lies outside of what was tried."""
        holds, misses = self.search.holds, self.search.misses
        return None if holds is None or misses is None or self.error else self.search.rate(holds)

    def row(self) -> dict[str, Any]:
        """Return the columns of capacity.csv; None where there is no value."""
        search, holds, misses = self.search, self.search.holds, self.search.misses
        return {
            "policy": self.run.label,
            "trace": self.run.spec.trace_kind,
            "seed": self.run.seed,
            "target": search.target,
            "capacity": self.capacity,
            "attainment": None if holds is None else search.attained[holds],
            "misses_at": None if misses is None else search.rate(misses),
            "attainment_above": None if misses is None else search.attained[misses],
            "uncertain_from": None if search.uncertain is None else search.uncertain[0],
            "uncertain_to": None if search.uncertain is None else search.uncertain[1],
            "runs": len(search.attained),
            **self.run.swept,
        }


@dataclass(slots=True)
class Trials:
    """The runs of a search: each is carried out once, and stored.

    Attributes:
        experiment: The experiment.
        store: Where the runs go; the caller holds `store.writing()`.
        jobs: How many runs at once.
        on_round: Called with the number of runs that come next, and of the searches that are still open.
        on_finished: Called with each run that ends.
        tried: All runs so far, by id.
    """

    experiment: Job
    store: Store
    jobs: int
    on_round: Callable[[int, int], None] = lambda _runs, _open: None
    on_finished: Callable[[RunOutcome], None] = lambda _finished: None
    tried: dict[str, ExperimentRun] = field(default_factory=dict[str, "ExperimentRun"])

    def carry_out(self, runs: Iterable[ExperimentRun], searches: int) -> dict[str, RunOutcome]:
        """Run what is not stored of some runs; return those that failed, by id.

        Args:
            runs: The runs.
            searches: The number of searches that they belong to.

        Raises:
            StoreError: Results can't be stored.
        """
        distinct = {run.id: run for run in runs}
        self.tried |= distinct
        write_index(self.experiment, self.store, list(self.tried.values()))
        todo = [run for run in distinct.values() if not run.is_stored(self.store)]
        self.on_round(len(todo), searches)
        ended = run_all(todo, self.store, jobs=self.jobs, rounds=_ROUNDS, on_finished=self.on_finished)
        return {finished.run.id: finished for finished in ended}


_ROUNDS = 20
"""About as many rounds does a search take: what starts an engine is spread over all of them."""


def find_capacities(trials: Trials) -> list[Found]:
    """Return the capacities of all policies, seeds and points.

    Args:
        trials: The runs of the search.

    Raises:
        SpecError: The trace has no such rate, or it is swept; queues with traces of their own have no rate but
            `mean_qps`, that of all queries.
        StoreError: Results can't be stored.
    """
    spec, experiment = trials.experiment.spec.capacity, trials.experiment
    of_queues = isinstance(experiment.runs[0].parts.source, Merged)
    key = f"trace.{spec.rate}"
    if (of_queues and (key := swept_rate(experiment) or "")) or key in experiment.swept:
        raise SpecError("capacity.rate", "is swept, too", repr(key), "sweep something else, or vary another rate")
    # Also what a sweep leaves as it is: it has a row at each point, and its rates run once.
    found = [Found(run, CapacitySearch(_start(run, spec), spec.target, spec.precision)) for run in experiment.runs]
    search_rates(found, trials, AtRate() if of_queues else lambda run, rate: changed(run, "trace", {spec.rate: rate}))
    return found


def search_rates(
    found: Sequence[Found], trials: Trials, at_rate: Callable[[ExperimentRun, float], ExperimentRun]
) -> None:
    """Carry searches to their end.

    Args:
        found: The searches; what is tried is added to them.
        trials: Their runs.
        at_rate: Returns a run at a rate.

    Raises:
        StoreError: Results can't be stored.
    """
    while asking := [(one, step) for one in found if one.error is None for step in one.search.wanted()]:
        probes = list(_probes(asking, at_rate))
        failed = trials.carry_out((probe for _, _, probe in probes), len({id(one) for one, _ in asking}))
        for one, step, probe in probes:
            _note(one, step, failed.get(probe.id), trials.store.manifest(probe.id))


def _probes(
    asking: Iterable[tuple[Found, int]], at_rate: Callable[[ExperimentRun, float], ExperimentRun]
) -> Iterator[tuple[Found, int, ExperimentRun]]:
    """Yield the run of each step that is asked for; a rate that the trace does not take bars its step."""
    for one, step in asking:
        try:
            probe = at_rate(one.run, one.search.rate(step))
            _ = probe.id
        except (SpecError, NoArrivalsError) as error:
            one.search.barred[step] = str(error)
        else:
            yield one, step, probe


def _note(one: Found, step: int, failed: RunOutcome | None, manifest: dict[str, Any] | None) -> None:
    """Note what came out at a step: an attainment, a rate at which nothing or too much comes, or a failure."""
    if failed is not None and isinstance(failed.error, NoArrivalsError | TooLongError):
        one.search.barred[step] = str(failed.error)
    elif failed is not None or manifest is None:
        one.error = failed
    else:
        one.search.attained[step] = attained(manifest)


def attained(manifest: dict[str, Any]) -> float:
    """Return the SLO attainment that is compared with a target: with queues, that of the queue with the lowest."""
    found = [queue["slo_attainment"] for queue in manifest.get("queues", {}).values() if queue["queries"]]
    return float(min(found, default=manifest["summary"]["slo_attainment"]))


def _start(run: ExperimentRun, spec: CapacitySpec) -> float:
    """Return the rate of the experiment file, from which a search starts.

    Raises:
        SpecError: The trace has no such parameter (`speedup`, or one that ends in `_qps`), or it is no positive number.
    """
    source = run.parts.source
    names = rate_names(source)
    if isinstance(source, Merged):
        if spec.rate != "mean_qps":
            what, right = "is not common to the traces of queues", "mean_qps, the mean rate of all of them together"
            raise SpecError("capacity.rate", what, repr(spec.rate), right)
        return mean_rate_of(source, run.seed)
    if spec.rate not in names:
        what = f"a trace of kind {run.spec.trace_kind} has no such rate"
        raise SpecError("capacity.rate", what, repr(spec.rate), did_you_mean(spec.rate, names))
    value = getattr(source, spec.rate)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        right = f"give trace.{spec.rate} a positive number to start from"
        raise SpecError("capacity.rate", f"trace.{spec.rate} is not a rate", repr(value), right)
    return float(value)
