"""Accuracies of the subnets of trained supernets, as parquet; a profile adds latencies to them.

One row per subnet and training seed. The metadata of a column holds its unit, those of the file its provenance.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError
from sim.base.parquet import read_parquet
from sim.base.whole_file import whole_file
from sim.tables.latency import ControlTuple, ProfiledSubnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SCHEMA = "accuracies/1"
"""What a file says that it is; the number changes when an old reader would misread a new file."""

_METADATA = b"ssim"
_COLUMNS = {
    "subnet": (pa.string(), "id"),
    "seed": (pa.int64(), "of training"),
    "accuracy": (pa.float64(), "percent"),
    "without": (pa.float64(), "percent; with the largest subnet's running statistics; null: there are none"),
    "examples": (pa.int64(), "examples"),
    "macs": (pa.int64(), "multiply-accumulate operations of one example"),
    "params": (pa.int64(), "weights"),
    "depths": (pa.list_(pa.int64()), "control tuple"),
    "expands": (pa.list_(pa.float64()), "control tuple"),
    "widths": (pa.list_(pa.int64()), "control tuple"),
}
_NULLABLE = ("without",)
_OPTIONAL = {"perplexity": (pa.float64(), "exponential of the mean cross entropy of a token, in nats")}
"""Columns that a file has only where there are values."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of one subnet of one trained supernet.

    Attributes:
        subnet: The id of the subnet.
        control: The control tuple that actuates it.
        seed: Training seed of the supernet.
        accuracy: In percent, on held-out examples.
        without: Ablation of SubnetNorm: accuracy with the largest subnet's running statistics; None if the network has
            no running statistics.
        examples: Number of examples.
        macs: Multiply-accumulate operations of one example.
        params: Number of weights.
        perplexity: Of the tokens of held-out texts, where tokens are predicted; else None.
    """

    subnet: str
    control: ControlTuple
    seed: int
    accuracy: float
    without: float | None
    examples: int
    macs: int
    params: int
    perplexity: float | None = None


@dataclass(frozen=True, slots=True)
class Accuracies:
    """The accuracies of subnets of supernets that differ only in their training seed.

    Attributes:
        rows: One per subnet and seed.
        provenance: Source of the numbers.
    """

    rows: tuple[Accuracy, ...]
    provenance: Mapping[str, str]

    def subnets(self, seed: int | None = None) -> tuple[ProfiledSubnet, ...]:
        """Return the subnets in the form of a `LatencyTable`, the least accurate first.

        Args:
            seed: Training seed of the supernet; None for the mean over all.

        Raises:
            DataError: There is no row of this seed, or an accuracy is 0.
        """
        rows = [row for row in self.rows if seed in {None, row.seed}]
        if not rows:
            seeds = ", ".join(sorted({str(row.seed) for row in self.rows}))
            raise DataError("accuracies", "no accuracies of this seed", str(seed), seeds)
        subnets: list[ProfiledSubnet] = []
        for subnet, group in groupby(sorted(rows, key=lambda row: row.subnet), key=lambda row: row.subnet):
            first, *others = group
            mean = sum(row.accuracy for row in (first, *others)) / (1 + len(others))
            subnets.append(ProfiledSubnet(subnet, mean, first.control, first.macs / 1e9, first.params))
        return tuple(sorted(subnets, key=lambda subnet: (subnet.accuracy, subnet.id)))

    def merged(self, others: Iterable[Accuracy]) -> Accuracies:
        """Return these rows with others, which replace those of the same subnet and seed."""
        rows = {(row.seed, row.subnet): row for row in (*self.rows, *others)}
        return Accuracies(tuple(rows.values()), self.provenance)

    def write(self, path: Path) -> None:
        """Write a parquet file atomically.

        Raises:
            StoreError: The disk is full, or the file can't be written.
        """
        values: dict[str, Sequence[object]] = {name: [getattr(row, name) for row in self.rows] for name in _PLAIN}
        values |= {name: [getattr(row.control, name) for row in self.rows] for name in _CONTROL}
        optional = {name: [getattr(row, name) for row in self.rows] for name in _OPTIONAL}
        values |= {name: column for name, column in optional.items() if set(column) - {None}}
        kinds = {name: kind for name, kind in (_COLUMNS | _OPTIONAL).items() if name in values}
        columns = [pa.array(values[name], kind) for name, (kind, _) in kinds.items()]
        fields = [pa.field(name, kind, metadata={"unit": unit}) for name, (kind, unit) in kinds.items()]
        facts = {"schema": SCHEMA, "provenance": dict(self.provenance)}
        out = io.BytesIO()
        pq.write_table(pa.table(columns, schema=pa.schema(fields, metadata={_METADATA: json.dumps(facts)})), out)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(out.getvalue())

    @classmethod
    def read(cls, path: Path) -> Accuracies:
        """Return the accuracies in a file.

        Raises:
            DataError: The file can't be read, is damaged or has another schema.
        """
        try:
            table = read_parquet(pa.BufferReader(path.read_bytes()))
            facts = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        except OSError as error:
            raise DataError(str(path), "can't be read", error.strerror or str(error)) from error
        except (pa.ArrowException, ValueError) as error:
            raise DataError(str(path), "is not a valid parquet file", str(error).splitlines()[0]) from error
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            raise DataError(str(path), "holds no accuracies", hint=f"a parquet file with schema {SCHEMA}")
        for name, (kind, _) in _COLUMNS.items():
            subnets = table.schema.field(name).type if name in table.schema.names else "missing"
            if subnets != kind or (table[name].null_count and name not in _NULLABLE):
                raise DataError(f"{path}, column {name}", "has the wrong type or gaps", str(subnets), str(kind))
        rows = (
            Accuracy(control=ControlTuple(*(tuple(row.pop(name)) for name in _CONTROL)), **row)
            for row in table.select([name for name in _COLUMNS | _OPTIONAL if name in table.schema.names]).to_pylist()
        )
        return cls(tuple(rows), facts["provenance"])


_CONTROL = ("depths", "expands", "widths")
_PLAIN = tuple(name for name in _COLUMNS if name not in _CONTROL)
