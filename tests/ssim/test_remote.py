"""What of an experiment's folder travels to other machines, and what comes of it there."""

from __future__ import annotations

import errno
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sim.base.errors import StoreError
from sim.engines import NO_NUMBA, EngineChoice
from ssim.execution.backends.bundle import bundle_of
from ssim.execution.backends.remote import run_in_worker
from ssim.jobs.identity import own_hash
from ssim.jobs.job import Point, Task
from ssim.jobs.reading import read_job
from ssim.results.record import REQUESTS
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssim.jobs.experiment.run import ExperimentRun

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _modules_as_they_were() -> Iterator[None]:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        if name.startswith("own_"):  # others can't be imported twice in a process
            del sys.modules[name]
    sys.path[:] = path


def runs_of(folder: Path, *overrides: str) -> tuple[ExperimentRun, ...]:
    return read_job(folder / "own.yaml", overrides).runs


def placed(run: ExperimentRun, folder: Path) -> ExperimentRun:
    """Return the run of a file that lies in another folder."""
    return replace(run, point=replace(run.point, folder=folder))


def test_what_runs_are_made_of_travels_and_nothing_else(own: Path) -> None:
    (own / "notes.txt").write_text("not for others")
    (own.parent / "traces/other.csv").write_text("arrival_s\n1\n")
    bundle = bundle_of(runs_of(own))
    assert bundle.inside == Path("experiments")
    assert {str(path): content for path, content in bundle.files} == {
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
    bundle = bundle_of(runs_of(own, f"trace.path={tmp_path}/data/arrivals.csv"))
    assert bundle.inside == Path()
    assert [str(path) for path, _ in bundle.files] == ["own_helper.py", "own_policy.py", "table.csv"]


def test_a_run_is_the_same_where_it_is_unpacked(own: Path, tmp_path: Path) -> None:
    runs = runs_of(own)
    expected = [run.identity for run in runs]
    (tmp_path / "there").mkdir()
    here = bundle_of(runs).unpack(tmp_path / "there")
    for name in ("own_policy", "own_helper"):
        del sys.modules[name]  # a worker has not imported them
    sys.path.remove(str(own))
    assert [placed(run, here).identity for run in runs] == expected
    assert Path(sys.modules["own_policy"].__file__ or "").parent == here


def test_the_next_parcel_takes_the_place_of_the_last(own: Path, tmp_path: Path) -> None:
    """Where a worker lives on, and where the folder that sent it is on the path of modules, too."""
    runs = runs_of(own)
    bundle = bundle_of(runs)
    files = [(path, b"at_most = max\n" if path.name == "own_helper.py" else content) for path, content in bundle.files]
    edited = replace(bundle, files=tuple(files), name=f"{bundle.name}-edited")
    first = bundle.unpack(tmp_path)
    assert sys.path.index(str(first)) < sys.path.index(str(own))
    for name in ("own_policy", "own_helper"):
        del sys.modules[name]
    before = placed(runs[2], first).identity
    second = edited.unpack(tmp_path)
    assert second != first
    assert str(first) not in sys.path
    assert {"own_policy", "own_helper"}.isdisjoint(sys.modules)
    after = placed(runs[2], second).identity
    assert before["code"]["own"] != after["code"]["own"]
    assert sys.modules["own_helper"].at_most is max
    assert bundle.unpack(tmp_path) == first


def test_many_workers_of_one_machine_may_unpack_at_once(own: Path, tmp_path: Path) -> None:
    bundle = bundle_of(runs_of(own))
    (tmp_path / bundle.name).mkdir()
    (tmp_path / bundle.name / "done").touch()  # another was quicker
    bundle._unpack(tmp_path / bundle.name)
    assert [path.name for path in (tmp_path / bundle.name).iterdir()] == ["done"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["experiments", "traces", bundle.name])


def test_the_toolkit_itself_does_not_travel(own: Path) -> None:
    """It may lie below the folder of an experiment, as in the home of who cloned it."""
    (slackfit, *_) = runs_of(own)
    trace = {"kind": "poisson", "mean_qps": 10, "duration_s": 1, "slo_ms": 36}
    content = {**slackfit.point.content, "trace": trace, "latency_table": {"use": "ofa-resnet50-rtx2080ti"}}
    run = replace(slackfit, point=Point("experiment/1", content | {"policies": [{"use": "slackfit"}]}, ROOT))
    assert run.files() == set()
    assert run.identity["code"]["own"] == []


SCRATCH = Path()


def scratch() -> Path:
    return SCRATCH


@pytest.fixture
def there(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scratch folder of a worker, in this process."""
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(sys.modules[__name__], "SCRATCH", tmp_path / "there")
    monkeypatch.syspath_prepend(str(own))
    return tmp_path / "there"


def sent(run: ExperimentRun, choice: EngineChoice) -> tuple[bytes, bytes]:
    bundle, task = bundle_of([run]), (Task(run, choice.rule is not None, (choice, None)), run.identity)
    for name in {"own_policy", "own_helper"} & set(sys.modules):
        del sys.modules[name]  # a worker has not imported them
    return pickle.dumps((scratch, bundle, own_hash())), pickle.dumps(task)


def test_what_comes_back_is_what_a_store_takes(own: Path, there: Path, tmp_path: Path) -> None:
    run = runs_of(own)[1]
    name = bundle_of([run]).name
    back = run_in_worker(*sent(run, EngineChoice("simpy", "asked for")))
    assert back.error is None
    assert back.completion.queries == 3000
    store = Store(tmp_path / "store")
    store.take(run.id, back.files)
    assert store.has(run.id, [REQUESTS])
    assert [path.name for path in there.iterdir()] == [name]


@pytest.mark.usefixtures("there")
def test_another_input_there_is_told(own: Path, tmp_path: Path) -> None:
    trace = tmp_path / "traces/arrivals.csv"
    pair = sent(runs_of(own, f"trace.path={trace}")[0], EngineChoice("simpy", "asked for"))
    trace.write_text("arrival_s\n1\n")
    error = run_in_worker(*pair).error
    assert "has other inputs of the run than the machine that sent it (trace); " in str(error)
    trace.unlink()
    assert str(trace) in str(run_in_worker(*pair).error)


@pytest.mark.usefixtures("there")
def test_a_full_disk_there_fails_the_run_and_not_the_experiment(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pair = sent(runs_of(own)[0], EngineChoice("simpy", "asked for"))
    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    error = run_in_worker(*pair).error
    assert error is not None
    assert not isinstance(error, StoreError)
    assert str(error).startswith("a worker on ")
    assert "disk full" in str(error)


@pytest.mark.usefixtures("there")
def test_a_worker_without_numba_takes_the_other_engine_where_it_may(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs_of(own)[0]
    compiled = run.choose(10**9)
    assert compiled.rule is not None
    monkeypatch.setattr("ssim.jobs.experiment.run.numba_is_installed", lambda: False)
    back = run_in_worker(*sent(run, compiled))
    assert back.completion.note == NO_NUMBA
    assert json.loads(back.files["manifest.json"])["circumstances"]["engine"] == "simpy"
