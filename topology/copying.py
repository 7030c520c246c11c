"""Copies of what a program can change, and pickles of a whole run that leave out what is made anew."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from topology.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Key = tuple[str, ...]


class Copy(NamedTuple):
    """A copy of an object.

    Attributes:
        content: The object, pickled; values and copies that do not pickle well stand beside it.
        values: Values, which nobody changes.
        copies: Copies of arrays and tensors.
    """

    content: bytes
    values: list[Any]
    copies: list[Any]


class _Copier(pickle.Pickler):
    def __init__(self, file: io.BytesIO, known: Mapping[int, Key]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._known = known
        self._seen: dict[int, tuple[str, int]] = {}
        self._originals: list[Any] = []  # they must live as long as their ids count
        self.values: list[Any] = []
        self.copies: list[Any] = []

    def persistent_id(self, value: Any) -> Any:
        number = id(value)
        key = self._known.get(number) or self._seen.get(number)
        if key is None:
            kind = type(value)
            if is_value(value):
                key = self._seen[number] = "value", len(self.values)
                self.values.append(value)
            elif hasattr(kind, "__deepcopy__"):
                key = self._seen[number] = "copy", len(self.copies)
                self.copies.append(copy.deepcopy(value))
                self._originals.append(value)
        return key


def is_value(value: Any) -> bool:
    """Return whether nobody changes an object: a message, or a frozen dataclass, by its own promise."""
    kind = type(value)
    parameters = kind.__dict__.get("__dataclass_params__")
    return kind is Message or (parameters is not None and parameters.frozen)


class _CopyReader(pickle.Unpickler):
    def __init__(self, kept: Copy, world: Mapping[Key, Any]) -> None:
        super().__init__(io.BytesIO(kept.content))
        self._kept, self._world = kept, world

    def persistent_load(self, key: Any) -> Any:
        if key in self._world:
            return self._world[key]
        kind, number = key
        return self._kept.values[number] if kind == "value" else copy.deepcopy(self._kept.copies[number])


def copied(value: Any, known: Mapping[int, Key]) -> Copy:
    """Return a copy of an object. Messages and frozen dataclasses are values, and are not copied.

    Args:
        value: The object.
        known: The keys of objects that belong to the world and not to the copy, by their `id()`.

    Raises:
        Exception: It can't be copied; whatever pickle raises.
    """
    file = io.BytesIO()
    copier = _Copier(file, known)
    copier.dump(value)
    return Copy(file.getvalue(), copier.values, copier.copies)


def restored(kept: Copy, world: Mapping[Key, Any]) -> Any:
    """Return an object as it was when it was copied.

    Args:
        kept: The copy.
        world: What belongs to the world now, by key.
    """
    return _CopyReader(kept, world).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, known: Mapping[int, Key]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._known = known

    def persistent_id(self, value: Any) -> Any:
        return self._known.get(id(value))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, world: Mapping[Key, Any]) -> None:
        super().__init__(file)
        self._world = world

    def persistent_load(self, key: Any) -> Any:
        return self._world[key]


def pickled(value: Any, known: Mapping[int, Key], reducers: Mapping[type[Any], Callable[[Any], Any]]) -> bytes:
    """Return an object as bytes.

    Args:
        value: The object.
        known: The keys of objects that are left out, by their `id()`.
        reducers: How objects of some classes are pickled, as `__reduce__` says it.

    Raises:
        Exception: It can't be pickled; whatever pickle raises.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, known)
    pickler.dispatch_table = dict(reducers)
    pickler.dump(value)
    return file.getvalue()


def unpickled(content: bytes, world: Mapping[Key, Any]) -> Any:
    """Return an object from bytes.

    Args:
        content: What `pickled` returned.
        world: The objects that were left out, by key.
    """
    return _Unpickler(io.BytesIO(content), world).load()


def fields_of(program: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots included."""
    state: Any = object.__getstate__(program)
    own, slots = state if isinstance(state, tuple) else (state, None)
    return {**(own or {}), **(slots or {})}


def set_fields(program: Any, fields: Mapping[str, Any]) -> None:
    """Give an object these attributes and no others."""
    for name in fields_of(program).keys() - fields.keys():
        object.__delattr__(program, name)
    for name, value in fields.items():
        object.__setattr__(program, name, value)
