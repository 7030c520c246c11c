"""What is measured: the subnets of a supernet on a device, and the work around their forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from profiler.schedule import NotANumberError
from profiler.table import STAGE
from profiler.torch_meter import DTYPES
from sim.base.errors import DataError
from supernet.statistics import calibrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.torch_meter import Options
    from supernet.family import Family
    from supernet.network import Supernet

COPIES = ("h2d_copy", "d2h_copy")
"""Stages that there are only where the device has a memory of its own."""

_CALIBRATED_ON = 32
"""Random examples that statistics are taken of where a subnet has none: what they are is no matter of time."""


class SupernetUnderTest:
    """A supernet on a device, and batches of random numbers for it.

    Args:
        supernet: Is moved to the device, and to the options' precision and layout.
        family: Says what it is called with.
        device: Where it runs.
        options: How.
        size: The side of images or the length of texts; None for the family's usual one.
    """

    def __init__(
        self, supernet: Supernet, family: Family, device: torch.device, options: Options, size: int | None = None
    ) -> None:
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self._dtype, self._device = DTYPES[options.precision], device
        to: Any = supernet.eval().to  # its annotations leave out layouts
        self._supernet: Supernet = to(device=device, dtype=self._dtype, memory_format=self._layout)
        self._family, self._size = family, size or family.default_size
        self._stages: dict[str, Callable[..., object]] = {
            "preprocess": self._preprocess,
            "h2d_copy": self._h2d_copy,
            "postprocess": self._postprocess,
            "d2h_copy": self._d2h_copy,
        }

    @property
    def size(self) -> int:
        """The side of images or the length of texts."""
        return self._size

    def stages(self) -> tuple[str, ...]:
        """Return the names of the stages around the forward pass that there are on this device, in their order."""
        return tuple(name for name in self._stages if self._device.type != "cpu" or name not in COPIES)

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet by its id, or a stage, ready to run.

        Raises:
            SpecError: There is no such subnet.
            NotANumberError: Its activations are no finite numbers.
        """
        if name.startswith(STAGE):
            return self._stages[name.removeprefix(STAGE)]
        if self._supernet.assembly.norms and name not in self._supernet.calibrated:
            try:
                calibrate(self._supernet, name, [self._batch(_CALIBRATED_ON)])
            except DataError as error:
                raise NotANumberError(name, "gives NaN or infinity", "", "its latency would say nothing") from error
        return self._supernet.actuate(name)

    def inputs(self, name: str, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return a batch for a subnet or a stage, where and as it expects it."""
        stage = name.removeprefix(STAGE) if name.startswith(STAGE) else ""
        if stage == "preprocess":
            return tuple(_raw(part) for part in self._family.example(batch_size, self._size))
        if stage == "h2d_copy":
            return tuple(part.cpu() for part in self._batch(batch_size))
        if stage:
            with torch.inference_mode():
                logits: Any = self.network(self._supernet.space.smallest.id)(*self._batch(batch_size))
            return (logits,) if stage == "postprocess" else self._postprocess(logits)
        return self._batch(batch_size)

    def _batch(self, size: int) -> tuple[torch.Tensor, ...]:
        parts = (self._preprocess(_raw(part))[0] for part in self._family.example(size, self._size))
        return tuple(part.to(self._device) for part in parts)

    def _preprocess(self, *raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the network takes of what comes in: images as bytes become normalised numbers."""
        return tuple(self._normalised(part) if part.dtype == torch.uint8 else part for part in raw)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        layout = self._layout if images.dim() == 4 else torch.contiguous_format  # noqa: PLR2004 - batch, channels, two sides
        return images.to(self._dtype, memory_format=layout).div_(127.5).sub_(1)

    def _h2d_copy(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part.to(self._device) for part in parts)

    def _postprocess(self, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the probability of the likeliest class, and the class."""
        return tuple(functional.softmax(logits.float(), 1).max(1))

    def _d2h_copy(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part.cpu() for part in parts)


def _raw(part: torch.Tensor) -> torch.Tensor:
    """Return random input as a client sends it: bytes for an image, whole numbers for a text as they are."""
    if not part.is_floating_point():
        return part
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, part.shape, dtype=torch.uint8, generator=generator)
