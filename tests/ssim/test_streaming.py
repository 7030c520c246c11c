"""Runs that are longer than memory: they stream, end when asked to, and say what can't be done."""

from __future__ import annotations

import csv
import gc
import os
import resource
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from policies.slackfit import SlackFit
from sim import Cluster
from sim.base.errors import DataError, TooLongError
from sim.compiled import arrival_buffer, replay
from sim.engines import choose
from sim.tables.files import load_table
from sim.traces import source
from sim.traces.azure import Azure
from sim.traces.source import drawn_ahead
from sim.traces.synthetic import Poisson
from ssim.execution.runner import run_job
from ssim.jobs.reading import read_job
from ssim.results.store import Store
from tests.ssim.test_run_command import complete_runs, leftovers, ssim

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

TABLE = load_table("ofa-resnet50-rtx2080ti")
LONG = """\
schema: experiment/1
name: small
seed: 7
trace: {kind: azure, mean_qps: 10000, duration_s: 86400, slo_ms: 36}
cluster: {workers: 13, drop: expired}
latency_table: ofa-resnet50-rtx2080ti
keep: windows
policies: [slackfit, maxbatch]
"""


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken, in seconds; a busy machine does not add to it."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the CPU time of a process is read from /proc")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_long_run_ends_soon_after_it_is_interrupted(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "small.yaml").write_text(LONG)
    command = [sys.executable, "-m", "ssim", "run", "small.yaml", "--jobs", jobs]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "results/small/.shared.tmp").exists():
        assert process.poll() is None
        time.sleep(0.02)
    before_s = cpu_s(process.pid)
    while cpu_s(process.pid) < before_s + 1:  # it is in the midst of the day
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    begin_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    _, said = process.communicate(timeout=300)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin_s < 20  # the day would take longer
    assert process.returncode == 1
    assert "interrupted" in said
    assert not complete_runs(tmp_path)
    assert not leftovers(tmp_path)


def test_simpy_can_not_hold_the_day_and_says_what_can(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(LONG.replace("slackfit, maxbatch", "coarse"))
    ended = ssim(tmp_path, "run", "small.yaml")
    assert ended.returncode == 2
    assert "has more queries than fit into memory (over 100000000); " in ended.stderr
    assert "1 of 1 runs failed" in ended.stderr


def test_a_queue_that_outgrows_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival_buffer, "MAX_ARRIVALS", 100_000)
    trace = Azure(slo_ms=36, mean_qps=50_000, duration_s=20)
    rule = choose(10**6, Cluster(1), TABLE, SlackFit(), "compiled").rule
    with pytest.raises(TooLongError, match=r"too many queries are waiting \(over 100000\); use more workers"):
        replay.replay_stream(trace.chunks(1), 36_000_000, trace.duration_ns, Cluster(1), TABLE, rule)
    tally = replay.replay_stream(
        trace.chunks(1), 36_000_000, trace.duration_ns, Cluster(1, drop="expired"), TABLE, rule
    )
    assert tally.queries == sum(map(len, trace.chunks(1)))


def test_a_stream_of_nothing_or_out_of_order_is_told() -> None:
    rule = choose(10**6, Cluster(1), TABLE, SlackFit(), "compiled").rule
    rest = (36_000_000, 10**9, Cluster(1), TABLE, rule)
    with pytest.raises(DataError, match="has no arrivals"):
        replay.replay_stream(iter(()), *rest)
    with pytest.raises(DataError, match="row 1: is earlier than the row before"):
        replay.replay_stream(iter((np.array([5, 4]),)), *rest)
    with pytest.raises(DataError, match="row 0: is earlier than the row before"):
        replay.replay_stream(iter((np.array([5, 6]), np.array([5]))), *rest)
    for odd in (np.array([1.5]), np.array([1], np.int32), np.array([[1]])):
        with pytest.raises(DataError, match="has the wrong type or shape"):
            replay.replay_stream(iter((odd,)), *rest)
    with pytest.raises(DataError, match="ends before the last arrival"):
        replay.replay_stream(iter((np.array([5, 10**9 + 1]),)), *rest)
    for slo_ns, duration_ns in ((2**60, 10**9), (36_000_000, 2**60)):
        with pytest.raises(DataError, match="exceed the maximum length of a run"):
            replay.replay_stream(iter((np.array([5]),)), slo_ns, duration_ns, *rest[2:])


def test_chunks_drawn_ahead_are_the_same_and_so_are_their_errors() -> None:
    trace = Poisson(slo_ms=36, mean_qps=100_000, duration_s=20)
    ahead, own = list(drawn_ahead(trace.chunks(3))), list(trace.chunks(3))
    assert len(ahead) == len(own) > 20
    assert all(np.array_equal(one, other) for one, other in zip(ahead, own, strict=True))

    def broken() -> object:
        yield np.array([1])
        raise DataError("here", "breaks off")

    chunks = drawn_ahead(broken())
    assert next(chunks).tolist() == [1]
    with pytest.raises(DataError, match="breaks off"):
        next(chunks)


def test_who_stops_in_a_stream_does_not_wait_for_what_was_to_be_drawn_ahead() -> None:
    drawn = []

    def slow() -> object:
        for number in range(100):
            time.sleep(0.05)
            drawn.append(number)
            yield np.array([number])

    chunks = drawn_ahead(slow())
    assert next(chunks).tolist() == [0]
    chunks.close()
    assert len(drawn) < 5


def test_more_arrivals_than_are_held_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Poisson(slo_ms=36, mean_qps=100_000, duration_s=20)
    with pytest.raises(TooLongError, match=r"poisson: has more .* \(over 1000\)"):
        trace.arrivals(1, 1000)
    monkeypatch.setattr(source, "CHUNK", 10)
    assert len(trace.arrivals(1)) == len(trace.trace(1))


@pytest.mark.slow
def test_the_whole_azure_day_fits_into_half_a_gigabyte(tmp_path: Path) -> None:
    experiment = Path(__file__).parents[2] / "experiments" / "azure_day.yaml"
    command = [sys.executable, "-m", "ssim", "run", str(experiment), "--jobs", "1", "--set", "policies=[slackfit]"]
    # A process begins with the peak of the one that starts it, and this one may be large: a small one goes between.
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    measuring = [sys.executable, "-c", script, *command, "--no-figures"]
    ended = subprocess.run(measuring, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 500 * 1000  # kilobytes
    with (tmp_path / "results/azure_day/summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    # The mean of the minutes' rates is exact; the counts are Poisson numbers.
    assert abs(int(row["queries"]) - 910_042_048) < 4.5 * 910_042_048**0.5
    assert float(row["slo_attainment"]) > 0.9999


def test_a_run_that_fails_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival_buffer, "MAX_ARRIVALS", 1_000_000)
    text = LONG.replace("workers: 13, drop: expired", "workers: 1").replace("10000,", "100000,")
    (tmp_path / "small.yaml").write_text(text)
    queues = []

    class Watched(arrival_buffer.ArrivalBuffer):
        def __init__(self, slo_ns: int) -> None:
            super().__init__(slo_ns)
            queues.append(weakref.ref(self))

    monkeypatch.setattr(replay, "ArrivalBuffer", Watched)
    experiment, store = read_job(tmp_path / "small.yaml"), Store(tmp_path / "results")
    with store.writing():
        failed = run_job(experiment, store, jobs=1)
    gc.collect()
    assert len(failed) == len(queues) == 2
    assert [queue() for queue in queues] == [None, None]
