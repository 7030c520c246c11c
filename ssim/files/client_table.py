"""Clients from a table, CSV or Parquet: a row each, with the columns of a dataset, a machine and a fault."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.base.errors import SsimError, did_you_mean
from sim.base.parquet import read_parquet
from sim.base.whole_file import translate_os_errors
from ssim.files.plugins import Issue
from topology.deployment import InjectedFault, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOLD = 5
"""At most this many wrong rows of a table are told."""
_INEXACT = 2.0**53
"""From here on, several whole numbers are the same float."""
_DATASET = {"id": str, "size": int, "ref": str, "compute": str}
_MACHINE = {"speed": float, "slots": int, "up_mbps": float, "down_mbps": float}
_FAULT = {"join_s": float, "leave_s": float, "die_s": float, "slow": float, "sessions": str, "every_s": float}
COLUMNS: dict[str, type[Any]] = {**_DATASET, **_MACHINE, **_FAULT}
"""What a table may have; a cell that is empty stands for the default."""


@dataclass(slots=True)
class ClientTable:
    """What a table says of each client.

    Attributes:
        datasets: The fields of its dataset, but for role and group.
        machines: The fields of its machine, which has the id of the dataset, if the table describes machines.
        faults: When it comes, goes and is slow, by the id of its dataset.
        issues: What is wrong, by row.
    """

    datasets: list[dict[str, Any]] = field(default_factory=list)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)


def read_clients(path: Path) -> ClientTable:
    """Return the clients of a table, and what is wrong with it."""
    table = ClientTable()
    if not path.is_file():
        table.issues.append(Issue((), "file not found", "", "relative to the file that names it"))
        return table
    try:
        frame = _read(path)
    except (SsimError, ValueError, csv.Error) as error:
        table.issues.append(Issue((), f"can't be read: {error}", "", "a CSV or Parquet file"))
        return table
    for name in frame.columns:
        if name not in COLUMNS:
            table.issues.append(Issue((), "unknown column", repr(name), did_you_mean(str(name), COLUMNS)))
    if "id" not in frame.columns:
        table.issues.append(Issue((), "has no column id", "", "the name of each client"))
    if frame.empty:
        table.issues.append(Issue((), "has no rows", "", "a row for each client"))
    if "compute" in frame.columns and set(_MACHINE) & set(frame.columns):
        table.issues.append(Issue((), "names machines in compute and describes others", "", "remove one of both"))
    if not table.issues:
        table.issues += _rows(frame, table)
    if len(table.issues) > _TOLD:
        more = Issue((), f"and {len(table.issues) - _TOLD} more rows or columns are wrong")
        table.issues = [*table.issues[:_TOLD], more]
    return table


def _read(path: Path) -> pd.DataFrame:
    with translate_os_errors(path):
        if path.suffix == ".parquet":
            frame: pd.DataFrame = read_parquet(path).to_pandas()
            return frame
        _check_width(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _check_width(path: Path) -> None:
    """Check that each row has a cell for each column: pandas would take a cell too many for an index.

    Raises:
        ValueError: One has not.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = (row for row in csv.reader(file) if row)
        columns = len(next(rows, []))
        for number, row in enumerate(rows, 1):
            if len(row) != columns:
                raise ValueError(f"row {number}: {len(row)} cells, {columns} columns")


def _rows(frame: pd.DataFrame, table: ClientTable) -> Iterator[Issue]:
    """Put the rows into a table, and yield what is wrong with them."""
    first: dict[str, int] = {}
    for number, row in enumerate(frame.to_dict("records"), 1):
        cells: dict[str, Any] = {}
        try:
            cells = {str(name): _value(str(name), cell) for name, cell in row.items() if not _is_empty(cell)}
            _check(cells)
        except (SsimError, ValueError) as error:
            told = str(error).removeprefix("Machine.").removeprefix("InjectedFault.")
            yield Issue((), f"row {number}, {told}")
            continue
        id_ = cells["id"]
        if id_ in first:
            yield Issue((), f"row {number}, id: already in row {first[id_]}", repr(id_), "ids must be unique")
            continue
        first[id_] = number
        machine = {name: cells[name] for name in _MACHINE if name in cells}
        if set(_MACHINE) & set(frame.columns):
            table.machines[id_] = machine
            cells["compute"] = id_
        table.datasets.append({name: cells[name] for name in _DATASET if name in cells})
        if fault := {name: cells[name] for name in _FAULT if name in cells}:
            table.faults[id_] = fault


def _is_empty(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell == "" or (isinstance(cell, float) and cell != cell)  # noqa: PLR0124 - NaN


def _value(name: str, cell: Any) -> Any:
    kind = COLUMNS[name]
    if name == "sessions":
        return _sessions(str(cell))
    if kind is str:
        return _text(name, cell)
    try:
        number = float(cell)
        if kind is float:
            return number
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError, TypeError):
        pass
    what = "a whole number" if kind is int else "a number"
    raise ValueError(f"{name}: must be {what} ({cell!r})")


def _text(name: str, cell: Any) -> str:
    """Return a cell as text; pandas holds whole numbers as floats where a cell of the column is empty.

    Raises:
        ValueError: It is a number that is not whole, or too large to be exact.
    """
    if not isinstance(cell, float):
        return str(cell)
    if not cell.is_integer() or abs(cell) >= _INEXACT:
        raise ValueError(f"{name}: must be text or a whole number ({cell!r})")
    return str(int(cell))


def _sessions(text: str) -> tuple[tuple[float, float], ...]:
    """Return the sessions of a cell.

    Raises:
        ValueError: It does not list pairs of numbers.
    """
    try:
        pairs = [part.split("-") for part in text.split()]
        return tuple((float(begin), float(end)) for begin, end in pairs)
    except ValueError:
        raise ValueError(
            f"sessions: must list begins and ends in seconds ({text!r}); such as 0-3600 7200-9000"
        ) from None


def _check(cells: dict[str, Any]) -> None:
    """Check the cells of a row.

    Raises:
        SsimError: A number is out of range, or does not fit another one.
        ValueError: It has no id, or one that can't be used.
    """
    if not cells.get("id") or "/" in cells["id"]:
        raise ValueError(f"id: must be a non-empty name without '/' ({cells.get('id', '')!r})")
    if cells["id"] != cells["id"].strip():
        raise ValueError(f"id: has blanks around it ({cells['id']!r}); remove them")
    if cells.get("size", 0) < 0:
        raise ValueError(f"size: must be at least 0 ({cells['size']})")
    Machine(cells["id"], **{name: cells[name] for name in _MACHINE if name in cells})
    InjectedFault("", **{name: cells[name] for name in _FAULT if name in cells})
