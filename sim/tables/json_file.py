"""SuperServe's profile JSON: the format of its authors' tools, and of the shipped tables.

The layout is that of `latency_curves_supernet_resnet_A40_with_stages_29apr26.json` in `dhruvsgarg/once-for-all`
(commit 35edfc3d): `models`, each with `id`, `accuracy`, `loading_time_ns` (-1 for unknown), `subnet_dimension` and
`latency_and_batch_ns`, a list of `batch_size`, `mean`, `std`, `p99` and `stages`, all in nanoseconds. (Ours may also
have `low` and `high`, the bounds of the latency's confidence interval, `p99_low` and `p99_high`, those of the 99th
percentile's, and `samples`, the measurements.)

Ours has further optional keys, which their readers ignore: `device`, `between`, `default_max_batch` and
`provenance` at the top, `gmacs` and `params` in a model. Theirs has data that a latency table does not hold and that is
ignored here: every `std`, the 99th percentiles of single stages, the search's own predictions and the name of
the weights' file. We do not write these: a reader that needs `std` fails on a missing key, not on a made-up number.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sim.base.errors import DataError, did_you_mean
from sim.base.units import NS_PER_US
from sim.tables.cells import table_from_cells
from sim.tables.latency import UNCERTAINTY_GRIDS, ControlTuple, LatencyTable, ProfiledSubnet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.tables.latency import Between

UNKNOWN_NS = -1
"""A loading time that was not measured."""

LINE_LENGTH = 230
"""A batch with five stages stays on its line."""


_UNCERTAINTY_FIELDS = {name.removesuffix("_ns"): name for name in UNCERTAINTY_GRIDS}


def parse_profile(text: str, location: str) -> LatencyTable:
    """Return the table in the text of a profile; its latency is `mean`, rounded to whole nanoseconds.

    Files of ours say by their provenance if that is not the median of what was measured; those of others hold means.

    Args:
        text: The whole file.
        location: Its path, for messages.

    Raises:
        DataError: The text is not valid JSON or has another layout, with the line or the place.
    """
    top = _Node(location, "", _load(text, location))
    subnets: dict[str, ProfiledSubnet] = {}
    cells: dict[tuple[str, int], int] = {}
    uncertainty: dict[str, dict[tuple[str, int], int]] = {}
    stages: dict[str, dict[tuple[str, int], int]] = {}
    samples: dict[tuple[str, int], list[int]] = {}
    energy: dict[tuple[str, int], int | None] = {}
    for model in top["models"].elements():
        subnet = _subnet(model)
        if subnet.id in subnets:
            raise model["id"].error("duplicate subnet", "ids must be unique")
        subnets[subnet.id] = subnet
        for row in model["latency_and_batch_ns"].elements():
            key = subnet.id, row["batch_size"].whole()
            if key in cells:
                raise row["batch_size"].error("duplicate batch size", "batch sizes of a subnet must be unique")
            cells[key] = row["mean"].nanoseconds(lowest=1)
            if cells[key] < NS_PER_US and isinstance(row["mean"].value, float):
                raise row["mean"].error("can hardly be in nanoseconds", "is it in milliseconds? Multiply by 1,000,000")
            energy[key] = row.optional_whole("energy_uj")
            if "samples" in row:
                samples[key] = [sample.nanoseconds(lowest=1) for sample in row["samples"].elements()]
            for name, column in _UNCERTAINTY_FIELDS.items():
                if name in row:
                    uncertainty.setdefault(column, {})[key] = row[name].nanoseconds(lowest=1)
            for name, stage in row["stages"].members() if "stages" in row else ():
                stages.setdefault(name, {})[key] = stage["mean"].nanoseconds()
    _check_percent(subnets.values(), location)
    name = Path(location).name
    return table_from_cells(
        top["device"].text() if "device" in top else Path(name).stem,
        subnets.values(),
        cells,
        uncertainty,
        stages,
        samples or None,
        energy=_energy(energy),
        location=location,
        between=cast("Between", top["between"].text()) if "between" in top else "pad",
        default_max_batch=top.optional_whole("default_max_batch"),
        provenance={key: fact.text() for key, fact in top["provenance"].members()}
        if "provenance" in top
        else {"source": name, **({} if samples else {"statistic": "mean"})},
    )


def _energy(cells: dict[tuple[str, int], int | None]) -> dict[tuple[str, int], int] | None:
    """Return the energy of the cells that have one; None if none has."""
    return {key: energy for key, energy in cells.items() if energy is not None} or None


def profile_text(table: LatencyTable) -> str:
    """Return a table as the text of a profile, one line per batch size."""
    document = {
        "device": table.device,
        "between": table.between,
        **_known(default_max_batch=table.default_max_batch),
        "provenance": dict(table.provenance),
        "models": [_model(table, index) for index in range(len(table.subnets))],
    }
    return f"{_layout(document)}\n"


@dataclass(frozen=True, slots=True)
class _Node:
    """A value in a JSON file, with its location for messages."""

    file: str
    place: str
    value: object

    def error(self, problem: str, hint: str) -> DataError:
        location = f"{self.file}, {self.place}" if self.place else self.file
        value = json.dumps(self.value)
        return DataError(location, problem, value if len(value) < LINE_LENGTH // 2 else type(self.value).__name__, hint)

    def _object(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.error("is not an object", "must be an object, {...}")
        return self.value

    def __contains__(self, key: str) -> bool:
        return key in self._object()

    def __getitem__(self, key: str) -> _Node:
        members = self._object()
        if key not in members:
            location = f"{self.file}, {self.place}" if self.place else self.file
            raise DataError(
                location, "missing key", key, did_you_mean(key, members) if members else "the object is empty"
            )
        return _Node(self.file, f"{self.place}.{key}" if self.place else key, members[key])

    def members(self) -> list[tuple[str, _Node]]:
        return [(key, self[key]) for key in self._object()]

    def elements(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.error("is not a list", "must be a list, [...]")
        return [_Node(self.file, f"{self.place}[{index}]", value) for index, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error("is not a string", "must be a string")
        return self.value

    def number(self) -> float:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise self.error("is not a number", "such as 4400000")  # a NaN is in no interval
        return value

    def whole(self) -> int:
        if self.number() != int(self.number()):
            raise self.error("is not an integer", "such as 16")
        return int(self.number())

    def optional_whole(self, key: str) -> int | None:
        return self[key].whole() if key in self else None

    def nanoseconds(self, lowest: int = 0) -> int:
        value = round(self.number())
        if not lowest <= value < 2**63:
            raise self.error("is not positive" if lowest else "is negative", f"{lowest} ns or more, as an int64")
        return value


def _load(text: str, location: str) -> object:
    def without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            doubled = next(key for key in keys if keys.count(key) > 1)
            raise DataError(location, "duplicate key", doubled, "keys must be unique")
        return mapping

    try:
        return cast("object", json.loads(text, object_pairs_hook=without_doubles))
    except json.JSONDecodeError as error:
        value = text.splitlines()[error.lineno - 1].strip()[:40] if text.strip() else "the file is empty"
        raise DataError(
            f"{location}, line {error.lineno}", f"is not valid JSON: {error.msg}", value, "a profile"
        ) from error


def _check_percent(subnets: Iterable[ProfiledSubnet], location: str) -> None:
    highest = max((subnet.accuracy for subnet in subnets), default=100.0)
    if highest <= 1:
        raise DataError(location, "no accuracy is above 1", f"{highest:g}", "percent: are these shares of 1?")


def _subnet(model: _Node) -> ProfiledSubnet:
    identifier = model["id"]
    control = None
    if "subnet_dimension" in model:
        parts = model["subnet_dimension"]
        control = ControlTuple(
            tuple(node.whole() for node in parts["depth_values"].elements()),
            tuple(float(node.number()) for node in parts["elasticity_ratio"].elements()),
            tuple(node.whole() for node in parts["width_multiplier"].elements()),
        )
    loading_ns = model.optional_whole("loading_time_ns")
    return ProfiledSubnet(
        identifier.value if isinstance(identifier.value, str) else str(identifier.whole()),
        float(model["accuracy"].number()),
        control,
        float(model["gmacs"].number()) if "gmacs" in model else None,
        model.optional_whole("params"),
        None if loading_ns == UNKNOWN_NS else loading_ns,
    )


def _model(table: LatencyTable, index: int) -> dict[str, object]:
    subnet = table.subnets[index]
    control = subnet.control and {
        "depth_values": subnet.control.depths,
        "elasticity_ratio": subnet.control.expands,
        "width_multiplier": subnet.control.widths,
    }
    rows = [
        {
            "batch_size": size,
            "mean": int(table.latency_ns[index, column]),
            **{
                name: int(table.uncertainty[grid][index, column])
                for name, grid in _UNCERTAINTY_FIELDS.items()
                if grid in table.uncertainty
            },
            **_known(energy_uj=None if table.energy_uj is None else int(table.energy_uj[index, column])),
            **_known(samples=None if table.samples_ns is None else table.samples_ns[index][column].tolist()),
            **_known(stages={name: {"mean": int(ns[index, column])} for name, ns in table.stages.items()} or None),
        }
        for column, size in enumerate(table.batch_sizes)
    ]
    return {
        # The authors number their subnets: a name that is a plain number is written as one.
        "id": int(subnet.id) if re.fullmatch(r"0|[1-9][0-9]*", subnet.id) else subnet.id,
        "accuracy": subnet.accuracy,
        **_known(gmacs=subnet.gmacs, params=subnet.params),
        "loading_time_ns": UNKNOWN_NS if subnet.loading_ns is None else subnet.loading_ns,
        **_known(subnet_dimension=control),
        "latency_and_batch_ns": rows,
    }


def _known(**facts: object) -> dict[str, object]:
    return {key: value for key, value in facts.items() if value is not None}


def _layout(value: object, indent: int = 0) -> str:
    """Return JSON that has each object and list on one line if it fits there, or else each of its members."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= LINE_LENGTH or not isinstance(value, dict | list):
        return line
    inner = indent + 1
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_layout(part, inner)}" for key, part in value.items()]
    else:
        parts = [_layout(part, inner) for part in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    separator = f",\n{' ' * inner}"
    return f"{left}\n{' ' * inner}{separator.join(parts)}\n{' ' * indent}{right}"
