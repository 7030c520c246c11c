"""`ssim figures NAME`: draw the figures of stored results again; `ssim figures all`: the figures of the paper."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.options import completed, names_option, results_option, stored_jobs

_FORMATS = ("pdf", "svg", "png", "pgf")


@click.command(
    epilog=example(
        "ssim figures azure",
        "ssim figures azure --only tradeoff --policies slackfit,clipper --width page --format pdf -o paper",
        "ssim figures all",
    )
)
@click.argument("name", shell_complete=completed(stored_jobs))
@results_option
@names_option("--only", "only", "FIGURE", "Draw only these figures, such as tradeoff.")
@names_option("--policies", "policies", "NAME", "Draw only these policies.")
@click.option("--width", type=click.Choice(["column", "page"]), help="Width of one column of a paper, or of its page.")
@names_option("--format", "formats", "FORMAT", "pdf, svg, png, or pgf for LaTeX, which must be installed.", _FORMATS)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder of a selection.")
def figures(
    name: str,
    out: Path,
    only: tuple[str, ...],
    policies: tuple[str, ...],
    width: str | None,
    formats: tuple[str, ...],
    output: Path | None,
) -> None:
    """Draw the figures of the stored experiment or federated training NAME again; with `all`, those of the paper.

    Nothing is simulated. The figures of an experiment go into its folder: results/NAME/figures; those of a federated
    training into the folder of each run. Those of the paper come from several experiments and go into results/figures,
    with an index page. A selection of the figures of an experiment goes into a folder of its own (-o).
    """
    if only or policies or width or formats or output:
        for path in _selected(name, out, output, only, policies, width, formats):
            click.echo(path)
        return
    problems = _all(out) if name == "all" else _one(name, out)
    for problem in problems:
        click.echo(f"ssim: {problem}", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _one(name: str, out: Path) -> list[str]:
    """Draw the figures of one job and return what could not be drawn.

    Raises:
        StoreError: It is of a kind without figures, or no run is stored.
    """
    from sim.base.errors import StoreError
    from ssim.results.stored import stored

    store = stored(out, name)
    index = store.index()
    runs, schema = index["runs"], index["job"]
    manifests = [(run, store.manifest(run["id"])) for run in runs]
    missing = [run for run, manifest in manifests if manifest is None]
    if len(missing) == len(runs):
        raise StoreError(str(store.folder), "no run is stored", "", f"`ssim results status {name}` says why")
    if schema == "experiment/1":
        from ssim.jobs.experiment.drawing import draw_experiment

        drawn = draw_experiment(store)
    elif schema == "federated/1":
        from ssim.jobs.federated.drawing import draw_run

        drawn = [
            path
            for run, manifest in manifests
            if manifest is not None
            for path in draw_run(
                run["label"],
                run["seed"],
                store.folder / run["id"],
                manifest["identity"].get("metric", "accuracy"),
            )
        ]
    else:
        hint = "experiments and federated trainings have figures"
        raise StoreError(str(store.folder), f"a job of schema {schema} has no figures", "", hint)
    for path in drawn:
        click.echo(path)
    return [f"not stored, therefore not drawn: {run['label']}, seed {run['seed']}" for run in missing]


def _selected(
    name: str,
    out: Path,
    output: Path | None,
    only: tuple[str, ...],
    policies: tuple[str, ...],
    width: str | None,
    formats: tuple[str, ...],
) -> list[Path]:
    """Draw some figures of an experiment and return their files.

    Raises:
        SsimError: NAME is no experiment, or has no such figure or policy; or no folder is given.
    """
    from figures import style
    from sim.base.errors import SpecError
    from ssim.jobs.experiment.drawing import draw_selected
    from ssim.results.stored import stored

    if output is None:
        hint = "-o names one, since results/NAME/figures holds all of them"
        raise SpecError("ssim figures", "a selection needs a folder of its own", "", hint)
    store = stored(out, name)
    if (schema := store.index()["job"]) != "experiment/1":
        raise SpecError(name, "only figures of experiments are selected", schema, "leave out all options but --out")
    inches = {None: None, "column": style.COLUMN_IN, "page": style.PAGE_IN}[width]
    endings = [f".{one}" for one in formats] or style.FORMATS
    return draw_selected(store, output, only, policies, inches, endings)


def _all(out: Path) -> list[str]:
    """Draw the figures of the paper and return what could not be drawn."""
    from sim.base.errors import StoreError
    from ssim.paper.gallery import draw_all

    if not out.is_dir():
        raise StoreError(str(out), "folder not found", "", "`ssim reproduce` makes it; --out names another")
    gallery = draw_all(out, on_drawn=click.echo)
    click.echo(f"{len(gallery.drawn)} pictures (PNG, with PDF and SVG beside them): {gallery.index}")
    return list(gallery.problems)
