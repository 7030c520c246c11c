"""Latency tables in files: our parquet, a plain CSV, and SuperServe's profile JSON; and those that are shipped.

| suffix     | holds                                          | comes back                    |
|------------|------------------------------------------------|-------------------------------|
| `.parquet` | everything; one row a cell, facts in its schema | exactly                       |
| `.json`    | everything; SuperServe's layout (`table_json`) | exactly                       |
| `.csv`     | `subnet,accuracy,batch_size,latency_ms[,p99_ms]` | latencies, to the nanosecond |
"""

from __future__ import annotations

import csv
import io
import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.errors import DataError, SpecError, StoreError, did_you_mean
from sim.latency import ControlTuple, LatencyTable, Subnet, table_from_cells
from sim.table_json import parse_profile, profile_text
from sim.units import NS_PER_MS, ns_from_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCHEMA = "latency-table/1"
"""What a parquet file of ours says that it is; the number changes when an old reader would misread a new file."""

_METADATA = b"ssim"
_CSV_COLUMNS = ("subnet", "accuracy", "batch_size", "latency_ms", "p99_ms")
_UNITS = {"accuracy": "percent", "batch_size": "queries"}


def read_table(path: Path | str) -> LatencyTable:
    """Return the table in a file; the suffix says which format it is in.

    Raises:
        SpecError: There is no such file, or its suffix stands for no format.
        DataError: The file is broken or breaks a rule of `LatencyTable`; names the line or the place.
    """
    parse, _ = _format_of(path)
    try:
        return parse(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error), "a file with a table") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "is no UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
    except DataError as error:
        if error.where.startswith(str(path)):
            raise
        raise DataError(f"{path}, {error.where}", error.what, error.value, error.right) from error


def write_table(table: LatencyTable, path: Path | str) -> None:
    """Write a table to a file in the format of its suffix; whoever looks sees the old file or the whole new one.

    Raises:
        SpecError: The suffix stands for no format.
        StoreError: The file cannot be written.
    """
    _, render = _format_of(path)
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            draft.write_bytes(render(table))
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(str(path), "can't be written", error.strerror or str(error)) from error


def load_table(
    name_or_path: Path | str, max_batch: int | None = None, stages: Sequence[str] | None = None
) -> LatencyTable:
    """Return a shipped table or one in a file, as far as it is to be used.

    Args:
        name_or_path: One of `shipped_tables()`, or a file.
        max_batch: The largest batch size; None takes the table's own default.
        stages: The stages whose sum is the latency; None takes what the table says.

    Raises:
        SpecError: There is no such table.
        DataError: The file is broken, or the table has no such stage.
        BatchSizeError: No batch size is that small, or the table ends below it.
    """
    table = find_table(name_or_path)
    return (table if stages is None else table.with_stages(stages)).up_to(max_batch)


def find_table(name_or_path: Path | str) -> LatencyTable:
    """Return a shipped table or one in a file, with all that was measured.

    Raises:
        SpecError: There is no such table.
        DataError: The file is broken.
    """
    name = str(name_or_path)
    if name in shipped_tables():
        shipped = resources.files("sim.tables") / f"{name}.json"
        return parse_profile(shipped.read_text(encoding="utf-8"), shipped.name)
    if isinstance(name_or_path, Path) or Path(name).suffix in _FORMATS or os.sep in name:
        return read_table(name_or_path)
    right = f"{did_you_mean(name, shipped_tables())} (or a {_suffixes()} file)"
    raise SpecError("latency table", "there is no such table", repr(name), right)


def shipped_tables() -> list[str]:
    """Return the names of the tables that come with the toolkit."""
    files = (file.name for file in resources.files("sim.tables").iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def _from_json(content: bytes, where: str) -> LatencyTable:
    return parse_profile(content.decode("utf-8"), where)


def _to_json(table: LatencyTable) -> bytes:
    return profile_text(table).encode("utf-8")


def _from_csv(content: bytes, where: str) -> LatencyTable:
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)  # Excel writes a mark
    subnets: dict[str, Subnet] = {}
    cells: dict[tuple[str, int], int] = {}
    p99: dict[tuple[str, int], int] = {}
    try:
        columns = rows.fieldnames or ()
        _check_header(columns, where)
        for row in rows:
            line = f"{where}, line {rows.line_num}"
            if None in row or None in row.values():
                raise DataError(line, "has not as many values as the header", "", f"{len(columns)} columns")
            subnet = _csv_subnet(row, line)
            if subnets.setdefault(subnet.id, subnet) != subnet:
                both = f"{subnets[subnet.id].accuracy:g} and {subnet.accuracy:g}"
                raise DataError(line, f"subnet {subnet.id} has two accuracies", both, "one a subnet")
            key = subnet.id, _csv_batch(row["batch_size"], line)
            if key in cells:
                raise DataError(line, "a cell is there twice", f"subnet {key[0]}, batch {key[1]}", "each cell once")
            cells[key] = _csv_ns(row, "latency_ms", line)
            if "p99_ms" in row:
                p99[key] = _csv_ns(row, "p99_ms", line)
    except csv.Error as error:
        raise DataError(f"{where}, line {rows.line_num}", "is no CSV", str(error), "quotes must be closed") from error
    if not cells:
        raise DataError(where, "has no rows", "", f"one a cell below {','.join(_CSV_COLUMNS[:4])}")
    name = Path(where)
    return table_from_cells(
        name.stem, subnets.values(), cells, p99 or None, where=where, provenance={"source": name.name}
    )


def _check_header(columns: Sequence[str], where: str) -> None:
    if len(set(columns)) < len(columns):
        raise DataError(f"{where}, line 1", "a column is there twice", ", ".join(columns), "each column once")
    for column in _CSV_COLUMNS[:4]:
        if column not in columns:
            there = ", ".join(columns) or "the file is empty"
            raise DataError(f"{where}, line 1", f"column {column} is missing", there, f"needs {column}")
    for column in columns:
        if column not in _CSV_COLUMNS:  # an ignored `p99` would look like a table without percentiles
            raise DataError(f"{where}, line 1", "no such column", column, did_you_mean(column, _CSV_COLUMNS))


def _csv_subnet(row: dict[str, str], line: str) -> Subnet:
    try:
        return Subnet(row["subnet"], float(row["accuracy"]))
    except DataError as error:
        raise DataError(line, error.what, error.value, error.right) from error
    except ValueError as error:
        raise DataError(line, "accuracy is no number", row["accuracy"], "percent, such as 73.82") from error


def _csv_batch(text: str, line: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise DataError(line, "batch_size is no whole number from 1", text, "such as 16")
    return int(text)


def _csv_ns(row: dict[str, str], column: str, line: str) -> int:
    try:
        value = ns_from_ms(float(row[column]))
    except (ValueError, OverflowError):  # text and NaN; infinity
        value = 0
    if not 0 < value < 2**63:
        raise DataError(line, f"{column} is no positive number", row[column], "milliseconds above 0, such as 4.4")
    return value


def _to_csv(table: LatencyTable) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS if table.p99_ns is not None else _CSV_COLUMNS[:4])
    for row, subnet in enumerate(table.subnets):
        for column, size in enumerate(table.batch_sizes):
            grids = (table.latency_ns, *(() if table.p99_ns is None else (table.p99_ns,)))
            writer.writerow([subnet.id, repr(subnet.accuracy), size, *(_ms_text(int(g[row, column])) for g in grids)])
    return out.getvalue().encode("utf-8")


def _ms_text(ns: int) -> str:
    return f"{ns // NS_PER_MS}.{ns % NS_PER_MS:06d}".rstrip("0").rstrip(".")


def _from_parquet(content: bytes, where: str) -> LatencyTable:
    try:
        rows = pq.read_table(pa.BufferReader(content))
        facts = json.loads((rows.schema.metadata or {}).get(_METADATA, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise DataError(where, "is no whole parquet file", message, "write it again") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = str(facts.get("schema", "")) if isinstance(facts, dict) else ""
        raise DataError(where, "is no latency table", found, f"a parquet file with schema {SCHEMA} in its metadata")
    expected = _parquet_schema(facts["stages"], with_p99=facts["has_p99"])
    for field in expected:
        found = rows.schema.field(field.name).type if field.name in rows.schema.names else "missing"
        if found != field.type or rows[field.name].null_count:
            raise DataError(f"{where}, column {field.name}", "has the wrong type or gaps", str(found), str(field.type))
    columns = {field.name: rows[field.name].to_pylist() for field in expected}
    keys = list(zip(columns["subnet"], columns["batch_size"], strict=True))
    if len(set(keys)) < len(keys):
        raise DataError(where, "a cell is there twice", "", "one row a cell")
    accuracy = dict(zip(columns["subnet"], columns["accuracy"], strict=True))
    return table_from_cells(
        facts["device"],
        [_parquet_subnet(fact, accuracy, where) for fact in facts["subnets"]],
        dict(zip(keys, columns["latency_ns"], strict=True)),
        dict(zip(keys, columns["p99_ns"], strict=True)) if facts["has_p99"] else None,
        {name: dict(zip(keys, columns[_stage_column(name)], strict=True)) for name in facts["stages"]},
        where=where,
        between=facts["between"],
        default_max_batch=facts["default_max_batch"],
        provenance=facts["provenance"],
    )


def _parquet_subnet(fact: dict[str, Any], accuracy: dict[str, float], where: str) -> Subnet:
    control = fact["control"] and ControlTuple(*(tuple(part) for part in fact["control"]))
    if fact["id"] not in accuracy:
        raise DataError(where, "a subnet has no rows", fact["id"], "one row a cell")
    return Subnet(fact["id"], accuracy[fact["id"]], control, fact["gmacs"], fact["params"], fact["loading_ns"])


def _to_parquet(table: LatencyTable) -> bytes:
    facts = {
        "schema": SCHEMA,
        "device": table.device,
        "between": table.between,
        "default_max_batch": table.default_max_batch,
        "provenance": dict(table.provenance),
        "has_p99": table.p99_ns is not None,
        "stages": list(table.stages),
        "subnets": [
            {
                "id": s.id,
                "control": s.control and [s.control.depths, s.control.expands, s.control.widths],
                "gmacs": s.gmacs,
                "params": s.params,
                "loading_ns": s.loading_ns,
            }
            for s in table.subnets
        ],
    }
    schema = _parquet_schema(list(table.stages), with_p99=table.p99_ns is not None)
    grids = [table.latency_ns, *([] if table.p99_ns is None else [table.p99_ns]), *table.stages.values()]
    arrays = [
        [subnet.id for subnet in table.subnets for _ in table.batch_sizes],
        [subnet.accuracy for subnet in table.subnets for _ in table.batch_sizes],
        list(table.batch_sizes) * len(table.subnets),
        *(grid.ravel() for grid in grids),
    ]
    rows = pa.table([pa.array(array, field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema)
    out = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({_METADATA: json.dumps(facts)}), out)
    return out.getvalue()


def _parquet_schema(stages: list[str], *, with_p99: bool) -> pa.Schema:
    times = ["latency_ns", *(["p99_ns"] if with_p99 else []), *map(_stage_column, stages)]
    types = {"subnet": pa.string(), "accuracy": pa.float64(), "batch_size": pa.int64()} | dict.fromkeys(
        times, pa.int64()
    )
    units = _UNITS | dict.fromkeys(times, "ns")
    return pa.schema(
        [
            pa.field(name, kind, metadata={"unit": units[name]} if name in units else None)
            for name, kind in types.items()
        ]
    )


def _stage_column(stage: str) -> str:
    return f"stage_{stage}_ns"


_FORMATS: dict[str, tuple[Callable[[bytes, str], LatencyTable], Callable[[LatencyTable], bytes]]] = {
    ".parquet": (_from_parquet, _to_parquet),
    ".csv": (_from_csv, _to_csv),
    ".json": (_from_json, _to_json),
}


def _format_of(
    path: Path | str,
) -> tuple[Callable[[bytes, str], LatencyTable], Callable[[LatencyTable], bytes]]:
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise SpecError(str(path), "stands for no format of latency tables", suffix or "no suffix", _suffixes())
    return _FORMATS[suffix]


def _suffixes() -> str:
    return ", ".join(_FORMATS)
