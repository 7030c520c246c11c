"""What README and docs show is run as it stands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import policies
from sim.tables.files import read_table
from ssim.jobs.reading import read_job
from tests.ssim.in_process import Ended, ssim

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run(folder: Path, *words: str) -> Ended | subprocess.CompletedProcess[str]:
    """Run Python with words in a folder; `-m ssim` in this process, since it takes long to start."""
    if words[:2] == ("-m", "ssim"):
        return ssim(folder, *words[2:])
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_snippets_of_the_readme_run(tmp_path: Path) -> None:
    supernet, results, simulation = blocks("README.md", "python")
    (tmp_path / "results_snippet.py").write_text(f"{results}\nprint(len(runs), *figure.axes)")
    ended = run(tmp_path, "results_snippet.py")
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[0]) == 2 * len(read_job(ROOT / "experiments" / "azure.yaml").spec.policies)
    (tmp_path / "supernet_snippet.py").write_text(f"{supernet}\nprint(*logits.shape, type(model).__name__)")
    ended = run(tmp_path, "supernet_snippet.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["2", "10", "ResNet"]
    (tmp_path / "snippet.py").write_text(simulation)
    ended = run(tmp_path, "snippet.py")
    assert ended.returncode == 0, ended.stderr
    attainment, accuracy = map(float, ended.stdout.split())
    assert 0 < attainment <= 1
    assert 73 < accuracy < 81


def test_the_experiment_of_the_readme_is_right(tmp_path: Path) -> None:
    (experiment,) = blocks("README.md", "yaml")
    policy, *_ = blocks("docs/your_own_policy.md", "python")
    (tmp_path / "my_policy.py").write_text(policy)
    (tmp_path / "mine.yaml").write_text(experiment)
    assert len(read_job(tmp_path / "mine.yaml").runs) == 4 * 3 * 3


def test_the_policy_page_works_as_it_stands(tmp_path: Path) -> None:
    policy, steady, check = blocks("docs/your_own_policy.md", "python")
    (experiment,) = blocks("docs/your_own_policy.md", "yaml")
    command, checks = blocks("docs/your_own_policy.md", "console")
    (tmp_path / "my_policy.py").write_text(policy)
    (tmp_path / "steady.py").write_text(steady)
    (tmp_path / "mine.yaml").write_text(experiment)
    (tmp_path / "check.py").write_text(check)
    assert command == "$ ssim run mine.yaml\n"
    ended = run(tmp_path, "-m", "ssim", "run", "mine.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "my_policy:Mine(margin_ms=3)" in ended.stdout
    for line in checks.splitlines():
        ended = run(tmp_path, "-m", *line.removeprefix("$ ").split())
        assert ended.returncode == 0, ended.stderr
        assert "check" not in line or "runs in the compiled engine" in ended.stdout
    assert (tmp_path / "mine.png").exists()
    ended = run(tmp_path, "check.py")
    assert ended.returncode == 0, ended.stderr


def test_the_table_page_works_as_it_stands(tmp_path: Path) -> None:
    measure, from_python = blocks("docs/own_table.md", "python")
    (experiment,) = blocks("docs/own_table.md", "yaml")
    (simplest,) = blocks("docs/own_table.md", "text")
    for name, text in {"measure.py": measure, "from_python.py": from_python, "devices.yaml": experiment}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "simplest.csv").write_text(simplest)
    assert read_table(tmp_path / "simplest.csv").latency(1, 8) == 20_000_000
    ended = run(tmp_path, "measure.py")
    assert ended.returncode == 0, ended.stderr
    shown, checked, _, as_csv, ran = typed("docs/own_table.md", tmp_path)
    assert "median of 20 measurements per cell" in shown
    assert checked.startswith("P1 holds in all 8 cells")
    assert as_csv.startswith("subnet,accuracy,batch_size,latency_ms,p99_ms\nsmall,73.8,1,")
    assert all(f"latency_table.where.device = gpu-{letter}" in ran for letter in "ab")
    ended = run(tmp_path, "from_python.py")
    assert ended.stdout == "(3, 5) 20000000\n", ended.stderr


def test_the_topology_page_works_as_it_stands(tmp_path: Path) -> None:
    mean, _, relays = blocks("docs/topology.md", "yaml")
    stations, run_all, relay = blocks("docs/topology.md", "python")
    (printed,) = blocks("docs/topology.md", "text")
    for name, text in {"mean.yaml": mean, "relays.yaml": relays, "stations.py": stations, "relays.py": relay}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "run.py").write_text(run_all)
    ended = run(tmp_path, "run.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == printed
    commands = [
        line.removeprefix("$ ").split()
        for block in blocks("docs/topology.md", "console")
        for line in block.splitlines()
    ]
    for words in commands:
        ended = run(tmp_path, "-m", *words)
        assert ended.returncode == 0, ended.stderr
        assert "check" not in words or ended.stdout.endswith("the programs fit\n")
    assert (tmp_path / "mean.png").exists()
    (tmp_path / "run.py").write_text(
        run_all.partition("report =")[0].replace("mean.yaml", "relays.yaml")
        + """
print(SimEngine().run(mean.plan, programs).results["centre/0"])
"""
    )
    assert float(run(tmp_path, "run.py").stdout) == pytest.approx(11 / 3, abs=1e-12)


def globbed(folder: Path, word: str, line: str) -> list[str]:
    """Return the paths that a word of a line stands for, as a shell would: none where it is quoted."""
    is_pattern = "*" in word and f"'{word}'" not in line
    return [str(path.relative_to(folder)) for path in sorted(folder.glob(word))] if is_pattern else [word]


def typed(page: str, folder: Path, *, leave: str = "$ pip|$ make|$ cd") -> list[str]:
    """Type the commands of a page into a folder, those that begin otherwise; return what each printed."""
    printed = []
    for line in "".join(blocks(page, "console")).splitlines():
        if not re.match(leave.replace("$", r"\$"), line):
            words = [path for word in shlex.split(line.removeprefix("$ ")) for path in globbed(folder, word, line)]
            ended = run(folder, "-m", *words)
            assert ended.returncode == 0, f"{line}: {ended.stderr}"
            printed.append(ended.stdout)
    return printed


def test_the_quick_start_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,) = blocks("docs/index.md", "yaml")
    (tmp_path / "first.yaml").write_text(experiment)
    first, other, _ = typed("docs/index.md", tmp_path, leave="$ make|$ source")
    assert "slackfit" in first
    assert first != other
    assert (tmp_path / "results/first/summary.csv").exists()
    assert (tmp_path / "slackfit.png").exists()


def test_the_page_about_comparisons_works_as_it_stands(tmp_path: Path) -> None:
    (log,) = blocks("docs/compare.md", "python")
    (tmp_path / "log.py").write_text(log)
    assert run(tmp_path, "log.py").returncode == 0
    commands = "".join(blocks("docs/compare.md", "console")).splitlines()
    assert len(commands) <= 7
    printed = [run(tmp_path, "-m", *shlex.split(line.removeprefix("$ ").partition(" > ")[0])) for line in commands]
    assert [ended.stderr for ended in printed if ended.returncode] == []
    *_, text, drawn = (ended.stdout for ended in printed)
    assert drawn == "paper/tradeoff.pdf\n"
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    assert "slackfit" in body
    assert "my\\_policy:Mine" in body
    assert body.count("reference") == 2


def test_the_page_about_traces_works_as_it_stands(tmp_path: Path) -> None:
    (pulses,) = blocks("docs/own_trace.md", "python")
    (log,) = blocks("docs/own_trace.md", "csv")
    (experiment,) = blocks("docs/own_trace.md", "yaml")
    (tmp_path / "log.csv").write_text(log)
    (tmp_path / "pulses.py").write_text(pulses)
    (tmp_path / "replay.yaml").write_text(experiment)
    assert run(tmp_path, "pulses.py").returncode == 0
    own = re.sub(r"trace:\n(  .*\n)+", 'trace: {kind: "pulses:Pulses", slo_ms: 36}\n', experiment)
    (tmp_path / "own.yaml").write_text(own)
    ended = run(tmp_path, "-m", "ssim", "run", "own.yaml", "--no-figures")
    assert ended.returncode == 0, ended.stderr
    described, _, replayed = typed("docs/own_trace.md", tmp_path)
    assert re.search(r"queries of class paid +│ 2 ", described)
    assert "infaas" in replayed
    assert (tmp_path / "rate.png").exists()


def test_the_page_about_capacity_works_as_it_stands(tmp_path: Path) -> None:
    (plan,) = blocks("docs/capacity.md", "yaml")
    (tmp_path / "plan.yaml").write_text(plan.replace("duration_s: 20", "duration_s: 2").replace("0.02", "0.2"))
    workers, rate = typed("docs/capacity.md", tmp_path)
    (shown,) = blocks("docs/capacity.md", "text")
    assert all(word in workers for word in shown.splitlines()[0].split("  ") if word)
    assert "highest variant_qps that meets 0.999" in rate


def test_the_page_about_latencies_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,), (script,) = blocks("docs/latencies.md", "yaml"), blocks("docs/latencies.md", "python")
    (tmp_path / "vary.yaml").write_text(experiment.replace("duration_s: 10", "duration_s: 2"))
    (tmp_path / "plan.py").write_text(script)
    compared, swept = "".join(blocks("docs/latencies.md", "console")).splitlines()
    ended = run(tmp_path, "-m", *shlex.split(compared.removeprefix("$ ")), "--no-figures")
    assert "slackfit(buckets=20, plan=p99)" in ended.stdout, ended.stderr
    assert (ROOT / swept.split()[-1]).is_file()
    ended = run(tmp_path, "plan.py")
    attained = [float(line.split()[1]) for line in ended.stdout.splitlines()]
    assert len(attained) == 3
    assert attained == sorted(attained), ended.stderr


def test_the_page_about_workers_that_come_and_go_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,) = blocks("docs/autoscaling.md", "yaml")
    (own,) = blocks("docs/autoscaling.md", "python")
    (tmp_path / "scaled.yaml").write_text(experiment)
    (tmp_path / "my_planner.py").write_text(own)
    for command in "".join(blocks("docs/autoscaling.md", "console")).splitlines():
        ended = run(tmp_path, "-m", *shlex.split(command.removeprefix("$ ")), *["--no-figures"] * ("run" in command))
        assert ended.returncode == 0, ended.stderr
    checked = run(tmp_path, "-m", "ssim", "planner", "check", "my_planner:Mine")
    assert "runs in both engines where its policy does" in checked.stdout
    assert len(list((tmp_path / "results/scaled").glob("*/workers.parquet"))) == 3


def test_the_page_about_kinds_of_workers_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,) = blocks("docs/kinds.md", "yaml")
    (tmp_path / "two.yaml").write_text(experiment.replace("duration_s: 10", "duration_s: 1"))
    runs, cheapest = "".join(blocks("docs/kinds.md", "console")).splitlines()
    ended = run(tmp_path, "-m", *shlex.split(runs.removeprefix("$ ")), "--no-figures")
    assert "kWh" in ended.stdout, ended.stderr
    ended = run(tmp_path, "-m", *shlex.split(cheapest.removeprefix("$ ")))
    assert ended.returncode == 0, ended.stderr
    assert "EUR" in ended.stdout
    assert (tmp_path / "results/two/kinds.csv").is_file()


def test_the_page_about_queues_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,) = blocks("docs/queues.md", "yaml")
    (tmp_path / "three.yaml").write_text(experiment.replace("duration_s: 2", "duration_s: 0.2"))
    (command,) = "".join(blocks("docs/queues.md", "console")).splitlines()
    ended = run(tmp_path, "-m", *shlex.split(command.removeprefix("$ ")), "--no-figures")
    assert "By queue" in ended.stdout, ended.stderr
    assert (tmp_path / "results/three/queues.csv").is_file()


def test_the_page_about_memory_works_as_it_stands(tmp_path: Path) -> None:
    for name, experiment in zip(("little", "placed"), blocks("docs/residence.md", "yaml"), strict=True):
        short = experiment.replace("duration_s: 5", "duration_s: 0.2").replace("duration_s: 1,", "duration_s: 0.2,")
        (tmp_path / f"{name}.yaml").write_text(short)
    commands = "".join(blocks("docs/residence.md", "console")).splitlines()
    assert commands[:2] == ["$ ssim run little.yaml", "$ ssim run placed.yaml"]
    for command in commands[:2]:
        ended = run(tmp_path, "-m", *shlex.split(command.removeprefix("$ ")), "--no-figures")
        assert ended.returncode == 0, ended.stderr
    assert "placement" in (tmp_path / "results/placed/queues.csv").read_text()


def test_the_page_about_schedulers_of_the_field_works_as_it_stands(tmp_path: Path) -> None:
    (experiment,) = blocks("docs/field.md", "yaml")
    (tmp_path / "field.yaml").write_text(experiment.replace("duration_s: 10", "duration_s: 1"))
    compared, plotted = "".join(blocks("docs/field.md", "console")).splitlines()
    ended = run(tmp_path, "-m", *shlex.split(compared.removeprefix("$ ")), "--no-figures")
    assert "symphony(accuracy=78.25)" in ended.stdout, ended.stderr
    assert run(tmp_path, "-m", *shlex.split(plotted.removeprefix("$ "))).returncode == 0
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/field.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) <= set(policies.SHORT_NAMES)


def test_the_page_about_figure_9_works_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    whole, drawn, *short = "".join(blocks("docs/figure9.md", "console")).splitlines()
    assert whole == "$ ssim run experiments/bursty.yaml --no-figures"  # it takes minutes; the short ones do the same
    assert drawn == "$ ssim figures bursty"
    for line in short:
        ended = run(tmp_path, "-m", *shlex.split(line.removeprefix("$ ")), "--no-figures")
        assert ended.returncode == 0, ended.stderr
    ended = run(tmp_path, "-m", "ssim", "figures", "bursty", "--out", "late")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "late/bursty/figures/tradeoff.png").exists()
    ended = run(tmp_path, "-m", "ssim", "report", "short/bursty")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_pages_about_supernets_and_profiles_work_as_they_stand(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="supernets need the extra [torch]")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    _, calibrated, searched = typed("docs/supernet.md", tmp_path)
    assert "ofa_resnet_small:d1x3:e1.0x9:w1x3" in calibrated
    assert "stored in" in searched
    on_gpu = "$ ssim profile ofa_resnet50 --gpu 0"
    _, _, replayed, _ = typed("docs/profiler.md", tmp_path, leave="$ pip|$ make|" + on_gpu)
    assert "slackfit" in replayed
    assert (tmp_path / "results/profile-supernet_digits/report.md").is_file()
    assert (tmp_path / "predicted.parquet").is_file()
    if not torch.cuda.is_available():
        refused = run(tmp_path, "-m", *on_gpu.removeprefix("$ ").split())
        assert refused.returncode != 0
        assert "gpu" in refused.stderr.lower()


@pytest.mark.slow
def test_the_federated_page_works_as_it_stands(tmp_path: Path) -> None:
    mine, attacked, *_, sites = blocks("docs/federated.md", "yaml")
    _, algorithm, rule, attackers, trainer = blocks("docs/federated.md", "python")
    first, own, derived, aggregated, _, focal, uplink, _, deployed, _ = blocks("docs/federated.md", "console")
    (tmp_path / "my_algorithm.py").write_text(algorithm)
    (tmp_path / "my_rule.py").write_text(rule)
    (tmp_path / "attackers.py").write_text(attackers)
    (tmp_path / "my_trainer.py").write_text(trainer)
    (tmp_path / "mine.yaml").write_text(mine.replace("use: ", f"use: {ROOT}/"))
    (tmp_path / "sites.yaml").write_text(sites)
    head, tail = mine.split("topology:\n")[0], mine[mine.index("\ndata:") + 1 :]
    (tmp_path / "attacked.yaml").write_text(head.replace("mine", "attacked") + attacked + tail)
    ended = run(tmp_path, "-m", "ssim", "train", "attacked.yaml", "--set", "rounds=1")
    assert ended.returncode == 0, ended.stderr
    install, digits = (line.removeprefix("$ ") for line in first.splitlines())
    assert install == "pip install -e '.[torch]'"
    assert (ROOT / digits.split()[-1]).is_file()
    for line in (own + derived + aggregated + focal + deployed.splitlines()[0]).splitlines():
        ended = run(tmp_path, "-m", *shlex.split(line.removeprefix("$ ")))
        assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "results" / "mine").glob("seed7-*"))) == 5
    folder, compare = (line.removeprefix("$ ").split() for line in uplink.splitlines())
    files = [word for word in compare if word.endswith(".yaml")]
    assert all((ROOT / folder[1] / file).is_file() for file in files)
    short = ["rounds=2", "data={kind: digits, train: 200}", "evaluation.every=2"]
    given = [word for setting in short for word in ("--set", setting)]
    ended = run(ROOT / folder[1], "-m", *compare[:-1], str(tmp_path / "both.png"), *given, "--out", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "both.png").exists()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in PAGES)])
def test_links_and_files_that_pages_name_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = [target for target in re.findall(r"\]\(([^)# ]+)", text) if "://" not in target]
    named = re.findall(
        r"`((?:sim|ssim|policies|supernet|topology|topologies|federated|figures|tests|experiments|benchmarks|docs|constraints)/[\w./]+\.\w+)`",
        text,
    )
    for target in [*((ROOT / page).parent / link for link in linked), *(ROOT / name for name in named)]:
        assert target.exists(), target


def test_every_option_the_readme_names_exists() -> None:
    usage = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for option in re.findall(r"--[a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert option in usage, option


@pytest.mark.slow
def test_the_page_about_serving_works_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
    (experiment,), (snippet,) = blocks("docs/serving.md", "yaml"), blocks("docs/serving.md", "python")
    _, serve, curl, load, compare = "".join(blocks("docs/serving.md", "console")).splitlines()
    (tmp_path / "burst.yaml").write_text(experiment)
    words = [sys.executable, "-m", *shlex.split(serve.removeprefix("$ ")), "--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        (address,) = re.findall(r"at (http://[^ ,]+)", server.stderr.readline())
        asked = shlex.split(curl.removeprefix("$ ").replace("http://127.0.0.1:8000", address))
        if shutil.which(asked[0]):
            answer = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)
            (shown,) = blocks("docs/serving.md", "json")
            assert [one["name"] for one in answer["outputs"]] == [one["name"] for one in json.loads(shown)["outputs"]]
        sent = run(tmp_path, "-m", *shlex.split(load.removeprefix("$ ").replace("http://127.0.0.1:8000", address)))
        assert sent.returncode == 0, sent.stderr
        assert re.search(r"5 100%.*4 \d+%", sent.stdout, re.DOTALL), sent.stdout  # subnets change
        server.send_signal(signal.SIGINT)
        told = server.communicate(timeout=60)
        assert server.returncode == 0, told
    compared = run(tmp_path, "-m", *shlex.split(compare.removeprefix("$ ")))
    assert compared.returncode == 0, compared.stderr
    (tmp_path / "join.py").write_text(f"{snippet}\nprint(len(both), both['received_ns'].notna().sum())")
    joined = run(tmp_path, "join.py").stdout.split()
    assert joined[0] == joined[1] > "0"
