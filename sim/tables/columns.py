"""The columns of a CSV with latencies: the meaning of each by its name, its unit, and the rows that are wanted.

| meaning    | names                                  |                                                   |
|------------|----------------------------------------|---------------------------------------------------|
| subnet     | `subnet`, `model`, `model_name`        |                                                   |
| accuracy   | `accuracy`                             | percent                                           |
| batch size | `batch_size`, `batchsize`, `batch`     | queries                                           |
| latency    | `latency_ms`, `median_ms`, `p50_ms`    | or `_s`, `_us`, `_ns`                             |
| p99        | `p99_ms`                               | likewise                                          |
| loading    | `loading_ms`, `loading_time_ms`        | likewise; empty if unknown                        |
| energy     | `energy_mj`                            | of a batch, in millijoules                        |
| device     | `device`, `accel`, `accelerator`, `gpu` | one after `where`                                |
| repetition | `repetition`, `repeat`, `rep`, `trial`, `run`, `iteration`, `sample` | a row is one measurement |

Upper case does not matter, and `latency (ms)` is `latency_ms`. Other statistics of the same measurements (`mean_ms`,
`std_ms`, `p95_ms`, `samples`, ...) are left unread. Proteus' profile (UMass-LIDS/Proteus, `aggregate_profiled.csv`) has
its median in `50th_pct`, in milliseconds. The first column may have no name: pandas' index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sim.base.errors import DataError, did_you_mean
from sim.base.units import NS_PER_MS, NS_PER_S, NS_PER_US

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNITS = {"s": NS_PER_S, "ms": NS_PER_MS, "us": NS_PER_US, "ns": 1}
"""Nanoseconds in each unit that a column's name may end in."""

NEEDED = ("subnet", "accuracy", "batch_size", "latency_ms")

_ROLES = {
    "subnet": ("subnet", "model", "model_name"),
    "accuracy": ("accuracy",),
    "batch_size": ("batch_size", "batchsize", "batch"),
    "energy": ("energy_mj",),
    "device": ("device", "accel", "accelerator", "gpu"),
    "repetition": ("repetition", "repeat", "rep", "trial", "run", "iteration", "sample"),
}
_TIMES = {"latency": ("latency", "median", "p50"), "p99": ("p99",), "loading": ("loading", "loading_time")}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names} | {
    f"{name}_{unit}": role for role, names in _TIMES.items() for name in names for unit in UNITS
}
_SIMILAR = {"subnet": "name|net|variant|model", "accuracy": "acc|top.?1", "batch_size": "batch|bs|size"}
"""Parts of names that a column may have that is meant for another one."""

_UNREAD = re.compile(
    r"((mean|avg|average|std|min|max|p(?!50_|99_)\d+)(_latency)?_(s|ms|us|ns))|samples|trials|repetitions|count"
)
_PROTEUS = {"model", "accel", "batchsize", "50th_pct", "avg_latency_ms", "accuracy"}
_PROTEUS_UNREAD = {"90th_pct", "min", "max", "normalized_accuracy"}
_INDEX = re.compile(r"|unnamed:_\d+")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file.

    Attributes:
        names: The header, as it is written.
        roles: Index of the column of each meaning that the file has.
        unread: Names of the columns that a table does not hold.
        wanted: Indices of the columns by which rows are chosen, with the text that is asked for.
    """

    names: tuple[str, ...]
    roles: Mapping[str, int]
    unread: tuple[str, ...]
    wanted: Mapping[int, str]

    def name(self, role: str) -> str:
        """Return the name of the column with a meaning, as it is written."""
        return self.names[self.roles[role]]

    def unit(self, role: str) -> str:
        """Return the unit of a time: that of its name, and milliseconds for Proteus' `50th_pct`."""
        found = _plain(self.name(role)).rpartition("_")[2]
        return found if found in UNITS else "ms"


def columns_of(header: Sequence[str], where: Mapping[str, str], location: str) -> Columns:
    """Return the meaning of each column of a header.

    Args:
        header: The names.
        where: The text that is asked for, by column: a name of the header, or a meaning such as `device`.
        location: Where the header stands, for messages.

    Raises:
        DataError: A column is missing, is there twice or is not known, or `where` names a column that is not there.
    """
    if len(set(header)) < len(header):
        raise DataError(location, "duplicate column", ", ".join(header), "column names must be unique")
    plain = [_plain(name) for name in header]
    is_proteus = set(plain) >= _PROTEUS
    meanings = ["latency" if is_proteus and name == "50th_pct" else _ROLE_OF.get(name, "") for name in plain]
    wanted = {_column(key, header, plain, meanings, location): text for key, text in where.items()}
    roles: dict[str, int] = {}
    for role in dict.fromkeys(filter(None, meanings)):
        found = [i for i, meaning in enumerate(meanings) if meaning == role]
        found = [i for i in found if i not in wanted] if len(found) > 1 else found
        if len(found) != 1:
            both = ", ".join(header[i] for i, meaning in enumerate(meanings) if meaning == role)
            raise DataError(location, f"several columns could be the {role}", both, "keep one of them")
        roles[role] = found[0]
    _check_all_there(header, plain, roles, location)
    unread: list[str] = []
    for i, name in enumerate(plain):
        if i in roles.values() or i in wanted or (i == 0 and _INDEX.fullmatch(name)):
            continue
        if not (_UNREAD.fullmatch(name) or (is_proteus and name in _PROTEUS_UNREAD)):
            # An ignored `p99` would look like a table without percentiles.
            raise DataError(location, "unknown column", header[i], _way_out(name))
        unread.append(header[i])
    return Columns(tuple(header), roles, tuple(unread), wanted)


def matches(text: str, asked: str, values: Sequence[str]) -> bool:
    """Return whether a cell is what is asked for: by its text, a pattern such as `bert-*`, or a unique part of it.

    Args:
        text: The cell.
        asked: What is asked for.
        values: All values of the column.

    Examples:
        >>> devices = ["gpu_pascal", "gpu_ampere", "cpu"]
        >>> [[matches(device, asked, devices) for device in devices] for asked in ("cpu", "Pascal", "gpu", "gpu_*")]
        [[False, False, True], [True, False, False], [False, False, False], [True, True, False]]
    """
    if asked in values:
        return text == asked
    if any(sign in asked for sign in "*?["):
        return fnmatchcase(text, asked)
    parts = [value for value in values if asked.lower() in value.lower()]
    return len(parts) == 1 and text == parts[0]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", re.sub(r"\s*[(\[](\w+)[)\]]$", r"_\1", name.strip().lower()))


def _way_out(name: str) -> str:
    """Return the hint about an unknown column."""
    if f"{name}_ms" in _ROLE_OF:
        return _which_unit(name, name)
    near = did_you_mean(name, [known for known in _ROLE_OF if not re.search("_(s|us|ns)$", known)])
    other = "remove it, or choose one of its values with --where"
    return f"{near} If not, {other}" if near.startswith("did") else other


def _which_unit(name: str, stem: str) -> str:
    return f"in which unit is {name!r}? Name it {', '.join(f'{stem}_{unit}' for unit in UNITS)}"


def _column(key: str, header: Sequence[str], plain: Sequence[str], meanings: Sequence[str], location: str) -> int:
    for names, wanted in ((header, key), (plain, _plain(key)), (meanings, _plain(key))):
        if wanted in names:
            return names.index(wanted)
    raise DataError(
        location, "no such column to choose rows by", key, did_you_mean(key, [name for name in header if name])
    )


def _check_all_there(header: Sequence[str], plain: Sequence[str], roles: Mapping[str, int], location: str) -> None:
    taken = set(roles.values())
    for column in NEEDED:
        if column.removesuffix("_ms") in roles or column in roles:
            continue
        hint = f"needs {', '.join(NEEDED)}"
        free = [(name, short) for i, (name, short) in enumerate(zip(header, plain, strict=True)) if i not in taken]
        means = [name for name, short in free if re.match("mean|avg|average", short)]
        wanted = _SIMILAR.get(column, "latency|time|median|p50")
        similar = [name for name, short in free if re.search(wanted, short) and name not in means]
        if similar and column == "latency_ms":
            hint = _which_unit(similar[0], "latency")
        elif means and column == "latency_ms":
            hint = f"name {means[0]!r} latency_ms (or _s, _us, _ns) if simulations are to use the mean"
        elif similar:
            hint = f"is it {similar[0]!r}? Then name that column {column}"
        raise DataError(location, f"column {column} is missing", ", ".join(header) or "the file is empty", hint)
