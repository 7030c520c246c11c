"""The heat map: what is on it, not how its pixels fall."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from figures.latency import COLUMN_INCHES, MAX_COLUMNS, POINTS, draw_latency
from sim.tables.files import load_table
from sim.tables.latency import LatencyTable, ProfiledSubnet

RTX = load_table("ofa-resnet50-rtx2080ti")


def wide(columns: int) -> LatencyTable:
    subnets = tuple(ProfiledSubnet(str(i), 70 + i / 4) for i in range(columns))
    return LatencyTable("gpu", subnets, (1, 2), np.arange(1, 2 * columns + 1).reshape(columns, 2) * 10**6)


def test_each_cell_has_its_number_where_it_belongs() -> None:
    (axes,) = draw_latency(RTX).axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(texts) == 30
    assert texts[0.5, 0.5] == "4.4"
    assert texts[5.5, 4.5] == "34"
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "73.82",
        "76.69",
        "77.64",
        "78.25",
        "79.44",
        "80.16",
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "4", "8", "16"]
    assert axes.get_xlabel() == "subnet accuracy (%)"
    assert axes.get_title() == "NVIDIA RTX 2080 Ti (latency in ms)"


def test_numbers_have_as_many_digits_as_the_source() -> None:
    (axes,) = draw_latency(load_table("ofa-resnet50-a40", stages=["forward"])).axes
    assert {"3.83", "4.60", "20.2"} <= {text.get_text() for text in axes.texts}


def test_it_is_one_column_wide_and_its_text_can_be_read() -> None:
    figure = draw_latency(RTX)
    assert figure.get_figwidth() == COLUMN_INCHES
    (axes,) = figure.axes
    assert {text.get_fontsize() for text in (*axes.texts, *axes.get_xticklabels(), axes.title, axes.xaxis.label)} == {
        POINTS
    }


def test_every_number_fits_into_its_cell() -> None:
    figure = draw_latency(replace(wide(MAX_COLUMNS), latency_ns=wide(MAX_COLUMNS).latency_ns * 123))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    cell = axes.get_window_extent().width / MAX_COLUMNS
    labels = [*axes.texts, *axes.get_xticklabels()]
    assert max(label.get_window_extent().width for label in labels) < cell


def test_numbers_stand_out_from_their_cells() -> None:
    (axes,) = draw_latency(RTX).axes
    (mesh,) = axes.collections
    mesh.update_scalarmappable()
    for text, colour in zip(axes.texts, mesh.get_facecolor(), strict=True):
        light, dark = sorted((luminance(to_rgb(text.get_color())), luminance(colour[:3])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def luminance(colour: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def test_greys_are_in_the_order_of_the_latencies() -> None:
    (axes,) = draw_latency(RTX).axes
    (mesh,) = axes.collections
    mesh.update_scalarmappable()
    in_order = mesh.get_facecolor()[np.argsort(RTX.latency_ns.T.ravel(), kind="stable")]
    greys = [luminance(tuple(colour[:3])) for colour in in_order]
    assert greys == sorted(greys, reverse=True)


def test_many_subnets_get_a_colour_bar_for_numbers() -> None:
    figure = draw_latency(wide(MAX_COLUMNS + 1))
    axes, bar = figure.axes
    assert not axes.texts
    assert bar.get_ylabel() == "latency (ms)"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert (labels[0], labels[-1], len(labels)) == ("70.00", "72.00", 5)
    figure.draw_without_rendering()
    assert "10" in [label.get_text() for label in bar.get_yticklabels()]


@pytest.mark.parametrize(("title", "shown"), [(None, "gpu (latency in ms)"), ("A", "A (latency in ms)"), ("", "")])
def test_a_table_of_one_cell(title: str | None, shown: str) -> None:
    table = LatencyTable("gpu", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5_000_000]]))
    figure = draw_latency(table, title)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["5.0"]
    assert axes.get_title() == shown
