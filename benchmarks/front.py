"""What the front of a server reaches on this machine: requests per second, and the time outside the router.

Eight paced workers with the paper's table and Clipper+ at its smallest subnet, so that the front is what limits. Server
and client are two processes of this machine and share its cores.

    python -m benchmarks.front [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import grpc
import numpy as np

from serving.front.client import send_trace
from serving.front.messages import SERVICE, message
from sim.traces.synthetic import Poisson

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

FILE = """\
schema: experiment/1
name: front
seed: 7
trace: {kind: poisson, mean_qps: 400, duration_s: 5, slo_ms: 36}
cluster: {workers: 8}
latency_table: ofa-resnet50-rtx2080ti
policies: [POLICY]
"""
TENSOR = {"name": "input", "datatype": "FP32", "shape": [1, 1]}


@contextlib.contextmanager
def server(folder: Path, policy: str = "{use: clipper, params: {accuracy: 73.82}}") -> Iterator[tuple[str, str, int]]:
    """Serve; yield the addresses for HTTP and gRPC, and the process."""
    (folder / "front.yaml").write_text(FILE.replace("POLICY", policy))
    words = [sys.executable, "-m", "ssim", "serve", "front.yaml", "--http-port", "0", "--grpc-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        words, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        said = process.stderr or ()
        told = next(filter(None, (re.search(r"at (http://[^ ]+) \(gRPC: ([^,]+),", line) for line in said)))
        yield told[1], told[2], process.pid
        process.send_signal(signal.SIGINT)


async def closed_loop(ask: Callable[[], Awaitable[object]], clients: int, seconds: float) -> tuple[float, float, float]:
    """Let clients ask one request after the other; return requests per second, and median and p99 in ms."""
    took = list[float]()

    async def client() -> None:
        end = time.monotonic() + seconds
        while (begin := time.monotonic()) < end:
            await ask()
            took.append(time.monotonic() - begin)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(took) / seconds, *(1000 * np.quantile(took, (0.5, 0.99)))


async def measure(http: str, rpc: str, process: int, seconds: float) -> float:
    """Print a row for each transport and number of clients, with the computing time; return the number of requests."""
    requests = 0.0
    url, body = f"{http}/v2/models/front/infer", {"inputs": [{**TENSOR, "data": [0]}]}
    request = message("ModelInferRequest")(model_name="front", inputs=[{**TENSOR, "contents": {"fp32_contents": [0]}}])
    async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(rpc) as channel:

        async def post() -> None:
            async with session.post(url, json=body) as response:
                await response.read()

        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        for name, ask in (("HTTP", post), ("gRPC", lambda: infer(request))):
            for clients in (1, 16, 64):
                before = cpu_s(process)
                rate, median, high = await closed_loop(ask, clients, seconds)
                requests += rate * seconds
                each_ms = 1000 * (cpu_s(process) - before) / (rate * seconds)
                print(f"{name}, {clients:2} clients: {rate:5.0f} requests/s, {median:.1f}/{high:.1f} ms, ", end="")
                print(f"{each_ms:.2f} ms of a core for each", flush=True)
    return requests


def cpu_s(process: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def resident_kb(process: int) -> int:
    """Return the memory of a process in kB."""
    return int(Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0])


def main() -> None:
    """Print what the front reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    asked = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; times are median/99th percentile")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (http, rpc, process):
        sent = send_trace(Poisson(mean_qps=400, duration_s=asked.seconds, slo_ms=36).trace(seed=7), http, ["front"])
        outside, lag = (np.quantile(values, (0.5, 0.99)) / 1e6 for values in (sent.outside_ns, sent.send_lag_ns))
        print(f"400 q/s, HTTP, open-loop: outside the router {outside[0]:.2f}/{outside[1]:.2f} ms, ", end="")
        print(f"send lag {lag[0]:.2f}/{lag[1]:.2f} ms")
        before = resident_kb(process)
        asked_in_all = asyncio.run(measure(http, rpc, process, asked.seconds))
        print(f"memory: {(resident_kb(process) - before) * 1024 / asked_in_all:.0f} bytes a query")


if __name__ == "__main__":
    main()
