"""Finds devices and reads their state: clocks, temperature, power, reasons for throttling."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from profiler.grid import DeviceState
from profiler.schedule import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable


def find_device(gpu: int | None) -> torch.device:
    """Return the device to measure; there is no fallback to another one.

    Args:
        gpu: The index of an accelerator, or None for the CPU.

    Raises:
        DeviceError: There is no such accelerator; the message lists those that exist.
    """
    if gpu is None:
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    if kind is None or gpu >= count:
        available = f"{count} of type {kind.type}: 0 to {count - 1}" if kind is not None and count else _no_gpu()
        raise DeviceError(f"--gpu {gpu}", "GPU not found", available, "--cpu measures the CPU")
    return torch.device(kind.type, gpu)


def _no_gpu() -> str:
    kinds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip, "XPU": getattr(torch.version, "xpu", None)}
    built = f"torch {torch.__version__} is built for {', '.join(k for k, v in kinds.items() if v) or 'the CPU'}"
    return f"no accelerator; {built}; the CPU has {os.cpu_count()} cores"


def device_name(device: torch.device) -> str:
    """Return the name of a device in tables."""
    if device.type == "cpu":
        return f"CPU {_cpu_name()}, {torch.get_num_threads()} threads"
    module: Any = torch.get_device_module(device.type)
    named = hasattr(module, "get_device_name")  # Apple's has not
    return str(module.get_device_name(device)) if named else f"{device.type} of {_cpu_name()}"


def device_facts(device: torch.device) -> dict[str, str]:
    """Return the facts of a device for a manifest: versions, driver, threads, memory."""
    facts = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            **({"cuda": str(torch.version.cuda)} if torch.version.cuda else {"rocm": str(torch.version.hip)}),
            "cudnn": str(torch.backends.cudnn.version()),
            "memory": f"{properties.total_memory / 2**30:.1f} GiB",
            "multiprocessors": str(properties.multi_processor_count),
            "uuid": str(getattr(properties, "uuid", "")),
            "tf32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}",
            "cudnn.benchmark": str(torch.backends.cudnn.benchmark),
            **_nvml_facts(device),
        }
    return facts


def _nvml(device: torch.device) -> tuple[Any, Any]:
    """Return NVML and its handle of a GPU.

    Raises:
        DeviceError: NVML is not there, or does not know the GPU; says why.
    """
    location = str(device)
    if device.type != "cuda":
        raise DeviceError(location, "clocks can't be read", "", "they are read from NVIDIA's GPUs")
    if find_spec("pynvml") is None:
        raise DeviceError(location, "clocks can't be read: nvidia-ml-py is not installed")
    nvml: Any = import_module("pynvml")
    try:
        nvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        for name in (f"GPU-{uuid}", f"MIG-{uuid}"):
            try:
                return nvml, nvml.nvmlDeviceGetHandleByUUID(name)
            except nvml.NVMLError as error:
                problem = error
    except nvml.NVMLError as error:
        problem = error
    raise DeviceError(location, f"clocks can't be read: {problem}")


_SETTINGS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "power limit": ("nvmlDeviceGetPowerManagementLimit", (), "mW"),
    "maximum SM clock": ("nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_SM",), "MHz"),
    "application SM clock": ("nvmlDeviceGetApplicationsClock", ("NVML_CLOCK_SM",), "MHz"),
    "ECC (current, pending)": ("nvmlDeviceGetEccMode", (), ""),
    "MIG (current, pending)": ("nvmlDeviceGetMigMode", (), ""),
    "compute mode": ("nvmlDeviceGetComputeMode", (), ""),
}
"""Settings of a GPU that decide latencies: the question to NVML, names of its arguments, and the unit."""


def _nvml_facts(device: torch.device) -> dict[str, str]:
    """Return driver and settings of a GPU, or why they are unknown."""
    try:
        nvml, handle = _nvml(device)
    except DeviceError as error:
        return {"driver": "unknown", "clocks": error.problem}
    facts = {"driver": str(nvml.nvmlSystemGetDriverVersion())}
    for name, (question, arguments, unit) in _SETTINGS.items():
        try:
            answer = getattr(nvml, question)(handle, *(getattr(nvml, argument) for argument in arguments))
        except (nvml.NVMLError, AttributeError):  # this GPU has no such setting, or this NVML no such question
            continue
        facts[name] = f"{answer} {unit}".strip()
    return facts


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device file
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_state_reader(device: torch.device) -> Callable[[], DeviceState]:
    """Return a function that reads the state of a device: by NVML, if it is NVIDIA's and nvidia-ml-py is installed.

    On other devices, the function returns an empty state; the facts of the device say why.
    """
    try:
        nvml, handle = _nvml(device)
    except DeviceError:
        return DeviceState
    return lambda: _nvml_state(nvml, handle)


def device_energy_reader(device: torch.device) -> Callable[[], float | None]:
    """Return a function that reads the energy that a device has used since its driver was loaded, in millijoules.

    It returns None on devices that do not count it: NVIDIA's do since Volta, but for the parts of a MIG.
    """
    try:
        nvml, handle = _nvml(device)
    except DeviceError:
        return lambda: None

    def read() -> float | None:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except (nvml.NVMLError, AttributeError):
            return None

    return read


_THROTTLE_REASONS = {
    "thermal": ("nvmlClocksThrottleReasonSwThermalSlowdown", "nvmlClocksThrottleReasonHwThermalSlowdown"),
    "power": ("nvmlClocksThrottleReasonSwPowerCap", "nvmlClocksThrottleReasonHwPowerBrakeSlowdown"),
    "hardware": ("nvmlClocksThrottleReasonHwSlowdown",),
}
"""Reasons for throttling and their names in NVML. (Idle clocks are not throttling.)"""


def _nvml_state(nvml: Any, handle: Any) -> DeviceState:
    """Return the state of a GPU; None for values that it does not report."""

    def ask(question: str, *arguments: object) -> float | None:
        try:
            return float(getattr(nvml, question)(handle, *arguments))
        except nvml.NVMLError:
            return None

    try:
        processes = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:
        processes = 1
    clock = ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
    power_mw = ask("nvmlDeviceGetPowerUsage")
    bits = int(ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0)
    reasons = (
        reason
        for reason, names in _THROTTLE_REASONS.items()
        if any(bits & int(getattr(nvml, name, 0)) for name in names)
    )
    return DeviceState(
        clock_mhz=clock,
        peak_mhz=clock,
        temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        power_w=None if power_mw is None else power_mw / 1000,
        throttled_by=tuple(reasons),
        max_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        other_processes=max(0, processes - 1),  # one is this; in a container, numbers of processes tell no more
    )
