"""A meter for real devices: runs networks with torch and reads the clocks; the schedule makes all decisions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from profiler.schedule import DeviceError, NotANumberError, OutOfMemoryError
from profiler.trial import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.grid import Cell, DeviceState

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_FLUSH_BYTES = 256 * 2**20
"""Larger than any cache."""


@dataclass(frozen=True, slots=True)
class Options:
    """How networks run; stored in a table's provenance.

    Attributes:
        precision: Of weights and activations.
        channels_last: Whether images and convolutions use the channels-last layout.
        compiled: Whether networks are compiled by `torch.compile`.
        cuda_graph: Whether a batch is captured once and replayed, without launch overhead.
        flush_cache: Whether the device's caches are emptied before each run.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compiled: bool = False
    cuda_graph: bool = False
    flush_cache: bool = False


class ModelUnderTest(Protocol):
    """The networks of cells on the device, and their inputs."""

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet, or a stage around it, ready to run."""
        ...

    def inputs(self, name: str, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return a batch for it, on its device."""
        ...


class TorchMeter:
    """Runs the cells of a model under test on one device.

    The wall clock runs from the call to the end of the work on the device, including launch overhead: the time that a
    server waits. The device time is that between two events around the call, on devices with events.
    """

    def __init__(
        self, model: ModelUnderTest, device: torch.device, options: Options, device_state: Callable[[], DeviceState]
    ) -> None:
        self._model, self._device, self._options = model, device, options
        self.device_state = device_state
        self._has_events = device.type != "cpu"
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._scratch: torch.Tensor | None = None

    def now_ns(self) -> int:
        """Return the current time."""
        return time.perf_counter_ns()

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that runs a cell once; the first run happens here, and its result is checked.

        Raises:
            OutOfMemoryError: The batch does not fit.
            NotANumberError: The result contains NaN or infinity.
            DeviceError: The device was lost.
        """
        where = f"{cell.subnet}, batch {cell.batch_size}"
        try:
            with torch.inference_mode():
                call = self._call(cell, where)
        except torch.OutOfMemoryError as error:
            torch.accelerator.empty_cache() if self._has_events else None
            raise OutOfMemoryError(where, "does not fit into the memory of the device", str(self._device)) from error
        except MemoryError as error:
            raise OutOfMemoryError(where, "does not fit into memory") from error
        except RuntimeError as error:
            if "allocate memory" in str(error):  # torch's CPU allocator has no error class of its own
                raise OutOfMemoryError(where, "does not fit into memory") from error
            raise DeviceError(str(self._device), f"failed at {where}", str(error).splitlines()[0]) from error
        return lambda: self._timed(call, where)

    def _call(self, cell: Cell, where: str) -> Callable[[], object]:
        """Return a call that runs a cell, after one run."""
        network: Callable[..., Any] = self._network(cell.subnet)
        inputs = self._model.inputs(cell.subnet, cell.batch_size)
        result = network(*inputs)
        self._synchronize()
        if not _finite(result):
            raise NotANumberError(where, "the result contains NaN or infinity", "", "its latency is meaningless")
        if not self._options.cuda_graph or self._device.type != "cuda":
            return lambda: network(*inputs)
        graph = torch.cuda.CUDAGraph()
        network(*inputs)  # warm up before the capture
        with torch.cuda.graph(graph):
            network(*inputs)
        return graph.replay

    def _network(self, name: str) -> Callable[..., Any]:
        network = self._model.network(name)
        if not self._options.compiled:
            return network
        if name not in self._compiled:
            self._compiled[name] = torch.compile(network)
        return self._compiled[name]

    def _timed(self, call: Callable[[], object], where: str) -> Sample:
        try:
            if self._options.flush_cache:
                self._flush()
            with torch.inference_mode():
                return self._with_events(call) if self._has_events else self._by_the_wall(call)
        except RuntimeError as error:
            raise DeviceError(str(self._device), f"failed at {where}", str(error).splitlines()[0]) from error

    def _by_the_wall(self, call: Callable[[], object]) -> Sample:
        begin = time.perf_counter_ns()
        call()
        return Sample(max(1, time.perf_counter_ns() - begin))

    def _with_events(self, call: Callable[[], object]) -> Sample:
        start, end = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        begin = time.perf_counter_ns()
        start.record()
        call()
        end.record()
        self._synchronize()
        wall_ns = time.perf_counter_ns() - begin
        return Sample(wall_ns, max(1, round(start.elapsed_time(end) * 1e6)))

    def _synchronize(self) -> None:
        if self._has_events:
            torch.accelerator.synchronize(self._device)

    def _flush(self) -> None:
        if self._scratch is None:
            self._scratch = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=self._device)
        self._scratch.zero_()
        self._synchronize()


def _finite(result: object) -> bool:
    """Return whether all tensors of a result are finite."""
    if isinstance(result, torch.Tensor):
        return not result.is_floating_point() or bool(result.isfinite().all())
    if isinstance(result, dict):
        return all(map(_finite, result.values()))
    return all(map(_finite, result)) if isinstance(result, tuple | list) else True
