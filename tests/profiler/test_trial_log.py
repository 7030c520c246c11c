"""Trials on disk: nothing that was measured is lost, and nothing of another profile is mixed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.grid import Cell, CellStatus
from profiler.schedule import DeviceError, OutOfMemoryError, Schedule
from profiler.trial_log import TrialLog, write_samples
from sim.base.errors import SpecError
from sim.base.parquet import read_parquet
from tests.profiler.test_schedule import CELLS, Device

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = {"device": "gpu", "cells": 9, "seed": 0}


def run(path: Path, device: Device) -> TrialLog:
    with TrialLog(path, IDENTITY) as log:
        Schedule(CELLS).run(device, log.grid, log.add, log.fail, log.use)
    return log


def told(log: TrialLog) -> list[tuple[object, ...]]:
    return [
        (r.cell, r.round, r.trial.wall_ns.tolist(), r.trial.device_ns.tolist(), r.trial.settled, r.state)
        for r in log.grid.records
    ]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    device = Device(fail={Cell("c", 16): OutOfMemoryError("c", "does not fit")})
    log = run(tmp_path / "v.jsonl", device)
    with TrialLog(tmp_path / "v.jsonl", IDENTITY) as again:
        assert told(again) == told(log)
        assert again.grid.use == log.grid.use != {}
        assert again.grid.failed == {Cell("c", 16): CellStatus.OUT_OF_MEMORY}


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_that_was_cut_off_is_left_out_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "v.jsonl"
    log = run(path, Device())
    path.write_bytes(path.read_bytes()[:-cut])
    with TrialLog(path, IDENTITY) as again:
        assert told(again) == told(log)[:-1]
        again.add(log.grid.records[-1])
    with TrialLog(path, IDENTITY) as whole:
        assert told(whole) == told(log)


def test_an_interrupted_profile_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    with pytest.raises(DeviceError):
        run(path, Device(lost_at_ns=10**9))
    with TrialLog(path, IDENTITY) as log:
        before = told(log)
    assert before
    after = run(path, Device())
    assert told(after)[: len(before)] == before
    assert all(after.grid.estimate(cell, 0.02).status is CellStatus.OK for cell in CELLS)


def test_the_log_of_another_profile_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "v.jsonl", Device())
    with pytest.raises(SpecError, match=r"contains another profile \(seed: stored 0, now 1\)"):
        TrialLog(tmp_path / "v.jsonl", IDENTITY | {"seed": 1})
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(SpecError, match="of another version"):
        TrialLog(tmp_path / "x.jsonl", IDENTITY)


def test_samples_are_stored_each(tmp_path: Path) -> None:
    log = run(tmp_path / "v.jsonl", Device())
    write_samples(log.grid, tmp_path / "s.parquet")
    table = read_parquet(tmp_path / "s.parquet").to_pandas()
    assert len(table) == sum(len(record.trial.wall_ns) for record in log.grid.records)
    first = log.grid.records[0]
    assert table.wall_ns[: len(first.trial.wall_ns)].tolist() == first.trial.wall_ns.tolist()
    assert set(table.clock_mhz) == {1500.0}
