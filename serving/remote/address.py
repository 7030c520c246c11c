"""Where the router waits for workers of other machines, and by what both sides prove who they are."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from serving.frames import MAX_BODY
from sim.base.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

METHOD_SERVICE, METHOD = "ssim.Workers", "Join"
"""The one call of the service, a stream of frames in both directions."""

MOST_PORT = 65_535

KEEPALIVE_S = 5.0
"""How often a connection without news is tried; a machine that is unplugged is noticed after twice that time."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BODY + 64),
    ("grpc.max_send_message_length", MAX_BODY + 64),
    ("grpc.keepalive_time_ms", int(1000 * KEEPALIVE_S)),
    ("grpc.keepalive_timeout_ms", int(1000 * KEEPALIVE_S)),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Of both sides; a message is a frame, whose length is bounded."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What each side shows and trusts; PEM.

    Attributes:
        cert: The certificate chain that is shown.
        key: Its private key.
        ca: The certificates that sign those of the other side.
    """

    cert: bytes
    key: bytes
    ca: bytes

    @classmethod
    def read(cls, cert: Path, key: Path, ca: Path, place: str) -> Tls:
        """Read three files.

        Args:
            cert: The certificate chain.
            key: Its private key.
            ca: The certificates to trust.
            place: What begins messages.

        Raises:
            SpecError: One can't be read, or they do not belong together.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(cert, key, password=lambda: "")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise SpecError(f"{place}.cert", "can't be used with its key", f"{cert}, {key}", str(error)) from error
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise SpecError(f"{place}.ca", "can't be used", str(ca), str(error)) from error
        return cls(cert.read_bytes(), key.read_bytes(), ca.read_bytes())

    def of_server(self) -> Any:
        """Return the credentials of a server that asks its clients for theirs."""
        return grpc.ssl_server_credentials([(self.key, self.cert)], self.ca, require_client_auth=True)

    def of_client(self) -> Any:
        """Return the credentials of a client."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port.

    Attributes:
        host: A name or an address, without brackets.
        port: 0 for any free one.
    """

    host: str
    port: int

    @classmethod
    def read(cls, text: str, place: str) -> Address:
        """Read HOST:PORT.

        Args:
            text: What is written.
            place: What begins messages.

        Raises:
            SpecError: It is something else.
        """
        host, _, port = text.rpartition(":")
        is_port = port.isascii() and port.isdigit() and int(port) <= MOST_PORT
        if not is_port or not host or (":" in host) != (host.startswith("[") and host.endswith("]")):
            raise SpecError(place, "must be HOST:PORT", repr(text), "such as 127.0.0.1:8002 or [::1]:8002")
        return cls(host.strip("[]"), int(port))

    def check(self, place: str, *, has_tls: bool, insecure: bool) -> bool:
        """Check that nobody talks beyond this machine without TLS or consent; return whether it is beyond it.

        Args:
            place: What begins messages: that of the address.
            has_tls: Whether there is TLS.
            insecure: Whether there is consent to go without.

        Raises:
            SpecError: The host is unknown, or is not loopback and has neither TLS nor consent.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SpecError(place, "can't be resolved", repr(self.host), str(error)) from error
        is_loopback = all(ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_loopback for one in found)
        if not is_loopback and not has_tls and not insecure:
            hint = "live.remote.cert and key for TLS, or live.remote.insecure: true to go without"
            raise SpecError(place, "is beyond this machine", repr(str(self)), hint)
        return not is_loopback

    def __str__(self) -> str:
        """Return HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
