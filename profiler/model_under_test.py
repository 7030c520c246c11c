"""The model under test: the subnets of a supernet on a device, and the stages around their forward pass."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from profiler.schedule import NotANumberError
from profiler.table import STAGE
from sim.base.errors import DataError
from supernet.statistics import calibrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.torch_meter import Options
    from supernet.family import Family
    from supernet.network import Supernet

COPIES = ("h2d_copy", "d2h_copy")
"""The stages that exist only on devices with their own memory."""

_CALIBRATION_BATCH = 32
"""Random examples for the statistics of uncalibrated subnets, whose values do not influence the latency."""


class SupernetUnderTest:
    """A supernet on a device, and batches of random numbers for it.

    Args:
        supernet: Is moved to the device, and converted to the options' type and layout.
        family: Gives example inputs.
        device: The device to measure.
        options: Precision, layout and the like.
        size: The side of images or the length of texts; None for the family's default.

    Raises:
        DataError: Weights or statistics are too large for the type.
    """

    def __init__(
        self, supernet: Supernet, family: Family, device: torch.device, options: Options, size: int | None = None
    ) -> None:
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self._dtype, self._device = options.dtype, device
        _check_range(supernet, self._dtype)
        to: Any = supernet.eval().to  # its annotations leave out layouts
        self._supernet: Supernet = to(device=device, dtype=self._dtype, memory_format=self._layout)
        self._supernet.cache_bytes = sys.maxsize if options.contiguous else 0
        self._ready: set[str] = set()
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
        """Return the names of the stages around the forward pass on this device, in order."""
        return tuple(name for name in self._stages if self._device.type != "cpu" or name not in COPIES)

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet by its id, or a stage, ready to run.

        Raises:
            SpecError: The subnet is unknown.
            NotANumberError: Its activations are not finite.
        """
        if name.startswith(STAGE):
            return self._stages[name.removeprefix(STAGE)]
        if name in self._ready:
            return self._supernet.actuate(name)
        if self._supernet.assembly.norms and name not in self._supernet.calibrated:
            try:
                calibrate(self._supernet, name, [self._batch(_CALIBRATION_BATCH)])
            except DataError as error:
                raise NotANumberError(
                    name, "the result contains NaN or infinity", "", "its latency is meaningless"
                ) from error
        self._ready.add(name)
        return self._supernet.actuate(name)

    def inputs(self, name: str, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return a batch for a subnet or a stage, on its device."""
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
        """Return the network's input for a request: images become normalised floats."""
        return tuple(self._normalised(part) if part.dtype == torch.uint8 else part for part in raw)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        layout = self._layout if images.dim() == 4 else torch.contiguous_format  # noqa: PLR2004 - batch, channels, two sides
        return images.to(self._dtype, memory_format=layout).div_(127.5).sub_(1)

    def _h2d_copy(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part.to(self._device) for part in parts)

    def _postprocess(self, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the probability of the most likely class, and the class."""
        return tuple(functional.softmax(logits.float(), 1).max(1))

    def _d2h_copy(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part.cpu() for part in parts)


def _check_range(supernet: Supernet, dtype: torch.dtype) -> None:
    """Check that weights and statistics fit into a type: in fp16, a larger one would become infinite without an error.

    Raises:
        DataError: One does not.
    """
    largest = torch.finfo(dtype).max
    statistics = ((f"statistics of {name}", supernet.statistics_of(name)) for name in supernet.calibrated)
    for name, tensor in chain(supernet.named_parameters(), supernet.named_buffers(), statistics):
        beyond = (tensor.abs() > largest) & tensor.isfinite() if tensor.is_floating_point() else tensor.new_zeros(1)
        if beyond.any():
            value = f"{int(beyond.sum())} of {tensor.numel()} values are above {largest:g}"
            raise DataError(name, f"overflows in {dtype}".replace("torch.", ""), value, "bf16 or fp32")


def _raw(part: torch.Tensor) -> torch.Tensor:
    """Return random input as a client sends it: bytes for an image, token ids for a text."""
    if not part.is_floating_point():
        return part
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, part.shape, dtype=torch.uint8, generator=generator)
