"""`ssim figures NAME`: draw the figures of stored results again; `ssim figures all`: the figures of the paper."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.options import completed, stored_jobs


@click.command(epilog=example("ssim figures azure", "ssim figures all"))
@click.argument("name", shell_complete=completed(stored_jobs))
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
def figures(name: str, out: Path) -> None:
    """Draw the figures of the stored experiment or federated training NAME again; with `all`, those of the paper.

    Nothing is simulated. The figures of an experiment go into its folder: results/NAME/figures; those of a federated
    training into the folder of each run. Those of the paper come from several experiments and go into results/figures,
    with an index page.
    """
    problems = _all(out) if name == "all" else _one(name, out)
    for problem in problems:
        click.echo(f"ssim: {problem}", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _one(name: str, out: Path) -> list[str]:
    """Draw the figures of one job and return what could not be drawn.

    Raises:
        StoreError: It is of a kind without figures.
    """
    from sim.base.errors import StoreError
    from ssim.results.stored import stored

    store = stored(out, name)
    index = store.index()
    runs, schema = index["runs"], index["job"]
    there = [run for run in runs if store.manifest(run["id"]) is not None]
    if schema == "experiment/1":
        from ssim.jobs.experiment.drawing import draw_experiment

        drawn = draw_experiment(store)
    elif schema == "federated/1":
        from ssim.jobs.federated.drawing import draw_run

        drawn = [path for run in there for path in draw_run(run["label"], run["seed"], store.folder / run["id"])]
    else:
        hint = "experiments and federated trainings have figures"
        raise StoreError(str(store.folder), f"a job of schema {schema} has no figures", "", hint)
    for path in drawn:
        click.echo(path)
    missing = [run for run in runs if run not in there]
    return [f"not stored, therefore not drawn: {run['label']}, seed {run['seed']}" for run in missing]


def _all(out: Path) -> list[str]:
    """Draw the figures of the paper and return what could not be drawn."""
    from sim.base.errors import StoreError
    from ssim.paper.gallery import draw_all

    if not out.is_dir():
        raise StoreError(str(out), "folder not found", "", "`ssim reproduce` makes it; --out names another")
    gallery = draw_all(out, on_drawn=click.echo)
    click.echo(f"{len(gallery.drawn)} pictures (PNG, with PDF and SVG beside them): {gallery.index}")
    return list(gallery.problems)
