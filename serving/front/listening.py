"""Where a server listens: on loopback, or elsewhere with TLS or an explicit consent to go without."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.errors import ServingError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG = 1024
"""Connections that the system holds until they are accepted."""

_MOST_CONNECTIONS = 10_000


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen.

    Attributes:
        host: A name or address of this machine.
        port: For HTTP; 0 for any free one.
        grpc_port: For gRPC, likewise; None without it.
        cert: The certificate chain of TLS, a PEM file; None without TLS.
        key: Its private key, a PEM file.
        insecure: Whether to listen beyond loopback without TLS.
        page: Whether to show a live page, too.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    page: bool = False

    def address(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Return family and address of the host.

        Raises:
            SpecError: The host is unknown, is not loopback and has neither TLS nor consent, or consent has no effect.
        """
        try:
            found = socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise SpecError("--host", "can't be resolved", repr(self.host), str(error)) from error
        family, _, _, _, address = found[0]
        is_loopback = all(ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_loopback for one in found)
        if not is_loopback and self.cert is None and not self.insecure:
            hint = "give --cert and --key for TLS, or --insecure to go without"
            raise SpecError("--host", "is reached from other machines", repr(self.host), hint)
        if self.insecure and (is_loopback or self.cert is not None):
            why = "with TLS" if self.cert is not None else f"on {self.host}, which no other machine reaches"
            raise SpecError("--insecure", f"has no effect {why}", "", "leave it out")
        return family, (str(address[0]), self.port)

    def tls(self) -> ssl.SSLContext | None:
        """Return what TLS needs; None without it.

        Raises:
            SpecError: Certificate and key are not both given, can't be read, or do not belong together.
        """
        if (self.cert is None) != (self.key is None):
            missing = "--key" if self.key is None else "--cert"
            raise SpecError(missing, "is missing", "", "TLS needs a certificate and its key")
        if self.cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            files = f"{self.cert}, {self.key}"
            raise SpecError("--cert", "can't be used with --key", files, str(error)) from error
        return context

    def bind(self) -> socket.socket:
        """Return a listening socket; no other process can listen on its port.

        Raises:
            SpecError: As `address`.
            ServingError: The port is taken, or not ours to take.
        """
        family, address = self.address()
        try:
            return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            problem = "another program listens there" if taken else "can't be listened on"
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            hint = "give another port; 0 for any free one"
            raise ServingError(f"{self.host}:{self.port}", problem, "" if taken else reason, hint) from error


def address_of(listening: socket.socket) -> str:
    """Return HOST:PORT of a socket, as a URL has it."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def most_connections() -> int:
    """Return how many connections may be open at once: a tenth of the files of the process stay for others."""
    return max(1, min(_MOST_CONNECTIONS, os.sysconf("SC_OPEN_MAX") * 9 // 10))
