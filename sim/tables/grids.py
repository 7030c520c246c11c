"""Batch sizes and grids of nanoseconds: what a latency table accepts, how it is checked, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

MAX_BATCH = 1_000_000
"""A larger batch size is assumed to be a typo: a table holds the latency of every size up to the largest."""


def whole_number(value: object, location: str, hint: str) -> int:
    """Return an integer of Python or NumPy, or a whole float, as an integer.

    Raises:
        DataError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or value != value // 1:
        raise DataError(location, "is not a whole number", repr(value), hint)
    return int(value)


def checked_mapping(value: object, location: str) -> dict[Any, Any]:
    """Return a copy of a mapping.

    Raises:
        DataError: It is anything else.
    """
    if not isinstance(value, Mapping):
        raise DataError(location, "is not a mapping", type(value).__name__, "names with values")
    return dict(value)


def checked_sizes(values: Iterable[object], location: str) -> tuple[int, ...]:
    """Return batch sizes as integers.

    Raises:
        DataError: They are not whole numbers, not positive, not increasing, or above `MAX_BATCH`.
    """
    hint = "such as 1, 2, 4, 8, 16"
    sizes = tuple(whole_number(value, f"{location}, batch_sizes", hint) for value in values)
    if sizes and (sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes))):
        raise DataError(location, "batch sizes are not positive and increasing", str(sizes), hint)
    if sizes and sizes[-1] > MAX_BATCH:
        raise DataError(location, "batch size is too large", str(sizes[-1]), f"at most {MAX_BATCH:,} queries")
    return sizes


def checked_grid(
    values: object, location: str, ids: Sequence[str], sizes: Sequence[int], *, lowest: int
) -> npt.NDArray[np.int64]:
    """Return a grid of nanoseconds as a read-only copy.

    Args:
        values: Nested sequences, an array of any type that holds whole numbers or durations, or a pandas DataFrame. The
            rows and columns of a DataFrame that are named by subnets and batch sizes may come in any order.
        location: Name of the grid in messages.
        ids: The subnets, one row each.
        sizes: The batch sizes, one column each.
        lowest: The smallest valid value.

    Returns:
        int64, shape (subnets, batch_sizes).

    Raises:
        DataError: The values are not whole nanoseconds from `lowest` on, or have another shape, with the cell.
    """
    shape = len(ids), len(sizes)
    grid = nanoseconds(_by_position(values, location, ids, sizes), location)
    if grid.ndim == 1 and 1 in shape and grid.size == shape[0] * shape[1]:
        grid = grid.reshape(shape)
    if grid.shape != shape:
        hint = f"{shape}: a row per subnet, a column per batch size"
        raise DataError(location, "has the wrong shape", str(grid.shape), hint)
    if (grid < lowest).any():
        subnet, column = first_cell(grid < lowest)
        cell = f"subnet {ids[subnet]}, batch {sizes[column]}: {grid[subnet, column]} ns"
        raise DataError(location, "is not positive" if lowest else "is negative", cell, f"{lowest} ns or more")
    grid.flags.writeable = False
    return grid


def checked_samples(
    values: Any, location: str, ids: Sequence[str], sizes: Sequence[int]
) -> tuple[tuple[npt.NDArray[np.int64], ...], ...]:
    """Return the repetitions of each cell as read-only copies, in ascending order.

    Raises:
        DataError: A cell has none, or they are not positive whole nanoseconds.
    """
    if len(values) != len(ids) or any(len(row) != len(sizes) for row in values):
        raise DataError(location, "has the wrong shape", "", f"{(len(ids), len(sizes))}: one sequence per cell")

    def cell(found: object, subnet: str, size: int) -> npt.NDArray[np.int64]:
        where = f"{location}, subnet {subnet}, batch {size}"
        samples = np.sort(nanoseconds(found, where), axis=None)
        if not len(samples) or samples[0] < 1:
            raise DataError(where, "no samples, or not positive", str(samples[:1]), "1 ns or more, one or more")
        samples.flags.writeable = False
        return samples

    return tuple(
        tuple(cell(found, subnet, size) for found, size in zip(row, sizes, strict=True))
        for row, subnet in zip(values, ids, strict=True)
    )


def nanoseconds(values: object, location: str) -> npt.NDArray[np.int64]:
    """Return whole nanoseconds as a new array; durations are converted by their unit.

    Raises:
        DataError: The values are no numbers, not whole, not finite or beyond 64 bits.
    """
    hint = "whole nanoseconds (1 ms is 1,000,000 ns)"
    try:
        found = np.asarray(values)
        if isinstance(values, list | tuple) and any(isinstance(v, bool) for v in np.asarray(values, object).flat):
            found = found.astype(bool)  # among integers NumPy takes them for 0 and 1
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(location, "rows have different lengths", str(error), "one row per subnet") from error
    if found.dtype == object and all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in found.flat):
        if any(abs(int(value)) >= 2**63 for value in found.flat):
            raise DataError(location, "is beyond 64 bits", "", hint)
        found = found.astype(np.int64)
    if found.dtype.kind == "m":
        if np.isnat(found).any():
            raise DataError(location, "is not whole nanoseconds", "a missing duration", hint)
        return found.astype("timedelta64[ns]").astype(np.int64)
    if found.dtype.kind not in "iuf":
        raise DataError(location, "is not an array of numbers", f"{found.dtype}, shape {found.shape}", hint)
    wrong = found[~(np.abs(found.astype(np.float64)) < 2**63)]
    if not wrong.size and found.dtype.kind == "f":
        wrong = found[found != np.floor(found)]
    if wrong.size:
        raise DataError(location, "is not whole nanoseconds", f"{wrong.flat[0]}", hint)
    return found.astype(np.int64)


def dense(sizes: Sequence[int], latency_ns: npt.NDArray[np.int64], between: str) -> npt.NDArray[np.int64]:
    """Return the latency, or energy, for every batch size from 0 (which is 0) to the largest.

    Args:
        sizes: The measured batch sizes.
        latency_ns: Their latencies, shape (subnets, batch_sizes).
        between: As in `LatencyTable`.

    Returns:
        int64, shape (subnets, largest + 1).
    """
    every = np.arange(1, sizes[-1] + 1)
    if between == "pad":
        rows = latency_ns[:, np.searchsorted(sizes, every)]
    else:
        rows = np.stack([np.rint(np.interp(every, sizes, row)).astype(np.int64) for row in latency_ns])
    return np.concatenate([np.zeros((len(latency_ns), 1), np.int64), rows], axis=1)


def pareto(accuracies: Sequence[float], latency_ns: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Return the rows that no other dominates: as accurate, nowhere slower, and better in one of the two."""
    accuracy = np.array(accuracies)

    def is_dominated(s: int) -> bool:
        no_worse = (accuracy >= accuracy[s]) & (latency_ns <= latency_ns[s]).all(axis=1)
        better = (accuracy > accuracy[s]) | (latency_ns < latency_ns[s]).any(axis=1)
        return bool((no_worse & better).any())

    return tuple(s for s in range(len(accuracy)) if not is_dominated(s))


def first_cell(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return row and column of the first cell where a mask is true."""
    row, column = np.argwhere(mask)[0].tolist()
    return row, column


def _by_position(values: object, location: str, ids: Sequence[str], sizes: Sequence[int]) -> object:
    """Return the values of a labelled frame in the table's order; anything else as it is.

    Raises:
        DataError: The labels are others than the subnets and batch sizes.
    """
    if not (hasattr(values, "index") and hasattr(values, "columns")):
        return values
    frame = cast("Any", values)
    for axis, name, wanted in ((0, "index", list(ids)), (1, "columns", [str(size) for size in sizes])):
        labels = getattr(frame, name)
        if type(labels).__name__ == "RangeIndex" and len(labels) == len(wanted):
            continue
        known = [str(int(label) if isinstance(label, float) and label.is_integer() else label) for label in labels]
        if sorted(known) != sorted(wanted):
            what = "subnets" if name == "index" else "batch sizes"
            raise DataError(
                location, f"the labels of its {name} are not the {what}", ", ".join(known), ", ".join(wanted)
            )
        frame = frame.take([known.index(label) for label in wanted], axis=axis)
    return frame.to_numpy()
