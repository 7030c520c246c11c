"""The JSON Schemas of the files that are read, made from the models and the parameters of what is plugged in."""

from __future__ import annotations

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
    schema["$defs"]["PhaseSpec"]["properties"]["subnets"] = _by_kind(supernet.training.SAMPLING_RULES, "rule")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def topology_schema() -> dict[str, Any]:
    """Return the JSON Schema of topology files, short forms included."""
    from ssim.files.topology_file import SCHEMA
    from topology.parties import Compute, Dataset, Fault
    from topology.selection import SHORT_NAMES
    from topology.tag import Channel, Role

    parts = {owner: TypeAdapter[Any](owner).json_schema() for owner in (Role, Channel, Compute, Dataset, Fault)}
    definitions = {name: each for part in parts.values() for name, each in part.pop("$defs", {}).items()}
    named = {"anyOf": [{"enum": sorted(SHORT_NAMES)}, {"type": "string", "pattern": ":"}, {"$ref": "#/$defs/Select"}]}
    parts[Channel]["properties"]["select"] = {"type": "object", "additionalProperties": named}
    count = {"type": "integer", "minimum": 1}
    dataset = _without(parts[Dataset], "role", "group")
    counted = _without(dataset, "id")
    counted = {**counted, "properties": {"count": count, **counted["properties"]}, "required": ["count"]}
    listed = {"type": "array", "items": {"anyOf": [{"type": "string"}, dataset]}}
    by_group = {"type": "object", "additionalProperties": {"anyOf": [count, listed, counted]}}
    properties = {
        "schema": {"const": SCHEMA},
        "name": {"type": "string"},
        "roles": _by_name(_without(parts[Role], "name")),
        "channels": _by_name(_without(parts[Channel], "name")),
        "datasets": {"type": "object", "additionalProperties": by_group},
        "computes": _by_name(_without(parts[Compute], "id")),
        "faults": {"type": "array", "items": {**parts[Fault], "additionalProperties": False}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": ["schema", "roles"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _by_name(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"anyOf": [schema, {"type": "null"}]}}


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
