"""One small run of each policy, query by query: a change of meaning shows as a diff of `runs.csv`.

`python -m tests.golden.test_golden` writes the file anew; the diff then needs an explanation in the commit.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

import policies
from sim import Cluster, Outcome, Trace, WorkerFailure, simulate
from sim.tables.files import load_table
from ssim.files.plugins import find_class
from tests.policies.required import required

FILE = Path(__file__).with_name("runs.csv")
MS = 1_000_000


def trace() -> Trace:
    """A burst between two calm stretches, from arithmetic alone: no random numbers whose stream may change."""
    calm = np.arange(20) * 9 * MS
    burst = 180 * MS + np.arange(120) ** 2 * 2_000
    after = int(burst[-1]) + np.arange(1, 20) * 11 * MS
    arrivals = np.concatenate([calm, burst, after]).astype(np.int64)
    return Trace(arrivals, 36 * MS, int(arrivals[-1]) + 1)


def runs() -> str:
    """Return every query of every policy's run as CSV."""
    cluster = Cluster(2, MS, 500_000, "expired", (WorkerFailure(1, 200 * MS, 230 * MS),))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["policy", "query", "start_ns", "finish_ns", "worker", "subnet", "batch_size", "outcome"])
    for name in sorted(policies.SHORT_NAMES):
        policy = find_class(name, policies.SHORT_NAMES, "policy")(**required(name))
        result = simulate(trace(), cluster, load_table("ofa-resnet50-rtx2080ti"), policy)
        b = result.batches
        columns = [
            result.per_query(column).tolist() for column in (b.start_ns, b.finish_ns, b.worker, b.subnet, b.size)
        ]
        outcomes = [Outcome(code).name.lower() for code in result.outcome.tolist()]
        for query, row in enumerate(zip(*columns, outcomes, strict=True)):
            writer.writerow([name, query, *row])
    return text.getvalue()


def test_runs_are_what_they_were() -> None:
    assert runs().splitlines() == FILE.read_text().splitlines()


if __name__ == "__main__":
    FILE.write_text(runs())
