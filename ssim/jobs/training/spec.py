"""The training file: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of data sources, families, optimizers and rules are not repeated here: they are the fields of those classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import Positive, PositiveInt
from ssim.files.model import Closed, JobSpec

_Share = Annotated[float, Field(ge=0, le=1)]
_Spread = Annotated[int, Field(ge=2)]


class StartSpec(Closed):
    """Weights to begin with: a checkpoint of a supernet, or weights of others under their original names."""

    path: str
    """The file, relative to this one; environment variables are put in."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 that the file must have."""
    fresh: tuple[str, ...] = ()
    """Prefixes of parameters that the file need not have; they start at random."""


class PhaseSpec(Closed):
    """A phase of the training; see `supernet.training.recipe.Phase`."""

    epochs: Positive
    """Length in epochs."""
    rate: Positive
    """Highest learning rate."""
    warmup: _Share = 0.05
    """Share of the phase in which the learning rate rises."""
    depths: PositiveInt | None = None
    """Number of depths to choose from, the largest first; all if left out."""
    expands: PositiveInt | None = None
    """Number of expand ratios to choose from, the largest first; all if left out."""
    widths: PositiveInt | None = None
    """Number of widths to choose from, the largest first; all if left out."""
    subnets: dict[str, Any] = Field(default_factory=lambda: {"kind": "sandwich"})
    """The rule that picks the subnets of a step: `kind`, and its parameters."""
    rewire: bool = False
    """Sort units by importance before the phase, so that the most important ones are kept longest."""


class CalibrationSpec(Closed):
    """What running statistics are taken from, and which subnets get them after training."""

    examples: Annotated[int, Field(ge=2)] = 2048
    """Number of training examples to take running statistics from."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Batch size of calibration."""
    subnets: _Spread | Annotated[tuple[str, ...], Field(min_length=1)] = 6
    """Number of subnets, spread from the smallest to the largest, or a list of their ids."""


class LatencySpec(Closed):
    """A latency table, and the batch size whose latency is meant."""

    table: str
    """A shipped name, or a file relative to this one."""
    batch: PositiveInt = 1
    """Batch size."""


class SearchSpec(Closed):
    """What a search looks for: accuracy at the least MACs, or at the least latency if there is a table."""

    subnets: _Spread = 6
    """Number of subnets to find."""
    measured: Annotated[int, Field(ge=20)] = 200
    """Number of subnets whose accuracy is measured."""
    predict: bool = True
    """Predict the accuracy of others from the measured ones."""
    evaluations: PositiveInt = 5000
    """Number of predicted accuracies."""
    population: Annotated[int, Field(ge=4)] = 64
    """Population of the evolutionary search."""
    latency: LatencySpec | None = None
    """Cost of a subnet: its latency in this table; its MACs if left out."""


class TrainingSpec(JobSpec):
    """One supernet: its data, its family, how it is trained, and what is done with it afterwards."""

    schema_: Literal["training/1"] = Field(alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]  # frozen
    """What kind of file this is."""
    data: dict[str, Any]
    """The data source: `kind`, and its parameters."""
    family: dict[str, Any]
    """The family of supernets: `kind`, and its parameters."""
    start: StartSpec | None = None
    """Weights to begin with; random ones if left out."""
    batch: PositiveInt
    """Batch size of the training."""
    optimizer: dict[str, Any]
    """The optimizer: `kind`, and its parameters."""
    loss: str = "cross_entropy"
    """A loss of torch.nn.functional by its name, or module:function of your own."""
    metric: str | None = None
    """What subnets are scored by, in percent: `accuracy`, `r2` of a regression, or module:function of your own."""
    smoothing: _Share = 0.0
    """Label smoothing, from 0 to 1."""
    clip: Positive | None = None
    """Largest norm of the gradient; not clipped if left out."""
    phases: tuple[PhaseSpec, ...]
    """The phases of the training, in their order."""
    calibration: CalibrationSpec
    """What is calibrated after training."""
    search: SearchSpec
    """What `ssim supernet search` looks for."""
