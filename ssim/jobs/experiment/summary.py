"""What an experiment amounts to: summary.csv, the table at the end of a run, and the paper's headline comparisons."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.base.intervals import mean_and_half_width
from sim.base.whole_file import whole_file
from ssim.jobs.experiment.comparison import Side, gain_at_equal_attainment, ratio_at_equal_accuracy
from ssim.jobs.experiment.drawn import remove_stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.results.store import Store

COLUMNS = (
    "policy",
    "trace",
    "seed",
    "queries",
    "slo_attainment",
    "mean_serving_accuracy",
    "dropped",
    "late",
    "p50_latency_ms",
    "p99_latency_ms",
    "utilisation",
    "mean_batch_size",
    "wall_s",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one point of the sweep, over its repeats.

    Attributes:
        swept: The point of the sweep.
        policy: The policy's label.
        serves_one_model: Whether it is a system that serves one model whatever the load.
        runs: One dict a seed, in the columns of summary.csv.
        repeats: How many seeds there ought to be.
    """

    swept: tuple[tuple[str, Any], ...]
    policy: str
    serves_one_model: bool
    runs: tuple[dict[str, Any], ...]
    repeats: int

    def over_repeats(self, column: str) -> tuple[float, float]:
        """Return mean and half-width of the 95 % interval of a column, over the repeats that have a value; else NaN."""
        values = [run[column] for run in self.runs if run[column] is not None]
        return mean_and_half_width(values) if values else (math.nan, math.nan)

    @property
    def side(self) -> Side:
        """The policy as one side of a comparison."""
        attainments = {run["seed"]: run["slo_attainment"] for run in self.runs}
        accuracies = {run["seed"]: run["mean_serving_accuracy"] for run in self.runs}
        known = {seed: accuracy for seed, accuracy in accuracies.items() if accuracy is not None}
        return Side(self.policy, attainments, known)

    @property
    def attainment(self) -> float:
        """SLO attainment, mean over repeats."""
        return self.side.attainment

    @property
    def accuracy(self) -> float:
        """Mean serving accuracy in percent, over the repeats in which some query met its SLO; else NaN."""
        return self.side.accuracy


def summary_rows(store: Store) -> list[dict[str, Any]]:
    """Return one row a stored run of the experiment, in the columns of summary.csv."""
    rows = []
    for run in store.index()["runs"]:
        manifest = store.manifest(run["id"])
        if manifest is not None:
            known = {name: run[name] for name in ("policy", "trace", "seed")}
            wall = {"wall_s": manifest["circumstances"]["wall_s"]}
            rows.append({**known, **manifest["summary"], **wall, **run["swept"], "run": run["id"]})
    return rows


def write_summary(store: Store, swept: Sequence[str]) -> list[dict[str, Any]]:
    """Write summary.csv of the stored runs and return its rows; without any run, write nothing.

    Figures of other runs are deleted: they must not lie beside the new table.

    Args:
        store: The results of the experiment.
        swept: The keys that are swept.

    Raises:
        StoreError: A result is damaged, or a file can't be written.
    """
    remove_stale(store)
    rows = summary_rows(store)
    if rows:
        write_csv(summary_file(store), rows, [*COLUMNS, *swept, "unfinished", "run"])
    return rows


def summary_file(store: Store) -> Path:
    """Return the path of summary.csv."""
    return store.folder / "summary.csv"


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write a table of runs as CSV: an empty field where there is no value.

    Raises:
        StoreError: It can't be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


def by_policy(runs: Iterable[ExperimentRun], rows: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows over repeats: by point of the sweep, then the best attainment first, then the best accuracy."""
    stored = {row["run"]: row for row in rows}
    groups: dict[tuple[tuple[tuple[str, Any], ...], str], list[ExperimentRun]] = {}
    for run in runs:
        groups.setdefault((tuple((k, _hashable(v)) for k, v in run.swept.items()), run.label), []).append(run)
    points = list(dict.fromkeys(point for point, _ in groups))
    found = [
        Row(point, label, members[0].serves_one_model, tuple(stored[run.id] for run in there), len(members))
        for (point, label), members in groups.items()
        if (there := [run for run in members if run.id in stored])
    ]
    return sorted(found, key=lambda row: (points.index(row.swept), -row.attainment, -_known(row.accuracy)))


def headlines(rows: Sequence[Row]) -> list[str]:
    """Return the two comparisons that the paper's abstract makes, in words, for one point of the sweep.

    The first policy that switches subnets is held against those that serve one model. No lines where either side is
    missing; policies of which some repeat failed are left out.

    Args:
        rows: The rows of one point, in the order of the experiment file.
    """
    whole = [row for row in rows if len(row.runs) == row.repeats]
    subject = next((row.side for row in whole if not row.serves_one_model), None)
    baselines = [row.side for row in whole if row.serves_one_model and not math.isnan(row.accuracy)]
    if subject is None or not baselines or math.isnan(subject.accuracy):
        return []
    return [_at_equal_attainment(subject, baselines), _at_equal_accuracy(subject, baselines)]


def _at_equal_attainment(subject: Side, baselines: Sequence[Side]) -> str:
    found = gain_at_equal_attainment(subject, baselines)
    start = f"At equal SLO attainment (>= {subject.attainment:.6f})"
    if found is None:
        best = max(baselines, key=lambda side: side.attainment)
        return f"{start}: no baseline reaches it; the best is {best.policy} with {best.attainment:.6f}."
    both = f"{subject.accuracy:.2f} against {found.baseline.accuracy:.2f} %"
    more = "more" if found.mean >= 0 else "less"
    gain = f"{abs(found.mean):.2f} points {more} accurate"
    return f"{start}: {subject.policy} is {gain} than {found.baseline.policy} ({both})."


def _at_equal_accuracy(subject: Side, baselines: Sequence[Side]) -> str:
    found = ratio_at_equal_accuracy(subject, baselines)
    start = f"At equal accuracy (>= {subject.accuracy:.2f} %)"
    if found is None:
        best = max(baselines, key=lambda side: side.accuracy)
        if best.accuracy >= subject.accuracy:
            return f"{start}: {subject.policy} attains {subject.attainment:.6f}, {best.policy} nothing."
        return f"{start}: no baseline reaches it; the best is {best.policy} with {best.accuracy:.2f} %."
    both = f"{subject.attainment:.6f} against {found.baseline.attainment:.6f}"
    return f"{start}: {subject.policy} attains {found.mean:.2f}x the SLOs of {found.baseline.policy} ({both})."


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value
