"""Stored runs by point of the sweep and policy: means over seeds, and differences from a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from sim.base.intervals import mean_and_half_width
from ssim.jobs.experiment.comparison import Side, difference, headlines
from ssim.jobs.identity import hash_of
from ssim.results.record import COSTS, LOADS, QUEUE_FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ssim.jobs.experiment.comparison import PairedDifference

    Stored = Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]


MEASURED = ("slo_attainment", "mean_serving_accuracy", "p99_latency_ms")
"""Columns of summary.csv that a comparison shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one point of the sweep, over its repeats.

    Attributes:
        policy: The policy's label.
        serves_one_model: Whether it is a system that serves one model whatever the load.
        is_random: Whether its runs depend on the seed.
        summaries: The figures of its stored runs by seed.
        repeats: How many seeds there ought to be.
        arrivals: A hash of what decides the arrivals that count, but for the seed.
        classes: The figures of each class of queries, or of each queue, where there are any, by name and seed.
    """

    policy: str
    serves_one_model: bool
    is_random: bool
    summaries: Mapping[int, Mapping[str, Any]]
    repeats: int
    arrivals: str
    classes: Mapping[str, Mapping[int, Mapping[str, Any]]]

    def over_repeats(self, column: str, of_class: str | None = None) -> tuple[float, float]:
        """Return mean and half-width of the 95 % interval of a column, over the repeats that have a value; else NaN.

        Args:
            column: A column of summary.csv.
            of_class: The class of queries, or the queue, that it is about; all if None.
        """
        summaries = self.summaries if of_class is None else self.classes[of_class]
        values = [summary[column] for summary in summaries.values() if summary.get(column) is not None]
        return mean_and_half_width(values) if values else (math.nan, math.nan)

    @property
    def name(self) -> str:
        """The policy's label, and how many of its seeds are stored if some are missing."""
        return self.policy if self.is_whole else f"{self.policy} ({len(self.summaries)} of {self.repeats} seeds)"

    @property
    def is_whole(self) -> bool:
        """Whether the runs of all repeats are stored."""
        return len(self.summaries) == self.repeats

    @property
    def side(self) -> Side:
        """The policy as one side of a comparison."""
        attainments = {seed: summary["slo_attainment"] for seed, summary in self.summaries.items()}
        accuracies = {seed: summary["mean_serving_accuracy"] for seed, summary in self.summaries.items()}
        known = {seed: accuracy for seed, accuracy in accuracies.items() if accuracy is not None}
        return Side(self.policy, attainments, known, self.is_random)


@dataclass(frozen=True)
class PointRows:
    """The policies at one point of the sweep.

    Attributes:
        swept: The values of the point by dotted key.
        rows: One a policy of which a run is stored, in the order of the experiment file.
        reference: The label of the policy that the others are compared with.
    """

    swept: Mapping[str, Any]
    rows: tuple[Row, ...]
    reference: str

    def __str__(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.swept.items())

    @cached_property
    def ranked(self) -> list[Row]:
        """The rows, the best attainment first, then the best accuracy."""

        def rank(row: Row) -> tuple[float, float]:
            side = row.side
            return -side.attainment, 1.0 if math.isnan(side.accuracy) else -side.accuracy

        return sorted(self.rows, key=rank)

    @cached_property
    def classes(self) -> list[tuple[str, list[Row]]]:
        """The classes of queries, or the queues, each with the policies that have it, in the order of `ranked`."""
        names = dict.fromkeys(name for row in self.rows for name in row.classes)
        return [(name, [row for row in self.ranked if name in row.classes]) for name in names]

    @property
    def headlines(self) -> list[str]:
        """The two comparisons that the paper's abstract makes, in words."""
        whole = [row for row in self.rows if row.is_whole]
        switching, single = ([row.side for row in whole if row.serves_one_model is one] for one in (False, True))
        return headlines(switching, single)


def by_point(index: Mapping[str, Any], stored: Stored) -> list[PointRows]:
    """Return the policies of each point of the sweep, in the order of the experiment file.

    Args:
        index: The index of the experiment, as `Store.index` returns it.
        stored: The rows of the index whose runs are stored, each with the manifest of its run.
    """
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for run in index["runs"]:
        groups.setdefault(hash_of(run["swept"]), {}).setdefault(run["policy"], []).append(run)
    manifests = {run["id"]: manifest for run, manifest in stored}
    points = []
    for policies in groups.values():
        rows = [_row(runs, manifests) for runs in policies.values() if any(run["id"] in manifests for run in runs)]
        if rows:
            first = next(iter(policies.values()))[0]
            points.append(PointRows(first["swept"], tuple(rows), first.get("reference", first["policy"])))
    return points


def _row(runs: Sequence[Mapping[str, Any]], manifests: Mapping[str, Mapping[str, Any]]) -> Row:
    first, there = runs[0], [run for run in runs if run["id"] in manifests]
    summaries = {run["seed"]: manifests[run["id"]]["summary"] for run in there}
    identity = manifests[there[0]["id"]]["identity"]
    arrivals = hash_of([identity["trace"], identity.get("measure")])
    classes: dict[str, dict[int, Mapping[str, Any]]] = {}
    for run in there:
        manifest = manifests[run["id"]]
        for name, summary in manifest.get("queues", manifest.get("classes", {})).items():
            if summary["queries"]:
                classes.setdefault(name, {})[run["seed"]] = summary
    is_random = first.get("random", True)
    return Row(first["policy"], first["one_model"], is_random, summaries, len(runs), arrivals, classes)


@dataclass(frozen=True, slots=True)
class Compared:
    """A policy at a point of an experiment, beside the reference.

    Attributes:
        experiment: The name of the experiment.
        swept: The values of the point by dotted key.
        row: The policy over its seeds.
        reference: The label of the reference.
        difference: Its difference from the reference; None for the reference itself, and where a seed failed.
        is_reference: Whether it is the reference.
    """

    experiment: str
    swept: Mapping[str, Any]
    row: Row
    reference: str
    difference: PairedDifference | None
    is_reference: bool

    def columns(self) -> dict[str, Any]:
        """Return the columns of comparison.csv; None where there is no value."""
        nothing = (math.nan, math.nan)
        known = {name for summary in self.row.summaries.values() for name in summary}
        more = [name for name in (*QUEUE_FIGURES, *COSTS, *LOADS) if name in known]
        estimates = {name: self.row.over_repeats(name) for name in (*MEASURED, *more)}
        estimates["slo_attainment_difference"] = self.difference.attainment if self.difference else nothing
        estimates["mean_serving_accuracy_difference"] = self.difference.accuracy if self.difference else nothing
        numbers: dict[str, float] = {}
        for name, (mean, half) in estimates.items():
            numbers |= {name: mean, f"{name}_half_width": half}
        told = {"policy": self.row.policy, "reference": self.reference, "seeds": len(self.row.summaries)}
        found = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {"experiment": self.experiment, **self.swept, **told, **found}


def side_by_side(experiments: Mapping[str, Sequence[PointRows]]) -> list[Compared]:
    """Return the policies of experiments, each with its difference from the reference of the first experiment.

    A point is paired with the point of the first experiment that has the same swept values, or with its only point if
    it sweeps nothing. Pairs must have met the same arrivals: the same trace, measured interval and seeds.

    Args:
        experiments: Their points by name; the first one has the reference.

    Raises:
        SpecError: A point can't be paired with one of the first experiment.
    """
    (first_name, first), *others = experiments.items()
    found = [compared for point in first for compared in _of_point(first_name, point, point)]
    for name, points in others:
        for point in points:
            found += _of_point(name, point, _partner(name, point, first_name, first))
    return found


def _partner(name: str, point: PointRows, first_name: str, first: Sequence[PointRows]) -> PointRows:
    """Return the point of the first experiment that a point is paired with."""
    same = [other for other in first if other.swept == point.swept]
    if not same and len(first) == 1 and not first[0].swept:
        same = list(first)
    if not same:
        values = ", ".join(f"{key} = {value}" for key, value in point.swept.items()) or "no swept value"
        raise SpecError(name, f"a point has no counterpart in {first_name}", values, "compare equal sweeps")
    return same[0]


def _of_point(name: str, point: PointRows, partner: PointRows) -> Iterator[Compared]:
    """Yield the policies of a point, compared with the reference of its partner."""
    reference = next((row for row in partner.rows if row.policy == partner.reference and row.is_whole), None)
    for row in point.ranked:
        is_reference = point is partner and row.policy == partner.reference
        found = None
        if reference is not None and row.is_whole and not is_reference:
            if point is not partner:
                _check_pair(name, row, reference)
            found = difference(row.side, reference.side)
        yield Compared(name, point.swept, row, partner.reference, found, is_reference)


def _check_pair(name: str, row: Row, reference: Row) -> None:
    """Check that two policies met the same arrivals.

    Raises:
        SpecError: They did not.
    """
    problem = "can't be paired by seed"
    if row.arrivals != reference.arrivals:
        hint = "compare experiments with the same `trace` and `measure`"
        raise SpecError(name, problem, "its arrivals differ from the reference's", hint)
    seeds, others = list(row.summaries), list(reference.summaries)
    if row.is_random and reference.is_random and set(seeds) != set(others):
        value = f"seeds {_range(seeds)} against the reference's {_range(others)}"
        raise SpecError(name, problem, value, "run both with the same `seed` and `repeats`")


def _range(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
