"""The cheapest mix of kinds of workers with which each policy of an experiment meets an SLO attainment at a mean rate.

A *mix* is a number of workers of each kind, some of them 0. All seeds run with each mix that is tried, and the mean
attainment over seeds decides. Of each set of kinds, one worker of each is doubled until the target is met or the mix
costs more than one that meets it. Then the mix in the middle, by price, of all that are cheaper and still open is
tried, until none is open. A mix is left out if one of the same kinds with at least as many workers of each missed the
target. That is an assumption, so the nearby cheaper mixes are tried in the end, whatever was left out.

Sets of kinds are searched apart since a slow kind can do harm: a policy may send it queries that it answers late.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from policies.placement import kinds_with_room
from sim.base.errors import SpecError
from sim.base.intervals import mean_and_half_width
from ssim.execution.capacity import attained
from ssim.execution.rates import AtRate
from ssim.execution.workers import check_sweep, told
from ssim.jobs.experiment.placement import search_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ssim.execution.capacity import Trials
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.job import Point, RunOutcome

    Mix: TypeAlias = tuple[int, ...]
    """Workers of each kind, in the order of the cluster."""

NEARBY = 2
"""Mixes that differ from the answer by so many workers are tried in the end."""

MOST_MIXES = 300_000
"""Limit on the mixes that may be the cheapest: more take too long to sort out."""

_HAIR = 1e-12
"""What rounding may take from the mean of equal numbers, or from a sum of prices."""

_DOUBLINGS = 3
"""So often are workers doubled before it may be said that more of them change nothing."""


@dataclass(slots=True)
class MixSearch:
    """The mixes that were tried for one policy.

    Attributes:
        prices: The price of a worker of each kind for an hour; positive.
        target: The SLO attainment to meet.
        attained: The attainment of each seed with each mix that was tried.
    """

    prices: tuple[float, ...]
    target: float
    attained: dict[Mix, tuple[float, ...]] = field(default_factory=dict[tuple[int, ...], tuple[float, ...]])

    def cost(self, mix: Mix) -> float:
        """Return the price of a mix for an hour."""
        cost = sum(price * workers for price, workers in zip(self.prices, mix, strict=True))
        return float(f"{cost:.12g}")  # three workers at 0.2 cost 0.6, not 0.6000000000000001

    def mean(self, mix: Mix) -> float:
        """Return the mean attainment over seeds with a mix that was tried."""
        return mean_and_half_width(self.attained[mix])[0]

    def meets(self, mix: Mix) -> bool:
        """Return whether the mean attainment meets the target with a mix that was tried."""
        return self.mean(mix) >= self.target - _HAIR

    @property
    def cheapest(self) -> Mix | None:
        """The cheapest mix that was tried and meets the target; of several the one that attains most."""
        met = [mix for mix in self.attained if self.meets(mix)]
        return min(met, key=lambda mix: (self.cost(mix), -self.mean(mix), mix), default=None)

    def cost_by_seed(self) -> tuple[float, float] | None:
        """Return the lowest and the highest cost over seeds of the cheapest mix that meets the target for one seed."""
        found = []
        for seed in range(len(next(iter(self.attained.values()), ()))):
            met = [self.cost(mix) for mix, each in self.attained.items() if each[seed] >= self.target]
            if not met:
                return None
            found.append(min(met))
        return (min(found), max(found)) if found else None

    def wanted(self) -> list[Mix]:
        """Return the mixes to try next; none when the search has ended.

        Raises:
            SpecError: Too many mixes may be the cheapest.
        """
        if doubled := list(self._doubled()):
            return doubled
        best = self.cheapest
        if best is None:
            return []
        if left := sorted(self._open(best), key=lambda mix: (self.cost(mix), mix)):
            return [left[len(left) // 2]]
        return self._nearby(best)

    def _doubled(self) -> Iterator[Mix]:
        """Yield the next mix of each set of kinds of which none met the target yet."""
        best = self.cheapest
        for some in itertools.product((0, 1), repeat=len(self.prices)):
            tried = [mix for mix in self.attained if set(mix) <= {0, max(mix)} and tuple(map(bool, mix)) == some]
            last = sorted(tried, key=max)[-2:]
            if not any(some) or any(self.meets(mix) for mix in tried):
                continue
            if len(tried) > _DOUBLINGS and self.attained[last[0]] == self.attained[last[1]]:
                continue  # more workers change nothing
            mix = tuple(workers * 2 ** len(tried) for workers in some)
            if best is None or self.cost(mix) < self.cost(best) - _HAIR:
                yield mix

    def _open(self, best: Mix) -> Iterator[Mix]:
        """Yield the mixes that cost less than one that meets the target, and may meet it, too.

        Raises:
            SpecError: There are too many.
        """
        limit = self.cost(best) - _HAIR
        missed = [mix for mix in self.attained if not self.meets(mix)]
        ranges = [range(int(limit / price) + 1) for price in self.prices]
        count = 1
        for one in ranges:
            count *= len(one)
        if count > MOST_MIXES:
            hint = "fewer kinds, a lower rate or larger workers"
            raise SpecError("--cheapest", "too many mixes of workers may be the cheapest", f"{count}", hint)
        for mix in itertools.product(*ranges):
            if any(mix) and mix not in self.attained and self.cost(mix) < limit:
                kinds = tuple(map(bool, mix))
                if not any(_is_less(mix, other) and tuple(map(bool, other)) == kinds for other in missed):
                    yield mix

    def _nearby(self, best: Mix) -> list[Mix]:
        steps = itertools.product(range(-NEARBY, NEARBY + 1), repeat=len(best))
        near = [tuple(map(sum, zip(best, step, strict=True))) for step in steps if sum(map(abs, step)) <= NEARBY]
        limit = self.cost(best) - _HAIR
        return [
            mix for mix in near if min(mix) >= 0 and any(mix) and self.cost(mix) < limit and mix not in self.attained
        ]


def _is_less(mix: Mix, other: Mix) -> bool:
    return all(workers <= most for workers, most in zip(mix, other, strict=True))


@dataclass(slots=True)
class Cheapest:
    """The cheapest mix of one policy at one point of the sweep.

    Attributes:
        runs: The runs of the experiment file, one a seed.
        rate_qps: The mean rate.
        search: The mixes that were tried.
        error: Why a run failed, or None.
    """

    runs: tuple[ExperimentRun, ...]
    rate_qps: float
    search: MixSearch
    error: RunOutcome | None = None

    @property
    def kinds(self) -> list[str]:
        """The names of the kinds of workers."""
        return [kind.name for kind in self.runs[0].spec.cluster.kinds]

    def has_room(self, mix: Mix) -> bool:
        """Return whether a mix has memory for the model of each queue, where a placement is searched."""
        run = self.runs[0]
        if search_rule(run.spec) is None:
            return True
        there = {name for name, workers in zip(self.kinds, mix, strict=True) if workers}
        return all(kinds & there for kinds in kinds_with_room(run.setup.cluster, run.setup.table))

    def at(self, mix: Mix, at_rate: AtRate) -> list[ExperimentRun]:
        """Return the runs with a mix, one a seed."""
        with told(self.runs[0]):
            return [_with_mix(at_rate(run, self.rate_qps), mix) for run in self.runs]

    def tried_rows(self) -> list[dict[str, Any]]:
        """Return a row for each mix that was tried and each seed: the columns of mixes.csv."""
        search = self.search
        return [
            {
                "policy": run.label,
                "seed": run.seed,
                **{f"workers_{name}": workers for name, workers in zip(self.kinds, mix, strict=True)},
                "price_per_h": search.cost(mix),
                "currency": run.spec.cluster.currency,
                "slo_attainment": attained,
                "target": search.target,
                **run.swept,
            }
            for mix, each in sorted(search.attained.items(), key=lambda one: (search.cost(one[0]), one[0]))
            for run, attained in zip(self.runs, each, strict=True)
        ]

    def row(self) -> dict[str, Any]:
        """Return the columns of cheapest.csv; None where there is no value."""
        search, run = self.search, self.runs[0]
        best = None if self.error else search.cheapest
        mean, half = mean_and_half_width(search.attained[best]) if best else (None, None)
        by_seed = search.cost_by_seed() if best else None
        return {
            "policy": run.label,
            "trace": run.spec.trace_kind,
            "rate_qps": self.rate_qps,
            "target": search.target,
            "seeds": len(self.runs),
            **{f"workers_{name}": best and best[place] for place, name in enumerate(self.kinds)},
            "price_per_h": best and search.cost(best),
            "currency": run.spec.cluster.currency,
            "price_from": by_seed and by_seed[0],
            "price_to": by_seed and by_seed[1],
            "attainment": mean,
            "attainment_half_width": half if half == half else None,  # noqa: PLR0124 - NaN for one seed
            "mixes_tried": len(search.attained),
            **run.swept,
        }


def find_cheapest(trials: Trials, rate_qps: float) -> list[Cheapest]:
    """Return the cheapest mix of kinds of workers for each policy at each point of the sweep.

    Args:
        trials: The runs of the search.
        rate_qps: The mean rate of the whole trace in queries per second.

    Raises:
        SpecError: There are no kinds, they have no price, workers fail by number or come and go, the rate or a number
            of workers is swept, or too many mixes may be the cheapest.
        DataError: A recording breaks its rules.
        StoreError: Results can't be stored.
    """
    target = trials.experiment.spec.capacity.target
    _check(trials)
    at_rate = AtRate()
    groups: dict[tuple[int, int], list[ExperimentRun]] = {}
    for run in trials.experiment.runs:
        groups.setdefault((id(run.point), run.number), []).append(run)
    found = []
    for runs in groups.values():
        prices = tuple(float(kind.price_per_h or 0) for kind in runs[0].spec.cluster.kinds)
        found.append(Cheapest(tuple(runs), rate_qps, MixSearch(prices, target)))
    while asking := [(one, mix) for one in found if one.error is None for mix in one.search.wanted()]:
        probes = [(one, mix, one.at(mix, at_rate)) for one, mix in asking if one.has_room(mix)]
        for one, mix in asking:
            if not one.has_room(mix):  # a queue that no worker serves meets no SLO
                one.search.attained[mix] = (0.0,) * len(one.runs)
        failed = trials.carry_out((run for _, _, runs in probes for run in runs), len({id(one) for one, _ in asking}))
        for one, mix, runs in probes:
            _note(one, mix, runs, trials, failed)
    return found


def _note(
    one: Cheapest, mix: Mix, runs: Sequence[ExperimentRun], trials: Trials, failed: dict[str, RunOutcome]
) -> None:
    ended = [failed[run.id] for run in runs if run.id in failed]
    manifests = [trials.store.manifest(run.id) for run in runs]
    if ended:
        one.error = ended[0]
    else:
        one.search.attained[mix] = tuple(attained(manifest) for manifest in manifests if manifest)


def _check(trials: Trials) -> None:
    check_sweep(trials)
    for run in trials.experiment.runs:
        cluster = run.spec.cluster
        if not cluster.kinds:
            hint = "give cluster.kinds, or leave out --cheapest"
            raise SpecError("--cheapest", "the cluster has no kinds of workers", "", hint)
        for number, kind in enumerate(cluster.kinds):
            if not kind.price_per_h:
                problem, value = "needs a price to find the cheapest mix", f"{kind.name}: {kind.price_per_h}"
                raise SpecError(f"cluster.kinds.{number}.price_per_h", problem, value, "above 0, for all kinds")
        if cluster.faults:
            problem = "name workers by number, and the cheapest mix has other numbers"
            raise SpecError("cluster.faults", problem, "", "leave them out with --cheapest")
        if run.parts.cluster.is_scaled:
            raise SpecError("planner", "changes the number of workers that --cheapest looks for", "", "leave it out")
    for key in trials.experiment.swept:
        if key.startswith("cluster.kinds") and key.rpartition(".")[2] in {"kinds", "workers"}:
            raise SpecError("--cheapest", f"{key} is swept", "", "sweep another key: the mix is what is looked for")


def _with_mix(run: ExperimentRun, mix: Mix) -> ExperimentRun:
    """Return a run with a mix, of which no more than the summary is kept."""
    point: Point = run.point
    kinds: list[dict[str, Any]] = point.content["cluster"]["kinds"]
    taken: list[dict[str, Any]] = [
        {**kind, "workers": workers} for kind, workers in zip(kinds, mix, strict=True) if workers
    ]
    content: dict[str, Any] = {
        **point.content,
        "cluster": {**point.content["cluster"], "kinds": taken},
        "keep": "summary",
    }
    if all(kind.get("table") for kind in taken):
        content.pop("latency_table", None)  # of kinds that are left out
    if "queues" in content:
        names: list[str] = [kind["name"] for kind in taken]
        content["queues"] = [_with_kinds(queue, names) for queue in content["queues"]]
    numbers = {f"cluster.kinds.{kind['name']}.workers": workers for kind, workers in zip(kinds, mix, strict=True)}
    return dataclasses.replace(run, point=dataclasses.replace(point, content=content, swept=point.swept | numbers))


def _with_kinds(queue: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a queue of a file with the tables of some kinds only."""
    tables = queue.get("tables")
    return queue if not tables else {**queue, "tables": [table for table in tables if table["kind"] in names]}
