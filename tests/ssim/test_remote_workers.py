"""`ssim worker`: workers of other machines by the command line; loopback stands for the network."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("grpc", reason="workers of other machines need the extra [serve]")

from tests.ssim.in_process import assert_refused, ssim
from tests.ssim.test_live import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator

SWEEP = "sweep={latency_table: [ofa-resnet50-rtx2080ti, ofa-resnet50-a40]}"
ROOT = Path(__file__).parents[2]

FILE = """\
schema: experiment/1
name: quick
seed: 7
trace: {kind: bursty, base_qps: 100, variant_qps: 200, cv2: 4, duration_s: 0.5, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
live: {workers: paced, remote: {listen: "127.0.0.1:0"}}
policies: [slackfit, {use: clipper, params: {accuracy: 78.25}}]
"""


class Machines:
    """A router and workers, each a process in a folder of its own."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ssim", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self) -> None:
        """Kill all that still run."""
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def machines() -> Iterator[Machines]:
    found = Machines()
    yield found
    found.end()


def said(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Return what a process says on stderr, once it says it."""
    assert process.stderr is not None
    lines = list[str]()
    for line in process.stderr:
        lines.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError("".join(lines))


def address_of(router: subprocess.Popen[str]) -> str:
    return said(router, r"Waiting for \d workers at ([^ ]+:\d+)\.")[1]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("live.remote.listen=0.0.0.0:8002", "live.remote.listen: is beyond this machine ('0.0.0.0:8002')"),
        ("live.remote.listen=somewhere", "live.remote.listen: must be HOST:PORT"),
        ("live.remote.listen=no.such.host.invalid:1", "live.remote.listen: can't be resolved"),
        ("live.remote.insecure=true", "live.remote.insecure: has no effect at 127.0.0.1"),
        ("live.remote.cert=a.pem", "live.remote.key: is missing"),
        ("live.remote.key=a.pem", "live.remote.cert: is missing"),
        ("live.remote.ca=a.pem", "live.remote.ca: has no effect without TLS"),
        ("live.remote={cert: a.pem, key: b.pem}", "live.remote.cert: can't be used with its key"),
        (SWEEP, "sweep: live.remote: a worker of another machine serves one latency_table"),
    ],
)
@pytest.mark.parametrize("words", [("run", "quick.yaml", "--live"), ("worker", "quick.yaml", "--to", "127.0.0.1:1")])
def test_workers_that_could_not_come_are_refused_by_place(
    tmp_path: Path, words: tuple[str, ...], override: str, problem: str
) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    assert_refused(ssim(tmp_path, *words, "--set", override), problem)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--to", "somewhere"), "--to: must be HOST:PORT ('somewhere')"),
        (("--to", "192.0.2.1:80"), "--to: is beyond this machine ('192.0.2.1:80')"),
        (("--to", "127.0.0.1:1", "--set", "live={workers: paced}"), "live.remote: is missing"),
        (("--to", "127.0.0.1:1", "--set", "cluster.network_ms=2"), "cluster.network_ms: can't be used in a live run"),
    ],
)
def test_a_worker_that_has_nowhere_to_go_is_refused(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    assert_refused(ssim(tmp_path, "worker", "quick.yaml", *words), problem)


@pytest.mark.slow
def test_the_same_workers_serve_each_run_and_end_by_themselves(tmp_path: Path, machines: Machines) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    port = "live.remote.listen=127.0.0.1:18732"
    router = machines.start(tmp_path, "run", "quick.yaml", "--live", "--no-figures", "--set", port)
    workers = [machines.start(tmp_path, "worker", "quick.yaml", "--to", "127.0.0.1:18732") for _ in range(2)]
    out, err = router.communicate(timeout=120)
    assert router.returncode == 0, err
    assert err.count("A worker joined") == 4  # two in each run
    assert "Live: delays in ms" in out
    for worker in workers:
        assert worker.communicate(timeout=60)[1].count("The router has ended") == 2
        assert worker.returncode == 0
    for folder, manifest in manifests(tmp_path):
        assert manifest["circumstances"]["live"]["lost"] == manifest["summary"]["unfinished"] == 0
        compared = ssim(tmp_path, "compare", f"quick-live/{folder.name}", "--live")
        assert "gives the same decisions: yes." in compared.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_router_that_is_ended_leaves_nothing(tmp_path: Path, machines: Machines, number: int) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    words = ["--no-figures", "--set", "trace.duration_s=60", "--set", "policies=[slackfit]"]
    router = machines.start(tmp_path, "run", "quick.yaml", "--live", *words)
    address = address_of(router)
    workers = [machines.start(tmp_path, "worker", "quick.yaml", "--to", address) for _ in range(2)]
    for worker in workers:
        said(worker, f"Ready, for {address}")
    router.send_signal(number)
    router.communicate(timeout=60)
    ended = "The router has ended" if number == signal.SIGTERM else "The router is lost"
    for worker in workers:
        assert ended in worker.communicate(timeout=60)[1]
        assert worker.returncode == (0 if number == signal.SIGTERM else 1)
    for _, manifest in manifests(tmp_path):
        assert manifest["summary"]["unfinished"] == 0


TORCH = """\
schema: experiment/1
name: quick
seed: 1
trace: {kind: bursty, base_qps: 50, variant_qps: 100, cv2: 4, duration_s: 1, slo_ms: 60}
cluster: {workers: 1}
latency_table: table.csv
live: {workers: torch, supernet: "net:OwnNet", threads: 1, remote: {listen: "127.0.0.1:0"}}
policies: [slackfit]
"""


def put_network(folder: Path) -> None:
    """Write a network of one's own, its table and a file that serves it."""
    folder.mkdir()
    (folder / "net.py").write_text((ROOT / "tests" / "supernet" / "own_factories.py").read_text(encoding="utf-8"))
    rows = [f"{name},{60 + 10 * place},{size},{4 + place}" for place, name in enumerate(SUBNETS) for size in (1, 4)]
    (folder / "table.csv").write_text("\n".join(["subnet,accuracy,batch_size,latency_ms", *rows]))
    (folder / "own.yaml").write_text(TORCH)


SUBNETS = ["OwnNet:d1:e0.25x3", "OwnNet:d3:e1.0x3"]


@pytest.mark.slow
def test_a_network_is_served_from_where_the_worker_has_it_and_no_other_one(tmp_path: Path, machines: Machines) -> None:
    pytest.importorskip("torch", reason="torch workers need the extra [torch]")
    put_network(tmp_path / "here")
    put_network(tmp_path / "there")
    (tmp_path / "here" / "net.py").unlink()  # the router needs no network
    words = ["--no-figures", "--set", "cluster.workers=2", "--set", "trace.duration_s=0.5"]
    router = machines.start(tmp_path / "here", "run", "own.yaml", "--live", *words)
    address = address_of(router)
    machines.start(tmp_path / "there", "worker", "own.yaml", "--to", address)
    said(router, "A worker joined")
    other = machines.start(tmp_path / "there", "worker", "own.yaml", "--to", address, "--set", "seed=2")
    said(router, "A worker joined")
    losers = other.communicate(timeout=60)[1]
    assert "refuses this worker" in losers
    assert "instead of" in losers
    machines.start(tmp_path / "there", "worker", "own.yaml", "--to", address)
    out, err = router.communicate(timeout=120)
    assert router.returncode == 0, err
    assert "instead of" in out
    ((_, manifest),) = manifests(tmp_path / "here")
    assert manifest["circumstances"]["live"]["serves"]["supernet"].startswith("net:OwnNet, random")
    assert manifest["summary"]["unfinished"] == 0
