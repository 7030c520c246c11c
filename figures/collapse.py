"""Why many buckets collapse: the throughput of what SlackFit chooses, beside what comes of it (not in the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from figures import attainment, style
from figures.tables import check_columns, estimate, values

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = ("#0072B2", "#D55E00", "#009E73")


def draw(choices: pd.DataFrame, runs: pd.DataFrame, rate_qps: float, width: float = style.PAGE_IN) -> Figure:
    """Return two panels: throughput over slack, and SLO attainment over the number of buckets with 95 % intervals.

    Args:
        choices: Columns `policy`, `slack_ms` and `capacity_qps`: what all workers serve with the choice at a slack.
        runs: One row per run, with the columns `buckets`, `seed` and `slo_attainment`.
        rate_qps: The mean arrival rate.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if choices.empty or runs.empty:
        return style.empty(width)
    check_columns(choices, ("policy", "slack_ms", "capacity_qps"), "choices")
    check_columns(runs, ("buckets", "seed", "slo_attainment"), "runs")
    with style.applied():
        figure = Figure(figsize=(width, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, policy in enumerate(dict.fromkeys(choices["policy"])):
            mine = choices[choices["policy"] == policy]
            colour, dashes = _COLOURS[number % len(_COLOURS)], style.DASHES[number % len(style.DASHES)]
            left.step(
                mine["slack_ms"],
                mine["capacity_qps"] / 1000,
                where="post",
                color=colour,
                linestyle=dashes,
                label=policy,
            )
        left.axhline(rate_qps / 1000, color=style.GREY, linewidth=0.8)
        left.text(
            0.99,
            rate_qps / 1000,
            "arrivals",
            ha="right",
            va="bottom",
            color=style.GREY,
            transform=left.get_yaxis_transform(),
        )
        left.set_xlabel("slack of the most urgent query (ms)")
        left.set_ylabel("throughput of the choice\n(1,000 queries/s)")
        left.set_ylim(bottom=0)
        left.legend(loc="lower right", frameon=False)
        numbers = [float(each) for each in values(runs, "buckets")]
        points = [estimate(runs[runs["buckets"] == each]["slo_attainment"], highest=1.0) for each in numbers]
        decades = attainment.decades(point.mean for point in points)
        attainment.set_scale(right, decades)
        attainment.mark_break(right, decades)
        for at, point in zip(numbers, points, strict=True):
            right.plot([at, at], [point.low, point.high], color="#000000", linewidth=0.7)
        right.plot(
            numbers, [point.mean for point in points], color="#000000", marker="o", markersize=3, linestyle="none"
        )
        right.set_xscale("log")
        right.xaxis.set_major_locator(FixedLocator(numbers))
        right.xaxis.set_major_formatter(FixedFormatter([f"{number:g}" for number in numbers]))
        right.xaxis.set_minor_locator(NullLocator())
        right.set_xlabel("buckets")
        right.set_ylabel("SLO attainment")
    return figure
