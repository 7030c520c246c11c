"""`ssim serve` and `ssim load`: two commands, one run that is stored as any live run is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

from sim.base.parquet import read_parquet
from ssim.execution.agreement import StoredLiveRun
from ssim.results.store import Store
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
schema: experiment/1
name: quick
seed: 7
trace: {kind: bursty, base_qps: 100, variant_qps: 200, cv2: 4, duration_s: 0.4, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit]
"""


def wait_for_address(errors: IO[str]) -> str:
    """Return the address that a server says, once it does."""
    said = ""
    for line in errors:
        said += line
        if found := re.search(r"at (http://[^ ,]+)", line):
            return found[1]
    raise AssertionError(said)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder in which a server got a load and SIGTERM; what the load and the server printed."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "quick.yaml").write_text(FILE)
    words = [sys.executable, "-m", "ssim", "serve", "quick.yaml", "--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        address = wait_for_address(server.stderr)
        sent = ssim(folder, "load", "quick.yaml", "--to", address, "-o", "sent.parquet")
        server.send_signal(signal.SIGTERM)
        told = server.stdout.read()
        assert server.wait(60) == 0, server.stderr.read()
    assert sent.returncode == 0, sent.stderr
    return folder, sent.stdout, told


def test_both_sides_report_and_their_files_join_by_request(loaded: tuple[Path, str, str]) -> None:
    folder, sent, told = loaded
    assert "At the client" in sent
    assert "Live: delays in ms" in told
    mine = read_parquet(folder / "sent.parquet").to_pandas().set_index("request")
    (run,) = folder.glob("results/quick-serve/seed7-*")
    live = read_parquet(run / "live_requests.parquet").to_pandas().set_index("request")
    requests = read_parquet(run / "requests.parquet")
    assert sorted(mine.index) == sorted(live.index)
    both = mine.join(live[["client_ns"]])
    assert (both["router_ns"] <= both["answered_ns"] - both["sent_ns"]).all()
    assert both["client_ns"].isna().all()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["summary"]["queries"] == len(mine) == len(requests)
    assert manifest["circumstances"]["live"]["slo_attainment_client"] is None
    assert StoredLiveRun.read(Store(run.parent), run.name).replays()
    assert manifest["identity"]["trace"] == {"kind": "requests", "slo_ns": 36_000_000, "timeout_is_needed": False}


QUEUES = """\
schema: experiment/1
name: quick
seed: 7
cluster: {workers: 2, order: priority}
latency_table: ofa-resnet50-rtx2080ti
queues:
  - {name: gold, trace: {kind: poisson, mean_qps: 100, duration_s: 0.4, slo_ms: 40}}
  - {name: silver, priority: 2, trace: {kind: poisson, mean_qps: 200, duration_s: 0.4, slo_ms: 60}}
policies: [slackfit]
"""


@pytest.mark.slow
def test_a_load_over_grpc_reaches_each_queue(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(QUEUES)
    words = [sys.executable, "-m", "ssim", "serve", "quick.yaml", "--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert "Serving quick as gold, silver, quick at" in line
        found = re.search(r"gRPC: ([^,]+),", line)
        assert found is not None
        sent = ssim(tmp_path, "load", "quick.yaml", "--to", f"grpc://{found[1]}", "-o", "sent.parquet")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert sent.returncode == 0, sent.stderr
    mine = read_parquet(tmp_path / "sent.parquet").to_pandas().set_index("request")
    (run,) = tmp_path.glob("results/quick-serve/seed7-*")
    live = read_parquet(run / "live_requests.parquet").to_pandas()
    classes = read_parquet(run / "requests.parquet")["class"].to_pylist()
    slos = mine["slo_ns"][live["request"]].tolist()
    assert [{40_000_000: "gold", 60_000_000: "silver"}[slo_ns] for slo_ns in slos] == classes
    assert StoredLiveRun.read(Store(run.parent), run.name).replays()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("results", "ls"), ("compare", "quick-serve"), ("table", "from-run", "quick-serve", "-o", "table.json")]
)
def test_other_commands_take_the_run_as_any_other(loaded: tuple[Path, str, str], words: tuple[str, ...]) -> None:
    ended = ssim(loaded[0], *words)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_run_is_compared_with_the_simulator(loaded: tuple[Path, str, str]) -> None:
    ended = ssim(loaded[0], "compare", "quick-serve", "--live")
    assert ended.returncode == 0, ended.stderr
    assert "gives the same decisions: yes" in ended.stdout
    assert "at the client" not in ended.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--set", "policies=[slackfit, maxbatch]"), "policies: a server has one policy (slackfit, maxbatch); such as"),
        (("--set", "cluster.faults=[{worker: 0, at_s: 1}]"), "cluster.faults: can't be used in a live run"),
        (("--set", "measure={from_s: 0.1}"), "measure: can't be used by a server"),
        (("--host", "0.0.0.0"), "--host: is reached from other machines"),  # noqa: S104 - it is refused
        (("--insecure",), "--insecure: has no effect on 127.0.0.1"),
        (("--cert", "quick.yaml"), "--key: is missing"),
        (("--cert", "quick.yaml", "--key", "quick.yaml"), "--cert: can't be used with --key"),
    ],
)
def test_what_a_server_can_not_do_is_refused_by_place(words: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    ended = ssim(tmp_path, "serve", "quick.yaml", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert problem in ended.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "problem", "code"),
    [
        (("--to", "ftp://x"), "--to: must be the address of a server", 2),
        (("--to", "http://x:99999"), "--to: must be the address of a server", 2),
        (("--to", "http://127.0.0.1:1/v2"), "--to: must be the address of a server", 2),
        (("--to", "127.0.0.1:1", "--ca", "quick.yaml"), "--ca: has no effect without TLS", 2),
        (("--to", "https://127.0.0.1:1", "--ca", "quick.yaml"), "--ca: can't be read", 2),
        (("--to", "127.0.0.1:1", "-o", "x.csv"), "--out: must be a .parquet file", 2),
        (("--to", "127.0.0.1:1"), "http://127.0.0.1:1: can't be reached", 1),
    ],
)
def test_a_load_that_can_not_be_sent_is_refused(
    words: tuple[str, ...], problem: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    ended = ssim(tmp_path, "load", "quick.yaml", *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert problem in ended.stderr
