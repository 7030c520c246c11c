"""Machines of a cluster: the interface to Ray and Dask.

A backend is a context that connects to a cluster, or starts one here, and gives its `Machines`; when the context ends,
what has not begun is given up, and a cluster that was started here ends.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ssim.extras import require

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

_PACKAGES = {"ray": "ray", "dask": "distributed"}


class Machines(Protocol):
    """The machines of a cluster.

    Attributes:
        gone: The errors of a call whose cluster is no longer there.
        lost: The errors of a call whose worker was killed.
    """

    gone: ClassVar[tuple[type[Exception], ...]]
    lost: ClassVar[tuple[type[Exception], ...]]

    @staticmethod
    def scratch() -> Path:
        """Return, in a worker, the folder for files that are there as long as the worker."""
        ...

    def share(self, value: Any) -> Any:
        """Return what stands for a value that many calls take: it travels once."""
        ...

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        """Start a call on some machine; return its future."""
        ...

    def check(self) -> None:
        """Pass if the cluster can be reached; asked while nothing comes back.

        Raises:
            Exception: It can't: one of `gone`.
        """
        ...


class Backend(Protocol):
    """A way to a cluster."""

    def __call__(self, jobs: int, where: str, /) -> AbstractContextManager[Machines]:
        """Return the context of its machines.

        Args:
            jobs: How many workers a cluster has that is started here.
            where: What begins messages.
        """
        ...


def find_backend(name: str, address: str | None = None) -> Backend:
    """Return the way to a cluster.

    Args:
        name: `ray` or `dask`.
        address: Where the cluster is; None for the one that the environment names, or else one that is started here.

    Raises:
        SpecError: The package is not installed.
    """
    require(_PACKAGES[name])

    def connected(jobs: int, where: str) -> AbstractContextManager[Machines]:
        way: AbstractContextManager[Machines] = import_module(f"ssim.execution.backends.{name}").connected(
            address, jobs, where
        )
        return way

    return connected
