"""Workers that join from processes of their own, and the router's side of them, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from serving.remote.address import Address
from serving.remote.places import RemoteWorkers

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = {"latency_table": "that of the test"}
MODULE = "tests.serving.remote.worker"


@dataclass
class Joiners:
    """Workers that join.

    Attributes:
        spare: Processes beyond the number of workers: they wait for a place.
        module: What they run.
        settings: What that is told.
        tls: Certificate, key and CA, as files; none without TLS.
    """

    spare: int = 0
    module: str = "serving.paced"
    settings: dict[str, Any] = field(default_factory=dict)
    tls: tuple[Any, ...] = ()
    patience_s: float = 60
    told: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    address: Address | None = None

    def source(self, **more: Any) -> RemoteWorkers:
        """Return the router's side, which starts the processes."""
        options: dict[str, Any] = {"tls": None, "required": REQUIRED, "greeting": {}, "placed": self.started} | more
        return RemoteWorkers(Address("127.0.0.1", 0), tell=self.told.append, **options)

    @contextmanager
    def started(self, address: Address, workers: int, _fail: object) -> Iterator[None]:
        self.address = address
        for _ in range(workers + self.spare):
            self.start()
        try:
            yield
        finally:
            for process in self.processes:
                process.kill()

    def start(self, **more: Any) -> subprocess.Popen[str]:
        """Start one more."""
        assert self.address is not None
        asked = {
            "port": self.address.port,
            "module": self.module,
            "settings": self.settings,
            "required": REQUIRED,
            "tls": list(map(str, self.tls)),
            "patience_s": self.patience_s,
        }
        words = [sys.executable, "-m", MODULE, json.dumps(asked | more)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
