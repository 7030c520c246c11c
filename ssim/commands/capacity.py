"""`ssim capacity FILE`: the highest rate at which each policy meets a target, or the workers for a rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import example
from ssim.commands.options import job_options
from ssim.commands.printing import console, headings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from ssim.execution.capacity import Found
    from ssim.execution.mixes import Cheapest
    from ssim.execution.workers import Needed
    from ssim.jobs.job import Job
    from ssim.results.store import Store


@click.command(
    epilog=example(
        "ssim capacity scaling",
        "ssim capacity azure --rate 5000 --target 0.99",
        "ssim capacity kinds --rate 3000 --target 0.99 --cheapest",
    )
)
@job_options()
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Find the least number of workers for this mean rate of the whole trace, in queries per second.",
)
@click.option(
    "--cheapest",
    is_flag=True,
    help="With --rate: find the mix of kinds of workers with the lowest price, from none to any number of each.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True),
    help="SLO attainment to meet.  [default: capacity.target of FILE, or 0.999]",
)
def capacity(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    jobs: int,
    rate: float | None,
    target: float | None,
    *,
    cheapest: bool,
) -> None:
    """Find the highest rate at which each policy of FILE meets an SLO attainment; with --rate, the number of workers.

    Without --rate, the key `capacity` of FILE says which parameter of the trace is varied, which attainment is the
    target, and how closely the rate is found: `{rate: mean_qps, target: 0.999, precision: 0.005}` if left out. Traces
    of queues change in proportion, and every queue has to meet the target.

    With --rate, all rates of a generator are scaled in proportion, or the speed-up of a recording is set, and the
    number of workers is varied. The table also has the least number that any policy needs. For kinds of workers with
    prices, --cheapest varies the numbers of all kinds.
    """
    from rich.console import Console

    from sim.base.errors import SpecError
    from ssim.commands.present.experiment import announce
    from ssim.commands.present.progress import Progress, interruptible, report_failures
    from ssim.execution.capacity import Trials, find_capacities
    from ssim.execution.mixes import find_cheapest
    from ssim.execution.workers import find_workers
    from ssim.jobs.reading import read_job
    from ssim.results.store import Store

    if rate is not None and not math.isfinite(rate):
        raise SpecError("--rate", "must be a finite number", str(rate), "queries per second, such as 5000")
    if cheapest and rate is None:
        raise SpecError("--cheapest", "needs the rate that the workers have to carry", "", "give --rate, such as 5000")
    settings = overrides if target is None else (*overrides, f"capacity.target={target!r}")
    experiment = read_job(file, settings, "experiment/1")
    store = Store(out / experiment.name / "capacity")
    beside = Console(stderr=True)
    announce(experiment, beside)
    progress = Progress(beside, each=False)
    trials = Trials(experiment, store, jobs, progress.more, progress.finished)
    screen = console()
    found: list[Found] | list[Needed] | list[Cheapest]
    capacities: list[Found] = []
    needed: list[Needed] = []
    mixes: list[Cheapest] = []
    with interruptible("what was tried is stored, and the same command goes on from there"), store.writing():
        with progress:
            if rate is None:
                found = capacities = find_capacities(trials)
            elif cheapest:
                found = mixes = find_cheapest(trials, rate)
            else:
                found = needed = find_workers(trials, rate)
        if mixes:
            drawn = _show_mixes(screen, experiment, store, mixes)
        elif needed:
            drawn = _show_workers(screen, experiment, store, needed)
        else:
            drawn = _show_capacities(screen, experiment, store, capacities)
        for path in drawn:
            if path.suffix == ".png":
                screen.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)
    report_failures([one.error for one in found if one.error], len(found), "searches")


def _show_capacities(screen: Console, experiment: Job, store: Store, found: Sequence[Found]) -> list[Path]:
    """Print, write and draw the answers; return the files of the picture."""
    from ssim.jobs.experiment.drawing import draw_capacities

    _print_capacities(screen, experiment, found)
    rows = [one.row() for one in found]
    _write(screen, "Table", store.folder / "capacity.csv", rows)
    return draw_capacities(store, rows, experiment.spec.capacity.rate)


def _show_workers(screen: Console, experiment: Job, store: Store, found: Sequence[Needed]) -> list[Path]:
    from ssim.jobs.experiment.drawing import draw_workers

    _print_workers(screen, experiment, found)
    _write(screen, "Table", store.folder / "workers.csv", [one.row() for one in found])
    return draw_workers(store, [row for one in found for row in one.tried_rows()], found[0].search.target)


def _show_mixes(screen: Console, experiment: Job, store: Store, found: Sequence[Cheapest]) -> list[Path]:
    from ssim.commands.present.cheapest import print_cheapest
    from ssim.jobs.experiment.drawing import draw_mixes

    print_cheapest(screen, experiment, found)
    _write(screen, "Table", store.folder / "cheapest.csv", [one.row() for one in found])
    tried = [row for one in found for row in one.tried_rows()]
    if tried:
        _write(screen, "All mixes that were tried", store.folder / "mixes.csv", tried)
    return draw_mixes(store, tried)


def _write(screen: Console, what: str, path: Path, rows: Sequence[dict[str, Any]]) -> None:
    from ssim.jobs.experiment.summary import write_csv

    write_csv(path, rows, list(rows[0]))
    screen.print(f"{what}: {path}", soft_wrap=True)


def _print_capacities(screen: Console, experiment: Job, found: Sequence[Found]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sim.traces.merged import Merged
    from ssim.commands.present.cheapest import of_queues

    spec = experiment.spec.capacity
    seeds = len({one.run.seed for one in found})
    of_all = " of all queues together" if isinstance(experiment.runs[0].parts.source, Merged) else ""
    title = f"{experiment.name}: highest {spec.rate}{of_all} that meets {spec.target:g} ({_over(seeds)})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*headings(experiment.swept).values(), "policy"):
        table.add_column(name, overflow="fold")
    for name in ("capacity", "uncertain range", "relative to first policy"):
        table.add_column(name, justify="right", no_wrap=True)
    for here in _grouped(found, lambda one: repr(one.run.swept)):
        first = {one.run.seed: one.capacity for one in here if one.run.label == here[0].run.label}
        for members in _grouped(here, lambda one: one.run.label):
            alone = next(iter(first.values())) if len(first) == 1 else None  # a run without chance stands for each seed
            bases = [first.get(one.run.seed, alone) for one in members]
            known = [(one.capacity, base) for one, base in zip(members, bases, strict=True) if one.capacity is not None]
            ratios = [capacity / base for capacity, base in known if base is not None]
            missing = f" ({len(known)} of {len(members)} seeds)" if 0 < len(known) < len(members) else ""
            run = members[0].run
            point = [str(run.swept[name]) for name in experiment.swept]
            mean, ratio = _mean([capacity for capacity, _ in known]), _mean(ratios)
            table.add_row(*point, run.label + missing, mean, _range(members), ratio)
    screen.print(table)
    for line in _notes(found):
        screen.print(line, soft_wrap=True)
    if any(one.capacity is not None for one in found):
        screen.print(
            f"Capacity of each seed: the highest rate, to {100 * spec.precision:g} %, at which a non-increasing fit to "
            f"all rates tried meets {spec.target:g}. Policies of a seed meet the same random numbers. "
            "Uncertain range: from the lowest rate that missed the target to the highest that met it; longer traces "
            f"narrow it.{of_queues(experiment)}",
            soft_wrap=True,
        )


def _over(seeds: int) -> str:
    return f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed, no interval"


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
    """Return the uncertain ranges of searches as one, over all seeds."""
    ranges = [one.search.uncertain for one in found if one.search.uncertain is not None and one.error is None]
    return f"{min(low for low, _ in ranges):.5g} to {max(high for _, high in ranges):.5g}" if ranges else ""


def _notes(found: Sequence[Found]) -> Iterator[str]:
    """Yield what the table does not say, a line for each search."""
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
            yield f"{who}: meets the target at every rate that was tried, up to {search.highest:g}{barred}."
        elif search.uncertain is not None:
            low, high = search.uncertain
            yield f"{who}: attainment crosses the target {search.crossings} times, from {low:.5g} to {high:.5g}."


def _print_workers(screen: Console, experiment: Job, found: Sequence[Needed]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssim.commands.present.cheapest import of_queues

    target, seeds = found[0].search.target, len(found[0].runs)
    title = f"{experiment.name}: workers that meet {target:g} at {found[0].rate_qps:g} queries per second"
    table = Table(title=f"{title} ({_over(seeds)})", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*headings(experiment.swept).values(), "policy"):
        table.add_column(name, overflow="fold")
    shown = ("workers", *["each seed"] * (seeds > 1), "attainment", "one worker less", "headroom", "any policy")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        row = one.row()
        cells = {
            "workers": "-" if row["workers"] is None else str(row["workers"]),
            "each seed": _span(row["workers_from"], row["workers_to"]),
            "attainment": _interval(row["attainment"], row["attainment_half_width"]),
            "one worker less": _interval(row["attainment_one_less"], row["attainment_one_less_half_width"]),
            "headroom": _interval(row["headroom"], row["headroom_half_width"], 100, ".1f", " %"),
            "any policy": "-" if one.any_policy is None else str(one.any_policy),
        }
        point = [str(one.runs[0].swept[name]) for name in experiment.swept]
        table.add_row(*point, one.runs[0].label, *(cells[name] for name in shown))
    screen.print(table)
    for line in _worker_notes(found):
        screen.print(line, soft_wrap=True)
    if any(one.any_policy is None for one in found):
        screen.print(
            "The least number for any policy is unknown for a trace too long to be held, and with `measure`: the "
            "bound counts every query.",
            soft_wrap=True,
        )
    over = "mean attainment over seeds" if seeds > 1 else "attainment"
    screen.print(
        f"Workers: the least number with which the {over} is at least {target:g}. Headroom: how much the mean rate can "
        f"grow, to {100 * experiment.spec.capacity.precision:g} %. Any policy: no policy meets the target with fewer "
        f"workers, not even one that knows the future.{of_queues(experiment)}",
        soft_wrap=True,
    )


def _span(low: int | None, high: int | None) -> str:
    return "-" if low is None else str(low) if low == high else f"{low} to {high}"


def _interval(mean: float | None, half: float | None, scale: float = 1, digits: str = ".6f", unit: str = "") -> str:
    if mean is None:
        return "-"
    width = "" if half is None else f" ±{scale * half:.2g}"
    return f"{scale * mean:{digits}}{width}{unit}"


def _worker_notes(found: Sequence[Needed]) -> Iterator[str]:
    """Yield what the table does not say, a line for each search."""
    for one in found:
        search = one.search
        who = one.runs[0].label + "".join(f", {key} = {value}" for key, value in one.runs[0].swept.items())
        if one.error is not None:
            continue
        if search.least is None:
            most = sorted(search.attained)[-2:]
            values = " and ".join(f"{search.mean(workers):.6f} with {workers} workers" for workers in most)
            yield (
                f"{who}: no number of workers meets the target. Attainment is {values}. Queries are not waiting for "
                "workers: the batches of this policy are too slow for the SLO, or it waits or drops."
            )
            continue
        if search.uncertain is not None:
            low, high = search.uncertain
            yield f"{who}: attainment crosses the target more than once: {low} workers meet it, {high} miss it."
        half = one.row()["attainment_half_width"]
        if half is not None and search.mean(search.least) - half < search.target:
            yield f"{who}: the interval of the attainment includes the target; more repeats or a longer trace decide."
