"""What an experiment file says of live runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sim.base.parameters import NonNegativeInt, PositiveInt
from ssim.files.model import Closed


class RemoteSpec(Closed):
    """Workers of a live run that come from other machines: `ssim worker` there."""

    listen: str = "127.0.0.1:8002"
    """Where the router waits for them, HOST:PORT; beyond this machine it needs `cert` and `key`, or `insecure`."""
    cert: str | None = None
    """Certificate chain for TLS, a PEM file: what each side shows the other."""
    key: str | None = None
    """Private key of the certificate, a PEM file."""
    ca: str | None = None
    """What signs the certificates of the other side, a PEM file; `cert` itself if left out."""
    insecure: bool = False
    """Whether to go beyond this machine without TLS: then any process that reaches the port may join."""
    placement: Literal["hand", "ray"] = "hand"
    """Who starts the workers: somebody by `hand`, or `ray` on its cluster, which starts lost ones again."""
    address: str | None = None
    """The Ray cluster: host:port, ray://host:port or auto; that of RAY_ADDRESS, or a new one here, if left out."""


class LiveSpec(Closed):
    """How `ssim run --live` serves the trace; a simulation takes no notice of it."""

    workers: Literal["paced", "torch"] = "paced"
    """The kind of workers: `paced` ones take the time that the latency table gives, and compute nothing; `torch` ones
    run the subnets of a supernet."""
    supernet: str | None = None
    """What torch workers run: the folder of a training, a checkpoint, a family, or module:name of your own."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the family, if `supernet` is one."""
    device: Literal["cpu"] | NonNegativeInt = "cpu"
    """Device of torch workers: `cpu`, or the number of a GPU."""
    threads: PositiveInt | None = None
    """Threads of each torch worker on the CPU; if left out, all cores but one divided among the workers."""
    size: PositiveInt | None = None
    """Side of images in pixels, or length of texts in tokens; as trained if left out."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Data type of weights and inputs."""
    queue: PositiveInt = 10_000
    """Queries that may wait; any more are rejected."""
    remote: RemoteSpec | None = None
    """Workers come from other machines, instead of being started on this one."""
