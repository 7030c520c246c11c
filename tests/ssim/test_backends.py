"""`ssim run --backend ray|dask`, on real clusters: processes of this machine that a test starts and kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ssim.packages import PACKAGES
from tests.ssim.test_run_command import SMALL, complete_runs, leftovers, ssim, wait_for_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

ROOT = Path(__file__).parents[2]

# One after the other: each of them starts a cluster of two workers, on a machine that may have two cores.
pytestmark = pytest.mark.xdist_group("clusters")


def sometimes(*values: object) -> object:
    """What is like another case, and takes its time."""
    return pytest.param(*values, marks=pytest.mark.slow)


RAY_HEAD = """\
import sys
import ray
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_token_in_the_home_of_who_runs_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@contextmanager
def ended(process: subprocess.Popen[str]) -> Generator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ray_cluster() -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Give the address of a Ray cluster, and the process without which it is no more."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    words = [sys.executable, "-c", RAY_HEAD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=environment, text=True, **pipes) as head:  # it ends when its input does
        assert head.stdout is not None
        yield head.stdout.readline().strip(), head


@contextmanager
def dask_cluster(folder: Path, *before: str, **worker: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Give the address of a Dask cluster, and its scheduler.

    Args:
        folder: Where its files lie.
        before: What stands before the command that starts the workers.
        worker: What is added to their environment.
    """
    file = folder / f"{uuid.uuid4()}.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = [sys.executable, "-m", "dask", "scheduler", *common, "--port", "0", "--host", "127.0.0.1"]
    workers = [sys.executable, "-m", "dask", "worker", *common, "--nworkers", "2", "--nthreads", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True, "cwd": folder}
    once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with (
        ended(
            subprocess.Popen([*scheduler, "--dashboard-address", "127.0.0.1:0"], env={**os.environ, **once}, **quiet)
        ) as first,
        subprocess.Popen([*before, *workers], env={**os.environ, **worker}, **quiet, start_new_session=True) as others,
    ):
        try:
            until(lambda: file.exists() and file.read_text().endswith("}"))  # it is there before it is written
            yield json.loads(file.read_text())["address"], first
        finally:
            os.killpg(
                others.pid, signal.SIGKILL
            )  # politely, a worker that is just starting would wait for its scheduler


def until(happens: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Gives the address of a cluster, which is started when it is asked for, and is there for the whole module."""
    with ExitStack() as stack:

        @cache
        def address(name: str) -> str:
            started = ray_cluster() if name == "ray" else dask_cluster(tmp_path_factory.mktemp("dask"))
            return stack.enter_context(started)[0]

        yield address


@pytest.fixture(params=[sometimes("ray"), "dask"])
def cluster(request: pytest.FixtureRequest, clusters: Callable[[str], str]) -> tuple[str, ...]:
    """The words that send runs to a cluster."""
    return ("--backend", request.param, "--address", clusters(request.param))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def assert_same_results(first: Path, second: Path) -> None:
    """Rows byte for byte, and all of the manifest but its circumstances."""
    runs = {path.parent.name for path in first.glob("*/manifest.json")}
    assert runs
    assert runs == {path.parent.name for path in second.glob("*/manifest.json")}
    for run in runs:
        one, other = (json.loads((folder / run / "manifest.json").read_text()) for folder in (first, second))
        assert one["circumstances"]["engine"] == other["circumstances"]["engine"]
        for half in ("identity", "outputs", "summary"):
            assert one[half] == other[half]
        for name in one["outputs"]:
            assert (first / run / name).read_bytes() == (second / run / name).read_bytes()


@pytest.mark.parametrize(
    ("cluster", "engine"),
    [("ray", "compiled"), ("dask", "simpy"), sometimes("ray", "simpy"), sometimes("dask", "compiled")],
    indirect=["cluster"],
)
def test_results_are_those_of_this_machine_byte_for_byte(own: Path, cluster: tuple[str, ...], engine: str) -> None:
    words = ("run", "own.yaml", "--no-figures", "--set", f"engine={engine}")
    assert ssim(own, *words, "--jobs", "1", "--out", "here").returncode == 0
    there = ssim(own, *words, *cluster, "--out", "there")
    assert there.returncode == 0, there.stderr
    assert "[3/3]" in there.stderr
    assert_same_results(own / "here/own", own / "there/own")
    assert leftovers(own / "there") == []


def listens(port: int) -> bool:
    with socket.socket() as here:
        return here.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_results_are_the_same_by_way_of_the_client_of_ray(own: Path) -> None:
    """The way into a cluster from a machine that is no part of it."""
    with socket.socket() as free, socket.socket() as other:
        for one in (free, other):
            one.bind(("127.0.0.1", 0))
        port, head_port = free.getsockname()[1], other.getsockname()[1]
    words = ("run", "own.yaml", "--no-figures", "--set", "engine=compiled")
    assert ssim(own, *words, "--out", "here").returncode == 0
    ports = ("--port", str(head_port), "--ray-client-server-port", str(port))
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2", *ports]
    path = (
        f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # its server for clients starts the `python` found there
    )
    quiet = {"env": {**os.environ, "PATH": path}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*start, "--include-dashboard", "false", "--disable-usage-stats"], **quiet) as head:
        try:
            until(lambda: listens(port))
            there = ssim(own, *words, "--backend", "ray", "--address", f"ray://127.0.0.1:{port}", "--out", "there")
        finally:
            head.terminate()
    assert there.returncode == 0, there.stderr
    assert_same_results(own / "here/own", own / "there/own")


HIDING = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')
"""Runs a command from which a folder is hidden, as if it were on another machine."""


def test_no_file_system_in_common_is_needed(own: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("unshare") is None or subprocess.run([*HIDING, str(own), "true"], check=False).returncode:
        pytest.skip("no folder can be hidden from a process here")
    words = ("run", "own.yaml", "--no-figures")
    assert ssim(own, *words, "--out", "here").returncode == 0
    with dask_cluster(tmp_path_factory.mktemp("dask"), *HIDING, str(own.parent)) as (address, _):
        there = ssim(own, *words, "--backend", "dask", "--address", address, "--out", "there")
    assert there.returncode == 0, there.stderr
    assert_same_results(own / "here/own", own / "there/own")


@pytest.mark.parametrize("cluster", [sometimes("ray"), "dask"], indirect=True)
def test_workers_see_an_edit_of_ones_own_policy(own: Path, cluster: tuple[str, ...]) -> None:
    """A Dask worker has imported the old one."""
    words = ("run", "own.yaml", "--no-figures", "--set", "policies=['own_policy:Mine']", "--set", "repeats=1")
    assert ssim(own, *words, *cluster, "--out", "before").returncode == 0
    (own / "own_helper.py").write_text("def at_most(most, length):\n    return 1\n")
    assert ssim(own, *words, *cluster, "--out", "there").returncode == 0
    assert ssim(own, *words, "--out", "here").returncode == 0
    assert_same_results(own / "here/own", own / "there/own")


def test_a_run_that_fails_is_told_in_words_of_this_machine(own: Path, cluster: tuple[str, ...]) -> None:
    (own / "moody.py").write_text(
        "from dataclasses import dataclass\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Moody:\n"
        "    def decide(self, view):\n"
        "        if view.now_ns > 10**9:\n"
        "            raise ValueError(__file__)\n"
        "        from sim import Dispatch\n"
        "        return Dispatch(0, 8)\n"
    )
    ended = ssim(own, "run", "own.yaml", "--no-figures", "--set", "policies=[slackfit, 'moody:Moody']", *cluster)
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert told[-1] == "ssim: 1 of 2 runs failed"
    assert told[-2].startswith("ssim: moody:Moody, seed ")
    assert f"raised ValueError: {own / 'moody.py'} (moody.py:" in told[-2]  # from its copy there, and nevertheless
    assert len(list((own / "results/own").glob("*/manifest.json"))) == 1


def test_a_worker_that_is_killed_ends_no_run_but_the_one_that_kills_it(own: Path, cluster: tuple[str, ...]) -> None:
    (own / "killer.py").write_text(
        "import os\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n\n"
        "from sim import Dispatch\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Killer:\n"
        "    once: str | None = None\n\n"
        "    def decide(self, view):\n"
        "        if view.now_ns > 10**9 and not (self.once and Path(self.once).exists()):\n"
        "            Path(self.once or os.devnull).touch()\n"
        "            os.kill(os.getpid(), 9)\n"
        "        return Dispatch(0, 8)\n"
    )
    words = ("run", "own.yaml", "--no-figures", "--set", "repeats=1", *cluster, "--set")
    ended = ssim(own, *words, f"policies=[slackfit, {{use: 'killer:Killer', params: {{once: {own}/killed}}}}]")
    assert ended.returncode == 0, ended.stderr  # tried again
    assert (own / "killed").exists()
    ended = ssim(own, *words, "policies=['killer:Killer', infaas]")
    assert ended.returncode == 1
    told = [line for line in ended.stderr.splitlines() if line.startswith("ssim: ")]  # Dask may say more in the end
    assert told[-1] == "ssim: 1 of 2 runs failed", ended.stderr
    assert told[-2] == "ssim: killer:Killer, seed 7: a worker: was killed each time that it tried this run"
    assert len(list((own / "results/own").glob("*/manifest.json"))) == 3


LONG = ("--set", "trace.duration_s=20", "--set", "engine=simpy", "--set", "repeats=8", "--no-figures")
RUNS = 3 * 8


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ssim", "run", "small.yaml", *LONG, *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(
    ("cluster", "how"),
    [sometimes("ray", "Ctrl-C"), ("dask", "SIGTERM"), sometimes("ray", "SIGTERM"), sometimes("dask", "Ctrl-C")],
    indirect=["cluster"],
)
def test_an_interrupted_run_keeps_what_it_has_and_goes_on_there(
    folder: Path, cluster: tuple[str, ...], how: str
) -> None:
    with started(folder, *cluster) as process:
        wait_for_runs(folder, process, 2)
        if how == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGINT)  # the whole process group
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("ssim: interrupted: finished runs are stored")
    assert "Traceback" not in said
    kept = complete_runs(folder)
    assert 1 <= len(kept) < RUNS
    assert leftovers(folder) == []
    again = ssim(folder, "run", "small.yaml", *LONG, *cluster)
    assert again.returncode == 0, again.stderr
    assert f"{len(kept)} of {RUNS} runs are stored already" in again.stderr
    assert len(complete_runs(folder)) == RUNS


@pytest.mark.parametrize("name", [sometimes("ray"), "dask"])
def test_a_cluster_that_goes_away_is_told_and_a_second_call_completes_what_is_kept(folder: Path, name: str) -> None:
    with (
        ray_cluster() if name == "ray" else dask_cluster(folder) as (address, head),
        started(folder, "--backend", name, "--address", address) as process,
    ):
        wait_for_runs(folder, process, 2)
        head.kill() if name == "dask" else head.terminate()  # as `ray stop`: Ray's agents outlive a kill for a minute
        _, said = process.communicate(timeout=90)
    assert process.returncode == 1
    told = "\n".join(line for line in said.splitlines() if line.startswith("ssim: "))  # Ray says more
    assert told, said
    if name == "dask":
        assert told.startswith("ssim: results/small: the Dask scheduler went away")
        assert leftovers(folder) == []
    else:  # it may raise, or end the process
        assert told.startswith(
            ("ssim: results/small: the Ray cluster went away", "ssim: results/small: Ray ended this process")
        )
    assert told.endswith("; the same command resumes from the stored runs")
    kept = complete_runs(folder)
    assert 1 <= len(kept) < RUNS
    again = ssim(folder, "run", "small.yaml", *LONG)
    assert f"{len(kept)} of {RUNS} runs are stored already" in again.stderr
    assert len(complete_runs(folder)) == RUNS
    assert leftovers(folder) == []


def processes_with(mark: str) -> list[str]:
    """Return the processes whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.with_name("cmdline").read_text())
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@needs_proc
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("ray", "by itself"),
        ("dask", "by itself"),
        ("dask", "Ctrl-C"),
        sometimes("ray", "Ctrl-C"),
        sometimes("ray", "kill -9"),
        sometimes("dask", "kill -9"),
    ],
)
def test_a_cluster_that_was_started_here_ends_with_the_run(folder: Path, name: str, how: str) -> None:
    mark = str(uuid.uuid4())
    command = [sys.executable, "-m", "ssim", "run", "small.yaml", "--no-figures", "--backend", name, "--jobs", "2"]
    if how != "by itself":
        command += LONG
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, "MARK": mark}, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        if how != "by itself":
            wait_for_runs(folder, process, 1)
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif how == "kill -9":
            process.kill()
        assert process.stderr is not None
        said = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == {"by itself": 0, "Ctrl-C": 1, "kill -9": -signal.SIGKILL}[how], said
    until(lambda: not processes_with(mark), 30 if how != "kill -9" else 300)  # Ray's agents take a minute or two
    assert "Traceback" not in said
    if how == "by itself":
        assert len(complete_runs(folder)) == 6


@pytest.mark.parametrize("room", ["other", "none"])
def test_a_worker_without_this_very_toolkit_is_told(folder: Path, room: str) -> None:
    place = folder / "installed"
    if room == "other":
        for name in PACKAGES:
            shutil.copytree(ROOT / name, place / name)
        with (place / "sim/engine/driver.py").open("a") as file:
            file.write("# of another version\n")
    else:
        (place / "ssim").mkdir(parents=True)
        (place / "ssim/__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'ssim'\")\n")
    with dask_cluster(folder, PYTHONPATH=str(place)) as (address, _):
        ended = ssim(folder, "run", "small.yaml", "--backend", "dask", "--address", address)
    assert ended.returncode == 1
    assert "6 of 6 runs failed" in ended.stderr
    says = {
        "other": "has another version of the toolkit than the machine that sent the run; "
        "install the same one on all machines, and restart their workers",
        "none": "raised ModuleNotFoundError (No module named 'ssim'); the toolkit must be installed on all machines",
    }
    assert says[room] in ended.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ray", "--address", "127.0.0.1:1"), "--backend ray, 127.0.0.1:1: no cluster answers"),
        (("dask", "--address", "nowhere"), "--backend dask, nowhere: no scheduler answers"),
        sometimes(
            ("dask", "--address", "tcp://127.0.0.1:1"), "--backend dask, tcp://127.0.0.1:1: no scheduler answers"
        ),
    ],
)
def test_an_address_at_which_nobody_answers_is_told(folder: Path, words: tuple[str, ...], says: str) -> None:
    ended = ssim(folder, "run", "small.yaml", "--backend", *words)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"ssim: {says}")
    assert len(ended.stderr.splitlines()) == 1


def test_the_environment_says_where_the_cluster_is(folder: Path) -> None:
    for name, variable in (("ray", "RAY_ADDRESS"), ("dask", "DASK_SCHEDULER_ADDRESS")):
        environment = {**os.environ, variable: "127.0.0.1:1"}
        ended = ssim(folder, "run", "small.yaml", "--backend", name, env=environment)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"ssim: --backend {name}, 127.0.0.1:1: no ")


def test_an_address_needs_a_backend(folder: Path) -> None:
    ended = ssim(folder, "run", "small.yaml", "--address", "tcp://127.0.0.1:8786")
    assert ended.returncode == 2
    assert "give --backend ray or --backend dask" in ended.stderr


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_a_package_that_is_not_installed_is_told_with_what_brings_it(folder: Path, name: str, package: str) -> None:
    script = (
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {package!r} else found(name)\n"
        "from ssim.cli import main\n"
        f"main(['run', 'small.yaml', '--backend', {name!r}])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == f"ssim: {package}: is not installed; pip install 'superserve-sim[{name}]'\n"
    assert not (folder / "results").exists()
