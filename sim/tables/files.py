"""Files of latency tables: our parquet, plain CSV, and SuperServe's profile JSON; and the shipped tables.

| suffix     | layout                                                      | holds                                   |
|------------|-------------------------------------------------------------|-----------------------------------------|
| `.parquet` | a row per cell, facts as JSON in the schema                 | everything                              |
| `.json`    | SuperServe's profile: see `json_file`                       | everything                              |
| `.csv`     | `subnet,accuracy,batch_size,latency_ms[,p99_ms,loading_ms]` | latencies, loading times, to nanoseconds |

A CSV is read with other columns, too: see `columns`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.whole_file import whole_file
from sim.tables.csv_file import csv_text, parse_csv
from sim.tables.json_file import parse_profile, profile_text
from sim.tables.parquet_file import parquet_bytes, parse_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sim.tables.latency import LatencyTable


def read_table(path: Path | str, where: Mapping[str, str] | None = None, max_batch: int | None = None) -> LatencyTable:
    """Return the table in a file, whose suffix determines the format.

    Args:
        path: The file.
        where: The rows of a CSV that are wanted, as for `load_table`.
        max_batch: The largest batch size; None for all.

    Raises:
        SpecError: The file is not found, or its suffix is unknown.
        DataError: The file is damaged or breaks a rule of `LatencyTable`, with the line or the place.
        BatchSizeError: The limit is below the smallest or above the largest measured batch size.
    """
    parse, _ = _FORMATS[_checked_suffix(path)]
    try:
        content = Path(path).read_bytes()
        if parse is _parse_csv:
            return _parse_csv(content, str(path), where, max_batch)
        _check_no_choice(where, str(path))
        table = parse(content, str(path))
        return table if max_batch is None else table.up_to(max_batch)
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error), "a file with a table") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
    except DataError as error:
        if error.location.startswith(str(path)):
            raise
        raise DataError(f"{path}, {error.location}", error.problem, error.value, error.hint) from error


def write_table(table: LatencyTable, path: Path | str) -> None:
    """Write a table to a file atomically, in the format of its suffix.

    Raises:
        SpecError: The suffix is unknown.
        StoreError: The file can't be written.
    """
    _, render = _FORMATS[_checked_suffix(path)]
    with whole_file(Path(path)) as unfinished:
        unfinished.write_bytes(render(table))


def load_table(
    name_or_path: Path | str,
    max_batch: int | None = None,
    stages: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Return a shipped table or one in a file, restricted to some batch sizes and stages.

    Args:
        name_or_path: One of `shipped_tables()`, or a file.
        max_batch: The largest batch size; None for the table's own default.
        stages: The stages whose sum is the latency; None for the table's own latency.
        where: The rows of a CSV that are wanted: a text, a unique part of one, or a pattern by column, such as
            `{"device": "pascal", "model": "bert-*"}`.

    Raises:
        SpecError: The table is unknown.
        DataError: The file is damaged, or a stage is unknown.
        BatchSizeError: The limit is below the smallest or above the largest measured batch size.
    """
    table = find_table(name_or_path, where, max_batch)
    return (table if stages is None else table.with_stages(stages)).up_to(None)


def find_table(
    name_or_path: Path | str, where: Mapping[str, str] | None = None, max_batch: int | None = None
) -> LatencyTable:
    """Return a shipped table or one in a file, with all stages.

    Args:
        name_or_path: As for `load_table`.
        where: As for `load_table`.
        max_batch: The largest batch size; None for all.

    Raises:
        SpecError: The table is unknown.
        DataError: The file is damaged.
        BatchSizeError: The limit is below the smallest or above the largest measured batch size.
    """
    name = str(name_or_path)
    if name in shipped_tables():
        _check_no_choice(where, name)
        shipped = resources.files("sim.tables") / f"{name}.json"
        table = parse_profile(shipped.read_text(encoding="utf-8"), shipped.name)
        return table if max_batch is None else table.up_to(max_batch)
    if isinstance(name_or_path, Path) or Path(name).suffix in _FORMATS or "/" in name:
        return read_table(name_or_path, where, max_batch)
    hint = f"{did_you_mean(name, shipped_tables())} (or a file: {_suffixes()})"
    raise SpecError("latency table", "unknown table", repr(name), hint)


def shipped_tables() -> list[str]:
    """Return the names of the shipped tables."""
    files = (file.name for file in resources.files("sim.tables").iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def _parse_csv(
    content: bytes, location: str, where: Mapping[str, str] | None = None, max_batch: int | None = None
) -> LatencyTable:
    text = content.decode("utf-8-sig")  # Excel starts a CSV with a byte order mark
    return parse_csv(text, location, where, max_batch)


def _check_no_choice(where: Mapping[str, str] | None, location: str) -> None:
    if where:
        asked = ", ".join(f"{column}={text}" for column, text in where.items())
        raise SpecError(location, "has no rows to choose from", asked, "only a .csv file is read with `where`")


_FORMATS: dict[str, tuple[Callable[[bytes, str], LatencyTable], Callable[[LatencyTable], bytes]]] = {
    ".parquet": (parse_parquet, parquet_bytes),
    ".csv": (_parse_csv, lambda table: csv_text(table).encode()),
    ".json": (
        lambda content, location: parse_profile(content.decode(), location),
        lambda table: profile_text(table).encode(),
    ),
}


def _checked_suffix(path: Path | str) -> str:
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise SpecError(str(path), "unknown format of latency tables", suffix or "no suffix", _suffixes())
    return suffix


def _suffixes() -> str:
    return ", ".join(_FORMATS)
