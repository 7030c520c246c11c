"""The figure of memory: which lines, through which points."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from figures import residence
from sim.base.errors import DataError

MEMORY, WEIGHTS, RATE = "cluster.memory_gb", "cluster.weights", "cluster.load_gb_per_s"


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    axes = (("slackfit", "residentfit"), ("shared", "separate"), (0.2, 0.5), (1, 12.2), range(2))
    names = ("policy", WEIGHTS, MEMORY, RATE, "seed")
    frame = pd.DataFrame(list(itertools.product(*axes)), columns=names)
    return frame.assign(slo_attainment=rng.uniform(0.5, 1, 32), mean_serving_accuracy=rng.uniform(74, 80, 32))


def test_each_policy_and_way_has_a_line_through_its_means_in_each_panel() -> None:
    frame = table()
    figure = residence.draw(frame, MEMORY, WEIGHTS, RATE)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["loading = 1 GB/s", "loading = 12.2 GB/s"]
    for axes, rate in zip(figure.axes[2:], (1, 12.2), strict=True):
        drawn = {tuple(np.round(line.get_ydata(), 6)) for line in axes.lines if line.get_marker() != "None"}
        means = frame[frame[RATE] == rate].groupby(["policy", WEIGHTS, MEMORY])["mean_serving_accuracy"].mean()
        assert drawn == {tuple(np.round(line.to_numpy(), 6)) for _, line in means.groupby(["policy", WEIGHTS])}
        assert axes.get_xlabel() == "memory of a worker (GB)"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["SlackFit", "ResidentFit", "weights = shared", "weights = separate"]


def test_memory_alone_is_one_column_and_nothing_an_empty_figure() -> None:
    frame = table()
    one = frame[(frame[WEIGHTS] == "shared") & (frame[RATE] == 1)]
    assert len(residence.draw(one, MEMORY).axes) == 2
    assert residence.draw(pd.DataFrame(), MEMORY).axes is not None
    with pytest.raises(DataError, match="missing column"):
        residence.draw(frame.drop(columns="policy"), MEMORY)
