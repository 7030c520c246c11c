"""The figure of capacities: what its lines and rows show."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from figures.capacity import draw
from sim.base.errors import DataError


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_a_swept_number_is_the_axis_and_policies_are_lines() -> None:
    frame = table(
        **{
            "policy": ["slackfit", "infaas"] * 4,
            "seed": [1, 1, 2, 2] * 2,
            "capacity": [10.0, 20.0, 14.0, 20.0, 24.0, 40.0, math.nan, 40.0],
            "cluster.workers": [1] * 4 + [2] * 4,
        }
    )
    (axes,) = draw(frame, "mean_qps").axes
    assert axes.get_xlabel() == "workers"
    assert axes.get_ylabel() == "capacity (q/s)"
    lines = {tuple(line.get_xdata()): [] for line in axes.lines}
    for line in axes.lines:
        lines[tuple(line.get_xdata())].append(list(line.get_ydata()))
    assert sorted(lines[1.0, 2.0]) == [[12.0, 24.0], [20.0, 40.0]]
    assert sorted(lines[0.0, 2.0]) == [[0, 24.0], [0, 40.0]], "in proportion to the first"
    assert all(tick == int(tick) for tick in axes.get_xticks()), "there is no half worker"
    proportional = {line.get_color() for line in axes.lines if tuple(line.get_xdata()) == (0.0, 2.0)}
    assert proportional == {axes.figure.legends[0].get_lines()[-1].get_color()}


def test_what_else_is_swept_makes_panels() -> None:
    frame = table(
        **{
            "policy": ["slackfit"] * 4,
            "seed": [1] * 4,
            "capacity": [1.0, 2.0, 3.0, 4.0],
            "cluster.dispatch_ms": [0.0, 0.0, 1.0, 1.0],
            "cluster.drop": ["never", "expired"] * 2,
        }
    )
    figure = draw(frame, "speedup")
    assert [axes.get_title() for axes in figure.axes] == ["drop = never", "drop = expired"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"dispatch (ms)"}
    assert {axes.get_ylabel() for axes in figure.axes} == {"capacity: speedup"}


def test_without_a_sweep_each_policy_has_a_row() -> None:
    frame = table(policy=["slackfit", "clipper(accuracy=78.25)"], seed=[1, 1], capacity=[5.0, 3.0])
    (axes,) = draw(frame, "mean_qps").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SlackFit", "Clipper+ 78.25"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"] == [5.0, 3.0]


def test_a_missing_column_is_told_and_nothing_is_said_so() -> None:
    with pytest.raises(DataError, match="capacity"):
        draw(table(policy=["slackfit"], seed=[1]), "mean_qps")
    assert draw(table(), "mean_qps").texts[0].get_text() == "no runs"


def test_what_is_swept_over_a_number_or_nothing_has_a_row_for_each() -> None:
    frame = table(
        **{"policy": ["slackfit"] * 2, "seed": [1, 1], "capacity": [1.0, 2.0], "table.max_batch": [None, 8.0]}
    )
    (axes,) = draw(frame, "mean_qps").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["SlackFit, max batch = none", "SlackFit, max batch = 8"]
    assert {line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"} == {1.0, 2.0}
