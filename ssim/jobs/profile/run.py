"""One profile and what is stored of it: `<results>/<name>/seed<seed>-<hash>/`.

    visits.jsonl      what was measured so far, to go on from; a profile that is run again gets more precise
    table.parquet     the latency table; table.csv and superserve.json hold the same without samples
    samples.parquet   raw latencies
    cells.csv         of each cell the status, medians, percentile, device time and energy
    report.md         what was measured and how well, with latency.png
    manifest.json     what decided the latencies, and what else was there

Where a job has one run, its table and report are copied to the job's folder.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from profiler.actuation import measure_actuation
from profiler.devices import device_energy_reader, device_name, device_state_reader
from profiler.grid import Cell
from profiler.profile import profile_result
from profiler.schedule import CellError, Schedule
from profiler.torch_meter import TorchMeter
from profiler.trial_log import TrialLog
from sim.base.errors import SsimError
from sim.base.units import NS_PER_S
from sim.base.whole_file import translate_os_errors, whole_file
from ssim.jobs.job import Completion, Run
from ssim.jobs.profile.spec import ProfileSpec
from ssim.jobs.profile.supernet import provenance_of, write_cells, write_profile
from ssim.results.environment import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from profiler.actuation import SwitchCost
    from profiler.grid import Grid, TrialRecord
    from profiler.model_under_test import SupernetUnderTest
    from profiler.profile import ProfilePlan
    from profiler.torch_meter import Options
    from ssim.jobs.job import Watch
    from ssim.results.store import Store

_S_PER_MINUTE = 60
_MIN_NS = 60 * NS_PER_S
"""What disturbs a machine lasts longer than a calm half minute in which all cells seem to be known."""

RESUMES = "measurements are stored; the same command resumes from there"
CELLS = "cells.csv"
OUTPUTS = (
    "table.parquet",
    "table.csv",
    "superserve.json",
    CELLS,
    "report.md",
    "latency.png",
    "latency.svg",
    "latency.pdf",
)


@dataclass(frozen=True, slots=True)
class Measuring:
    """How far a profile is: what its run tells who watches.

    Attributes:
        done: Measurements so far.
        ahead: About how many are to come.
        doubtful: Cells whose latency is not known closely enough.
        failed: A cell that can't be measured, and why, if there is one now.
    """

    done: int
    ahead: int
    doubtful: int
    failed: str = ""


@dataclass(frozen=True, slots=True)
class ProfileParts:
    """What a run measures, and where.

    Attributes:
        device: The device.
        options: How batches are run.
        model: The model under test.
        profile: Which subnets, at which batch sizes, and how closely.
        accuracies: Where the accuracies come from.
        identity: What decides a latency, the device included.
    """

    device: torch.device
    options: Options
    model: SupernetUnderTest
    profile: ProfilePlan
    accuracies: str
    identity: dict[str, Any]


@dataclass(frozen=True)
class ProfileRun(Run[ProfileSpec, ProfileParts]):
    """One profile of a supernet on a device."""

    @property
    def label(self) -> str:
        """The supernet and the device."""
        return f"{self.name} on {device_name(self.parts.device)}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides a latency: measurements of one identity may be put together."""
        return {"schema": "profile-run/1", "seed": self.seed, **self.parts.identity}

    def files(self) -> set[Path]:
        """Return the files that it is made from: it measures this machine, so that none travels.

        Raises:
            SsimError: A profile was sent to another machine.
        """
        raise SsimError("ssim profile", "a profile measures the machine that it is run on", "", "run it there")

    def is_stored(self, store: Store) -> bool:
        """Return False: a profile that is run again measures on where latencies are not known closely enough."""
        del store
        return False

    def forget(self, store: Store) -> None:
        """Delete what was measured.

        Raises:
            StoreError: A file can't be deleted.
        """
        store.forget(self.id)

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Measure until all latencies are known or the time is over, and store the table. The caller holds the store.

        Args:
            store: The results of the job.
            how: Decides nothing here.
            watch: Called with `Measuring` after each measurement.

        Raises:
            SsimError: Time ran out before each cell was measured once, or nothing can be measured.
        """
        del how
        parts, folder, stopwatch = self.parts, store.folder / self.id, Stopwatch()
        with translate_os_errors(folder):
            folder.mkdir(exist_ok=True)
        budget_ns = round(self.spec.minutes * _S_PER_MINUTE * NS_PER_S)
        schedule = Schedule(parts.profile.cells, self.seed, self.spec.precision, _MIN_NS, budget_ns)
        device = parts.device
        readers = device_state_reader(device), device_energy_reader(device)
        meter = TorchMeter(parts.model, device, parts.options, *readers)
        with TrialLog(folder / "visits.jsonl", parts.identity) as log:
            self._measure(schedule, meter, log, watch)
            _check_measured(schedule, log.grid)
            actuation = _actuation(meter, parts.profile, log.grid, self.seed)
            write_cells(folder, parts.profile, log.grid)
            if parts.profile.rated is not None:
                stages = str(parts.model.stages) if parts.profile.stages else ""
                facts = provenance_of(parts.identity, parts.accuracies, actuation, stages)
                found = profile_result(parts.profile, log.grid, device_name(device), facts)
                write_profile(folder, parts.profile, found, log.grid)
        circumstances = {"precision": self.spec.precision, **stopwatch.circumstances()}
        summary = {"cells": len(parts.profile.cells), "visits": len(log.grid.records)}
        store.finish(self.id, self.identity, summary, (), self.outputs, circumstances)
        return Completion()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that it stores: no table where accuracies are unknown."""
        return OUTPUTS if self.parts.profile.rated is not None else (CELLS,)

    def _measure(self, schedule: Schedule, meter: TorchMeter, log: TrialLog, watch: Watch | None) -> None:
        def on_record(record: TrialRecord | None, failed: str = "") -> None:
            if record is not None:
                log.add(record)
            if watch:
                ahead, doubtful = schedule.remaining(log.grid)
                watch(self, Measuring(len(log.grid.records), ahead, doubtful, failed))

        def on_failure(cell: Cell, error: CellError) -> None:
            log.fail(cell, error)
            on_record(None, str(error))

        on_record(None)
        schedule.run(meter, log.grid, on_record, on_failure, log.use)

    def grid(self, store: Store) -> Grid:
        """Return what was measured.

        Raises:
            SsimError: It is damaged.
        """
        with TrialLog(store.folder / self.id / "visits.jsonl", self.parts.identity) as log:
            return log.grid

    def publish(self, store: Store) -> None:
        """Copy table and report to the folder of the job.

        Raises:
            StoreError: They can't be written.
        """
        for name in self.outputs:
            with whole_file(store.folder / name) as unfinished:
                shutil.copyfile(store.folder / self.id / name, unfinished)


def _actuation(meter: TorchMeter, plan: ProfilePlan, grid: Grid, seed: int) -> SwitchCost | None:
    """Return the cost of a switch at the smallest batch size; None if fewer than two subnets run there."""
    size = plan.batch_sizes[0]
    subnets = [subnet.id for subnet in plan.subnets if Cell(subnet.id, size) not in grid.failed]
    try:
        return measure_actuation(meter, subnets, size, seed)
    except CellError:  # all subnets in memory at once need more than one
        return None


def _check_measured(schedule: Schedule, grid: Grid) -> None:
    """Check that each cell was measured, or can't be.

    Raises:
        SsimError: Time ran out before.
    """
    left = len(set(schedule.cells) - {record.cell for record in grid.records} - grid.failed.keys())
    if left:
        value = f"{left} of {len(schedule.cells)} were not"
        raise SsimError("minutes", "ran out before every cell was measured once", value, RESUMES)
