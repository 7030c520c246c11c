"""The steps of the check of a GPU, in the order of their worth; `benchmarks.gpu_check` runs them."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.actuation import measure_actuation
from profiler.cells_file import cells_text
from profiler.data_sheets import find_data_sheet
from profiler.devices import device_energy_reader, device_facts, device_name, device_state_reader, find_device
from profiler.grid import Grid, count_statuses
from profiler.model_under_test import SupernetUnderTest
from profiler.profile import ProfilePlan, profile_result
from profiler.report import report
from profiler.roofline import predict, works_of
from profiler.schedule import Schedule
from profiler.torch_meter import Options, TorchMeter
from profiler.trial import TrialLimits
from sim.base.errors import SsimError
from sim.base.units import NS_PER_MS, NS_PER_S
from sim.tables.files import find_table, write_table
from sim.tables.latency import ProfiledSubnet
from supernet.families import OfaResNet50, OfaResNetSmall
from supernet.family import build
from supernet.space import SubnetConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from sim.tables.latency import LatencyTable
    from supernet.family import Family
    from supernet.network import Supernet

__all__ = ["Check", "SsimError", "check_all", "prepared"]

ROOT = Path(__file__).parents[1]
PUBLISHED = "ofa-resnet50-rtx2080ti"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        batches: The largest batch size.
        side: The side of images.
        tests_s: The most time for the tests.
        first_s: The most time for the first table.
        table_s: The most time for each other table.
        trial_ms: The least sampling time of a trial.
        trials: The most trials of a cell.
    """

    batches: int
    side: int
    tests_s: float
    first_s: float
    table_s: float
    trial_ms: int
    trials: int


FULL = Size(batches=32, side=224, tests_s=90, first_s=110, table_s=50, trial_ms=30, trials=20)
REHEARSAL = Size(batches=2, side=8, tests_s=60, first_s=60, table_s=60, trial_ms=1, trials=3)

VARIANTS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16": {"precision": "fp16"},
    "fp32-graph": {"cuda_graph": True},
    "fp16-channels-last": {"precision": "fp16", "channels_last": True},
    "fp16-channels-last-graph": {"precision": "fp16", "channels_last": True, "cuda_graph": True},
    "fp32-contiguous": {"contiguous": True},
    "fp16-channels-last-contiguous": {"precision": "fp16", "channels_last": True, "contiguous": True},
}
"""The options of each table, the most useful first."""

COMPARED = (
    ("fp16", "fp32", "half precision"),
    ("fp32-graph", "fp32", "CUDA graphs"),
    ("fp16-channels-last", "fp16", "channels last"),
    ("fp16-channels-last-graph", "fp16-channels-last", "CUDA graphs, channels last"),
    ("fp32-contiguous", "fp32", "contiguous weights"),
    ("fp16-channels-last-contiguous", "fp16-channels-last", "contiguous weights, channels last"),
)
"""Tables, what each is held against, and what the ratio tells."""


@dataclass
class Check:
    """The state of the check: what is measured, what was found, and how much time is left.

    Attributes:
        device: The device.
        family: Of the supernet.
        supernet: With random weights; each table runs on a copy.
        subnets: The subnets.
        size: How much is measured.
        out: The folder of the files.
        deadline_s: When it ends, on `clock`.
        clock: Seconds.
        steps: Of each step its name, its outcome and its time in seconds.
        tables: The measured tables by name.
        facts: Findings, a sentence each.
    """

    device: torch.device
    family: Family
    supernet: Supernet
    subnets: tuple[ProfiledSubnet, ...]
    size: Size
    out: Path
    deadline_s: float
    clock: Callable[[], float] = time.monotonic
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    tables: dict[str, LatencyTable] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self.deadline_s - self.clock()

    def run(self, name: str, step: Callable[[float], str], most_s: float, least_s: float) -> None:
        """Run a step if there is time for it, and write the summary.

        Args:
            name: Its name.
            step: Gets the time that it may take in seconds; returns its outcome.
            most_s: The most time for it.
            least_s: With less time left, it does not begin.
        """
        begin, left = self.clock(), self.left_s()
        if left < least_s:
            outcome = f"left out: {max(0.0, left):.0f} s were left"
        else:
            try:
                outcome = step(min(most_s, left))
            except Exception as error:  # noqa: BLE001 - the next step may be worth as much
                outcome = f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        self.steps.append((name, outcome, self.clock() - begin))
        print(f"{name}: {outcome} ({self.steps[-1][2]:.0f} s)", flush=True)
        (self.out / "summary.md").write_text(summary(self), encoding="utf-8")


def tests(check: Check, limit_s: float) -> str:
    """Run the tests that need a GPU; return their last line."""
    if importlib.util.find_spec("pytest") is None:
        return "left out: pytest is not installed"
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(ROOT), "--noconftest"]
    command += ["--import-mode=importlib", "-p", "no:cacheprovider", "-m", "gpu", "tests/profiler/test_gpu.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with (check.out / "tests.txt").open("w", encoding="utf-8") as log:
        try:
            ended = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, timeout=limit_s, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            return f"FAILED: not done after {limit_s:.0f} s"
    lines = (check.out / "tests.txt").read_text(encoding="utf-8").splitlines()
    return f"{'' if ended.returncode in {0, 5} else 'FAILED: '}{lines[-1] if lines else 'no output'}"


def meter_of(check: Check, options: Options, *, energy: bool) -> TorchMeter:
    """Return a meter for a copy of the supernet."""
    model = SupernetUnderTest(copy.deepcopy(check.supernet), check.family, check.device, options, check.size.side)
    state = device_state_reader(check.device)
    if not energy:
        return TorchMeter(model, check.device, options, state)
    return TorchMeter(model, check.device, options, state, device_energy_reader(check.device))


def table(check: Check, name: str, limit_s: float) -> str:
    """Profile all subnets with the options of a table; write the table, the cells and a report."""
    begin = check.clock()
    options = Options(**VARIANTS[name])
    plan = ProfilePlan(check.subnets, check.size.batches)
    meter = meter_of(check, options, energy=name in {"fp32", "fp16"})
    limits = TrialLimits(max_warmup_ns=2 * NS_PER_S, min_sampling_ns=check.size.trial_ms * NS_PER_MS)
    budget_ns = round((limit_s - (check.clock() - begin)) * NS_PER_S)
    grid = Grid()
    schedule = Schedule(plan.cells, budget_ns=budget_ns, max_trials=check.size.trials, limits=limits)
    schedule.run(meter, grid)
    estimates = plan.estimates(grid)
    (check.out / f"{name}.csv").write_text(cells_text(estimates, grid.use), encoding="utf-8")
    facts = ", ".join(f"{key} {text}" for key, text in device_facts(check.device).items())
    provenance = {
        "source": "measured by python -m benchmarks.gpu_check",
        "supernet": f"{check.family.space.family}, random weights, which do not influence the latency",
        "input": f"size {check.size.side}",
        "device": facts,
        "latency": "wall clock from the call to the end of the work on the device, launch overhead included; medians",
        "options": json.dumps(VARIANTS[name]) if VARIANTS[name] else "fp32, as PyTorch has it",
        "accuracy": PUBLISHED,
    }
    result = profile_result(plan, grid, device_name(check.device), provenance)
    check.tables[name] = result.table
    write_table(result.table, check.out / f"{name}.parquet")
    (check.out / f"{name}.md").write_text(report(plan, result, grid), encoding="utf-8")
    counts = ", ".join(f"{count} {status}" for status, count in count_statuses(estimates).items())
    return f"{len(plan.cells)} cells: {counts}"


def actuation(check: Check) -> str:
    """Measure the cost of a switch between subnets."""
    found = measure_actuation(meter_of(check, Options(), energy=False), [s.id for s in check.subnets], batch_size=1)
    check.facts.append(f"Actuation: {found}.")
    return str(found)


def prediction(check: Check) -> str:
    """Hold the roofline's predictions from the two published tables against the first table."""
    measured, sheet = check.tables["fp32"], find_data_sheet(check.tables["fp32"].device)
    if sheet is None:
        return f"left out: no data sheet of {measured.device}"
    for name in (PUBLISHED, "ofa-resnet50-a40"):
        source = find_table(name)
        source = source.with_stages(["forward"]) if "forward" in source.stages else source
        source_sheet = find_data_sheet(source.device)
        if source_sheet is None:
            continue
        predicted, _ = predict(source, works_of(source, check.family), source_sheet, sheet)
        sizes = [size for size in predicted.batch_sizes if size in measured.batch_sizes]
        errors = {
            size: np.median(
                predicted.latency_ns[:, predicted.batch_sizes.index(size)]
                / measured.latency_ns[:, measured.batch_sizes.index(size)]
                - 1
            )
            for size in sizes
        }
        told = ", ".join(f"{error:+.0%} at {size}" for size, error in errors.items())
        check.facts.append(f"Roofline from {name}, median error by batch size: {told}.")
    return "done"


def summary(check: Check) -> str:
    """Return what was done and what was found, in Markdown."""
    what = f"{check.family.space.family} with random weights on {device_name(check.device)}"
    rehearsed = ": a rehearsal, whose figures say nothing of a GPU" if check.device.type == "cpu" else ""
    lines = ["# GPU check", "", f"{what}{rehearsed}.", ""]
    lines += ["| step | outcome | s |", "|---|---|---|"]
    lines += [f"| {name} | {outcome} | {seconds:.0f} |" for name, outcome, seconds in check.steps]
    ratios = [(a, b, what) for a, b, what in COMPARED if a in check.tables and b in check.tables]
    if ratios:
        lines += ["", "Latency as a share of that of the other table, median over subnets:", ""]
        sizes = sorted({size for a, _, _ in ratios for size in check.tables[a].batch_sizes})
        lines += [
            f"| what | of | {' | '.join(f'batch {size}' for size in sizes)} |",
            "|---|---" + "|---" * len(sizes) + "|",
        ]
    for name, other, what in ratios:
        one, two = check.tables[name], check.tables[other]
        shares = [
            f"{np.median(one.dense_ns[:, size] / two.dense_ns[:, size]):.3f}"
            if size in one.batch_sizes and size in two.batch_sizes and len(one.subnets) == len(two.subnets)
            else ""
            for size in sizes
        ]
        lines.append(f"| {what} | {name} to {other} | {' | '.join(shares)} |")
    return "\n".join([*lines, "", *check.facts]) + "\n"


def prepared(gpu: int | None, out: Path, deadline_s: float) -> Check:
    """Return a check of a GPU, or without one a rehearsal: a small supernet on the CPU.

    Raises:
        DeviceError: There is no such GPU.
    """
    device = find_device(gpu)
    subnets: tuple[ProfiledSubnet, ...]
    if gpu is None:
        family: Family = OfaResNetSmall(width=4)
        ends = (family.space.smallest, family.space.largest)
        subnets = tuple(ProfiledSubnet(subnet.id, 60.0 + n, subnet.control) for n, subnet in enumerate(ends))
    else:
        family = OfaResNet50()
        rows = find_table(PUBLISHED).subnets
        subnets = tuple(
            ProfiledSubnet(SubnetConfig(family.space.family, row.control).id, row.accuracy, row.control)
            for row in rows
            if row.control is not None
        )
    size = REHEARSAL if gpu is None else FULL
    return Check(device, family, build(family, seed=0).eval(), subnets, size, out, deadline_s)


def check_all(check: Check) -> None:
    """Run all steps in the order of their worth."""
    size = check.size
    check.run("tests", lambda s: tests(check, s), size.tests_s, 5)
    for name in VARIANTS:
        most = size.first_s if name == "fp32" else size.table_s
        check.run(name, partial(table, check, name), most, 15)
        if name == "fp16":
            check.run("actuation", lambda _: actuation(check), 10, 10)
    check.run("prediction", lambda _: prediction(check) if "fp32" in check.tables else "left out: no table", 30, 20)
