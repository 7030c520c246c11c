"""`ssim train` as a user meets it: a small network on digits, interrupted, resumed, and told what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.parquet import read_parquet  # noqa: E402
from sim.tables.accuracies import Accuracies  # noqa: E402 - after torch is known to be there
from sim.tables.files import read_table  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from supernet import checkpoint  # noqa: E402
from tests.ssim.in_process import ssim  # noqa: E402
from tests.ssim.test_timeline import check_tracks, read  # noqa: E402
from tests.test_docs import ROOT  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.jobs.federated.run import FederatedRun

SMALL = f"""\
schema: federated/1
name: small
seed: 7
topology:
  use: {ROOT / "topologies" / "classical.yaml"}
  datasets: {{trainer: {{default: 4}}}}
data: {{kind: digits, train: 320}}
partition: {{kind: dirichlet, alpha: 0.5}}
family: {{kind: cnn_small, width: 4, hidden: 16}}
rounds: 3
checkpoint: 1
calibration: {{subnets: 2, examples: 64}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federated")
    (folder / "small.yaml").write_text(SMALL)
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 0, ended.stderr
    (folder / "said").write_text(ended.stdout)
    return folder


def run_of(folder: Path, *overrides: str) -> FederatedRun:
    found: FederatedRun = read_job(folder / "small.yaml", overrides).runs[0]
    return found


def folder_of(folder: Path, *overrides: str) -> Path:
    return folder / "results" / "small" / run_of(folder, *overrides).id


def weights(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder_of(folder, *overrides) / "supernet.pt").supernet.model.state_dict()


def test_a_training_says_what_came_out_and_leaves_it(trained: Path) -> None:
    run, kept = run_of(trained), folder_of(trained)
    names = {path.name for path in kept.iterdir()} - {"figures"}
    tables = ("accuracies", "events", "holdings", "parties", "progress", "rounds", "spans", "traffic")
    assert names == {"manifest.json", "supernet.pt", *(f"{name}.parquet" for name in tables)}
    assert {path.stem for path in (kept / "figures").iterdir()} == {"holdings", "learning", "round", "waits"}
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["identity"] == json.loads(json.dumps(run.identity, default=str))
    rounds = read_parquet(kept / "rounds.parquet").to_pandas()
    assert rounds["round"].tolist() == [1, 2, 3]
    assert rounds["time_s"].is_monotonic_increasing
    assert manifest["summary"]["time_s"] == rounds["time_s"].iloc[-1]
    sent = read_parquet(kept / "traffic.parquet").to_pandas()
    assert sent["messages"].iloc[-1] == 3 * 4 * 2  # a model and an update
    assert sent["bytes"].iloc[-1] == rounds["bytes"].iloc[-1]
    assert manifest["summary"]["bytes"]["param"] == sent["bytes"].iloc[-1] + 4 * 8  # and all are dismissed
    model = sum(part.numel() * part.element_size() for part in run.context.initial_state().values())
    assert sent["bytes"].iloc[-1] == pytest.approx(3 * 4 * 2 * model, rel=0.05)
    parties = read_parquet(kept / "parties.parquet").to_pandas()
    assert len(parties) == 3 * 4
    assert (parties.groupby("round")["weight"].sum() == len(run.context.splits.train)).all()
    means = parties.groupby("round").apply(lambda part: (part["loss"] * part["weight"]).sum() / part["weight"].sum())
    assert means.tolist() == pytest.approx(rounds["loss"].tolist())
    held = read_parquet(kept / "holdings.parquet").to_pandas()
    assert held["examples"].sum() == len(run.context.splits.train)
    said = (trained / "said").read_text().splitlines()
    assert said[0] == "small: accuracy in %, digits, test split"
    assert len(Accuracies.read(kept / "accuracies.parquet").rows) == 2
    assert said[-2].startswith(f"3 rounds in {manifest['summary']['time_s']:.2f} virtual s; sent over param ")
    assert said[-1] == f"Pictures: results/small/{run.id}/figures"


@pytest.mark.usefixtures("all_formats")
def test_what_is_trained_is_not_trained_again_and_drawn_the_same(trained: Path) -> None:
    files = sorted(path for path in folder_of(trained).rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    ended = ssim(trained, "train", "small.yaml")
    assert "1 of 1 runs are stored already" in ended.stderr
    assert ended.stdout == (trained / "said").read_text()
    assert [path.read_bytes() for path in files] == before


def test_force_comes_to_the_same_bytes(trained: Path) -> None:
    path = folder_of(trained) / "supernet.pt"
    before = path.read_bytes()
    assert ssim(trained, "train", "small.yaml", "--force").returncode == 0
    assert path.read_bytes() == before


def in_ray(how: signal.Signals) -> Any:
    return pytest.param("ray", how, marks=pytest.mark.xdist_group("ray"))


@pytest.mark.slow  # test_jobs holds it for a kill
@pytest.mark.parametrize(
    ("engine", "how"),
    [
        ("sim", signal.SIGINT),
        ("sim", signal.SIGKILL),
        ("local", signal.SIGINT),
        in_ray(signal.SIGINT),
        in_ray(signal.SIGKILL),
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_weights(
    trained: Path, folder: Path, engine: str, how: signal.Signals
) -> None:
    """No process of a cluster that was started here is left, however it is interrupted."""
    if engine == "ray":
        pytest.importorskip("ray", reason="this engine needs the extra [ray]")
        psutil = pytest.importorskip("psutil", reason="processes are looked for")
    long = ["rounds=30"] if engine == "ray" else []  # with three, it may end before it is seen to have begun
    changed = [*long, *([] if engine == "sim" else [f"engine={engine}"])]
    command = [sys.executable, "-m", "ssim", "train", "small.yaml", *(f"--set={setting}" for setting in changed)]
    progress = folder_of(folder, *changed) / "progress.pt"
    assert ssim(trained, "train", "small.yaml", *(f"--set={setting}" for setting in long)).returncode == 0
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 240
        while not progress.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        started = psutil.Process(process.pid).children(recursive=True) if engine == "ray" else []
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    patience_s = 60 if how is signal.SIGINT else 300  # Ray's agents take a minute or two
    assert not started or psutil.wait_procs(started, timeout=patience_s)[1] == []
    if how is signal.SIGINT:
        assert process.returncode == 1
        assert said.splitlines()[-1].startswith(
            "ssim: interrupted: finished runs are stored; the same command resumes from there"
        )
    assert not (progress.parent / "manifest.json").exists()
    assert subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode == 0
    manifest = json.loads((progress.parent / "manifest.json").read_text())
    assert manifest["circumstances"]["resumed_after"] in range(1, 30 if long else 3)
    whole = folder_of(trained, *long)
    same_weights = weights(trained, *long), weights(folder, *changed)
    assert all(torch.equal(part, same_weights[1][name]) for name, part in same_weights[0].items())
    if engine == "sim":
        assert (progress.parent / "supernet.pt").read_bytes() == (whole / "supernet.pt").read_bytes()
    for name in ("rounds", "progress", "traffic", "parties"):
        same = [read_parquet(kept / f"{name}.parquet") for kept in (whole, progress.parent)]
        if engine != "sim":
            same = [table.drop_columns([c for c in table.column_names if c in {"time_s", "seconds"}]) for table in same]
        assert same[0].equals(same[1]), name


def test_real_time_comes_to_the_same_weights(trained: Path) -> None:
    ended = ssim(trained, "train", "small.yaml", "--set", "engine=local")
    assert ended.returncode == 0, ended.stderr
    virtual, real = weights(trained), weights(trained, "engine=local")
    assert all(torch.equal(part, real[name]) for name, part in virtual.items())


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_actors_of_ray_come_to_the_same_weights(trained: Path) -> None:
    pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    other = ("--set", "engine=ray")
    command = [sys.executable, "-m", "ssim", "train", "small.yaml", *other]
    ended = subprocess.run(command, cwd=trained, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    virtual, far = weights(trained), weights(trained, "engine=ray")
    assert all(torch.equal(part, far[name]) for name, part in virtual.items())
    tables = [folder_of(trained, "engine=ray"), folder_of(trained)]
    for name, columns in (("rounds", ["bytes"]), ("traffic", ["channel", "messages", "bytes", "lost"])):
        real, simulated = (read_parquet(kept / f"{name}.parquet").select(columns).to_pylist() for kept in tables)
        assert real == simulated, name
    totals = [json.loads((kept / "manifest.json").read_text())["summary"]["bytes"] for kept in tables]
    assert totals[0] == totals[1]


RAY_HEAD = """\
import sys
import ray
ray.init("local", num_cpus=2, resources={"site": 1}, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["--address", "RAY_ADDRESS"])
def test_the_cluster_of_an_address_is_used(folder: Path, how: str) -> None:
    """The trainers need what only this cluster has."""
    pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    needs = "  roles: {trainer: {resources: {site: 0.25}}}\n  use:"
    (folder / "small.yaml").write_text(SMALL.replace("  use:", needs) + "engine: ray\n")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    command = [sys.executable, "-m", "ssim", "train", "small.yaml"]
    with subprocess.Popen([sys.executable, "-c", RAY_HEAD], env=environment, **pipes) as head:
        address = head.stdout.readline().strip()
        given = {} if how == "--address" else {"RAY_ADDRESS": address}
        command += ["--address", address] if how == "--address" else []
        options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 300}
        ended = subprocess.run(command, check=False, env={**environment, **given}, **options)
        head.stdin.close()
    assert ended.returncode == 0, ended.stderr


def test_an_address_that_nobody_uses_or_answers_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ssim(folder, "train", "small.yaml", "--address", "127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr.startswith("ssim: --address: not used by small, whose engine is sim (127.0.0.1:1); ")
    pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ended = ssim(folder, "train", "small.yaml", "--set", "engine=ray")
    assert ended.returncode == 1
    assert "ray, 127.0.0.1:1: no cluster answers" in ended.stderr
    assert not list(folder.glob("results/small/seed*"))


@pytest.mark.parametrize("name", ["hierarchical", "hybrid"])
def test_trees_and_rings_train_a_real_network_to_the_same_weights(tmp_path: Path, name: str) -> None:
    whole = "  roles: {trainer: {config: {epochs: 1, batch: 320, rate: 0.1}}}\n  use:"  # a batch holds all of a party
    flat = SMALL.replace("  use:", whole)
    tree = flat.replace("classical", name).replace("default: 4", "eu: 2, na: 2")
    found = []
    for where, text in ((tmp_path / "flat", flat), (tmp_path / "tree", tree)):
        where.mkdir()
        (where / "small.yaml").write_text(text)
        assert ssim(where, "train", "small.yaml").returncode == 0
        found.append(weights(where))
    start = run_of(tmp_path / "flat").context.initial_state()
    assert max(float((found[0][part] - start[part]).abs().max()) for part in start) > 0.01
    assert max(float((found[0][part] - found[1][part]).abs().max()) for part in start) < 1e-6  # float32


@pytest.mark.usefixtures("all_formats")
def test_a_trained_supernet_is_profiled(trained: Path) -> None:
    words = ("--cpu", "--max-batch", "2", "--minutes", "0.05", "--precision", "0.9", "-o", "out")
    subnets = folder_of(trained) / "accuracies.parquet"
    ended = ssim(trained, "profile", str(folder_of(trained)), *words, "--subnets", str(subnets))
    assert ended.returncode == 0, ended.stderr
    table = read_table(trained / "out" / "table.parquet")
    accuracies = {row.subnet: row.accuracy for row in Accuracies.read(subnets).rows}
    assert {subnet.id: subnet.accuracy for subnet in table.subnets} == accuracies


def test_several_are_drawn_in_one_picture(trained: Path) -> None:
    (trained / "ring.yaml").write_text(SMALL.replace("classical", "distributed").replace("small\n", "ring\n"))
    ended = ssim(trained, "train", "small.yaml", "ring.yaml", "--compare", "both.png")
    assert ended.returncode == 0, ended.stderr
    assert (trained / "both.png").read_bytes().startswith(b"\x89PNG")
    assert ended.stdout.splitlines()[-1] == "drawn: both.png"


BAD = [
    ("rounds: 3", "rounds: 0", r"small\.yaml:10:9: rounds: "),
    ("rounds: 3", "round: 3", r"small\.yaml:10:1: round: .*did you mean 'rounds'"),
    ("kind: digits", "kind: digit", r"small\.yaml:7:\d+: data\.kind: .*did you mean 'digits'"),
    ("alpha: 0.5", "alpha: -1", r"small\.yaml:8:\d+: partition\.alpha: "),
    ("width: 4", "width: 6", r"small\.yaml:9:\d+: family\.width: .*can't be sliced in quarters"),
    ("rounds: 3", "rounds: 3\nalgorithm: fedavgg", r"small\.yaml:11:\d+: algorithm\.kind: .*did you mean 'fedavg'"),
    ("rounds: 3", "rounds: 3\nmaxnet: {first: 2}", r"small\.yaml:11:\d+: maxnet\.first: "),
    ("trainer: {default: 4}", "trainr: {default: 4}", r"small\.yaml:6:\d+: .*trainr"),
    ("trainer: {default: 4}", "trainer: {eu: 4}", r"small\.yaml:6:\d+: .*eu"),
    ("classical.yaml", "nowhere.yaml", r"small\.yaml:5:\d+: topology\.use: file not found"),
    ("subnets: 2", "subnets: ['cnn_small:w9x3']", r"small\.yaml:12:\d+: calibration\.subnets\.0: "),
    ("rounds: 3", "rounds: 3\nprivacy: {}\ncompression: top_k", r"small\.yaml:11:\d+: privacy: cannot be combined"),
    ("rounds: 3", "rounds: 3\nalgorithm: fedadam", r"algorithm\.kind: .*use \{kind: fedopt, optimizer: adam\}"),
    (
        "rounds: 3",
        "rounds: 3\naggregation: mean",
        r"aggregation\.kind: .*\('mean'\); use the default: leave `aggregation` out",
    ),
    ("default: 4", "default: [{id: a, ref: a.csv}]", r"small\.yaml:6:\d+: .*trainer\.default\.0\.ref: not used"),
    (
        "default: 4",
        "default: [a, {id: b, size: 3}]",
        r"small\.yaml:6:.*\.1\.size: not used by partition Dirichlet",
    ),
]


@pytest.mark.parametrize(("old", "new", "says"), BAD, ids=[new.partition("\n")[2] or new for _, new, _ in BAD])
def test_what_is_wrong_in_a_file_is_told_where_it_stands(folder: Path, old: str, new: str, says: str) -> None:
    assert old in SMALL
    (folder / "small.yaml").write_text(SMALL.replace(old, new))
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 2, ended.stderr
    assert re.search(says, ended.stderr), ended.stderr
    assert all(line.startswith(("ssim: ", "[1/1] small, seed 7: failed")) for line in ended.stderr.splitlines())
    assert not list((folder / "results").rglob("*.pt"))


def test_one_fault_hides_no_other(folder: Path) -> None:
    given = "{trainer: {default: 4}}\n  roles: {trainer: {config: {warmup: 0.9}}}"
    select = "  channels: {param: {select: {aggregator: {use: random, params: {fraction: 0.1}}}}}"
    text = SMALL.replace("{trainer: {default: 4}}", f"{given}\n{select}").replace("alpha: 0.5", "alpha: -1")
    (folder / "small.yaml").write_text(text)
    said = ssim(folder, "train", "small.yaml").stderr
    assert "partition.alpha" in said
    assert "warmup: unknown parameter of Trainer; known: batch" in said
    assert "params.fraction: unknown parameter of the selector random; known: k" in said


def test_the_form_of_a_description_does_not_matter(folder: Path) -> None:
    forms = ("{count: 4}", "4")
    assert len({run_of(folder, f"topology.datasets={{trainer: {{default: {form}}}}}").id for form in forms}) == 1


def test_damaged_progress_is_told(folder: Path) -> None:
    kept = folder_of(folder)
    kept.mkdir(parents=True)
    (kept / "progress.pt").write_bytes(b"half")
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 2
    assert "progress.pt: damaged, or of an older version" in ended.stderr
    assert ssim(folder, "train", "small.yaml", "--force", "--set", "rounds=1").returncode == 0


def test_progress_of_an_older_version_is_refused_in_one_line(folder: Path) -> None:
    stored = folder_of(folder)
    stored.mkdir(parents=True)
    head = json.dumps({"schema": "federated-progress/2", "identity": stored.name})
    (stored / "progress.pt").write_text(f"{head}\n")
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 2
    assert "progress.pt: unsupported schema ('federated-progress/2')" in ended.stderr
    assert "Traceback" not in ended.stderr


NOBODY = "faults: [" + ", ".join(f"{{worker: trainer/{n}, die_s: 0.001}}" for n in range(4)) + "]"


def test_a_federation_whose_parties_are_dead_ends(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.replace("\ndata", f"\n  {NOBODY}\ndata"))
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 1
    progress, told, last = ended.stderr.splitlines()
    assert (progress, last) == ("[1/1] small, seed 7: failed", "ssim: 1 of 1 runs failed")
    assert "aggregator/0, step collect, channel param: no message within 86400 s (from trainer/0" in told
    assert "which died at 0.001 s" in told
    assert "timeout_s" in told


def test_with_a_timeout_it_goes_on_and_says_that_nothing_was_learned(folder: Path) -> None:
    options = f"roles: {{aggregator: {{config: {{timeout_s: 5}}}}}}\n  {NOBODY}"
    (folder / "small.yaml").write_text(SMALL.replace("\ndata", f"\n  {options}\ndata"))
    ended = ssim(folder, "train", "small.yaml")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"events: .*3 missing.*3 no updates", ended.stdout), ended.stdout
    begin = run_of(folder).context.initial_state()
    assert all(torch.equal(part, weights(folder)[name]) for name, part in begin.items())


def test_the_time_line_of_a_training_has_its_steps_and_messages(trained: Path) -> None:
    assert ssim(trained, "train", "small.yaml").returncode == 0  # the index is of this run, not of one with other keys
    ended = ssim(trained, "results", "trace", "small", "-o", "small.json")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    events = read(trained / "small.json")
    check_tracks(events)
    spans = read_parquet(folder_of(trained) / "spans.parquet").to_pylist()
    for kind in ("compute", "wait"):
        spent = sum(span["end_ns"] - span["start_ns"] for span in spans if span["kind"] == kind)
        assert round(sum(event["dur"] for event in events if event.get("cat") == kind) * 1000) == spent
    begun, over = ({event["id2"]["local"]: event["ts"] for event in events if event["ph"] == phase} for phase in "be")
    assert begun.keys() == over.keys()
    assert len(begun) == sum(span["kind"] == "message" for span in spans)
    assert all(over[number] >= at for number, at in begun.items())
    assert {event["name"] for event in events if event["ph"] == "i"} >= {"round 1"}
    roles = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert roles == {"aggregator", "trainer"}


def test_the_figures_of_a_stored_training_are_drawn_again(trained: Path) -> None:
    assert ssim(trained, "train", "small.yaml").returncode == 0  # the index is of this run, not of one with other keys
    folder = folder_of(trained)
    for picture in (folder / "figures").iterdir():
        picture.unlink()
    ended = ssim(trained, "figures", "small")
    assert ended.returncode == 0, ended.stderr
    assert {path.stem for path in (folder / "figures").iterdir()} == {"holdings", "learning", "round", "waits"}
