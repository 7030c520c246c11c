"""Where a server listens: a port of its own, loopback unless asked otherwise, TLS."""

from __future__ import annotations

import gc
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")
pytest.importorskip("grpc", reason="a server needs the extra [serve]")

import grpc

from serving.front.listening import Listen
from serving.front.messages import SERVICE
from sim.base.errors import ServingError, SpecError
from tests.serving.front.serving import Server

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = shutil.which("openssl")


def test_a_taken_port_is_refused_also_for_a_socket_that_shares_it() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServingError, match="another program listens there") as caught:
            Listen(port=taken.getsockname()[1]).bind()
        assert "0 for any free one" in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])  # noqa: S104 - they are refused
def test_other_machines_are_let_in_only_by_consent(host: str) -> None:
    with pytest.raises(SpecError, match=r"--host: is reached from other machines .*--insecure"):
        Listen(host, 0).bind()
    with Listen(host, 0, insecure=True).bind() as listening:
        assert listening.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_needs_no_consent_and_takes_none(host: str) -> None:
    Listen(host, 0).bind().close()
    with pytest.raises(SpecError, match="--insecure: has no effect on"):
        Listen(host, 0, insecure=True).bind()


@pytest.mark.parametrize("host", ["no such host", "a" * 300, "1.2.3.4.5"])
def test_an_unknown_host_is_refused(host: str) -> None:
    with pytest.raises(SpecError, match="--host: can't be resolved"):
        Listen(host, 0).bind()


def test_an_address_of_another_machine_can_not_be_listened_on() -> None:
    with pytest.raises(ServingError, match="can't be listened on"):
        Listen("192.0.2.1", 0, insecure=True).bind()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, and its key."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([OPENSSL, *words, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_answers_who_trusts_it_and_plain_text_is_refused(pem: tuple[Path, Path]) -> None:
    cert, key = pem
    with Server(listen=Listen(port=0, grpc_port=0, cert=cert, key=key)) as server:
        assert server.address.startswith("https://127.0.0.1:")
        found = requests.get(server.address + "/v2/health/ready", verify=str(cert), timeout=20)
        assert found.status_code == 200
        with grpc.secure_channel(server.grpc_address, grpc.ssl_channel_credentials(cert.read_bytes())) as channel:
            assert channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=20) == b"\x08\x01"
        with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=20)
        with pytest.raises(requests.exceptions.SSLError):
            server.get("/v2/health/ready")
        host, port = server.address.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 200" not in _all(plain)
        with socket.create_connection((host, int(port)), timeout=20):  # half open: it must not hold up the others
            assert requests.get(server.address + "/v2", verify=str(cert), timeout=20).status_code == 200
    gc.collect()  # asyncio leaves the sockets of failed handshakes to the collector, which complains


def _all(connection: socket.socket) -> bytes:
    found = b""
    try:
        while data := connection.recv(4096):
            found += data
    except ConnectionError:
        pass
    return found


def test_wrong_certificates_are_refused(pem: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pem
    with pytest.raises(SpecError, match="--key: is missing"):
        Listen(cert=cert).tls()
    with pytest.raises(SpecError, match="--cert: is missing"):
        Listen(key=key).tls()
    for wrong in (key, tmp_path / "none.pem", tmp_path):
        with pytest.raises(SpecError, match="--cert: can't be used"):
            Listen(cert=wrong, key=key).tls()
    with pytest.raises(SpecError, match="--insecure: has no effect with TLS"):
        Listen("0.0.0.0", 0, cert, key, insecure=True).address()  # noqa: S104 - with TLS
