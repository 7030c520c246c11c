"""The JSON Schemas of experiment and training files, made from the models and the parameters of what is plugged in."""

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
    from ssim.training_file import FAMILY_NAMES
    from ssim.training_spec import FILLED_IN, TrainingSpec

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
