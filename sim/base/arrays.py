"""Read-only arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Kind = TypeVar("Kind", bound=np.generic)


def read_only(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def frozen(array: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Return a read-only array that later changes of the given one don't reach: a copy, unless nothing can change it.

    Examples:
        >>> given = np.array([1, 2])
        >>> kept = frozen(given)
        >>> given[0] = 7
        >>> kept.tolist(), frozen(kept) is kept
        ([1, 2], True)
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
            break
        owner = owner.base
    return array
