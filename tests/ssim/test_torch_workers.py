"""Torch workers: the subnets of a network of one's own, served live; and what they refuse or lose."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch workers need the extra [torch]")

import torch

from policies.slackfit import SlackFit
from serving.frames import DONE, RUN, FrameKind, FrameReader, frame, json_frame, unpack
from serving.session import serve_trace
from sim.base.errors import SpecError
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from ssim.execution import torch_worker
from ssim.execution.torch_worker import ServedSupernet
from ssim.files.own_modules import forget_modules
from ssim.jobs.experiment.live import live_job
from ssim.jobs.experiment.live_workers import differences, worker_program
from ssim.jobs.reading import read_job
from tests.serving.laws import check_laws, trace

if TYPE_CHECKING:
    from serving.workers import WorkerProgram
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, a latency table and a file that serves it."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in {"net.py": NET, "table.csv": TABLE, "own.yaml": FILE}.items():
        (folder / name).write_text(text)
    forget_modules()
    return folder


def program(folder: Path, *overrides: str) -> tuple[LatencyTable, WorkerProgram]:
    """Return the table and the program of the file with overrides."""
    run = live_job(read_job(folder / "own.yaml", overrides)).runs[0]
    return run.table, worker_program(run.spec.live, 1, run.table, 1, folder)


def settings(folder: Path, *overrides: str) -> dict[str, Any]:
    return dict(program(folder, *overrides)[1].settings)


@pytest.fixture
def served(folder: Path) -> ServedSupernet:
    return ServedSupernet.of(settings(folder))


def test_a_network_of_ones_own_is_served_live_by_the_laws(folder: Path) -> None:
    table, found = program(folder)
    sent, cluster = trace(0.5, 150, (60,)), Cluster(1)
    run = serve_trace(sent, cluster, table, SlackFit(), program=found)
    check_laws(run, sent, cluster, SlackFit(), table=table)
    assert run.log.faults == []
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)
    assert run.serves["supernet"].startswith("net:OwnNet, random")
    assert differences(table, {"device": table.device, "supernet": "x, y"})  # a CSV file says neither


def test_a_batch_is_padded_as_the_table_pads_it(folder: Path, served: ServedSupernet) -> None:
    assert [part.shape[0] for (part,) in served._inputs] == [1, 4]
    begun_ns, ended_ns = served.run(0, 3)
    assert begun_ns < ended_ns
    run = live_job(read_job(folder / "own.yaml")).runs[0]
    between = worker_program(run.spec.live, 1, replace(run.table, between="interpolate"), 1, folder)
    assert between.settings["sizes"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("live.supernet=net:Nothing", "live.supernet: .*Nothing"),
        ("live.supernet=nothing/there.pt", "live.supernet: nothing/there.pt: no such file or folder"),
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
        live_job(read_job(folder / "own.yaml", overrides))


def answer(served: ServedSupernet, size: int) -> tuple[FrameKind, bytes]:
    ((kind, body),) = FrameReader().feed(torch_worker._answer(served, RUN.pack(7, 1, size, 0)))
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
    assert (kind, unpack(DONE, body)[:2]) == (FrameKind.DONE, (7, 1))
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
            torch_worker.serve(theirs)
        finally:
            torch.set_num_threads(threads)
        frames = FrameReader().feed(ours.recv(2**16))
    assert [kind for kind, _ in frames] == [FrameKind.WARMING] * 4 + [FrameKind.READY]
    assert json.loads(frames[-1][1])["serves"].keys() == {"supernet", "input", "device", "options"}
