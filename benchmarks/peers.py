"""How fast ssim is beside a public simulator, on a job that both can express, and whether they agree.

The job is M/D/c: Poisson arrivals, identical workers, one subnet, no batching, nothing dropped. That is all that a
queueing simulator knows of serving, and the least favourable job for the SimPy engine, whose events are per batch. The
peer is Ciw (https://ciw.readthedocs.io), which is fed the very same gaps between arrivals in whole nanoseconds, so that
each query must finish at the same instant in both.

CPU time of this process, medians over a few rounds; in each round all simulators run in turn, and ratios are medians of
the ratios within a round. Ciw's time includes its records and that of the compiled engine the tabulation of the policy.

    pip install ciw
    python benchmarks/peers.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.slackfit import SlackFit
from sim import Cluster, LatencyTable, ProfiledSubnet, Trace, simulate, stream
from sim.base.units import NS_PER_MS
from sim.engines import choose, numba_is_installed, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

WORKERS = 8
SERVICE_NS = 10_000_000
SLO_NS = 20_000_000
LOAD = 0.9
CLUSTER = Cluster(WORKERS)
TABLE = LatencyTable("one subnet", (ProfiledSubnet("only", 75.0),), (1,), np.array([[SERVICE_NS]]))
JOB = f"M/D/{WORKERS}, load {LOAD:g}"
MIN_S = 0.2
"""A run that takes less CPU time than this is repeated within its round, until they do together."""


@dataclass(frozen=True, slots=True)
class Simulator:
    """One simulator, ready to run the job.

    Attributes:
        name: What the table calls it.
        run: Runs the job once; this is what is timed.
        finish_ns: When each query finished, out of what `run` returns: int64, shape (queries,).
    """

    name: str
    run: Callable[[], Any]
    finish_ns: Callable[[Any], npt.NDArray[np.int64]]


def poisson(queries: int, seed: int) -> Trace:
    """Return so many Poisson arrivals at a rate that loads the workers as `LOAD` says."""
    gaps = stream(seed, "arrivals").exponential(SERVICE_NS / (WORKERS * LOAD), queries)
    arrivals = np.cumsum(np.rint(gaps).astype(np.int64))
    return Trace(arrivals, SLO_NS, max(1, int(arrivals[-1])), JOB)


def ssim_engines(trace: Trace) -> list[Simulator]:
    """Return the SimPy engine and, where numba is installed, the compiled one."""

    def finish_ns(result: Any) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = result.per_query(result.batches.finish_ns)
        return found

    simulators = [Simulator("ssim, SimPy engine", lambda: simulate(trace, CLUSTER, TABLE, SlackFit()), finish_ns)]
    if numba_is_installed():
        compiled = lambda: replay(trace, CLUSTER, TABLE, SlackFit(), engine="compiled")[0]  # noqa: E731 - as its sibling
        simulators.append(Simulator("ssim, compiled engine", compiled, finish_ns))
    return simulators


def ciw_simulator(trace: Trace) -> Simulator:
    """Return Ciw on the same arrivals; times in whole nanoseconds, which its floats hold exactly up to 2**53."""
    ciw = import_module("ciw")
    gaps = [*np.diff(trace.arrival_ns, prepend=0).tolist(), float("inf")]  # without an end, they would start anew

    def run() -> Any:
        network = ciw.create_network(
            arrival_distributions=[ciw.dists.Sequential(gaps)],
            service_distributions=[ciw.dists.Deterministic(SERVICE_NS)],
            number_of_servers=[WORKERS],
        )
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_customers(len(trace), method="Finish")
        return simulation.get_all_records()

    def finish_ns(records: Any) -> npt.NDArray[np.int64]:
        by_arrival = sorted(records, key=lambda record: record.id_number)
        return np.array([record.exit_date for record in by_arrival], dtype=np.int64)

    return Simulator(f"Ciw {version('ciw')}", run, finish_ns)


def cpu_s(run: Callable[[], object]) -> float:
    """Return the CPU time of a run in seconds; of a short one, the mean over as many as fill `MIN_S`."""
    begin, runs = time.process_time(), 0
    while True:
        run()
        runs += 1
        spent = time.process_time() - begin
        if spent >= MIN_S:
            return spent / runs


def rounds(simulators: Sequence[Simulator], repeats: int) -> list[list[float]]:
    """Return CPU times in seconds, shape (simulators, repeats); each round starts with another simulator."""
    times: list[list[float]] = [[0.0] * repeats for _ in simulators]
    for repeat in range(repeats):
        for turn in range(len(simulators)):
            which = (repeat + turn) % len(simulators)
            times[which][repeat] = cpu_s(simulators[which].run)
    return times


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns: the first two to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(row))  # noqa: PLR2004 - see above
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Speed and agreement of ssim and a public simulator on one job.")
    parser.add_argument("--queries", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    trace = poisson(options.queries, options.seed)
    simulators = ssim_engines(trace)
    if find_spec("ciw") is not None:
        simulators.append(ciw_simulator(trace))
    finishes = [simulator.finish_ns(simulator.run()) for simulator in simulators]  # also warms up
    times = rounds(simulators, options.repeats)

    same = True
    rows = [
        ["simulator", "job", "queries", "queries per CPU s", "to SimPy engine", "mean wait ms", "within SLO", "same"]
    ]
    for simulator, finish, spent in zip(simulators, finishes, times, strict=True):
        latency = finish - trace.arrival_ns
        agrees = np.array_equal(finish, finishes[0])
        same &= agrees
        ratio = statistics.median(own / other for own, other in zip(times[0], spent, strict=True))
        rows.append(
            [
                simulator.name,
                JOB,
                f"{len(trace):,}",
                f"{len(trace) / statistics.median(spent):,.0f}",
                f"{ratio:.3g}x",
                f"{(latency.mean() - SERVICE_NS) / NS_PER_MS:.6f}",
                f"{np.mean(latency <= SLO_NS):.6f}",
                "yes" if agrees else "NO",
            ]
        )
    print(aligned(rows))
    print(f"{options.repeats} rounds; same: every query finishes at the same nanosecond as in the first row")
    if numba_is_installed():
        tabulation_s = cpu_s(lambda: choose(len(trace), CLUSTER, TABLE, SlackFit(), "compiled"))
        print(f"of the compiled engine's time, tabulating the policy takes {1e3 * tabulation_s:.1f} ms, once a run")
    else:
        print("without the compiled engine: pip install numba", file=sys.stderr)
    if find_spec("ciw") is None:
        print("without Ciw: pip install ciw", file=sys.stderr)
    sys.exit(not same)


if __name__ == "__main__":
    main()
