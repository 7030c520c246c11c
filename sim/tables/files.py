"""Latency tables in files: our parquet, a plain CSV, and SuperServe's profile JSON; and those that are shipped.

| suffix     | layout                                           | what comes back              |
|------------|--------------------------------------------------|------------------------------|
| `.parquet` | one row per cell, facts as JSON in the schema      | everything                   |
| `.json`    | SuperServe's profile: see `table_json`           | everything                   |
| `.csv`     | `subnet,accuracy,batch_size,latency_ms[,p99_ms]` | latencies, to the nanosecond |
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
    from collections.abc import Callable, Sequence

    from sim.tables.latency import LatencyTable


def read_table(path: Path | str) -> LatencyTable:
    """Return the table in a file; the suffix says which format it is in.

    Raises:
        SpecError: There is no such file, or its suffix stands for no format.
        DataError: The file is broken or breaks a rule of `LatencyTable`; names the line or the place.
    """
    parse, _ = _FORMATS[_checked_suffix(path)]
    try:
        return parse(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error), "a file with a table") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
    except DataError as error:
        if error.location.startswith(str(path)):
            raise
        raise DataError(f"{path}, {error.location}", error.problem, error.value, error.hint) from error


def write_table(table: LatencyTable, path: Path | str) -> None:
    """Write a table to a file in the format of its suffix; whoever looks sees the old file or the whole new one.

    Raises:
        SpecError: The suffix stands for no format.
        StoreError: The file can't be written.
    """
    _, render = _FORMATS[_checked_suffix(path)]
    with whole_file(Path(path)) as unfinished:
        unfinished.write_bytes(render(table))


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
    if isinstance(name_or_path, Path) or Path(name).suffix in _FORMATS or "/" in name:
        return read_table(name_or_path)
    hint = f"{did_you_mean(name, shipped_tables())} (or a file: {_suffixes()})"
    raise SpecError("latency table", "unknown table", repr(name), hint)


def shipped_tables() -> list[str]:
    """Return the names of the tables that come with the toolkit."""
    files = (file.name for file in resources.files("sim.tables").iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


_FORMATS: dict[str, tuple[Callable[[bytes, str], LatencyTable], Callable[[LatencyTable], bytes]]] = {
    ".parquet": (parse_parquet, parquet_bytes),
    # Excel starts a CSV with a byte order mark.
    ".csv": (
        lambda content, location: parse_csv(content.decode("utf-8-sig"), location),
        lambda t: csv_text(t).encode(),
    ),
    ".json": (lambda content, location: parse_profile(content.decode(), location), lambda t: profile_text(t).encode()),
}


def _checked_suffix(path: Path | str) -> str:
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise SpecError(str(path), "unknown format of latency tables", suffix or "no suffix", _suffixes())
    return suffix


def _suffixes() -> str:
    return ", ".join(_FORMATS)
