"""A server in a thread of its own, for tests of the front."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import requests

from policies.slackfit import SlackFit
from serving.front.listening import Listen
from serving.front.models import ServedQueue
from serving.front.session import serve_requests
from sim.engine.cluster import Cluster
from sim.tables.files import load_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.session import LiveRun
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

TABLE = load_table("ofa-resnet50-rtx2080ti")
SLO_NS = 36_000_000
INFER = "/v2/models/test/infer"


class Server:
    """A context in which requests are served; `stop` ends it and returns what came of it."""

    def __init__(
        self,
        policy: Policy | None = None,
        cluster: Cluster | None = None,
        listen: Listen | None = None,
        table: LatencyTable = TABLE,
        **options: Any,
    ) -> None:
        self.policy, self.cluster = policy or SlackFit(), cluster or Cluster(2)
        self.listen, self.options = listen or Listen(port=0), options
        self.table = table
        self.address = self.grpc_address = ""
        self.error: Exception | None = None
        self._run: LiveRun | None = None
        self._ready, self._asked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        if self.error is not None:
            raise self.error
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.set()
        self._thread.join()

    def stop(self) -> LiveRun:
        self._asked.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self._run is not None
        return self._run

    def ask(self, content: Any = None, **how: Any) -> requests.Response:
        """Ask for an answer; by default one row."""
        if content is not None or not how:
            how["json"] = question() if content is None else content
        return requests.post(self.address + INFER, timeout=20, **how)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, timeout=20)

    def metrics(self) -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def _serve(self) -> None:
        def ready(address: str, grpc_address: str, _models: Sequence[str]) -> None:
            self.address, self.grpc_address = address, grpc_address
            self._ready.set()

        try:
            self._run = serve_requests(
                "test",
                self.cluster,
                self.table,
                self.policy,
                self.listen,
                is_interrupted=self._asked.is_set,
                on_ready=ready,
                **({"queues": [ServedQueue(0, SLO_NS)]} | self.options),
            )
        except Exception as error:  # noqa: BLE001 - raised in the thread of the test
            self.error = error
        finally:
            self._ready.set()


def question(rows: int = 1, **more: Any) -> dict[str, Any]:
    inputs = [{"name": "input", "datatype": "FP32", "shape": [rows, 1], "data": [0.0] * rows}]
    return {"inputs": inputs, **more}


def wait_for(condition: Any, seconds: float = 20) -> None:
    """Wait until something is so; fails if it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
