"""What of an experiment's folder travels to other machines, and what comes of it there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ssim.backends.parcel import packed
from ssim.expand import read_experiment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssim.run import Run


@pytest.fixture(autouse=True)
def _modules_as_they_were() -> Iterator[None]:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = path


def runs_of(folder: Path, *overrides: str) -> tuple[Run, ...]:
    return read_experiment(folder / "own.yaml", overrides).runs


def test_what_runs_are_made_of_travels_and_nothing_else(own: Path) -> None:
    (own / "notes.txt").write_text("not for others")
    (own.parent / "traces/other.csv").write_text("arrival_s\n1\n")
    parcel = packed(runs_of(own))
    assert parcel.inside == Path("experiments")
    assert {str(path): content for path, content in parcel.files} == {
        str(path): (own.parent / path).read_bytes()
        for path in map(
            Path,
            (
                "experiments/own_helper.py",
                "experiments/own_policy.py",
                "experiments/table.csv",
                "traces/arrivals.csv",
            ),
        )
    }


def test_what_is_named_by_an_absolute_path_elsewhere_does_not_travel(own: Path, tmp_path: Path) -> None:
    (tmp_path / "traces").rename(tmp_path / "data")
    parcel = packed(runs_of(own, f"trace.path={tmp_path}/data/arrivals.csv"))
    assert parcel.inside == Path()
    assert [str(path) for path, _ in parcel.files] == ["own_helper.py", "own_policy.py", "table.csv"]


def test_a_run_is_the_same_where_it_is_unpacked(own: Path, tmp_path: Path) -> None:
    runs = runs_of(own)
    expected = [run.identity for run in runs]
    (tmp_path / "there").mkdir()
    here = packed(runs).unpacked(tmp_path / "there")
    for name in ("own_policy", "own_helper"):
        del sys.modules[name]  # a worker has not imported them
    sys.path.remove(str(own))
    assert [replace(run, folder=here).identity for run in runs] == expected
    assert Path(sys.modules["own_policy"].__file__ or "").parent == here


def test_the_next_parcel_takes_the_place_of_the_last(own: Path, tmp_path: Path) -> None:
    """Where a worker lives on, and where the folder that sent it is on the path of modules, too."""
    runs = runs_of(own)
    parcel = packed(runs)
    edited = [(path, b"at_most = max\n" if path.name == "own_helper.py" else content) for path, content in parcel.files]
    first = parcel.unpacked(tmp_path)
    assert sys.path.index(str(first)) < sys.path.index(str(own))
    for name in ("own_policy", "own_helper"):
        del sys.modules[name]
    before = replace(runs[2], folder=first).identity
    second = replace(parcel, files=tuple(edited)).unpacked(tmp_path)
    assert second != first
    assert str(first) not in sys.path
    assert {"own_policy", "own_helper"}.isdisjoint(sys.modules)
    after = replace(runs[2], folder=second).identity
    assert before["code"]["own"] != after["code"]["own"]
    assert sys.modules["own_helper"].at_most is max
    assert parcel.unpacked(tmp_path) == first


def test_many_workers_of_one_machine_may_unpack_at_once(own: Path, tmp_path: Path) -> None:
    parcel = packed(runs_of(own))
    (tmp_path / parcel.name).mkdir()
    (tmp_path / parcel.name / "done").touch()  # another was quicker
    parcel._unpack(tmp_path / parcel.name)
    assert [path.name for path in (tmp_path / parcel.name).iterdir()] == ["done"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["experiments", "traces", parcel.name])
