"""The front over HTTP: the protocol, its errors, and the laws of a live run whatever clients do."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving import workers
from serving.facts import facts
from serving.front import handler, rest
from serving.front.models import LONGEST_TIMEOUT_US, ServedQueue
from serving.processes import WorkerProgram
from sim.base.errors import PolicyError, ServingError
from sim.engine.cluster import Cluster
from sim.engine.policy import Decision, Dispatch, Drop, View, Wait
from sim.engine.queues import CANCELLED
from sim.engine.result import NONE
from sim.engine.run_metrics import Outcome
from tests.serving.front.serving import INFER, SLO_NS, TABLE, Server, question, wait_for
from tests.serving.laws import check_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serving.session import LiveRun
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

SECOND = 1_000_000_000

SLOW = replace(TABLE, latency_ns=TABLE.latency_ns * 10)
"""A batch takes 50 ms and more: clients are faster."""


def check_laws(
    run: LiveRun, cluster: Cluster, policy: Policy | Mapping[str, Policy], table: LatencyTable = TABLE
) -> None:
    """Check that the log replays, and that every query that was received has one outcome."""
    log, result = run.log, run.result
    batches = check_replay(log, cluster, policy, table=table)
    np.testing.assert_array_equal(np.maximum(batches, NONE), result.batch)
    np.testing.assert_array_equal(batches == CANCELLED, result.outcome == Outcome.CANCELLED)
    assert len(run.request_ids) == len(log.arrival_ns) == result.queries
    assert sum(result.count(outcome) for outcome in Outcome) == result.queries


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as found:
        yield found


def test_health_and_metadata(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/test/ready", "/v2/models/test/versions/1/ready"):
        assert server.get(path).status_code == 200
    assert server.get("/v2").json()["name"] == "ssim"
    metadata = server.get("/v2/models/test").json()
    assert metadata == server.get("/v2/models/test/versions/1").json()
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1]}]


def test_rows_are_queries_and_each_has_its_answer(server: Server) -> None:
    before = server.metrics()
    found = server.ask(question(40, id="forty", parameters={"timeout": 500_000})).json()
    after = server.metrics()
    assert found["id"] == "forty"
    assert after["ssim_queries_received_total"] - before["ssim_queries_received_total"] == 40
    outputs = {output["name"]: output for output in found["outputs"]}
    assert {output["shape"][0] for output in outputs.values()} == {40}
    accuracy = {subnet.id: subnet.accuracy for subnet in TABLE.subnets}
    assert [accuracy[one] for one in outputs["subnet"]["data"]] == outputs["accuracy"]["data"]
    assert sum(1 / size for size in outputs["batch_size"]["data"]) == pytest.approx(
        sum(value - before[name] for name, value in after.items() if name.startswith("ssim_batches_total"))
    )


def test_tensors_as_bytes_are_the_same_as_json(server: Server) -> None:
    inputs = [{"name": "input", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": 8}}]
    outputs = [{"name": "batch_size", "parameters": {"binary_data": True}}, {"name": "subnet"}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body, headers = head + struct.pack("<2f", 1, 2), {"Inference-Header-Content-Length": str(len(head))}
    found = server.ask(data=body, headers=headers)
    cut = int(found.headers["Inference-Header-Content-Length"])
    content = json.loads(found.content[:cut])
    assert [output["name"] for output in content["outputs"]] == ["batch_size", "subnet"]
    assert content["outputs"][0]["parameters"]["binary_data_size"] == 16 == len(found.content) - cut
    assert all(1 <= size <= TABLE.max_batch for size in struct.unpack("<2q", found.content[cut:]))
    inputs[0]["parameters"] = {}
    head = json.dumps({"inputs": [inputs[0] | {"data": [[1], [2]]}], "parameters": {"binary_data_output": True}})
    found = server.ask(data=head)
    tail = found.content[int(found.headers["Inference-Header-Content-Length"]) :]
    (length,) = struct.unpack_from("<I", tail)
    assert tail[4 : 4 + length].decode() in {subnet.id for subnet in TABLE.subnets}


def bad(**changes: Any) -> dict[str, Any]:
    return {"inputs": [question()["inputs"][0] | changes]}


BAD: dict[str, tuple[Any, str]] = {
    "no object": ([], "the message: must be a JSON object"),
    "no inputs": ({}, "inputs: there must be input, each once"),
    "inputs not a list": ({"inputs": 3}, "inputs: must be a list"),
    "input not an object": ({"inputs": [3]}, r"inputs\[0\]: must be a JSON object"),
    "two inputs": ({"inputs": question()["inputs"] * 2}, "not 2"),
    "other name": (bad(name="x"), "unknown input; the model has input"),
    "other type": (bad(datatype="INT8"), r"datatype must be FP32 \(INT8\)"),
    "no type": (bad(datatype=None), "datatype must be FP32"),
    "flat": (bad(shape=[1]), r"shape must be \[rows, 1\]"),
    "empty shape": (bad(shape=[]), "shape must be"),
    "no rows": (bad(shape=[0, 1], data=[]), "at least 1 row"),
    "negative": (bad(shape=[-1, 1]), "at least 1 row"),
    "wide": (bad(shape=[1, 2], data=[1, 2]), "shape must be"),
    "fraction": (bad(shape=[1.0, 1]), "whole numbers"),
    "truth": (bad(shape=[True, 1]), "whole numbers"),
    "too many rows": (bad(shape=[2**62, 1]), "at most 10000 rows"),
    "short data": (bad(shape=[2, 1], data=[1]), "1 elements of data instead of 2"),
    "long data": (bad(data=[1, 2]), "2 elements of data instead of 1"),
    "no data": (bad(data=None), "data are missing"),
    "text": (bad(data=["1"]), "must be numbers that float32 holds"),
    "uneven": (bad(shape=[2, 1], data=[[1], [2, 3]]), "nested unevenly"),
    "null": (bad(data=[None]), "must be numbers"),
    "bytes that are not there": (bad(data=None, parameters={"binary_data_size": 4}), "0 bytes are left"),
    "other parameter of an input": (bad(parameters={"x": 1}), "unknown parameter 'x'"),
    "timeout 0": (question(parameters={"timeout": 0}), r"parameters.timeout: must be 1 to .* \(0\)"),
    "timeout below 0": (question(parameters={"timeout": -5}), "must be 1 to"),
    "timeout 2^63": (question(parameters={"timeout": 2**63}), "must be 1 to"),
    "timeout too long": (question(parameters={"timeout": LONGEST_TIMEOUT_US + 1}), "must be 1 to"),
    "timeout a fraction": (question(parameters={"timeout": 1.5}), "must be a whole number"),
    "timeout a truth": (question(parameters={"timeout": True}), "must be a whole number"),
    "priority": (question(parameters={"priority": 1}), "there are no levels"),
    "other parameter": (question(parameters={"timout": 1}), "did you mean 'timeout'"),
    "parameters not an object": (question(parameters=[]), "parameters: must be a JSON object"),
    "id not a text": (question(id=7), "id: must be a string"),
    "huge id": (question(id="x" * 300), "at most 256"),
    "other output": (question(outputs=[{"name": "x"}]), "unknown output; known: subnet"),
    "output twice": (question(outputs=[{"name": "subnet"}] * 2), "asked for twice"),
    "classification": (question(outputs=[{"name": "subnet", "parameters": {"classification": 1}}]), "unknown param"),
    "binary not a truth": (question(parameters={"binary_data_output": 1}), "must be true or false"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_by_place_and_is_no_query(name: str, server: Server) -> None:
    content, problem = BAD[name]
    before = server.metrics()["ssim_queries_received_total"]
    found = server.ask(content)
    assert found.status_code == 400
    assert re.search(problem, found.json()["error"])
    assert server.metrics()["ssim_queries_received_total"] == before


@pytest.mark.parametrize(
    ("body", "length", "problem"),
    [
        (b"nonsense", None, "is not JSON"),
        (b"[" * 100_000, None, "is not JSON"),
        (b"", None, "is not JSON"),
        (b"\xff\xfe", None, "is not JSON"),
        (b"{}", "x", "must be at most the 2 bytes"),
        (b"{}", "3", "must be at most the 2 bytes"),
        (b"{}", "-1", "must be at most the 2 bytes"),
        (b"{}rest", "2", "belong to no input"),
    ],
)
def test_bytes_that_are_no_message_are_refused(body: bytes, length: str | None, problem: str, server: Server) -> None:
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    found = server.ask(data=body, headers=headers)
    assert found.status_code == 400
    assert problem in found.json()["error"]


def test_other_models_paths_methods_and_long_messages_have_their_status(server: Server) -> None:
    for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/models/test/versions/2", "/v3", "/v2/models/"):
        found = server.get(path)
        assert (found.status_code, "error" in found.json()) == (404, True)
    assert server.get(INFER).status_code == 405
    assert requests.post(server.address + "/v2/models/other/infer", json=question(), timeout=20).status_code == 404
    found = server.ask(data=b" " * (rest.MAX_BODY + 1))
    assert found.status_code == 413
    assert server.ask().status_code == 200


def raw(server: Server) -> socket.socket:
    host, port = server.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_nonsense_and_tls_to_a_plain_port_are_answered_or_closed(server: Server) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200,
        b"GET\r\n\r\n",
        b"\x00" * 64 + b"\r\n\r\n",
    ):
        with raw(server) as connection:
            connection.sendall(data)
            assert b"400" in connection.recv(4096)
    assert server.ask().status_code == 200


def test_slow_clients_are_closed_and_do_not_keep_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "READ_S", 0.3)
    with Server() as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
        with raw(server) as silent, raw(server) as slow_head, raw(server) as slow_body:
            slow_head.sendall(head[:20])
            slow_body.sendall(head + b"{")
            assert server.ask().status_code == 200
            assert b"408" in slow_body.recv(4096)
            assert silent.recv(100) == b""
            assert slow_head.recv(100) == b""


@dataclass
class Alone:
    """Serves the most urgent query alone, by the most accurate subnet."""

    def decide(self, view: View) -> Decision:
        return Dispatch(len(view.table.subnets) - 1, 1, next(iter(view.system.free_workers())))


def test_a_client_that_goes_away_takes_its_queries_along_and_none_of_others() -> None:
    """What runs already is served for nobody; what waits is cancelled: its worker is slower than the clients."""
    cluster = Cluster(1)
    with Server(Alone(), cluster, table=SLOW) as server:
        body = json.dumps(question(16, id="gone", parameters={"timeout": 10_000_000})).encode()
        with raw(server) as connection, ThreadPoolExecutor(1) as pool:
            connection.sendall(
                f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 16)
            stays = pool.submit(server.ask, question(3, id="stays", parameters={"timeout": 20_000_000}))
            wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 19)
            connection.close()
            assert stays.result().status_code == 200
        wait_for(lambda: server.metrics()["ssim_queries_open"] == 0)
        metrics = server.metrics()
        run = server.stop()
    check_laws(run, cluster, Alone(), SLOW)
    outcomes = dict(zip(("gone", "stays"), np.split(run.result.outcome, [16]), strict=True))
    cancelled = np.count_nonzero(outcomes["gone"] == Outcome.CANCELLED)
    assert 0 < cancelled == metrics['ssim_queries_not_served_total{reason="cancelled"}'] == facts(run)["cancelled"]
    assert cancelled + np.count_nonzero(run.result.answered) == 19
    assert 0 < metrics["ssim_queries_abandoned_total"] <= 16 - cancelled
    assert set(outcomes["stays"].tolist()) == {Outcome.MET}
    assert metrics["ssim_queries_received_total"] == metrics["ssim_queries_answered_total"] + cancelled


def test_too_many_connections_are_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "most_connections", lambda: 2)
    with Server() as server, raw(server) as first, raw(server) as second:
        wait_for(lambda: b"503" in _answer_of(server))
        first.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in first.recv(4096)
        second.close()
        wait_for(lambda: server_is_reached(server))


def _answer_of(server: Server) -> bytes:
    with raw(server) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.recv(4096)


def server_is_reached(server: Server) -> bool:
    return b"200 OK" in _answer_of(server)


def test_a_full_queue_rejects_whole_requests() -> None:
    cluster = Cluster(1)
    with Server(Clipper(80.16), cluster, most_waiting=50) as server:
        assert server.ask(question(51)).status_code == 400
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: server.ask(question(30, parameters={"timeout": 10**7})), range(8)))
        assert {one.status_code for one in found} == {200, 503}
        rejected = [one for one in found if one.status_code == 503]
        assert all("the queue was full" in one.json()["error"] for one in rejected)
        assert server.metrics()['ssim_queries_not_served_total{reason="rejected"}'] == 30 * len(rejected)
        run = server.stop()
    check_laws(run, cluster, Clipper(80.16))
    assert facts(run)["rejected"] == 30 * len(rejected)


def test_queries_that_are_dropped_are_told_so_and_metrics_are_those_of_the_result() -> None:
    cluster = Cluster(1, drop="hopeless")
    with Server(SlackFit(), cluster) as server:
        with ThreadPoolExecutor(8) as pool:
            slow = list(pool.map(lambda _: server.ask(question(16)), range(12)))
        found = server.ask(question(parameters={"timeout": 1}))
        assert (found.status_code, found.json()["error"]) == (
            504,
            "the query was not served: its deadline could not be met",
        )
        metrics = server.metrics()
        run = server.stop()
    check_laws(run, cluster, SlackFit())
    result = run.result
    in_time = sum(value for name, value in metrics.items() if name.startswith("ssim_queries_in_time_total"))
    assert in_time == result.count(Outcome.MET)
    assert metrics['ssim_queries_not_served_total{reason="dropped"}'] == result.count(Outcome.DROPPED) > 0
    assert metrics["ssim_queries_answered_total"] == np.count_nonzero(result.answered)
    batches = [value for name, value in metrics.items() if name.startswith("ssim_batches_total")]
    assert sum(batches) == len(run.log.batches)
    assert {one.status_code for one in slow} <= {200, 504}


def test_the_end_answers_what_was_received_and_refuses_what_comes() -> None:
    """Queries wait longer than it takes to say stop; each of them has its answer."""
    cluster = Cluster(1)
    with Server(Clipper(80.16), cluster) as server, ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(server.ask, question(40, parameters={"timeout": 10**7})) for _ in range(10)]
        wait_for(lambda: server.metrics()["ssim_queries_received_total"] == 400)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_for(lambda: server.get("/v2/health/ready").status_code == 503)
        late = server.ask()
        assert (late.status_code, "it is shutting down" in late.json()["error"]) == (503, True)
        assert {one.result().status_code for one in asked} == {200}
        stopping.join()
        run = server.stop()
    check_laws(run, cluster, Clipper(80.16))
    assert run.result.answered.all()
    assert facts(run)["unfinished"] == 0


def test_without_a_query_nothing_is_stored() -> None:
    with Server() as server, pytest.raises(ServingError, match="received no query"):
        server.stop()


def test_when_no_worker_is_left_all_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.001)
    cluster, program = Cluster(1), WorkerProgram("tests.serving.bad_worker", {"fault": "dies in a batch"})
    with Server(Clipper(73.82), cluster, program=program) as server:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: server.ask(question(40)), range(8)))
        assert {one.status_code for one in found} == {503}
        wait_for(lambda: server.get("/v2/health/ready").status_code == 503)
        assert server.get("/v2/health/live").status_code == 200
        assert "no worker is left" in server.ask().json()["error"]
        assert server.metrics()["ssim_workers_alive"] == 0
        run = server.stop()
    check_laws(run, cluster, Clipper(73.82))
    assert facts(run)["lost"] + facts(run)["unfinished"] == run.result.queries


class Raising:
    def decide(self, view: View) -> Decision:
        raise ZeroDivisionError(f"{view.queue_length}")


def test_a_policy_that_fails_ends_the_server_and_its_clients_are_told() -> None:
    with Server(Raising()) as server:
        found = server.ask()
        assert (found.status_code, "the policy failed" in found.json()["error"]) == (500, True)
        with pytest.raises(PolicyError, match="ZeroDivisionError"):
            server.stop()


@dataclass
class Idle:
    """Waits for ever."""

    def decide(self, view: View) -> Decision:
        return Wait(view.now_ns + 3600 * SECOND)


def test_no_request_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "PATIENCE_NS", SECOND // 5)
    with Server(Idle()) as server:
        found = server.ask()
        assert (found.status_code, "there was no answer" in found.json()["error"]) == (504, True)
        wait_for(lambda: server.metrics()['ssim_queries_not_served_total{reason="cancelled"}'] == 1)
        run = server.stop()
    assert run.result.outcome.tolist() == [Outcome.CANCELLED]


@dataclass
class Choosy:
    """Drops every third query, serves the others alone."""

    asked: int = 0

    def decide(self, view: View) -> Decision:
        self.asked += 1
        return Drop(1) if self.asked % 3 == 0 else Dispatch(0, 1, next(iter(view.system.free_workers())))


def test_a_request_with_a_row_that_was_dropped_says_how_many() -> None:
    cluster = Cluster(1)
    with Server(Choosy(), cluster) as server:
        found = server.ask(question(9))
        assert (found.status_code, found.json()["error"].split(":")[0]) == (504, "3 of 9 rows were not served")
        run = server.stop()
    check_laws(run, cluster, Choosy())


def test_a_file_with_several_slos_needs_a_timeout_and_keeps_to_it() -> None:
    cluster = Cluster(1)
    with Server(cluster=cluster, queues=[ServedQueue(0, SLO_NS, is_default=False)]) as server:
        assert "parameters.timeout: is missing" in server.ask().json()["error"]
        for timeout_us in (50_000, 90_000):
            assert server.ask(question(parameters={"timeout": timeout_us})).status_code == 200
        run = server.stop()
    assert run.log.slos_ns == [50_000_000, 90_000_000]
    assert run.log.least_slos_ns == [SLO_NS]
    check_laws(run, cluster, SlackFit())
