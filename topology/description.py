"""A TAG as plain data and as lines of text, to write topologies to files and to compare them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topology.tag import Channel, Role, Tag


def described(tag: Tag) -> dict[str, dict[str, Any]]:
    """Return roles and channels as in a topology file, without default values.

    Examples:
        >>> from topology.tag import Channel, Role, Tag
        >>> described(Tag((Role("a", replicas=2), Role("b")), (Channel("c", ("a", "b")),)))
        {'roles': {'a': {'replicas': 2}, 'b': {}}, 'channels': {'c': {'pair': ['a', 'b']}}}
    """
    channels = {channel.name: _given(channel) for channel in tag.channels}
    return {"roles": {role.name: _role(role, tag) for role in tag.roles}, "channels": channels}


def _role(role: Role, tag: Tag) -> dict[str, Any]:
    given = _given(role)
    everywhere = math.prod(len(channel.groups) for channel in tag.channels_of(role.name))
    if len({tuple(place.values()) for place in role.at}) == len(role.at) == everywhere:
        given.pop("at", None)  # all combinations, the default
    return given


def _given(item: Role | Channel) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if field.name != "name" and value != default:
            given[field.name] = _plain(value)
    return given


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        items = ((name, getattr(value, name)) for name in defaults)
        return {name: _plain(item) for name, item in items if item != defaults[name] and item != {}}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def lines(tag: Tag) -> list[str]:
    """Return a TAG as lines, one fact each, sorted by name; descriptions are left out.

    The order and layout of a file have no influence, so that lines can be compared and counted.
    """
    return [line for section, items in described(tag).items() for line in _section(section, items)]


def _section(section: str, items: dict[str, Any]) -> Iterator[str]:
    for name, facts in items.items():
        where = f"{section}.{name}"
        yield where
        for key, value in facts.items():
            if key == "description":
                continue
            if key == "verbs":
                yield from (f"{where}.verbs.{role}: {', '.join(verbs)}" for role, verbs in value.items())
            elif key in {"at", "groups"}:
                yield from (f"{where}.{key}: {_text(item)}" for item in value)
            elif isinstance(value, dict):
                yield from (f"{where}.{key}.{inner}: {_text(item)}" for inner, item in value.items())
            else:
                yield f"{where}.{key}: {_text(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class TagDiff:
    """The difference between two TAGs, as lines of `lines`.

    Attributes:
        added: Lines of the second only.
        dropped: Lines of the first only.
    """

    added: tuple[str, ...]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        marked = [f"- {line}" for line in self.dropped] + [f"+ {line}" for line in self.added]
        return "\n".join(sorted(marked, key=lambda line: (line[2:], line[0])))


def diff(first: Tag, second: Tag) -> TagDiff:
    """Return the difference from the first TAG to the second: empty if they are the same topology."""
    compared = list(difflib.ndiff(lines(first), lines(second)))
    added = tuple(line[2:] for line in compared if line.startswith("+ "))
    return TagDiff(added, tuple(line[2:] for line in compared if line.startswith("- ")))
