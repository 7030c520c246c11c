"""A Ray cluster: the way to it, its machines, and what it lacks for the processes of a run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sim.base.errors import SpecError, SsimError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from topology.sites import DeploymentSite, PlannedProcess

_PATIENCE_S = 10.0
"""How long the head of a cluster may take to answer, in seconds."""
_CRASH_REPORTER = "import sys; sys.stdin.read() or sys.exit(sys.argv[1])"
_CHECK_S = 3.0
"""The time between two looks whether the head of a cluster answers, in seconds."""
_ABSENCE_S = 30.0
"""How long it may not answer, in seconds."""
_ADDRESSES = "host:port, ray://host:port or auto, by --address or RAY_ADDRESS"
_SETTINGS = b"\x04"
"""The type of the frame with which both sides of HTTP/2, and so of gRPC, begin (RFC 9113, sections 3.4 and 6.5)."""
_FRAME_HEADER = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
_RAY_NAMES = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of a cluster.

    Attributes:
        id: Its id in the cluster.
        names: Its names and its address.
        resources: What it has, by lower-case name; memory in bytes.
        labels: Its labels.
    """

    id: str
    names: tuple[str, ...]
    resources: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def fits(self, site: DeploymentSite | None) -> bool:
        """Return whether a site may be on it."""
        if site is None:
            return True
        named = not site.node or site.node in self.names
        return named and all(self.labels.get(name) == value for name, value in site.labels.items())


def nodes() -> list[ClusterNode]:
    """Return the machines of the cluster that this process is connected to."""
    untyped: Any = ray
    found = []
    for node in untyped.nodes():
        if node["Alive"]:
            names = [node.get(key) for key in ("NodeName", "NodeManagerHostname", "NodeManagerAddress")]
            resources = {name.lower(): amount for name, amount in node["Resources"].items()}
            labels = dict(node.get("Labels") or {})
            found.append(ClusterNode(node["NodeID"], tuple(dict.fromkeys(filter(None, names))), resources, labels))
    return sorted(found, key=lambda node: node.id)


def lacking(processes: Sequence[PlannedProcess], there: Sequence[ClusterNode]) -> list[str]:
    """Return a line for each thing that a cluster lacks for some processes, as far as its size tells."""
    lines = list(dict.fromkeys(line for process in processes for line in _lacking_for(process, there)))
    for name in dict.fromkeys(name for process in processes for name in process.needs) if not lines else ():
        needed = sum(process.needs.get(name, 0.0) for process in processes)
        has = sum(node.resources.get(name.lower(), 0.0) for node in there)
        if needed > has:
            lines.append(f"all processes together need {_amount(name, needed)}, the cluster has {_amount(name, has)}")
    return lines


def _lacking_for(process: PlannedProcess, there: Sequence[ClusterNode]) -> Iterator[str]:
    site = process.site
    what = "a process" if site is None else f"site {site.name}"
    fitting = [node for node in there if node.fits(site)]
    if not fitting and site is not None:
        known = ", ".join(sorted({name for node in there for name in node.names}))
        if site.node:
            yield f"{what}: no machine {site.node!r}; there are {known}"
        else:
            wanted = ", ".join(f"{name}={value}" for name, value in site.labels.items())
            yield f"{what}: no machine has the labels {wanted}"
        return
    for name, amount in process.needs.items():
        most = max((node.resources.get(name.lower(), 0.0) for node in fitting), default=0.0)
        if amount > most:
            yield f"{what}: a process needs {_amount(name, amount)}, and a machine has {_amount(name, most)} at most"


def _amount(name: str, amount: float) -> str:
    return f"{amount / 1e9:g} GB of memory" if name == "memory" else f"{amount:g} {name}"


def options_of(process: PlannedProcess, number: int, there: Sequence[ClusterNode]) -> dict[str, Any]:
    """Return the options with which Ray starts the actor of a process.

    Args:
        process: The process.
        number: Its number: processes of a site whose machine is named take turns if several have the name.
        there: The machines.
    """
    needs = {"cpu": 0.0, "gpu": 0.0} | process.needs
    options: dict[str, Any] = {_RAY_NAMES[name]: amount for name, amount in needs.items() if name in _RAY_NAMES}
    options["resources"] = {name: amount for name, amount in needs.items() if name not in _RAY_NAMES}
    options["scheduling_strategy"] = "SPREAD"  # over the machines: actors that require no cpu could be put anywhere
    if process.site is not None and process.site.node:
        fitting = [node for node in there if node.fits(process.site)]
        node = fitting[number % len(fitting)]
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
    elif process.site is not None and process.site.labels:
        options["label_selector"] = dict(process.site.labels)
        del options["scheduling_strategy"]
    return options


@contextmanager
def cluster(address: str | None, actors: int | None) -> Generator[str]:
    """Provide a cluster: the connected one, that of an address, or one that is started here and ends with the context.

    Yields:
        The address of its head.

    Raises:
        SpecError: The address is not one of a cluster.
        SsimError: There is none at the address, or none can be started.
    """
    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    address = address_of(address)
    try:
        connect(address, actors)
    except (OSError, RuntimeError, ValueError) as error:
        what = "no cluster answers" if address else "a local cluster cannot be started"
        hint = f"{_ADDRESSES}; see `ray status` there" if address else ""
        raise SsimError(f"ray, {address}" if address else "ray", what, str(error), hint) from error
    is_client = address is not None and address.startswith("ray://")
    try:
        yield str(address) if is_client else ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def connect(address: str | None, cores: int | None) -> None:
    """Connect this process to the cluster of an address; without one, to one that is started here.

    Args:
        address: `host:port`, `ray://host:port` or `auto`.
        cores: How many cores a cluster that is started here has; None for all of the machine.

    Raises:
        OSError: Nobody answers there.
        RuntimeError: The cluster can't be used, such as for another version of Ray, or does not start in time.
        ValueError: Ray does not take the address.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            reach(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as ended:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from ended
    except Exception as error:
        if type(error) is Exception:  # what Ray raises where its processes do not start in time
            raise RuntimeError(str(error)) from error
        raise
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, handler)


class ClusterHead:
    """The head of a cluster, which is asked now and then: a minute without it, and Ray ends this process.

    Args:
        address: Its address.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._asked = self._answered = time.monotonic()

    def check(self) -> None:
        """Pass if it has answered within the last half minute; it may be restarted meanwhile.

        Raises:
            SsimError: It has not.
        """
        now = time.monotonic()
        if now < self._asked + _CHECK_S:
            return
        self._asked = now
        try:
            reach(self._address)
            self._answered = now
        except OSError as error:
            if now > self._answered + _ABSENCE_S:
                place, hint = f"ray, {self._address}", "see `ray status` there"
                raise SsimError(place, "the cluster went away", str(error), hint) from error


@contextmanager
def crash_reporter(message: str) -> Generator[None]:
    """Report it if Ray ends this process: without the object store of this machine, it does not raise."""
    command = [sys.executable, "-I", "-S", "-c", _CRASH_REPORTER, message]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as witness:  # noqa: S603 - our own words
        try:
            yield
        finally:
            witness.communicate(b"ended by itself")


def address_of(given: str | None) -> str | None:
    """Return the address of the cluster that is given, or named by RAY_ADDRESS; None for one that is started here.

    Raises:
        SpecError: It is not the address of a cluster.
    """
    address = given or os.environ.get("RAY_ADDRESS")
    if not address:
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    is_pair = host and "/" not in host and port.isdecimal() and 0 < int(port) < 2**16
    if address not in {"auto", "local"} and not is_pair:
        raise SpecError("ray", "not the address of a cluster", repr(address), _ADDRESSES)
    return address


def reach(address: str) -> None:
    """Pass if a gRPC server listens at a host and port; `auto` says neither, and Ray looks for it by itself.

    Left to itself, Ray waits for minutes for an answer of any other server.

    Raises:
        OSError: None does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        connection.sendall(_PREFACE)
        answer = b""
        while len(answer) < _FRAME_HEADER:
            received = connection.recv(_FRAME_HEADER - len(answer))
            if not received:
                break
            answer += received
    if answer[3:4] != _SETTINGS:
        raise OSError("another server than Ray's is there")
