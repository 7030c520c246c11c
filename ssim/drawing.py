"""From stored results to pictures: loads what a figure needs, draws and saves it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pandas as pd

from figures import FIGURES
from figures.style import save

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.store import Store


def load_summary(store: Store) -> pd.DataFrame:
    """Return one row a stored run: the columns of summary.csv and the swept ones."""
    rows = []
    for run in store.index()["runs"]:
        manifest = store.manifest(run["id"])
        if manifest is not None:
            known = {
                "policy": run["policy"],
                "trace": run["trace"],
                "seed": run["seed"],
                **run["swept"],
                "run": run["id"],
            }
            rows.append({**known, **manifest["summary"]})
    return pd.DataFrame(rows)


def load_windows(store: Store) -> pd.DataFrame:
    """Return the run that the dynamics show, over time: the first stored one of the first policy in the file."""
    for run in store.index()["runs"]:
        path = store.folder / run["id"] / "windows.parquet"
        if store.manifest(run["id"]) is not None:
            return pd.read_parquet(path).assign(policy=run["policy"], seed=run["seed"])
    return pd.DataFrame()


def draw_experiment(store: Store) -> list[Path]:
    """Draw all figures of an experiment into its folder and return their files (PDF, SVG, PNG).

    Raises:
        StoreError: Nothing is stored, or the files can't be written.
    """
    frames: dict[str, Any] = {"tradeoff": load_summary, "dynamics": load_windows}
    paths: list[Path] = []
    for name, target in FIGURES.items():
        module, _, function = target.partition(":")
        figure = getattr(importlib.import_module(module), function)(frames[name](store))
        paths += save(figure, store.folder / "figures" / name)
    return paths


def drawn(store: Store) -> list[Path]:
    """Return the files of the figures if all are there, else nothing."""
    files = [store.folder / "figures" / f"{name}{suffix}" for name in FIGURES for suffix in (".pdf", ".svg", ".png")]
    return files if all(file.exists() for file in files) else []
