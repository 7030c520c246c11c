"""A torch worker: it runs batches on the subnets of a supernet, on inputs that it has made before.

`python -m ssim.execution.torch_worker FD` serves the socket that it inherits under that number. It is ready when it has
run each subnet at each batch size once, and takes no batch that it has not tried.
"""

from __future__ import annotations

import gc
import os
import time
from bisect import bisect_left
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from profiler.devices import device_name, find_device
from profiler.model_under_test import SupernetUnderTest
from profiler.schedule import DeviceError, NotANumberError, OutOfMemoryError
from profiler.torch_meter import Options, is_out_of_memory, release_memory
from serving.frames import DONE, RUN, VERSION, FrameKind, content_of, frame, inherited, json_frame, unpack_first
from serving.tensors import DTYPES, row_bytes
from sim.base.errors import DataError, SpecError, SsimError
from ssim.jobs.profile.supernet import find_supernet, identity_of, provenance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.frames import Connection
    from ssim.jobs.profile.supernet import Named

_DATATYPES = {
    torch.int64: "INT64",
    torch.int32: "INT32",
    torch.int16: "INT16",
    torch.int8: "INT8",
    torch.uint8: "UINT8",
    torch.bool: "BOOL",
}
"""Of tensors that are not of floats."""

_FACTS = ("supernet", "input", "device", "options")
"""What a worker tells of itself, in the words of a profile's table."""


class ServedSupernet:
    """The subnets of a latency table on a device, with a batch of inputs for each size.

    Args:
        model: The supernet.
        device: Where it is.
        subnets: Ids of subnets, as the table numbers them.
        sizes: Batch sizes that are run, rising; a batch between two is filled up to the larger one.
        facts: What it is, by name.
    """

    def __init__(
        self,
        model: SupernetUnderTest,
        device: torch.device,
        subnets: Sequence[str],
        sizes: Sequence[int],
        facts: dict[str, str],
    ) -> None:
        self._model, self._device, self._subnets, self._sizes = model, device, subnets, sizes
        self._inputs = [model.inputs(subnets[0], size) for size in sizes]
        self.facts = facts

    @classmethod
    def of(cls, settings: dict[str, Any]) -> ServedSupernet:
        """Return what settings ask for: see `ssim.jobs.experiment.live.worker_program`.

        Raises:
            SpecError: There is no such supernet, subnet or device.
            SsimError: The weights do not fit into memory, or into the type.
        """
        named, device = _named(settings), _device(settings["device"])
        held, options = named.supernet(), Options(settings["dtype"])
        needs_statistics = settings["is_asked"] and held.assembly.norms and "sha256" in named.identity["weights"]
        for subnet in settings["subnets"]:
            try:
                found = held.space.find(subnet)
            except SsimError as error:
                problem, hint = "has a subnet that live.supernet does not have", "`ssim profile` of this supernet"
                raise SpecError("latency_table", problem, subnet, hint) from error
            if needs_statistics and found.id not in held.calibrated:
                problem, hint = "lacks the statistics of a subnet: answers would be wrong", "`ssim supernet calibrate`"
                raise SpecError("live.supernet", problem, subnet, hint)
        model = SupernetUnderTest(held, named.family, device, options, settings["size"] or named.size)
        told = provenance_of(identity_of(named, device, options, model.size), "")
        facts = {name: told[name] for name in _FACTS} | {"device": device_name(device)}
        return cls(model, device, settings["subnets"], settings["sizes"], facts)

    def warm(self, tell: Callable[[], None]) -> None:
        """Run each subnet at each size, calling a function after each.

        Raises:
            SpecError: A batch does not fit into memory, or a result contains NaN or infinity.
        """
        for subnet in range(len(self._subnets)):
            for size in self._sizes:
                try:
                    self.run(subnet, size)
                except OutOfMemoryError as error:
                    hint = "a latency table with smaller batches, or fewer workers"
                    raise SpecError("live.supernet", f"{error.location} {error.problem}", "", hint) from error
                except NotANumberError as error:
                    raise SpecError("live.supernet", f"{error.location}: {error.problem}") from error
                tell()

    @cached_property
    def tensors(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs, in the words of the Open Inference Protocol; floats travel as 32 bits."""
        with torch.inference_mode():
            outputs = [_logits(self._model.network(self._subnets[0])(*self._inputs[0]))]
        return {"inputs": _described("input", self._inputs[0]), "outputs": _described("output", outputs)}

    def run(self, subnet: int, queries: int, inputs: bytes = b"") -> tuple[int, int, bytes]:
        """Run a batch.

        Args:
            subnet: Its subnet, by its number in the table.
            queries: Its size.
            inputs: Of its queries, one after the other, each with all its tensors; those made before if left out.

        Returns:
            When its forward pass began and ended, by the monotonic clock, in nanoseconds; and the logits of its
            queries if there were inputs.

        Raises:
            OutOfMemoryError: The batch does not fit into memory.
            NotANumberError: The result contains NaN or infinity.
            DataError: An input can't be used, such as the number of a token beyond the vocabulary.
        """
        place = bisect_left(self._sizes, queries)
        where = f"{self._subnets[subnet]} at batch size {self._sizes[place]}"
        if inputs:
            self._fill(place, queries, inputs)
        begun_ns = time.monotonic_ns()
        try:
            with torch.inference_mode():
                outputs = tree_leaves(self._model.network(self._subnets[subnet])(*self._inputs[place]))
                if self._device.type != "cpu":
                    torch.accelerator.synchronize(self._device)
                ended_ns = time.monotonic_ns()
                is_finite = all(bool(part.isfinite().all()) for part in outputs if isinstance(part, torch.Tensor))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory(self._device)
            raise OutOfMemoryError(where, "does not fit into memory") from error
        except IndexError as error:  # on a GPU it is a RuntimeError, after which no process can go on
            raise DataError(where, "an input is out of range", str(error)) from error
        if not is_finite:
            raise NotANumberError(where, "the result contains NaN or infinity")
        logits = _logits(outputs)[:queries].cpu().numpy().tobytes() if inputs else b""
        return begun_ns, ended_ns, logits

    def answer(self, subnet: int, queries: int, inputs: bytes) -> tuple[int, int, bytes]:
        """Run a batch as `run` does; a row that can't be computed has NaN as its logits, and the others have theirs.

        Which one it is comes out when each is run alone.

        Raises:
            OutOfMemoryError: The batch does not fit into memory.
            NotANumberError: The result contains NaN or infinity, and there are no inputs, or logits are no floats.
            DataError: An input can't be used, and logits are no floats.
        """
        begun_ns = time.monotonic_ns()
        try:
            return self.run(subnet, queries, inputs)
        except (NotANumberError, DataError):
            (spec,) = self.tensors["outputs"]
            if not inputs or spec["datatype"] != "FP32":
                raise
        width, rows = len(inputs) // queries, list[bytes]()
        for begin in range(0, len(inputs), width):
            try:
                rows.append(self.run(subnet, 1, inputs[begin : begin + width])[2])
            except (NotANumberError, DataError):
                rows.append(np.full(spec["shape"][1:], np.nan, np.float32).tobytes())
        return begun_ns, time.monotonic_ns(), b"".join(rows)

    def _fill(self, place: int, queries: int, inputs: bytes) -> None:
        """Take inputs of queries into a batch; its other rows are copies of the last one.

        So they fail only if it does: rows of an earlier batch, or one of its bad inputs, are not run again.
        """
        rows, begin = np.frombuffer(bytearray(inputs), np.uint8).reshape(queries, -1), 0
        for tensor, spec in zip(self._inputs[place], self.tensors["inputs"], strict=True):
            end = begin + row_bytes([spec])
            part = np.ascontiguousarray(rows[:, begin:end]).view(DTYPES[spec["datatype"]])
            tensor[:queries].copy_(torch.from_numpy(part.reshape(queries, *spec["shape"][1:])))
            tensor[queries:] = tensor[queries - 1]
            begin = end


def _logits(outputs: object) -> torch.Tensor:
    """Return the first tensor of a result as it is sent: floats as 32 bits."""
    first = next(leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor))
    return first if first.dtype in _DATATYPES else first.float()


def _described(name: str, tensors: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    """Return what tensors are, numbered if there are several."""
    names = [name] if len(tensors) == 1 else [f"{name}{number}" for number in range(len(tensors))]
    return [
        {"name": each, "datatype": _DATATYPES.get(tensor.dtype, "FP32"), "shape": [-1, *tensor.shape[1:]]}
        for each, tensor in zip(names, tensors, strict=True)
    ]


def _named(settings: dict[str, Any]) -> Named:
    """Return the supernet that settings name.

    Raises:
        SpecError: There is none, or it can't be used.
    """
    try:
        return find_supernet(settings["supernet"], settings["options"], settings["seed"], Path(settings["folder"]))
    except SsimError as error:
        if error.location == "--set":
            raise SpecError("live.options", error.problem, error.value, error.hint) from error
        raise SpecError("live.supernet", str(error)) from error


def _device(asked: str | int) -> torch.device:
    """Return a device.

    Raises:
        SpecError: It is not there.
    """
    try:
        return find_device(None if asked == "cpu" else int(asked))
    except DeviceError as error:
        raise SpecError("live.device", error.problem, f"{asked}; available: {error.value}", "device: cpu") from error


def serve(router: Connection) -> None:
    """Serve until the router closes the connection or says stop."""
    served: ServedSupernet | None = None
    for kind, body in router.received():
        if kind is FrameKind.CONFIG:
            settings = content_of(body)
            torch.set_num_threads(settings["threads"] or min(torch.get_num_threads(), settings["most_threads"]))
            try:
                served = ServedSupernet.of(settings)
                served.warm(lambda: router.send(frame(FrameKind.WARMING)))
            except SsimError as error:
                refused = {"error": error.args, "is_input": error.exit_code == SpecError.exit_code}
                router.send(json_frame(FrameKind.REFUSED, refused))
                return
            gc.collect()
            gc.freeze()
            ready = {"version": VERSION, "pid": os.getpid(), "serves": served.facts, "tensors": served.tensors}
            router.send(json_frame(FrameKind.READY, ready))
        elif kind is FrameKind.RUN and served is not None:
            router.send(_answer(served, body))
        elif kind is FrameKind.STOP:
            return


def _answer(served: ServedSupernet, body: bytes) -> bytes:
    """Run a batch, and return the frame that tells of it."""
    read_ns = time.monotonic_ns()
    (batch, subnet, queries, _), inputs = unpack_first(RUN, body)
    try:
        *times, outputs = served.answer(subnet, queries, inputs)
    except SsimError as error:
        return json_frame(FrameKind.FAILED, {"batch": batch, "reason": str(error)})
    return frame(FrameKind.DONE, DONE.pack(batch, queries, read_ns, *times) + outputs)


if __name__ == "__main__":
    with inherited() as connection:
        serve(connection)
