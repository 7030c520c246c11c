"""Workers that compute: each query has the outputs of its own inputs, whichever batch it is in."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

from policies.slackfit import SlackFit
from serving.front.client import send_trace
from serving.front.listening import Listen
from serving.processes import WorkerProgram
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from tests.serving.front.doubling_worker import INPUTS, OUTPUTS
from tests.serving.front.serving import Server
from tests.serving.front.test_client import trace
from tests.serving.front.test_rest import check_laws
from tests.serving.front.test_rpc import call, timeout

if TYPE_CHECKING:
    from pathlib import Path

    import requests

DOUBLING = WorkerProgram("tests.serving.front.doubling_worker")


def tensors(rows: int, seed: int) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return inputs without their data, and the data."""
    rng = np.random.default_rng(seed)
    described = [{**spec, "shape": [rows, *spec["shape"][1:]]} for spec in INPUTS]
    return described, rng.normal(size=(rows, 2, 3)).astype(np.float32), rng.integers(-99, 99, (rows, 1))


def test_each_query_has_the_outputs_of_its_inputs_by_both_ways() -> None:
    cluster = Cluster(2)

    def ask(seed: int) -> None:
        (image, label), images, labels = tensors(1 + seed % 5, seed)
        if seed % 2:
            inputs = [label | {"data": labels.tolist()}, image | {"data": images.tolist()}]  # in any order
            found = server.ask({"inputs": inputs, "parameters": {"timeout": 10**7}}).json()["outputs"]
            outputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in found}
        else:
            raw = [images.tobytes(), labels.astype("<i8").tobytes()]
            fields = {"inputs": [image, label], "raw_input_contents": raw, "parameters": timeout(10**7)}
            reply = call(server, "ModelInfer", model_name="test", **fields)
            types = {"doubled": "<f4", "twice": "<i8"}
            outputs = {
                one.name: np.frombuffer(raw, types[one.name]).reshape(one.shape)
                for one, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
                if one.name in types
            }
        np.testing.assert_allclose(outputs["doubled"], 2 * images, rtol=1e-6)
        np.testing.assert_array_equal(outputs["twice"], 2 * labels)

    with Server(SlackFit(), cluster, Listen(port=0, grpc_port=0), program=DOUBLING) as server:
        metadata = server.get("/v2/models/test").json()
        assert metadata["inputs"] == INPUTS
        assert metadata["outputs"][:2] == OUTPUTS
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))
        sent = send_trace(trace(20, 0.1), server.address, ["test"])
        assert sent.served.all()
        run = server.stop()
    check_laws(run, cluster, SlackFit())
    assert any(one.start.size > 5 for one in run.log.batches) or len(run.log.batches) > 40


def test_a_row_that_overflows_fails_its_own_request_and_none_of_the_rows_beside_it() -> None:
    """One request of four rows, one of which is finite but not when doubled, waits with others behind a slow batch."""
    cluster, (image, label) = Cluster(1), INPUTS
    most = float(np.finfo(np.float32).max)

    def ask(rows: list[float]) -> requests.Response:
        count = len(rows)
        inputs = [
            image | {"shape": [count, 2, 3], "data": [value for value in rows for _ in range(6)]},
            label | {"shape": [count, 1], "data": [1] * count},
        ]
        return server.ask({"inputs": inputs, "parameters": {"timeout": 10**7}})

    with Server(SlackFit(), cluster, program=DOUBLING) as server:
        with ThreadPoolExecutor(8) as pool:
            sane = [pool.submit(ask, [0.5, 0.25]) for _ in range(7)]
            bad = ask([1.0, most, 2.0, most])
        assert (bad.status_code, bad.json()["error"].split(":")[0]) == (500, "2 of 4 rows were not served")
        for one in sane:
            outputs = {output["name"]: output["data"] for output in one.result().json()["outputs"]}
            assert outputs["doubled"] == [1.0] * 6 + [0.5] * 6
        metrics = server.metrics()
        run = server.stop()
    check_laws(run, cluster, SlackFit())
    assert metrics['ssim_queries_not_served_total{reason="failed"}'] == 2 == run.result.count(Outcome.DROPPED)
    assert metrics["ssim_queries_answered_total"] == 16 == np.count_nonzero(run.result.answered)
    assert metrics["ssim_queries_open"] == 0


IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 2, 3], "data": [0.5] * 6}
LABEL = {"name": "label", "datatype": "INT64", "shape": [1, 1], "data": [3]}


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([IMAGE], "must be image, label, each once, not 1 inputs"),
        ([IMAGE, IMAGE], "is given twice"),
        ([IMAGE, LABEL | {"shape": [2, 1], "data": [1, 2]}], "has 2 rows; the inputs before have 1"),
        ([IMAGE, LABEL | {"data": [1.5]}], "numbers that int64 holds"),
        ([IMAGE, LABEL | {"data": [2**63]}], "numbers that int64 holds"),
        ([IMAGE | {"data": [float("nan")] * 6}, LABEL], "data must be finite"),
        ([IMAGE | {"data": [1e300] * 6}, LABEL], "numbers that float32 holds"),
    ],
)
def test_bad_inputs_are_refused_before_they_are_in_a_batch_with_others(
    inputs: list[dict[str, Any]], problem: str, doubling: Server
) -> None:
    found = doubling.ask(data=json.dumps({"inputs": inputs}))
    assert found.status_code == 400
    assert problem in found.json()["error"]


@pytest.fixture(scope="module")
def doubling() -> Any:
    with Server(program=DOUBLING) as server:
        yield server


@pytest.mark.slow
def test_predictions_are_those_of_the_subnet_that_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch workers need the extra [torch]")
    from ssim.execution.torch_worker import ServedSupernet
    from tests.ssim import test_torch_workers as own

    for name, text in {"net.py": own.NET, "table.csv": own.TABLE, "own.yaml": own.FILE}.items():
        (tmp_path / name).write_text(text)
    table, program = own.program(tmp_path)
    alone = ServedSupernet.of(own.settings(tmp_path))
    images = np.random.default_rng(1).normal(size=(12, 1, 8, 8)).astype(np.float32)
    ids = [subnet.id for subnet in table.subnets]
    with Server(SlackFit(), Cluster(1), program=program, table=table) as server:

        def ask(row: int) -> dict[str, list[Any]]:
            inputs = [{"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": images[row].tolist()}]
            found = server.ask({"inputs": inputs, "parameters": {"timeout": 10**7}}).json()["outputs"]
            return {one["name"]: one["data"] for one in found}

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, range(len(images))))
    for image, outputs in zip(images, answers, strict=True):
        _, _, logits = alone.run(ids.index(outputs["subnet"][0]), 1, image.tobytes())
        np.testing.assert_allclose(outputs["output"], np.frombuffer(logits, "<f4"), rtol=1e-4, atol=1e-5)
