"""The figure of placements: which cells are filled, and what stands beside them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from figures import placement
from sim.base.errors import DataError

ROWS = pd.DataFrame(
    [
        {"run": run, "queue": name, "slo_attainment": attained, "placement": placed, "workers": 3}
        for run in ("greedy", "given")
        for name, attained, placed in (("a", 0.99999, "0 2"), ("b", 0.5, "1"), ("c", math.nan, ""))
    ]
)


def test_a_cell_is_filled_where_a_worker_serves_a_queue() -> None:
    figure = placement.draw(ROWS, "slackfit")
    assert [axes.get_title() for axes in figure.axes] == ["greedy", "given"]
    for axes in figure.axes:
        cells = np.asarray(axes.images[0].get_array())
        filled = (cells != np.array(cells[2, 0])).any(axis=-1)  # the last queue has no worker
        assert filled.tolist() == [[True, False, True], [False, True, False], [False, False, False]]
        assert [text.get_text() for text in axes.texts] == ["0.999", "0.500", ""]


def test_a_missing_column_is_named_and_nothing_is_an_empty_figure() -> None:
    with pytest.raises(DataError, match="missing column"):
        placement.draw(ROWS.drop(columns="placement"))
    assert placement.draw(pd.DataFrame()).axes is not None
