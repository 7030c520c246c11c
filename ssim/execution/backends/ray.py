"""Ray: each run is a task of one core."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from sim.base.errors import SsimError
from ssim.execution.backends.local import RESUMES
from topology.engines.ray_cluster import address_of, connect, crash_reporter, reach

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future

_MISSES = 3
"""How often in a row a cluster may not be reached before it is given up."""


class RayMachines:
    """The nodes of a Ray cluster."""

    gone: ClassVar[tuple[type[Exception], ...]] = (ConnectionError, LocalRayletDiedError)
    lost: ClassVar[tuple[type[Exception], ...]] = (
        WorkerCrashedError,
        OutOfMemoryError,
        NodeDiedError,
        ObjectLostError,
    )

    def __init__(self, address: str) -> None:
        self._address = address
        self._missed = 0
        # Left to itself, Ray starts a call that needs more memory than there is again and again, without end.
        self._task: Any = cache(ray.remote(num_cpus=1, max_retries=0))

    @staticmethod
    def scratch() -> Path:
        """Return the folder of Ray's session on this node."""
        context = ray.get_runtime_context()
        return Path(context.get_temp_dir()) / context.get_session_name()

    def share(self, value: Any) -> Any:
        """Put a value into the object store; return its reference."""
        return ray.put(value)

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        """Start a task; return its future."""
        future: Future[Any] = self._task(function).remote(*arguments).future()
        return future

    def check(self) -> None:
        """Pass if the head node answers: without it, Ray waits for a minute and then ends the whole process.

        Raises:
            ConnectionError: It has not answered for a while.
        """
        try:
            reach(self._address)
        except OSError as error:
            self._missed += 1
            if self._missed == _MISSES:
                raise ConnectionError(str(error)) from error
        else:
            self._missed = 0


@contextmanager
def connected(address: str | None, jobs: int, where: str) -> Generator[RayMachines]:
    """Give the machines of a cluster; without an address, of one that is started here and ends with the context.

    Raises:
        SpecError: The address is not one of a cluster.
        SsimError: There is no cluster, or it went away.
    """
    address = address_of(address)
    with crash_reporter(f"ssim: {where}: Ray ended this process, as it does when its cluster goes away; {RESUMES}"):
        yield from _joined(address, jobs, where)


def _joined(address: str | None, jobs: int, where: str) -> Generator[RayMachines]:
    _start(address, jobs)
    try:
        client = address is not None and address.startswith("ray://")
        yield RayMachines(str(address) if client else ray.get_runtime_context().gcs_address)
    except RayMachines.gone as error:
        raise SsimError(where, "the Ray cluster went away", str(error), RESUMES) from error
    finally:
        ray.shutdown()


def _start(address: str | None, jobs: int) -> None:
    try:
        connect(address, jobs)
    except (OSError, RuntimeError, ValueError) as error:
        what = "no cluster answers" if address else "no cluster can be started here"
        right = "host:port, ray://host:port or auto; see `ray status` there" if address else ""
        raise SsimError(f"--backend ray, {address}" if address else "--backend ray", what, str(error), right) from error
