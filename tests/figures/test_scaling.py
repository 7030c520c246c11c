"""Workers over time and costs: areas are worker-seconds, points are what the table says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figures import costs, scaling, style


def test_the_area_of_each_kind_is_its_time() -> None:
    windows = pd.DataFrame({"run": "a", "start_s": np.arange(10.0), "ingest_per_s": 5.0, "slo_attainment": 1.0})
    workers = pd.DataFrame(
        {
            "run": "a",
            "kind": ["old", "old", "new", "new"],
            "asked_ns": [0, 0, 2e9, 3e9],
            "ready_ns": [0, 0, 4e9, 6e9],
            "gone_ns": [np.nan, 7e9, np.nan, 5e9],  # the last one was taken back while it started
        }
    )
    figure = scaling.draw(windows, workers)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["old", "new", "starting"]
    middle = figure.axes[1]
    areas: dict[str, float] = {}
    for part in middle.collections:
        for path in part.get_paths():
            x, y = path.vertices.T
            area = abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2
            colour = str(part.get_facecolor()[0][:3])
            areas[colour] = areas.get(colour, 0.0) + area
    assert list(areas.values()) == pytest.approx([10 + 7, 6, 2 + 2])


def test_the_only_window_of_a_short_run_is_drawn() -> None:
    windows = pd.DataFrame({"run": "a", "start_s": [0.0], "ingest_per_s": [7.0], "slo_attainment": [0.9]})
    workers = pd.DataFrame({"run": "a", "kind": "", "asked_ns": [0, 2e8], "ready_ns": [0, 3e8], "gone_ns": np.nan})
    load, middle, _ = scaling.draw(windows, workers).axes
    assert load.lines[0].get_xydata().tolist() == [[0, 7], [1, 7]]
    assert max(path.vertices[:, 1].max() for part in middle.collections for path in part.get_paths()) == 2


def test_a_run_without_windows_has_an_empty_figure() -> None:
    assert scaling.draw(pd.DataFrame(), pd.DataFrame()).axes == []
    assert costs.draw(pd.DataFrame()).axes == []


@pytest.mark.parametrize("along", costs.AXES)
def test_points_lie_where_the_table_says(along: str) -> None:
    summary = pd.DataFrame(
        {
            "policy": "slackfit",
            "seed": [1, 2, 1, 2],
            "slo_attainment": [0.9, 0.92, 0.99, 0.99],
            along: [1.0, 3.0, 4.0, 6.0],
            "cluster.workers": [2, 2, 3, 3],
        }
    )
    (axes,) = costs.draw(summary, "EUR").axes
    line = next(line for line in axes.lines if line.get_marker() == style.look("slackfit").marks()["marker"])
    assert list(line.get_xdata()) == [2.0, 5.0]
    assert list(line.get_ydata()) == pytest.approx([0.91, 0.99])
    assert [text.get_text() for text in axes.texts if text.get_text().isdigit()] == ["2", "3"]


def test_costs_that_are_nearly_the_same_lie_near_each_other() -> None:
    summary = pd.DataFrame({"policy": ["slackfit", "maxbatch"], "seed": 1, "slo_attainment": 0.9, "cost": [1.0, 1.001]})
    (axes,) = costs.draw(summary, "EUR").axes
    low, high = axes.get_xlim()
    assert high - low >= 0.1
    assert (low + high) / 2 == pytest.approx(1.0005)
