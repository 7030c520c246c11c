"""`ssim report RESULTS`: stored results as one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.printing import spinning


@click.command(epilog=example("ssim report results/azure", "ssim report results -o all.html"))
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.  [default: RESULTS/report.html]",
)
def report(results: Path, output: Path | None) -> None:
    """Make one HTML page of stored results; a browser shows it without a network.

    RESULTS is the folder of one experiment, such as results/azure, or a folder of several. The page has the table of
    policies, the trade-off of attainment and accuracy (with the bound of `ssim optimum`, if it is stored), a heat map
    over two swept keys, any run over time with its workers and latencies, results by queue, class of queries and kind
    of workers, the experiment, and the manifest of each run. Needs the extra `report` (plotly).
    """
    from sim.base.whole_file import write_text
    from ssim.jobs.experiment.report import collect, page

    path = results / "report.html" if output is None else output
    with spinning("reading results"):
        found = collect(results)
        text = page(found)
    write_text(path, text)
    for problem in found.problems:
        click.echo(f"ssim: not in the report: {problem}", err=True)
    click.echo(path)
    if found.problems:
        raise click.exceptions.Exit(1)
