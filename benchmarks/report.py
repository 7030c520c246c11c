"""Tables and the picture of docs/performance.md, from what `make bench` measured.

make bench
.venv/bin/python benchmarks/report.py results/bench.json docs/cost.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures import style

TITLES = {
    "bench_azure": "Azure job, mean batch about 15",
    "bench_small_batches": "An eighth of its rate, mean batch about 1",
    "bench_day": "The whole Azure day",
    "bench_sweep": "Sweeps, each in a new process",
    "bench_sweep_simpy": "",
    "bench_trainings": "Federated training, so many parties of so many in a round",
    "bench_draw": "Arrivals",
    "bench_read": "Recordings, all arrivals of a file",
    "bench_memory": "The same, with the memory that it takes",
    "bench_tabulate": "Policies into tables",
    "bench_store": "The Azure job into the store",
    "bench_expand": "Topologies into workers",
    "bench_messages": "Messages in virtual time, two rounds of a star",
    "bench_help": "Commands, each in a new process",
    "bench_stored": "",
    "bench_small": "",
}
"""Tables and their headings, in order; one without a heading goes on with the table above it."""

COMPARED = {"bench_azure", "bench_small_batches", "bench_sweep", "bench_sweep_simpy", "bench_trainings"}
"""Those that do the same in several ways; of each job the first way is the measure of the others."""

COSTS = {"bench_workers": ("workers", "batch"), "bench_queue_length": ("queries waiting", "query")}
"""The picture's panels: what grows, and what of which the cost is shown."""


def rows_of(measured: list[dict[str, Any]], function: str) -> list[dict[str, Any]]:
    """Return what was measured by a function, in the order in which it was."""
    return [one for one in measured if one["name"].partition("[")[0] == function]


def table(rows: list[dict[str, Any]], *, compared: bool) -> list[str]:
    """Return lines of Markdown: what, its time and its rate; how much faster than the first way of the same job."""
    lines, first = [], dict[str, float]()
    for row in rows:
        info, median = row["extra_info"], row["stats"]["median"]
        per_s = info["count"] / median
        ratio = per_s / first.setdefault(info.get("job", ""), per_s)
        size = f", {info['bytes'] / 1e6:.3g} MB" if "bytes" in info else ""
        rate = f"{_short(per_s)} {info['unit']}/s" if info["count"] > 1 else ""
        to_first = f" {ratio:.3g}x |" if compared else ""
        lines.append(f"| {info['what']} | {_time(median)}{size} | {rate} |{to_first} {row['stats']['rounds']} |")
    return lines


def draw(measured: list[dict[str, Any]]) -> Figure:
    """Return what a batch costs over workers, and a query over the length of the queue; dotted: logarithmic growth."""
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.4), layout="constrained")
        for axes, (function, (label, of)) in zip(figure.subplots(1, 2), COSTS.items(), strict=True):
            rows = rows_of(measured, function)
            for what, colour in (("SimPy engine", style.GREY), ("compiled engine", "#D55E00")):
                own = [row for row in rows if row["extra_info"]["what"] == what]
                x = np.array([row["extra_info"]["x"] for row in own], dtype=float)
                many = "batches" if of == "batch" else "count"
                ns = np.array([1e9 * row["stats"]["median"] / row["extra_info"][many] for row in own])
                axes.plot(x, ns, color=colour, marker="o", markersize=3, label=what)
                axes.plot(x, ns[0] * np.log(x) / np.log(x[0]), color=colour, linestyle=(0, (1, 1.5)), linewidth=0.8)
            axes.set(xscale="log", yscale="log", xlabel=label, ylabel=f"ns a {of}")
        handles = [*axes.get_legend_handles_labels()[0], *[axes.lines[-1]]]
        style.legend_below(figure, handles, ["SimPy engine", "compiled engine", "growing as the logarithm"])
    return figure


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Print the tables; draw the picture if a path is given."""
    file, *picture = sys.argv[1:]
    found = json.loads(Path(file).read_text(encoding="utf-8"))
    machine = found["machine_info"]
    cpu = machine["cpu"]  # a busy machine may not say much of it
    cores = f"{cpu.get('brand_raw', machine['machine'])}, {cpu.get('count', '?')} cores"
    print(f"{cores}, Python {machine['python_version']}.")
    for function, title in TITLES.items():
        compared = function in COMPARED
        if title:
            more, line = (" to the first |", "---|") if compared else ("", "")
            print(f"\n**{title}**\n\n| what | median | rate |{more} rounds |\n|---|---|---|{line}---|")
        print("\n".join(table(rows_of(found["benchmarks"], function), compared=compared)))
    if picture:
        style.save_as(draw(found["benchmarks"]), Path(picture[0]))


if __name__ == "__main__":
    main()
