"""The tables of an experiment: summary.csv, a row a run, and comparison.csv, a row a policy at a point of the sweep."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Literal

from sim.base.errors import SpecError, StoreError
from sim.base.whole_file import translate_os_errors, write_text
from ssim.jobs.experiment.drawn import remove_stale
from ssim.jobs.experiment.points import by_point, side_by_side
from ssim.results.record import COSTS, LOADS, QUEUE_FIGURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ssim.jobs.experiment.points import PointRows
    from ssim.results.store import Store

    Stored = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]

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


def summary_rows(stored: Stored) -> list[dict[str, Any]]:
    """Return one row a stored run of the experiment, in the columns of summary.csv."""
    rows = []
    for run, manifest in stored:
        known = {name: run[name] for name in ("policy", "trace", "seed")}
        wall = {"wall_s": manifest["circumstances"]["wall_s"]}
        rows.append({**known, **manifest["summary"], **wall, **run["swept"], "run": run["id"]})
    return rows


def stored_points(store: Store) -> list[PointRows]:
    """Return the policies of an experiment by point of its sweep, of which there is at least one.

    Raises:
        SpecError: It is another kind of job.
        StoreError: No run is stored, or a result is damaged.
    """
    index = store.index()
    if index["job"] != "experiment/1":
        raise SpecError(index["name"], "can't be compared", str(index["job"]), "name stored experiments")
    points = by_point(index, store.runs())
    if not points:
        raise StoreError(str(store.folder), "no run is stored", "", "run the experiment first")
    return points


def part_rows(stored: Stored, what: Literal["class", "queue", "kind"]) -> list[dict[str, Any]]:
    """Return one row for each class of queries, queue, or kind of workers, in each stored run.

    The columns are those of classes.csv, queues.csv, or kinds.csv. Numbers of workers have a space between them.
    """
    rows = []
    for run, manifest in stored:
        known = {name: run[name] for name in ("policy", "trace", "seed")}
        for name, summary in manifest.get({"class": "classes", "queue": "queues", "kind": "kinds"}[what], {}).items():
            placed = {"placement": " ".join(map(str, summary["placement"]))} if "placement" in summary else {}
            rows.append({**known, what: name, **summary, **placed, **run["swept"], "run": run["id"]})
    return rows


def write_summary(store: Store, swept: Sequence[str]) -> list[PointRows]:
    """Write summary.csv, comparison.csv and the tables of parts of the stored runs, and return these by point.

    Without any run nothing is written; without classes of queries there is no classes.csv, without queues no
    queues.csv, without kinds of workers no kinds.csv.

    Figures of other runs are deleted: they must not lie beside the new tables.

    Args:
        store: The results of the experiment.
        swept: The keys that are swept.

    Raises:
        StoreError: A result is damaged, or a file can't be written.
    """
    remove_stale(store)
    stored = store.runs()
    points = by_point(store.index(), stored)
    if points:
        rows = summary_rows(stored)
        more = [name for name in (*QUEUE_FIGURES, *COSTS, *LOADS) if any(name in row for row in rows)]
        write_csv(summary_file(store), rows, [*COLUMNS, *more, *swept, "unfinished", "run"])
        rows = [one.columns() for one in side_by_side({store.folder.name: points})]
        write_csv(store.folder / "comparison.csv", rows, columns_of(rows))
        for parts, path in (
            (part_rows(stored, "class"), class_file(store)),
            (part_rows(stored, "queue"), queue_file(store)),
            (part_rows(stored, "kind"), kind_file(store)),
        ):
            if parts:
                write_csv(path, parts, columns_of(parts))
            else:
                with translate_os_errors(store.folder):
                    path.unlink(missing_ok=True)
    return points


def summary_file(store: Store) -> Path:
    """Return the path of summary.csv."""
    return store.folder / "summary.csv"


def class_file(store: Store) -> Path:
    """Return the path of classes.csv."""
    return store.folder / "classes.csv"


def queue_file(store: Store) -> Path:
    """Return the path of queues.csv."""
    return store.folder / "queues.csv"


def kind_file(store: Store) -> Path:
    """Return the path of kinds.csv."""
    return store.folder / "kinds.csv"


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write a table of runs as CSV: an empty field where there is no value.

    Raises:
        StoreError: It can't be written.
    """
    write_text(path, csv_text(rows, columns))


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a table, some rows of which may lack some; the longest rows have their order."""
    return list(dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row))


def csv_text(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return a table as CSV: an empty field where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
