"""Differences from a reference: laws of pairing, and what `ssim run` and `ssim compare` make of stored runs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from ssim.commands.present.experiment import print_table
from ssim.jobs.experiment.comparison import Side, difference, ratio_at_equal_accuracy
from ssim.jobs.experiment.points import side_by_side
from ssim.jobs.experiment.summary import stored_points
from ssim.results.store import Store
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
schema: experiment/1
name: {name}
seed: {seed}
repeats: {repeats}
trace: {{kind: bursty, base_qps: 500, variant_qps: {qps}, cv2: 4, duration_s: 1, slo_ms: 36}}
cluster: {{workers: 2}}
latency_table: ofa-resnet50-rtx2080ti
keep: summary
policies: [slackfit, {{use: clipper, params: {{accuracy: 79.44}}}}, {{use: clipper, params: {{accuracy: 73.82}}}}]
"""


def written(folder: Path, name: str, more: str = "", seed: int = 7, repeats: int = 3, qps: int = 1500) -> str:
    text = EXPERIMENT.format(name=name, seed=seed, repeats=repeats, qps=qps) + more
    (folder / f"{name}.yaml").write_text(text)
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which some experiments have run."""
    folder = tmp_path_factory.mktemp("compared")
    files = [
        written(folder, "one"),
        written(folder, "swept", "sweep: {cluster.workers: [2, 3]}\n"),
        written(folder, "other_seeds", repeats=2),
        written(folder, "other_trace", qps=1600),
    ]
    for file in files:
        ended = ssim(folder, "run", file, "--no-figures", "--jobs", "1")
        assert ended.returncode == 0, ended.stderr
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def frame_of(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "results" / name / "summary.csv")


def paired(frame: pd.DataFrame, policy: str, reference: str, column: str) -> tuple[float, float]:
    """Return mean and half-width of paired differences by pandas and scipy."""
    wide = frame.pivot_table(index="seed", columns="policy", values=column)
    values = (wide[policy] - wide[reference]).to_numpy()
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


# Laws


shares = st.floats(0, 1).map(lambda share: round(share, 6))
by_seed = st.dictionaries(st.integers(0, 20), shares, min_size=1, max_size=6)


def side(attainments: dict[int, float], *, is_random: bool = True) -> Side:
    return Side("p", attainments, {seed: 70 + 10 * share for seed, share in attainments.items()}, is_random)


@given(by_seed, by_seed)
def test_a_difference_is_antisymmetric_and_counts_common_seeds_only(
    ours: dict[int, float], theirs: dict[int, float]
) -> None:
    forth, back = difference(side(ours), side(theirs)), difference(side(theirs), side(ours))
    assert sorted(forth.attainments) == sorted(-value for value in back.attainments)
    assert len(forth.attainments) == len(ours.keys() & theirs.keys())
    assert set(difference(side(ours), side(ours)).attainments) == {0.0}


@given(by_seed, st.floats(-0.5, 0.5))
def test_what_both_have_in_common_within_a_seed_is_no_doubt(ours: dict[int, float], shift: float) -> None:
    found = difference(side({seed: value + shift for seed, value in ours.items()}), side(ours))
    mean, half = found.attainment
    assert mean == pytest.approx(shift, abs=1e-9)
    assert math.isnan(half) if len(ours) == 1 else half == pytest.approx(0, abs=1e-9)


@given(by_seed, shares)
def test_a_run_without_chance_stands_for_every_seed(ours: dict[int, float], fixed: float) -> None:
    expected = difference(side(ours), side(dict.fromkeys(ours, fixed)))
    assert difference(side(ours), side({99: fixed}, is_random=False)) == expected
    assert len(difference(side({99: fixed}, is_random=False), side({5: fixed}, is_random=False)).attainments) == 1
    ratio = ratio_at_equal_accuracy(side(ours), [Side("b", {99: 0.5}, {99: 100.0}, is_random=False)])
    assert ratio is not None
    assert [*ratio.values] == pytest.approx([value / 0.5 for value in ours.values()])  # noqa: PD011 - not of pandas


# Commands


def test_the_sentences_and_the_table_say_what_pandas_says(done: Path) -> None:
    ended = ssim(done, "run", "one.yaml", "--no-figures")
    frame = frame_of(done, "one")
    rows = rows_of((done / "results/one/comparison.csv").read_text())
    assert ssim(done, "compare", "one", "--format", "csv").stdout == (done / "results/one/comparison.csv").read_text()
    assert {row["policy"] for row in rows} == set(frame.policy)
    for row in rows:
        if row["policy"] == row["reference"]:
            assert row["policy"] == "slackfit"
            assert row["slo_attainment_difference"] == ""
            continue
        for column in ("slo_attainment", "mean_serving_accuracy"):
            mean, half = paired(frame, row["policy"], "slackfit", column)
            assert float(row[f"{column}_difference"]) == pytest.approx(mean, abs=1e-9)
            assert float(row[f"{column}_difference_half_width"]) == pytest.approx(half, abs=1e-9)
        mean, half = paired(frame, row["policy"], "slackfit", "slo_attainment")
        change = f"{'higher' if mean > 0 else 'lower'} by {abs(mean):.6f} ±{half:.1g}" if mean else "the same"
        assert f"{row['policy']} against slackfit: SLO attainment {change}" in ended.stdout


def test_the_reference_changes_signs_and_no_run(done: Path) -> None:
    before = json.loads((done / "results/one/job.json").read_text())["runs"]
    forth = rows_of(ssim(done, "compare", "one", "--format", "csv").stdout)
    ended = ssim(done, "run", "one.yaml", "--no-figures", "--set", "reference=clipper(accuracy=79.44)")
    assert "9 of 9 runs are stored already" in ended.stderr
    assert "slackfit against clipper(accuracy=79.44): SLO attainment higher" in ended.stdout
    after = json.loads((done / "results/one/job.json").read_text())["runs"]
    assert [run["id"] for run in before] == [run["id"] for run in after]
    back = rows_of(ssim(done, "compare", "one", "--format", "csv").stdout)
    there = next(row for row in forth if row["policy"] == "clipper(accuracy=79.44)")
    here = next(row for row in back if row["policy"] == "slackfit")
    assert float(there["slo_attainment_difference"]) == -float(here["slo_attainment_difference"])
    assert ssim(done, "run", "one.yaml", "--no-figures").returncode == 0


def test_a_sweep_ends_in_one_table_with_a_column_for_each_key(done: Path) -> None:
    ended = ssim(done, "run", "swept.yaml", "--no-figures")
    lines = ended.stdout.splitlines()
    assert sum("SLO attainment" in line and "busy" in line for line in lines) == 1
    (head,) = (line for line in lines if "busy" in line)
    assert head.split()[:2] == ["workers", "policy"]
    for workers in ("2", "3"):
        assert sum(line.split()[:2] == [workers, "slackfit"] for line in lines) == 1
    assert "Differences from slackfit at each point: ssim compare swept" in ended.stdout
    frame = frame_of(done, "swept")
    for row in rows_of((done / "results/swept/comparison.csv").read_text()):
        if row["policy"] != "slackfit":
            here = frame[frame["cluster.workers"] == int(row["cluster.workers"])]
            assert float(row["slo_attainment_difference"]) == pytest.approx(
                paired(here, row["policy"], "slackfit", "slo_attainment")[0], abs=1e-9
            )


def test_experiments_that_met_the_same_arrivals_are_compared_with_one_reference(done: Path) -> None:
    rows = rows_of(ssim(done, "compare", "one", "swept", "--format", "csv").stdout)
    assert len(rows) == 3 + 2 * 3
    assert {row["reference"] for row in rows} == {"slackfit"}
    same = [row for row in rows if row["experiment"] == "swept" and row["cluster.workers"] == "2"]
    for row in same:  # two workers, as in the first experiment
        (twin,) = (one for one in rows if one["experiment"] == "one" and one["policy"] == row["policy"])
        assert row["slo_attainment"] == twin["slo_attainment"]
        expected = float(twin["slo_attainment_difference"] or 0)
        assert float(row["slo_attainment_difference"]) == expected
    table = ssim(done, "compare", "one", "swept").stdout
    assert "experiment" in table


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("one", "other_seeds"), "other_seeds: can't be paired by seed (seeds 7 to 8 against the reference's 7 to 9)"),
        (("one", "other_trace"), "other_trace: can't be paired by seed (its arrivals differ from the reference's)"),
        (("swept", "one"), "one: a point has no counterpart in swept (no swept value)"),
        (("one", "nothing"), "no stored results of this name ('nothing'); stored in results: one"),
    ],
)
def test_what_can_not_be_paired_is_refused(done: Path, names: tuple[str, ...], says: str) -> None:
    ended = ssim(done, "compare", *names)
    assert ended.returncode == (1 if "nothing" in names else 2)
    assert says in ended.stderr
    assert ended.stdout == ""


def test_latex_and_markdown_are_whole_tables(done: Path) -> None:
    text = ssim(done, "compare", "one", "--format", "latex").stdout
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert {line.count(" & ") + 1 for line in rows} == {len(columns)}
    assert len(rows) == 1 + 3
    assert text.count("{") == text.count("}")
    assert not re.search(r"(?<!\\)[_#]|±|(?<!\\)%(?! needs)", text)
    numbers = [re.findall(r"\$([+-]?[\d.]+)", row) for row in rows[1:]]
    means = frame_of(done, "one").groupby("policy").slo_attainment.mean().sort_values(ascending=False)
    assert [float(row[0]) for row in numbers] == pytest.approx(list(means), abs=1e-6)
    lines = ssim(done, "compare", "one", "--format", "markdown").stdout.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 3


def test_no_number_is_cut_in_a_terminal_of_80_columns(done: Path) -> None:
    found = side_by_side({"swept": stored_points(Store(done / "results/swept"))})
    narrow, wide = io.StringIO(), io.StringIO()
    for file, width in ((narrow, 80), (wide, 300)):
        print_table(Console(width=width, file=file), found)
    numbers = re.findall(r"\S+ ±\S+", wide.getvalue())
    assert len(numbers) == 2 * (3 * 2 + 2 * 2)  # two of each policy, and two of each difference
    assert all(number in narrow.getvalue() for number in numbers)
    assert "…" not in narrow.getvalue()


def test_one_seed_has_differences_and_no_interval(tmp_path: Path) -> None:
    ended = ssim(tmp_path, "run", written(tmp_path, "one", repeats=1), "--no-figures")
    assert "against slackfit: SLO attainment lower by" in ended.stdout
    assert "±" not in ended.stdout
    assert "±" not in ssim(tmp_path, "compare", "one").stdout
    assert "\\pm" not in ssim(tmp_path, "compare", "one", "--format", "latex").stdout


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ("slakfit", "x.yaml:10:12: reference: is not a policy of this file ('slakfit'); did you mean 'slackfit'?"),
        ("clipper", "x.yaml:10:12: reference: means several policies ('clipper'); one of: clipper(accuracy=79.44), "),
        ("{use: slackfit}", "x.yaml:10:12: reference: "),
    ],
)
def test_a_reference_that_is_not_one_policy_of_the_file_is_refused(tmp_path: Path, given_: str, says: str) -> None:
    ended = ssim(tmp_path, "run", written(tmp_path, "x", f"reference: {given_}\n"))
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not (tmp_path / "results").exists()


def test_a_reference_is_not_swept(tmp_path: Path) -> None:
    ended = ssim(tmp_path, "run", written(tmp_path, "x", "sweep: {reference: [slackfit]}\n"))
    assert ended.returncode == 2
    assert "can't be swept" in ended.stderr
