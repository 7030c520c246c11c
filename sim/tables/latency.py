"""Latency tables: how long each subnet takes for each batch size, and how accurate it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import BatchSizeError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

Between = Literal["pad", "interpolate"]
"""What a batch size that was not measured costs: that of the next larger one, or a straight line between the two."""


DOUBTS = ("p99_ns", "low_ns", "high_ns")
"""Grids beside the latency that a table may have."""


@dataclass(frozen=True, slots=True)
class ControlTuple:
    """The choice that names a subnet of a supernet: SuperServe (NSDI 2025), section 3.

    Attributes:
        depths: Blocks or depth choice per stage.
        expands: Expand ratio per block.
        widths: Width choice per stage (an index into the supernet's width list).
    """

    depths: tuple[int, ...]
    expands: tuple[float, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subnet:
    """One servable subnet as the simulator sees it: a name, an accuracy and a row of latencies.

    Attributes:
        id: Its name, unique in the table.
        accuracy: Profiled accuracy in percent, above 0, at most 100.
        control: The control tuple that actuates it, where known.
        gmacs: Multiply-accumulate operations of one query in units of 1e9, where known.
        params: Number of weights, where known.
        loading_ns: Time to load it as a separate model, where known.

    Raises:
        DataError: The accuracy is no percentage, or a fact is negative or no number.
    """

    id: str
    accuracy: float
    control: ControlTuple | None = None
    gmacs: float | None = None
    params: int | None = None
    loading_ns: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.accuracy <= 100:  # noqa: PLR2004 - percent
            raise DataError(
                f"subnet {self.id!r}", "accuracy is out of range", f"{self.accuracy:g}", "percent: above 0, at most 100"
            )
        for name in ("gmacs", "params", "loading_ns"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise DataError(f"subnet {self.id!r}", f"{name} is out of range", f"{value:g}", "0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class LatencyTable:
    """The latencies of the subnets of one supernet on one device.

    Attributes:
        device: What was measured on.
        subnets: By accuracy, the least accurate first.
        batch_sizes: The measured batch sizes in queries, increasing.
        latency_ns: The latency that serves, int64, shape (subnets, batch_sizes).
        p99_ns: Its 99th percentile, same shape, where known.
        stages: The parts of the latency by name (decode, copy, forward, ...), each int64 of the same shape. Means add
            up to the latency, but for rounding; medians need not.
        between: What a batch size between two measured ones costs.
        default_max_batch: The largest batch size used unless another is asked for; None for all.
        provenance: Where the figures come from.
        low_ns: Where the latency's 95 % confidence interval begins, int64 of the same shape, where known.
        high_ns: Where it ends, likewise.

    Raises:
        DataError: The grid is not complete, positive and in order; names the subnet and the batch size. Or `between` or
            `default_max_batch` is not one of those there are.

    Example:
        >>> table = LatencyTable("gpu", (Subnet("s", 70.0), Subnet("l", 80.0)), (1, 4), np.array([[2, 5], [4, 9]]))
        >>> table.latency(0, 3)
        5
        >>> replace(table, between="interpolate").latency(0, 3)
        4
        >>> table.latency(1, 5)
        Traceback (most recent call last):
        sim.base.errors.BatchSizeError: table of gpu: no latency for this batch size (5); measured: 1 to 4
    """

    device: str
    subnets: tuple[Subnet, ...]
    batch_sizes: tuple[int, ...]
    latency_ns: npt.NDArray[np.int64]
    p99_ns: npt.NDArray[np.int64] | None = None
    stages: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict[str, "npt.NDArray[np.int64]"])
    between: Between = "pad"
    default_max_batch: int | None = None
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    low_ns: npt.NDArray[np.int64] | None = None
    high_ns: npt.NDArray[np.int64] | None = None
    dense_ns: npt.NDArray[np.int64] = field(init=False, repr=False)
    """Latency for every batch size 0 (which is 0) to the largest, int64, shape (subnets, largest + 1)."""

    pareto: tuple[int, ...] = field(init=False, repr=False)
    """The subnets (indices) that no other dominates: is as accurate, nowhere slower, and better in one of the two."""

    def __post_init__(self) -> None:
        _check_axes(self)
        _check_grid(self, "latency_ns", self.latency_ns, lowest=1)
        object.__setattr__(self, "latency_ns", read_only(self.latency_ns))
        for name, grid in self.doubts.items():
            _check_grid(self, name, grid, lowest=1)
            object.__setattr__(self, name, read_only(grid))
        _check_interval(self)
        for name, grid in self.stages.items():
            _check_grid(self, f"stage {name}", grid, lowest=0)
        object.__setattr__(self, "stages", {name: read_only(grid) for name, grid in self.stages.items()})
        object.__setattr__(self, "dense_ns", read_only(_dense(self.batch_sizes, self.latency_ns, self.between)))
        object.__setattr__(self, "pareto", _pareto(self.subnets, self.latency_ns))

    @property
    def doubts(self) -> dict[str, npt.NDArray[np.int64]]:
        """What is known beside the latency by name: of `p99_ns`, `low_ns` and `high_ns` those that there are."""
        grids = {name: getattr(self, name) for name in DOUBTS}
        return {name: grid for name, grid in grids.items() if grid is not None}

    @property
    def max_batch(self) -> int:
        """The largest measured batch size."""
        return self.batch_sizes[-1]

    @property
    def smallest_ns(self) -> int:
        """The smallest latency in the table."""
        return int(self.latency_ns.min())

    @property
    def drain(self) -> tuple[int, int]:
        """The subnet (index) and batch size that serve most queries a second."""
        per_query = self.latency_ns / np.asarray(self.batch_sizes)
        subnet, column = np.unravel_index(np.argmin(per_query), per_query.shape)
        return int(subnet), self.batch_sizes[int(column)]

    def latency(self, subnet: int, batch_size: int) -> int:
        """Return the latency of a batch in nanoseconds, measured or as `between` says.

        Raises:
            BatchSizeError: The batch is empty, or larger than any that was measured.
        """
        if not 0 < batch_size <= self.max_batch:
            raise BatchSizeError(
                f"table of {self.device}",
                "no latency for this batch size",
                str(batch_size),
                f"measured: 1 to {self.max_batch}",
            )
        return int(self.dense_ns[subnet, batch_size])

    def largest_within(self, subnet: int, budget_ns: int) -> int:
        """Return the largest measured batch size of a subnet that ends within a budget, or 0 where none does."""
        fitting = np.flatnonzero(self.latency_ns[subnet] <= budget_ns)
        return self.batch_sizes[int(fitting[-1])] if len(fitting) else 0

    def up_to(self, max_batch: int | None) -> LatencyTable:
        """Return the table of the measured batch sizes up to `max_batch`; None takes the table's own default.

        A limit between two measured sizes leaves the smaller one: up to 12 of 1, 2, 4, 8, 16 ends at 8.

        Raises:
            BatchSizeError: No batch size is that small, or the table ends below it.
        """
        limit = self.default_max_batch if max_batch is None else max_batch
        if limit is None:
            return self
        if not self.batch_sizes[0] <= limit <= self.max_batch:
            sizes = f"measured: {', '.join(map(str, self.batch_sizes))}"
            raise BatchSizeError(f"table of {self.device}", "no batch size up to", str(limit), sizes)
        keep = sum(size <= limit for size in self.batch_sizes)
        doubts: dict[str, Any] = {name: grid[:, :keep] for name, grid in self.doubts.items()}
        return replace(
            self,
            batch_sizes=self.batch_sizes[:keep],
            latency_ns=self.latency_ns[:, :keep],
            **doubts,
            stages={name: grid[:, :keep] for name, grid in self.stages.items()},
            default_max_batch=None,
        )

    def with_stages(self, names: Sequence[str]) -> LatencyTable:
        """Return the table whose latency is the sum of some of its stages; of all of them, it is the table itself.

        The 99th percentile of a sum of a few stages is not known, nor its interval.

        Raises:
            DataError: The table has no such stage, none is named, or their sum is 0 somewhere.
        """
        if not names:
            raise DataError(f"table of {self.device}", "no stage is named", "", f"choose from {', '.join(self.stages)}")
        for name in names:
            if name not in self.stages:
                right = did_you_mean(name, self.stages) if self.stages else "it has none"
                raise DataError(f"table of {self.device}", "has no such stage", name, right)
        if set(names) == set(self.stages):
            return self
        chosen = {name: grid for name, grid in self.stages.items() if name in names}
        unknown: dict[str, Any] = dict.fromkeys(DOUBTS)
        return replace(self, latency_ns=np.sum(list(chosen.values()), axis=0), stages=chosen, **unknown)

    def subnet_of_accuracy(self, accuracy: float) -> int:
        """Return the subnet (index) whose accuracy is the one given, to 0.05 points: 78.25 finds 78.250 and 78.2496.

        Raises:
            DataError: No subnet has this accuracy.
        """
        distance = [abs(subnet.accuracy - accuracy) for subnet in self.subnets]
        best = int(np.argmin(distance))
        if distance[best] > 0.05:  # noqa: PLR2004 - published accuracies have two decimals
            known = ", ".join(f"{subnet.accuracy:.2f}" for subnet in self.subnets)
            raise DataError(
                f"table of {self.device}", "no subnet of this accuracy", f"{accuracy:g}", f"there are {known}"
            )
        return best


Cells = Mapping[tuple[str, int], int]
"""Nanoseconds by subnet id and batch size."""


def table_from_cells(
    device: str,
    subnets: Iterable[Subnet],
    cells: Cells,
    doubts: Mapping[str, Cells] | None = None,
    stages: Mapping[str, Cells] | None = None,
    *,
    where: str = "table",
    between: Between = "pad",
    default_max_batch: int | None = None,
    provenance: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Return the table of measured cells, in whatever order they come.

    Args:
        device: What was measured on.
        subnets: In any order; the table has them by accuracy.
        cells: The latencies.
        doubts: What is known beside them, by the names in `DOUBTS` and by the same keys.
        stages: Their parts by name, by the same keys.
        where: What messages call the table.
        between: As in `LatencyTable`.
        default_max_batch: As in `LatencyTable`.
        provenance: As in `LatencyTable`.

    Raises:
        DataError: A cell is missing, or the table breaks a rule of `LatencyTable`.
    """
    ordered = tuple(sorted(subnets, key=lambda subnet: subnet.accuracy))
    sizes = tuple(sorted({size for _, size in cells}))

    def grid(values: Cells, column: str) -> npt.NDArray[np.int64]:
        missing = [(s.id, size) for s in ordered for size in sizes if (s.id, size) not in values]
        if missing:
            subnet, size = missing[0]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            what, value = f"a cell of {column} is missing", f"subnet {subnet}, batch {size}{more}"
            raise DataError(where, what, value, "the grid must be full")
        return np.array([[values[s.id, size] for size in sizes] for s in ordered], dtype=np.int64)

    return LatencyTable(
        device,
        ordered,
        sizes,
        grid(cells, "latency"),
        **{name: grid(values, name.removesuffix("_ns")) for name, values in (doubts or {}).items()},
        stages={name: grid(values, f"stage {name}") for name, values in (stages or {}).items()},
        between=between,
        default_max_batch=default_max_batch,
        provenance=provenance or {},
    )


def _check_axes(table: LatencyTable) -> None:
    where = f"table of {table.device}"
    ids, sizes = [subnet.id for subnet in table.subnets], table.batch_sizes
    if not ids or not sizes:
        raise DataError(where, "is empty", f"{len(ids)} subnets, {len(sizes)} batch sizes", "one of each or more")
    doubled = {name for name in ids if ids.count(name) > 1}
    if doubled:
        raise DataError(where, "a subnet is there twice", ", ".join(sorted(doubled)), "each id once")
    accuracies = [subnet.accuracy for subnet in table.subnets]
    if accuracies != sorted(accuracies):
        raise DataError(where, "subnets are not in order of accuracy", str(accuracies), "the least accurate first")
    if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise DataError(where, "batch sizes are not increasing from 1 or more", str(sizes), "such as 1, 2, 4, 8, 16")
    if table.between not in get_args(Between):
        raise DataError(where, "between is not known", repr(table.between), " or ".join(get_args(Between)))
    limit = table.default_max_batch
    if limit is not None and not sizes[0] <= limit <= sizes[-1]:
        right = f"{sizes[0]} to {sizes[-1]}"
        raise DataError(where, "default_max_batch is outside of what was measured", str(limit), right)


def _check_grid(table: LatencyTable, name: str, grid: npt.NDArray[np.int64], *, lowest: int) -> None:
    where = f"table of {table.device}, {name}"
    shape = (len(table.subnets), len(table.batch_sizes))
    if grid.shape != shape or grid.dtype != np.int64:
        raise DataError(where, "has the wrong form", f"{grid.dtype}, shape {grid.shape}", f"int64, shape {shape}")
    if (grid < lowest).any():
        subnet, column = (int(i) for i in np.argwhere(grid < lowest)[0])
        cell = f"subnet {table.subnets[subnet].id}, batch {table.batch_sizes[column]}: {grid[subnet, column]} ns"
        raise DataError(where, "is not positive" if lowest else "is negative", cell, f"{lowest} ns or more")


def _check_interval(table: LatencyTable) -> None:
    if table.low_ns is None and table.high_ns is None:
        return
    where = f"table of {table.device}"
    if table.low_ns is None or table.high_ns is None:
        raise DataError(where, "has one end of its intervals only", "", "both low_ns and high_ns")
    outside = (table.low_ns > table.latency_ns) | (table.high_ns < table.latency_ns)
    if outside.any():
        subnet, column = (int(i) for i in np.argwhere(outside)[0])
        cell = f"subnet {table.subnets[subnet].id}, batch {table.batch_sizes[column]}"
        raise DataError(where, "a latency lies outside of its interval", cell, "low_ns <= latency_ns <= high_ns")


def _dense(sizes: tuple[int, ...], latency_ns: npt.NDArray[np.int64], between: Between) -> npt.NDArray[np.int64]:
    every = np.arange(1, sizes[-1] + 1)
    if between == "pad":
        rows = latency_ns[:, np.searchsorted(sizes, every)]
    else:
        rows = np.stack([np.rint(np.interp(every, sizes, row)).astype(np.int64) for row in latency_ns])
    return np.concatenate([np.zeros((len(latency_ns), 1), np.int64), rows], axis=1)


def _pareto(subnets: tuple[Subnet, ...], latency_ns: npt.NDArray[np.int64]) -> tuple[int, ...]:
    accuracy = np.array([subnet.accuracy for subnet in subnets])

    def is_dominated(s: int) -> bool:
        no_worse = (accuracy >= accuracy[s]) & (latency_ns <= latency_ns[s]).all(axis=1)
        better = (accuracy > accuracy[s]) | (latency_ns < latency_ns[s]).any(axis=1)
        return bool((no_worse & better).any())

    return tuple(s for s in range(len(subnets)) if not is_dominated(s))
