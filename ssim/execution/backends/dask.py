"""Dask: each run is a task of its scheduler."""

from __future__ import annotations

import asyncio
import logging
import warnings
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dask.config
import distributed

from sim.base.errors import SsimError
from ssim.execution.backends.local import RESUMES

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future

_PATIENCE_S = 10

_LEAVE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""The first statement of a worker that is started here: Ctrl-C is for the process that started it, which ends it."""

_dask: Any = distributed  # its annotations are in part missing, in part wrong


class DaskMachines:
    """The workers of a Dask scheduler."""

    gone: ClassVar[tuple[type[Exception], ...]] = (CancelledError,)
    lost: ClassVar[tuple[type[Exception], ...]] = (distributed.KilledWorker,)

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)

    @staticmethod
    def scratch() -> Path:
        """Return the folder of this worker."""
        return Path(_dask.get_worker().local_directory)

    def share(self, value: Any) -> Any:
        """Return the future of a value: that of a task and not a scattered one, which would end with its worker."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it is large
            return self._client.submit(copy, value, pure=False)

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        """Start a task; return its future."""
        future: Future[Any] = self._executor.submit(function, *arguments)
        return future

    def check(self) -> None:
        """Pass if the scheduler is there; if not, futures are cancelled, but for those whose result was on its way.

        Raises:
            CancelledError: It is gone.
        """
        if self._client.status != "running":
            raise CancelledError


@contextmanager
def connected(address: str | None, jobs: int, where: str) -> Generator[DaskMachines]:
    """Give the machines of a cluster; without an address, of one that is started here and ends with the context.

    Raises:
        SsimError: There is no cluster, or it went away.
    """
    address = address or dask.config.get("scheduler-address", None)
    for name in ("distributed.client", "tornado.application"):  # the error below says it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        try:
            if address:
                asyncio.run(_reach(address))
            client = stack.enter_context(_dask.Client(address or _started(stack, jobs), timeout=_PATIENCE_S))
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            what = "no scheduler answers" if address else "no cluster can be started here"
            name = f"--backend dask, {address}" if address else "--backend dask"
            raise SsimError(name, what, str(error), "such as tcp://host:8786" if address else "") from error
        try:
            yield DaskMachines(client)
        except DaskMachines.gone as error:
            raise SsimError(where, "the Dask scheduler went away", "", RESUMES) from error


async def _reach(address: str) -> None:
    """Pass if a scheduler listens at an address; a client would wait without end for who listens and does not answer.

    Raises:
        OSError: None does.
    """
    secrets = _dask.Security().get_connection_args("client")
    comm = await asyncio.wait_for(_dask.comm.connect(address, timeout=_PATIENCE_S, **secrets), 2 * _PATIENCE_S)
    await comm.close()


def _started(stack: ExitStack, jobs: int) -> Any:
    # A call whose worker was killed fails at once, and we send it again.
    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
    cluster = _dask.LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        preload=[_LEAVE_CTRL_C],
    )
    return stack.enter_context(cluster)
