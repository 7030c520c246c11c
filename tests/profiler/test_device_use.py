"""Device time without launch gaps, energy, and the cost of a switch, on simulated devices of which they are known."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from profiler.actuation import measure_actuation
from profiler.cells_file import COLUMNS, cells_text
from profiler.device_use import busy_time, energy_per_run
from profiler.grid import Cell, CellStatus, DeviceUse, Grid
from profiler.profile import ProfilePlan, profile_result
from profiler.report import report
from profiler.schedule import Schedule
from profiler.trial import Sample
from sim.tables.latency import ProfiledSubnet
from tests.profiler.test_schedule import CELLS, LATENCY, MS, Device

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("launches_ms", [0.01, 1.0, 20.0])
def test_device_time_without_gaps_is_measured_behind_as_much_other_work_as_launches_need(launches_ms: float) -> None:
    def hidden(ahead: int) -> float | None:
        return 3.0 * MS if ahead * 0.1 > launches_ms else None

    assert busy_time(hidden) == 3.0 * MS


def test_launches_that_can_not_be_hidden_leave_the_device_time_unknown() -> None:
    asked = []
    assert busy_time(asked.append) is None
    assert len(asked) < 100


@dataclass
class Counter:
    """A simulated energy counter: runs take time and energy, and it moves in steps only."""

    run_ms: float = 7.0
    run_mj: float = 300.0
    step_ms: float = 100.0
    now: int = 0
    used: float = 0.0
    shown: float = 5.0
    next_step: int = 0

    def run(self) -> None:
        self.now += round(self.run_ms * MS)
        self.used += self.run_mj
        if self.step_ms and self.now >= self.next_step:
            self.shown, self.next_step = 5.0 + self.used, self.now + round(self.step_ms * MS)

    def energy(self) -> float | None:
        return energy_per_run(self.run, lambda: self.shown, lambda: self.now)


@pytest.mark.parametrize("step_ms", [0.1, 20.0, 100.0])
@pytest.mark.parametrize("run_ms", [0.5, 7.0, 130.0])
def test_energy_of_a_run_is_found_whatever_the_steps_of_the_counter(step_ms: float, run_ms: float) -> None:
    counter = Counter(run_ms, step_ms=step_ms)
    assert counter.energy() == pytest.approx(300.0)
    assert counter.now < 3_000 * MS


def test_a_counter_that_stands_still_or_is_missing_tells_no_energy() -> None:
    still = Counter(step_ms=0)
    assert still.energy() is None
    assert still.now < 2_100 * MS
    assert energy_per_run(still.run, lambda: None, lambda: still.now) is None


@dataclass
class Switching:
    """A simulated device on which the first run of a subnet after another one takes longer."""

    cost_ns: int
    noise: float = 0.02
    now: int = 0
    active: str = ""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def prepare_switch(self, cell: Cell) -> Callable[[], Sample]:
        def run() -> Sample:
            took = round(2 * MS * self.rng.lognormal(0, self.noise)) + self.cost_ns * (cell.subnet != self.active)
            self.active = cell.subnet
            self.now += took
            return Sample(took)

        return run

    def now_ns(self) -> int:
        return self.now


@pytest.mark.parametrize("cost_ns", [0, 50_000, 900_000])
def test_the_cost_of_a_switch_is_found(cost_ns: int) -> None:
    found = measure_actuation(Switching(cost_ns), ["a", "b", "c"], 1)
    assert found.cost.low <= cost_ns <= found.cost.high
    assert found.cost.median == pytest.approx(cost_ns, abs=20_000)
    assert 100 < found.switches <= 120
    assert "switches at batch 1" in str(found)


def test_a_switch_needs_two_subnets_and_slow_ones_end_in_time() -> None:
    assert measure_actuation(Switching(0), ["a"], 1) is None
    slow = Switching(300 * MS)
    found = measure_actuation(slow, list("abcdef"), 1)
    assert slow.now < 8_000 * MS
    assert found.switches < 60


def test_each_cell_is_asked_once_for_its_use_of_the_device() -> None:
    device, grid, told = Device(), Grid(), []
    Schedule(CELLS).run(device, grid, on_use=lambda cell, use: told.append((cell, use)))
    assert sorted(device.used) == sorted(CELLS)
    assert dict(told) == grid.use == {cell: DeviceUse(0.8 * ns) for cell, ns in LATENCY.items()}


def test_cells_as_csv() -> None:
    grid = Grid(use={CELLS[0]: DeviceUse(1500.4, 12.5)})
    Schedule(CELLS).run(Device(), grid)
    grid.failed[CELLS[1]] = CellStatus.OUT_OF_MEMORY
    rows = list(csv.DictReader(io.StringIO(cells_text({c: grid.estimate(c, 0.02) for c in CELLS[:2]}, grid.use))))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["device_busy_ns"], rows[0]["energy_mj"], rows[0]["status"]) == ("1500", "12.5", "ok")
    assert int(rows[0]["median_low_ns"]) <= int(rows[0]["median_ns"]) <= int(rows[0]["median_high_ns"])
    assert int(rows[0]["median_ns"]) == round(grid.estimate(CELLS[0], 0.02).wall.median)
    assert rows[0]["p99_ns"] == "", "of 24 samples"
    assert (rows[1]["status"], rows[1]["median_ns"]) == ("out of memory", "")


def test_energy_is_read_from_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = pytest.importorskip("profiler.devices", reason="the profiler needs the extra [torch]")

    class NVMLError(Exception):
        pass

    def fails(_handle: object) -> int:
        raise NVMLError

    nvml = SimpleNamespace(nvmlDeviceGetTotalEnergyConsumption=lambda _handle: 1234, NVMLError=NVMLError)
    monkeypatch.setattr(devices, "_nvml", lambda _device: (nvml, "handle"))
    assert devices.device_energy_reader("cuda:0")() == 1234.0
    nvml.nvmlDeviceGetTotalEnergyConsumption = fails
    assert devices.device_energy_reader("cuda:0")() is None
    monkeypatch.undo()
    import torch

    assert devices.device_energy_reader(torch.device("cpu"))() is None


class Doubling(Device):
    """A simulated device of any cell: twice the batch takes nearly twice as long."""

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        def run() -> Sample:
            took = round((2 + ord(cell.subnet)) * cell.batch_size**0.9 * 1e4 * self.rng.lognormal(0, 0.005))
            self.now += took
            return Sample(took, round(took * 0.9))

        return run

    def device_use(self, _cell: Cell) -> DeviceUse:
        return DeviceUse()


def test_the_report_has_device_time_and_energy_where_the_device_tells_them() -> None:
    plan = ProfilePlan(tuple(ProfiledSubnet(name, 60.0 + n) for n, name in enumerate("abc")), 16)
    grid = Grid()
    Schedule(plan.cells).run(Doubling(), grid)
    result = profile_result(plan, grid, "gpu", {})
    grid.use = {cell: DeviceUse(0.5 * grid.estimate(cell, 0.02).device.median, 12.0) for cell in plan.cells}
    said = report(plan, result, grid)
    row = next(line for line in said.splitlines() if line.startswith("| b | 4 |"))
    assert row.endswith("| 50% | 12.00 | 3.00 |")
    grid.use = dict.fromkeys(plan.cells, DeviceUse())
    assert "Device time" not in report(plan, result, grid), "a CPU tells nothing"
