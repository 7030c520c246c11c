"""A selection of the figures of an experiment, for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from figures import style
from ssim.commands.options import names_option
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
schema: experiment/1
name: few
seed: 3
trace: {kind: poisson, mean_qps: 900, duration_s: 2, slo_ms: 36}
cluster: {workers: 1}
latency_table: ofa-resnet50-rtx2080ti
keep: windows
policies: [slackfit, {use: clipper, params: {accuracy: 78.25}}, {use: clipper, params: {accuracy: 80.16}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("few")
    (made / "few.yaml").write_text(EXPERIMENT)
    assert ssim(made, "run", "few.yaml", "--no-figures", "--jobs", "1").returncode == 0
    return made


def selected(folder: Path, output: str, *words: str) -> set[str]:
    before = sorted((folder / "results").rglob("*"))
    ended = ssim(folder, "figures", "few", *words, "-o", output)
    assert ended.returncode == 0, ended.stderr
    assert sorted((folder / "results").rglob("*")) == before  # what is stored stays as it is
    return {path.name for path in (folder / output).iterdir()}


def test_figures_formats_and_width_are_chosen(folder: Path) -> None:
    assert selected(folder, "a", "--format", "png") == {"tradeoff.png", "dynamics.png"}
    both = selected(folder, "b", "--only", "tradeoff", "--width", "page", "--format", "png", "--format", "pdf")
    assert both == {"tradeoff.png", "tradeoff.pdf"}
    with Image.open(folder / "a/tradeoff.png") as one, Image.open(folder / "b/tradeoff.png") as other:
        assert (one.width, other.width) == tuple(
            round(inches * style.PNG_DPI) for inches in (style.COLUMN_IN, style.PAGE_IN)
        )
        assert one.height == other.height


@pytest.mark.parametrize(
    "words",
    [
        ["--names", "a", "--names", "b(x=1,y=2)"],
        ["--names", "a,b(x=1,y=2)"],
        ["--names", " a , b(x=1,y=2),", "--names", "a"],
    ],
)
def test_several_names_are_an_option_repeated_or_a_list_with_commas(words: list[str]) -> None:
    @click.command()
    @names_option("--names", "names", "NAME", "Names.")
    def shown(names: tuple[str, ...]) -> None:
        click.echo("; ".join(names))

    assert CliRunner().invoke(shown, words).output == "a; b(x=1,y=2)\n"


def test_policies_are_chosen_by_label_or_by_name(folder: Path) -> None:
    words = ("--only", "tradeoff", "--format", "svg")
    texts = {}
    for number, policies in enumerate(("slackfit,clipper", "clipper(accuracy=80.16)", "slackfit,maxacc")):
        ended = ssim(folder, "figures", "few", *words, "--policies", policies, "-o", f"p{number}")
        texts[policies] = (ended.returncode, (folder / f"p{number}" / "tradeoff.svg"))
    assert [code for code, _ in texts.values()] == [0, 0, 2]
    everything, one, unknown = (path for _, path in texts.values())
    assert "<!-- SlackFit -->" in everything.read_text()
    assert "<!-- 80.16 -->" in one.read_text()
    assert "<!-- SlackFit -->" not in one.read_text()
    assert not unknown.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--only", "sweep", "-o", "x"],
            "--only: the experiment has no such figure (sweep); it has tradeoff, dynamics",
        ),
        (["--policies", "maxacc", "-o", "x"], "no such policy (maxacc); it has slackfit, clipper(accuracy=78.25), "),
        (["--format", "pnk", "-o", "x"], "--format: unknown name ('pnk'); known: pdf, pgf, png, svg"),
        (["--only", ",", "-o", "x"], "--only: no name given (',')"),
        (["--width", "page"], "a selection needs a folder of its own; -o names one"),
    ],
)
def test_what_is_not_there_is_told(folder: Path, words: list[str], told: str) -> None:
    ended = ssim(folder, "figures", "few", *words)
    assert (ended.returncode, told in ended.stderr) == (2, True), ended.stderr
    assert not (folder / "x").exists()
