"""`ssim reproduce`: run the experiments of the paper, draw its figures, and say what became of its claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands import printing
from ssim.commands.group import example
from ssim.commands.options import jobs_option, results_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ssim.paper.claims.claim import Claim, Judged


@click.command(epilog=example("ssim reproduce --quick"))
@click.option(
    "--quick", is_flag=True, help="Short traces and one seed: minutes instead of hours; stored in results/quick."
)
@results_option
@click.option(
    "--experiments",
    type=click.Path(path_type=Path),
    help="Folder of experiment files; if left out, experiments/ here, or else those that come with the toolkit.",
)
@click.option(
    "--page",
    "page_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page to write.  [default: docs/reproduction.md; with --quick, reproduction.md in results/quick]",
)
@jobs_option()
def reproduce(*, quick: bool, out: Path, experiments: Path | None, page_path: Path | None, jobs: int) -> None:
    """Run the experiments of the SuperServe paper, draw its figures, and compare its claims with the results.

    Stored runs are not computed again. The verdicts are printed and written to a page, together with sweeps of what the
    paper leaves open and with the optimality gap of each policy.
    """
    from rich.console import Console

    from sim.base.errors import SpecError
    from sim.base.whole_file import write_text
    from ssim.commands.present.progress import interruptible
    from ssim.files.shipped import folder_of
    from ssim.paper.footprint import store_actuations
    from ssim.paper.gallery import draw_all
    from ssim.paper.inference.infer import infer
    from ssim.paper.page import page
    from ssim.paper.studies import run_studies
    from ssim.results.reading import Results

    if experiments is None:
        experiments = Path("experiments") if Path("experiments").is_dir() else folder_of("experiments")
    results = out / "quick" if quick else out
    path = page_path or (results / "reproduction.md" if quick else Path("docs") / "reproduction.md")
    console, beside = printing.console(), Console(stderr=True)

    def begin(name: str) -> None:
        beside.print(f"{name} ...", highlight=False)

    def search(part: str, done: int, every: int) -> None:
        if done == every or done % 20 == 0:
            beside.print(f"inference, {part}: {done} of {every} settings", highlight=False)

    def tell(name: str, seconds: float) -> None:
        beside.print(f"{name}: {seconds:.0f} s", highlight=False)

    with interruptible("finished runs are stored; the same command resumes from there"):
        conducted = run_studies(experiments, results, quick=quick, jobs=jobs, on_begin=begin, on_study=tell)
        try:
            store_actuations(Results(results))
        except SpecError as error:
            beside.print(str(error), highlight=False)  # figures and claims say so, too
        try:
            inferred = infer(experiments, results / "inference", quick=quick, jobs=jobs, on_done=search)
        except SpecError as error:
            inferred = None
            beside.print(str(error), highlight=False)
        gallery = draw_all(results)
        made = page(Results(results), "ssim reproduce --quick" if quick else "ssim reproduce", inferred)
        write_text(path, made.text)
    _print(console, made.judged, made.inferred)
    console.print(f"Page: {path}", soft_wrap=True, highlight=False)
    console.print(f"Pictures: {gallery.index}", soft_wrap=True, highlight=False)
    problems = dict.fromkeys((*conducted.problems, *gallery.problems, *made.problems))
    for problem in problems:
        click.echo(f"ssim: {problem}", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _print(console: Console, judged: Sequence[tuple[Claim, Judged]], columns: Sequence[Judged | None]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("claim", "where", "nothing added", "verdict", "inferred", "verdict", "paper"):
        table.add_column(name, overflow="fold")
    for (claim, each), column in zip(judged, columns, strict=True):
        inferred = ("", "") if column is None else (column.ours, column.verdict.value)
        table.add_row(claim.statement, claim.where, each.ours, each.verdict.value, *inferred, claim.paper)
    console.print(table)
