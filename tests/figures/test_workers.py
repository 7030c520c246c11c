"""The figure of workers: attainment over their number, the target, and the least number for any policy if known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figures import workers


@pytest.mark.parametrize("known", [3.0, np.nan])
def test_the_least_number_for_any_policy_is_in_the_legend_only_if_it_is_known(known: float) -> None:
    trials = pd.DataFrame(
        {"policy": "slackfit", "seed": 1, "workers": [2, 3, 4], "slo_attainment": [0.2, 0.9, 1.0]}
    ).assign(workers_any_policy=known)
    figure = workers.draw(trials, 0.99)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["SlackFit", "target, 0.99", *([] if np.isnan(known) else ["least for any policy"])]
    (axes,) = figure.axes
    (line,) = (line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [2, 3, 4]
