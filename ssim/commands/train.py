"""`ssim train`: a model, or a supernet, over the parties of a topology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.printing import print_accuracies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssim.jobs.federated.run import FederatedRun


@click.command()
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of a training.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, such as rounds=50.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="For results.")
@click.option("--force", is_flag=True, help="Train also what is trained already.")
@click.option("-o", "--compare", type=click.Path(path_type=Path), help="Draw all FILEs in one picture, to this file.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def train(
    files: tuple[Path, ...],
    overrides: tuple[str, ...],
    out: Path,
    threads: int,
    compare: Path | None,
    *,
    force: bool,
) -> None:
    """Train over the parties of a topology what each of FILES asks for, and say how accurate the subnets are.

    What is trained already is not trained again; what was interrupted goes on from its last rest.
    """
    import torch

    from sim.base.errors import SsimError
    from ssim.jobs.federated.file import read_federated
    from ssim.jobs.federated.run import FederatedRun

    torch.set_num_threads(threads)  # with one, a training comes out the same in every process
    plans = [read_federated(file, overrides) for file in files]
    done: list[FederatedRun] = []
    for plan in plans:
        for run in (FederatedRun(plan, seed, out) for seed in plan.seeds):
            try:
                with run.store.writing():
                    _one(run, force=force)
            except KeyboardInterrupt as error:
                what = "what was stored at the last rest is kept, and the same command goes on from there"
                raise SsimError("interrupted", what) from error
            done.append(run)
        _report([run for run in done if run.plan is plan])
    if compare is not None:
        from figures.style import save_as
        from ssim.jobs.federated.drawing import compared

        click.echo(f"drawn: {save_as(compared(done), compare)}")


def _one(run: FederatedRun, *, force: bool) -> None:
    """Train one run unless it is trained, and draw its pictures."""
    from ssim.jobs.federated.drawing import draw_run

    if force:
        run.forget()
    if run.is_trained:
        click.echo(f"{run.plan.spec.name}, seed {run.seed}: trained already ({run.folder})", err=True)
    else:
        run.train(_told(run))
        click.echo(f"stored in {run.folder}", err=True)
    run.calibrate()
    draw_run(run)


def _told(run: FederatedRun) -> Callable[[dict[str, Any]], None]:
    """Return what tells of each round that is done: on a terminal in one line that changes, elsewhere in twenty."""
    from rich.console import Console

    screen = Console(stderr=True)
    rounds = run.plan.spec.rounds
    step = max(1, rounds // 20)

    def told(row: dict[str, Any]) -> None:
        done, worker = row["round"], row["worker"]
        if not row["accuracy"] or (done % step and done != rounds):
            return
        shown = " ".join(f"{accuracy:.1f}" for accuracy in row["accuracy"].values())
        epsilon = f", epsilon {row['epsilon']:.2f}" if "epsilon" in row else ""
        text = (
            f"{run.plan.spec.name}, seed {run.seed}, {worker}: round {done} of {rounds}, {shown} %{epsilon}, "
            f"{row['time_s']:.2f} s, {row['bytes'] / 1e6:.1f} MB"
        )
        if screen.is_terminal:
            screen.print(text, end="\r", highlight=False, soft_wrap=True)
            if done == rounds:
                screen.print()
        else:
            click.echo(text, err=True)

    return told


def _report(runs: Sequence[FederatedRun]) -> None:
    """Print how accurate the subnets are, over seeds, and what the training took."""
    import json

    print_accuracies(runs[0].plan.spec.name, [run.calibrate() for run in runs])
    summary = json.loads((runs[0].folder / "manifest.json").read_text())["summary"]
    sent = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in summary["bytes"].items())
    time = "virtual s" if runs[0].plan.spec.engine == "sim" else "s"
    click.echo(f"{summary['rounds']} rounds in {summary['time_s']:.2f} {time}; {sent}")
    if summary["weight"].get("largest", 1) < 1:  # not all train the whole network
        shares = ", ".join(f"{end} {100 * share:.1f} %" for end, share in summary["weight"].items())
        click.echo(f"weight in the means, over all rounds: {shares}")
    if summary["events"]:
        click.echo("events: " + ", ".join(f"{count} {kind}" for kind, count in summary["events"].items()))
