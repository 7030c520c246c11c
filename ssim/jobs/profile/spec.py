"""The file of a profile: one frozen model, with the names of the YAML in the order of the YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import NonNegativeInt, Positive, PositiveInt
from ssim.files.model import JobSpec


class ProfileSpec(JobSpec):
    """One profile: a supernet, a device, and how closely its latencies are measured."""

    schema_: Literal["profile/1"] = Field(alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]  # frozen
    """What kind of file this is."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the order of measurements, and of random weights."""
    supernet: str
    """A family or module:name of your own (random weights take as long as trained ones), a checkpoint, or the folder of
    a training run."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the family."""
    device: Literal["cpu"] | NonNegativeInt = "cpu"
    """Device: `cpu`, or the number of a GPU."""
    subnets: str | None = None
    """Subnets and their accuracies: a file of a training, a CSV (subnet,accuracy), a latency table, a number of subnets
    or their ids; those beside the supernet if left out."""
    max_batch: PositiveInt = 16
    """Largest batch size; powers of two below it are measured."""
    batches: tuple[PositiveInt, ...] = ()
    """Further batch sizes to measure."""
    size: PositiveInt | None = None
    """Side of images in pixels, or length of texts in tokens; as trained if left out."""
    stages: bool = False
    """Measure copies, pre- and post-processing, too."""
    minutes: Positive = 5.0
    """Longest time to measure, in minutes."""
    precision: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Relative half-width of a median's 95 % interval at which a latency is known."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Data type of weights and inputs."""
    autocast: bool = False
    """Keep weights in fp32, and let torch.autocast choose where to compute in `dtype`."""
    channels_last: bool = False
    """Lay out images with channels last."""
    compile: bool = False
    """Run subnets through torch.compile."""
    compile_mode: Literal[
        "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "ahead-of-time"
    ] = "default"
    """Mode of torch.compile; ahead-of-time is AOTInductor, which runs without Python."""
    cuda_graph: bool = False
    """Capture each batch once and replay it: no launch overhead."""
    contiguous: bool = False
    """Run subnets on contiguous copies of sliced weights, instead of views of the shared weights."""
    flush_cache: bool = False
    """Empty the device's caches before each run."""
