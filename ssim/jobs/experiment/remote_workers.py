"""Workers of other machines: what a file says of them, for the router and for the command that runs one."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from sim.base.version import VERSION
from ssim.extras import require
from ssim.jobs.experiment.live_workers import worker_program
from ssim.jobs.experiment.planning import table_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from serving.remote.address import Address, Tls
    from serving.workers import WorkerSource
    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.live_spec import LiveSpec, RemoteSpec

    Meet = tuple[Address, Tls | None]

RAY = "ssim.execution.ray_workers"
"""What places workers on Ray; like the programs of workers, it is only named here."""

_PLACE = "live.remote"
_SHOWN = 12
"""Digits of a hash that are compared, as in the ids of runs."""

_ANY = ("0.0.0.0", "::")  # noqa: S104 - they are refused


def required(live: LiveSpec, table: LatencyTable) -> dict[str, Any]:
    """Return what a worker and its router must have in common, by name."""
    found: dict[str, Any] = {"ssim": VERSION, "live.workers": live.workers, "latency_table": table_hash(table)[:_SHOWN]}
    if live.workers == "torch":
        found |= {f"live.{name}": getattr(live, name) for name in ("options", "size", "dtype")}
    return found


def check_remote(runs: Iterable[tuple[LiveSpec, LatencyTable, Path]]) -> None:
    """Check that workers of other machines can come, and that the same ones can serve all runs of a file.

    Args:
        runs: Of each run what the file says, its table, and the folder of the file.

    Raises:
        SpecError: They can't.
    """
    first: dict[str, Any] = {}
    for live, table, folder in runs:
        if live.remote is None:
            continue
        meeting_point(live.remote, live.remote.listen, f"{_PLACE}.listen", folder)
        _check_placement(live, live.remote)
        found = required(live, table)
        if first and found != first:
            name = next(name for name in found | first if found.get(name) != first.get(name))
            raise SpecError("sweep", f"{_PLACE}: a worker of another machine serves one {name}", "", "leave it out")
        first = found


def meeting_point(remote: RemoteSpec, at: str, place: str, folder: Path) -> Meet:
    """Return an address, and what both sides show and trust there.

    Args:
        remote: What the file says.
        at: HOST:PORT.
        place: Where that was written.
        folder: That of the file.

    Raises:
        SpecError: It can't be used, or is beyond this machine and has neither TLS nor consent.
    """
    require("grpc")
    module = import_module("serving.remote.address")
    if (remote.cert is None) != (remote.key is None):
        missing = "key" if remote.key is None else "cert"
        raise SpecError(f"{_PLACE}.{missing}", "is missing", "", "TLS needs a certificate and its key")
    tls = None
    if remote.cert is not None and remote.key is not None:
        cert, key, ca = (folder / name for name in (remote.cert, remote.key, remote.ca or remote.cert))
        tls = module.Tls.read(cert, key, ca, _PLACE)
    elif remote.ca is not None:
        raise SpecError(f"{_PLACE}.ca", "has no effect without TLS", "", "give cert and key, too")
    address = module.Address.read(at, place)
    is_beyond = address.check(place, has_tls=tls is not None, insecure=remote.insecure)
    if remote.insecure and (tls is not None or (at == remote.listen and not is_beyond)):
        why = "with TLS" if tls is not None else f"at {address.host}, which no other machine reaches"
        raise SpecError(f"{_PLACE}.insecure", f"has no effect {why}", "", "leave it out")
    return address, tls


def worker_source(
    live: LiveSpec,
    workers: int,
    table: LatencyTable,
    seed: int,
    folder: Path,
    tell: Callable[[str], None],
    *,
    is_asked: bool = False,
) -> WorkerSource:
    """Return where the workers of a run come from: processes of this machine, or other machines.

    Args:
        live: What the file says of live runs.
        workers: How many there are.
        table: The table that is served.
        seed: Of random weights.
        folder: That of the file.
        tell: Called with a sentence when something happens that somebody may wait for.
        is_asked: Whether somebody reads the answers, so that they have to be right.

    Raises:
        SpecError: Other machines can't come, as the file has it.
    """
    if live.remote is None:
        return worker_program(live, workers, table, seed, folder, is_asked=is_asked)
    address, tls = meeting_point(live.remote, live.remote.listen, f"{_PLACE}.listen", folder)
    common = required(live, table)
    options: dict[str, Any] = {}
    if live.remote.placement == "ray":
        cluster = live.remote.address or os.environ.get("RAY_ADDRESS")
        needs = {"num_cpus": float(live.threads or 1), "num_gpus": float(live.device != "cpu")}
        program = worker_program(live, 1, table, seed, folder)
        options["placed"] = partial(import_module(RAY).placed, cluster, needs, tls, program, common)
    source: WorkerSource = import_module("serving.remote.places").RemoteWorkers(
        address, tls, common, {"is_asked": is_asked}, tell, **options
    )
    return source


def _check_placement(live: LiveSpec, remote: RemoteSpec) -> None:
    """Check what placement by Ray needs, and what has no effect without it.

    Raises:
        SpecError: Something does not fit.
    """
    if remote.placement == "hand":
        if remote.address is not None:
            raise SpecError(
                f"{_PLACE}.address", "has no effect on workers that are started by hand", "", "placement: ray"
            )
        return
    require("ray")
    host = remote.listen.rpartition(":")[0].strip("[]")
    if host in _ANY:
        hint = "an address of this machine that they reach"
        raise SpecError(f"{_PLACE}.listen", "is not an address that workers on Ray can go to", remote.listen, hint)
    if live.device not in ("cpu", 0):
        hint = "device: 0, since Ray gives each worker a GPU of its own"
        raise SpecError("live.device", "can't be chosen for workers on Ray", str(live.device), hint)
