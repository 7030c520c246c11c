"""The training file: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of data sources, families, optimizers and rules are not repeated here: they are the fields of those classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import Positive, PositiveInt
from ssim.jobs.experiment.spec import Closed, Name, Seed

_Share = Annotated[float, Field(ge=0, le=1)]
_Spread = Annotated[int, Field(ge=2)]


class StartSpec(Closed):
    """Weights to begin with: a checkpoint of a supernet, or weights of others under their original names."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    fresh: tuple[str, ...] = ()


class PhaseSpec(Closed):
    """A part of the training; see `supernet.training.recipe.Phase`."""

    epochs: Positive
    rate: Positive
    warmup: _Share = 0.05
    depths: PositiveInt | None = None
    expands: PositiveInt | None = None
    widths: PositiveInt | None = None
    subnets: dict[str, Any] = Field(default_factory=lambda: {"kind": "sandwich"})
    rewire: bool = False


class CalibrationSpec(Closed):
    """What running statistics are taken from, and which subnets get them after training: so many, or these."""

    examples: Annotated[int, Field(ge=2)] = 2048
    batch: Annotated[int, Field(ge=2)] = 128
    subnets: _Spread | Annotated[tuple[str, ...], Field(min_length=1)] = 6


class LatencySpec(Closed):
    """A latency table, a shipped name or a file, and the batch size whose latency is meant."""

    table: str
    batch: PositiveInt = 1


class SearchSpec(Closed):
    """What a search looks for, and how long: accuracy at the least MACs, or at the least latency if there is a table.

    With `predict`, `measured` subnets are measured, and the accuracy of `evaluations` more is foreseen from these.
    Without, all that are looked at are measured.
    """

    subnets: _Spread = 6
    measured: Annotated[int, Field(ge=20)] = 200
    predict: bool = True
    evaluations: PositiveInt = 5000
    population: Annotated[int, Field(ge=4)] = 64
    latency: LatencySpec | None = None


class TrainingSpec(Closed):
    """One supernet: its data, its family, how it is trained, and what is done with it afterwards."""

    schema_: Literal["training/1"] = Field(alias="schema")
    name: Name
    seed: Seed
    repeats: PositiveInt = 1
    data: dict[str, Any]
    family: dict[str, Any]
    start: StartSpec | None = None
    batch: PositiveInt
    optimizer: dict[str, Any]
    smoothing: _Share = 0.0
    clip: Positive | None = None
    phases: tuple[PhaseSpec, ...]
    calibration: CalibrationSpec
    search: SearchSpec


FILLED_IN: dict[str, Any] = {"optimizer": "sgd", "calibration": {}, "search": {}}
"""What a file has where it does not say."""


def written_out(data: Any) -> Any:
    """Return the content of a training file with its short forms written out: `digits` is `{kind: digits}`."""
    if not isinstance(data, dict):
        return data
    full = {**FILLED_IN, **data}
    full |= {key: _kind(full[key]) for key in ("data", "family", "optimizer") if key in full}
    if isinstance(full.get("phases"), list):
        full["phases"] = [
            {**phase, "subnets": _kind(phase["subnets"])} if isinstance(phase, dict) and "subnets" in phase else phase
            for phase in full["phases"]
        ]
    return full


def _kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value
