"""A real device as a meter: runs networks with torch and reads the clocks. It is thin: others decide."""

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
"""More than any cache holds."""


@dataclass(frozen=True, slots=True)
class Options:
    """How networks are run; all of it stands in a table's provenance.

    Attributes:
        precision: Of weights and activations.
        channels_last: Whether images and convolutions are laid out with channels last.
        compiled: Whether networks go through `torch.compile`.
        cuda_graph: Whether a batch is captured once and replayed: no launch overhead is left then.
        flush_cache: Whether the device's caches are emptied before each run.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compiled: bool = False
    cuda_graph: bool = False
    flush_cache: bool = False


class ModelUnderTest(Protocol):
    """What is measured: the networks of cells, on the device, and what they are called with."""

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet, or one of the stages around it, ready to run."""
        ...

    def inputs(self, name: str, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return a batch for it, where it expects it."""
        ...


class TorchMeter:
    """Runs the cells of a subject on one device.

    The wall clock goes from the call to the end of the work on the device, launch overhead included: what a server
    waits for. The device's own time is that between two events around the call, where it has events.
    """

    def __init__(
        self, subject: ModelUnderTest, device: torch.device, options: Options, condition: Callable[[], DeviceState]
    ) -> None:
        self._subject, self._device, self._options = subject, device, options
        self.state = condition
        self._has_events = device.type != "cpu"
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._scratch: torch.Tensor | None = None

    def now_ns(self) -> int:
        """Return the time."""
        return time.perf_counter_ns()

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that runs a cell once; the first run is done here, and its result looked at.

        Raises:
            OutOfMemoryError: The batch does not fit.
            NotANumberError: The result has NaN or infinity.
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
            if "allocate memory" in str(error):  # torch's allocator on the CPU has no error of its own
                raise OutOfMemoryError(where, "does not fit into memory") from error
            raise DeviceError(str(self._device), f"failed at {where}", str(error).splitlines()[0]) from error
        return lambda: self._timed(call, where)

    def _call(self, cell: Cell, where: str) -> Callable[[], object]:
        """Return what runs a cell, after it has run once."""
        network: Callable[..., Any] = self._network(cell.subnet)
        inputs = self._subject.inputs(cell.subnet, cell.batch_size)
        result = network(*inputs)
        self._synchronize()
        if not _finite(result):
            raise NotANumberError(where, "gives NaN or infinity", "", "its latency would say nothing")
        if not self._options.cuda_graph or self._device.type != "cuda":
            return lambda: network(*inputs)
        graph = torch.cuda.CUDAGraph()
        network(*inputs)  # warm-up on the way that capture takes
        with torch.cuda.graph(graph):
            network(*inputs)
        return graph.replay

    def _network(self, name: str) -> Callable[..., Any]:
        network = self._subject.network(name)
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
    """Return whether all numbers of a result are finite; of a structure, its tensors."""
    if isinstance(result, torch.Tensor):
        return not result.is_floating_point() or bool(result.isfinite().all())
    if isinstance(result, dict):
        return all(map(_finite, result.values()))
    return all(map(_finite, result)) if isinstance(result, tuple | list) else True
