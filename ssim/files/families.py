"""Families of supernets by name: shipped ones, classes of your own, and the networks that your own factories return."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from torch import nn

from sim.base.errors import DataError, SpecError, SsimError
from sim.traces.reading import sha256_of
from ssim.files.own_modules import origin_of, own_sources, sources_from
from ssim.files.plugins import Issue, Slot, build, find_object
from ssim.files.waiting import WAITING
from supernet import checkpoint
from supernet.families import FAMILIES
from supernet.family import Family
from supernet.network_family import InsertionOptions, NetworkFamily

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from supernet.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class FamilySlot(Slot):
    """A place of a file where a family is named, or a class or function that returns a network."""

    def build(self, value: Mapping[str, Any], folder: Path) -> tuple[Any, list[Issue]]:
        """Return the family that a section describes, or None and what is wrong with the section.

        Operators are inserted into a network of your own, so that what can't be trained, stored or served is refused
        here.
        """
        name = value.get(self.key)
        if not isinstance(name, str) or ":" not in name:
            return Slot.build(self, value, folder)
        try:
            factory = find_object(name, self.names, self.noun, folder, "class or function", is_factory)
        except SpecError as error:
            return None, [Issue.of(error, self.key)]
        if isinstance(factory, type) and not issubclass(factory, nn.Module):
            return Slot.build(self, value, folder)
        return _network_family(factory, {key: given for key, given in value.items() if key != self.key})


FAMILY = FamilySlot(
    ("family",), "family", {name: f"{owner.__module__}:{owner.__name__}" for name, owner in FAMILIES.items()}, Family
)


def is_factory(value: Any) -> bool:
    """Return whether something is a class or a function."""
    return isinstance(value, type) or inspect.isroutine(value)


def _network_family(factory: Any, given: dict[str, Any]) -> tuple[Any, list[Issue]]:
    """Return the family of a factory, or None and what is wrong with its parameters or its network."""
    options = {key: value for key, value in given.items() if key not in {"example", "insert"}}
    insertion, issues = build(InsertionOptions, given.get("insert") or {})
    issues = [issue.under("insert") for issue in issues]
    shape = given.get("example")
    if shape is not None and not (
        isinstance(shape, (list, tuple)) and shape and all(type(size) is int and size > 0 for size in shape)
    ):
        hint = "the shape of an input without the batch, such as [3, 32, 32]"
        issues.append(Issue(("example",), "not a shape", repr(shape), hint))
    if issues:
        return None, issues
    try:
        family = NetworkFamily(factory, options, None if shape is None else tuple(shape), insertion)
        with WAITING.get()(f"{family.name}: inserting operators"):
            _ = family.space
    except SsimError as error:
        return None, [Issue((), str(error).removeprefix(f"{factory.__module__}:{factory.__qualname__}: "), cause=error)]
    return family, []


def find_family(name: str, options: Mapping[str, Any], folder: Path) -> Family:
    """Return a family by its name: a shipped one, or `module:name` of one of your own.

    Args:
        name: The name.
        options: Its parameters, as a file has them beside `kind`.
        folder: Where modules are looked for first.

    Raises:
        SpecError: There is no such family, a parameter is wrong, or a network of your own can't be used.
    """
    if ":" not in name:
        return checkpoint.find_family(name, options)
    family, issues = FAMILY.build({"kind": name, **options}, folder)
    if issues:
        first = issues[0]
        place = ".".join(map(str, first.place)).replace("kind", "")
        raise SpecError(
            f"{name}{', ' if place else ''}{place}", first.problem, first.value, first.hint
        ) from first.cause
    found: Family = family
    return found


def code_of_family(family: Family, folder: Path) -> list[str]:
    """Return the hashes of a user's own code that a family is made of."""
    return sorted(sha256_of(path) for path in own_sources([getattr(family, "factory", type(family))], folder))


def load_checkpoint(path: Path, folder: Path) -> Checkpoint:
    """Return the content of a checkpoint, also of a family of your own.

    The module that it names is imported from the folder, if its code is that with which the checkpoint was stored.

    Args:
        path: The checkpoint.
        folder: Where modules are looked for first.

    Raises:
        SpecError: The family can't be found.
        DataError: The checkpoint is damaged, or the code of its family has changed.
    """
    name, options, stored = checkpoint.read_family(path)
    if ":" not in name:
        return checkpoint.load(path)
    file = origin_of(name.partition(":")[0], folder)
    own = sorted(sha256_of(source) for source in sources_from([file], folder))
    if own != stored:
        value, hint = str(file) if own else f"not found in {folder}", "the code that it was stored with"
        raise DataError(str(path), f"the code of {name} is not that with which it was stored", value, hint)
    if not own and not returns_network(find_object(name, {}, "family", folder, "class or function", is_factory)):
        hint = "a function of your own that calls it"
        raise SpecError(str(path), f"{name} is not declared to return a network", "", hint)
    return checkpoint.load(path, find_family(name, options, folder))


def returns_network(factory: Any) -> bool:
    """Return whether a class is that of a network, or a function is annotated to return one."""
    try:
        returned = factory if isinstance(factory, type) else get_type_hints(factory).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(returned, type) and issubclass(returned, nn.Module)
