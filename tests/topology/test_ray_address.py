"""Addresses at which there is no Ray cluster: told at once, whatever is there instead."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ray", reason="this engine needs the extra [ray]")

from sim.base.errors import SpecError, SsimError
from topology.engines import ray_cluster
from topology.engines.ray_cluster import address_of, cluster, reach

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:1", "ray://head:10001", "[::1]:65535", "local"])
def test_addresses_of_clusters(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of(None) is None
    assert address_of(address) == address
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert address_of(None) == address


@pytest.mark.parametrize(
    "address", ["nowhere", "head:", ":6379", "head:0", "head:65536", "http://head:8265", "head:6379/x", "head:six", " "]
)
def test_other_texts_are_refused(address: str) -> None:
    with pytest.raises(SpecError, match=r"ray: not the address of a cluster .*; host:port, ray://host:port or auto"):
        address_of(address)
    with pytest.raises(SpecError), cluster(address, None):
        pass


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """A server that answers once with some bytes, or not at all."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                if answer is None:
                    connection.recv(1024)  # until it is given up
                else:
                    connection.sendall(answer)

        thread.submit(serve)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another server than Ray's is there"),
        (b"", "another server than Ray's is there"),
        (None, "timed out"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_another_server_is_no_cluster(
    answer: bytes | None, told: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_PATIENCE_S", 0.2)
    told = rf"no cluster answers \(.*{told}\); host:port, ray:"
    with server(answer) as address, pytest.raises(SsimError, match=told), cluster(scheme + address, None):
        pass


def test_a_server_that_speaks_grpc_is_taken_for_one() -> None:
    with server(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address:
        reach(address)
