"""Flame's own JSON: its design schemas and data specifications, as what a topology file of ours holds.

The fields are those of `api/design_components.partials.yml` in github.com/cisco-open/flame (June 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topology.checks import Flaw, TagError

_READ = {"name", "description", "roles", "channels", "version", "userId", "id"}
_ROLE = {"name", "description", "isDataConsumer", "replica", "groupAssociation"}
_CHANNEL = {"name", "description", "pair", "groupBy", "funcTags", "backend"}


@dataclass(frozen=True, slots=True)
class Imported:
    """A topology file made of Flame's.

    Attributes:
        data: Its content.
        left_out: What has no place in it: fields that Flame declares and nobody reads, or that are an engine's concern.
        made_up: What Flame's files leave open.
    """

    data: dict[str, Any]
    left_out: tuple[str, ...]
    made_up: tuple[str, ...]


def from_flame(schema: Any, data_spec: Any = None) -> Imported:
    """Return the content of a topology file for a design schema of Flame.

    Args:
        schema: The schema, as JSON gives it.
        data_spec: The data specification; without one there is a dataset for each group of a role with data.

    Raises:
        TagError: It is no schema, or no data specification, of Flame's newest format; tells all of it, by place.
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
        return Imported(data, tuple(left_out), ())
    data["datasets"] = {role["name"]: dict.fromkeys(_groups(role, channels), 1) for role in consumers}
    made_up = tuple(f"datasets.{role['name']}: one a group" for role in consumers)
    return Imported(data, tuple(left_out), made_up)


def _named(schema: Any, section: str, known: set[str], flaws: list[Flaw]) -> list[dict[str, Any]]:
    things = schema.get(section) if isinstance(schema, dict) else None
    if not isinstance(things, list):
        flaws.append(
            Flaw((section,), "is no list", type(things).__name__, f"a schema of Flame has a list of {section}")
        )
        return []
    found: list[dict[str, Any]] = []
    for number, thing in enumerate(things):
        if not isinstance(thing, dict) or not isinstance(thing.get("name"), str):
            flaws.append(Flaw((section, number), "has no name", "", f"an object with {', '.join(sorted(known))}"))
        else:
            found.append(thing)
    return found


def _role(role: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if role.get("isDataConsumer"):
        made["data"] = True
    elif isinstance(role.get("replica"), int) and role["replica"] > 1:
        made["replicas"] = role["replica"]
    if role.get("groupAssociation"):
        made["at"] = role["groupAssociation"]
    if role.get("description"):
        made["description"] = role["description"]
    return made


def _channel(channel: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"pair": channel.get("pair")}
    groups = (channel.get("groupBy") or {}).get("value")
    if groups:
        made["groups"] = groups
    for theirs, ours in (("funcTags", "verbs"), ("backend", "backend"), ("description", "description")):
        if channel.get(theirs):
            made[ours] = channel[theirs]
    return made


def _groups(role: dict[str, Any], channels: list[dict[str, Any]]) -> list[str]:
    """Return the groups that tell a role's places apart, or one."""
    places = role.get("groupAssociation") or []
    if len(places) == 1:
        return [next(iter(places[0].values()), "default")]
    values = [value for place in places for value in place.values()]
    apart = [value for value in dict.fromkeys(values) if values.count(value) == 1]
    own = [channel for channel in channels if role["name"] in (channel.get("pair") or ())]
    return apart or [
        group for channel in own[:1] for group in (channel.get("groupBy") or {}).get("value") or ["default"]
    ]


def _datasets(spec: Any) -> dict[str, Any]:
    right = "a list of objects with role and datasetGroups, group: [ids]"
    if not isinstance(spec, list):
        raise TagError("data", [Flaw(("dataSpec",), "is no list", type(spec).__name__, right)])
    made: dict[str, Any] = {}
    for number, each in enumerate(spec):
        groups = each.get("datasetGroups") if isinstance(each, dict) else None
        if not isinstance(groups, dict) or not isinstance(each.get("role"), str):
            raise TagError("data", [Flaw(("dataSpec", number), "names no role or no datasetGroups", "", right)])
        made[each["role"]] = groups
    return made
