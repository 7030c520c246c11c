"""Compilation of the loops of the compiled engine: to fixed types, once, with a cache on disk.

numba's cache notices edits of a function's own file alone; here, an edit of any file of this package has all of it
compiled anew. An unreadable cache is rebuilt; a readable one with corrupt content is not detected.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
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

INT, FLOAT, BOOL, NOTHING = types.int64, types.float64, types.boolean, types.void
INTS, BOOLS, BYTES, FLOATS, GRID, FLOAT_GRID = (
    types.Array(number, dimensions, "C")
    for number, dimensions in (
        (types.int64, 1),
        (types.boolean, 1),
        (types.uint8, 1),
        (types.float64, 1),
        (types.int64, 2),
        (types.float64, 2),
    )
)
"""Writable arrays."""

READ_CODES = types.Array(types.uint16, 1, "C", readonly=True)
READ_INTS, READ_FLOATS, READ_GRID = (array.copy(readonly=True) for array in (INTS, FLOATS, GRID))
"""Read-only arrays, as in named tuples."""

_numba_types: Any = types  # untyped in part
_PAIR = _numba_types.UniTuple(INT, 2)
STEP = _PAIR(FLOATS, INT, INT, INT, INT, READ_GRID)
"""The signature of `sim.compiled.step_policy.StepPolicy.step`."""

STEPS = types.FunctionType(STEP)

_OPTIONS: Any = {"nogil": True, "forceinline": True, "_nrt": False}
"""For numba, whose types do not know `_nrt`. Compiled functions allocate nothing, so arrays need no reference counts,
which took as long as all else. Inlined, a function does not copy its many arguments at each call."""


def tuple_of(owner: type, *fields: Any) -> Any:
    """Return the type of a named tuple whose fields have these types."""
    return _numba_types.NamedTuple(fields, owner)


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function to one signature, or loads it from numba's cache."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return _cached(function, signature)
        except Exception:  # noqa: BLE001 - a damaged cache or a read-only folder may raise anything
            with suppress(Exception):
                _forget(function)
                return _cached(function, signature)
        return numba.njit(signature, **_OPTIONS)(function)  # errors in the code are raised here

    return compile_


def _cached(function: Callable[..., Any], signature: Any) -> Any:
    """Return a function compiled to one signature, or as it is in numba's cache."""
    dispatcher: Any = numba.njit(**_OPTIONS, cache=True)(function)
    file = dispatcher._cache._cache_file  # noqa: SLF001 - numba has no public name for what the cache depends on
    file._source_stamp = (file._source_stamp, _package_stamp())  # noqa: SLF001
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


@cache
def _package_stamp() -> tuple[tuple[str, int, int], ...]:
    """Return name, time of the last change and size of each file of this package."""
    states = ((path.name, path.stat()) for path in sorted(Path(__file__).parent.glob("*.py")))
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def compiled_step(step: Callable[..., Any]) -> Any:
    """Return the compiled step function of a policy, not cached on disk: it may call functions of other files.

    It is user code: an index out of bounds is an error, as in Python.

    Raises:
        TypeError: It does not return two integers; the signature would silently truncate other types.
        Exception: It uses features that numba does not support.
    """
    as_it_is: Any = numba.njit(nogil=True, boundscheck=True)(step)
    as_it_is.compile(STEP.args)
    returned = as_it_is.nopython_signatures[0].return_type
    parts = getattr(returned, "types", ())
    if len(parts) != len(_PAIR) or not all(isinstance(part, types.Integer) for part in parts):
        problem = f"it returns {returned}; must be two integers: subnet and batch size"
        raise TypeError(problem)
    return numba.njit(STEP, nogil=True, boundscheck=True)(step)


def _forget(function: Callable[..., Any]) -> None:
    """Remove numba's cache of a function from disk."""
    dispatcher: Any = numba.njit(cache=True)(function)
    folder = Path(dispatcher._cache.cache_path)  # noqa: SLF001 - it has no public name
    for path in folder.glob(f"*.{function.__name__}-*.nb?"):
        with suppress(OSError):
            path.unlink()


@compiled(STEP)
def no_step(
    memory: Floats,  # noqa: ARG001 - it has the signature of a step function
    now_ns: int,  # noqa: ARG001
    slack_ns: int,  # noqa: ARG001
    queue_length: int,  # noqa: ARG001
    arrived: int,  # noqa: ARG001
    latency_ns: Ints,  # noqa: ARG001
) -> tuple[int, int]:
    """Placeholder for a step function that is never called."""
    return -1, -1
