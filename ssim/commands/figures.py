"""`ssim figures NAME`: draw the figures of stored results again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
def figures(name: str, out: Path) -> None:
    """Draw the figures of the experiment NAME again, from what is stored."""
    from ssim.drawing import draw_experiment
    from ssim.store import Store

    store = Store(out / name)
    for path in draw_experiment(store):
        click.echo(path)
    missing = [run for run in store.index()["runs"] if store.manifest(run["id"]) is None]
    for run in missing:
        click.echo(f"ssim: not stored, so not drawn: {run['policy']}, seed {run['seed']}", err=True)
    if missing:
        raise click.exceptions.Exit(1)
