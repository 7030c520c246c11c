"""The figure of queues: which lines, at which values."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from figures import queues
from figures.tables import setting
from sim.base.errors import DataError

RATE = "queues.1.trace.mean_qps"


def table(names: list[str], rates: tuple[int, ...] = (500, 2000)) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {
                "queue": name,
                "seed": seed,
                "queries": 100 + number,
                "slo_attainment": rng.uniform(0.5, 1),
                "mean_serving_accuracy": rng.uniform(74, 80),
                "cluster.order": order,
                RATE: rate,
            }
            for order, rate, seed in itertools.product(("edf", "fair"), rates, range(2))
            for number, name in enumerate(names)
        ]
    )


def test_each_queue_has_a_line_through_its_means_in_each_panel() -> None:
    frame = table(["gold", "silver"])
    figure = queues.draw(frame, RATE, "cluster.order", "slackfit")
    assert [axes.get_title() for axes in figure.axes[:2]] == ["order = edf", "order = fair"]
    assert figure.axes[2].get_xlabel() == "silver: mean rate (q/s)"
    for axes, order in zip(figure.axes[2:], ("edf", "fair"), strict=True):
        drawn = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() != "None"]
        means = frame[frame["cluster.order"] == order].groupby(["queue", RATE])["mean_serving_accuracy"].mean()
        assert np.ravel(drawn) == pytest.approx(means.to_numpy())
        assert [text.get_text() for text in axes.get_xticklabels()] == ["500", "2000"]


def test_one_swept_key_and_many_queues() -> None:
    figure = queues.draw(table([f"tenant {number}" for number in range(9)]), "cluster.order")
    assert len(figure.axes) == 2
    assert "the 7 largest of 9 queues" in figure.get_suptitle()


def test_a_missing_column_is_named_and_nothing_is_an_empty_figure() -> None:
    with pytest.raises(DataError, match="missing column"):
        queues.draw(table(["a"]).drop(columns="slo_attainment"), RATE)
    assert queues.draw(pd.DataFrame(), RATE).axes is not None


def test_keys_of_several_queues_or_kinds_have_names_that_differ() -> None:
    keys = [f"queues.{place}.trace.mean_qps" for place in range(2)]
    keys += [f"cluster.kinds.{place}.workers" for place in range(2)]
    assert len({setting(key, 4) for key in keys}) == len({setting(key) for key in keys}) == 4
