"""`ssim init`: a small commented file to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example

_KINDS = ("experiment", "policy", "planner", "trace", "topology", "federated", "training")


@click.command(epilog=example("ssim init experiment", "ssim init policy"))
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The file to write; KIND.yaml if left out.")
def init(kind: str, out: Path | None) -> None:
    """Write a small commented file of a KIND that runs as it is, with the schema that editors check it by.

    `policy` and `planner` write a Python file, `trace` a recording, and all three an experiment that uses it.
    """
    from sim.base.errors import SpecError
    from sim.base.whole_file import write_text
    from ssim.files.templates import NEXT, files_of

    files = files_of(kind, out)
    for path in files:
        if path.exists():
            raise SpecError(str(path), "exists already", "", "name another file with --out")
    for path, text in files.items():
        write_text(path, text)
        click.echo(f"written: {path}")
    yaml = next(path for path in files if path.suffix == ".yaml")
    click.echo(f"next: {NEXT[kind].format(file=yaml)}")
