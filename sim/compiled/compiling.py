"""How the loops of the compiled engine are compiled: to fixed types, once, and kept on disk.

numba's cache notices an edit of the file of a function, and of no other: a compiled function therefore calls only what
stands in its own file, and takes what it shares with others as arguments. A cache that can't be read is made anew;
one that can be read, but has other bits than were written, is not noticed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numba
from numba import types

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    Ints: TypeAlias = npt.NDArray[np.int64]
    Floats: TypeAlias = npt.NDArray[np.float64]
    Bools: TypeAlias = npt.NDArray[np.bool_]

INT, BOOL, NOTHING = types.int64, types.boolean, types.void
INTS, BOOLS, BYTES, FLOATS, GRID = (
    types.Array(number, dimensions, "C")
    for number, dimensions in (
        (types.int64, 1),
        (types.boolean, 1),
        (types.uint8, 1),
        (types.float64, 1),
        (types.int64, 2),
    )
)
"""Arrays that a function writes to."""

READ_INTS, READ_FLOATS, READ_GRID = (array.copy(readonly=True) for array in (INTS, FLOATS, GRID))
"""Arrays that it reads; in a named tuple they must be read-only."""

_numba_types: Any = types  # untyped in part
_PAIR = _numba_types.UniTuple(INT, 2)
STEP = _PAIR(FLOATS, INT, INT, INT, INT, READ_GRID)
"""The signature of `sim.compiled.stepped.Stepped.step`."""

STEPS = types.FunctionType(STEP)


def tuple_of(owner: type, *fields: Any) -> Any:
    """Return the type of a named tuple whose fields have these types."""
    return _numba_types.NamedTuple(fields, owner)


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function to one signature, or loads it from numba's cache."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, nogil=True, cache=True)(function)
        except Exception:  # noqa: BLE001 - a damaged cache may raise anything, and so does a folder that can't be written
            with suppress(Exception):
                _forget(function)
                return numba.njit(signature, nogil=True, cache=True)(function)
        return numba.njit(signature, nogil=True)(function)  # what is wrong with the code is raised here

    return compile_


def compiled_step(step: Callable[..., Any]) -> Any:
    """Return the step function of a policy, compiled; not kept on disk, since it may call what is in other files.

    It is somebody's own code: an index outside of an array is an error, as in Python, not another place in memory.

    Raises:
        TypeError: It returns something else than two whole numbers, which the signature would silently cut to such.
        Exception: It uses what numba does not know.
    """
    as_it_is: Any = numba.njit(nogil=True, boundscheck=True)(step)
    as_it_is.compile(STEP.args)
    returned = as_it_is.nopython_signatures[0].return_type
    parts = getattr(returned, "types", ())
    if len(parts) != len(_PAIR) or not all(isinstance(part, types.Integer) for part in parts):
        what = f"it returns {returned}; must be two whole numbers: subnet and batch"
        raise TypeError(what)
    return numba.njit(STEP, nogil=True, boundscheck=True)(step)


def _forget(function: Callable[..., Any]) -> None:
    """Remove what numba keeps on disk of a function."""
    dispatcher: Any = numba.njit(cache=True)(function)
    folder = Path(dispatcher._cache.cache_path)  # noqa: SLF001 - it has no public name
    for path in folder.glob(f"*.{function.__name__}-*.nb?"):
        with suppress(OSError):
            path.unlink()
