"""The file of a federated training: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of what can be plugged in are not repeated here: they are the fields of those classes. What belongs to a role
or a channel stands in the topology, and can be changed under `topology`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import Positive, PositiveInt
from ssim.jobs.experiment.spec import Closed, Name, Seed
from ssim.jobs.training.spec import CalibrationSpec


class TopologySpec(Closed):
    """A topology file, and what is different here: put into the file's content, mapping by mapping."""

    use: str
    roles: dict[str, Any] = Field(default_factory=dict)
    channels: dict[str, Any] = Field(default_factory=dict)
    datasets: dict[str, Any] = Field(default_factory=dict)
    computes: dict[str, Any] = Field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] | None = None


class EvaluationSpec(Closed):
    """How often accuracy is measured on the way, on examples for validation, and of how many subnets.

    One subnet is the largest; more are spread from the smallest to the largest.
    """

    every: PositiveInt = 1
    subnets: PositiveInt = 1


class FederatedSpec(Closed):
    """One federated training: its topology, its data, what is trained and how."""

    schema_: Literal["federated/1"] = Field(alias="schema")
    name: Name
    seed: Seed
    repeats: PositiveInt = 1
    topology: TopologySpec
    engine: Literal["sim", "local", "ray"] = "sim"
    patience_s: Positive | None = None
    data: dict[str, Any]
    partition: dict[str, Any]
    family: dict[str, Any]
    algorithm: dict[str, Any]
    subnets: dict[str, Any]
    maxnet: dict[str, Any] | None = None
    privacy: dict[str, Any] | None = None
    compression: dict[str, Any] | None = None
    rounds: PositiveInt
    checkpoint: Annotated[int, Field(ge=1)] | None = 10
    gmacs_per_s: Positive = 1.0
    evaluation: EvaluationSpec = EvaluationSpec()
    calibration: CalibrationSpec = CalibrationSpec()


KINDS = ("data", "partition", "family", "algorithm", "subnets", "compression")
"""The sections whose class is named by `kind`; `digits` is short for `{kind: digits}`."""

FILLED_IN: dict[str, Any] = {
    "partition": "iid",
    "algorithm": "fedavg",
    "subnets": "largest",
    "evaluation": {},
    "calibration": {},
}
"""What a file has where it does not say."""


def written_out(data: Any) -> Any:
    """Return the content of a file with its short forms written out."""
    if not isinstance(data, dict):
        return data
    full = {**FILLED_IN, **data}
    full |= {key: {"kind": full[key]} for key in KINDS if isinstance(full.get(key), str)}
    if isinstance(full.get("topology"), str):
        full["topology"] = {"use": full["topology"]}
    return full
