"""Torch workers: the subnets of a network of one's own, served live; and what they refuse or lose."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch workers need the extra [torch]")

import torch

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving import session
from serving.frames import DONE, RUN, FrameKind, FrameReader, SocketConnection, frame, json_frame, unpack
from serving.session import serve_trace
from sim.base.errors import SpecError
from sim.base.parquet import read_parquet
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from sim.engine.service_queue import ServiceQueue
from ssim.execution import torch_worker
from ssim.execution.torch_worker import ServedSupernet
from ssim.files.own_modules import forget_modules
from ssim.jobs.experiment.live import live_job
from ssim.jobs.experiment.live_workers import differences, worker_program
from ssim.jobs.reading import read_job
from tests.serving.laws import check_laws, trace
from tests.ssim.test_live import manifests, signaled

if TYPE_CHECKING:
    from serving.processes import WorkerProgram
    from serving.workers import LiveWorker
    from sim.tables.latency import LatencyTable

NET = (Path(__file__).parents[1] / "supernet" / "own_factories.py").read_text(encoding="utf-8")
SUBNETS = ["OwnNet:d1:e0.25x3", "OwnNet:d3:e1.0x3"]

TABLE = "subnet,accuracy,batch_size,latency_ms\n" + "\n".join(
    f"{subnet},{70 + 10 * place},{size},{4 + place}" for place, subnet in enumerate(SUBNETS) for size in (1, 4)
)

FILE = """\
schema: experiment/1
name: own
seed: 1
trace: {kind: bursty, base_qps: 100, variant_qps: 200, cv2: 4, duration_s: 0.5, slo_ms: 60}
cluster: {workers: 1}
latency_table: table.csv
live: {workers: torch, supernet: "net:OwnNet"}
policies: [slackfit]
"""


def files(folder: Path) -> Path:
    """Write a network, a latency table and a file that serves it."""
    for name, text in {"net.py": NET, "table.csv": TABLE, "own.yaml": FILE}.items():
        (folder / name).write_text(text)
    forget_modules()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files(tmp_path_factory.mktemp("own"))


def program(folder: Path, *overrides: str, is_asked: bool = False) -> tuple[LatencyTable, WorkerProgram]:
    """Return the table and the program of the file with overrides."""
    run = live_job(read_job(folder / "own.yaml", overrides), print).runs[0]
    return run.setup.table, worker_program(run.spec.live, 1, run.setup.table, 1, folder, is_asked=is_asked)


def settings(folder: Path, *overrides: str) -> dict[str, Any]:
    return dict(program(folder, *overrides)[1].settings)


TOKENS = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    example = torch.zeros(1, 8, dtype=torch.long)

    def __init__(self):
        super().__init__()
        self.tokens, self.blocks, self.head = nn.Embedding(16, 4), nn.Sequential(Block(), Block()), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.blocks(self.tokens(x)).mean(1))
"""


@pytest.fixture
def served(folder: Path) -> ServedSupernet:
    return ServedSupernet.of(settings(folder))


@pytest.mark.slow
def test_a_network_of_ones_own_is_served_live_by_the_laws(folder: Path) -> None:
    table, found = program(folder)
    sent, cluster = trace(0.5, 150, (60,)), Cluster(1)
    run = serve_trace(sent, cluster, table, SlackFit(), program=found)
    check_laws(run, sent, cluster, SlackFit(), table=table)
    assert run.log.faults == []
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)
    assert run.serves["supernet"].startswith("net:OwnNet, random")
    assert differences(table, {"device": table.device, "supernet": "x, y"})  # a CSV file says neither


@pytest.mark.slow
def test_torch_workers_serve_queues_of_their_one_model_by_the_laws(folder: Path) -> None:
    """The floor leaves one subnet: its number for the queue is not that for the worker."""
    table, found = program(folder)
    queues = (ServiceQueue("any", slo_ns=90_000_000), ServiceQueue("best", slo_ns=90_000_000, floor=80))
    sent, cluster = trace(0.5, 100, (60,)), Cluster(1, queues=queues, order="fair")
    codes = np.arange(len(sent), dtype=np.uint16) % 2
    sent = replace(sent, class_codes=codes, class_names=("any", "best"))
    run = serve_trace(sent, cluster, table, SlackFit(), program=found)
    check_laws(run, sent, cluster, SlackFit(), table=table)
    assert run.log.faults == []
    assert {(one.start.subnet, one.subnet) for one in run.log.batches if one.start.queue} == {(0, 1)}


OWN_TRACE = "trace: {kind: poisson, mean_qps: 50, duration_s: 1, slo_ms: 60}"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["cluster={kinds: [{name: a, workers: 1}, {name: b, workers: 1}]}"], "cluster.kinds: torch workers"),
        (
            [
                "trace=null",
                f"queues=[{{name: a, {OWN_TRACE}, latency_table: {{use: table.csv}}}}, {{name: b, {OWN_TRACE}}}]",
            ],
            "queues.0.latency_table: torch workers serve one model",
        ),
    ],
)
def test_workers_that_are_not_alike_and_other_models_are_refused(
    folder: Path, overrides: list[str], problem: str
) -> None:
    with pytest.raises(SpecError, match=problem):
        live_job(read_job(folder / "own.yaml", overrides), print)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no GPU")
def test_a_network_on_a_gpu_is_served_by_the_laws(folder: Path) -> None:
    table, found = program(folder, "live.device=0")
    sent, cluster = trace(0.5, 150, (60,)), Cluster(1)
    run = serve_trace(sent, cluster, table, SlackFit(), program=found)
    check_laws(run, sent, cluster, SlackFit(), table=table)
    assert run.log.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(20))
def test_the_replay_law_holds_in_run_after_run(folder: Path, turn: int) -> None:
    workers = 1 + turn % 2
    table, found = program(folder, f"cluster.workers={workers}")
    policy = SlackFit if turn % 3 else lambda: Clipper(80)
    sent, cluster = trace(2, 50 + 10 * turn, (40, 60)), Cluster(workers, drop="hopeless" if turn % 4 else "never")
    run = serve_trace(sent, cluster, table, policy(), seed=turn, program=found)
    check_laws(run, sent, cluster, policy(), turn, table=table)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_hangs_comes_back_and_is_used(folder: Path, number: int) -> None:
    """There is one worker: the queries after the signal are served by the process that takes its place."""
    table, found = program(folder)
    sent, cluster, killed_ns = trace(1.5, 100, (60,)), Cluster(1), list[int]()

    def on_start(workers: list[LiveWorker]) -> None:
        begin_ns = time.monotonic_ns() + session._LEAD_NS

        def kill() -> None:
            killed_ns.append(time.monotonic_ns() - begin_ns)
            os.kill(workers[0].pid or 0, number)

        asyncio.get_running_loop().call_later(0.5, kill)

    run = serve_trace(sent, cluster, table, SlackFit(), program=found, on_start=on_start)
    check_laws(run, sent, cluster, SlackFit(), table=table)
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)
    (seen_ns,) = [one.at_ns for one in run.log.instants if one.failed]
    (back_ns,) = [one.at_ns for one in run.log.instants if one.recovered]
    assert run.log.batches[-1].start_ns >= back_ns > seen_ns > killed_ns[0]
    assert len(run.log.faults) == 1
    if number == signal.SIGKILL and os.getloadavg()[0] > len(os.sched_getaffinity(0)):
        pytest.skip(f"void: the machine is busy; seen after {(seen_ns - killed_ns[0]) / 1e6:.0f} ms")
    assert number != signal.SIGKILL or seen_ns - killed_ns[0] < 200_000_000


@pytest.mark.slow
def test_a_terminated_run_answers_every_query(tmp_path: Path) -> None:
    files(tmp_path)
    ended = signaled(tmp_path, signal.SIGTERM, FILE.replace("name: own", "name: quick"))
    assert "interrupted: what was served is stored" in ended.stderr
    ((folder, manifest),) = manifests(tmp_path)
    live = manifest["circumstances"]["live"]
    assert live["unsent"] > 0 == manifest["summary"]["unfinished"]
    assert len(read_parquet(folder / "requests.parquet")) == live["received"]


def test_a_batch_is_padded_as_the_table_pads_it(folder: Path, served: ServedSupernet) -> None:
    assert [part.shape[0] for (part,) in served._inputs] == [1, 4]
    begun_ns, ended_ns, logits = served.run(0, 3)
    assert logits == b""
    assert begun_ns < ended_ns
    run = live_job(read_job(folder / "own.yaml"), print).runs[0]
    between = worker_program(run.spec.live, 1, replace(run.setup.table, between="interpolate"), 1, folder)
    assert between.settings["sizes"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("live.supernet=net:Nothing", "live.supernet: .*Nothing"),
        ("live.supernet=nothing/there.pt", "live.supernet: nothing/there.pt: no such file or folder"),
        ("live.supernet=own.yaml", "live.supernet: .*own.yaml"),  # no checkpoint
        ("live.supernet=cnn_small", r"latency_table: has a subnet that live.supernet does not have \(OwnNet:d1"),
        ("live.options.depth=3", "live.supernet: .*unknown parameter"),
        ("live.device=99", r"live.device: GPU not found \(99; available: "),
    ],
)
def test_what_can_t_be_served_is_refused_by_its_place(folder: Path, override: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        ServedSupernet.of(settings(folder, override))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["live.workers=paced"], "live.supernet: needs torch workers"),
        (["live.workers=paced", "live.supernet=null", "live.threads=2"], "live.supernet: needs torch workers"),
        (["live.supernet=null"], "live.supernet: is missing"),
        (
            ["cluster.latency.law=lognormal", "cluster.latency.p99_over_median=1.2"],
            "cluster.latency: can't be used with torch workers",
        ),
    ],
)
def test_keys_that_do_not_fit_the_kind_of_workers_are_refused(folder: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        live_job(read_job(folder / "own.yaml", overrides), print)


def test_inputs_of_queries_are_answered_as_the_subnet_answers_them(served: ServedSupernet) -> None:
    assert served.tensors["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert served.tensors["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 10]}]
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for subnet, name in enumerate(SUBNETS):
        *_, logits = served.run(subnet, 3, images.numpy().tobytes())
        with torch.inference_mode():
            expected = served._model.network(name)(images)
        np.testing.assert_allclose(np.frombuffer(logits, np.float32).reshape(3, 10), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="shape"):
        served.run(0, 3, images.numpy().tobytes()[:-4])


def test_a_token_beyond_the_vocabulary_fails_its_row_and_neither_its_batch_nor_the_worker(folder: Path) -> None:
    (folder / "tokens.py").write_text(TOKENS)
    subnets = [f"Net:d{depth}:e1.0x2" for depth in (1, 2)]
    served = ServedSupernet.of(settings(folder, "live.supernet=tokens:Net") | {"subnets": subnets, "sizes": [1, 4]})
    assert served.tensors["inputs"] == [{"name": "input", "datatype": "INT64", "shape": [-1, 8]}]
    good, bad = np.full(8, 3), np.full(8, 99)

    def logits(*rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        kind, body = answer(served, len(rows), np.stack(rows).tobytes())
        assert kind is FrameKind.DONE
        return np.frombuffer(body[DONE.size :], np.float32).reshape(len(rows), 3)

    expected = logits(good)[0]
    assert np.isfinite(expected).all()
    for rows in ([bad], [good, good, bad], [good, bad, good, bad], [good, good, good]):  # three are filled up to four
        found = logits(*rows)
        for row, one in zip(rows, found, strict=True):
            np.testing.assert_allclose(one, expected if row is good else np.full(3, np.nan), rtol=1e-4, atol=1e-5)


def test_outputs_that_are_whole_numbers_are_sent_as_such(
    served: ServedSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = served._model.network
    monkeypatch.setattr(served._model, "network", lambda name: lambda images: network(name)(images).argmax(1))
    assert served.tensors["outputs"] == [{"name": "output", "datatype": "INT64", "shape": [-1]}]
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    *_, classes = served.run(1, 3, images.numpy().tobytes())
    with torch.inference_mode():
        expected = network(SUBNETS[1])(images).argmax(1)
    np.testing.assert_array_equal(np.frombuffer(classes, np.int64), expected)


def answer(served: ServedSupernet, size: int, inputs: bytes = b"") -> tuple[FrameKind, bytes]:
    ((kind, body),) = FrameReader().feed(torch_worker._answer(served, RUN.pack(7, 1, size, 0) + inputs))
    return kind, body


def fails_at_size_four(served: ServedSupernet, monkeypatch: pytest.MonkeyPatch) -> None:
    network = served._model.network

    def limited(name: str) -> Any:
        def run(images: torch.Tensor) -> object:
            if len(images) == 4:
                raise torch.OutOfMemoryError("out of memory")
            return network(name)(images)

        return run

    monkeypatch.setattr(served._model, "network", limited)


def test_a_batch_without_memory_fails_and_smaller_ones_are_served(
    served: ServedSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at_size_four(served, monkeypatch)
    kind, body = answer(served, 3)
    assert kind is FrameKind.FAILED
    assert json.loads(body) == {"batch": 7, "reason": f"{SUBNETS[1]} at batch size 4: does not fit into memory"}
    kind, body = answer(served, 1)
    assert (kind, unpack(DONE, body)[:2]) == (FrameKind.DONE, (7, 1))  # and no outputs
    with pytest.raises(SpecError, match=f"live.supernet: {SUBNETS[0]} at batch size 4 does not fit into memory"):
        served.warm(lambda: None)


def test_a_result_that_is_not_finite_is_no_answer(served: ServedSupernet) -> None:
    served.warm(lambda: None)
    with torch.no_grad():
        next(served._model._supernet.parameters()).fill_(float("nan"))
    kind, body = answer(served, 1)
    assert kind is FrameKind.FAILED
    assert "contains NaN or infinity" in json.loads(body)["reason"]
    with pytest.raises(SpecError, match="contains NaN or infinity"):
        served.warm(lambda: None)


def test_a_worker_tells_each_step_and_then_what_it_serves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_worker.gc, "freeze", lambda: None)
    threads = torch.get_num_threads()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(json_frame(FrameKind.CONFIG, settings(folder)) + frame(FrameKind.STOP))
        try:
            torch_worker.serve(SocketConnection(theirs))
        finally:
            torch.set_num_threads(threads)
        frames = FrameReader().feed(ours.recv(2**16))
    assert [kind for kind, _ in frames] == [FrameKind.WARMING] * 4 + [FrameKind.READY]
    assert json.loads(frames[-1][1])["serves"].keys() == {"supernet", "input", "device", "options"}
