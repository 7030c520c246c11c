"""The JSON Schema of experiment files, made from the models and from the parameters of what is plugged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

import policies
import sim.traces
from ssim.plugins import find_class
from ssim.spec import ExperimentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, short forms included."""
    schema = ExperimentSpec.model_json_schema(by_alias=True)
    properties, definitions = schema["properties"], schema["$defs"]
    kinds = [_with(name, "kind", owner) for name, owner in _plugs(sim.traces.SHORT_NAMES, "trace kind").items()]
    own = {"type": "object", "properties": {"kind": {"type": "string", "pattern": ":"}}, "required": ["kind"]}
    properties["trace"] = {"anyOf": [*kinds, own]}
    properties["latency_table"] = {"anyOf": [{"type": "string"}, properties["latency_table"]]}
    uses = [
        {
            "type": "object",
            "properties": {"use": {"const": name}, "params": owner},
            "required": ["use"],
            "additionalProperties": False,
        }
        for name, owner in _plugs(policies.SHORT_NAMES, "policy").items()
    ]
    named = {"type": "string", "anyOf": [{"enum": sorted(policies.SHORT_NAMES)}, {"pattern": ":"}]}
    properties["policies"]["items"] = {"anyOf": [named, *uses, {"$ref": "#/$defs/PolicySpec"}]}
    definitions["PolicySpec"]["properties"]["use"]["pattern"] = ":"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _plugs(names: Mapping[str, str], noun: str) -> dict[str, dict[str, Any]]:
    return {
        name: TypeAdapter(find_class(name, names, noun)).json_schema() | {"additionalProperties": False}
        for name in names
    }


def _with(name: str, key: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {key: {"const": name}, **schema["properties"]}
    return {**schema, "properties": properties, "required": [key, *schema.get("required", [])]}
