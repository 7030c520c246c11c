"""The way out for a file whose columns are not known: its columns, the kinds that fit, and the question of the unit."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sim.base.errors import DataError
from sim.traces.reading import batches, place_of
from sim.traces.times import TimeColumn, looks_like_iso, unix_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sim.traces.content import Content

SIGNATURES = {
    "azure2019": ("HashOwner", "HashFunction", "Trigger"),
    "azure2021": ("app", "func", "end_timestamp", "duration"),
    "burstgpt": ("Timestamp", "Model", "Request tokens", "Response tokens"),
    "k6": ("metric_name", "timestamp", "metric_value"),
    "llm": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "llmservingsim": ("input_toks", "output_toks", "arrival_time_ns"),
    "mooncake": ("timestamp", "input_length", "output_length", "hash_ids"),
    "splitwise": ("request_id", "request_type", "arrival_timestamp"),
    "vidur": ("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
}
"""The columns by which a file of a named kind is known."""

_MOST = 12  # columns in a message
_TIME_NAMES = re.compile(r"arriv|time|stamp|date|when|start|epoch|^ts$|^t$", re.IGNORECASE)
_GAP_NAMES = re.compile(r"inter.?arriv|(^|_)(iat|gap|delta|diff)", re.IGNORECASE)
_LARGEST_NAME = 9_999  # numbers up to here may be names of columns, such as the minutes of a day
_DOCS = "see docs/own_trace.md"


def is_number(value: object) -> bool:
    """Return whether a cell is a number as CSV writers write it."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def first_values(content: Content, column: str | int, *, header: bool = True) -> list[Any]:
    """Return some values of a column of a text file, the first of them.

    Raises:
        DataError: There is no such column, or there are two.
    """
    place = place_of(content, column)
    rows = content.sample if header else (content.names, *content.sample)
    return [row[place] for row in rows if place < len(row)]


def _is_data(first: Sequence[str]) -> bool:
    """Return whether the first row of a CSV file is no header: all of it is numbers, or a cell can't be a name."""
    times = [cell for cell in first if is_number(cell) or looks_like_iso(cell)]
    return len(times) == len(first) or any(not cell.isdigit() or int(cell) > _LARGEST_NAME for cell in times)


def missing_column(content: Content, column: str) -> DataError:
    """Return the error for a column that a file does not have."""
    alike = [name for name in content.names if name.casefold() == column.casefold()]
    hint = f"did you mean {alike[0]!r}?" if alike else "; ".join(filter(None, (_columns(content), _kinds(content))))
    return DataError(str(content.path), "missing column", repr(column), hint)


def unknown_columns(content: Content) -> DataError:
    """Return the error for a file without a column of arrivals that is known by its name."""
    location = str(content.path)
    if content.form == "csv" and _is_data(content.names):
        example = "; such as arrival: {column: 1, unit: s} or `--arrival 1:s`"
        hint = f"first row: {_listed(content.names)}; name columns by number, from 1{example}; {_DOCS}"
        return DataError(location, "has no header, so no column of arrivals is known", "", hint)
    fitting = _fitting(content)
    ways = [_columns(content), _kinds(content)]
    if fitting:
        names = [f"{name!r}" for name, _ in fitting[:3]]
        which = f"{' or '.join(names)} may be the arrival" if len(names) > 1 else f"{names[0]} may be the arrival"
        ways.append(f"{which}: {_named(*fitting[0])}")
    else:
        ways.append(
            "name the column of arrivals: arrival: {column: NAME, unit: s|ms|us|ns|iso} or `--arrival NAME:UNIT`"
        )
    gaps = [name for name in content.names if _GAP_NAMES.search(name)]
    if gaps:
        ways.append(f"{gaps[0]!r} may be the times between arrivals, whose running sum is the arrival")
    ways.append(_DOCS)
    problem = "has no column arrival_s, arrival_ms, arrival_us or arrival_ns"
    return DataError(location, problem, "", "; ".join(filter(None, ways)))


def unknown_unit(content: Content, column: str | int, *, header: bool = True) -> DataError:
    """Return the error for a column of times without a unit."""
    values = _values(content, column, header=header)
    shown = f"first values: {_listed(values[:3])}; " if values else ""
    return DataError(
        str(content.path),
        "the unit of a column is not known",
        repr(column),
        f"{shown}{_named(column, values)}; {_DOCS}",
    )


def _named(column: str | int, values: list[Any]) -> str:
    """Return how to name a column, with the unit where its values leave no doubt."""
    known = TimeColumn(column).known_unit
    first = next((float(value) for value in values if is_number(value)), None)
    if known is None and values and all(looks_like_iso(value) for value in values):
        known = "iso"
    unix = unix_unit(first) if known is None and first is not None else None
    unit = known or unix or "s|ms|us|ns"
    reason = f", since {_listed(values[:1])} looks like Unix time" if unix else ""
    option = f"--arrival '{column}:{unit if known or unix else 'UNIT'}'"
    return f"arrival: {{column: {column}, unit: {unit}}} or `{option}`{reason}"


def _columns(content: Content) -> str:
    more = f" and {len(content.names) - _MOST} more" if len(content.names) > _MOST else ""
    return f"columns: {_listed(content.names[:_MOST])}{more}"


def _kinds(content: Content) -> str:
    found = [kind for kind, names in SIGNATURES.items() if set(names) <= set(content.names)]
    return f"kind {' or '.join(found)} reads such a file" if found else ""


def _fitting(content: Content) -> list[tuple[str, list[Any]]]:
    """Return the columns that may hold arrivals, those called like times first, with their first values."""
    found = []
    for name in dict.fromkeys(content.names):
        if content.names.count(name) > 1 or not name or _GAP_NAMES.search(name):
            continue
        values = _values(content, name)
        numbers = [float(value) for value in values if is_number(value)]
        in_order = len(numbers) == len(values) and all(a <= b for a, b in pairwise(numbers))
        called = _TIME_NAMES.search(name) is not None
        if values and (
            all(map(looks_like_iso, values))
            or (called and len(numbers) == len(values))
            or (in_order and len(set(numbers)) > 1)
        ):
            found.append((not called, name, values))
    called_so = [one for one in found if not one[0]]
    return [(name, values) for _, name, values in called_so or found]


def _values(content: Content, column: str | int, *, header: bool = True) -> list[Any]:
    """Return the first values of a column, as text if they are times."""
    if content.form in {"csv", "json"}:
        return first_values(content, column, header=header)
    for _, (array,) in batches(content, {column: ()}):
        head = array[:20]
        return list(head.cast(pa.string()).to_pylist() if pa.types.is_temporal(head.type) else head.to_pylist())
    return []


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) or "''" for value in values)
