"""Read-only arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def read_only(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view
