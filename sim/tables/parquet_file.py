"""Latency tables as parquet: one row per cell; facts of the table and of subnets as JSON in the schema.

Columns: subnet, accuracy, batch_size, latency_ns; p99_ns, low_ns, high_ns, p99_low_ns, p99_high_ns, energy_uj and
samples_ns (a list) if known; and `stage_NAME_ns` for each stage. The metadata of a column holds its unit.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError
from sim.base.parquet import read_parquet
from sim.tables.cells import table_from_cells
from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet

SCHEMA = "latency-table/1"
"""What a file says that it is; the number changes when an old reader would misread a new file."""

_METADATA = b"ssim"
_UNITS = {"accuracy": "percent", "batch_size": "queries", "energy_uj": "microjoules"}


def parse_parquet(content: bytes, location: str) -> LatencyTable:
    """Return the table in a parquet file.

    Args:
        content: The whole file.
        location: Its path, for messages.

    Raises:
        DataError: The file is damaged or not a latency table.
    """
    try:
        rows = read_parquet(pa.BufferReader(content))
        facts = json.loads((rows.schema.metadata or {}).get(_METADATA, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise DataError(location, "is not a valid parquet file", message, "write the file again") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = str(facts.get("schema", "")) if isinstance(facts, dict) else ""
        raise DataError(
            location, "is not a latency table", found, f"a parquet file with schema {SCHEMA} in its metadata"
        )
    expected = _schema(facts["stages"], _uncertainty(facts), facts)
    for field in expected:
        found = rows.schema.field(field.name).type if field.name in rows.schema.names else "missing"
        if found != field.type or rows[field.name].null_count:
            raise DataError(
                f"{location}, column {field.name}", "has the wrong type or gaps", str(found), str(field.type)
            )
    columns = {field.name: rows[field.name].to_pylist() for field in expected}
    keys = list(zip(columns["subnet"], columns["batch_size"], strict=True))
    if len(set(keys)) < len(keys):
        raise DataError(location, "duplicate cell", "", "one row per cell")
    accuracy = dict(zip(columns["subnet"], columns["accuracy"], strict=True))
    return table_from_cells(
        facts["device"],
        [_subnet(fact, accuracy, location) for fact in facts["subnets"]],
        dict(zip(keys, columns["latency_ns"], strict=True)),
        {name: dict(zip(keys, columns[name], strict=True)) for name in _uncertainty(facts)},
        {name: dict(zip(keys, columns[_stage_column(name)], strict=True)) for name in facts["stages"]},
        dict(zip(keys, columns["samples_ns"], strict=True)) if facts.get("has_samples") else None,
        energy=dict(zip(keys, columns["energy_uj"], strict=True)) if facts.get("has_energy") else None,
        location=location,
        between=facts["between"],
        default_max_batch=facts["default_max_batch"],
        provenance=facts["provenance"],
    )


def _subnet(fact: dict[str, Any], accuracy: dict[str, float], location: str) -> ProfiledSubnet:
    control = fact["control"] and ControlTuple(*(tuple(part) for part in fact["control"]))
    if fact["id"] not in accuracy:
        raise DataError(location, "a subnet has no rows", fact["id"], "one row per cell")
    return ProfiledSubnet(fact["id"], accuracy[fact["id"]], control, fact["gmacs"], fact["params"], fact["loading_ns"])


def parquet_bytes(table: LatencyTable) -> bytes:
    """Return a complete table as a parquet file."""
    facts = {
        "schema": SCHEMA,
        "device": table.device,
        "between": table.between,
        "default_max_batch": table.default_max_batch,
        "provenance": dict(table.provenance),
        "has_p99": table.p99_ns is not None,
        "has_interval": table.low_ns is not None,
        **({} if table.p99_low_ns is None else {"has_p99_interval": True}),
        **({} if table.samples_ns is None else {"has_samples": True}),
        **({} if table.energy_uj is None else {"has_energy": True}),
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
    schema = _schema(list(table.stages), list(table.uncertainty), facts)
    grids = [table.latency_ns, *table.uncertainty.values(), *table.stages.values()]
    arrays = [
        [subnet.id for subnet in table.subnets for _ in table.batch_sizes],
        [subnet.accuracy for subnet in table.subnets for _ in table.batch_sizes],
        list(table.batch_sizes) * len(table.subnets),
        *(grid.ravel() for grid in grids),
        *([] if table.samples_ns is None else [[cell for row in table.samples_ns for cell in row]]),
        *([] if table.energy_uj is None else [table.energy_uj.ravel()]),
    ]
    rows = pa.table([pa.array(array, field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema)
    out = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({_METADATA: json.dumps(facts)}), out)
    return out.getvalue()


def _uncertainty(facts: dict[str, Any]) -> list[str]:
    interval = ["low_ns", "high_ns"] if facts.get("has_interval") else []  # files of before have none, and no such fact
    p99_interval = ["p99_low_ns", "p99_high_ns"] if facts.get("has_p99_interval") else []
    return [*(["p99_ns"] if facts["has_p99"] else []), *interval, *p99_interval]


def _schema(stages: list[str], uncertainty: list[str], facts: dict[str, Any]) -> pa.Schema:
    times = ["latency_ns", *uncertainty, *map(_stage_column, stages)]
    types = {"subnet": pa.string(), "accuracy": pa.float64(), "batch_size": pa.int64()} | dict.fromkeys(
        times, pa.int64()
    )
    if facts.get("has_samples"):
        types["samples_ns"] = pa.list_(pa.int64())
        times.append("samples_ns")
    if facts.get("has_energy"):
        types["energy_uj"] = pa.int64()
    units = _UNITS | dict.fromkeys(times, "ns")
    return pa.schema(
        [
            pa.field(name, kind, metadata={"unit": units[name]} if name in units else None)
            for name, kind in types.items()
        ]
    )


def _stage_column(stage: str) -> str:
    return f"stage_{stage}_ns"
