"""Latency tables: the latency of each subnet at each batch size, and its accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import BatchSizeError, DataError, did_you_mean
from sim.base.html import html_table
from sim.base.units import NS_PER_MS
from sim.tables.grids import (
    checked_grid,
    checked_mapping,
    checked_samples,
    checked_sizes,
    dense,
    pareto,
    whole_number,
)
from sim.tables.validation import check_uncertainty, sort_equals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

Between = Literal["pad", "interpolate"]
"""Latency of a batch size that was not measured: that of the next larger one, or linear interpolation."""


UNCERTAINTY_GRIDS = ("p99_ns", "low_ns", "high_ns", "p99_low_ns", "p99_high_ns")
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
        given: Any = self.id
        if not isinstance(given, str) or not given:
            raise DataError("subnet", "id is not a text", repr(given), "a name, unique in the table")
        location = f"subnet {self.id!r}"
        for name, highest in (("accuracy", 100), ("gmacs", math.inf), ("params", math.inf), ("loading_ns", math.inf)):
            value = getattr(self, name)
            if value is None and name != "accuracy":
                continue
            hint = "percent: above 0, at most 100" if name == "accuracy" else "0 or more"
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                raise DataError(location, f"{name} is not a number", repr(value), hint)
            if not 0 <= value <= highest or value == (0 if name == "accuracy" else math.inf):
                raise DataError(location, f"{name} is out of range", f"{value:g}", hint)
            whole = name in {"params", "loading_ns"}
            object.__setattr__(self, name, whole_number(value, f"{location}, {name}", hint) if whole else float(value))


@dataclass(frozen=True, slots=True, eq=False)
class LatencyTable:
    """The latencies of the subnets of one supernet on one device.

    The order of subnets is part of the table, and does not depend on the order of rows in a file: by accuracy, and of
    equally accurate subnets the faster one last. So the largest index among some subnets is the best of them. *Faster*
    means a smaller sum of latencies over the measured batch sizes: a subnet that is nowhere slower and somewhere
    faster always comes later, and where latencies cross, the sum decides. Equal sums are ordered by the single
    latencies, equal latencies by id.

    Attributes:
        device: Name of the device that was profiled.
        subnets: In ascending order of accuracy; the table puts equally accurate ones in order, with their latencies.
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
        p99_low_ns, p99_high_ns: Those of the 99th percentile, likewise.
        samples_ns: The repetitions that the latency is the median of, by subnet and batch size: int64, ascending, one
            or more per cell; None if unknown.
        energy_uj: Energy of a batch in microjoules, idle power included, int64 of the same shape; None if unknown.
        per_query_ns: Overhead of each query of a batch, which all these times include; the stages do not.

    Grids may be nested lists, DataFrames or arrays of any type that holds whole numbers; the table keeps copies.

    Raises:
        DataError: The grid is incomplete, not whole, not positive or out of order (with the subnet and the batch size),
            no accuracy is above 1 %, a 99th percentile is below the latency, or `between` or `default_max_batch` is
            invalid.

    Examples:
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
    samples_ns: tuple[tuple[npt.NDArray[np.int64], ...], ...] | None = field(default=None, repr=False)
    p99_low_ns: npt.NDArray[np.int64] | None = None
    p99_high_ns: npt.NDArray[np.int64] | None = None
    energy_uj: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    per_query_ns: int = field(default=0, repr=False)
    dense_ns: npt.NDArray[np.int64] = field(init=False, repr=False)
    """Latency for every batch size 0 (which is 0) to the largest, int64, shape (subnets, largest + 1).

    The overhead of queries is that of the queries in the batch: empty places have none.
    """

    pareto: tuple[int, ...] = field(init=False, repr=False)
    """Pareto-optimal subnets (indices): no other is as accurate, nowhere slower, and better in one of the two."""

    def __post_init__(self) -> None:
        location = f"table of {self.device}"
        values: dict[str, Any] = {
            "subnets": tuple(self.subnets),
            "batch_sizes": checked_sizes(self.batch_sizes, location),
            "stages": checked_mapping(self.stages, f"{location}, stages"),
            "provenance": checked_mapping(self.provenance, f"{location}, provenance"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _check_axes(self)
        axes = [subnet.id for subnet in self.subnets], self.batch_sizes
        grids: dict[str, Any] = {
            "latency_ns": checked_grid(self.latency_ns, f"{location}, latency_ns", *axes, lowest=1)
        }
        for name, grid in {
            **self.uncertainty,
            **({} if self.energy_uj is None else {"energy_uj": self.energy_uj}),
        }.items():
            grids[name] = checked_grid(grid, f"{location}, {name}", *axes, lowest=1)
        grids["stages"] = {
            name: checked_grid(grid, f"{location}, stage {name}", *axes, lowest=0) for name, grid in self.stages.items()
        }
        if self.samples_ns is not None:
            grids["samples_ns"] = checked_samples(self.samples_ns, f"{location}, samples_ns", *axes)
        for name, grid in grids.items():
            object.__setattr__(self, name, grid)
        check_uncertainty(self)
        sort_equals(self)
        object.__setattr__(self, "dense_ns", read_only(self._dense()))
        object.__setattr__(self, "pareto", pareto([subnet.accuracy for subnet in self.subnets], self.latency_ns))

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
    def holds(self) -> Literal["median", "mean"]:
        """What the latencies are of the measurements: medians, unless the provenance names the `statistic` mean."""
        return "mean" if self.provenance.get("statistic") == "mean" else "median"

    @property
    def max_batch(self) -> int:
        """The largest measured batch size."""
        return self.batch_sizes[-1]

    @property
    def smallest_ns(self) -> int:
        """The smallest latency of any batch."""
        return int(self.dense_ns[:, 1:].min())

    @property
    def least_accurate(self) -> int:
        """The least accurate subnet (index); the fastest of them if several are."""
        lowest = self.subnets[0].accuracy
        return max(s for s, subnet in enumerate(self.subnets) if subnet.accuracy == lowest)

    @property
    def max_throughput(self) -> tuple[int, int]:
        """The subnet (index) and batch size with the highest throughput in queries per second.

        Of several, the least accurate subnet; the faster one of equally accurate ones, and its smallest batch.
        """
        per_query = self.latency_ns / np.asarray(self.batch_sizes)
        subnet = min(range(len(self.subnets)), key=lambda s: (per_query[s].min(), self.subnets[s].accuracy, -s))
        return subnet, self.batch_sizes[int(np.argmin(per_query[subnet]))]

    def latency(self, subnet: int, batch_size: int) -> int:
        """Return the latency of a batch in nanoseconds, measured or according to `between`.

        Raises:
            BatchSizeError: The batch is empty, or larger than the largest measured one.
        """
        if not 0 < batch_size <= self.max_batch:
            place, hint = f"table of {self.device}", f"measured: 1 to {self.max_batch}"
            raise BatchSizeError(place, "no latency for this batch size", str(batch_size), hint)
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
            energy_uj=None if self.energy_uj is None else self.energy_uj[:, :keep],
            samples_ns=None if self.samples_ns is None else tuple(row[:keep] for row in self.samples_ns),
            default_max_batch=None,
        )

    def with_query_overhead(self, per_query_ns: int) -> LatencyTable:
        """Return the table whose times include an overhead of each query of a batch, instead of what they include now.

        Policies then compare the slack with what a batch takes, whatever its size.

        Args:
            per_query_ns: The overhead, 0 or more.
        """
        if per_query_ns == self.per_query_ns:
            return self
        more = (per_query_ns - self.per_query_ns) * np.array(self.batch_sizes, dtype=np.int64)
        grids: dict[str, Any] = {name: grid + more for name, grid in self.uncertainty.items()}
        if self.samples_ns is not None:
            grids["samples_ns"] = tuple(
                tuple(cell + each for cell, each in zip(row, more, strict=True)) for row in self.samples_ns
            )
        return replace(self, latency_ns=self.latency_ns + more, per_query_ns=per_query_ns, **grids)

    def _dense(self) -> npt.NDArray[np.int64]:
        sizes = np.array(self.batch_sizes, dtype=np.int64)
        measured = dense(self.batch_sizes, self.latency_ns - self.per_query_ns * sizes, self.between)
        return measured + self.per_query_ns * np.arange(self.max_batch + 1)

    def with_stages(self, names: Sequence[str]) -> LatencyTable:
        """Return the table whose latency is the sum of some of its stages; all stages give the table itself.

        The 99th percentile, the interval, the samples and the energy of such a sum are unknown.

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
        unknown: dict[str, Any] = dict.fromkeys((*UNCERTAINTY_GRIDS, "samples_ns", "energy_uj"))
        return replace(self, latency_ns=np.sum(list(chosen.values()), axis=0), stages=chosen, **unknown)

    def subnet_of_accuracy(self, accuracy: float) -> int:
        """Return the subnet (index) of an accuracy, to 0.05 points: 78.25 matches 78.250 and 78.2496.

        Raises:
            DataError: No subnet has this accuracy, or several have it: exactly, or as nearly to 0.005 points.
        """
        distance = np.array([abs(subnet.accuracy - accuracy) for subnet in self.subnets])
        nearest = float(distance.min())
        if nearest > 0.05:  # noqa: PLR2004 - published accuracies have two decimals
            known = ", ".join(f"{subnet.accuracy:.2f}" for subnet in self.subnets)
            raise DataError(f"table of {self.device}", "no subnet of this accuracy", f"{accuracy:g}", f"known: {known}")
        found = np.flatnonzero(distance <= (nearest + 0.005 if nearest else 0)).tolist()
        if len(found) > 1:
            names = ", ".join(f"{self.subnets[s].id} {self.subnets[s].accuracy:g}" for s in found)
            problem = f"{len(found)} subnets have this accuracy"
            raise DataError(
                f"table of {self.device}",
                problem,
                f"{accuracy:g}: {names}",
                f"name one of them by its id, such as subnet: {self.subnets[found[-1]].id}",
            )
        return int(found[0])

    def subnet_of_id(self, name: str) -> int:
        """Return the subnet (index) of an id.

        Raises:
            DataError: No subnet has this id.
        """
        ids = [subnet.id for subnet in self.subnets]
        if name not in ids:
            raise DataError(f"table of {self.device}", "no subnet of this id", name, did_you_mean(name, ids))
        return ids.index(name)


def _check_axes(table: LatencyTable) -> None:
    location = f"table of {table.device}"
    subnets, sizes = table.subnets, table.batch_sizes
    if not subnets or not sizes:
        found = f"{len(subnets)} subnets, {len(sizes)} batch sizes"
        raise DataError(location, "is empty", found, "one of each or more")
    others: list[object] = [subnet for subnet in subnets if type(subnet) is not ProfiledSubnet]
    if others:
        raise DataError(location, "is not a subnet", repr(others[0]), "ProfiledSubnet(id, accuracy)")
    ids = [subnet.id for subnet in subnets]
    doubled = {name for name in ids if ids.count(name) > 1}
    if doubled:
        raise DataError(location, "duplicate subnet", ", ".join(sorted(doubled)), "ids must be unique")
    accuracies = [subnet.accuracy for subnet in subnets]
    if accuracies != sorted(accuracies):
        hint = "the least accurate first"
        raise DataError(location, "subnets are not in ascending order of accuracy", str(accuracies), hint)
    if accuracies[-1] <= 1 and not any(subnet.control for subnet in subnets):  # of an untrained supernet it may be
        hint = "percent, such as 73.82: are these shares of 1?"
        raise DataError(location, "no accuracy is above 1", f"{subnets[-1].id}: {accuracies[-1]:g}", hint)
    if table.between not in get_args(Between):
        raise DataError(location, "unknown value of between", repr(table.between), " or ".join(get_args(Between)))
    if table.default_max_batch is not None:
        hint = f"{sizes[0]} to {sizes[-1]}"
        limit = whole_number(table.default_max_batch, f"{location}, default_max_batch", hint)
        if not sizes[0] <= limit <= sizes[-1]:
            raise DataError(location, "default_max_batch is out of range", str(limit), hint)
        object.__setattr__(table, "default_max_batch", limit)
