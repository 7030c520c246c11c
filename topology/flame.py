"""Import of Flame's JSON: design schemas and data specifications, converted to the content of a topology file.

The fields are those of `api/design_components.partials.yml` in github.com/cisco-open/flame (June 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topology.flaws import Flaw, TagError

_READ = {"name", "description", "roles", "channels", "version", "userId", "id"}
_ROLE = {"name", "description", "isDataConsumer", "replica", "groupAssociation"}
_CHANNEL = {"name", "description", "pair", "groupBy", "funcTags", "backend"}


@dataclass(frozen=True, slots=True)
class FlameImport:
    """A topology file converted from Flame's.

    Attributes:
        data: Its content.
        left_out: Fields without a counterpart: declared by Flame but never read, or a matter of the engine.
        made_up: Fields that Flame's files leave open, filled in.
    """

    data: dict[str, Any]
    left_out: tuple[str, ...]
    made_up: tuple[str, ...]


def from_flame(schema: Any, data_spec: Any = None) -> FlameImport:
    """Return the content of a topology file for a design schema of Flame.

    Args:
        schema: The schema, as JSON gives it.
        data_spec: The data specification; without one, each group of a role with data gets one dataset.

    Raises:
        TagError: It is not a schema or data specification of Flame's newest format; lists all flaws, by place.
    """
    flaws: list[Flaw] = []
    roles = _named(schema, "roles", _ROLE, flaws)
    channels = _named(schema, "channels", _CHANNEL, flaws)
    if flaws:
        raise TagError("schema", flaws)
    left_out = [key for key in schema if key not in _READ]
    left_out += [f"roles.{role['name']}.{key}" for role in roles for key in role if key not in _ROLE]
    left_out += [f"channels.{channel['name']}.{key}" for channel in channels for key in channel if key not in _CHANNEL]
    data: dict[str, Any] = {"schema": "topology/1"}
    if isinstance(schema.get("name"), str) and schema["name"]:
        data["name"] = schema["name"]
    data["roles"] = {role["name"]: _role(role) for role in roles}
    data["channels"] = {channel["name"]: _channel(channel) for channel in channels}
    consumers = [role for role in roles if role.get("isDataConsumer")]
    if data_spec is not None:
        data["datasets"] = _datasets(data_spec)
        return FlameImport(data, tuple(left_out), ())
    data["datasets"] = {role["name"]: dict.fromkeys(_groups(role, channels), 1) for role in consumers}
    made_up = tuple(f"datasets.{role['name']}: one a group" for role in consumers)
    return FlameImport(data, tuple(left_out), made_up)


def _named(schema: Any, section: str, known: set[str], flaws: list[Flaw]) -> list[dict[str, Any]]:
    items = schema.get(section) if isinstance(schema, dict) else None
    if not isinstance(items, list):
        flaws.append(Flaw((section,), "must be a list", type(items).__name__, "as in a schema of Flame"))
        return []
    named: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            flaws.append(Flaw((section, number), "no name", "", f"an object with {', '.join(sorted(known))}"))
        else:
            named.append(item)
    return named


def _role(role: dict[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    if role.get("isDataConsumer"):
        converted["data"] = True
    elif isinstance(role.get("replica"), int) and role["replica"] > 1:
        converted["replicas"] = role["replica"]
    if role.get("groupAssociation"):
        converted["at"] = role["groupAssociation"]
    if role.get("description"):
        converted["description"] = role["description"]
    return converted


def _channel(channel: dict[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {"pair": channel.get("pair")}
    groups = (channel.get("groupBy") or {}).get("value")
    if groups:
        converted["groups"] = groups
    for flame_key, key in (("funcTags", "verbs"), ("backend", "backend"), ("description", "description")):
        if channel.get(flame_key):
            converted[key] = channel[flame_key]
    return converted


def _groups(role: dict[str, Any], channels: list[dict[str, Any]]) -> list[str]:
    """Return the groups that distinguish the entries of a role's `at`, or a single one."""
    places = role.get("groupAssociation") or []
    if len(places) == 1:
        return [next(iter(places[0].values()), "default")]
    values = [value for place in places for value in place.values()]
    unique = [value for value in dict.fromkeys(values) if values.count(value) == 1]
    connected = [channel for channel in channels if role["name"] in (channel.get("pair") or ())]
    return unique or [
        group for channel in connected[:1] for group in (channel.get("groupBy") or {}).get("value") or ["default"]
    ]


def _datasets(spec: Any) -> dict[str, Any]:
    hint = "a list of objects with role and datasetGroups, group: [ids]"
    if not isinstance(spec, list):
        raise TagError("data", [Flaw(("dataSpec",), "must be a list", type(spec).__name__, hint)])
    by_role: dict[str, Any] = {}
    for number, entry in enumerate(spec):
        groups = entry.get("datasetGroups") if isinstance(entry, dict) else None
        if not isinstance(groups, dict) or not isinstance(entry.get("role"), str):
            raise TagError("data", [Flaw(("dataSpec", number), "no role or no datasetGroups", "", hint)])
        by_role[entry["role"]] = groups
    return by_role
