"""The JSON Schemas of the files that are read, made from the models and the parameters of what is plugged in."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

import policies
import sim.traces
from ssim.files.plugins import find_class
from ssim.jobs.experiment.spec import ExperimentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, short forms included."""
    schema = ExperimentSpec.model_json_schema(by_alias=True)
    properties, definitions = schema["properties"], schema["$defs"]
    properties["trace"] = {"anyOf": _by_kind(sim.traces.SHORT_NAMES, "trace kind")["anyOf"][1:]}
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


def training_schema() -> dict[str, Any]:
    """Return the JSON Schema of training files, short forms included."""
    import supernet.data
    import supernet.training
    from ssim.jobs.training.file import FAMILY_NAMES
    from ssim.jobs.training.spec import FILLED_IN, TrainingSpec

    schema = TrainingSpec.model_json_schema(by_alias=True)
    named = {
        "data": _by_kind(supernet.data.SHORT_NAMES, "data source"),
        "family": _by_kind(FAMILY_NAMES, "family"),
        "optimizer": _by_kind(supernet.training.OPTIMIZERS, "optimizer"),
    }
    schema["properties"] |= named
    schema["required"] = [key for key in schema["required"] if key not in FILLED_IN]
    schema["$defs"]["PhaseSpec"]["properties"]["subnets"] = _by_kind(supernet.training.RULES, "rule")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def topology_schema() -> dict[str, Any]:
    """Return the JSON Schema of topology files, short forms included."""
    from ssim.files.topology_file import KEYS, OWNERS, TopologyModel
    from topology.selection import SHORT_NAMES
    from topology.tag import Link, Select

    schema = TopologyModel.model_json_schema(by_alias=True)
    properties, definitions = schema["properties"], schema["$defs"]
    for owner in (Link, Select):
        definitions[owner.__name__] = _described(owner, definitions[owner.__name__])
    for section, owner in OWNERS.items():
        definitions[owner.__name__] = _described(owner, _without(definitions[owner.__name__], *KEYS[section]))
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
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _described(owner: type[Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a dataclass with the descriptions of its fields, as in its docstring."""
    section = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE))
    properties = {
        name: {**part, "description": " ".join(texts[name].split())} if name in texts else part
        for name, part in schema["properties"].items()
    }
    return {**schema, "properties": properties, "description": (owner.__doc__ or "").partition("\n")[0]}


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    properties = {name: each for name, each in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", []) if name not in names]
    return {**schema, "properties": properties, "required": required, "additionalProperties": False}


def _by_kind(names: Mapping[str, str], noun: str) -> dict[str, Any]:
    kinds = [_with(name, "kind", owner) for name, owner in _plugs(names, noun).items()]
    own = {"type": "object", "properties": {"kind": {"type": "string", "pattern": ":"}}, "required": ["kind"]}
    return {"anyOf": [{"enum": sorted(names)}, *kinds, own]}


def _plugs(names: Mapping[str, str], noun: str) -> dict[str, dict[str, Any]]:
    return {
        name: TypeAdapter(find_class(name, names, noun)).json_schema() | {"additionalProperties": False}
        for name in names
    }


def _with(name: str, key: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {key: {"const": name}, **schema["properties"]}
    return {**schema, "properties": properties, "required": [key, *schema.get("required", [])]}
