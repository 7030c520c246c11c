"""From a stored federated training to its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from figures import clients, holdings, learning, timeline
from figures.style import save
from sim.base.parquet import read_parquet
from topology.report import Span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from ssim.jobs.federated.run import FederatedRun


def draw_run(run: FederatedRun, folder: Path) -> list[Path]:
    """Draw who holds what, how accurate it became over time and bytes, and the first round, into the run's folder.

    The round is drawn where it was recorded how workers spent it.

    Args:
        run: It is trained.
        folder: Where it is stored.
    """
    pictures = folder / "figures"
    paths = [
        *save(holdings.draw(_table(folder, "holdings")), pictures / "holdings"),
        *save(learning.draw(_curves([(run, folder)]), _traffic([(run, folder)])), pictures / "learning"),
    ]
    if (folder / "clients.parquet").exists():
        paths += save(clients.draw(_table(folder, "clients")), pictures / "clients")
    if (folder / "spans.parquet").exists():
        spans = [Span(*row) for row in _table(folder, "spans").itertuples(index=False)]
        rounds = _table(folder, "rounds")
        end_s = float(rounds[rounds["round"] == 1]["time_s"].max())
        workers = [worker.id for worker in run.parts.topology.plan.workers]
        title = f"{run.parts.topology.name}: the first round"
        paths += save(timeline.draw(spans, workers, title, (0.0, end_s)), pictures / "round")
    return paths


def compared(runs: Sequence[tuple[FederatedRun, Path]]) -> Figure:
    """Return accuracy against time and bytes of several runs in one figure."""
    return learning.draw(_curves(runs), _traffic(runs))


def _curves(runs: Sequence[tuple[FederatedRun, Path]]) -> pd.DataFrame:
    frames = []
    several = len(runs) > 1
    for run, folder in runs:
        frame = _table(folder, "progress")
        sent = _table(folder, "traffic").groupby(["round", "worker"], as_index=False)["bytes"].sum()
        frame = frame.merge(sent, on=["round", "worker"])
        if several:  # one curve each: the largest subnet
            frame = frame[frame["subnet"] == run.watched[-1]]
            frame["curve"] = run.name
        else:
            several_hold = len(set(frame["worker"])) > 1
            frame["curve"] = frame["subnet"].str.partition(":")[2] + (", " + frame["worker"] if several_hold else "")
        frames.append(frame.assign(seed=run.seed))
    curves: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return curves


def _traffic(runs: Sequence[tuple[FederatedRun, Path]]) -> pd.DataFrame:
    frames = []
    for run, folder in runs:
        frame = _table(folder, "traffic")
        last = frame[frame["round"] == frame["round"].max()].groupby("channel", as_index=False)["bytes"].max()
        rounds = float(frame["round"].max())
        frames.append(last.assign(run=run.name, seed=run.seed, bytes=last["bytes"] / rounds))
    sent: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return sent


def _table(folder: Path, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = read_parquet(folder / f"{name}.parquet").to_pandas()
    return frame
