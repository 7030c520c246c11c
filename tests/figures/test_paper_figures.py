"""The figures of sweeps, gaps, loading, operations and slack: nothing lies on anything, and bad tables are told."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from figures import capacity, flops, gap, latency, loading, served, slack, style, sweep
from sim.base.errors import DataError
from sim.tables.files import load_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

TABLE = load_table("ofa-resnet50-rtx2080ti")
POLICIES = ("slackfit", "maxbatch", "maxacc", "clipper(accuracy=78.25)", "clipper(accuracy=80.16)")


def sweeps() -> pd.DataFrame:
    rows = itertools.product(POLICIES, range(3), (0, 1, 8, 50, 500))
    return pd.DataFrame(
        [
            {
                "policy": policy,
                "seed": seed,
                "cluster.actuation_ms": delay,
                "slo_attainment": 1 - min(1.0, 1e-4 * delay * (1 + seed) * POLICIES.index(policy)),
                "mean_serving_accuracy": 79 - 0.01 * delay - POLICIES.index(policy),
            }
            for policy, seed, delay in rows
        ]
    )


def gaps() -> pd.DataFrame:
    rows = itertools.product(POLICIES, range(3), (2, 4))
    return pd.DataFrame(
        [
            {
                "policy": policy,
                "seed": seed,
                "trace.cv2": cv2,
                "weighted_bound": 0.79,
                "weighted_attainment": 0.79 * (1 - 1e-4 * (1 + seed) * 20 ** POLICIES.index(policy) / 10),
            }
            for policy, seed, cv2 in rows
        ]
    )


def slacks() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.concat(
        pd.DataFrame({"policy": policy, "slack_ms": rng.normal(middle, 4, 200), "queries": 1})
        for policy, middle in zip(POLICIES, (20, 15, 10, 2, -40), strict=True)
    )


def windows() -> pd.DataFrame:
    start = np.arange(20.0)
    return pd.concat(
        pd.DataFrame({"panel": panel, "start_s": start, "ingest_per_s": 5000 + 100 * start, "slo_attainment": met})
        for panel, met in (("0 ms", 1.0), ("100 ms", np.where(start % 7 == 0, 0.5, 1.0)))
    )


def capacities() -> pd.DataFrame:
    rows = itertools.product(POLICIES, range(2), (1, 8))
    return pd.DataFrame(
        [{"policy": p, "seed": s, "cluster.workers": w, "capacity": 900.0 * w + 10 * s} for p, s, w in rows]
    )


DRAWN: dict[str, Callable[[float], Figure]] = {
    "sweep": lambda width: sweep.draw(sweeps(), "cluster.actuation_ms", "delay (ms)", width),
    "gap": lambda width: gap.draw(gaps().query("`trace.cv2` == 2"), width),
    "gaps": lambda _: gap.draw(gaps()),
    "slack": lambda width: slack.draw(slacks(), 36.0, width),
    "served": lambda width: served.draw(windows(), width),
    "capacity": lambda width: capacity.draw(capacities(), "mean_qps", width),
    "loading": lambda width: loading.draw(TABLE, 12e9, "12 GB/s", width),
    "accuracy": lambda width: flops.draw_accuracy(TABLE, {"others": [flops.Model("50", 4.09, 76.1)]}, width),
    "operations": lambda width: flops.draw_batches(TABLE, width),
    "latency": lambda width: latency.draw_latency(TABLE, width=width),
}


@pytest.mark.parametrize("width", [style.COLUMN_IN, style.PAGE_IN])
@pytest.mark.parametrize("name", DRAWN)
def test_no_text_lies_on_another_or_outside(name: str, width: float) -> None:
    figure = DRAWN[name](width)
    figure.draw_without_rendering()
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        box = text.get_window_extent()
        if text.get_visible() and text.get_text().strip() and box.width and _is_shown(text, figure):
            found.append((text.get_text(), box))
    assert found
    for said, box in found:
        assert box.x0 > -2, said
        assert box.y0 > -2, said
        assert box.x1 < figure.bbox.x1 + 2, said
        assert box.y1 < figure.bbox.y1 + 2, said
    for (said, box), (other, there) in itertools.combinations(found, 2):
        overlap = min(box.x1, there.x1) - max(box.x0, there.x0), min(box.y1, there.y1) - max(box.y0, there.y0)
        assert min(overlap) < 1.5, (said, other)


def _is_shown(text: Text, figure: Figure) -> bool:
    """Tick labels outside of their axis' limits are there and not drawn."""
    for axes in figure.axes:
        for axis, low, high in ((axes.xaxis, *axes.get_xlim()), (axes.yaxis, *axes.get_ylim())):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for tick in ticks:
                if text in {tick.label1, tick.label2}:
                    inside = min(low, high) - 1e-9 <= tick.get_loc() <= max(low, high) + 1e-9
                    return inside and tick.get_visible()
    return True


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_figure_is_the_same_bytes(name: str) -> None:
    from io import BytesIO

    def written() -> bytes:
        buffer = BytesIO()
        with style.applied():
            DRAWN[name](style.COLUMN_IN).savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    assert written() == written()


def test_tables_without_a_column_are_told() -> None:
    for draw in (
        lambda: sweep.draw(sweeps().drop(columns="slo_attainment"), "cluster.actuation_ms"),
        lambda: sweep.draw(sweeps(), "cluster.delay"),
        lambda: gap.draw(gaps().drop(columns="weighted_bound")),
        lambda: slack.draw(slacks().drop(columns="queries"), 36.0),
        lambda: served.draw(windows().drop(columns="panel")),
    ):
        with pytest.raises(DataError, match="missing column"):
            draw()


def test_tables_without_facts_are_told() -> None:
    from sim.tables.latency import LatencyTable, ProfiledSubnet

    bare = LatencyTable("gpu", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5]]))
    for draw in (
        lambda: loading.draw(bare, 1e9, "x"),
        lambda: flops.draw_batches(bare),
        lambda: flops.draw_accuracy(bare, {}),
    ):
        with pytest.raises(DataError, match="table of gpu"):
            draw()


def test_no_runs_are_said() -> None:
    for figure in (
        sweep.draw(pd.DataFrame(), "x"),
        gap.draw(pd.DataFrame()),
        slack.draw(pd.DataFrame(), 1.0),
        served.draw(pd.DataFrame()),
    ):
        assert [text.get_text() for text in figure.texts] == ["no runs"]
