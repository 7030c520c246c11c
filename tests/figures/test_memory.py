from __future__ import annotations

import pandas as pd
import pytest

from figures.loading import draw_actuation
from figures.memory import draw_memory
from figures.statistics import draw_statistics
from sim.base.errors import DataError
from sim.tables.files import load_table

HELD = pd.DataFrame(
    [("apart", 1, 4e6), ("apart", 2, 9e6), *(("together", n, 1e7 + n) for n in range(1, 21))],
    columns=["system", "models", "bytes"],
)
SUBNETS = pd.DataFrame(
    {"accuracy": [73.822, 80.158], "weights_bytes": [26e6, 192e6], "statistics_bytes": [91e3, 269e3]}
)


def test_each_system_has_a_line_in_megabytes() -> None:
    (axes,) = draw_memory(HELD).axes
    apart, together = axes.lines
    assert apart.get_ydata().tolist() == [4.0, 9.0]
    assert (apart.get_marker(), together.get_marker()) == ("o", "")
    assert len({line.get_color() for line in axes.lines}) == len({line.get_linestyle() for line in axes.lines}) == 2
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("models held", "memory (MB)")


def test_the_legend_has_the_systems_in_their_order() -> None:
    (legend,) = draw_memory(HELD[::-1]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["together", "apart"]


def test_statistics_stand_beside_the_weights_they_go_with() -> None:
    (axes,) = draw_statistics(SUBNETS, 192_400_000).axes
    weights, statistics = axes.containers
    assert [bar.get_height() for bar in weights] == [26.0, 192.0]
    assert [bar.get_height() for bar in statistics] == [0.091, 0.269]
    assert [text.get_text() for text in axes.texts] == ["1/286", "1/714"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["73.82", "80.16"]
    assert axes.lines[0].get_ydata() == [192.4, 192.4]


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw_memory(HELD[:0]).texts[0].get_text() == "no runs"
    assert draw_statistics(SUBNETS[:0], 1).texts[0].get_text() == "no runs"


def test_a_missing_column_is_told() -> None:
    with pytest.raises(DataError, match=r"memory: missing column \(bytes\)"):
        draw_memory(HELD.drop(columns="bytes"))
    with pytest.raises(DataError, match=r"statistics: missing column \(accuracy\)"):
        draw_statistics(SUBNETS.drop(columns="accuracy"), 1)


def test_loading_stands_above_actuating() -> None:
    table = load_table("ofa-resnet50-rtx2080ti")
    actuated = pd.DataFrame({"first_ms": [1.0] * 6, "again_ms": [5e-4] * 6})
    (axes,) = draw_actuation(table, actuated, 1e9, "1 GB/s").axes
    load, first, again = axes.lines
    assert load.get_label() == "load, 1 GB/s"
    params = [subnet.params for subnet in table.subnets]
    assert list(load.get_ydata()) == pytest.approx([4 * count / 1e6 for count in params if count])
    assert (set(first.get_ydata()), set(again.get_ydata())) == ({1.0}, {5e-4})
    assert axes.get_yscale() == "log"
    with pytest.raises(DataError, match="does not match the subnets"):
        draw_actuation(table, actuated[:5], 1e9, "1 GB/s")
