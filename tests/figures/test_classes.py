"""The figure of classes: which marks, at which values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figures import classes
from sim.base.errors import DataError


def table(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {
                "policy": policy,
                "seed": seed,
                "class": name,
                "queries": 100 + number,
                "slo_attainment": rng.uniform(0.9, 1),
                "mean_serving_accuracy": np.nan if (policy, name) == ("infaas", names[0]) else rng.uniform(74, 80),
                "p99_latency_ms": rng.uniform(10, 40),
            }
            for policy in ("slackfit", "infaas")
            for number, name in enumerate(names)
            for seed in range(3)
        ]
    )


def test_each_policy_has_a_mark_at_its_mean_in_each_class() -> None:
    frame = table(["free", "paid", "trial"])
    figure = classes.draw(frame, "seed 1")
    _, accuracy, latency = figure.axes
    for axes, column in ((accuracy, "mean_serving_accuracy"), (latency, "p99_latency_ms")):
        marks = [line.get_ydata()[0] for line in axes.lines if line.get_marker() != "None"]
        expected = frame.groupby(["policy", "class"])[column].mean()
        assert sorted(mark for mark in marks if not np.isnan(mark)) == pytest.approx(sorted(expected.dropna()))
        low, high = axes.get_ylim()
        assert all(low < mark < high for mark in marks if not np.isnan(mark))
    assert [text.get_text() for text in latency.get_xticklabels()] == ["free", "paid", "trial"]


def test_of_many_classes_the_largest_are_drawn_and_it_is_said() -> None:
    figure = classes.draw(table([f"tenant {number}" for number in range(30)]))
    shown = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert shown == [f"tenant {number}" for number in range(18, 30)]
    assert "the 12 largest of 30 classes" in figure.get_suptitle()


def test_a_missing_column_is_named_and_nothing_is_an_empty_figure() -> None:
    with pytest.raises(DataError, match="missing column"):
        classes.draw(table(["a"]).drop(columns="p99_latency_ms"))
    assert classes.draw(pd.DataFrame()).axes is not None
