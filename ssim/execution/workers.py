"""The least number of workers with which each policy of an experiment meets an SLO attainment at a mean rate.

All seeds run with each number that is tried, and the mean attainment over seeds decides. Each run is stored like any
other. The search begins at the least number that any policy needs, by the upper bound of `sim.bounds`: with fewer the
target can't be met. From there it goes up by doubling, back by bisection, and then tries every number nearby.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, SsimError, TooLongError
from sim.base.intervals import mean_and_half_width
from sim.base.units import format_ms
from sim.engine.kinds import MAX_WORKERS
from sim.engine.run_metrics import WHOLE_RUN
from sim.engine.service_queue import in_queues
from ssim.execution.capacity import Found, attained, search_rates
from ssim.execution.gap import attainment_bound
from ssim.execution.rates import AtRate, changed, swept_rate
from ssim.execution.search import CapacitySearch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from ssim.execution.capacity import Trials
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.job import RunOutcome

NEARBY = 5
"""So many numbers of workers next to the answer are tried on either side: by chance fewer may meet the target."""

_DOUBLINGS = 3
"""So often is the number of workers raised before it may be said that more of them change nothing."""

_HAIR = 1e-12
"""What rounding may take from the mean of equal numbers."""


@dataclass(slots=True)
class WorkersSearch:
    """The numbers of workers that were tried for one policy.

    Attributes:
        first: The first number that is tried: with fewer, no policy meets the target.
        target: The SLO attainment to meet.
        lowest: The least number that the cluster takes.
        most: More than so many change nothing: the number of queries.
        attained: The attainment of each seed at each number of workers that was tried.
    """

    first: int
    target: float
    lowest: int = 1
    most: int = MAX_WORKERS
    attained: dict[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])

    def mean(self, workers: int) -> float:
        """Return the mean attainment over seeds with a number of workers that was tried."""
        return mean_and_half_width(self.attained[workers])[0]

    def meets(self, workers: int) -> bool:
        """Return whether the mean attainment meets the target with a number of workers that was tried."""
        return self.mean(workers) >= self.target - _HAIR

    @property
    def least(self) -> int | None:
        """The least number that was tried and meets the target."""
        return min((workers for workers in self.attained if self.meets(workers)), default=None)

    @property
    def uncertain(self) -> tuple[int, int] | None:
        """From the least number that meets the target to the largest that misses it, where these are in this order."""
        least, misses = self.least, max((n for n in self.attained if not self.meets(n)), default=0)
        return None if least is None or misses < least else (least, misses)

    def over_seeds(self) -> tuple[int, int] | None:
        """Return the least numbers that meet the target for one seed alone: the lowest and the highest over seeds."""
        numbers = sorted(self.attained)
        seeds = zip(*(self.attained[n] for n in numbers), strict=True)
        found = [next((n for n, a in zip(numbers, seed, strict=True) if a >= self.target), None) for seed in seeds]
        known = [n for n in found if n is not None]
        return (min(known), max(known)) if known and len(known) == len(found) else None

    def wanted(self) -> list[int]:
        """Return the numbers to try next; none when the search has ended."""
        least, tried = self.least, sorted(self.attained)
        if least is None:
            if self.saturated:
                return []
            return self._open([min(self.most, 2 * tried[-1] - self.first + 1) if tried else self.first])
        missed = max((n for n in tried if n < least), default=self.first - 1)
        if least - missed > 1:
            return self._open([(missed + least) // 2])
        low = max(self.lowest, least - NEARBY, min(least - 1, self.first))
        return self._open(list(range(low, least + NEARBY)))

    @property
    def saturated(self) -> bool:
        """Whether the attainment of no seed changed when the number of workers was doubled last."""
        tried = sorted(self.attained)
        return len(tried) > _DOUBLINGS and self.attained[tried[-1]] == self.attained[tried[-2]]

    def _open(self, numbers: list[int]) -> list[int]:
        return [n for n in numbers if n <= self.most and n not in self.attained]


@dataclass(slots=True)
class Needed:
    """The least number of workers of one policy at one point of the sweep.

    Attributes:
        runs: The runs of the experiment file, one a seed.
        rate_qps: The mean rate.
        search: The numbers that were tried.
        any_policy: The least number that any policy needs. None where no bound is known: of a trace that is too long to
            be held, and where only a part of the run is measured, since the bound counts every query.
        headroom: For each seed, the share by which the rate can grow.
        error: Why a run failed, or None.
    """

    runs: tuple[ExperimentRun, ...]
    rate_qps: float
    search: WorkersSearch
    any_policy: int | None
    headroom: tuple[float, ...] = ()
    error: RunOutcome | None = None

    def at(self, workers: int, at_rate: AtRate) -> list[ExperimentRun]:
        """Return the runs with a number of workers, one a seed."""
        return [changed(at_rate(run, self.rate_qps), "cluster", {"workers": workers}) for run in self.runs]

    def tried_rows(self) -> list[dict[str, Any]]:
        """Return a row for each number of workers that was tried and each seed."""
        run, least = self.runs[0], self.any_policy
        known = {"policy": run.label, "workers_any_policy": least, **run.swept}
        return [
            {**known, "seed": run.seed, "workers": workers, "slo_attainment": attained}
            for workers, each in sorted(self.search.attained.items())
            for run, attained in zip(self.runs, each, strict=True)
        ]

    def row(self) -> dict[str, Any]:
        """Return the columns of workers.csv; None where there is no value."""
        search, run = self.search, self.runs[0]
        least = None if self.error else search.least
        over_seeds = None if least is None else search.over_seeds()
        uncertain = None if least is None else search.uncertain

        def mean(values: Sequence[float] | None) -> tuple[float | None, float | None]:
            mean, half = mean_and_half_width(values) if values else (math.nan, math.nan)
            return None if math.isnan(mean) else mean, None if math.isnan(half) else half

        attainment = mean(None if least is None else search.attained[least])
        fewer = mean(None if least is None else search.attained.get(least - 1))
        headroom = mean(self.headroom)
        return {
            "policy": run.label,
            "trace": run.spec.trace_kind,
            "rate_qps": self.rate_qps,
            "target": search.target,
            "seeds": len(self.runs),
            "workers": least,
            "workers_from": over_seeds and over_seeds[0],
            "workers_to": over_seeds and over_seeds[1],
            "attainment": attainment[0],
            "attainment_half_width": attainment[1],
            "attainment_one_less": fewer[0],
            "attainment_one_less_half_width": fewer[1],
            "headroom": headroom[0],
            "headroom_half_width": headroom[1],
            "uncertain_from": uncertain and uncertain[0],
            "uncertain_to": uncertain and uncertain[1],
            "workers_any_policy": self.any_policy,
            **run.swept,
        }


def find_workers(trials: Trials, rate_qps: float) -> list[Needed]:
    """Return the least number of workers of each policy at each point of the sweep.

    Args:
        trials: The runs of the search.
        rate_qps: The mean rate of the whole trace in queries per second.

    Raises:
        SpecError: The trace has no rate, or workers or the rate are swept, or no number of workers meets the target.
        DataError: A recording breaks its rules.
        StoreError: Results can't be stored.
    """
    experiment, target = trials.experiment, trials.experiment.spec.capacity.target
    _check_workers(trials)
    check_sweep(trials)
    at_rate = AtRate()
    points: dict[int, dict[int, list[ExperimentRun]]] = {}
    for run in experiment.runs:
        points.setdefault(id(run.point), {}).setdefault(run.number, []).append(run)
    found = []
    for policies in points.values():
        lowest = 1 + max((fault.worker for fault in next(iter(policies.values()))[0].spec.cluster.faults), default=0)
        one = Needed(tuple(policies[0]), rate_qps, WorkersSearch(lowest, target, lowest), None)
        with told(one.runs[0]):
            _check_slo(one, at_rate)
            is_whole = one.runs[0].parts.measure == WHOLE_RUN
            any_policy = _any_policy(one, trials, at_rate) if is_whole else None
        first = max(lowest, any_policy or 1)
        found += [
            Needed(tuple(runs), rate_qps, WorkersSearch(first, target, lowest), any_policy)
            for runs in policies.values()
        ]
    _try_workers(found, trials, at_rate)
    _add_headroom(found, trials, at_rate)
    return found


@contextmanager
def told(run: ExperimentRun) -> Generator[None]:
    """Tell what a trace source of a user's own raises as that of a run.

    Raises:
        SsimError: It raised.
    """
    try:
        yield
    except SsimError:
        raise
    except (Exception, SystemExit) as error:
        raise run.failed(error) from error


def check_sweep(trials: Trials) -> None:
    """Check that neither the number of workers nor the rate is swept, and that no placement names workers.

    Raises:
        SpecError: One of the two is, or one does.
    """
    if any(run.parts.cluster.placement is not None for run in trials.experiment.runs):
        problem, hint = "names workers by number, whose number is looked for", "greedy or fast_greedy, or leave it out"
        raise SpecError("cluster.placement", problem, "", hint)
    workers = "cluster.workers"
    key = workers if workers in trials.experiment.swept else swept_rate(trials.experiment)
    if key is not None:
        raise SpecError("--rate", f"{key} is swept", "", "sweep another key: this one follows from --rate")


def _check_workers(trials: Trials) -> None:
    if trials.experiment.spec.planner is not None:
        hint = "leave out the planner, or look for the rate: leave out --rate"
        raise SpecError("--rate", "a number of workers is found where it does not change", "planner", hint)
    if trials.experiment.spec.cluster.kinds:
        hint = "look for the cheapest mix: --cheapest; or for the rate: leave out --rate"
        raise SpecError("--rate", "a number of workers is found for identical workers only", "cluster.kinds", hint)


def _check_slo(one: Needed, at_rate: AtRate) -> None:
    """Pass if unlimited workers could meet the target.

    Raises:
        SpecError: They could not.
    """
    run = one.at(one.search.lowest, at_rate)[0]
    cluster, source = run.parts.cluster, run.parts.source
    fastest = [
        min(int(cluster.least_ns(pool.table).min()) for pool in pools) + cluster.network_ns
        for pools in cluster.pools_by_queue(run.parts.table)
    ]
    if source.has_one_slo and not cluster.queues:
        possible = [float(source.slo_ms * 1e6 >= fastest[0])]
    elif run.parts.measure != WHOLE_RUN:
        return
    else:
        trace = in_queues(run.trace(), cluster.queues)
        codes = trace.class_codes if cluster.queues else None
        slos = trace.deadline_ns - trace.arrival_ns
        mine = [slos if codes is None else slos[codes == place] for place in range(len(fastest))]
        possible = [float((own >= ns).mean()) if len(own) else 1.0 for own, ns in zip(mine, fastest, strict=True)]
    share, place = min(zip(possible, range(len(possible)), strict=True))
    if share < one.search.target:
        what = f"no number of workers meets it: the fastest batch takes {format_ms(fastest[place])}, overhead included,"
        of = f" of queue {cluster.queues[place].name!r}" if cluster.queues else ""
        what += f" and {100 * share:.4g} % of queries{of} have an SLO of at least that"
        raise SpecError("capacity.target", what, f"{one.search.target:g}", "a longer slo_ms, or a faster subnet")


def _any_policy(one: Needed, trials: Trials, at_rate: AtRate) -> int | None:
    """Return the least number of workers that the upper bound on any policy leaves possible.

    None where the trace is too long for the bound.
    """

    def possible(workers: int) -> bool:
        bounds = [attainment_bound(run, trials.store) for run in one.at(workers, at_rate)]
        return mean_and_half_width(bounds)[0] >= one.search.target

    try:
        low, high = one.search.lowest - 1, one.search.lowest
        while not possible(high):
            low, high = high, 2 * high
            if high > MAX_WORKERS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if possible(middle) else (middle, high)
    except TooLongError:
        return None
    return high


def _try_workers(found: Sequence[Needed], trials: Trials, at_rate: AtRate) -> None:
    while asking := [(one, n) for one in found if one.error is None for n in one.search.wanted()]:
        probes = [(one, n, one.at(n, at_rate)) for one, n in asking]
        failed = trials.carry_out((run for _, _, runs in probes for run in runs), len({id(one) for one, _ in asking}))
        for one, n, runs in probes:
            ended = [failed[run.id] for run in runs if run.id in failed]
            manifests = [trials.store.manifest(run.id) for run in runs]
            if ended:
                one.error = ended[0]
            else:
                known = [manifest for manifest in manifests if manifest]
                one.search.attained[n] = tuple(map(attained, known))
                one.search.most = max(one.search.first, *(manifest["summary"]["queries"] for manifest in known))


def _add_headroom(found: Iterable[Needed], trials: Trials, at_rate: AtRate) -> None:
    """Search for the highest rate with the least number of workers."""
    spec = trials.experiment.spec.capacity
    searches = {}
    for one in found:
        if one.error is None and one.search.least is not None:
            runs = [changed(run, "cluster", {"workers": one.search.least}) for run in one.runs]
            searches[id(one)] = [Found(run, CapacitySearch(one.rate_qps, spec.target, spec.precision)) for run in runs]
    search_rates([search for each in searches.values() for search in each], trials, at_rate)
    for one in found:
        capacities = [search.capacity for search in searches.get(id(one), ())]
        errors = [search.error for search in searches.get(id(one), ()) if search.error]
        one.error = errors[0] if errors else one.error
        if one.search.least is not None and all(capacity is not None for capacity in capacities):
            # Where the rate itself meets the target, the capacity may lie below it by rounding to the grid alone.
            met = [attained >= spec.target for attained in one.search.attained[one.search.least]]
            growth = [capacity / one.rate_qps - 1 for capacity in capacities if capacity is not None]
            one.headroom = tuple(max(0.0, share) if meets else share for share, meets in zip(growth, met, strict=True))
