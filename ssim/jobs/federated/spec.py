"""The file of a federated training: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of what can be plugged in are not repeated here: they are the fields of those classes. What belongs to a role
or a channel stands in the topology, and can be changed under `topology`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import Positive, PositiveInt
from ssim.files.model import Closed, JobSpec
from ssim.jobs.training.spec import CalibrationSpec


class TopologySpec(Closed):
    """A topology file, and what is different here: put into the file's content, mapping by mapping."""

    use: str
    """A shipped name, or a file relative to this one."""
    roles: dict[str, Any] = Field(default_factory=dict)
    """Roles by name, as in a topology file."""
    channels: dict[str, Any] = Field(default_factory=dict)
    """Channels by name, as in a topology file."""
    datasets: dict[str, Any] = Field(default_factory=dict)
    """Data sets by role and group, as in a topology file."""
    computes: dict[str, Any] = Field(default_factory=dict)
    """Machines by name, as in a topology file."""
    faults: tuple[dict[str, Any], ...] | None = None
    """Faults to inject, in place of those of the topology file."""


class EvaluationSpec(Closed):
    """How often accuracy is measured during training, on validation examples, and of how many subnets."""

    every: PositiveInt = 1
    """Rounds from one evaluation to the next."""
    subnets: PositiveInt = 1
    """Number of subnets: 1 is the largest, more are spread from the smallest to the largest."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each client's examples that is kept for its own accuracy; a client with `ref` has a test split."""


class FederatedSpec(JobSpec):
    """One federated training: its topology, its data, what is trained and how."""

    schema_: Literal["federated/1"] = Field(alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]  # frozen
    """What kind of file this is."""
    topology: TopologySpec
    """Roles, channels and data sets."""
    engine: Literal["sim", "local", "ray"] = "sim"
    """Where it runs: `sim` in virtual time, `local` in this process, `ray` on a Ray cluster."""
    patience_s: Positive | None = None
    """Seconds after which a wait without a timeout of its own fails; the engine's default if left out."""
    data: dict[str, Any]
    """The data source: `kind`, and its parameters."""
    partition: dict[str, Any]
    """Partition of the examples among the clients: `kind`, and its parameters."""
    family: dict[str, Any]
    """The family of supernets: `kind`, and its parameters."""
    algorithm: dict[str, Any]
    """The federated algorithm: `kind`, and its parameters."""
    subnets: dict[str, Any]
    """Assignment of subnets to clients: `kind`, and its parameters."""
    maxnet: dict[str, Any] | None = None
    """Weight of the largest subnet in the mean."""
    privacy: dict[str, Any] | None = None
    """Clipping and noise."""
    compression: dict[str, Any] | None = None
    """Compression of client updates: `kind`, and its parameters."""
    aggregation: dict[str, Any] | None = None
    """The rule that replaces the mean of the updates: `kind`, and its parameters."""
    personal: tuple[str, ...] = ()
    """Patterns of names of parameters that stay with each client, such as `*.bn*.*`."""
    loss: str = "cross_entropy"
    """A loss of torch.nn.functional by its name, or module:function of your own, which clients minimize."""
    metric: str | None = None
    """What models are scored by, in percent: `accuracy`, `r2` of a regression, or module:function of your own."""
    rounds: PositiveInt
    """Number of rounds."""
    vectorized: bool = False
    """Whether clients with the same model and number of examples train as one computation; equal up to rounding."""
    checkpoint: Annotated[int, Field(ge=1)] | None = 10
    """Rounds from one checkpoint to the next; `null` for none."""
    gmacs_per_s: Positive = 1.0
    """Billions of multiply-accumulate operations that a machine of speed 1 does in a second of virtual time."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What is measured during training."""
    calibration: CalibrationSpec = CalibrationSpec()
    """What is calibrated after training."""
