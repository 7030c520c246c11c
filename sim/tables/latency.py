"""Latency tables: the latency of each subnet at each batch size, and its accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import BatchSizeError, DataError, did_you_mean
from sim.base.html import html_table
from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

Between = Literal["pad", "interpolate"]
"""Latency of a batch size that was not measured: that of the next larger one, or linear interpolation."""


UNCERTAINTY_GRIDS = ("p99_ns", "low_ns", "high_ns")
"""Optional grids that quantify the uncertainty of the latencies."""


@dataclass(frozen=True, slots=True)
class ControlTuple:
    """The control inputs that select a subnet of a supernet: SuperServe (NSDI 2025), section 3.

    Attributes:
        depths: Blocks or depth choice per stage.
        expands: Expand ratio per block.
        widths: Width choice per stage (an index into the supernet's width list).
    """

    depths: tuple[int, ...]
    expands: tuple[float, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProfiledSubnet:
    """A subnet with a profile: a name, an accuracy and a row of latencies in a table.

    Attributes:
        id: Name, unique in the table.
        accuracy: Profiled accuracy in percent, above 0, at most 100.
        control: Control tuple that actuates it, or None if unknown.
        gmacs: Multiply-accumulate operations per query in units of 1e9, or None if unknown.
        params: Number of weights, or None if unknown.
        loading_ns: Time to load it as a separate model, or None if unknown.

    Raises:
        DataError: The accuracy is not a percentage, or another attribute is negative or not finite.
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
        device: Name of the device that was profiled.
        subnets: In ascending order of accuracy.
        batch_sizes: Measured batch sizes in queries, increasing.
        latency_ns: Latency that simulations use, int64, shape (subnets, batch_sizes).
        p99_ns: 99th percentile of the latency, same shape, or None if unknown.
        stages: Parts of the latency by name (decode, copy, forward, ...), each int64 of the same shape. Means add up to
            the latency, apart from rounding; medians need not.
        between: Latency of a batch size between two measured ones.
        default_max_batch: Largest batch size used unless another is requested; None for all.
        provenance: Source of the numbers.
        low_ns: Lower bound of the latency's 95 % confidence interval, int64 of the same shape, or None if unknown.
        high_ns: Upper bound, likewise.

    Raises:
        DataError: The grid is incomplete, not positive or out of order (with the subnet and the batch size), or
            `between` or `default_max_batch` is invalid.

    Example:
        >>> subnets = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
        >>> table = LatencyTable("gpu", subnets, (1, 4), np.array([[2, 5], [4, 9]]))
        >>> table.latency(0, 3)
        5
        >>> replace(table, between="interpolate").latency(0, 3)
        4
        >>> table.latency(1, 5)
        Traceback (most recent call last):
        sim.base.errors.BatchSizeError: table of gpu: no latency for this batch size (5); measured: 1 to 4
    """

    device: str
    subnets: tuple[ProfiledSubnet, ...]
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
    """Pareto-optimal subnets (indices): no other is as accurate, nowhere slower, and better in one of the two."""

    def __post_init__(self) -> None:
        _check_axes(self)
        _check_grid(self, "latency_ns", self.latency_ns, lowest=1)
        object.__setattr__(self, "latency_ns", read_only(self.latency_ns))
        for name, grid in self.uncertainty.items():
            _check_grid(self, name, grid, lowest=1)
            object.__setattr__(self, name, read_only(grid))
        _check_interval(self)
        for name, grid in self.stages.items():
            _check_grid(self, f"stage {name}", grid, lowest=0)
        object.__setattr__(self, "stages", {name: read_only(grid) for name, grid in self.stages.items()})
        object.__setattr__(self, "dense_ns", read_only(_dense(self.batch_sizes, self.latency_ns, self.between)))
        object.__setattr__(self, "pareto", _pareto(self.subnets, self.latency_ns))

    def __repr__(self) -> str:
        low, high = self.latency_ns.min() / NS_PER_MS, self.latency_ns.max() / NS_PER_MS
        sizes = f"batch sizes {self.batch_sizes[0]} to {self.max_batch}"
        return (
            f"{type(self).__name__}({self.device!r}, {len(self.subnets)} subnets, {sizes}, {low:.3g} to {high:.3g} ms)"
        )

    def _repr_html_(self) -> str:
        rows = [
            (subnet.id, f"{subnet.accuracy:.2f}", *(f"{cell / NS_PER_MS:.3g}" for cell in latencies))
            for subnet, latencies in zip(self.subnets, self.latency_ns, strict=True)
        ]
        title = f"{self.device}: latency in ms by subnet and batch size"
        return html_table(title, rows, ("subnet", "accuracy %", *self.batch_sizes))

    @property
    def uncertainty(self) -> dict[str, npt.NDArray[np.int64]]:
        """The grids of `UNCERTAINTY_GRIDS` that this table has, by name."""
        grids = {name: getattr(self, name) for name in UNCERTAINTY_GRIDS}
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
    def max_throughput(self) -> tuple[int, int]:
        """The subnet (index) and batch size with the highest throughput in queries per second."""
        per_query = self.latency_ns / np.asarray(self.batch_sizes)
        subnet, column = np.unravel_index(np.argmin(per_query), per_query.shape)
        return int(subnet), self.batch_sizes[int(column)]

    def latency(self, subnet: int, batch_size: int) -> int:
        """Return the latency of a batch in nanoseconds, measured or according to `between`.

        Raises:
            BatchSizeError: The batch is empty, or larger than the largest measured one.
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
        """Return the largest measured batch size of a subnet that finishes within a budget, or 0 if there is none."""
        fitting = np.flatnonzero(self.latency_ns[subnet] <= budget_ns)
        return self.batch_sizes[int(fitting[-1])] if len(fitting) else 0

    def up_to(self, max_batch: int | None) -> LatencyTable:
        """Return the table restricted to batch sizes up to `max_batch`; None for the table's own default.

        A limit between two measured sizes keeps the smaller one: of 1, 2, 4, 8, 16, a limit of 12 keeps up to 8.

        Raises:
            BatchSizeError: The limit is below the smallest or above the largest measured batch size.
        """
        limit = self.default_max_batch if max_batch is None else max_batch
        if limit is None:
            return self
        if not self.batch_sizes[0] <= limit <= self.max_batch:
            sizes = f"measured: {', '.join(map(str, self.batch_sizes))}"
            raise BatchSizeError(f"table of {self.device}", "no batch size up to", str(limit), sizes)
        keep = sum(size <= limit for size in self.batch_sizes)
        uncertainty: dict[str, Any] = {name: grid[:, :keep] for name, grid in self.uncertainty.items()}
        return replace(
            self,
            batch_sizes=self.batch_sizes[:keep],
            latency_ns=self.latency_ns[:, :keep],
            **uncertainty,
            stages={name: grid[:, :keep] for name, grid in self.stages.items()},
            default_max_batch=None,
        )

    def with_stages(self, names: Sequence[str]) -> LatencyTable:
        """Return the table whose latency is the sum of some of its stages; all stages give the table itself.

        The 99th percentile and the interval of such a sum are unknown.

        Raises:
            DataError: A stage is unknown, no stage is given, or the sum is 0 in some cell.
        """
        if not names:
            raise DataError(f"table of {self.device}", "no stages given", "", f"choose from {', '.join(self.stages)}")
        for name in names:
            if name not in self.stages:
                hint = did_you_mean(name, self.stages) if self.stages else "the table has no stages"
                raise DataError(f"table of {self.device}", "unknown stage", name, hint)
        if set(names) == set(self.stages):
            return self
        chosen = {name: grid for name, grid in self.stages.items() if name in names}
        unknown: dict[str, Any] = dict.fromkeys(UNCERTAINTY_GRIDS)
        return replace(self, latency_ns=np.sum(list(chosen.values()), axis=0), stages=chosen, **unknown)

    def subnet_of_accuracy(self, accuracy: float) -> int:
        """Return the subnet (index) of an accuracy, to 0.05 points: 78.25 matches 78.250 and 78.2496.

        Raises:
            DataError: No subnet has this accuracy.
        """
        distance = [abs(subnet.accuracy - accuracy) for subnet in self.subnets]
        best = int(np.argmin(distance))
        if distance[best] > 0.05:  # noqa: PLR2004 - published accuracies have two decimals
            known = ", ".join(f"{subnet.accuracy:.2f}" for subnet in self.subnets)
            raise DataError(f"table of {self.device}", "no subnet of this accuracy", f"{accuracy:g}", f"known: {known}")
        return best


Cells = Mapping[tuple[str, int], int]
"""Nanoseconds by subnet id and batch size."""


def table_from_cells(
    device: str,
    subnets: Iterable[ProfiledSubnet],
    cells: Cells,
    uncertainty: Mapping[str, Cells] | None = None,
    stages: Mapping[str, Cells] | None = None,
    *,
    location: str = "table",
    between: Between = "pad",
    default_max_batch: int | None = None,
    provenance: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Return the table of measured cells, given in any order.

    Args:
        device: Name of the device that was profiled.
        subnets: In any order; the table sorts them by accuracy.
        cells: Latencies.
        uncertainty: Percentiles and interval bounds by the names in `UNCERTAINTY_GRIDS`, each by the same keys.
        stages: Parts of the latency by name, each by the same keys.
        location: Name of the table in messages.
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
            problem, value = f"missing cell of {column}", f"subnet {subnet}, batch {size}{more}"
            raise DataError(location, problem, value, "the grid must be full")
        return np.array([[values[s.id, size] for size in sizes] for s in ordered], dtype=np.int64)

    return LatencyTable(
        device,
        ordered,
        sizes,
        grid(cells, "latency"),
        **{name: grid(values, name.removesuffix("_ns")) for name, values in (uncertainty or {}).items()},
        stages={name: grid(values, f"stage {name}") for name, values in (stages or {}).items()},
        between=between,
        default_max_batch=default_max_batch,
        provenance=provenance or {},
    )


def _check_axes(table: LatencyTable) -> None:
    location = f"table of {table.device}"
    ids, sizes = [subnet.id for subnet in table.subnets], table.batch_sizes
    if not ids or not sizes:
        raise DataError(location, "is empty", f"{len(ids)} subnets, {len(sizes)} batch sizes", "one of each or more")
    doubled = {name for name in ids if ids.count(name) > 1}
    if doubled:
        raise DataError(location, "duplicate subnet", ", ".join(sorted(doubled)), "ids must be unique")
    accuracies = [subnet.accuracy for subnet in table.subnets]
    if accuracies != sorted(accuracies):
        raise DataError(
            location, "subnets are not in ascending order of accuracy", str(accuracies), "the least accurate first"
        )
    if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise DataError(location, "batch sizes are not positive and increasing", str(sizes), "such as 1, 2, 4, 8, 16")
    if table.between not in get_args(Between):
        raise DataError(location, "unknown value of between", repr(table.between), " or ".join(get_args(Between)))
    limit = table.default_max_batch
    if limit is not None and not sizes[0] <= limit <= sizes[-1]:
        hint = f"{sizes[0]} to {sizes[-1]}"
        raise DataError(location, "default_max_batch is out of range", str(limit), hint)


def _check_grid(table: LatencyTable, name: str, grid: npt.NDArray[np.int64], *, lowest: int) -> None:
    location = f"table of {table.device}, {name}"
    shape = (len(table.subnets), len(table.batch_sizes))
    if grid.shape != shape or grid.dtype != np.int64:
        raise DataError(
            location, "has the wrong type or shape", f"{grid.dtype}, shape {grid.shape}", f"int64, shape {shape}"
        )
    if (grid < lowest).any():
        subnet, column = (int(i) for i in np.argwhere(grid < lowest)[0])
        cell = f"subnet {table.subnets[subnet].id}, batch {table.batch_sizes[column]}: {grid[subnet, column]} ns"
        raise DataError(location, "is not positive" if lowest else "is negative", cell, f"{lowest} ns or more")


def _check_interval(table: LatencyTable) -> None:
    if table.low_ns is None and table.high_ns is None:
        return
    location = f"table of {table.device}"
    if table.low_ns is None or table.high_ns is None:
        raise DataError(location, "has only one bound of its intervals", "", "give both low_ns and high_ns")
    outside = (table.low_ns > table.latency_ns) | (table.high_ns < table.latency_ns)
    if outside.any():
        subnet, column = (int(i) for i in np.argwhere(outside)[0])
        cell = f"subnet {table.subnets[subnet].id}, batch {table.batch_sizes[column]}"
        raise DataError(location, "latency outside its confidence interval", cell, "low_ns <= latency_ns <= high_ns")


def _dense(sizes: tuple[int, ...], latency_ns: npt.NDArray[np.int64], between: Between) -> npt.NDArray[np.int64]:
    every = np.arange(1, sizes[-1] + 1)
    if between == "pad":
        rows = latency_ns[:, np.searchsorted(sizes, every)]
    else:
        rows = np.stack([np.rint(np.interp(every, sizes, row)).astype(np.int64) for row in latency_ns])
    return np.concatenate([np.zeros((len(latency_ns), 1), np.int64), rows], axis=1)


def _pareto(subnets: tuple[ProfiledSubnet, ...], latency_ns: npt.NDArray[np.int64]) -> tuple[int, ...]:
    accuracy = np.array([subnet.accuracy for subnet in subnets])

    def is_dominated(s: int) -> bool:
        no_worse = (accuracy >= accuracy[s]) & (latency_ns <= latency_ns[s]).all(axis=1)
        better = (accuracy > accuracy[s]) | (latency_ns < latency_ns[s]).any(axis=1)
        return bool((no_worse & better).any())

    return tuple(s for s in range(len(subnets)) if not is_dominated(s))
