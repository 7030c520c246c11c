"""`ssim compare NAME ...`: stored policies against a reference, as a table for a terminal, a page or a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssim.commands.group import example
from ssim.commands.options import completed, results_option, stored_jobs

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("ssim compare mine", "ssim compare mine --format latex > mine.tex"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completed(stored_jobs))
@results_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv"]),
    default="table",
    show_default=True,
    help="Form of the table.",
)
@click.option("--live", is_flag=True, help="Compare a live run, NAME or NAME/RUN, with the simulator.")
def compare(names: tuple[str, ...], out: Path, form: str, *, live: bool) -> None:
    """Compare the policies of stored experiments with a reference: differences paired by seed, with 95 % intervals.

    NAME is a stored experiment (`ssim results ls`). The reference is the policy that its file names as `reference`, or
    the first one. With several NAMEs, the reference is that of the first; the others must have met the same arrivals
    with the same seeds, at the same points of a sweep.

    With --live, its queries are simulated again, each time with more of what the live run met, so that the difference
    falls into parts.
    """
    if live:
        from sim.base.errors import SpecError
        from ssim.commands.present.live import compare_live

        if form != "table":
            raise SpecError("--format", "can't be used with --live", form, "leave one of them out")
        for name in names:
            compare_live(out, name)
        return
    from ssim.commands.present import experiment
    from ssim.commands.printing import console
    from ssim.jobs.experiment.points import side_by_side
    from ssim.jobs.experiment.summary import columns_of, csv_text, stored_points
    from ssim.results.stored import stored

    found = side_by_side({name: stored_points(stored(out, name)) for name in dict.fromkeys(names)})
    if form == "table":
        experiment.print_table(console(), found)
    elif form == "markdown":
        click.echo(experiment.markdown(found))
    elif form == "latex":
        click.echo(experiment.latex(found, names[0]))
    else:
        rows = [one.columns() for one in found]
        click.echo(csv_text(rows, columns_of(rows)), nl=False)
