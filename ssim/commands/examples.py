"""`ssim examples`: the experiments, trainings and topologies that come with the toolkit."""

from __future__ import annotations

import click

from ssim.commands.group import example
from ssim.commands.options import json_option


@click.command(epilog=example("ssim examples --show azure"))
@click.option("--show", metavar="NAME", help="Print one of the files.")
@json_option
def examples(show: str | None, *, as_json: bool) -> None:
    """List the shipped files, one line each: `ssim run`, `ssim train` and `ssim topology` take their names."""
    from rich.table import Table

    from ssim.commands.printing import console, print_json
    from ssim.files.shipped import FOLDERS, names, shipped, summary

    if show is not None:
        from sim.base.errors import SpecError, did_you_mean

        path = next((found for folder in FOLDERS if (found := shipped(folder, show)) is not None), None)
        if path is None:
            known = [name for folder in FOLDERS for name in names(folder)]
            raise SpecError("--show", "no shipped file has this name", repr(show), did_you_mean(show, known))
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    if as_json:
        print_json([{"kind": f, "name": n, "about": summary(path)} for f in FOLDERS for n, path in names(f).items()])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for folder in FOLDERS:
        table.add_row(f"[{folder}]", "")
        for name, path in names(folder).items():
            table.add_row(f"  {name}", summary(path))
    console().print(table)
