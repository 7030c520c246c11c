"""Compiled networks: by `torch.compile` when they are first called, or ahead of time by AOTInductor."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from profiler.schedule import NotCompiledError

if TYPE_CHECKING:
    from collections.abc import Callable

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "ahead-of-time"]


def compiled_whole(network: Callable[..., Any], mode: CompileMode) -> Callable[..., Any]:
    """Return a network compiled by `torch.compile` for the shapes of its first call: one graph, or an error.

    Dynamo keeps compiled code by code object, no more than eight for each, and then runs uncompiled without an error.
    All subnets of a supernet share their code, so each call here gets a code object of its own.
    """

    def run(*inputs: torch.Tensor) -> object:
        return network(*inputs)

    run.__code__ = run.__code__.replace()
    return torch.compile(run, fullgraph=True, dynamic=False, mode=mode)


def ahead_of_time(network: Any, inputs: tuple[torch.Tensor, ...], where: str) -> Callable[..., Any]:
    """Return a network exported for the shapes of some inputs and compiled by AOTInductor: it runs without Python.

    Args:
        network: A module.
        inputs: Of the shapes that it will run on.
        where: The cell, for messages.

    Raises:
        NotCompiledError: It can't be exported or compiled.
    """
    inductor: Any = import_module("torch._inductor")
    try:
        # What is made in inference mode can't be traced.
        with torch.inference_mode(mode=False), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            exported = torch.export.export(network, tuple(part.clone() for part in inputs))
            package = inductor.aoti_compile_and_package(exported, package_path=str(Path(folder) / "network.pt2"))
            loaded: Callable[..., Any] = inductor.aoti_load_package(package)
            return loaded
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotCompiledError(where, "does not compile ahead of time", reason, "another compile_mode") from error
