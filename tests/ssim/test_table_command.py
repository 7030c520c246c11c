"""`ssim table`, as it is typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.base.errors import DataError, SpecError, SsimError, StoreError
from sim.tables.files import find_table, load_table, read_table
from ssim.commands.run import run as run_command
from ssim.commands.table import table
from tests.strategies import assert_same

RTX, A40 = "ofa-resnet50-rtx2080ti", "ofa-resnet50-a40"


def run(*words: str) -> str:
    """Return what the command prints."""
    return CliRunner().invoke(table, words, catch_exceptions=False).output


def test_list_names_what_is_shipped() -> None:
    lines = [line for line in run("list").splitlines() if line[0] != " "]  # without what is folded
    assert [line.split()[0] for line in lines] == ["name", "dynabert-predicted", A40, RTX]
    assert "PREDICTED" in lines[1]
    assert "NVIDIA RTX" in lines[3]
    assert "1, 2, 4, 8, 16" in lines[3]


def test_show_prints_the_whole_row_and_the_source() -> None:
    output = run("show", RTX)
    first = next(line for line in output.splitlines() if "73.822" in line)
    assert first.split() == ["*", "0", "73.822", "0.962", "6.54", "4.400", "4.700", "5.200", "6.100", "8.800"]
    assert "superserve_arch.png" in output
    assert "* Pareto-optimal" in output


@pytest.mark.parametrize(
    ("options", "last"),
    [((), "38.381"), (("--all",), "54.699"), (("--max-batch", "4", "--stages", "forward"), "8.034")],
)
def test_show_is_restricted_as_asked(options: tuple[str, ...], last: str) -> None:
    row = next(line for line in run("show", A40, *options).splitlines() if "80.158" in line)
    assert row.split()[-1] == last


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "ms, measured batch sizes up to 16, the table's own limit (measured: 1, 2, 4, 8, 16, 32); * Pareto"),
        (("--max-batch", "7"), "ms, measured batch sizes up to 7; * Pareto"),
        (("--all",), "ms, all measured batch sizes; * Pareto"),
    ],
)
def test_show_says_which_batch_sizes_it_shows(options: tuple[str, ...], says: str) -> None:
    assert says in run("show", RTX, *options).splitlines()[0]


def test_show_tells_what_is_known_of_the_spread(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    times = [f"s,70,1,{ms},{number}" for number, ms in enumerate((4, 5, 6, 15))]
    file.write_text("\n".join(["subnet,accuracy,batch_size,latency_ms,run", *times]) + "\n")
    said = dict(line.split(":", 1) for line in run("show", str(file)).splitlines()[-4:])
    assert said["99th percentile"].strip() == "2.678 times the latency"
    assert said["samples"].strip() == "4 per cell"
    file.write_text("\n".join(["subnet,accuracy,batch_size,latency_ms,run", *times, "s,70,2,9,0", "s,70,2,9,1"]) + "\n")
    assert "2 to 4 per cell" in run("show", str(file))
    assert "samples:" not in run("show", RTX)


def test_a_dominated_subnet_has_no_mark(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("subnet,accuracy,batch_size,latency_ms\nslow,70,1,5\nfast,80,1,4\n")
    slow, fast = (line for line in run("show", str(file)).splitlines() if "0.000" in line)
    assert ("slow" in slow, "*" in slow) == (True, False)
    assert ("fast" in fast, "*" in fast) == (True, True)


def test_check_reports_and_judges_nothing() -> None:
    lines = run("check", RTX).splitlines()
    assert lines[0] == "P1 holds in all 24 cells: latency never falls as the batch grows"
    assert lines[2].startswith("P3 is violated in 3 of 20 cells: some less accurate subnet")
    assert lines[3] == "  76.69 at batch 8 (7.600 ms): 73.82 at batch 16 (8.800 ms) is 15.8 % over"
    assert CliRunner().invoke(table, ["check", A40, "--stages", "forward"]).exit_code == 0


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_plot_draws_what_the_suffix_says(tmp_path: Path, suffix: str, start: bytes) -> None:
    file = tmp_path / f"heat{suffix}"
    assert run("plot", RTX, "-o", str(file)) == f"latencies of {RTX}: {file}\n"
    assert file.read_bytes().startswith(start)


def test_convert_there_and_back(tmp_path: Path) -> None:
    parquet, profile = str(tmp_path / "a40.parquet"), str(tmp_path / "a40.json")
    run("convert", A40, parquet)
    run("convert", parquet, profile)
    assert_same(read_table(profile), find_table(A40))


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["show", "ofa-resnet50-a4"], SpecError, "did you mean 'ofa-resnet50-a40'"),
        (["show", A40, "--all", "--max-batch", "2"], SpecError, r"--all: cannot be combined with --max-batch \(2\)"),
        (["show", A40, "--stages", " , "], SpecError, "--stages: no name given"),
        (["show", RTX, "--stages", "forward"], DataError, "the table has no stages"),
        (["plot", RTX, "-o", "heat.xyz"], SpecError, r"heat.xyz: unknown image format \(.xyz\)"),
        (["plot", RTX, "-o", "/dev/null/heat.png"], StoreError, r"can't be written \(File exists\)"),
        (["convert", RTX, "table.txt"], SpecError, "unknown format of latency tables"),
        (["show", RTX, "--json", "--csv"], SpecError, "--json: cannot be combined with --csv"),
        (["show", RTX, "--where", "device=a"], SpecError, r"has no rows to choose from \(device=a\); only a .csv"),
        (["show", RTX, "--where", "device"], SpecError, r"--where: must be COLUMN=TEXT \('device'\)"),
        (["show", RTX, "--where", "a=b", "--where", "a=c"], SpecError, r"--where: names a column twice \('a=c'\)"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], kind: type[SsimError], message: str) -> None:
    with pytest.raises(kind, match=message):
        run(*words)


PROFILE = """Model,Device,Batch,Latency (ms),Accuracy
s,gpu_a,1,4,70
s,gpu_a,8,6,70
l,gpu_a,1,7,80
l,gpu_a,8,12,80
s,gpu_b,1,2,70
s,gpu_b,8,3,70
l,gpu_b,1,4,80
l,gpu_b,8,7,80
"""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """The path of a file with two devices."""
    file = tmp_path / "profile.csv"
    file.write_text(PROFILE)
    return str(file)


@pytest.mark.parametrize("suffix", ["json", "csv"])
@pytest.mark.parametrize("options", [(), ("--all",), ("--max-batch", "4", "--stages", "forward")])
def test_what_show_prints_for_programs_is_the_table(tmp_path: Path, suffix: str, options: tuple[str, ...]) -> None:
    file = tmp_path / f"a40.{suffix}"
    file.write_text(CliRunner().invoke(table, ["show", A40, *options, f"--{suffix}"]).stdout)
    limit, stages = {(): (None, None), ("--all",): (32, None)}.get(options, (4, ["forward"]))
    expected = load_table(A40, limit, stages)
    lost = () if suffix == "json" else ("device", "subnets", "stages", "provenance")
    assert_same(read_table(file), expected, *lost)


def test_one_device_of_several_is_chosen(tmp_path: Path, profile: str) -> None:
    with pytest.raises(DataError, match=r"holds several devices \(gpu_a, gpu_b\); choose one: --where device=gpu_a"):
        run("show", profile)
    assert run("show", profile, "--where", "device=gpu_b").startswith("gpu_b: latency in ms, all measured batch sizes")
    converted = tmp_path / "b.parquet"
    run("convert", profile, str(converted), "--where", "Device=b", "--where", "model=s")
    assert read_table(converted).latency_ns.tolist() == [[2_000_000, 3_000_000]]


@pytest.mark.parametrize("words", [("check",), ("show", "--csv"), ("plot", "-o", "heat.png")])
def test_a_limit_between_two_measured_sizes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(table, [words[0], RTX, *words[1:], "--max-batch", "7"], catch_exceptions=False)
    assert ended.stderr == "--max-batch 7 was not measured, batch sizes up to 4 are used\n"


def test_a_property_that_cannot_be_checked_is_said(profile: str) -> None:
    chosen = ("check", profile, "--where", "device=gpu_a")
    assert run(*chosen, "--max-batch", "1").splitlines()[-3:] == [
        "P1 can't be checked: it needs two batch sizes; the table has 2 subnets and 1 batch size",
        "P2 holds in 1 cell: latency never falls as accuracy grows",
        (
            "P3 can't be checked: it needs two batch sizes and subnets of two accuracies; "
            "the table has 2 subnets and 1 batch size"
        ),
    ]
    assert "P2 can't be checked: it needs subnets of two accuracies" in run(*chosen, "--where", "model=l")


def test_check_lists_subnets_of_equal_accuracy(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("subnet,accuracy,batch_size,latency_ms\nfast,80,1,4\nslow,80,1,5\nslow,80,4,4\nfast,80,4,4\n")
    lines = run("check", str(file)).splitlines()
    assert "  slow (80.00) at batch 4 (4.000 ms): slow (80.00) at batch 1 (5.000 ms) is 25.0 % over" in lines
    assert lines[-1] == "equal accuracy (80 %): slow, fast; policies prefer fast, the fastest in sum"


def test_an_experiment_says_that_its_limit_was_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "limit.yaml"
    file.write_text(
        "schema: experiment/1\nname: limit\nseed: 1\n"
        "trace: {kind: constant, mean_qps: 10, duration_s: 1, slo_ms: 36}\ncluster: {workers: 1}\n"
        f"latency_table: {{use: {RTX}, max_batch: 7}}\n"
        "policies: [slackfit, maxacc]\nsweep: {cluster.workers: [1, 2]}\n"
    )
    words = [str(file), "--no-figures", "-o", str(tmp_path)]
    said = CliRunner().invoke(run_command, words, catch_exceptions=False).stderr
    assert said.count("latency_table.max_batch: 7 was not measured, batch sizes up to 4 are used\n") == 1
    words += ["--set", "latency_table.max_batch=8"]
    assert "not measured" not in CliRunner().invoke(run_command, words, catch_exceptions=False).stderr
