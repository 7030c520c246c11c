"""What a live run reaches on this machine, and how far it is from the simulator.

Paced workers: the paper's table, 8 workers, an SLO of 36 ms. Each row is one run; one whose load generator or workers
were late is void, and says something of the machine alone.

With `--remote`, some of the paced workers join over gRPC, so that both kinds of links serve the same run.

Torch workers: a supernet that was trained here, one worker, an SLO of 30 ms. Its table is measured through the same
path, just before each run; the cells of the profile's table that met no batch are scaled with the others.

    python -m benchmarks.live [--seconds 8] [--rates 400,1000,2000,4000,7000]
    python -m benchmarks.live --remote 4 --rates 400,1000,2000
    python -m benchmarks.live --supernet results/supernet_digits --table profile/table.parquet --rates 100,200
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.clipper import Clipper
from policies.maxacc import MaxAcc
from policies.slackfit import SlackFit
from serving.comparison import MeasuredBatches, RunFigures, simulations
from serving.facts import delays_ns, facts
from serving.measured_table import measured_table
from serving.processes import PACED as PACED_PROGRAM
from serving.remote.address import Address
from serving.remote.places import RemoteWorkers
from serving.session import LiveRun, serve_trace
from sim.engine.cluster import Cluster
from sim.engine.driver import simulate
from sim.engine.metrics import mean_batch_size, mean_serving_accuracy, slo_attainment, utilisation
from sim.engine.policy import Decision, Dispatch, View
from sim.tables.files import find_table, load_table
from sim.traces.synthetic import Poisson
from ssim.jobs.experiment.live_spec import LiveSpec
from ssim.jobs.experiment.live_workers import worker_program

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from serving.workers import WorkerLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.engine.policy import Policy

PACED: dict[str, Callable[[], Policy]] = {"slackfit": SlackFit, "clipper": lambda: Clipper(78.25)}
TORCH = {"slackfit": SlackFit, "maxacc": MaxAcc}
SLO_MS = 30
AT_REST = (0.95, 1.05)
"""Median of the time taken over the time expected, where the machine is what it was when the table was measured."""


def main() -> None:
    """Print a row for each policy and rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rates", default="400,1000,2000,4000,7000")
    parser.add_argument("--remote", type=int, default=0, help="so many of the 8 paced workers join over gRPC")
    parser.add_argument("--supernet", type=Path, help="serve this one by a torch worker")
    parser.add_argument("--table", help="the table of its profile")
    asked = parser.parse_args()
    rates = [float(rate) for rate in asked.rates.split(",")]
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    if asked.remote:
        paced_by_both_links(rates, asked.seconds, asked.remote)
    elif asked.supernet is None:
        paced(rates, asked.seconds)
    else:
        torch_worker(asked.supernet, asked.table, rates, asked.seconds)


def paced(rates: list[float], seconds: float) -> None:
    """Compare runs of paced workers with the simulator."""
    table, cluster = load_table("ofa-resnet50-rtx2080ti"), Cluster(8)
    print(
        "policy     rate queries attainment router client simulated | accuracy live sim | batch live sim | delays in ms"
    )
    for name, policy in PACED.items():
        for rate in rates:
            trace = Poisson(mean_qps=rate, duration_s=seconds, slo_ms=36).trace(seed=7)
            run = serve_trace(trace, cluster, table, policy())
            live, simulated = run.result, simulate(run.result.trace, cluster, table, policy())
            delays = {
                key: "/".join(f"{value / 1e6:.2f}" for value in np.quantile(values, (0.5, 0.99)))
                for key, values in delays_ns(run).items()
            }
            found = facts(run)
            print(
                f"{name:8} {rate:6.0f} {len(live.trace):7d} {slo_attainment(live):.4f}"
                f" {found['slo_attainment_client']:.4f} {slo_attainment(simulated):.4f} |"
                f" {mean_serving_accuracy(live):.2f} {mean_serving_accuracy(simulated):.2f} |"
                f" {mean_batch_size(live):.2f} {mean_batch_size(simulated):.2f} |"
                f" {delays}{' VOID' if found['void'] else ''}",
                flush=True,
            )


JOINING = """
import sys
from serving.processes import PACED
from serving.remote.address import Address
from serving.remote.joining import join
join(Address("127.0.0.1", int(sys.argv[1])), None, PACED, {}, lambda _text: None)
"""


@dataclass(frozen=True)
class BothLinks:
    """Paced workers, the last ones of which join over gRPC.

    Attributes:
        remote: How many those are.
    """

    remote: int

    @asynccontextmanager
    async def links(self, workers: int) -> AsyncGenerator[Sequence[WorkerLink]]:
        """Give the ways to so many workers."""
        remote = RemoteWorkers(Address("127.0.0.1", 0), None, {}, {}, lambda _text: None, self._joining)
        async with PACED_PROGRAM.links(workers - self.remote) as local, remote.links(self.remote) as places:
            yield [*local, *places]

    @contextmanager
    def _joining(self, address: Address, workers: int, _fail: object) -> Generator[None]:
        words = [sys.executable, "-c", JOINING, str(address.port)]
        found = [subprocess.Popen(words) for _ in range(workers)]
        try:
            yield
        finally:
            for process in found:
                process.kill()
                process.wait()


def paced_by_both_links(rates: list[float], seconds: float, remote: int) -> None:
    """Compare the dispatch overhead of workers of this machine with that of workers that join over gRPC."""
    table, cluster = load_table("ofa-resnet50-rtx2080ti"), Cluster(8)
    print("policy     rate attainment | batches and dispatch in ms (median/p99): sockets, gRPC")
    for name, policy in PACED.items():
        for rate in rates:
            trace = Poisson(mean_qps=rate, duration_s=seconds, slo_ms=36).trace(seed=7)
            run = serve_trace(trace, cluster, table, policy(), program=BothLinks(remote))
            is_remote = np.array([one.start.worker >= 8 - remote for one in run.log.batches if not one.lost])
            dispatch = delays_ns(run)["dispatch"] / 1e6
            shown = [
                f"{len(part)} {'/'.join(f'{value:.2f}' for value in np.quantile(part, (0.5, 0.99)))}"
                for part in (dispatch[~is_remote], dispatch[is_remote])
            ]
            void = " VOID" if facts(run)["void"] else ""
            print(f"{name:8} {rate:6.0f} {slo_attainment(run.result):.4f} | {', '.join(shown)}{void}", flush=True)


@dataclass(frozen=True)
class AnyCell:
    """Runs any subnet at any batch size, so that all cells are measured through the path that is compared."""

    def decide(self, view: View) -> Decision:
        """Draw a subnet and a batch size."""
        table, rng = view.table, view.system.rng
        largest = min(view.queue_length, table.max_batch)
        subnet, size = int(rng.integers(len(table.subnets))), int(rng.integers(1, largest + 1))
        return Dispatch(subnet, size, next(iter(view.system.free_workers())))


def measured_batches(run: LiveRun) -> MeasuredBatches:
    """Return the batches of a run; none of its queries was rejected."""
    return MeasuredBatches.of(run.log.batches, run.result.batch, [0] * run.result.cluster.workers)


def torch_worker(supernet: Path, table: str, rates: list[float], seconds: float) -> None:
    """Compare runs of a torch worker with the simulator, and with the simulator that replays their durations."""
    profiled, cluster = find_table(table), Cluster(1)
    program = worker_program(LiveSpec(workers="torch", supernet=str(supernet)), 1, profiled, 0, Path())
    print("policy    rate  load | attainment live client simulated replayed | accuracy live sim | batch | ratio | busy")
    for name, policy in TORCH.items():
        for rate in rates:
            trace = Poisson(mean_qps=rate, duration_s=seconds, slo_ms=SLO_MS).trace(seed=7)
            calibration = serve_trace(trace, cluster, profiled, AnyCell(), program=program)
            measured, _ = measured_table(measured_batches(calibration), profiled, "calibration")
            load = os.getloadavg()[0]
            run = serve_trace(trace, cluster, measured, policy(), program=program)
            live, batches = RunFigures.of("live", run.result), measured_batches(run)
            received = run.result.trace
            steps = {step.name: step for step in simulations(trace, received, batches, cluster, measured, policy, 0)}
            found = facts(run)
            low, middle, high = np.quantile(batches.ratio, (0.05, 0.5, 0.95))
            simulated = steps["overhead"]
            rest = "" if AT_REST[0] <= middle <= AT_REST[1] else " not at rest"
            print(
                f"{name:8} {rate:6.0f} {load:5.1f} | {live.slo_attainment:.4f} {found['slo_attainment_client']:.4f}"
                f" {simulated.slo_attainment:.4f} {steps['replayed'].slo_attainment:.4f} |"
                f" {live.mean_serving_accuracy:.2f} {simulated.mean_serving_accuracy:.2f} |"
                f" {live.mean_batch_size:.2f} {simulated.mean_batch_size:.2f} |"
                f" {middle:.2f} ({low:.2f} to {high:.2f}) | {utilisation(run.result):.2f}"
                f"{rest}{' VOID' if found['void'] else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
