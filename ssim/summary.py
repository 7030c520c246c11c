"""What an experiment amounts to: summary.csv, the table at the end of a run, and the paper's headline comparisons."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import policies
from sim.intervals import mean_and_half_width
from ssim.plugins import find_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ssim.run import Run
    from ssim.store import Store

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
    """

    swept: tuple[tuple[str, Any], ...]
    policy: str
    serves_one_model: bool
    runs: tuple[dict[str, Any], ...]

    def over_repeats(self, column: str) -> tuple[float, float]:
        """Return mean and half-width of the 95 % interval of a column; NaN where some repeat has no value."""
        values = [run[column] for run in self.runs]
        if any(value is None for value in values):
            return math.nan, math.nan
        return mean_and_half_width(values)

    @property
    def attainment(self) -> float:
        """Mean SLO attainment."""
        return self.over_repeats("slo_attainment")[0]

    @property
    def accuracy(self) -> float:
        """Mean serving accuracy in percent; NaN if some repeat met no SLO."""
        return self.over_repeats("mean_serving_accuracy")[0]


def summary_rows(runs: Iterable[Run], store: Store) -> list[dict[str, Any]]:
    """Return one row a stored run: the columns of summary.csv, then the swept keys, then the run's id."""
    rows = []
    for run in runs:
        manifest = store.manifest(run.id)
        if manifest is not None:
            known = {"policy": run.label, "trace": run.trace["kind"], "seed": run.seed}
            wall = {"wall_s": manifest["circumstances"]["wall_s"]}
            rows.append({**known, **manifest["summary"], **wall, **run.swept, "run": run.id})
    return rows


def as_csv(rows: Sequence[dict[str, Any]], swept: Sequence[str]) -> str:
    """Return summary.csv: an empty field where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *swept, "run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def by_policy(runs: Iterable[Run], rows: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows over repeats: by point of the sweep, then the best attainment first, then the best accuracy."""
    stored = {row["run"]: row for row in rows}
    groups: dict[tuple[tuple[tuple[str, Any], ...], str], list[Run]] = {}
    for run in runs:
        if run.id in stored:
            groups.setdefault((tuple((k, _hashable(v)) for k, v in run.swept.items()), run.label), []).append(run)
    points = list(dict.fromkeys(point for point, _ in groups))
    found = [
        Row(point, label, _serves_one_model(members[0]), tuple(stored[run.id] for run in members))
        for (point, label), members in groups.items()
    ]
    return sorted(found, key=lambda row: (points.index(row.swept), -row.attainment, -_known(row.accuracy)))


def headlines(rows: Sequence[Row]) -> list[str]:
    """Return the two comparisons that the paper's abstract makes, computed from one point of the sweep.

    The first policy that switches subnets is held against the systems that serve one model (Clipper+, INFaaS): the best
    accuracy among those that attain at least as much, and the best attainment among those that are at least as
    accurate. No lines where either side is missing.

    Args:
        rows: The rows of one point, in the order of the experiment file.
    """
    subject = next((row for row in rows if not row.serves_one_model), None)
    baselines = [row for row in rows if row.serves_one_model and not math.isnan(row.accuracy)]
    if subject is None or not baselines or math.isnan(subject.accuracy):
        return []
    return [_at_equal_attainment(subject, baselines), _at_equal_accuracy(subject, baselines)]


def _at_equal_attainment(subject: Row, baselines: Sequence[Row]) -> str:
    reaching = [row for row in baselines if row.attainment >= subject.attainment]
    start = f"At equal SLO attainment (>= {subject.attainment:.6f})"
    if not reaching:
        best = max(baselines, key=lambda row: row.attainment)
        return f"{start}: no baseline reaches it; the best is {best.policy} with {best.attainment:.6f}."
    best = max(reaching, key=lambda row: row.accuracy)
    gain = subject.accuracy - best.accuracy
    both = f"{subject.accuracy:.2f} against {best.accuracy:.2f} %"
    return f"{start}: {subject.policy} is {gain:+.2f} points more accurate than {best.policy} ({both})."


def _at_equal_accuracy(subject: Row, baselines: Sequence[Row]) -> str:
    reaching = [row for row in baselines if row.accuracy >= subject.accuracy]
    start = f"At equal accuracy (>= {subject.accuracy:.2f} %)"
    if not reaching:
        best = max(baselines, key=lambda row: row.accuracy)
        return f"{start}: no baseline reaches it; the best is {best.policy} with {best.accuracy:.2f} %."
    best = max(reaching, key=lambda row: row.attainment)
    if best.attainment == 0:
        return f"{start}: {subject.policy} attains {subject.attainment:.6f}, {best.policy} nothing."
    ratio = subject.attainment / best.attainment
    both = f"{subject.attainment:.6f} against {best.attainment:.6f}"
    return f"{start}: {subject.policy} attains {ratio:.2f}x the SLOs of {best.policy} ({both})."


def _serves_one_model(run: Run) -> bool:
    owner = find_class(run.policy.use, policies.SHORT_NAMES, "policy", run.folder)
    return bool(getattr(owner, "serves_one_model", False))


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value
