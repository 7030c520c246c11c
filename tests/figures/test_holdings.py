"""The figure of who holds which examples."""

from __future__ import annotations

import pandas as pd

from figures.holdings import draw


def test_without_classes_the_bars_have_the_whole_figure() -> None:
    held = pd.DataFrame({"party": ["a", "b"], "label": [None, None], "examples": [3, 5]})
    (bars,) = draw(held).axes
    assert [bar.get_width() for bar in bars.patches] == [3, 5]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["a", "b"]
    discs, sums = draw(held.assign(label=[0, 1])).axes
    assert len(discs.collections[0].get_offsets()) == 2
    assert [bar.get_width() for bar in sums.patches] == [3, 5]
