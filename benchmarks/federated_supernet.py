"""A supernet over federation against single networks of the sizes of its smallest and largest subnet (SuperFedNAS).

Twenty clients with scikit-learn's digits, of which eight train in a round (`experiments/federated/supernet.yaml`): the
supernet once, and each single network by federated averaging for as many rounds. Test accuracy of the smallest and the
largest subnet and of the networks alone; differences are paired by seed, since a seed has its own deal of the examples.
Results are stored, so that a run that was stopped goes on.

    python -m benchmarks.federated_supernet --out federated_supernet
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.peers import aligned
from sim.base.intervals import mean_and_half_width
from sim.base.parquet import read_parquet
from sim.tables.accuracies import Accuracies
from ssim.execution.runner import run_job
from ssim.jobs.job import ExecutionOptions
from ssim.jobs.reading import read_job
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "federated" / "supernet.yaml"
ALPHAS = (100, 0.3)
"""From examples of all classes at each client to few classes."""
ALONE = ("subnets=largest", "maxnet=null")
TRAINED = {
    "supernet": (),
    "largest": ALONE,
    "smallest": (*ALONE, "family={kind: cnn_small, width: 4, hidden: 16}"),
}
"""What is trained; the last network is the smallest subnet of the first."""


class Outcome:
    """Test accuracies in percent, and what was sent, of each seed.

    Attributes:
        largest: Accuracy of the largest subnet.
        smallest: Accuracy of the smallest subnet; of a single network that of the largest, which is all there is.
        sent_mb: Megabytes sent over all channels.
    """

    def __init__(self, out: Path, name: str, alpha: float, rounds: int, seeds: int, jobs: int) -> None:
        settings = (f"partition.alpha={alpha}", f"rounds={rounds}", f"repeats={seeds}", f"name={name}-{alpha:g}")
        job = read_job(EXPERIMENT, (*settings, "evaluation.every=1000", "calibration={subnets: 2}", *TRAINED[name]))
        store = Store(out / job.name)
        with store.writing():
            failed = run_job(job, store, jobs=jobs, options=ExecutionOptions())
        if failed:
            raise click.ClickException(str(failed[0].error))
        self.largest: list[float] = []
        self.smallest: list[float] = []
        self.sent_mb: list[float] = []
        for run in job.runs:
            rows = Accuracies.read(store.folder / run.id / "accuracies.parquet").rows
            ends = sorted(rows, key=lambda row: row.macs)
            self.largest.append(ends[-1].accuracy)
            self.smallest.append((ends[0] if name == "supernet" else ends[-1]).accuracy)
            traffic: list[dict[str, Any]] = read_parquet(store.folder / run.id / "traffic.parquet").to_pylist()
            last = max(row["round"] for row in traffic)
            self.sent_mb.append(sum(row["bytes"] for row in traffic if row["round"] == last) / 1e6)


def shown(values: Sequence[float]) -> str:
    """Return a mean and its 95 % interval."""
    mean, half = mean_and_half_width(values)
    return f"{mean:.1f} ±{half:.1f}"


def rows_of(alpha: float, found: dict[str, Outcome]) -> list[list[str]]:
    """Return a row for each size."""
    rows = []
    for size in ("smallest", "largest"):
        alone: list[float] = getattr(found[size], size)
        of_supernet: list[float] = getattr(found["supernet"], size)
        apart = [one - other for one, other in zip(of_supernet, alone, strict=True)]
        rows.append([f"{alpha:g}", size, shown(of_supernet), shown(alone), shown(apart)])
    return rows


def main() -> None:
    """Train, and print what came."""
    parser = argparse.ArgumentParser(description="A supernet over federation against single networks.")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    rows = [["alpha", "size", "in the supernet, %", "alone, %", "difference"]]
    for alpha in ALPHAS:
        given = alpha, options.rounds, options.seeds, options.jobs
        found = {name: Outcome(options.out, name, *given) for name in TRAINED}
        rows += rows_of(alpha, found)
        sent = {name: sum(outcome.sent_mb) / len(outcome.sent_mb) for name, outcome in found.items()}
        print(f"alpha {alpha:g}, sent: " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in sent.items()), flush=True)
    print(aligned(rows))


if __name__ == "__main__":
    main()
