"""The model under test: the subnets of a supernet on a device, and the stages around their forward pass."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from profiler.schedule import NotANumberError, OutOfMemoryError
from profiler.stages import ServerStages
from profiler.table import STAGE
from profiler.torch_meter import is_out_of_memory
from sim.base.errors import DataError
from supernet.statistics import calibrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.torch_meter import Options
    from supernet.family import Family
    from supernet.network import Supernet

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
        OutOfMemoryError: The supernet does not fit into the memory of the device.
    """

    def __init__(
        self, supernet: Supernet, family: Family, device: torch.device, options: Options, size: int | None = None
    ) -> None:
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self._dtype, self._device = options.dtype, device
        _check_range(supernet, self._dtype)
        to: Any = supernet.eval().to  # its annotations leave out layouts
        try:
            self._supernet: Supernet = to(device=device, dtype=self._dtype, memory_format=self._layout)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            weights = f"{sum(part.nbytes for part in supernet.parameters()) / 2**30:.2f} GiB in fp32"
            raise OutOfMemoryError("supernet", f"does not fit into the memory of {device}", weights) from error
        self._supernet.cache_bytes = sys.maxsize if options.contiguous else 0
        self._ready: set[str] = set()
        self._family, self._size = family, size or family.default_size
        self.stages = ServerStages(lambda batch: family.example(batch, self._size), device, self._dtype, self._layout)
        """The stages around the forward pass."""

    @property
    def size(self) -> int:
        """The side of images or the length of texts."""
        return self._size

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet by its id, or a stage, ready to run.

        Raises:
            SpecError: The subnet is unknown.
            NotANumberError: Its activations are not finite.
        """
        if name.startswith(STAGE):
            return self.stages.run[name.removeprefix(STAGE)]
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

    def inputs(self, name: str, batch_size: int) -> tuple[Any, ...]:
        """Return a batch for a subnet or a stage, where it runs."""
        if not name.startswith(STAGE):
            return self._batch(batch_size)

        def logits(size: int) -> Any:
            return self.network(self._supernet.space.smallest.id)(*self._batch(size))

        return self.stages.inputs(name.removeprefix(STAGE), batch_size, logits)

    def _batch(self, size: int) -> tuple[torch.Tensor, ...]:
        """Return a batch as the stages before the forward pass give it."""
        return self.stages.preprocess(*(part.to(self._device) for part in self.stages.raw(size)))


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
