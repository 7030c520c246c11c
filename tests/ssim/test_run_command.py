"""`ssim run` as a user meets it: a process, its words, its exit code and what lies in the folder afterwards."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sim.base.parquet import read_parquet
from tests.ssim import in_process

SMALL = """\
schema: experiment/1
name: small
seed: 7
repeats: 2
trace: {kind: bursty, base_qps: 500, variant_qps: 1500, cv2: 4, duration_s: 2, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
policies:
  - slackfit
  - {use: clipper, params: {accuracy: 79.44}}
  - infaas
"""


def ssim(folder: Path, *words: str, **options: object) -> in_process.Ended | subprocess.CompletedProcess[str]:
    """Run a command in a folder: in a process of its own only if that has options."""
    if not options:
        return in_process.ssim(folder, *words)
    command = [sys.executable, "-m", "ssim", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def complete_runs(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / "results" / "small").glob("*/manifest.json")}


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "results").rglob("*.tmp"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the small experiment has run once, and what was printed."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "small.yaml").write_text(SMALL)
    ended = ssim(folder, "run", "small.yaml", "--jobs", "2")
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


@pytest.fixture
def drawn(done: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    return shutil.copytree(done[0], tmp_path / "drawn")


def test_a_run_leaves_table_pictures_and_rows(done: tuple[Path, str]) -> None:
    folder, said = done
    results = folder / "results" / "small"
    with (results / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = (
        "policy,trace,seed,queries,slo_attainment,mean_serving_accuracy,dropped,late,"
        "p50_latency_ms,p99_latency_ms,utilisation,mean_batch_size,wall_s,unfinished,run"
    )
    assert list(rows[0]) == expected.split(",")
    assert len(rows) == 6
    assert {path.name for path in (results / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in ("tradeoff", "dynamics") for suffix in ("pdf", "svg", "png")
    }
    assert "slackfit" in said
    assert "At equal SLO attainment" in said
    assert str(Path("results/small/summary.csv")) in said


def test_rows_per_query_say_what_summary_says(done: tuple[Path, str]) -> None:
    folder, _ = done
    with (folder / "results" / "small" / "summary.csv").open() as file:
        for row in csv.DictReader(file):
            run = folder / "results" / "small" / row["run"]
            requests = read_parquet(run / "requests.parquet")
            assert requests.column_names == [
                "arrival_ns",
                "deadline_ns",
                "start_ns",
                "finish_ns",
                "worker",
                "subnet",
                "batch_size",
                "outcome",
            ]
            frame = requests.to_pandas()
            met = frame[frame.finish_ns <= frame.deadline_ns]
            assert len(frame) == int(row["queries"])
            assert len(met) / len(frame) == float(row["slo_attainment"])
            assert (met.outcome == "met").all()
            assert (frame.outcome == "late").sum() == int(row["late"])
            latency_ms = (frame.finish_ns - frame.arrival_ns) / 1e6
            assert latency_ms.quantile(0.99) == pytest.approx(float(row["p99_latency_ms"]))
            batches = read_parquet(run / "batches.parquet").to_pandas()
            assert batches["size"].sum() == frame.worker.notna().sum()
            assert batches["size"].mean() == pytest.approx(float(row["mean_batch_size"]))


def test_policies_of_one_seed_meet_the_same_arrivals(done: tuple[Path, str]) -> None:
    folder, _ = done
    index = json.loads((folder / "results" / "small" / "job.json").read_text())
    arrivals: dict[int, list[np.ndarray]] = {}
    for run in index["runs"]:
        column = read_parquet(folder / "results" / "small" / run["id"] / "requests.parquet")["arrival_ns"]
        arrivals.setdefault(run["seed"], []).append(column.to_numpy())
    for same in arrivals.values():
        assert all(np.array_equal(same[0], other) for other in same)
    assert not np.array_equal(arrivals[7][0], arrivals[8][0])


@pytest.mark.usefixtures("all_formats")
def test_the_same_run_gives_the_same_bytes_in_any_folder_and_with_any_jobs(
    done: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = done
    (tmp_path / "small.yaml").write_text(SMALL)
    assert ssim(tmp_path, "run", "small.yaml", "--jobs", "1", "--out", "elsewhere").returncode == 0
    for run in complete_runs(folder):
        first = json.loads((folder / "results" / "small" / run / "manifest.json").read_text())
        second = json.loads((tmp_path / "elsewhere" / "small" / run / "manifest.json").read_text())
        for half in ("identity", "outputs", "summary"):
            assert first[half] == second[half]
    figures = [f"figures/{name}" for name in ("tradeoff.pdf", "tradeoff.svg", "tradeoff.png", "dynamics.pdf")]
    for figure in figures:
        assert (folder / "results/small" / figure).read_bytes() == (tmp_path / "elsewhere/small" / figure).read_bytes()


def test_a_second_call_computes_nothing_and_says_the_same(done: tuple[Path, str]) -> None:
    folder, said = done
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")}
    again = ssim(folder, "run", "small.yaml")
    assert again.stdout == said
    assert "6 of 6 runs are stored already" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")}


@pytest.mark.usefixtures("all_formats")
def test_figures_are_drawn_again_byte_for_byte(done: tuple[Path, str]) -> None:
    folder, _ = done
    pictures = sorted((folder / "results" / "small" / "figures").iterdir())
    before = [path.read_bytes() for path in pictures]
    assert ssim(folder, "figures", "small").returncode == 0
    assert [path.read_bytes() for path in pictures] == before


def test_without_rows_per_query_and_then_with_them(folder: Path) -> None:
    assert ssim(folder, "run", "small.yaml", "--set", "keep=batches", "--no-figures").returncode == 0
    assert not list((folder / "results").rglob("requests.parquet"))
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    assert len(list((folder / "results").rglob("requests.parquet"))) == 6


def test_force_computes_again(folder: Path) -> None:
    quick = ("--set", "repeats=1", "--no-figures")
    assert ssim(folder, "run", "small.yaml", *quick).returncode == 0
    stamp = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("batches.parquet")}
    assert ssim(folder, "run", "small.yaml", *quick, "--force").returncode == 0
    assert all(path.stat().st_mtime_ns > before for path, before in stamp.items())


def test_a_sweep_has_its_columns_in_the_summary(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL + "sweep: {cluster.dispatch_ms: [0, 4]}\n")
    ended = ssim(folder, "run", "small.yaml", "--set", "repeats=1", "--no-figures")
    assert ended.returncode == 0, ended.stderr
    with (folder / "results/small/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["cluster.dispatch_ms"] for row in rows) == ["0"] * 3 + ["4"] * 3
    assert "small, with repeats=1 (one seed, no interval)" in ended.stdout
    assert "dispatch_ms policy" in ended.stdout


def test_bad_input_ends_in_a_line_a_fault_and_code_2(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.replace("- infaas", "- infas").replace("workers: 2", "workers: 0"))
    ended = ssim(folder, "run", "small.yaml")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "ssim: small.yaml:6:20: cluster.workers: must be greater than or equal to 1 (0)",
        (
            "ssim: small.yaml:11:5: policies.2.use: unknown policy ('infas'); did you mean 'infaas'? "
            "(or module:Class for one of your own)"
        ),
    ]
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "small.yaml", "--jobs", "0"), "--jobs"),
        (("run",), "FILE"),
        (("rum",), "rum"),
        (("run", "small.yaml", "--set", "x"), "--set: must be NAME=VALUE ('x')"),
    ],
)
def test_wrong_words_on_the_line_end_in_code_2(folder: Path, words: tuple[str, ...], says: str) -> None:
    ended = ssim(folder, *words)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_figures_of_nothing_are_an_error(folder: Path) -> None:
    ended = ssim(folder, "figures", "small")
    assert ended.returncode == 1
    assert "no stored results of this name ('small')" in ended.stderr


def test_a_run_that_fails_is_told_at_the_end_and_the_others_are_kept(folder: Path) -> None:
    (folder / "late_failure.py").write_text(
        "from dataclasses import dataclass\n\n"
        "from sim import Dispatch\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Late:\n"
        "    def decide(self, view):\n"
        "        return Dispatch(0, 1) if view.now_ns < 10**9 else 'no idea'\n"
    )
    (folder / "small.yaml").write_text(SMALL.replace("- infaas", "- late_failure:Late"))
    ended = ssim(folder, "run", "small.yaml", "--jobs", "2", "--no-figures")
    assert ended.returncode == 1
    assert len(complete_runs(folder)) == 4
    told = ended.stderr.splitlines()
    assert told[-1] == "ssim: 2 of 6 runs failed"
    for line in told[-3:-1]:  # their situations differ
        assert line.startswith("ssim: late_failure:Late, seed ")
        assert "does not return a decision ('no idea'; late_failure.py:8, in decide; slack " in line
        assert "; Dispatch, Hold, Wait or Drop" in line
    assert "Traceback" not in ended.stderr
    assert "slackfit" in ended.stdout
    assert leftovers(folder) == []


def test_a_trace_file_that_breaks_its_rules_is_bad_input(folder: Path) -> None:
    (folder / "arrivals.csv").write_text("arrival_s\n0.1\n0.3\n0.2\n")
    trace = "trace: {kind: file, path: arrivals.csv, slo_ms: 36}"
    text = "\n".join(trace if line.startswith("trace:") else line for line in SMALL.splitlines())
    (folder / "small.yaml").write_text(text)
    ended = ssim(folder, "run", "small.yaml", "--set", "repeats=1", "--jobs", "1")
    assert ended.returncode == 2
    assert "arrivals.csv" in ended.stderr
    assert "earlier" in ended.stderr


LONG = ("--set", "trace.duration_s=20", "--set", "engine=simpy", "--set", "repeats=4", "--no-figures")


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ssim", "run", "small.yaml", *LONG, *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_runs(folder: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(complete_runs(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_run_keeps_what_it_has_and_goes_on_from_there(folder: Path, jobs: str) -> None:
    process = started(folder, "--jobs", jobs)
    wait_for_runs(folder, process, 2)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: the whole process group
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("ssim: interrupted: finished runs are stored")
    assert "Traceback" not in said
    kept = complete_runs(folder)
    assert 2 <= len(kept) < 12
    assert leftovers(folder) == []
    again = ssim(folder, "run", "small.yaml", *LONG)
    assert again.returncode == 0
    assert f"{len(kept)} of 12 runs are stored already" in again.stderr
    assert len(complete_runs(folder)) == 12


def test_a_killed_run_leaves_nothing_half_written_behind(folder: Path) -> None:
    process = started(folder, "--jobs", "1")
    wait_for_runs(folder, process, 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    kept = complete_runs(folder)
    again = ssim(folder, "run", "small.yaml", *LONG)
    assert again.returncode == 0, again.stderr
    assert kept <= complete_runs(folder)
    assert len(complete_runs(folder)) == 12
    assert leftovers(folder) == []


def test_two_runs_into_one_folder_do_not_mix(folder: Path) -> None:
    process = started(folder, "--jobs", "1")
    wait_for_runs(folder, process, 1)
    process.send_signal(signal.SIGSTOP)  # or it might have ended before the other comes to look
    other = ssim(folder, "run", "small.yaml", *LONG)
    process.send_signal(signal.SIGCONT)
    assert other.returncode == 1
    assert other.stderr.splitlines() == [
        (
            f"ssim: results/small: another run is writing here (process {process.pid}); "
            "wait for it to end, or give another folder with --out"
        )
    ]
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(complete_runs(folder)) == 12


def test_a_disk_that_fills_up_loses_nothing_that_is_stored(folder: Path) -> None:
    """A limit on the size of files stands for the disk: writing past it fails as on a full one."""
    assert ssim(folder, "run", "small.yaml", "--set", "repeats=1", "--no-figures").returncode == 0
    kept = complete_runs(folder)
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from ssim.cli import main\n"
        "main(['run', 'small.yaml', '--no-figures', '--jobs', '1'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "disk full" in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if line.startswith("ssim:")]) == 1
    assert "Traceback" not in ended.stderr
    assert kept <= complete_runs(folder)
    assert leftovers(folder) == []
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0


@pytest.mark.parametrize("name", ["manifest.json", "windows.parquet", "requests.parquet", "batches.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_run_is_told_when_drawn_and_computed_again_when_run(folder: Path, name: str, damage: str) -> None:
    quick = ("--set", "repeats=1", "--set", "trace.duration_s=0.2", "--no-figures")
    assert ssim(folder, "run", "small.yaml", *quick).returncode == 0
    file = folder / "results/small" / min(complete_runs(folder)) / name
    whole = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(whole[:100])
        case "gone":
            file.unlink()
        case "other":
            file.write_text("{}")
    if not (name == "manifest.json" and damage == "gone"):  # then there is no run
        drawn = ssim(folder, "figures", "small")
        assert drawn.returncode == 1
        assert name in drawn.stderr
        assert "is damaged" in drawn.stderr
        assert "run it again: damaged results are computed again" in drawn.stderr
    again = ssim(folder, "run", "small.yaml", *quick)
    assert again.returncode == 0, again.stderr
    assert "2 of 3 runs are stored already" in again.stderr
    if name != "manifest.json":
        assert file.read_bytes() == whole


@pytest.mark.usefixtures("all_formats")
def test_pictures_are_those_of_the_runs_in_the_table(drawn: Path) -> None:
    folder = drawn
    picture = folder / "results/small/figures/tradeoff.svg"
    assert "INFaaS" in picture.read_text()
    assert ssim(folder, "run", "small.yaml", "--set", "policies=[slackfit, maxbatch]").returncode == 0
    assert "INFaaS" not in picture.read_text()


@pytest.mark.usefixtures("all_formats")
def test_pictures_of_other_runs_do_not_stay_beside_a_new_table(drawn: Path) -> None:
    folder = drawn
    pictures = folder / "results" / "small" / "figures"
    before = sorted(path.name for path in pictures.iterdir())
    assert "tradeoff.png" in before
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    assert sorted(path.name for path in pictures.iterdir()) == before  # they still show what is stored
    (pictures / "mine.png").touch()
    assert ssim(folder, "run", "small.yaml", "--no-figures", "--set", "trace.variant_qps=99").returncode == 0
    assert [path.name for path in pictures.iterdir()] == ["mine.png"]
    assert ssim(folder, "run", "small.yaml").returncode == 0
    assert sorted(path.name for path in pictures.iterdir()) == sorted([*before, "mine.png"])


def test_runs_that_a_sweep_leaves_as_they_are_run_once(folder: Path) -> None:
    text = SMALL.replace("- slackfit", "- {use: slackfit, params: {buckets: 1}}")
    (folder / "small.yaml").write_text(text + "sweep: {policies.0.params.buckets: [4, 8, 16]}\n")
    ended = ssim(folder, "run", "small.yaml", "--set", "repeats=1", "--jobs", "2", "--no-figures")
    assert ended.returncode == 0, ended.stderr
    assert len(complete_runs(folder)) == 3 + 2
    with (folder / "results/small/summary.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 9


def test_a_run_in_which_nothing_is_met_has_no_accuracy_and_is_drawn(folder: Path) -> None:
    ended = ssim(folder, "run", "small.yaml", "--set", "trace.slo_ms=1", "--set", "cluster.drop=hopeless")
    assert ended.returncode == 0, ended.stderr
    with (folder / "results/small/summary.csv").open() as file:
        assert {row["mean_serving_accuracy"] for row in csv.DictReader(file)} == {""}


def test_queries_that_no_worker_is_left_for_are_told(folder: Path) -> None:
    ended = ssim(
        folder, "run", "small.yaml", "--set", "cluster={workers: 1, faults: [{worker: 0, at_s: 0.5}]}", "--no-figures"
    )
    assert ended.returncode == 0, ended.stderr
    assert "queries were never started: no worker was left" in ended.stdout
    with (folder / "results/small/summary.csv").open() as file:
        for row in csv.DictReader(file):
            met = round(float(row["slo_attainment"]) * int(row["queries"]))
            assert met + sum(int(row[name]) for name in ("late", "dropped", "unfinished")) == int(row["queries"])


def test_a_policy_of_which_a_seed_failed_is_marked_and_not_compared(folder: Path) -> None:
    (folder / "moody.py").write_text(
        "from dataclasses import dataclass\n\n"
        "from sim import Dispatch\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Moody:\n"
        "    def decide(self, view):\n"
        "        if view.now_ns > 10**9 and view.system.rng.integers(2**31) == 1273642419:\n"
        "            raise ValueError\n"
        "        first = view.system.rng.bit_generator.state['state']['inc'] % 1000\n"
        "        if view.now_ns > 10**9 and first == MOOD:\n"
        "            raise KeyError('no\\nmood')\n"
        "        return Dispatch(0, 16)\n"
    )
    from sim.base.streams import stream

    mood = stream(8, "policy").bit_generator.state["state"]["inc"] % 1000
    (folder / "moody.py").write_text((folder / "moody.py").read_text().replace("MOOD", str(mood)))
    (folder / "small.yaml").write_text(SMALL.replace("- slackfit", "- moody:Moody"))
    ended = ssim(folder, "run", "small.yaml", "--debug", "--jobs", "2", "--no-figures")
    assert ended.returncode == 1
    assert "moody:Moody (1 of 2 seeds)" in ended.stdout
    assert "At equal" not in ended.stdout
    assert "ssim: moody:Moody, seed 8: Moody() at " in ended.stderr
    assert "raised KeyError: 'no\\nmood' (moody.py:13, in decide; slack " in ended.stderr
    assert 'moody.py", line 13' in ended.stderr  # --debug shows the policy's own line


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_policy_that_ends_the_program_fails_its_run(folder: Path, jobs: str) -> None:
    (folder / "quitter.py").write_text(
        "from dataclasses import dataclass\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Quits:\n"
        "    def decide(self, view):\n"
        "        if view.now_ns > 10**9:\n"
        "            raise SystemExit(0)\n"
        "        from sim import Dispatch\n"
        "        return Dispatch(0, 16)\n"
    )
    (folder / "small.yaml").write_text(SMALL.replace("- slackfit", "- quitter:Quits"))
    ended = ssim(folder, "run", "small.yaml", "--jobs", jobs, "--no-figures")
    assert ended.returncode == 1
    assert "raised SystemExit: 0 (quitter.py:8, in decide; slack " in ended.stderr
    assert len(complete_runs(folder)) == 4


def test_brackets_in_a_path_are_printed_as_they_are(folder: Path) -> None:
    short = ("--set", "trace.duration_s=0.1", "--set", "repeats=1", "--no-figures")
    ended = ssim(folder, "run", "small.yaml", "--out", "re[bold]s", *short)
    assert ended.returncode == 0, ended.stderr
    assert "Table: re[bold]s/small/summary.csv" in ended.stdout


def test_a_trace_source_that_ends_the_program_fails_its_run(folder: Path) -> None:
    (folder / "ending.py").write_text(
        "from dataclasses import dataclass\n"
        "from sim.traces.synthetic import Constant\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Ends(Constant):\n"
        "    is_random = True\n"
        "    def chunks(self, seed):\n"
        "        if seed == 8:\n"
        "            raise SystemExit('no more')\n"
        "        return super().chunks(seed)\n"
    )
    text = re.sub(r"trace: .*", "trace: {kind: 'ending:Ends', mean_qps: 100, duration_s: 2, slo_ms: 36}", SMALL)
    (folder / "small.yaml").write_text(text)
    ended = ssim(folder, "run", "small.yaml", "--no-figures")
    assert ended.returncode == 1
    assert "trace ending:Ends: raised SystemExit: no more (ending.py:10, in chunks)" in ended.stderr
    assert len(complete_runs(folder)) == 3


def test_processes_are_started_for_what_lasts_longer_than_their_start(folder: Path) -> None:
    (folder / "telling.py").write_text(
        "import os\nimport time\nfrom dataclasses import dataclass\nfrom sim import Dispatch\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Tells:\n"
        "    nap_s: float = 0.0\n\n"
        "    def decide(self, view):\n"
        "        if view.now_ns == 0:\n"
        "            time.sleep(self.nap_s)\n"
        "            with open('processes', 'a') as file:\n"
        "                print(os.getpid(), file=file)\n"
        "        return Dispatch(0, 16)\n"
    )
    text = re.sub(r"trace: .*", "trace: {kind: constant, mean_qps: 100, duration_s: 2, slo_ms: 36}", SMALL)
    (folder / "small.yaml").write_text(text[: text.index("policies:")] + "policies: ['telling:Tells']\n")
    words = (
        "small.yaml",
        "--no-figures",
        "--jobs",
        "2",
        "--set",
        "sweep.trace.slo_ms=[31,32,33,34,35,36]",
        "--set",
        "engine=simpy",
    )
    started = []
    for nap, start_s in ((0.0, 60.0), (1.0, 1.5)):  # a busy machine takes its time
        (folder / "processes").unlink(missing_ok=True)
        naps = f"policies=[{{use: 'telling:Tells', params: {{nap_s: {nap}}}}}]"
        script = f"from ssim.execution import runner; runner._START_S = {start_s}; from ssim.cli import main; "
        script += f"main({['run', *words, '--set', naps]})"
        ended = subprocess.run(
            [sys.executable, "-c", f"if __name__ == '__main__':\n    {script}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        started.append(len(set((folder / "processes").read_text().split())))
    assert started == [1, 3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(folder: Path, number: signal.Signals) -> None:
    process = started(folder, "--jobs", "2")
    wait_for_runs(folder, process, 1)
    process.send_signal(number)  # to the parent alone
    process.communicate(timeout=20)  # ends only when no worker holds the pipes any more
    assert process.returncode == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    assert ssim(folder, "run", "small.yaml", *LONG).returncode == 0
    assert leftovers(folder) == []


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from ssim.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy', 'numba', 'numpy', 'simpy', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    for command in ("run", "figures", "table", "trace", "schema"):
        assert command in ended.stdout


def test_a_traceback_is_there_for_who_asks_for_it(folder: Path) -> None:
    ended = ssim(folder, "run", "small.yaml", "--set", "x", "--debug", stdin=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_a_sweep_over_lists_and_mappings_is_drawn(folder: Path) -> None:
    sweep = "sweep={cluster.faults: [[], [{worker: 0, at_s: 1}]]}"
    words = ("--set", sweep, "--set", "policies=[slackfit]", "--set", "capacity={rate: variant_qps, precision: 1}")
    for command in ("run", "capacity"):
        ended = ssim(folder, command, "small.yaml", *words)
        assert ended.returncode == 0, ended.stderr
        assert "Picture:" in ended.stdout


def test_an_edit_of_a_policy_that_lies_elsewhere_on_the_path_is_a_new_run(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.replace("- infaas", "- 'lies_elsewhere:P'"))
    (folder / "lib").mkdir()
    (folder / "work").mkdir()
    (folder / "small.yaml").rename(folder / "work" / "small.yaml")
    text = "from dataclasses import dataclass\nfrom sim import Dispatch\n@dataclass(frozen=True)\nclass P:\n"
    text += "    def decide(self, view):\n        return Dispatch(0, 1)\n"
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    found = []
    for subnet in (0, 5):
        (folder / "lib" / "lies_elsewhere.py").write_text(text.replace("Dispatch(0", f"Dispatch({subnet}"))
        ended = ssim(folder, "run", "work/small.yaml", "--no-figures", env=environment)
        assert ended.returncode == 0, ended.stderr
        index = json.loads((folder / "results/small/job.json").read_text())
        found.append({run["policy"]: run["id"] for run in index["runs"]})
    assert found[0].pop("lies_elsewhere:P") != found[1].pop("lies_elsewhere:P")
    assert found[0] == found[1], "the others are not computed again"
