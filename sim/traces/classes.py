"""The classes of queries, read from a column of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sim.base.errors import DataError
from sim.traces.trace import MAX_CLASSES, check_class_names

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.traces.times import Numbers

    Codes = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class ClassColumn:
    """A column of classes.

    Attributes:
        column: The name of the column, or its number from 1 in a file without a header.
    """

    column: str | int


class Classes:
    """Classes in the order in which they are met, batch by batch."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def codes_of(self, values: pa.Array, *, location: str, numbers: Numbers, name: str) -> Codes:
        """Return the classes of some queries as numbers in order of appearance, uint16, shape (n,).

        Raises:
            DataError: A value is empty, or there are too many classes.
        """
        encoded = (values if pa.types.is_dictionary(values.type) else values.dictionary_encode()).cast(
            pa.dictionary(pa.int32(), pa.string())
        )
        labels = encoded.dictionary.to_pylist()
        for label in labels:
            self._codes.setdefault(label, len(self._codes))
        if len(self._codes) > MAX_CLASSES:
            hint = f"at most {MAX_CLASSES}: a column with few values, such as a tenant or a model"
            raise DataError(f"{location}, column {name}", "has too many classes", f"over {MAX_CLASSES}", hint)
        codes: Codes = np.array([self._codes[label] for label in labels], np.uint16)[encoded.indices.to_numpy()]
        if "" in self._codes and (codes == self._codes[""]).any():
            at = int(np.argmax(codes == self._codes[""]))
            raise DataError(f"{location}, row {numbers[at]}", f"{name} is empty", "", "each row needs a class")
        return codes

    def in_order(self, codes: Codes, *, location: str) -> tuple[Codes, tuple[str, ...]]:
        """Return numbers in the order of the names, and the names: whole numbers by value, then texts."""
        names = sorted(self._codes, key=_order)
        check_class_names(names, location)
        place = np.empty(len(names), np.uint16)
        place[[self._codes[name] for name in names]] = np.arange(len(names))
        return place[codes], tuple(names)


def _order(name: str) -> tuple[Any, ...]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)
