"""The stored results of several experiments as tables, for figures and claims.

Missing and damaged runs are noted one by one, and the others used; stored files are never changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.base.errors import StoreError
from sim.base.parquet import read_parquet
from sim.engine.run_metrics import NEVER_NS, Measure
from ssim.results.record import REQUESTS, WINDOWS, read_windows
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NUMBERS = ("mean_serving_accuracy", "p50_latency_ms", "p99_latency_ms")


@dataclass(slots=True)
class Results:
    """The stored results of several experiments.

    Attributes:
        folder: That of all results.
        problems: What was missing or damaged of what was asked for so far, a line each.
    """

    folder: Path
    problems: list[str] = field(default_factory=list[str])

    def summary(self, name: str) -> pd.DataFrame:
        """Return one row a stored run of an experiment: the columns of summary.csv, the swept ones, and `run`.

        Swept lists and mappings are there as text; a swept `trace` is `swept trace`.

        Raises:
            StoreError: Nothing of it is stored.
        """
        rows = []
        for run, manifest in self.runs(name):
            known = {key: run[key] for key in ("policy", "trace", "seed", "one_model")}
            swept = {
                key: str(value) if isinstance(value, list | dict) else value for key, value in run["swept"].items()
            }
            swept = {f"swept {key}" if key in known else key: value for key, value in swept.items()}
            rows.append({**known, **manifest["summary"], **swept, "run": run["id"]})
        return pd.DataFrame(rows).astype(dict.fromkeys(_NUMBERS, float))

    def windows(self, name: str, **only: Any) -> pd.DataFrame:
        """Return runs over time, in windows of 1 s, with the columns `policy`, `seed` and the swept ones.

        Args:
            name: The experiment.
            only: What `policy`, `seed` or the last part of a swept key must be: `cv2=8`.

        Raises:
            StoreError: No such run is stored, or its windows are not.
        """
        store = Store(self.folder / name)
        frames = []
        for run, manifest in self.runs(name):
            if self._is(run, only) and WINDOWS in manifest["outputs"]:
                frame = read_windows(store, run["id"]).to_pandas()
                frames.append(frame.assign(policy=run["policy"], seed=run["seed"], **run["swept"]))
        return pd.concat(frames, ignore_index=True) if frames else self._none(name, only)

    def slacks(self, name: str, bin_ms: float = 0.25) -> tuple[pd.DataFrame, float]:
        """Return how much time was left to queries when they were answered, counted in bins, and the SLO in ms.

        Only queries that arrive in the part of a run that is measured are counted. Columns: `policy`, `slack_ms` (the
        middle of a bin; negative if late, -inf if never answered), `queries`.

        Raises:
            StoreError: No run is stored with its queries, or they are damaged.
        """
        store = Store(self.folder / name)
        frames, slo_ms = [], 0.0
        for run, manifest in self.runs(name):
            if REQUESTS not in manifest["outputs"]:
                continue
            path = store.folder / run["id"] / REQUESTS
            try:
                table = read_parquet(path).select(["arrival_ns", "deadline_ns", "finish_ns"])
            except (pa.ArrowException, OSError, KeyError) as error:
                raise StoreError(str(path), "is damaged", str(error), "run the experiment again") from error
            measure = Measure(**manifest["identity"].get("measure", {}))
            arrival, deadline, finish = (column.to_numpy() for column in table.columns)
            counted = (arrival >= measure.from_ns) & (arrival < measure.limit_ns(NEVER_NS))
            arrival, deadline, finish = arrival[counted], deadline[counted], finish[counted]
            slo_ms = max(slo_ms, float((deadline - arrival).max()) / 1e6)
            left = np.where(np.isnan(finish), -np.inf, (deadline - finish) / 1e6)
            bins, queries = np.unique(np.floor(left / bin_ms), return_counts=True)
            frames.append(
                pd.DataFrame({"policy": run["policy"], "slack_ms": (bins + 0.5) * bin_ms, "queries": queries})
            )
        return (pd.concat(frames, ignore_index=True) if frames else self._none(name, {})), slo_ms

    def capacities(self, name: str) -> pd.DataFrame:
        """Return capacity.csv of an experiment.

        Raises:
            StoreError: It is not there, or damaged.
        """
        path = self.folder / name / "capacity" / "capacity.csv"
        return self._csv(path, f"ssim capacity experiments/{name}.yaml", "capacity")

    def gaps(self, name: str) -> pd.DataFrame:
        """Return gap.csv of an experiment.

        Raises:
            StoreError: It is not there, or damaged.
        """
        return self._csv(self.folder / name / "gap.csv", f"ssim optimum experiments/{name}.yaml", "weighted_bound")

    @property
    def actuation_file(self) -> Path:
        """The file of measured actuation times."""
        return self.folder / "supernet" / "actuation.csv"

    def actuations(self) -> pd.DataFrame:
        """Return the time to actuate each published subnet: a row each, the fields of `ssim.paper.footprint.Actuation`.

        Raises:
            StoreError: It is not there, or damaged.
        """
        return self._csv(self.actuation_file, "ssim reproduce", "again_ms")

    def searched(self) -> pd.DataFrame:
        """Return search.csv of the inference: a row a point.

        Raises:
            StoreError: It is missing, damaged or of another version.
        """
        return self._csv(self.folder / "inference" / "search.csv", "ssim reproduce", "misfit 8a")

    def _csv(self, path: Path, command: str, needed: str) -> pd.DataFrame:
        try:
            found = pd.read_csv(path)
        except FileNotFoundError as error:
            raise StoreError(str(path), "file not found", "", f"`{command}` makes it") from error
        except (OSError, ValueError) as error:
            raise StoreError(str(path), "is damaged", str(error), f"`{command}` writes it again") from error
        if found.empty or needed not in found.columns:
            raise StoreError(str(path), "is damaged", f"no {needed}", f"`{command}` writes it again")
        return found

    def runs(self, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield the runs of an experiment that are stored, each with its manifest; note those that are not.

        Raises:
            StoreError: None is.
        """
        store = Store(self.folder / name)
        index, some = store.index(), False
        for run in index["runs"]:
            try:
                manifest = store.manifest(run["id"])
                why = "" if manifest else store.failure(run["id"]) or "not stored"
            except StoreError as error:
                manifest, why = None, str(error)
            if manifest is None:
                self.note(index["name"], run, why)
            else:
                some = True
                yield run, manifest
        if not some:
            raise StoreError(str(store.folder), "no run is stored", "", f"ssim run experiments/{name}.yaml")

    def note(self, name: str, run: dict[str, Any], why: str) -> None:
        """Note that a run of an experiment is missing or damaged, and why."""
        swept = "".join(f", {key} = {value}" for key, value in run["swept"].items())
        problem = f"{name}: {run['policy']}, seed {run['seed']}{swept}: {why}"
        if problem not in self.problems:
            self.problems.append(problem)

    def _is(self, run: dict[str, Any], only: Mapping[str, Any]) -> bool:
        known = {"policy": run["policy"], "seed": run["seed"]}
        known |= {key.rpartition(".")[2]: value for key, value in run["swept"].items()}
        return all(known.get(key) == value for key, value in only.items())

    def _none(self, name: str, only: Mapping[str, Any]) -> pd.DataFrame:
        asked = ", ".join(f"{key} = {value}" for key, value in only.items())
        right = f"ssim run experiments/{name}.yaml, with enough of it kept"
        raise StoreError(str(self.folder / name), "no such run is stored", asked, right)
