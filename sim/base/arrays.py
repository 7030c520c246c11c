"""Arrays that can't be written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def read_only(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a view of an array that can't be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
