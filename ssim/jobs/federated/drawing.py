"""From a stored federated training to its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from figures import holdings, learning, timeline
from figures.style import save
from sim.base.parquet import read_parquet
from topology.report import Span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from ssim.jobs.federated.run import FederatedRun


def draw_run(run: FederatedRun) -> list[Path]:
    """Draw who holds what, how accurate it became over time and bytes, and the first round, into the run's folder.

    The round is drawn where it was recorded how workers spent it.

    Args:
        run: It is trained.
    """
    folder = run.folder / "figures"
    paths = [
        *save(holdings.draw(_table(run, "holdings")), folder / "holdings"),
        *save(learning.draw(_curves([run]), _traffic([run])), folder / "learning"),
    ]
    if (run.folder / "spans.parquet").exists():
        spans = [Span(*row) for row in _table(run, "spans").itertuples(index=False)]
        rounds = _table(run, "rounds")
        end_s = float(rounds[rounds["round"] == 1]["time_s"].max())
        workers = [worker.id for worker in run.plan.topology.plan.workers]
        title = f"{run.plan.topology.name}: the first round"
        paths += save(timeline.draw(spans, workers, title, (0.0, end_s)), folder / "round")
    return paths


def compared(runs: Sequence[FederatedRun]) -> Figure:
    """Return accuracy against time and bytes of several runs in one figure."""
    return learning.draw(_curves(runs), _traffic(runs))


def _curves(runs: Sequence[FederatedRun]) -> pd.DataFrame:
    frames = []
    several = len(runs) > 1
    for run in runs:
        frame = _table(run, "progress")
        sent = _table(run, "traffic").groupby(["round", "worker"], as_index=False)["bytes"].sum()
        frame = frame.merge(sent, on=["round", "worker"])
        if several:  # one curve each: the largest subnet
            frame = frame[frame["subnet"] == run.plan.watched[-1]]
            frame["curve"] = run.plan.spec.name
        else:
            several_hold = len(set(frame["worker"])) > 1
            frame["curve"] = frame["subnet"].str.partition(":")[2] + (", " + frame["worker"] if several_hold else "")
        frames.append(frame.assign(seed=run.seed))
    curves: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return curves


def _traffic(runs: Sequence[FederatedRun]) -> pd.DataFrame:
    frames = []
    for run in runs:
        frame = _table(run, "traffic")
        last = frame[frame["round"] == frame["round"].max()].groupby("channel", as_index=False)["bytes"].max()
        rounds = float(frame["round"].max())
        frames.append(last.assign(run=run.plan.spec.name, seed=run.seed, bytes=last["bytes"] / rounds))
    sent: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return sent


def _table(run: FederatedRun, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = read_parquet(run.folder / f"{name}.parquet").to_pandas()
    return frame
