"""Bounds on any policy, as `ssim optimum` has stored them beside the runs of an experiment."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from sim.base.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.results.store import Store


class StoredBound(NamedTuple):
    """What no policy exceeds on the arrivals of a run, clairvoyant ones included; from 0 to 1.

    Attributes:
        attainment: SLO attainment.
        weighted: SLO attainment times accuracy.
    """

    attainment: float
    weighted: float


def gap_file(store: Store) -> Path:
    """Return the path of gap.csv."""
    return store.folder / "gap.csv"


def frontier_file(store: Store) -> Path:
    """Return the path of frontier.csv."""
    return store.folder / "frontier.csv"


def stored_frontier(store: Store) -> pd.DataFrame | None:
    """Return the SLO attainment that no policy and no planner exceeds, by cost; None if it isn't stored.

    Where runs have several frontiers, at each cost it is that which allows most.

    Returns:
        The columns `cost` and `attainment_bound`.

    Raises:
        StoreError: frontier.csv is damaged.
    """
    path = frontier_file(store)
    try:
        return pd.read_csv(path, dtype=float)[["cost", "attainment_bound"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(str(path), "is damaged", str(error), "`ssim optimum` writes it again") from error


def stored_bounds(store: Store) -> dict[str, StoredBound]:
    """Return the bounds by the id of the run that they were found for; empty if none is stored.

    Raises:
        StoreError: gap.csv is damaged.
    """
    path = gap_file(store)
    try:
        text = path.read_text(encoding="utf-8")
        return {
            row["run"]: StoredBound(float(row["attainment_bound"]), float(row["weighted_bound"]))
            for row in csv.DictReader(text.splitlines())
            if "run" in row
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(str(path), "is damaged", str(error), "`ssim optimum` writes it again") from error
