"""From a stored federated training to its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from figures import clients, holdings, learning, timeline, waits
from figures.style import save
from sim.base.parquet import read_parquet
from ssim.jobs.federated.run import RECORDED
from topology.report import Span
from topology.waits import EndedWait, ended_waits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from ssim.jobs.federated.run import FederatedRun


def draw_run(name: str, seed: int, folder: Path, metric: str = "accuracy") -> list[Path]:
    """Draw what is stored of a training into its folder.

    Drawn are who holds what, how accurate it became over time and bytes, and, where it was recorded how workers spent
    the first rounds, the first of them and who waits for whom.

    Args:
        name: Its name.
        seed: Its seed.
        folder: Where it is stored.
        metric: What its accuracies are.
    """
    pictures = folder / "figures"
    paths = [
        *save(holdings.draw(_table(folder, "holdings")), pictures / "holdings"),
        *save(learning.draw(_curves(folder, seed), _traffic(folder, name, seed), metric), pictures / "learning"),
    ]
    if (folder / "clients.parquet").exists():
        paths += save(clients.draw(_table(folder, "clients"), metric), pictures / "clients")
    if (folder / "spans.parquet").exists():
        spans = [Span(*row) for row in _table(folder, "spans").itertuples(index=False)]
        ends_s = _table(folder, "rounds").groupby("round")["time_s"].max().cummax().head(RECORDED).tolist()
        workers = sorted({span.worker for span in spans}, key=_plan_order)
        figure = timeline.draw(spans, workers, f"{name}: the first round", (0.0, ends_s[0]))
        paths += save(figure, pictures / "round")
        ended = pd.DataFrame(ended_waits(spans, ends_s), columns=list(EndedWait._fields))
        paths += save(waits.draw(ended), pictures / "waits")
    return paths


def _plan_order(worker: str) -> tuple[str, int]:
    role, _, number = worker.rpartition("/")
    return role, int(number)


def compared(runs: Sequence[tuple[FederatedRun, Path]]) -> Figure:
    """Return accuracy against time and bytes of several runs in one figure."""
    curves = []
    for run, folder in runs:
        frame = _curves(folder, run.seed)
        if len(runs) > 1:  # one curve each: the largest subnet
            frame = frame[frame["subnet"] == run.watched[-1]].assign(curve=run.name)
        curves.append(frame)
    traffic = [_traffic(folder, run.name, run.seed) for run, folder in runs]
    metrics = dict.fromkeys(run.parts.metric_name for run, _ in runs)
    return learning.draw(pd.concat(curves), pd.concat(traffic, ignore_index=True), ", ".join(metrics))


def _curves(folder: Path, seed: int) -> pd.DataFrame:
    """Return the accuracies of a run, with a curve for each subnet, and for each holder if there are several."""
    frame = _table(folder, "progress")
    sent = _table(folder, "traffic").groupby(["round", "worker"], as_index=False)["bytes"].sum()
    frame = frame.merge(sent, on=["round", "worker"], how="left")
    several = len(set(frame["worker"])) > 1
    frame["curve"] = frame["subnet"].str.partition(":")[2] + (", " + frame["worker"] if several else "")
    return frame.assign(seed=seed)


def _traffic(folder: Path, name: str, seed: int) -> pd.DataFrame:
    frame = _table(folder, "traffic")
    last = frame[frame["round"] == frame["round"].max()].groupby("channel", as_index=False)["bytes"].max()
    sent: pd.DataFrame = last.assign(run=name, seed=seed, bytes=last["bytes"] / float(frame["round"].max()))
    return sent


def _table(folder: Path, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = read_parquet(folder / f"{name}.parquet").to_pandas()
    return frame
