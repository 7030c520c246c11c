"""The front over gRPC: the answers and errors of HTTP, to messages of our own and to those of Triton's client."""

from __future__ import annotations

import os
import struct
import subprocess
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")
pytest.importorskip("grpc", reason="a server needs the extra [serve]")

import grpc

from policies.slackfit import SlackFit
from serving.front.listening import Listen
from serving.front.messages import SERVICE, message
from serving.front.rest import MAX_BODY
from sim.base.errors import ServingError
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from tests.serving.front.serving import TABLE, Server, wait_for
from tests.serving.front.test_rest import SLOW, Alone, check_laws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOTH = Listen(port=0, grpc_port=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(listen=BOTH) as found:
        yield found


@contextmanager
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address) as found:
        yield found


def method(found: Any, name: str) -> Any:
    return found.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=message(f"{name}Request").SerializeToString,
        response_deserializer=message(f"{name}Response").FromString,
    )


def call(server: Server, name: str, /, **fields: Any) -> Any:
    with channel(server) as found:
        return method(found, name)(message(f"{name}Request")(**fields), timeout=20)


def one(rows: int = 1, **more: Any) -> dict[str, Any]:
    """Return the fields of a request."""
    contents = {"fp32_contents": [0.0] * rows}
    tensor = {"name": "input", "datatype": "FP32", "shape": [rows, 1], "contents": contents}
    return {"model_name": "test", "inputs": [tensor], **more}


def timeout(microseconds: int) -> list[dict[str, Any]]:
    return [{"key": "timeout", "value": {"int64_param": microseconds}}]


def test_health_and_metadata_are_those_of_http(server: Server) -> None:
    assert call(server, "ServerLive").live
    assert call(server, "ServerReady").ready
    assert call(server, "ModelReady", name="test", version="1").ready
    assert call(server, "ServerMetadata").version == server.get("/v2").json()["version"]
    found, said = call(server, "ModelMetadata", name="test"), server.get("/v2/models/test").json()
    for name in ("inputs", "outputs"):
        tensors = [{"name": x.name, "datatype": x.datatype, "shape": list(x.shape)} for x in getattr(found, name)]
        assert tensors == said[name]


def test_rows_are_queries_as_numbers_and_as_bytes(server: Server) -> None:
    raw = {**one(3), "inputs": [{"name": "input", "datatype": "FP32", "shape": [3, 1]}]}
    before = server.metrics()["ssim_queries_received_total"]
    for request in (one(3, id="x"), {**raw, "id": "x", "raw_input_contents": [struct.pack("<3f", 1, 2, 3)]}):
        found = call(server, "ModelInfer", **request, parameters=timeout(500_000))
        assert (found.id, found.model_name, found.parameters[0].key) == ("x", "test", "router_us")
        outputs = dict(zip([output.name for output in found.outputs], found.raw_output_contents, strict=True))
        assert [list(output.shape) for output in found.outputs] == [[3]] * 3
        accuracies = np.frombuffer(outputs["accuracy"], "<f4")
        assert set(accuracies) <= {np.float32(subnet.accuracy) for subnet in TABLE.subnets}
        assert np.frombuffer(outputs["batch_size"], "<i8").min() >= 1
    wanted = call(server, "ModelInfer", **one(outputs=[{"name": "batch_size"}]))
    assert [output.name for output in wanted.outputs] == ["batch_size"]
    assert server.metrics()["ssim_queries_received_total"] == before + 7


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**one()["inputs"][0], **changes}]}


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "other model": ({"model_name": "x"}, "NOT_FOUND", "'test' is"),
    "other version": ({"model_version": "2"}, "NOT_FOUND", "version '2'"),
    "no inputs": ({"inputs": []}, "INVALID_ARGUMENT", "there must be input"),
    "other type": (tensor(datatype="FP64"), "INVALID_ARGUMENT", "datatype must be FP32"),
    "other field": (tensor(contents={"fp64_contents": [0]}), "INVALID_ARGUMENT", "0 elements of data instead of 1"),
    "shape": (tensor(shape=[-1, 1]), "INVALID_ARGUMENT", "at least 1 row"),
    "short bytes": ({**tensor(contents=None), "raw_input_contents": [b"abc"]}, "INVALID_ARGUMENT", "3 bytes of data"),
    "both": ({"raw_input_contents": [b"abcd"]}, "INVALID_ARGUMENT", "both as contents"),
    "bytes for none": ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", r"one for each input \(2 for 1\)"),
    "timeout 0": ({"parameters": timeout(0)}, "INVALID_ARGUMENT", "must be 1 to"),
    "timeout 2^63": (
        {"parameters": [{"key": "timeout", "value": {"uint64_param": 2**63}}]},
        "INVALID_ARGUMENT",
        "must be 1 to",
    ),
    "empty parameter": ({"parameters": [{"key": "timeout"}]}, "INVALID_ARGUMENT", "whole number"),
    "priority": ({"parameters": [{"key": "priority", "value": {"uint64_param": 3}}]}, "INVALID_ARGUMENT", "no levels"),
    "parameter of an input": (tensor(parameters=timeout(1)), "INVALID_ARGUMENT", "unknown parameter 'timeout'"),
    "other output": ({"outputs": [{"name": "x"}]}, "INVALID_ARGUMENT", "unknown output"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_is_no_query(name: str, server: Server) -> None:
    changes, status, problem = BAD[name]
    before = server.metrics()["ssim_queries_received_total"]
    with pytest.raises(grpc.RpcError, match=problem) as caught:
        call(server, "ModelInfer", **{**one(), **changes})
    assert caught.value.code() is grpc.StatusCode[status]
    assert server.metrics()["ssim_queries_received_total"] == before


def test_long_messages_and_unknown_methods_have_their_status(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "ModelInfer", **one(raw_input_contents=[b"x" * (MAX_BODY + 1)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with channel(server) as found, pytest.raises(grpc.RpcError) as caught:
        found.unary_unary(f"/{SERVICE}/ModelStreamInfer")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with channel(server) as found, pytest.raises(grpc.RpcError):
        found.unary_unary(f"/{SERVICE}/ModelInfer")(b"\xff\xff\xff nonsense", timeout=20)
    assert call(server, "ServerLive").live


def test_a_client_that_cancels_takes_its_queries_along_and_the_end_answers_the_others() -> None:
    cluster = Cluster(1)
    with Server(Alone(), cluster, listen=BOTH, table=SLOW) as server, channel(server) as found:
        infer, request = method(found, "ModelInfer"), message("ModelInferRequest")
        cancelled = infer.future(request(**one(40, id="gone", parameters=timeout(10**7))))
        wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 40)
        stays = [infer.future(request(**one(2, id="stays", parameters=timeout(10**7)))) for _ in range(5)]
        cancelled.cancel()
        wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 50)
        run = server.stop()
        assert all(len(future.result(20).outputs) == 3 for future in stays)
    check_laws(run, cluster, Alone(), SLOW)
    assert list(run.request_ids) == ["gone"] * 40 + ["stays"] * 10
    gone, stayed = np.split(run.result.outcome, [40])
    assert 0 < np.count_nonzero(gone == Outcome.CANCELLED) == 40 - np.count_nonzero(run.result.answered[:40])
    assert set(stayed.tolist()) == {Outcome.MET}


def test_dropped_queries_are_told_so() -> None:
    cluster = Cluster(1, drop="expired")
    with Server(SlackFit(), cluster, listen=BOTH) as server:
        with ThreadPoolExecutor(4) as pool:
            busy = [pool.submit(call, server, "ModelInfer", **one(16, parameters=timeout(10**7))) for _ in range(4)]
            wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 64)
            with pytest.raises(grpc.RpcError, match="its deadline could not be met") as caught:
                call(server, "ModelInfer", **one(parameters=timeout(1)))
            assert all(future.result().outputs for future in busy)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        run = server.stop()
    check_laws(run, cluster, SlackFit())


def test_a_taken_port_is_refused(server: Server) -> None:
    port = int(server.grpc_address.rsplit(":", 1)[1])
    with (
        pytest.raises(ServingError, match="can't be listened on for gRPC"),
        Server(listen=Listen(port=0, grpc_port=port)),
    ):
        pass


TRITON = """
import sys
import numpy as np
import tritonclient.grpc, tritonclient.http
for kind, address in ((tritonclient.http, sys.argv[1]), (tritonclient.grpc, sys.argv[2])):
    client = kind.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("test")
    metadata = client.get_model_metadata("test")
    assert (metadata["inputs"][0]["name"] if isinstance(metadata, dict) else metadata.inputs[0].name) == "input"
    tensor = kind.InferInput("input", [2, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((2, 1), dtype=np.float32))
    found = client.infer("test", [tensor], timeout=500_000, priority=0, request_id="7")
    assert found.as_numpy("accuracy").shape == (2,) and found.as_numpy("batch_size").min() >= 1
    assert found.as_numpy("subnet")[0].decode() in sys.argv[3]
    wanted = [kind.InferRequestedOutput("batch_size")]
    assert client.infer("test", [tensor], outputs=wanted).as_numpy("batch_size").shape == (2,)
    for changes in ({"timeout": 2**62}, {"priority": 5}, {"model_version": "3"}):
        try:
            client.infer("test", [tensor], **changes)
        except tritonclient.utils.InferenceServerException as error:
            print(kind.__name__, error.status(), error.message()[:60])
        else:
            raise AssertionError(changes)
"""


@pytest.mark.slow
def test_an_unmodified_client_of_triton_works(server: Server, tmp_path: Path) -> None:
    """In an environment of its own, since it wants another protobuf; SSIM_TRITON names one that is there."""
    folder = os.environ.get("SSIM_TRITON", str(tmp_path / "triton"))
    python = f"{folder}/bin/python"
    if "SSIM_TRITON" not in os.environ:
        venv.create(folder, with_pip=True)
        words = [python, "-m", "pip", "install", "-q", "tritonclient[grpc,http]"]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("tritonclient can't be installed here")
    words = [python, "-c", TRITON, server.address.removeprefix("http://"), server.grpc_address]
    ids = " ".join(subnet.id for subnet in TABLE.subnets)
    ended = subprocess.run([*words, ids], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 6
