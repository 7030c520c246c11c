"""`ssim capacity FILE`: the highest rate at which each policy holds an SLO attainment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from ssim.commands.group import example
from ssim.commands.options import job_options
from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from ssim.execution.capacity import Found
    from ssim.jobs.job import Job


@click.command(epilog=example("ssim capacity scaling"))
@job_options()
def capacity(file: Path, out: Path, overrides: tuple[str, ...], jobs: int) -> None:
    """Find the highest rate at which each policy of FILE holds an SLO attainment.

    Its key `capacity` says which parameter of the trace is moved, which attainment is the target, and how closely the
    rate is found: `{rate: mean_qps, target: 0.999, precision: 0.005}` if it says nothing.
    """
    from rich.console import Console

    from ssim.commands.present.progress import Progress, interruptible, report_failures
    from ssim.execution.capacity import find_capacities
    from ssim.jobs.experiment.drawing import draw_capacities
    from ssim.jobs.experiment.summary import write_csv
    from ssim.jobs.reading import read_job
    from ssim.results.store import Store

    experiment = read_job(file, overrides, "experiment/1")
    store = Store(out / experiment.name / "capacity")
    progress = Progress(Console(stderr=True), each=False)
    with interruptible("what was tried is stored, and the same command goes on from there"), store.writing():
        with progress:
            found = find_capacities(experiment, store, jobs=jobs, on_round=progress.more, on_finished=progress.finished)
        rows = [one.row() for one in found]
        table = store.folder / "capacity.csv"
        write_csv(table, rows, list(rows[0]))
        screen = console()
        _print_table(screen, experiment, found)
        screen.print(f"Table: {table}", soft_wrap=True)
        for path in draw_capacities(store, rows, experiment.spec.capacity.rate):
            if path.suffix == ".png":
                screen.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)
    report_failures([one.error for one in found if one.error], len(found), "searches")


def _print_table(screen: Console, experiment: Job, found: Sequence[Found]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    spec = experiment.spec.capacity
    seeds = len({one.run.seed for one in found})
    over = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed, no interval"
    title = f"{experiment.name}: highest {spec.rate} that holds {spec.target:g} ({over})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*experiment.swept, "policy"):
        table.add_column(name.rpartition(".")[2], overflow="fold")
    for name in ("capacity", "wavers between", "to the first"):
        table.add_column(name, justify="right", no_wrap=True)
    for here in _grouped(found, lambda one: repr(one.run.swept)):
        first = {one.run.seed: one.capacity for one in here if one.run.label == here[0].run.label}
        for members in _grouped(here, lambda one: one.run.label):
            known = [(one.capacity, first[one.run.seed]) for one in members if one.capacity is not None]
            ratios = [capacity / base for capacity, base in known if base is not None]
            missing = f" ({len(known)} of {seeds} seeds)" if 0 < len(known) < seeds else ""
            run = members[0].run
            point = [str(run.swept[name]) for name in experiment.swept]
            mean, ratio = _mean([capacity for capacity, _ in known]), _mean(ratios)
            table.add_row(*point, run.label + missing, mean, _range(members), ratio)
    screen.print(table)
    for line in _notes(found):
        screen.print(line, soft_wrap=True)
    if any(one.capacity is not None for one in found):
        screen.print(
            f"For each seed by itself: the highest rate, to {100 * spec.precision:g} %, at which a non-increasing fit "
            f"through all that was tried holds {spec.target:g}. Policies of a seed meet the same random numbers. "
            "It wavers from the lowest rate that missed it to the highest that held it; longer traces waver less.",
            soft_wrap=True,
        )


def _grouped(found: Sequence[Found], key: Callable[[Found], str]) -> list[list[Found]]:
    groups: dict[str, list[Found]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _mean(values: Sequence[float]) -> str:
    """Return mean and interval to five and two digits."""
    from sim.base.intervals import mean_and_half_width

    if not values:
        return "-"
    mean, half = (
        float(f"{value:.{digits}g}") for value, digits in zip(mean_and_half_width(values), (5, 2), strict=True)
    )
    return f"{mean:.10g}" + ("" if math.isnan(half) else f" ±{half:g}")


def _range(found: Sequence[Found]) -> str:
    """Return where searches waver, over all seeds."""
    ranges = [one.search.wavers for one in found if one.search.wavers is not None and one.error is None]
    return f"{min(low for low, _ in ranges):.5g} and {max(high for _, high in ranges):.5g}" if ranges else ""


def _notes(found: Sequence[Found]) -> Iterator[str]:
    """Yield what is not as one would think, a line for each search."""
    for one in found:
        who, search = one.run, one.search
        if one.error is not None:
            continue
        barred = f" ({next(iter(search.barred.values()))})" if search.barred else ""
        if not search.attained:
            yield f"{who}: no rate could be tried{barred}."
        elif search.holds is None:
            yield f"{who}: misses the target at every rate that was tried, down to {search.lowest:g}{barred}."
        elif search.misses is None:
            yield f"{who}: holds the target at every rate that was tried, up to {search.highest:g}{barred}."
