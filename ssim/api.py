"""The toolkit from Python: a file is run, and its stored results are read, compared and plotted.

For scripts and notebooks. What the command line does, this does by the same functions: the same files, the same stored
results, nothing computed twice.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd

from sim.base.cores import usable_cores
from sim.base.errors import SpecError, SsimError, StoreError, did_you_mean
from ssim.execution.runner import run_job
from ssim.files.own_modules import forget_modules
from ssim.files.shipped import find_file
from ssim.jobs.reading import read_job
from ssim.results.record import BATCHES, REQUESTS, WINDOWS, read_output
from ssim.results.store import Store
from ssim.results.stored import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from ssim.jobs.job import RunOutcome

_SAID_AFTER_S = 2.0
"""A shorter run says nothing of its progress."""


def run(
    file: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "results",
    jobs: int | None = None,
    force: bool = False,
    watch: Callable[[Any, Any], None] | None = None,
    **settings: Any,
) -> JobResults:
    """Run a file of any kind, as `ssim run` does, and return its results.

    Args:
        file: A path, or the short name of a shipped file (`azure`).
        out: The folder of all results.
        jobs: Number of runs at once; the number of cores by default, 1 with `watch`.
        force: Run again what is stored already.
        watch: Called with the run and each of its steps while it is done, for a hook to other tools: for a round of a
            federated training a mapping with `round`, `worker`, `time_s`, `bytes`, `loss`, and `accuracy` by subnet.
        **settings: Values of dotted keys, as `--set` takes them: `**{"trace.cv2": 8}`.

    Returns:
        The results: `ExperimentResults` for an experiment.

    Raises:
        SpecError: Something in the file or the settings is wrong; names all of it.
        StoreError: Results can't be stored.
        SsimError: A run failed. All others are stored: `load` returns them.

    Examples:
        >>> ssim.run("azure", **{"trace.mean_qps": 4000}).compare()  # doctest: +SKIP
    """
    if watch is not None and (jobs or 1) > 1:
        raise SpecError("watch", "not possible with several runs at once", f"jobs={jobs}", "leave out jobs")
    path = find_file("experiments", os.fspath(file), lambda line: print(f"ssim: {line}", file=sys.stderr))  # noqa: T201
    forget_modules()
    job = read_job(path, [f"{key}={_written(key, value)}" for key, value in settings.items()])
    store = Store(Path(out) / job.name)
    with store.writing(), _Progress() as progress:
        failed = run_job(
            job,
            store,
            jobs=1 if watch else jobs or usable_cores(),
            force=force,
            watch=watch,
            on_start=progress.start,
            on_finished=progress.finished,
        )
        results = _results(store)
        results.write_tables()
    if failed:
        raise _failure(failed, len(job.runs), results)
    return results


def load(name: str, out: str | os.PathLike[str] = "results") -> JobResults:
    """Return the stored results of a job, without running anything.

    Args:
        name: The name of the job.
        out: The folder of all results.

    Raises:
        StoreError: Nothing is stored under this name; lists the names.
    """
    return _results(stored(Path(out), name))


def _results(store: Store) -> JobResults:
    index = store.index()
    of_job = ExperimentResults if index["job"] == ExperimentResults.schema else JobResults
    return of_job(_Snapshot(store.folder, index))


@dataclass(frozen=True, slots=True)
class _Snapshot(Store):
    """Stored results whose index stays as it was: a later run of the same job, with other settings, has another."""

    known: dict[str, Any]

    def index(self) -> dict[str, Any]:
        """Return the index as it was."""
        return self.known


def _written(key: str, value: object) -> str:
    """Return a value as `--set` takes it; JSON is YAML.

    Raises:
        SpecError: The value has no YAML form.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        return json.dumps(value, default=lambda array: array.tolist())
    except (AttributeError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise SpecError(key, "can't be written in YAML", kind, "a number, string, list or mapping") from error


def _failure(failed: list[RunOutcome], of: int, results: JobResults) -> SsimError:
    reasons = dict.fromkeys(f"{one.run}: {one.error}" for one in failed)
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    way_out = f"`ssim.load` returns the others, stored in {results.folder}"
    return SsimError(f"{len(failed)} of {of} runs failed", next(iter(reasons)) + more, "", way_out)


class _Progress:
    """One line on stderr that counts runs, for jobs of more than two seconds."""

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        self._done = self._todo = 0
        self._has_line = False
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_line:
            print(file=sys.stderr)  # noqa: T201 - this is what a notebook shows

    def start(self, todo: int, _stored: int) -> None:
        self._todo = todo

    def finished(self, _one: RunOutcome) -> None:
        self._done += 1
        if time.monotonic() - self._begin > _SAID_AFTER_S:
            self._has_line = True
            print(f"\r{self._done} of {self._todo} runs", end="", file=sys.stderr, flush=True)  # noqa: T201


@dataclass(frozen=True, slots=True)
class JobResults:
    """The stored results of a job, as it was when they were asked for; the runs themselves are read at each call.

    Attributes:
        store: The folder of the job, and how it is read.
    """

    store: Store

    schema: ClassVar[str] = ""
    _label: ClassVar[str] = "label"
    _shown: ClassVar[tuple[str, ...] | None] = None

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.store.folder

    @property
    def name(self) -> str:
        """The name of the job."""
        return str(self.store.index()["name"])

    def frame(self) -> pd.DataFrame:
        """Return a row for each stored run: label, seed, the values of swept keys, the figures of the run, `run` (id).

        Raises:
            StoreError: The results are damaged.
        """
        rows = []
        for row, manifest in self.store.runs():
            figures = {key: value for key, value in manifest["summary"].items() if _is_plain(value)}
            swept = {key: value if _is_plain(value) else str(value) for key, value in row["swept"].items()}
            rows.append({"label": row["label"], "seed": row["seed"], **swept, **figures, "run": row["id"]})
        return pd.DataFrame(rows)

    def write_tables(self) -> None:
        """Write the tables that lie beside the runs, as the command line does."""

    def _means(self) -> pd.DataFrame:
        """Return means over seeds: a row for each label and point of the sweep."""
        frame = self.frame()
        if frame.empty:
            return frame
        keys = [self._label, *self._swept()]
        numbers = [name for name in frame.select_dtypes("number").columns if name not in {*keys, "seed"}]
        means = frame.groupby(keys, sort=False, dropna=False)[numbers].mean().reset_index()
        return means if self._shown is None else means[[*keys, *self._shown]]

    def _swept(self) -> list[str]:
        return list(self.store.index()["swept"])

    def __repr__(self) -> str:
        rows = self.store.index()["runs"]
        return f"{type(self).__name__}({self.name!r}, {len(rows)} runs, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from html import escape

        seeds = len({row["seed"] for row in self.store.index()["runs"]})
        over = f"means over {seeds} seeds" if seeds > 1 else "one seed"
        table = self._means().to_html(index=False, border=0, float_format=lambda value: f"{value:.6g}")
        return f"<p><b>{escape(self.name)}</b>, {over}; <code>{escape(str(self.folder))}</code></p>{table}"


class ExperimentResults(JobResults):
    """The stored results of an experiment."""

    __slots__ = ()

    schema: ClassVar[str] = "experiment/1"
    _label: ClassVar[str] = "policy"
    _shown: ClassVar[tuple[str, ...] | None] = (
        "slo_attainment",
        "mean_serving_accuracy",
        "p99_latency_ms",
        "mean_batch_size",
        "utilisation",
    )

    def frame(self) -> pd.DataFrame:
        """Return a row for each stored run: the columns of summary.csv.

        Raises:
            StoreError: The results are damaged.
        """
        from ssim.jobs.experiment.drawing import load_summary

        return load_summary(self.store)

    def requests(self, run: str | None = None) -> pd.DataFrame:
        """Return the queries of a run, a row each: the columns of requests.parquet.

        Args:
            run: The id of a run, or the name of a policy that has one run; may be left out where there is one run.

        Raises:
            StoreError: There is no such run, it is not unique, or its queries were not stored.
        """
        return self._output(run, REQUESTS, "requests")

    def batches(self, run: str | None = None) -> pd.DataFrame:
        """Return the batches of a run, a row each; argument and errors are those of `requests`."""
        return self._output(run, BATCHES, "batches")

    def windows(self, run: str | None = None) -> pd.DataFrame:
        """Return a run in windows of 1 s, a row each; argument and errors are those of `requests`."""
        return self._output(run, WINDOWS, "windows")

    def compare(self) -> pd.DataFrame:
        """Return the differences of all policies from the reference, paired by seed: the columns of comparison.csv.

        Raises:
            StoreError: No run is stored, or a result is damaged.
        """
        from ssim.jobs.experiment.points import side_by_side
        from ssim.jobs.experiment.summary import stored_points

        frame = pd.DataFrame([row.columns() for row in side_by_side({self.name: stored_points(self.store)})])
        numbers = list(frame.columns)[list(frame.columns).index("seeds") + 1 :]
        return frame.astype(dict.fromkeys(numbers, float))  # a column without any value, too

    def plot_tradeoff(self) -> Figure:
        """Return the figure of SLO attainment and mean serving accuracy."""
        from ssim.jobs.experiment.drawing import draw_tradeoff

        return _displayed(draw_tradeoff(self.store))

    def plot_dynamics(self) -> Figure:
        """Return the figure of the first run over time.

        Raises:
            StoreError: Its windows were not stored.
        """
        from ssim.jobs.experiment.drawing import draw_dynamics

        figure = draw_dynamics(self.store)
        if figure is None:
            raise StoreError(str(self.folder), "its windows were not stored", "", "run it with keep: windows")
        return _displayed(figure)

    def write_tables(self) -> None:
        """Write summary.csv."""
        from ssim.jobs.experiment.summary import write_summary

        write_summary(self.store, self._swept())

    def _output(self, run: str | None, file: str, keep: str) -> pd.DataFrame:
        run_id = self._one(run)
        manifest = self.store.manifest(run_id)
        if manifest is None:
            raise StoreError(str(self.folder / run_id), "the run is not stored", "", "run it again")
        if file not in manifest["outputs"]:
            raise StoreError(str(self.folder / run_id), f"{file} was not stored", "", f"run it with keep: {keep}")
        frame: pd.DataFrame = read_output(self.store, run_id, file).to_pandas()
        return frame

    def _one(self, run: str | None) -> str:
        """Return the id of the one run that is meant."""
        rows = self.store.index()["runs"]
        found = list(dict.fromkeys(row["id"] for row in rows if run is None or run in {row["id"], row["policy"]}))
        if len(found) == 1:
            return str(found[0])
        if not found:
            known = [*dict.fromkeys(row["policy"] for row in rows), *(row["id"] for row in rows)]
            raise StoreError(str(self.folder), "no such run", repr(run), did_you_mean(str(run), known))
        hint = "give the id of one: column `run` of frame()"
        raise StoreError(str(self.folder), "several runs fit", repr(run) if run else f"{len(found)} runs", hint)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _displayed(figure: Figure) -> Figure:
    """Return a figure that a notebook displays as an image: its kernel learns how when a backend is loaded."""
    if "IPython" in sys.modules:
        from matplotlib import get_backend
        from matplotlib import pyplot as plt

        plt.switch_backend(get_backend())
    return figure
