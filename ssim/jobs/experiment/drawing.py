"""From stored results to pictures: loads what a figure needs, draws and saves it."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

import figures
from figures.costs import AXES
from figures.style import FORMATS, family, save, save_as
from figures.tables import setting
from sim.base.errors import SpecError
from sim.base.parameters import is_number
from sim.base.whole_file import translate_os_errors
from ssim.jobs.experiment.bounds import stored_bounds, stored_frontier
from ssim.jobs.experiment.drawn import note_drawn
from ssim.jobs.experiment.summary import part_rows, summary_rows
from ssim.results.record import REQUESTS, WINDOWS, WORKERS, read_output, read_windows
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure


_SAME_COST = 1e-3
"""Costs that differ by less than this share are not worth a picture."""

_MOST_SWEPT = 2
"""Swept keys that the figure of queues has axes for."""


def load_summary(store: Store) -> pd.DataFrame:
    """Return one row a stored run: the columns of summary.csv and the swept ones; NaN where there is no value."""
    frame = _frame(summary_rows(store.runs()))
    numbers = [name for name in ("mean_serving_accuracy", "p50_latency_ms", "p99_latency_ms") if name in frame]
    return frame.astype(dict.fromkeys(numbers, float))


def draw_tradeoff(store: Store) -> Figure:
    """Return the trade-off of all runs, with the bound on any policy where `ssim optimum` has stored it."""
    summary, bounds = load_summary(store), stored_bounds(store)
    if bounds and not summary.empty:
        summary["weighted_bound"] = [bounds[run].weighted if run in bounds else math.nan for run in summary["run"]]
    return _draw("tradeoff", summary)


def draw_dynamics(store: Store) -> Figure | None:
    """Return the dynamics of the first stored run: the first policy of the file, at the first point of the sweep.

    None where only the figures of runs were kept.
    """
    stored = store.runs()
    if not stored:
        return _draw("dynamics", pd.DataFrame())
    run, manifest = stored[0]
    if WINDOWS not in manifest["outputs"]:
        return None
    frame = read_windows(store, run["id"]).to_pandas().assign(policy=run["policy"], seed=run["seed"])
    return _draw("dynamics", frame, ", ".join([f"seed {run['seed']}", *_settings(run["swept"])]))


def draw_sweep(store: Store) -> Figure | None:
    """Return attainment and accuracy over what is swept; None unless that is a key whose values are numbers.

    Beside it, one whose values are words may be swept: each word has a line then, for the reference policy.
    """
    stored = store.runs()
    swept = [run["swept"] for run, _ in stored]
    keys = list(swept[0]) if swept else []
    values = {key: [point[key] for point in swept] for key in keys}
    numbers = [key for key in keys if all(is_number(value) for value in values[key])]
    words = [key for key in keys if all(isinstance(value, str) for value in values[key])]
    if len(numbers) != 1 or len(set(values[numbers[0]])) == 1:
        return None
    frame = load_summary(store)
    if len(keys) == 1:
        return _draw("sweep", frame, numbers[0])
    if len(keys) > _MOST_SWEPT or not words or "queues" in stored[0][1]:
        return None
    reference = stored[0][0]["reference"]
    return _draw("queues", frame[frame["policy"] == reference], numbers[0], "", reference, words[0])


def draw_residence(store: Store) -> Figure | None:
    """Return attainment and accuracy over the memory of workers; None unless that is swept, with one key of words.

    Beside these, one more key may be swept.
    """
    stored = store.runs()
    swept = [run["swept"] for run, _ in stored]
    keys = list(swept[0]) if swept else []
    memory = [key for key in keys if key.endswith(".memory_gb")]
    words = [key for key in keys if all(isinstance(point[key], str) for point in swept)]
    others = [key for key in keys if key not in (*memory[:1], *words[:1])]
    if not memory or len(others) > 1:
        return None
    return _draw("residence", load_summary(store), memory[0], *words[:1] or [""], *others)


def draw_placement(store: Store) -> Figure | None:
    """Return which queues each worker serves, under the reference and the first seed; None without a placement."""
    stored = store.runs()
    shown = [
        (run, one) for run, one in stored if (run["policy"], run["seed"]) == (run["reference"], stored[0][0]["seed"])
    ]
    rows = [
        {**row, "run": _heading(run["swept"]), "workers": manifest["identity"]["cluster"]["workers"]}
        for run, manifest in shown
        for row in part_rows([(run, manifest)], "queue")
        if "placement" in row
    ]
    if not rows:
        return None
    return _draw(
        "placement", _frame(rows).astype({"slo_attainment": float}), f"{rows[0]['policy']}, seed {rows[0]['seed']}"
    )


def draw_classes(store: Store) -> Figure | None:
    """Return the policies by class of queries, or by queue, at the first point of the sweep; None without any."""
    stored = store.runs()
    first = stored[0][0]["swept"] if stored else {}
    there = [(run, manifest) for run, manifest in stored if run["swept"] == first]
    rows = part_rows(there, "class") or [{**row, "class": row["queue"]} for row in part_rows(there, "queue")]
    if not rows:
        return None
    numbers = dict.fromkeys(("mean_serving_accuracy", "p50_latency_ms", "p99_latency_ms"), float)
    return _draw("classes", _frame(rows).astype(numbers), ", ".join(_settings(first)))


def _settings(swept: Mapping[str, Any]) -> list[str]:
    """Return how a point of a sweep is called in titles."""
    return [setting(key, value) for key, value in swept.items()]


def _heading(swept: Mapping[str, Any]) -> str:
    """Return the title of a point of a sweep above its panel: a line for each key."""
    return "\n".join(_settings(swept))


def draw_queues(store: Store) -> Figure | None:
    """Return the queues over what is swept, under the reference; None without queues, or unless one or two keys are.

    Of two keys, one whose values are numbers is the horizontal axis, the last one if both are.
    """
    stored = store.runs()
    rows = [row for row in part_rows(stored, "queue") if row["policy"] == stored[0][0]["reference"]]
    keys = list(stored[0][0]["swept"]) if stored else []
    if not rows or not 1 <= len(keys) <= _MOST_SWEPT:
        return None
    numbers = [key for key in keys if all(is_number(row[key]) for row in rows)]
    along = (numbers or keys)[-1]
    across = next((key for key in keys if key != along), "")
    frame = _frame(rows).astype({"mean_serving_accuracy": float})
    return _draw("queues", frame, along, across, str(rows[0]["policy"]))


def draw_scaling(store: Store) -> Figure | None:
    """Return the workers over time of the first policy and seed, at each point of the sweep; None without a planner."""
    windows, workers = [], []
    stored = store.runs()
    for run, manifest in stored:
        if (run["policy"], run["seed"]) != (stored[0][0]["policy"], stored[0][0]["seed"]):
            continue
        if not {WINDOWS, WORKERS} <= set(manifest["outputs"]):
            return None
        title = _heading(run["swept"])
        windows.append(read_windows(store, run["id"]).to_pandas().assign(run=title))
        lives = read_output(store, run["id"], WORKERS).to_pandas().assign(run=title)
        workers.append(spells(lives, manifest["identity"]["cluster"]["faults"]))
    if not windows:
        return None
    return _draw(
        "scaling", pd.concat(windows), pd.concat(workers), f"{stored[0][0]['policy']}, seed {stored[0][0]['seed']}"
    )


def draw_shares(store: Store) -> Figure | None:
    """Return the queues over time of the first policy and seed, at each point of the sweep.

    None without queues and a planner, or unless every query was kept.
    """
    names = ("class", "arrival_ns", "start_ns", "finish_ns", "batch_size", "outcome")
    stored, frames = store.runs(), list[pd.DataFrame]()
    for run, manifest in stored:
        if (run["policy"], run["seed"]) != (stored[0][0]["policy"], stored[0][0]["seed"]):
            continue
        if "queues" not in manifest or not {REQUESTS, WORKERS} <= set(manifest["outputs"]):
            return None
        frame = read_output(store, run["id"], REQUESTS).select(names).to_pandas()
        frame["finish_ns"] -= manifest["identity"]["cluster"]["network_ns"]
        frames.append(frame.assign(run=_heading(run["swept"])))
    if not frames:
        return None
    first, manifest = stored[0]
    return _draw("shares", pd.concat(frames), list(manifest["queues"]), f"{first['policy']}, seed {first['seed']}")


def spells(workers: pd.DataFrame, faults: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows of workers.parquet with the time in which a worker is down cut out: a row for each part of it."""
    for fault in faults:
        at_ns, back_ns = fault["at_ns"], math.inf if fault["recover_ns"] is None else fault["recover_ns"]
        gone_ns = workers["gone_ns"].fillna(math.inf)
        hit = (workers["worker"] == fault["worker"]) & (workers["ready_ns"] <= at_ns) & (gone_ns > at_ns)
        later = workers[hit & (gone_ns > back_ns)].assign(asked_ns=back_ns, ready_ns=back_ns)
        workers = pd.concat([workers.assign(gone_ns=workers["gone_ns"].mask(hit, at_ns)), later])
    return workers


def draw_costs(store: Store) -> Figure | None:
    """Return attainment over cost, with what no policy exceeds where `ssim optimum` has stored it.

    None if all runs cost the same to a thousandth, or nothing is known of it.
    """
    stored = store.runs()
    summary = load_summary(store)
    along = next((name for name in AXES if name in summary), None)
    if along is None or not summary[along].max() - summary[along].min() > _SAME_COST * summary[along].max():
        return None
    kinds = stored[0][1].get("kinds", {})
    currency = next((str(kind["currency"] or "") for kind in kinds.values()), "")
    return _draw("costs", summary, currency, stored_frontier(store) if along != "energy_kwh" else None)


FIGURES: Mapping[str, Callable[[Store], Figure | None]] = {
    "tradeoff": draw_tradeoff,
    "sweep": draw_sweep,
    "dynamics": draw_dynamics,
    "classes": draw_classes,
    "queues": draw_queues,
    "residence": draw_residence,
    "placement": draw_placement,
    "scaling": draw_scaling,
    "shares": draw_shares,
    "costs": draw_costs,
}
"""The figures of an experiment; each gives None where an experiment has nothing that it shows."""


def draw_experiment(store: Store) -> list[Path]:
    """Draw all figures of an experiment into its folder and return their files (PDF, SVG, PNG).

    Raises:
        StoreError: Nothing is stored, a result is damaged, or the files can't be written.
    """
    drawings = {name: draw(store) for name, draw in FIGURES.items()}
    folder = store.folder / "figures"
    paths: list[Path] = []
    with translate_os_errors(folder):
        folder.mkdir(exist_ok=True)
        for name, figure in drawings.items():
            if figure is not None:
                paths += save(figure, folder / name)
            else:  # what is there shows other runs
                for path in folder.glob(f"{name}.*"):
                    path.unlink()
    note_drawn(store, paths)
    return paths


@dataclass(frozen=True, slots=True)
class _ChosenPolicies(Store):
    """The stored results of an experiment, of which only some policies are seen."""

    policies: frozenset[str]

    def runs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the complete runs of these policies."""
        return [(run, manifest) for run, manifest in Store.runs(self) if _names(run["policy"]) & self.policies]


def draw_selected(
    store: Store,
    folder: Path,
    only: Sequence[str] = (),
    policies: Sequence[str] = (),
    width_in: float | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Draw some figures of an experiment into a folder and return their files.

    Args:
        store: The stored results.
        folder: The folder; made if missing.
        only: Names of figures; all that the experiment has if left out.
        policies: Labels of policies, or their names without parameters; all if left out.
        width_in: Width of the figures in inches; as they are drawn if left out.
        formats: Endings of the files, such as `.pdf`.

    Raises:
        SpecError: The experiment has no such policy or figure.
        StoreError: Nothing is stored, a result is damaged, or the files can't be written.
    """
    if policies:
        known = dict.fromkeys(run["policy"] for run, _ in store.runs())
        for policy in policies:
            if not any(policy in _names(label) for label in known):
                raise SpecError("--policies", "the experiment has no such policy", policy, f"it has {', '.join(known)}")
        store = _ChosenPolicies(store.folder, frozenset(policies))
    figures_there = {name: figure for name, draw in FIGURES.items() if (figure := draw(store)) is not None}
    for name in only:
        if name not in figures_there:
            hint = f"it has {', '.join(figures_there)}"
            raise SpecError("--only", "the experiment has no such figure", name, hint)
    paths: list[Path] = []
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in only or figures_there:
            figure = figures_there[name]
            if width_in is not None:
                figure.set_size_inches(width_in, figure.get_figheight())
            paths += [save_as(figure, folder / f"{name}{ending}") for ending in formats]
    return paths


def _names(label: str) -> set[str]:
    return {label, family(label)}


def draw_capacities(store: Store, rows: Sequence[dict[str, Any]], rate: str) -> list[Path]:
    """Draw the capacities of an experiment into its folder and return the files (PDF, SVG, PNG).

    Args:
        store: Where they go.
        rows: The rows of capacity.csv.
        rate: The parameter of the trace that was varied.

    Raises:
        StoreError: The files can't be written.
    """
    frame = _frame(rows).astype({"capacity": float})
    return list(save(_draw("capacity", frame, rate), store.folder / "figures" / "capacity"))


def draw_workers(store: Store, rows: Sequence[dict[str, Any]], target: float) -> list[Path]:
    """Draw the attainment over the number of workers into the folder of an experiment; return the files.

    Args:
        store: Where they go.
        rows: A row for each run: policy, seed, workers, slo_attainment, workers_any_policy, and what is swept.
        target: The SLO attainment to meet.

    Raises:
        StoreError: The files can't be written.
    """
    frame = _frame(rows)
    if not frame.empty:
        frame = frame.astype({"workers_any_policy": float})
    return list(save(_draw("workers", frame, target), store.folder / "figures" / "workers"))


def draw_mixes(store: Store, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw the attainment over the price of mixes of workers into the folder of an experiment; return the files.

    Args:
        store: Where they go.
        rows: The rows of mixes.csv.

    Raises:
        StoreError: The files can't be written.
    """
    return list(save(_draw("mixes", _frame(rows)), store.folder / "figures" / "mixes"))


def draw_gap(store: Store, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw what policies reached and what any could have, into the folder of an experiment; return the files.

    The picture of the trade-off gets the bound as a line, and that of costs the frontier; both tables must have been
    written before.

    Args:
        store: Where they go.
        rows: The rows of gap.csv.

    Raises:
        StoreError: The files can't be written.
    """
    folder = store.folder / "figures"
    paths = [*save(_draw("gap", _frame(rows)), folder / "gap"), *save(draw_tradeoff(store), folder / "tradeoff")]
    costs = draw_costs(store)
    return paths if costs is None else [*paths, *save(costs, folder / "costs")]


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table; swept lists and mappings as text, since they can't be told apart or grouped otherwise."""
    return pd.DataFrame([{k: str(v) if isinstance(v, (list, dict)) else v for k, v in row.items()} for row in rows])


def _draw(name: str, *arguments: object) -> Figure:
    module, _, function = figures.FIGURES[name].partition(":")
    figure: Figure = getattr(importlib.import_module(module), function)(*arguments)
    return figure
