"""Queues over time: busy workers are the time of the batches, loads are the queries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from figures import shares
from sim import Cluster, ServiceQueue, Trace, simulate
from sim.engine.arrow import queries_table
from sim.engine.metrics import slo_attainment
from tests.laws.test_kinds import One, exponential


def test_what_is_drawn_of_queues_is_the_work_of_their_batches() -> None:
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.integers(0, 3_000_000, 400))
    trace = Trace(
        arrivals, 1_500_000, int(arrivals[-1]) + 1, class_codes=np.arange(400) % 3, class_names=("a", "b", "c")
    )
    cluster = Cluster(2, queues=tuple(ServiceQueue(name) for name in "abc"), drop="expired")
    result = simulate(trace, cluster, exponential(2_000_000), One())
    frame = queries_table(result).to_pandas().assign(run="")
    end_s = result.batches.finish_ns.max() / 1e9
    edges_s = np.sort(np.append(rng.uniform(0, end_s, 20), [0.0, end_s]))
    lengths_s, found = np.diff(edges_s), []
    for queue in "abc":
        load, busy, met = shares.over_time(frame[frame["class"] == queue], edges_s)
        found.append(busy)
        assert (load * lengths_s).sum() == pytest.approx(np.count_nonzero(frame["class"] == queue))
        assert np.nansum(load * lengths_s * met) == pytest.approx(
            ((frame["class"] == queue) & (frame["outcome"] == "met")).sum()
        )
    busy = np.sum(found, axis=0)
    assert (busy * lengths_s).sum() == pytest.approx(result.busy_ns / 1e9)
    assert ((busy > -1e-9) & (busy < 2 + 1e-9)).all(), "no more than there are workers"
    assert 0 < slo_attainment(result) < 1


def test_queues_are_shown_in_the_given_order_and_nothing_has_an_empty_figure() -> None:
    columns = {"arrival_ns": [0, 5, 9], "start_ns": 5, "finish_ns": 9, "batch_size": 1, "outcome": "met"}
    frame = pd.DataFrame({"run": "a", "class": ["late", "first", "first"], **columns})
    (legend,) = shares.draw(frame, ["first", "late"]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "late"]
    assert shares.draw(pd.DataFrame(), []).axes == []


def test_titles_of_panels_do_not_overlap_and_the_figure_says_what_it_leaves_out() -> None:
    """The longest are mappings that are swept, such as placements."""
    queues = [f"queue {number}" for number in range(9)]
    columns = {"arrival_ns": range(9), "start_ns": 9, "finish_ns": 20, "batch_size": 1, "outcome": "met"}
    title = "placement = {'news': [0, 1], 'mail': [2], 'web': [3]}\nqueue 0: mean rate = 9000 q/s, routing = shortest"
    frames = [pd.DataFrame({"run": f"{title} {run}", "class": queues, **columns}) for run in range(6)]
    figure = shares.draw(pd.concat(frames), queues, "slackfit")
    figure.draw_without_rendering()
    extents = [axes.title.get_window_extent() for axes in figure.axes[:4]]
    assert all(left.x1 < right.x0 for left, right in pairwise(extents))
    assert extents[-1].x1 < figure.bbox.x1
    assert figure.get_suptitle() == "slackfit; the first 4 of 6 runs; the first 7 of 9 queues"
