"""Profiles: what a file is made of, and what its runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.devices import find_device
from profiler.model_under_test import SupernetUnderTest
from profiler.profile import ProfilePlan
from profiler.schedule import OutOfMemoryError
from profiler.torch_meter import Options
from sim.base.errors import DataError, SsimError
from ssim.files.plugins import Issue
from ssim.jobs.job import Kind
from ssim.jobs.profile.run import ProfileParts, ProfileRun
from ssim.jobs.profile.spec import ProfileSpec
from ssim.jobs.profile.supernet import accuracies_beside, asked_subnets, find_supernet, identity_of

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.files.yaml_file import YamlFile
    from ssim.jobs.job import Plugs, Point


def assemble(point: Point, _plugs: Plugs, _file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what a run measures, and what does not fit although each part is right."""
    spec: ProfileSpec = point.spec
    if max(spec.batches, default=0) > spec.max_batch:
        hint = f"max_batch: {max(spec.batches)}"
        return None, [Issue(("batches",), "is above the largest batch size", str(max(spec.batches)), hint)]
    problem = _contradiction(spec)
    if problem is not None:
        return None, [problem]
    place: tuple[str, ...] = ("device",)
    try:
        device = find_device(None if spec.device == "cpu" else spec.device)
        if spec.cuda_graph and device.type != "cuda":
            return None, [Issue(("cuda_graph",), "needs CUDA", device.type, "an NVIDIA GPU, or without it")]
        place = ("supernet",)
        what = _beside(point.folder, spec.supernet)
        named = find_supernet(what, spec.options, spec.seed, point.folder)
        place = ("subnets",)
        source = str(accuracies_beside(what)) if spec.subnets is None else _beside(point.folder, spec.subnets)
        rows = asked_subnets(source, named.family.space, what)
    except SsimError as error:
        return None, [Issue.of(error, *place) if error.location.startswith("--") else Issue(place, str(error))]
    options = Options(
        spec.dtype,
        spec.channels_last,
        spec.compile,
        spec.cuda_graph,
        spec.flush_cache,
        spec.autocast,
        spec.compile_mode,
        spec.contiguous,
    )
    try:
        model = SupernetUnderTest(named.supernet(), named.family, device, options, spec.size or named.size)
    except (DataError, OutOfMemoryError) as error:
        key = "dtype" if isinstance(error, DataError) else "device"
        return None, [Issue((key,), f"{error.location} {error.problem}", error.value, error.hint)]
    stages = tuple(model.stages.run) if spec.stages else ()
    profile = ProfilePlan(rows, spec.max_batch, spec.batches, stages, spec.precision)
    return ProfileParts(device, options, model, profile, source, identity_of(named, device, options, model.size)), []


def _contradiction(spec: ProfileSpec) -> Issue | None:
    """Return what is wrong with options that contradict each other."""
    if spec.autocast and spec.dtype == "fp32":
        return Issue(("autocast",), "needs another dtype", "fp32", "dtype: bf16 or fp16")
    if spec.compile_mode != "default" and not spec.compile:
        return Issue(("compile_mode",), "needs compile", spec.compile_mode, "compile: true")
    if spec.compile_mode == "ahead-of-time" and spec.autocast:
        return Issue(
            ("compile_mode",), "cannot be combined with autocast", spec.compile_mode, f"dtype: {spec.dtype} alone"
        )
    if spec.compile_mode in {"reduce-overhead", "max-autotune"} and spec.cuda_graph:
        hint = "without cuda_graph: this mode captures graphs itself"
        return Issue(("compile_mode",), "cannot be combined with cuda_graph", spec.compile_mode, hint)
    return None


def _beside(folder: Path, text: str) -> str:
    """Return a path taken from a folder if it leads somewhere, else the text: it is a name."""
    return str(folder / text) if (folder / text).exists() else text


_ASKED = frozenset({"subnets", "max_batch", "batches", "stages", "minutes", "precision"})
"""What is measured, and how closely, of what the identity of a profile says."""

KIND = Kind(
    model=ProfileSpec,
    slots=(),
    assemble=assemble,
    runs=lambda point, seed: (ProfileRun(point, seed),),
    not_swept=_ASKED,
)
