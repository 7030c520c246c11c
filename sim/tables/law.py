"""Latencies that vary: the distribution of each cell of a table, and tables that hold another of its figures.

A table holds one figure a cell: the median, or the mean (`LatencyTable.holds`). A `LatencyLaw` says how latencies are
distributed around it. Policies plan on one figure of that distribution, such as the 99th percentile: `planned` returns
the table that they see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from sim.base.errors import DataError, SpecError
from sim.tables.latency import LatencyTable

if TYPE_CHECKING:
    import numpy.typing as npt

    _Floats = npt.NDArray[np.float64]
    _Grid = npt.NDArray[np.int64]

LawName = Literal["fixed", "lognormal", "samples"]
"""Every batch takes what the table says; a lognormal distribution; or the table's own measurements, equally likely."""

PlanName = Literal["median", "mean", "p95", "p99"]
"""Figures of the distribution of a latency."""

HIGHEST_RATIO = 100.0
"""A 99th percentile of more than so many medians is assumed to be a typo."""

_QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
_Z99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class LatencyLaw:
    """How the latency of a batch is distributed.

    Attributes:
        law: The kind of distribution.
        p99_over_median: Of a lognormal: its 99th percentile over its median, for all cells; None takes the 99th
            percentiles of the table.

    Raises:
        SpecError: The law is unknown, or the ratio is out of range or belongs to another law.
    """

    law: LawName = "fixed"
    p99_over_median: float | None = None

    def __post_init__(self) -> None:
        if self.law not in get_args(LawName):
            raise SpecError("latency", "unknown law", repr(self.law), " or ".join(get_args(LawName)))
        ratio = self.p99_over_median
        if ratio is None:
            return
        place = "latency.p99_over_median"
        if self.law != "lognormal":
            raise SpecError(place, f"has no meaning with law: {self.law}", f"{ratio}", "law: lognormal")
        if isinstance(ratio, bool) or not 1 <= ratio <= HIGHEST_RATIO:
            raise SpecError(place, "is out of range", repr(ratio), f"from 1 to {HIGHEST_RATIO:g}")

    def __repr__(self) -> str:
        ratio = "" if self.p99_over_median is None else f", {self.p99_over_median:g}"
        return f"{type(self).__name__}({self.law!r}{ratio})"

    def __str__(self) -> str:
        ratio = self.p99_over_median
        return self.law if ratio is None else f"{self.law}, p99 over median {ratio:g}"

    @property
    def is_drawn(self) -> bool:
        """Whether latencies are drawn."""
        return self.law != "fixed"


FIXED = LatencyLaw()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PlannedTable(LatencyTable):
    """A table of the latencies that policies plan on, which are not those that batches are drawn from.

    Attributes:
        actual: The table that was measured. Equally accurate subnets may stand in another order there.
    """

    actual: LatencyTable | None = None


def origin_of(table: LatencyTable, law: LatencyLaw) -> str:
    """Return in a sentence what the distributions of a law that is drawn are made from."""
    if law.law == "samples":
        return f"drawn from the samples of {table.device}, equally likely"
    if law.p99_over_median is not None:
        return f"lognormal with the {table.holds}s of {table.device}, p99 over median {law.p99_over_median:g}"
    how = f" ({table.provenance['p99']})" if "p99" in table.provenance else ""
    return f"lognormal with the {table.holds}s and 99th percentiles of {table.device}{how}"


def actual_table(table: LatencyTable) -> LatencyTable:
    """Return the table that was measured: the table itself, or what a `PlannedTable` was made from."""
    return table.actual if isinstance(table, PlannedTable) and table.actual is not None else table


def planned(table: LatencyTable, plan: PlanName | float | None, law: LatencyLaw = FIXED) -> LatencyTable:
    """Return the table that policies see.

    Args:
        table: The table that was measured.
        plan: The figure of each cell that policies plan on; a number is a margin, by which the table's latencies are
            multiplied; None for the table as it is.
        law: How latencies are distributed. Under `fixed`, the figure has to be in the table.

    Raises:
        DataError: The table lacks what the figure follows from.
        SpecError: There is no such figure, or the margin is out of range.
    """
    if plan is None:
        return table
    if isinstance(plan, str):
        if plan not in get_args(PlanName):
            raise SpecError("plan", "unknown figure", repr(plan), f"{', '.join(get_args(PlanName))}, or a margin")
        grid = _figure(table, plan, law)
    else:
        if isinstance(plan, bool) or not 0 < plan <= HIGHEST_RATIO:
            raise SpecError("plan", "margin is out of range", repr(plan), f"above 0, at most {HIGHEST_RATIO:g}")
        grid = np.asarray(table.latency_ns * float(plan), np.float64)
    return PlannedTable(
        table.device,
        table.subnets,
        table.batch_sizes,
        _whole(grid),
        between=table.between,
        default_max_batch=table.default_max_batch,
        provenance={**table.provenance, "plan": f"{plan}"},
        actual=table,
    )


def nodes_of(table: LatencyTable, law: LatencyLaw) -> list[list[_Grid]]:
    """Return the distribution of each measured cell under a law that is drawn, by subnet and batch size.

    Returns:
        Increasing whole nanoseconds: of `samples`, all of them, equally likely; of a lognormal, its quantiles at
        0, 1/n, ..., 1, between which it is linear. The two ends stand for all beyond the quantiles next to them.

    Raises:
        DataError: The table lacks what the law needs.
    """
    if law.law == "samples":
        return [list(row) for row in _samples(table, "latency: samples")]
    median, scale = _lognormal(table, law)
    grid = _whole(median[..., None] * np.exp(scale[..., None] * _NORMAL))
    return [list(row) for row in grid]


def spread_nodes(median_ns: int, p99_over_median: float) -> _Grid:
    """Return the nodes of the lognormal distribution of one time, as `nodes_of` a cell."""
    return _whole(median_ns * np.exp(math.log(p99_over_median) / _Z99 * _NORMAL))


STEPS = 1024
"""Parts of a lognormal of equal probability."""

_NORMAL = np.array(
    [NormalDist().inv_cdf(min(max(step, 0.125), STEPS - 0.125) / STEPS) for step in range(STEPS + 1)], dtype=np.float64
)
"""Quantiles of the normal distribution at the ends of these parts. The outermost ones, which are infinite, are taken at
an eighth of a part: a straight line up to there has nearly the mean of the tail."""


def _lognormal(table: LatencyTable, law: LatencyLaw) -> tuple[_Floats, _Floats]:
    """Return median and scale of each cell's lognormal, which has the table's median (or mean) and 99th percentile.

    With scale s, the 99th percentile is exp(z s) medians, z = 2.326, and the mean is exp(s^2 / 2) medians.

    Raises:
        DataError: The table has no 99th percentiles, or no lognormal has such a mean and such a percentile.
    """
    held = table.latency_ns.astype(np.float64)
    of_mean = table.holds == "mean"
    if law.p99_over_median is not None:
        scale = np.full(held.shape, math.log(law.p99_over_median) / _Z99)
    else:
        if table.p99_ns is None:
            hint = "give the spread, {law: lognormal, p99_over_median: 1.2}, or a table with a column p99_ms"
            raise DataError(f"table of {table.device}", "has no 99th percentiles", "latency: lognormal", hint)
        excess = np.log(table.p99_ns / held)
        root = _Z99**2 - 2 * excess  # z s - s^2 / 2 = excess, if a mean is held
        if of_mean and (root < 0).any():
            subnet, column = np.argwhere(root < 0)[0]
            cell = f"subnet {table.subnets[subnet].id}, batch {table.batch_sizes[column]}"
            hint = "give the spread, {law: lognormal, p99_over_median: 1.2}"
            raise DataError(f"table of {table.device}", "no lognormal has such a mean and 99th percentile", cell, hint)
        scale = _Z99 - np.sqrt(root) if of_mean else excess / _Z99
    return held * np.exp(-(scale**2) / 2) if of_mean else held, scale


def _figure(table: LatencyTable, plan: str, law: LatencyLaw) -> _Floats:
    """Return a figure of each cell, float64, shape (subnets, batch_sizes)."""
    if law.law == "lognormal":
        median, scale = _lognormal(table, law)
        factor = scale**2 / 2 if plan == "mean" else scale * NormalDist().inv_cdf(_QUANTILES[plan])
        return np.asarray(median * np.exp(factor), np.float64)
    if law.law == "fixed":
        if plan == table.holds:
            return table.latency_ns.astype(np.float64)
        if plan == "p99" and table.p99_ns is not None:
            return table.p99_ns.astype(np.float64)
    rows = _samples(table, f"plan: {plan}")
    if plan == "mean":
        return np.array([[cell.mean() for cell in row] for row in rows])
    share = _QUANTILES[plan]
    return np.array([[np.quantile(cell, share, method="inverted_cdf") for cell in row] for row in rows], np.float64)


def _samples(table: LatencyTable, asked: str) -> tuple[tuple[_Grid, ...], ...]:
    if table.samples_ns is None:
        has = "and 99th percentiles" if table.p99_ns is not None else "without percentiles"
        hint = f"it holds {table.holds}s {has}: profile with samples, give several rows a cell, or name a lognormal law"
        raise DataError(f"table of {table.device}", "has no samples", asked, hint)
    return table.samples_ns


def _whole(grid: _Floats) -> _Grid:
    return np.maximum(np.rint(grid), 1).astype(np.int64)
