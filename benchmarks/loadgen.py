"""A second opinion on `ssim serve`: MLPerf LoadGen's server scenario, beside what `ssim load` says of the same rate.

LoadGen draws Poisson arrivals of its own, sends over gRPC, and judges a percentile of the latency. The toolkit does
not depend on it: `pip install mlcommons-loadgen`, in an environment that has `superserve-sim[serve]`, too. Eight paced
workers with the paper's table, SlackFit, an SLO of 36 ms.

    python -m benchmarks.loadgen [--qps 400] [--seconds 10] [--percentile 0.99]
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import grpc
import mlperf_loadgen
import numpy as np

from benchmarks.front import TENSOR, server
from serving.front.client import send_trace
from serving.front.messages import SERVICE, message
from sim.traces.synthetic import Poisson

SLO_MS = 36.0


class System:
    """The server, as LoadGen sees it: it is given queries, and told when each is complete."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._infer = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        timeout = {"key": "timeout", "value": {"int64_param": int(SLO_MS * 1000)}}
        tensor = {**TENSOR, "contents": {"fp32_contents": [0]}}
        self._request = message("ModelInferRequest")(model_name="front", parameters=[timeout], inputs=[tensor])
        self._lock = threading.Lock()
        self.failed = 0

    def issue(self, samples: list[Any]) -> None:
        """Send queries."""
        for sample in samples:
            call = self._infer.future(self._request)
            call.add_done_callback(lambda done, number=sample.id: self._complete(done, number))

    def _complete(self, call: Any, number: int) -> None:
        if call.exception() is not None:  # LoadGen knows no queries that fail
            with self._lock:
                self.failed += 1
        mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(number, 0, 0)])

    def flush(self) -> None:
        """Do nothing: no query is held back."""


def judged(address: str, qps: float, seconds: float, percentile: float, folder: Path) -> tuple[str, int]:
    """Return LoadGen's summary, and the number of queries that failed."""
    settings = mlperf_loadgen.TestSettings()
    settings.scenario, settings.mode = mlperf_loadgen.TestScenario.Server, mlperf_loadgen.TestMode.PerformanceOnly
    settings.server_target_qps, settings.server_target_latency_ns = qps, int(SLO_MS * 1e6)
    settings.server_target_latency_percentile = percentile
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1000), 1
    settings.server_num_issue_query_threads = 0
    logs = mlperf_loadgen.LogSettings()
    logs.log_output.outdir, logs.log_output.copy_summary_to_stdout = str(folder), False
    logs.enable_trace = False
    system = System(address)
    under_test = mlperf_loadgen.ConstructSUT(system.issue, system.flush)
    library = mlperf_loadgen.ConstructQSL(1, 1, lambda _samples: None, lambda _samples: None)
    mlperf_loadgen.StartTestWithLogSettings(under_test, library, settings, logs, "")
    mlperf_loadgen.DestroyQSL(library)
    mlperf_loadgen.DestroySUT(under_test)
    return (folder / "mlperf_log_summary.txt").read_text(), system.failed


def main() -> None:
    """Print both opinions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qps", type=float, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--percentile", type=float, default=0.99)
    asked = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, {asked.qps:g} q/s, SLO {SLO_MS:g} ms")
    policy = "{use: slackfit}"
    with tempfile.TemporaryDirectory() as name, server(Path(name), policy) as (_, rpc, _):
        folder = Path(name)
        summary, failed = judged(rpc, asked.qps, asked.seconds, asked.percentile, folder)
        found = dict(re.findall(r"^(.+?)\s*: (.+)$", summary, re.MULTILINE))
        print(f"LoadGen: {found['Result is']}, {found['Completed samples per second']} q/s, ", end="")
        places = ("50.00", "99.00")
        quantiles = "/".join(f"{int(found[f'{place} percentile latency (ns)']) / 1e6:.1f}" for place in places)
        print(f"latency {quantiles} ms (median/99th percentile), {failed} queries failed")
        trace = Poisson(mean_qps=asked.qps, duration_s=asked.seconds, slo_ms=SLO_MS).trace(seed=7)
        sent = send_trace(trace, f"grpc://{rpc}", ["front"])
        middle, high = np.quantile(sent.latency_ns, (0.5, 0.99)) / 1e6
        lag = np.quantile(sent.send_lag_ns, 0.99) / 1e6
        print(f"ssim load: {sent.met.mean():.4f} within the SLO, latency {middle:.1f}/{high:.1f} ms, ", end="")
        print(f"{int((~sent.served).sum())} queries failed, send lag p99 {lag:.1f} ms")


if __name__ == "__main__":
    main()
