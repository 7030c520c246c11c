"""Data sources by name: shipped ones, classes of your own, and the datasets that your own factories return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import supernet.data
from sim.base.errors import SpecError, SsimError
from ssim.files.families import is_factory
from ssim.files.plugins import Issue, Slot, build, find_object
from supernet.data.dataset import RESERVED, DatasetSource, ReadingOptions
from supernet.data.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataSlot(Slot):
    """A place of a file where a data source is named, or a class or function that returns datasets."""

    def build(self, value: Mapping[str, Any], folder: Path) -> tuple[Any, list[Issue]]:
        """Return the source that a section describes, or None and what is wrong with the section."""
        name = value.get(self.key)
        if not isinstance(name, str) or ":" not in name:
            return Slot.build(self, value, folder)
        try:
            factory: Any = find_object(name, self.names, self.noun, folder, "class or function", is_factory)
        except SpecError as error:
            return None, [Issue.of(error, self.key)]
        if hasattr(factory, "__dataclass_fields__") and not hasattr(factory, "__getitem__"):
            return Slot.build(self, value, folder)
        given = {key: each for key, each in value.items() if key != self.key}
        own = {key: given.pop(key) for key in RESERVED if key in given}
        reading, issues = build(ReadingOptions, own)
        if issues:
            return None, issues
        try:
            return DatasetSource(factory, given, reading).located(folder), []
        except SsimError as error:
            return None, [Issue((), str(error), cause=error)]


DATA = DataSlot(("data",), "data source", supernet.data.SHORT_NAMES, Source)
