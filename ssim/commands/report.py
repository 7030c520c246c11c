"""`ssim report RESULTS`: stored results as one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: RESULTS/report.html]")
def report(results: Path, out: Path | None) -> None:
    """Make one page (HTML) of stored results, to be opened in a browser; it needs no network.

    RESULTS is the folder of an experiment, such as results/azure, or one with several. The page has the table, the
    trade-off and any run over time with values under the pointer, the experiment, and each run's manifest.
    """
    from sim.base.whole_file import whole_file
    from ssim.results.report import collect, page

    found = collect(results)
    path = results / "report.html" if out is None else out
    text = page(found)
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    for problem in found.problems:
        click.echo(f"ssim: not in the report: {problem}", err=True)
    click.echo(path)
    if found.problems:
        raise click.exceptions.Exit(1)
