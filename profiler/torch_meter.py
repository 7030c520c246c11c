"""A meter for real devices: runs networks with torch and reads the clocks; the schedule makes all decisions."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from torch.utils._pytree import tree_leaves

from profiler.compiling import CompileMode, ahead_of_time, compiled_whole
from profiler.device_use import busy_time, energy_per_run
from profiler.grid import DeviceUse
from profiler.schedule import DeviceError, NotANumberError, NotCompiledError, OutOfMemoryError
from profiler.table import STAGE
from profiler.trial import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sim.base.errors import SsimError

    _T = TypeVar("_T")

    from profiler.grid import Cell, DeviceState

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_FLUSH_BYTES = 256 * 2**20
"""Larger than any cache."""

_FILLER_SIDE = 1024
"""Side of the matrices whose product keeps a device busy for a moment."""


@dataclass(frozen=True, slots=True)
class Options:
    """How networks run; stored in a table's provenance.

    Attributes:
        precision: Of weights and activations; with autocast, of the operators that are safe in it.
        channels_last: Whether images and convolutions use the channels-last layout.
        compiled: Whether networks are compiled by `torch.compile`.
        cuda_graph: Whether a batch is captured once and replayed, without launch overhead.
        flush_cache: Whether the device's caches are emptied before each run.
        autocast: Whether weights stay fp32, and `torch.autocast` chooses the precision of each operator.
        compile_mode: The mode of `torch.compile`, or "ahead-of-time" for AOTInductor.
        contiguous: Whether subnets run on contiguous copies of sliced weights instead of views.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compiled: bool = False
    cuda_graph: bool = False
    flush_cache: bool = False
    autocast: bool = False
    compile_mode: CompileMode = "default"
    contiguous: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and inputs."""
        return torch.float32 if self.autocast else DTYPES[self.precision]


class ModelUnderTest(Protocol):
    """The networks of cells on the device, and their inputs."""

    def network(self, name: str) -> Callable[..., object]:
        """Return a subnet, or a stage around it, ready to run."""
        ...

    def inputs(self, name: str, batch_size: int) -> tuple[Any, ...]:
        """Return a batch for it, where it runs."""
        ...


class TorchMeter:
    """Runs the cells of a model under test on one device.

    The wall clock runs from the call to the end of the work on the device, including launch overhead: the time that a
    server waits. The device time is that between two events around the call, on devices with events; where launches are
    slower than the work, it includes the gaps between them; `device_use` has it without.

    Args:
        model: The networks and their inputs.
        device: The device.
        options: How networks run.
        device_state: Reads the state of the device.
        energy_mj: Reads the energy that the device has used, in millijoules; None if it does not count it.
    """

    def __init__(
        self,
        model: ModelUnderTest,
        device: torch.device,
        options: Options,
        device_state: Callable[[], DeviceState],
        energy_mj: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._model, self._device, self._options = model, device, options
        self.device_state = device_state
        self._energy_mj = energy_mj
        self._has_events = device.type != "cpu"
        self._calls: dict[Cell, Callable[[], object]] = {}
        self._compiled: dict[Cell, Callable[..., Any]] = {}
        self._scratch: torch.Tensor | None = None
        self._filler: torch.Tensor | None = None

    def now_ns(self) -> int:
        """Return the current time."""
        return time.perf_counter_ns()

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that runs a cell once; the first run happens here, and its result is checked.

        Raises:
            OutOfMemoryError: The batch does not fit.
            NotANumberError: The result contains NaN or infinity.
            NotCompiledError: The subnet does not compile as a whole.
            DeviceError: The device was lost.
        """
        where = _where(cell)
        call = self._guarded(lambda: self._call(cell, where), where)
        self._calls = {cell: call}
        return lambda: self._guarded(lambda: self._timed(call), where)

    def prepare_switch(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that actuates the subnet of a cell, runs it once, and returns the time of both.

        A compiled or captured subnet was actuated when it was compiled or captured.

        Raises:
            CellError: The cell can't be run.
            DeviceError: The device was lost.
        """
        if self._options.compiled or self._options.cuda_graph:
            return self.prepare(cell)
        where = _where(cell)
        self.prepare(cell)  # and checked
        inputs = self._guarded(lambda: self._model.inputs(cell.subnet, cell.batch_size), where)

        def switched() -> object:
            return self._cast(self._model.network(cell.subnet))(*inputs)

        return lambda: self._guarded(lambda: self._timed(switched), where)

    def device_use(self, cell: Cell) -> DeviceUse:
        """Return how a cell uses the device, after `prepare` of it; without values that the device does not tell."""
        call, where = self._calls[cell], _where(cell)

        def run() -> None:
            self._guarded(call, where)
            self._synchronize()

        try:
            busy = self._guarded(lambda: busy_time(lambda n: self._hidden(call, n)), where)
            return DeviceUse(busy, energy_per_run(run, self._energy_mj, self.now_ns))
        except OutOfMemoryError:  # of the other work
            return DeviceUse()

    def _hidden(self, call: Callable[[], object], ahead: int) -> float | None:
        """Return the device time of a run that is queued behind other work, or None if it did not wait there."""
        if not self._has_events:
            return None
        if self._filler is None:
            self._filler = torch.ones(_FILLER_SIDE, _FILLER_SIDE, device=self._device)
        start, end = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        for _ in range(ahead):
            torch.mm(self._filler, self._filler)
        start.record()
        call()
        end.record()
        waited = not start.query()
        self._synchronize()
        return start.elapsed_time(end) * 1e6 if waited else None

    def _guarded(self, work: Callable[[], _T], where: str) -> _T:
        """Return what some work on the device returns, with the device as the current one.

        Events, streams and graphs belong to the current device, whatever device they are made for.
        """
        failure: SsimError
        try:
            with _current(self._device), torch.inference_mode():
                return work()
        except (RuntimeError, MemoryError) as error:
            failure = self._failure(error, where)
        # Here, since the error has gone and with it the tensors that its frames held.
        if isinstance(failure, OutOfMemoryError):
            release_memory(self._device)
        raise failure

    def _failure(self, error: RuntimeError | MemoryError, where: str) -> SsimError:
        if is_out_of_memory(error):
            return OutOfMemoryError(where, "does not fit into the memory of the device", str(self._device))
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return NotCompiledError(where, "does not compile as a whole", reason, "profile it without compile")
        return DeviceError(str(self._device), f"failed at {where}", reason)

    def _call(self, cell: Cell, where: str) -> Callable[[], object]:
        """Return a call that runs a cell, after one run."""
        network: Callable[..., Any] = self._model.network(cell.subnet)
        is_stage = cell.subnet.startswith(STAGE)  # of the server, which compiles and captures the forward pass alone
        inputs = self._model.inputs(cell.subnet, cell.batch_size)
        if self._options.compiled and not is_stage:
            if cell not in self._compiled:
                mode = self._options.compile_mode
                self._compiled[cell] = (
                    ahead_of_time(network, inputs, where) if mode == "ahead-of-time" else compiled_whole(network, mode)
                )
            network = self._compiled[cell]
        if not is_stage:
            network = self._cast(network)
        result = network(*inputs)
        self._synchronize()
        if not all(_is_finite(tensor) for tensor in _tensors(result)):
            hint = "fp16 ends at 65504: bf16 or fp32" if self._options.precision == "fp16" else "check the weights"
            raise NotANumberError(where, "the result contains NaN or infinity", "", hint)
        if is_stage or not self._options.cuda_graph or self._device.type != "cuda":
            return lambda: network(*inputs)
        return self._captured(lambda: network(*inputs), _tensors(result), where)

    def _cast(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """Return a network that runs under autocast, if that was asked for."""
        if not self._options.autocast:
            return network

        def run(*inputs: Any) -> object:
            with torch.autocast(self._device.type, DTYPES[self._options.precision]):
                return network(*inputs)

        return run

    def _captured(
        self, run: Callable[[], object], expected: Sequence[torch.Tensor], where: str
    ) -> Callable[[], object]:
        """Return the replay of a CUDA graph of a run, which was seen to compute the expected result.

        Raises:
            RuntimeError: It computes something else, such as nothing: the work went to another device or stream.
        """
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            run()  # warm up before the capture
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = _tensors(run())
        for tensor in captured:
            tensor.zero_()
        graph.replay()
        self._synchronize()
        pairs = zip(captured, expected, strict=True)
        if not all(torch.allclose(a.double(), b.double(), rtol=1e-2, atol=1e-2) for a, b in pairs):
            raise DeviceError(str(self._device), "a CUDA graph does not compute what its network does", where)
        return graph.replay

    def _timed(self, call: Callable[[], object]) -> Sample:
        if self._options.flush_cache:
            self._flush()
        return self._with_events(call) if self._has_events else self._by_the_wall(call)

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


def _where(cell: Cell) -> str:
    return f"{cell.subnet}, batch {cell.batch_size}"


_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")
"""What errors without a class of their own say: of the CPU's allocator, cuBLAS, cuDNN, the driver, Apple's GPUs."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that something did not fit into memory, in any of the forms in which that comes."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give cached memory back to a device, where its allocator keeps any."""
    module: Any = torch.get_device_module(device.type)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a device is the current one of its type."""
    module: Any = torch.get_device_module(device.type)
    found: AbstractContextManager[object] = (
        module.device(device) if device.type != "cpu" and hasattr(module, "device") else nullcontext()
    )
    return found


def _tensors(result: object) -> list[torch.Tensor]:
    """Return the tensors of a result, in order."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
