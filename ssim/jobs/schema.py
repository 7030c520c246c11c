"""The JSON Schemas of the files that are read, made from the models and the parameters of what is plugged in."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from pydantic import TypeAdapter

from ssim.files.plugins import find_class
from ssim.jobs.job import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssim.files.plugins import Slot

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema(schema: str) -> dict[str, Any]:
    """Return the JSON Schema of the files of a job, short forms included.

    Args:
        schema: Such as `experiment/1`.
    """
    kind = kind_of(schema)
    found = kind.model.model_json_schema(by_alias=True)
    for slot in kind.slots:
        owner, key, is_list = found, slot.place[0], slot.place[-1] == "*"
        if slot.place[1:2] == ("*",) and not is_list:  # a key of each entry of a list
            owner, key = found["$defs"][found["properties"][key]["items"]["$ref"].rpartition("/")[2]], slot.place[2]
        place = owner["properties"][key]
        if not slot.names:
            continue
        entry = found["$defs"][place["items"]["$ref"].rpartition("/")[2]]["properties"] if is_list else {}
        named = _named(slot, {name: part for name, part in entry.items() if name not in {"use", "params"}})
        if is_list:
            place["items"] = named
        else:
            optional = [{"type": "null"}] if {"type": "null"} in place.get("anyOf", []) else []
            kept = {name: place[name] for name in ("description", "default") if name in place}
            owner["properties"][key] = {"anyOf": [*named["anyOf"], *optional], **kept}
    for key in kind.short:
        section, _, name = key.rpartition(".")
        owner = found
        for step in filter(None, section.split(".")):
            part = owner["properties"][step]
            owner = found["$defs"][part.get("items", part)["$ref"].rpartition("/")[2]]
        place = owner["properties"][name]
        description = {"description": place["description"]} if "description" in place else {}
        owner["properties"][name] = {"anyOf": [{"type": "string"}, place], **description}
    found["required"] = [key for key in found["required"] if key not in kind.filled_in]
    return {"$schema": _DIALECT, **found}


def topology_schema() -> dict[str, Any]:
    """Return the JSON Schema of topology files, short forms included."""
    from ssim.files.topology_file import KEYS, OWNERS, TopologyModel
    from topology.selection import SHORT_NAMES
    from topology.tag import Link, Select, Variant

    schema = TopologyModel.model_json_schema(by_alias=True)
    properties, definitions = schema["properties"], schema["$defs"]
    for owner in (Link, Select, Variant, *OWNERS.values()):
        definitions[owner.__name__] = {key: part for key, part in _described(owner).items() if key != "$defs"}
    for section, owner in OWNERS.items():
        definitions[owner.__name__] = _without(definitions[owner.__name__], *KEYS[section])
        if section in {"roles", "channels", "computes"}:
            properties[section]["additionalProperties"] = {
                "anyOf": [{"$ref": f"#/$defs/{owner.__name__}"}, {"type": "null"}]
            }
    use = [{"enum": sorted(SHORT_NAMES)}, {"type": "string", "pattern": ":"}, {"$ref": "#/$defs/Select"}]
    definitions["Channel"]["properties"]["select"]["additionalProperties"] = {"anyOf": use}
    count = {"type": "integer", "minimum": 1, "description": "The number of datasets."}
    counted = _without(definitions["Dataset"], "id")
    counted = {**counted, "properties": {"count": count, **counted["properties"]}, "required": ["count"]}
    listed = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Dataset"}]}}
    group = {"type": "object", "additionalProperties": {"anyOf": [count, listed, counted]}}
    properties["datasets"]["additionalProperties"] = group
    return {"$schema": _DIALECT, **schema}


def deployment_schema() -> dict[str, Any]:
    """Return the JSON Schema of deployment files."""
    from ssim.files.deployment_file import DeploymentModel
    from topology.sites import DeploymentSite

    schema = DeploymentModel.model_json_schema(by_alias=True)
    site = {key: part for key, part in _described(DeploymentSite).items() if key != "$defs"}
    schema["$defs"]["DeploymentSite"] = _without(site, "name")
    return {"$schema": _DIALECT, **schema}


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    properties = {name: each for name, each in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", []) if name not in names]
    return {**schema, "properties": properties, "required": required, "additionalProperties": False}


def _named(slot: Slot, beside: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section that names a plug-in, by its name alone or with its parameters.

    Args:
        slot: Where it is named.
        beside: Schemas of further keys of the section, if its parameters stand below `params`.
    """
    options: list[dict[str, Any]] = [{"type": "string", "anyOf": [{"enum": sorted(slot.names)}, {"pattern": ":"}]}]
    for name in slot.names:
        owner = find_class(name, slot.names, slot.noun)
        params = _inlined(owner)
        head = {"const": name, "description": _first_line(owner)}
        if slot.key == "use":
            shown = {"use": head, "params": params, **beside}
            options.append({"type": "object", "properties": shown, "required": ["use"], "additionalProperties": False})
        else:
            required = ["kind", *params.get("required", [])]
            options.append({**params, "properties": {"kind": head, **params["properties"]}, "required": required})
    own = {"type": "object", "properties": {slot.key: {"type": "string", "pattern": ":"}}, "required": [slot.key]}
    return {"anyOf": [*options, own]}


def _described(owner: type[Any]) -> dict[str, Any]:
    """Return the schema of a dataclass, each field with what the docstring of its class, or of a base, says of it."""
    schema: dict[str, Any] = {"properties": {}, **TypeAdapter(owner).json_schema(), "additionalProperties": False}
    schema["properties"] = {name.removesuffix("_"): each for name, each in schema["properties"].items()}
    for base in reversed(owner.__mro__):
        for name, words in _attributes(base):
            if name in schema["properties"]:
                schema["properties"][name]["description"] = words
    return schema


def _attributes(owner: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield what the docstring of a class says of its fields."""
    _, _, attributes = (inspect.cleandoc(owner.__doc__ or "")).partition("Attributes:\n")
    for name, words in re.findall(r"^    (\w+): ((?:.+\n?)(?:     +.+\n?)*)", attributes, re.MULTILINE):
        yield name.removesuffix("_"), " ".join(words.split())


def _inlined(owner: type[Any]) -> dict[str, Any]:
    """Return the schema of a dataclass with those of its nested dataclasses in their places."""
    schema = _described(owner)
    parts = schema.pop("$defs", {})
    hints = (option for hint in get_type_hints(owner).values() for option in (hint, *get_args(hint)))
    classes = {option.__name__: option for option in hints if isinstance(option, type)}

    def put(value: Any) -> Any:
        if isinstance(value, dict) and "$ref" in value:
            name = value["$ref"].rpartition("/")[2]
            part = _inlined(classes[name]) if name in classes else parts[name]
            return part | {key: item for key, item in value.items() if key != "$ref"}
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        return [put(item) for item in value] if isinstance(value, list) else value

    return cast("dict[str, Any]", put(schema))


def _first_line(owner: type[Any]) -> str:
    return (inspect.getdoc(owner) or "").partition("\n")[0]
