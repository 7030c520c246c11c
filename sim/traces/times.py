"""Times as files have them, and as nanoseconds: numbers in a unit, ISO text, timestamps and durations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa

from sim.base.errors import DataError, SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64] | range

Unit = Literal["iso", "s", "ms", "us", "ns"]

NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of a unit."""

DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # decimals after which a number in a unit is a whole number of nanoseconds
_NAME = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SUFFIX = re.compile(r"_(s|ms|us|ns)$")
_ISO = re.compile(r"\s*\d{4}-\d\d-\d\d([ T]\d\d:\d\d|\s*$)")
_LATEST = 2.0**63
_IN_CACHE = 16_384  # floats

_UNIX_S = (946_684_800, 4_102_444_800)  # 2000 to 2100


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column of times.

    Attributes:
        column: The name of the column, or its number from 1 in a file without a header.
        unit: `s`, `ms`, `us` or `ns` for numbers; `iso` for text such as 2024-05-10 00:00:00.5+00:00. Without it, a
            timestamp or duration of a parquet file has a unit of its own, and a name such as `arrival_ms` says it.
    """

    column: str | int
    unit: Unit | None = None

    def __post_init__(self) -> None:
        if self.unit not in {None, "iso", *NS_PER}:
            raise SpecError("TimeColumn.unit", "unknown unit", repr(self.unit), "one of iso, s, ms, us, ns")

    @property
    def known_unit(self) -> Unit | None:
        """The unit that is given, or that the name of the column ends in; None without either."""
        found = _SUFFIX.search(self.column) if isinstance(self.column, str) else None
        return self.unit or (cast("Unit", found[1]) if found else None)

    def __str__(self) -> str:
        return f"column {self.column}" if isinstance(self.column, int) else self.column


def types_of(unit: Unit) -> Sequence[pa.DataType]:
    """Return the types as which a column of text is read: exact ones first."""
    if unit == "iso":
        return pa.timestamp("ns"), pa.timestamp("ns", "UTC")
    exact = pa.decimal128(38, DIGITS[unit])
    return (exact,) if unit == "ns" else (exact, pa.float64())


def ns_of(values: pa.Array, unit: Unit | None, *, name: str, location: str, numbers: Numbers) -> npt.NDArray[np.int64]:
    """Return times in nanoseconds, int64, shape (n,): exact, or rounded to the nearest.

    Args:
        values: A column, whole.
        unit: The unit of numbers and of text, None if there are none.
        name: The name of the column, in messages.
        location: The name of the file, in messages.
        numbers: The numbers of the rows, in messages.

    Raises:
        DataError: The type is not one of times, the unit is missing, or a value is out of range.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return ns_of(values.dictionary_decode(), unit, name=name, location=location, numbers=numbers)
    if pa.types.is_temporal(kind):
        return _of_temporal(values, name=name, location=location, numbers=numbers)
    if unit is None:
        raise DataError(location, f"the unit of {name} is not known", str(kind), "unit: s, ms, us, ns or iso")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_text(values, unit, name=name, location=location, numbers=numbers)
    if unit == "iso":
        raise DataError(location, f"{name} holds numbers, not ISO text", str(kind), "unit: s, ms, us or ns")
    if pa.types.is_decimal(kind):
        return _of_decimal(values, unit, name=name, location=location, numbers=numbers)
    if pa.types.is_integer(kind):
        return _of_integers(values.to_numpy(), NS_PER[unit], location=location, numbers=numbers)
    if pa.types.is_floating(kind):
        return ns_of_floats(values.cast(pa.float64()).to_numpy(), unit, name=name, location=location, numbers=numbers)
    raise DataError(location, f"{name} holds neither numbers nor times", str(kind), "name another column")


def ns_of_floats(
    values: npt.NDArray[np.float64], unit: Unit, *, name: str, location: str, numbers: Numbers
) -> npt.NDArray[np.int64]:
    """Return floats in a unit as the nearest nanosecond.

    Exact for decimals of nine digits in the first 26 days: a double holds 2.2e15 ns with an error below half a
    nanosecond, the multiplication included.

    Raises:
        DataError: A value is not finite, its nanoseconds leave int64, or nanoseconds are not whole; names the row.
    """
    found = np.empty(len(values), np.int64)
    for start in range(0, len(values), _IN_CACHE):
        part = values[start : start + _IN_CACHE]
        with np.errstate(over="ignore"):  # infinite, and told below
            scaled = part * float(NS_PER[unit])
        # NaN compares false, and is the least and the largest of all.
        if not (scaled.min() > -_LATEST and scaled.max() < _LATEST):
            at = start + int(np.argmax(~(np.abs(scaled) < _LATEST)))
            raise DataError(
                f"{location}, row {numbers[at]}", "is not a time", str(values[at]), f"{_NAME[unit]}, finite"
            )
        np.rint(scaled, out=scaled)
        if unit == "ns" and (scaled != part).any():
            at = start + int(np.argmax(scaled != part))
            raise DataError(
                f"{location}, row {numbers[at]}", f"invalid {name}", str(values[at]), "must be a whole number"
            )
        found[start : start + _IN_CACHE] = scaled
    return found


def shown(time_ns: int, unit: Unit | None) -> str:
    """Return a time as a file with this unit shows it; with None or iso as a date."""
    if unit is None or unit == "iso":
        step: Literal["ns", "s"] = "ns" if time_ns % NS_PER_S else "s"
        text = str(np.datetime64(time_ns // NS_PER[step], step)).replace("T", " ")
        return text.rstrip("0") if step == "ns" else text
    whole, rest = divmod(abs(time_ns), NS_PER[unit])
    digits = f".{rest:0{DIGITS[unit]}d}".rstrip("0") if rest else ""
    return f"{'-' if time_ns < 0 else ''}{whole}{digits} {unit}"


def looks_like_iso(value: object) -> bool:
    """Return whether a cell is text such as 2024-05-10 00:00:00."""
    return isinstance(value, str) and _ISO.match(value) is not None


def unix_unit(value: float) -> Unit | None:
    """Return the unit in which a number is a Unix time of 2000 to 2100, None if it is in none."""
    low, high = _UNIX_S
    return next((cast("Unit", unit) for unit, ns in NS_PER.items() if low <= value * ns / NS_PER_S < high), None)


def _of_temporal(values: pa.Array, *, name: str, location: str, numbers: Numbers) -> npt.NDArray[np.int64]:
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        wanted = pa.timestamp("ns", getattr(kind, "tz", None))
    elif pa.types.is_duration(kind):
        wanted = pa.duration("ns")
    elif pa.types.is_time(kind):
        wanted = pa.time64("ns")
    else:
        raise DataError(location, f"{name} holds neither numbers nor times", str(kind), "name another column")
    try:
        return np.asarray(values.cast(wanted).cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{location}, row {numbers[0]} or after", f"{name} is out of range", str(error), "1677 to 2262"
        ) from error


def _of_text(values: pa.Array, unit: Unit, *, name: str, location: str, numbers: Numbers) -> npt.NDArray[np.int64]:
    error: Exception | None = None
    for kind in types_of(unit):
        try:
            return ns_of(values.cast(kind), unit, name=name, location=location, numbers=numbers)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as found:
            error = found
    raise DataError(
        f"{location}, row {numbers[0]} or after", f"{name} can't be read in unit {unit}", str(error)
    ) from error


def _of_decimal(values: pa.Array, unit: Unit, *, name: str, location: str, numbers: Numbers) -> npt.NDArray[np.int64]:
    """Return decimals with as many digits as make nanoseconds: their whole numbers are the nanoseconds."""
    kind = pa.decimal128(38, DIGITS[unit])
    if values.type != kind:
        try:
            values = values.cast(kind)
        except pa.ArrowInvalid:  # more digits than nanoseconds have
            return ns_of_floats(
                values.cast(pa.float64()).to_numpy(), unit, name=name, location=location, numbers=numbers
            )
    halves = np.frombuffer(cast("Any", values.buffers()[1]), np.int64).reshape(-1, 2)
    low, high = halves[values.offset : values.offset + len(values)].T
    wrong = high != low >> 63  # beyond 64 bits
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{location}, row {numbers[at]}", f"invalid {name}", str(values[at]), f"{_NAME[unit]} out of range"
        )
    return np.ascontiguousarray(low)


def _of_integers(values: npt.NDArray[Any], factor: int, *, location: str, numbers: Numbers) -> npt.NDArray[np.int64]:
    if factor == 1 and values.dtype == np.int64:
        return values
    most = np.iinfo(np.int64).max // factor
    wrong = values > min(most, np.iinfo(values.dtype).max)
    if values.dtype.kind == "i":
        wrong |= values < max(-most, np.iinfo(values.dtype).min)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{location}, row {numbers[at]}", "is not a time", str(values[at]), "out of range")
    whole = values.astype(np.int64, copy=False)
    return whole if factor == 1 else whole * factor
