"""FedScale's public device and availability traces as a table of clients.

FedScale (Lai et al., ICML 2022) stores both as pickles of plain dictionaries: of each client the milliseconds that its
device takes for an example (`computation`) and its bandwidth in kbit/s (`communication`); and when it is `active` and
`inactive`, in seconds that repeat after `finish_time`.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.base.errors import SpecError
from sim.base.parameters import is_number
from sim.base.whole_file import translate_os_errors

if TYPE_CHECKING:
    from pathlib import Path

_KBIT = 1024 / 1e6
"""Megabits in a kilobit as FedScale counts: 1,024 bits."""


@dataclass(frozen=True, slots=True)
class FedScaleClients:
    """Clients of FedScale's traces.

    Attributes:
        rows: A row for each client: the columns of a table of clients.
        example_ms: The milliseconds for an example that stand for speed 1: the median of the devices.
        always: Number of clients that are there without a pause.
        never: Number of clients of the trace of sessions that are never active, and left out.
    """

    rows: list[dict[str, Any]]
    example_ms: float
    always: int
    never: int = 0


def read_fedscale(devices: Path, availability: Path | None, count: int | None, seed: int) -> FedScaleClients:
    """Return clients with devices of FedScale's trace, and with the sessions of another client each.

    FedScale's two traces are of different devices. Who has which sessions is drawn without repetition, as long as there
    are enough of them.

    Args:
        devices: The trace of devices, `client_device_capacity`.
        availability: The trace of sessions, `client_behave_trace`; None for clients that are always there.
        count: How many clients are drawn; None for all devices, in order.
        seed: Of what is drawn.

    Raises:
        SpecError: A file is no such trace; or there are fewer devices than wanted.
    """
    found, chance = _capacities(devices), np.random.default_rng(seed)
    ids = sorted(found, key=lambda id_: (isinstance(id_, str), id_))
    if count is not None:
        if count > len(ids):
            raise SpecError(str(devices), f"has fewer than {count} devices", str(len(ids)), "a smaller --count")
        ids = [ids[number] for number in sorted(chance.choice(len(ids), count, replace=False).tolist())]
    example_ms = median(found[id_][0] for id_ in ids)
    rows: list[dict[str, Any]] = []
    for id_ in ids:
        ms, kbit_per_s = found[id_]
        mbps = f"{kbit_per_s * _KBIT:.6g}"
        rows.append({"id": str(id_), "speed": f"{example_ms / ms:.6g}", "up_mbps": mbps, "down_mbps": mbps})
    if availability is None:
        return FedScaleClients(rows, example_ms, len(rows))
    sessions, never = _sessions(availability)
    drawn = [chance.permutation(len(sessions)) for _ in range(math.ceil(len(rows) / len(sessions)))]
    for row, number in zip(rows, np.concatenate(drawn).tolist(), strict=False):
        row["sessions"], row["every_s"] = sessions[number]
    return FedScaleClients(rows, example_ms, sum(not row["sessions"] for row in rows), never)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, text and numbers, those of NumPy included; a pickle that calls anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what makes a number of NumPy.

        Raises:
            pickle.UnpicklingError: It is something else.
        """
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        if name == "scalar" and module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            return _number_of_numpy
        raise pickle.UnpicklingError(f"it names {module}.{name}; only plain values are read")


def _number_type(code: str, *_: Any) -> np.dtype[Any]:
    """Return a type of numbers, as a pickle calls it.

    Raises:
        pickle.UnpicklingError: It is another type.
    """
    found = np.dtype(code, copy=True)  # whose byte order is set next
    if found.kind not in "iuf":
        raise pickle.UnpicklingError(f"it has values of type {code}; only plain values are read")
    return found


def _number_of_numpy(kind: np.dtype[Any], content: bytes) -> float | int:
    """Return a number, as a pickle calls it."""
    number: float | int = np.frombuffer(content, kind, 1)[0].item()
    return number


def _entries(path: Path, keys: tuple[str, ...]) -> dict[Any, Any]:
    """Return the entries of a pickled trace, by client.

    Raises:
        SpecError: It can't be read, or an entry lacks a key.
    """
    if not path.is_file():
        raise SpecError(str(path), "file not found", "", "a pickle as FedScale publishes it")
    try:
        with translate_os_errors(path), path.open("rb") as file:
            found = _PlainUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError, KeyError) as error:
        raise SpecError(str(path), "can't be read", str(error), "a pickle as FedScale publishes it") from error
    if not isinstance(found, dict) or not found:
        raise SpecError(str(path), "must be a dictionary of clients", type(found).__name__, "a trace of FedScale")
    for id_, entry in found.items():
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise SpecError(f"{path}, client {id_}", "lacks a key", missing[0], f"expected {', '.join(keys)}")
    return found


def _number(path: Path, id_: Any, key: str, value: Any) -> float:
    """Return a positive number.

    Raises:
        SpecError: It is none.
    """
    if is_number(value) and 0 < value < math.inf:
        return float(value)
    raise SpecError(f"{path}, client {id_}, {key}", "must be a number above 0", repr(value), "a trace of FedScale")


def _capacities(path: Path) -> dict[Any, tuple[float, float]]:
    entries = _entries(path, ("computation", "communication"))
    return {
        id_: (
            _number(path, id_, "computation", entry["computation"]),
            _number(path, id_, "communication", entry["communication"]),
        )
        for id_, entry in entries.items()
    }


def _sessions(path: Path) -> tuple[list[tuple[str, str]], int]:
    """Return the sessions of each client and when they repeat, as cells of a table; and how many are never active.

    As in FedScale, a client is active from the n-th number of `active` to the n-th of `inactive`, if that is later.
    Both cells are empty for a client without a pause.

    Raises:
        SpecError: The times of a client are no such lists; or nobody is ever active.
    """
    found, never = [], 0
    for id_, entry in _entries(path, ("active", "inactive", "finish_time")).items():
        finish = _number(path, id_, "finish_time", entry["finish_time"])
        begins, ends = entry["active"], entry["inactive"]
        if not _are_numbers(begins) or not _are_numbers(ends) or len(ends) < len(begins):
            problem = "active and inactive must be lists of numbers, and inactive at least as long"
            raise SpecError(f"{path}, client {id_}", problem, "", "a trace of FedScale")
        merged: list[list[float]] = []
        for begin, end in sorted((max(0.0, begin), min(end, finish)) for begin, end in zip(begins, ends, strict=False)):
            if begin < end and merged and begin <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            elif begin < end:
                merged.append([begin, end])
        if not merged:
            never += 1
        elif len(merged) == 1 and merged[0][1] - merged[0][0] >= finish:
            found.append(("", ""))
        else:
            found.append((" ".join(f"{begin:.10g}-{end:.10g}" for begin, end in merged), f"{finish:.10g}"))
    if not found:
        raise SpecError(str(path), "no client is ever active", "", "a trace of FedScale")
    return found, never


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(is_number(value) and not math.isnan(value) for value in values)
