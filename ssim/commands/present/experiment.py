"""Experiments: tables over seeds, comparisons with the reference and the paper's, and figures."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ssim.commands.printing import console, headings, limit_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.points import Compared, PointRows, Row
    from ssim.jobs.experiment.run import ExperimentParts
    from ssim.jobs.job import Job, Point
    from ssim.results.store import Store

_NOISE = 1e-12
"""Half-widths below this share of a mean are what rounding has left of equal numbers."""

_COLUMNS = {
    "SLO attainment": ("slo_attainment", 6, True),
    "accuracy %": ("mean_serving_accuracy", 2, True),
    "p99 ms": ("p99_latency_ms", 1, False),
    "batch": ("mean_batch_size", 1, False),
    "busy": ("utilisation", 2, False),
}
"""Columns of the table: of summary.csv, with how many decimals, and whether with an interval."""

_COST_COLUMNS = {
    "cost": ("cost", 4, False),
    "kWh": ("energy_kwh", 4, False),
    "worker hours": ("worker_h", 2, False),
}
"""Further columns where workers have prices or powers, or come and go."""

_QUEUE_COLUMNS = {"weighted": ("weighted_slo_attainment", 6, False), "Jain": ("jain_index", 4, False)}
"""Further columns where there are queues."""

_CLASS_COLUMNS = {
    "SLO attainment": ("slo_attainment", 6),
    "accuracy %": ("mean_serving_accuracy", 2),
    "p50 ms": ("p50_latency_ms", 1),
    "p99 ms": ("p99_latency_ms", 1),
}

_MOST_ROWS = 100
"""Rows of a table by class; a longer one is a file."""


def announce(job: Job, screen: Console) -> None:
    """Say what is unusual in the recordings that are replayed and in the tables that are used, each once."""
    said = set[str]()
    for point in {id(run.point): run.point for run in job.runs}.values():
        for line in _notes(point):
            if line not in said:
                screen.print(line, soft_wrap=True, highlight=False, markup=False)
            said.add(line)


def _tables(parts: ExperimentParts) -> Iterator[tuple[str, LatencyTable]]:
    """Yield the tables that batches are drawn from, each with the kind of workers or the queue that uses it."""
    from sim.tables.latency import LatencyTable

    queues = parts.cluster.queues
    for queue in queues:
        own = queue.table
        for name, table in ({"": own} if isinstance(own, LatencyTable) else own or {}).items():
            yield f"queue {queue.name}" + (f" on {name}" if name else ""), table
    if queues and all(queue.table is not None for queue in queues):
        return
    for kind in parts.cluster.kinds:
        yield kind.name, kind.table or parts.table
    if not parts.cluster.kinds:
        yield "other queues", parts.table


def _notes(point: Point) -> Iterator[str]:
    from sim.base.errors import SsimError
    from sim.tables.law import origin_of

    source, table = point.parts.source, point.parts.table
    with suppress(SsimError):  # the run tells
        yield from [f"trace {source.name}: {note}" for note in source.notes()]
    if (law := point.parts.cluster.latency).is_drawn:
        users: dict[str, list[str]] = {}
        for user, used in _tables(point.parts):
            users.setdefault(origin_of(used, law), []).append(user)
        for origin, named in users.items():
            of = f" of {', '.join(named)}" if len(users) > 1 else ""
            yield f"latencies{of}: {origin}"
    if point.spec.latency_table is not None:
        yield from limit_note("latency_table.max_batch:", point.spec.latency_table.max_batch, table)
    for kind, asked in zip(point.parts.cluster.kinds, point.spec.cluster.kinds, strict=True):
        if kind.table is not None and asked.table is not None:
            yield from limit_note(f"cluster.kinds, {kind.name}: max_batch:", asked.table.max_batch, kind.table)


def report(job: Job, store: Store, *, figures: bool) -> None:
    """Write the tables of what is stored, print them and draw the figures."""
    from ssim.jobs.experiment.drawn import drawn
    from ssim.jobs.experiment.summary import class_file, kind_file, queue_file, summary_file, write_summary
    from ssim.results.store import Snapshot

    store = Snapshot(store.folder)
    points = write_summary(store, job.swept)
    if not points:
        return
    screen = console()
    _print_table(screen, job, points)
    if job.spec.repeats > 1:
        _print_fixed(screen, job.spec.repeats, points)
    _print_classes(screen, job, points)
    _print_notes(screen, job.name, points)
    screen.print(f"Table: {summary_file(store)}", soft_wrap=True)
    if job.spec.queues:
        screen.print(f"By queue: {queue_file(store)}", soft_wrap=True)
    elif any(point.classes for point in points):
        screen.print(f"By class: {class_file(store)}", soft_wrap=True)
    if job.spec.cluster.kinds:
        screen.print(f"By kind of workers: {kind_file(store)}", soft_wrap=True)
    if figures:
        for path in drawn(store) or _draw(store):
            if path.suffix == ".png":
                screen.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)


def _draw(store: Store) -> list[Path]:
    from ssim.jobs.experiment.drawing import draw_experiment

    return draw_experiment(store)


def _print_table(screen: Console, job: Job, points: Sequence[PointRows]) -> None:
    """Print one table: a row a policy at a point of the sweep."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    repeats = max(row.repeats for point in points for row in point.rows)
    over = f"mean and 95 % interval over {repeats} seeds" if repeats > 1 else "one seed, no interval"
    changed = f", with {', '.join(job.overrides)}" if job.overrides else ""
    if job.spec.measure is not None and not any(key.startswith("measure") for key in job.swept):
        over = f"{job.spec.measure}; {over}"
    table = Table(title=f"{job.name}{changed} ({over})", title_justify="left", box=SIMPLE_HEAD, padding=0)
    swept = headings(job.swept)
    for name in (*swept.values(), "policy"):
        table.add_column(name, overflow="fold")
    known = {column for point in points for row in point.rows for one in row.summaries.values() for column in one}
    more = _QUEUE_COLUMNS | _COST_COLUMNS
    columns = _COLUMNS | {name: column for name, column in more.items() if column[0] in known}
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for number, point in enumerate(points):
        for row in point.ranked:
            values = (str(point.swept[key]) for key in swept)
            cells = (_cell(row, *column) for column in columns.values())
            table.add_row(*values, row.name, *cells)
        if swept and number < len(points) - 1:
            table.add_section()
    screen.print(table)


def _print_classes(screen: Console, job: Job, points: Sequence[PointRows]) -> None:
    """Print a table by class of queries or by queue, where there are any, and no more than a table takes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = [(point, name, row) for point in points for name, found in point.classes for row in found]
    if not 0 < len(rows) <= _MOST_ROWS:
        return
    what = "queue" if job.spec.queues else "class"
    title = "By queue" if job.spec.queues else "By class of queries"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    swept = headings(job.swept)
    for name in (*swept.values(), what, "policy"):
        table.add_column(name, overflow="fold")
    columns = _CLASS_COLUMNS | ({"rejected": ("rejected", 0)} if job.spec.queues else {})
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for place, (point, name, row) in enumerate(rows):
        numbers = (_estimated(*row.over_repeats(column, name), digits) for column, digits in columns.values())
        table.add_row(*(str(point.swept[key]) for key in swept), name, row.name, *numbers)
        following = rows[place + 1] if place < len(rows) - 1 else None
        if following and (following[0] is not point or (following[1] != name and len(point.rows) > 1)):
            table.add_section()
    screen.print(table)


def _print_fixed(screen: Console, repeats: int, points: Sequence[PointRows]) -> None:
    """Print which policies have one run, whatever the number of repeats."""
    fixed = dict.fromkeys(row.policy for point in points for row in point.rows if not row.is_random)
    if fixed:
        why = "neither the trace nor the policy depends on the seed"
        screen.print(f"{', '.join(fixed)}: one run instead of {repeats}, without an interval; {why}.", soft_wrap=True)


def _print_notes(screen: Console, name: str, points: Sequence[PointRows]) -> None:
    """Print what a table can't say: queries without a worker, and comparisons."""
    for point in points:
        at = f"{point}: " if point.swept else ""
        for row in point.ranked:
            unfinished = sum(summary["unfinished"] for summary in row.summaries.values())
            if unfinished:
                line = f"{at}{row.policy}: {unfinished} queries were never started: no worker was left."
                screen.print(line, soft_wrap=True)
        for line in point.headlines:
            screen.print(f"{at}{line}", soft_wrap=True)
    _print_differences(screen, name, points)


def _cell(row: Row, column: str, digits: int, interval: bool) -> str:
    mean, half = row.over_repeats(column)
    return _estimated(mean, half if interval else float("nan"), digits)


class _Number(NamedTuple):
    """A mean with its half-width, NaN for none, and the number of decimals; a sign if it is a difference."""

    mean: float
    half: float
    digits: int
    sign: str = ""


def _estimated(mean: float, half: float, digits: int, sign: str = "") -> str:
    """Return a mean and its interval as text: `-` for NaN, no interval for a half-width of NaN."""
    from sim.base.numbers import format_decimals

    if math.isnan(mean):
        return "-"
    rounded = float(f"{half:.1g}") if half > _NOISE * abs(mean) else 0.0
    interval = "" if math.isnan(half) else f" ±{rounded:.0f}" if rounded >= 10 else f" ±{rounded:g}"  # noqa: PLR2004 - 10, not 1e+01
    return (format_decimals(mean, digits, sign) if sign else f"{mean:.{digits}f}") + interval


def _print_differences(screen: Console, name: str, points: Sequence[PointRows]) -> None:
    """Print how the other policies of an experiment differ from the reference, or what prints it for a sweep."""
    from ssim.jobs.experiment.points import side_by_side

    found = side_by_side({"": points})
    if points[0].swept:
        if any(one.difference for one in found):
            references = ", ".join(dict.fromkeys(one.reference for one in found))
            screen.print(f"Differences from {references} at each point: ssim compare {name}", soft_wrap=True)
        return
    for one in found:
        if one.difference is not None:
            screen.print(str(one.difference), soft_wrap=True)
    if len(found) > 1 and not any(one.is_reference and one.row.is_whole for one in found):
        screen.print(f"No comparison: runs of the reference are missing ({found[0].reference}).", soft_wrap=True)


def title(found: Sequence[Compared]) -> str:
    """Return the title of a table of comparisons."""
    seeds = max(len(one.row.summaries) for one in found)
    over = f"mean and 95 % interval over {seeds} seeds, paired by seed" if seeds > 1 else "one seed, no interval"
    references = list(dict.fromkeys(one.reference for one in found))
    return f"Differences from {', '.join(references)} ({over})"


def print_table(screen: Console, found: Sequence[Compared]) -> None:
    """Print comparisons as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names, rows = _cells(found)
    table = Table(title=title(found), title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name, is_number in zip(names, _numbers(rows), strict=True):
        heading = name.replace(" difference", "\ndifference")  # numbers are never cut, so columns must be narrow
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else _estimated(*cell) for cell in row))
    screen.print(table)


def markdown(found: Sequence[Compared]) -> str:
    """Return comparisons as a Markdown table."""
    names, rows = _cells(found)
    rule = ["---:" if is_number else "---" for is_number in _numbers(rows)]
    texts = [[cell if isinstance(cell, str) else _estimated(*cell) for cell in row] for row in rows]
    escaped = [[text.replace("|", "\\|") for text in row] for row in [names, rule, *texts]]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def latex(found: Sequence[Compared], label: str) -> str:
    """Return comparisons as a LaTeX table with caption and label; it needs the package booktabs."""
    names, rows = _cells(found)
    columns = "".join("r" if is_number else "l" for is_number in _numbers(rows))
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_escaped(title(found))}.}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {' & '.join(map(_escaped, names))} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(map(_in_latex, row))} \\\\" for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines)


def _cells(found: Sequence[Compared]) -> tuple[list[str], list[list[str | _Number]]]:
    """Return the headings and the rows of a table of comparisons."""
    swept = headings(dict.fromkeys(key for one in found for key in one.swept))
    several = len({one.experiment for one in found}) > 1
    names = [*["experiment"] * several, *swept.values(), "policy", "SLO attainment", "accuracy %", "p99 ms"]
    names += ["attainment difference", "accuracy difference"]
    rows: list[list[str | _Number]] = []
    for one in found:
        row: list[str | _Number] = [
            *[one.experiment] * several,
            *(str(one.swept.get(key, "")) for key in swept),
            one.row.name,
        ]
        for column, digits, interval in list(_COLUMNS.values())[:3]:
            mean, half = one.row.over_repeats(column)
            row.append(_Number(mean, half if interval else math.nan, digits))
        if one.difference is None:
            row += ["reference" if one.is_reference else "-"] * 2
        else:
            row += [_Number(*one.difference.attainment, 6, "+"), _Number(*one.difference.accuracy, 2, "+")]
        rows.append(row)
    return names, rows


def _numbers(rows: Sequence[Sequence[str | _Number]]) -> list[bool]:
    """Return which columns hold numbers."""
    return [any(isinstance(cell, _Number) for cell in column) for column in zip(*rows, strict=True)]


def _in_latex(cell: str | _Number) -> str:
    if isinstance(cell, str):
        return _escaped(cell)
    text = _estimated(*cell)
    if text == "-":
        return "--"
    mean, half = (_with_power(part) for part in text.partition(" ±")[::2])
    return f"${mean} \\pm {half}$" if half else f"${mean}$"


def _with_power(number: str) -> str:
    """Return a number for LaTeX, 3e-05 as 3 times a power of ten."""
    digits, _, power = number.partition("e")
    return f"{digits} \\times 10^{{{int(power)}}}" if power else digits


_SPECIAL = {character: f"\\{character}" for character in "#$%&_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
