"""What a live run of paced workers reaches on this machine, and how far it is from the simulator.

The paper's table, 8 workers, an SLO of 36 ms. Each row is one run; one whose load generator or workers were late is
void, and says something of the machine alone.

    python -m benchmarks.live [--seconds 8] [--rates 400,1000,2000,4000,7000]
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving.facts import delays_ns, facts
from serving.session import serve_trace
from sim.engine.cluster import Cluster
from sim.engine.driver import simulate
from sim.engine.metrics import mean_batch_size, mean_serving_accuracy, slo_attainment
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson

POLICIES = {"slackfit": SlackFit, "clipper": lambda: Clipper(78.25)}


def main() -> None:
    """Print a row for each policy and rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rates", default="400,1000,2000,4000,7000")
    asked = parser.parse_args()
    table, cluster = load_table("ofa-resnet50-rtx2080ti"), Cluster(8)
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; delays in ms, median/99th percentile")
    print("policy     rate queries attainment router client simulated | accuracy live sim | batch live sim | delays")
    for name, policy in POLICIES.items():
        for rate in map(float, asked.rates.split(",")):
            trace = Poisson(mean_qps=rate, duration_s=asked.seconds, slo_ms=36).trace(seed=7)
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


if __name__ == "__main__":
    main()
