"""The load generator over the network: it agrees with the server about every query."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")
pytest.importorskip("grpc", reason="a server needs the extra [serve]")

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving.front import sending
from serving.front.client import NEVER, send_trace
from serving.front.models import ServedQueue
from sim.base.errors import ServingError, SpecError
from sim.engine.cluster import Cluster
from sim.engine.result import NONE
from sim.engine.service_queue import ServiceQueue
from sim.traces.trace import Trace
from tests.serving.front.serving import SLO_NS, TABLE, Server
from tests.serving.front.test_rpc import BOTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.engine.cluster import DropRule

SECOND = 1_000_000_000


def trace(queries: int, seconds: float, slos_ns: tuple[int, ...] = (SLO_NS,)) -> Trace:
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.integers(0, int(seconds * SECOND), queries))
    slos = rng.choice(slos_ns, queries)
    return Trace(arrivals, slos if len(slos_ns) > 1 else slos_ns[0], int(seconds * SECOND) + 1)


def address_of(server: Server, scheme: str) -> str:
    return f"grpc://{server.grpc_address}" if scheme == "grpc" else server.address


@pytest.mark.parametrize(("drop", "scheme"), [("never", "http"), ("hopeless", "http"), ("hopeless", "grpc")])
def test_client_and_server_agree_about_every_query(drop: DropRule, scheme: str) -> None:
    sent = trace(200, 0.4, (20_000_000, 36_000_000))
    with Server(SlackFit(), Cluster(2, drop=drop), listen=BOTH) as server:
        found = send_trace(sent, address_of(server, scheme), ["test"])
        run = server.stop()
    order = np.array([int(one) for one in run.request_ids])
    np.testing.assert_array_equal(np.sort(order), np.arange(200))
    np.testing.assert_array_equal(found.served[order], run.result.answered)
    np.testing.assert_array_equal(np.array(run.log.slos_ns), sent.slo_ns[order])
    ids = [subnet.id for subnet in TABLE.subnets]
    for query, batch in zip(order, run.result.batch, strict=True):
        if batch != NONE:
            assert found.subnets[found.subnet[query]] == ids[run.log.batches[batch].start.subnet]
    served = found.served
    assert (found.sent_ns >= found.intended_ns).all()
    assert (found.answered_ns >= found.sent_ns).all()
    assert (found.answered_ns - found.sent_ns >= found.router_ns)[served].all()
    assert (found.router_ns == NEVER).tolist() == (~served).tolist()
    assert found.met.sum() + (served & ~found.met).sum() + (~served).sum() == len(sent)
    assert sum(found.problems.values()) == (~served).sum()
    assert set(found.status) <= {200, 504}


@pytest.mark.parametrize("scheme", ["http", pytest.param("grpc", marks=pytest.mark.slow)])
def test_a_server_that_ends_meanwhile_leaves_no_query_without_a_status(scheme: str) -> None:
    sent = trace(300, 1.0)
    with Server(Clipper(80.16), Cluster(1), listen=BOTH) as server:
        timer = threading.Timer(0.5, server.stop)
        timer.start()
        found = send_trace(sent, address_of(server, scheme), ["test"])
        timer.join()
        run = server.stop()
    assert len(found.status) == 300
    assert set(found.status) <= {200, 503, sending.NO_ANSWER}
    assert 0 < found.served.sum() == np.count_nonzero(run.result.answered) < 300
    assert sum(found.problems.values()) == (~found.served).sum()


def test_an_interruption_ends_sending_and_waits_for_answers() -> None:
    sent, asked = trace(3000, 30.0), []

    def is_interrupted() -> bool:
        asked.append(1)
        return len(asked) > 10

    with Server() as server:
        found = send_trace(sent, server.address, ["test"], is_interrupted=is_interrupted)
    assert 0 < len(found.status) == 3000 - found.unsent < 3000
    assert found.served.all()


def test_requests_that_find_no_connection_are_late_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection serves one request at a time: the second of a burst is sent when the first has its answer."""
    monkeypatch.setattr(sending, "most_connections", lambda: 1)
    with Server() as server:
        found = send_trace(Trace(np.zeros(20, dtype=np.int64), SLO_NS, SECOND), server.address, ["test"])
    assert found.served.all()
    order = np.argsort(found.sent_ns)
    assert (found.sent_ns[order][1:] >= found.answered_ns[order][:-1]).all()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_wrong_servers_and_wrong_traces_are_refused(scheme: str) -> None:
    some = trace(3, 0.1)
    with pytest.raises(ServingError, match="can't be reached"):
        send_trace(some, f"{scheme}://127.0.0.1:9", ["test"])
    with pytest.raises(SpecError, match="an SLO that can't be a timeout"):
        send_trace(Trace(np.zeros(1, dtype=np.int64), 999, SECOND), "http://127.0.0.1:9", ["test"])
    with Server(listen=BOTH) as server:
        address = address_of(server, scheme)
        with pytest.raises(ServingError, match=r"does not serve the model .*'other' is not served here; 'test' is"):
            send_trace(some, address, ["other"])
        send_trace(some, address, ["test"])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_each_class_of_queries_goes_to_its_model(scheme: str) -> None:
    cluster = Cluster(2, queues=(ServiceQueue("a"), ServiceQueue("b", floor=79)))
    codes = np.arange(40, dtype=np.uint16) % 2
    sent = replace(trace(40, 0.2), class_codes=codes, class_names=("a", "b"))
    served = [ServedQueue(0, SLO_NS), ServedQueue(1, SLO_NS)]
    with Server(SlackFit(), cluster, listen=BOTH, queues=served) as server:
        found = send_trace(sent, address_of(server, scheme), ["a", "b"])
        run = server.stop()
    assert found.served.all()
    order = [int(one) for one in run.request_ids]
    assert run.log.queue == codes[order].tolist()
    assert (found.accuracy[codes == 1] >= 79).all()


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a web server that knows nothing of the protocol."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_a_server_of_something_else_is_told(stranger: str) -> None:
    with pytest.raises(ServingError, match="does not speak the Open Inference Protocol"):
        send_trace(trace(3, 0.1), stranger, ["test"])
