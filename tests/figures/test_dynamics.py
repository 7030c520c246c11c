"""A run over time: which lines, with which gaps, on which axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures import dynamics
from sim.base.errors import DataError


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_four_panels_with_one_line_a_policy_and_one_for_the_arrivals_that_all_saw(windows: pd.DataFrame) -> None:
    ingest, accuracy, batch, attained = dynamics.draw(windows, "title").axes
    assert len([line for line in ingest.lines if len(line.get_xdata()) == 20]) == 1
    for axes in (accuracy, batch, attained):
        assert set(lines(axes)) == {"slackfit", "clipper(accuracy=78.25)"}


def test_a_line_is_the_mean_over_seeds_level_over_each_window(windows: pd.DataFrame) -> None:
    batch = lines(dynamics.draw(windows).axes[2])["slackfit"]
    assert batch.get_xdata().tolist() == [second for start in range(10) for second in (start, start + 1)]
    assert set(batch.get_ydata()) == {8.5}


def test_arrivals_that_differ_are_all_shown(windows: pd.DataFrame) -> None:
    windows.loc[windows["policy"] == "slackfit", "ingest_per_s"] += 50
    assert set(lines(dynamics.draw(windows).axes[0])) == {"slackfit", "clipper(accuracy=78.25)"}


def test_nan_and_missing_windows_are_gaps(windows: pd.DataFrame) -> None:
    windows.loc[windows["start_s"] == 4, "serving_accuracy"] = np.nan
    figure = dynamics.draw(windows[windows["start_s"] != 7])
    gaps = np.isnan(lines(figure.axes[1])["slackfit"].get_ydata()[::2])
    assert np.flatnonzero(gaps).tolist() == [4, 7]


def test_axes_start_at_0_or_show_a_break(windows: pd.DataFrame) -> None:
    ingest, accuracy, batch, attained = dynamics.draw(windows).axes
    assert ingest.get_ylim()[0] == batch.get_ylim()[0] == 0
    assert attained.get_ylim()[0] < 0
    assert accuracy.get_ylim()[0] > 0
    breaks = [[line for line in axes.lines if line.get_transform() == axes.transAxes] for axes in (accuracy, attained)]
    assert all(breaks)
    # No number stands at or below the break, and the line above it.
    height = accuracy.transAxes.transform((0, breaks[0][0].get_ydata()[0]))[1]
    assert (accuracy.transData.transform([(0, tick) for tick in accuracy.get_yticks()])[:, 1] > height).all()
    assert accuracy.transData.transform((0, 78.25))[1] > height


@pytest.mark.parametrize(
    ("low", "high"),
    [(79.10, 79.66), (73.82, 80.16), (78.25, 78.25), (78.25, 78.25 + 1e-13), (78.25, 78.25001), (0.5, 99.9)],
)
def test_accuracies_have_two_numbers_at_least_and_written_out(windows: pd.DataFrame, low: float, high: float) -> None:
    windows["serving_accuracy"] = np.where(windows["start_s"] < 5, high, low)
    figure = dynamics.draw(windows)
    figure.draw_without_rendering()
    axes = figure.axes[1]
    assert 2 <= len(axes.get_yticks()) <= 5
    assert len({tick.get_text() for tick in axes.get_yticklabels()}) == len(axes.get_yticks())
    assert [float(tick.get_text()) for tick in axes.get_yticklabels()] == pytest.approx(axes.get_yticks(), abs=1e-9)
    assert len([line for line in axes.lines if line.get_transform() == axes.transAxes]) == 2


def test_variants_of_a_family_differ_in_their_dashes(windows: pd.DataFrame) -> None:
    windows["policy"] = windows["policy"].replace("slackfit", "clipper(accuracy=79.44)")
    drawn = lines(dynamics.draw(windows).axes[1])
    assert len({line.get_linestyle() for line in drawn.values()}) == 2
    assert len({line.get_color() for line in drawn.values()}) == 1


def test_a_run_without_a_name_has_no_legend(windows: pd.DataFrame) -> None:
    run = windows[(windows["policy"] == "slackfit") & (windows["seed"] == 0)].drop(columns=["policy", "seed"])
    figure = dynamics.draw(run)
    assert not figure.legends
    assert [len(line.get_xdata()) for line in figure.axes[2].lines] == [20]


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan])
def test_one_row_is_enough(windows: pd.DataFrame, value: float) -> None:
    row = windows.head(1).assign(slo_attainment=value, serving_accuracy=np.nan, batch_size=value)
    dynamics.draw(row).draw_without_rendering()


def test_a_missing_column_is_named(windows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"windows: missing column \(batch_size\)"):
        dynamics.draw(windows.drop(columns="batch_size"))


def test_the_last_window_is_drawn_at_its_width(windows: pd.DataFrame) -> None:
    ends = (windows["start_s"] + 1).clip(upper=9.25)
    for axes in dynamics.draw(windows.assign(end_s=ends)).axes[:4]:
        assert axes.get_xlim() == (0, 9.25)
        levels = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 20]
        assert levels
        assert all(tuple(x[-2:]) == (9, 9.25) for x in levels)
