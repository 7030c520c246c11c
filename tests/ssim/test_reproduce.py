"""Studies, bounds, pictures and the page, on a second of the Azure trace; and what happens when results are missing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ssim.execution.gap
import ssim.paper.gallery
from sim.base.errors import SpecError, SsimError, StoreError
from ssim.cli import main
from ssim.paper.gallery import draw_all
from ssim.paper.page import page
from ssim.paper.pictures import PICTURES
from ssim.paper.studies import STUDIES, Study, run_studies
from ssim.results.reading import Results
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
AZURE = Study("azure", ("trace.duration_s=1",), bounded=True)
IDEAL = Study("azure_ideal", ("trace.duration_s=1",), bounded=True)
OF_AZURE = [picture for picture in PICTURES if picture.name in {"fig08c", "gap"}]


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    conducted = run_studies(EXPERIMENTS, folder, quick=True, jobs=1, studies=[AZURE, IDEAL])
    assert conducted.problems == ()
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """Results of one's own, to be broken."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def run_of(results: Path, policy: str) -> str:
    return next(str(run["id"]) for run in Store(results / "azure").index()["runs"] if run["policy"] == policy)


def test_no_run_exceeds_its_bound_and_shares_are_shares(made: Path) -> None:
    gaps = Results(made).gaps("azure")
    assert set(gaps["policy"]) == set(Results(made).summary("azure")["policy"])
    assert gaps["weighted_share"].between(0, 1).all()
    assert (gaps["weighted_attainment"] <= gaps["weighted_bound"]).all()
    assert gaps["weighted_bound"].nunique() == 1  # the same arrivals
    slackfit = gaps[gaps["policy"] == "slackfit"].iloc[0]
    assert slackfit["weighted_share"] > 0.99


def test_a_study_that_is_stored_computes_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("computed again")

    monkeypatch.setattr(ssim.execution.gap, "upper_bound", refuse)
    monkeypatch.setattr("ssim.jobs.experiment.run.ExperimentRun.execute", refuse)
    before = hashes(results)
    assert run_studies(EXPERIMENTS, results, quick=True, jobs=1, studies=[AZURE]).problems == ()
    assert hashes(results) == before


def test_a_damaged_bound_is_computed_again(results: Path) -> None:
    (bound,) = (results / "azure" / "bounds").glob("*.json")
    whole = bound.read_text()
    bound.write_text(whole[:20])
    assert run_studies(EXPERIMENTS, results, quick=True, jobs=1, studies=[AZURE]).problems == ()
    assert bound.read_text() == whole


def test_pictures_are_the_same_bytes_again_and_change_nothing(results: Path) -> None:
    before = hashes(results)
    first = draw_all(results, OF_AZURE)
    drawn = hashes(results / "figures")
    assert first.problems == ()
    assert len(first.drawn) == 4
    shutil.rmtree(results / "figures")
    draw_all(results, OF_AZURE)
    assert hashes(results / "figures") == drawn
    shutil.rmtree(results / "figures")
    assert hashes(results) == before


def test_the_index_shows_each_picture_and_needs_no_network(results: Path) -> None:
    gallery = draw_all(results, OF_AZURE)
    text = gallery.index.read_text(encoding="utf-8")
    assert "://" not in text
    for path in gallery.drawn:
        assert path.relative_to(gallery.index.parent).as_posix() in text


def damaged(results: Path) -> Iterator[tuple[str, str]]:
    """Break three runs in three ways; yield each policy and what is said of it."""
    store = Store(results / "azure")
    shutil.rmtree(store.folder / run_of(results, "maxacc"))
    yield "maxacc", "not stored"
    failed = run_of(results, "infaas")
    shutil.rmtree(store.folder / failed)
    store.put_failure(failed, SsimError("policy", "raised ZeroDivisionError"))
    yield "infaas", "policy: raised ZeroDivisionError"
    manifest = store.folder / run_of(results, "maxbatch") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": "manifest/0"}))
    yield "maxbatch", "is damaged, or of another version"


def test_what_is_missing_failed_or_of_another_version_is_told_and_the_rest_drawn(results: Path) -> None:
    told = list(damaged(results))
    gallery = draw_all(results, OF_AZURE)
    assert len(gallery.drawn) == 4
    assert len(gallery.problems) == len(told)
    for policy, why in told:
        assert any(f"azure: {policy}, seed 7" in problem and why in problem for problem in gallery.problems)


def test_the_command_says_which_and_ends_with_1(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [picture for picture in PICTURES if picture.name in {"fig06b", "fig09", "fig08c", "gap"}]
    monkeypatch.setattr(ssim.paper.gallery, "PICTURES", some)
    list(damaged(results))
    (results / "azure" / "gap.csv").unlink()
    assert exit_code("figures", "all", "--out", str(results)) == 1
    ended = capsys.readouterr()
    assert "fig06b.png" in ended.out
    assert "ssim: fig09 (Figure 9): not drawn: " in ended.err
    assert "ssim: gap (not in the paper): not drawn: " in ended.err
    assert "`ssim optimum experiments/azure.yaml` makes it" in ended.err
    assert all(line.startswith("ssim: ") for line in ended.err.splitlines())


def test_a_picture_that_can_not_be_drawn_any_more_goes(results: Path) -> None:
    draw_all(results, OF_AZURE)
    shutil.rmtree(results / "azure")
    gallery = draw_all(results, OF_AZURE)
    assert gallery.drawn == ()
    assert len(gallery.problems) == 2
    assert not list((results / "figures").glob("*/*"))


def test_a_csv_that_is_damaged_is_told(results: Path) -> None:
    for text in ("", "a,b\n", "policy,seed\nslackfit,7\n", '"'):
        (results / "azure" / "gap.csv").write_text(text)
        with pytest.raises(StoreError, match=r"gap\.csv: is damaged"):
            Results(results).gaps("azure")


def test_the_page_is_made_of_what_there_is(made: Path) -> None:
    found = page(Results(made), "a command")
    told = {claim.statement: judged for claim, judged in found.judged}
    assert told["SuperServe's SLO attainment, CNN"].ours != "-"
    assert told["SlackFit attains it at every CV²"].why == "No results: they are missing or damaged."
    assert any("bursty" in problem for problem in found.problems)
    assert "## How near to the optimum" in found.text
    assert found.text == page(Results(made), "a command").text
    widths = [line.count(" | ") for line in found.text.splitlines() if line.startswith("| ")]
    assert len(set(widths[: len(found.judged) + 2])) == 1  # no cell breaks its row


def test_ssim_optimum_tells_what_it_could_not_compare(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("optimum", str(EXPERIMENTS / "azure.yaml"), "--out", str(results), "--jobs", "1")
    quick = ("--set", "repeats=1", "--set", "trace.duration_s=1")
    assert exit_code(*words, *quick) == 0
    assert "slackfit" in capsys.readouterr().out
    shutil.rmtree(results / "azure" / run_of(results, "maxacc"))
    assert exit_code(*words, *quick) == 1
    assert "ssim: not stored, therefore not compared: maxacc, seed 7" in capsys.readouterr().err


def test_wrong_calls_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    azure = EXPERIMENTS / "azure.yaml"
    for file in ("anything", "job.json"):  # with an index, too: it is written before any run ends
        (tmp_path / "azure").mkdir(exist_ok=True)
        (tmp_path / "azure" / file).write_text("{}")
        assert exit_code("optimum", str(azure), "--set", "repeats=1", "--out", str(tmp_path)) == 1
        hint = f"run `ssim run {azure} --set repeats=1`"
        told = f"ssim: {tmp_path / 'azure'}: no run of this experiment is stored; {hint}\n"
        assert capsys.readouterr().err == told
        assert not (tmp_path / "azure" / "bounds").exists()
    assert exit_code("figures", "all", "--out", str(tmp_path / "none")) == 1
    assert "none: folder not found; `ssim reproduce` makes it" in capsys.readouterr().err
    assert exit_code("reproduce", "--experiments", str(tmp_path), "--out", str(tmp_path)) == 2
    assert "azure.yaml: file not found; name the folder" in capsys.readouterr().err


def test_the_optimum_lies_between_what_policies_reach_and_the_bound(tmp_path: Path) -> None:
    small = Study("small", ("trace.duration_s=0.008",), bounded=True, exact=True)
    assert run_studies(EXPERIMENTS, tmp_path, quick=True, jobs=1, studies=[small]).problems == ()
    gaps = Results(tmp_path).gaps("small")
    assert (gaps["weighted_attainment"] <= gaps["optimum_upper"] + 1e-9).all()
    assert (gaps["optimum_lower"] <= gaps["optimum_upper"] + 1e-9).all()
    assert (gaps["optimum_lower"] <= gaps["weighted_bound"]).all()
    assert "## The optimum itself" in page(Results(tmp_path), "a command").text


def test_an_optimum_of_too_many_queries_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(EXPERIMENTS / "azure.yaml"), "--out", str(tmp_path), "--jobs", "1"]
    words += ["--set", "repeats=1", "--set", "trace.duration_s=10", "--set", "policies=[slackfit]"]
    assert exit_code("run", *words, "--no-figures") == 0
    assert exit_code("optimum", *words, "--exact") == 2
    assert "slot_ns: needs too many variables" in capsys.readouterr().err


def test_a_study_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    (experiments / "wrong.yaml").write_text("schema: experiment/1\n")
    short = (EXPERIMENTS / "dynamics_bursty.yaml").read_text()
    (experiments / "dynamics_bursty.yaml").write_text(short)
    studies = [Study("wrong"), Study("dynamics_bursty", ("trace.duration_s=1",))]
    conducted = run_studies(experiments, tmp_path / "results", quick=True, jobs=1, studies=studies)
    assert len(conducted.problems) == 1
    assert conducted.problems[0].startswith("wrong: ")
    assert len(Results(tmp_path / "results").summary("dynamics_bursty")) == 2
    with pytest.raises(SpecError, match="file not found"):
        run_studies(experiments, tmp_path / "results", quick=True, jobs=1, studies=[Study("none")])


def test_every_picture_and_study_has_its_experiment() -> None:
    studied = {study.name for study in STUDIES}
    assert {picture.source for picture in PICTURES} - {""} <= studied
    assert all((EXPERIMENTS / f"{name}.yaml").exists() for name in studied)
    assert len({picture.name for picture in PICTURES}) == len(PICTURES)


@pytest.mark.slow
def test_the_quick_form_draws_and_judges_all(tmp_path: Path) -> None:
    """Under three minutes on two idle cores; here only that it comes to its end."""
    words = ("reproduce", "--quick", "--experiments", str(EXPERIMENTS), "--out", str(tmp_path))
    assert exit_code(*words) == 0
    assert "No results" not in (tmp_path / "quick" / "reproduction.md").read_text(encoding="utf-8")
