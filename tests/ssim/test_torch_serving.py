"""Torch workers behind a server: a request is answered with what the network computes from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch workers need the extra [torch]")
pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("grpc", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

import torch

from serving.front.inference import RequestError, Tensor
from serving.front.models import ServedModel, ServedQueue
from sim.engine.cluster import Cluster
from ssim.execution.torch_worker import ServedSupernet
from tests.serving.front.serving import Server
from tests.serving.front.test_rpc import BOTH, call
from tests.ssim.test_torch_workers import files, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ServedSupernet]]:
    """A server of a network of one's own, and the same network in this process."""
    folder: Path = files(tmp_path_factory.mktemp("served"))
    table, found = program(folder, is_asked=True)
    with Server(
        cluster=Cluster(1), listen=BOTH, table=table, program=found, queues=[ServedQueue(0, 10_000_000_000)]
    ) as server:
        yield server, ServedSupernet.of(dict(found.settings))


def question(images: torch.Tensor, **changes: Any) -> dict[str, Any]:
    spec = {"name": "input", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [spec | changes]}


def test_a_request_is_answered_with_the_logits_of_the_subnet_that_it_names(
    asked: tuple[Server, ServedSupernet],
) -> None:
    server, same = asked
    metadata = server.get("/v2/models/test").json()
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert metadata["outputs"][0] == {"name": "output", "datatype": "FP32", "shape": [-1, 10]}
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))  # more than a batch
    answered = server.ask(question(images))
    assert answered.status_code == 200, answered.text
    outputs = {output["name"]: output for output in answered.json()["outputs"]}
    assert outputs["output"]["shape"] == [6, 10]
    logits = np.array(outputs["output"]["data"]).reshape(6, 10)
    for row, subnet in enumerate(outputs["subnet"]["data"]):
        with torch.inference_mode():
            expected = same._model.network(subnet)(images[row : row + 1])[0]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-5)
    tensor = {"name": "input", "datatype": "FP32", "shape": [6, 1, 8, 8]}
    raw = [images.numpy().tobytes()]
    by_grpc = call(server, "ModelInfer", model_name="test", inputs=[tensor], raw_input_contents=raw)
    assert list(by_grpc.outputs[0].shape) == [6, 10]
    same_logits = np.frombuffer(by_grpc.raw_output_contents[0], "<f4").reshape(6, 10)
    np.testing.assert_allclose(same_logits.argmax(1), logits.argmax(1))
    assert call(server, "ModelMetadata", name="test").outputs[0].name == "output"
    as_bytes = server.ask(question(images) | {"outputs": [{"name": "output", "parameters": {"binary_data": True}}]})
    head = int(as_bytes.headers["Inference-Header-Content-Length"])
    np.testing.assert_allclose(np.frombuffer(as_bytes.content[head:], "<f4").reshape(6, 10).argmax(1), logits.argmax(1))


def test_several_inputs_of_a_query_are_one_row_in_the_order_of_the_model() -> None:
    tensors = {
        "inputs": [
            {"name": "input0", "datatype": "INT64", "shape": [-1, 2]},
            {"name": "input1", "datatype": "BOOL", "shape": [-1, 3]},
        ],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 2, 2]}],
    }
    model = ServedModel("two", ServedQueue(0, 1), 10)
    model.learn(tensors)
    tokens = Tensor("input0", "INT64", [2, 2], [[1, 2], [3, 4]])
    mask = Tensor("input1", "BOOL", [2, 3], bytes([1, 0, 2, 0, 0, 255]))  # true is any byte but 0
    for inputs in ((tokens, mask), (mask, tokens)):
        assert model.parse("", {}, inputs, []).inputs == [
            np.array(row, "<i8").tobytes() + bytes(bits) for row, bits in (([1, 2], [1, 0, 1]), ([3, 4], [0, 0, 1]))
        ]
    for inputs in ((tokens, tokens), (tokens,), (tokens, mask._replace(shape=[1, 3], data=bytes(3)))):
        with pytest.raises(RequestError):
            model.parse("", {}, inputs, [])
    outputs = np.arange(8, dtype="<f4").reshape(2, 2, 2)
    assert model.values([row.tobytes() for row in outputs]) == {"output": outputs.ravel().tolist()}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": [1, 64]}, "shape must be [rows, 1, 8, 8]"),
        ({"data": [float("nan")] * 64}, "must be finite"),
        ({"data": [1e300] * 64}, "must be numbers that float32 holds"),
        ({"data": [1.0] * 63}, "63 elements of data instead of 64"),
        ({"datatype": "INT64"}, "datatype must be FP32"),
        ({"name": "image"}, "unknown input; the model has input"),
    ],
)
def test_what_the_network_does_not_take_is_refused(
    asked: tuple[Server, ServedSupernet], changes: dict[str, Any], problem: str
) -> None:
    answered = asked[0].ask(data=json.dumps(question(torch.zeros(1, 1, 8, 8), **changes)))
    assert (answered.status_code, problem in answered.text) == (400, True), answered.text
