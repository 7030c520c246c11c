"""Attainment against accuracy: which marks, which words, and none upon another."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from figures import style, tradeoff
from sim.errors import DataError
from tests.figures.conftest import ACCURACIES


def marks(axes: Axes) -> dict[str, tuple[float, float]]:
    """Return where each policy stands: accuracy and attainment."""
    drawn = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): (line.get_xdata()[0], line.get_ydata()[0]) for line in drawn}


def written(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def boxes(figure: Figure) -> Iterator[tuple[Axes, list[Bbox]]]:
    """Lay out as for a file, and return the boxes of the texts in each panel."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        yield axes, [Text.get_window_extent(text) for text in axes.texts if text.get_text()]


def check_texts(figure: Figure) -> None:
    for axes, texts in boxes(figure):
        frame = axes.get_window_extent().padded(1)
        assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in texts)
        assert not any(Bbox.intersection(a, b) for a, b in itertools.combinations(texts, 2))
    page, drawn = figure.bbox_inches.padded(0.01), figure.get_tightbbox()
    assert page.contains(*drawn.min)
    assert page.contains(*drawn.max)


def test_one_mark_a_policy_at_its_means(summary: pd.DataFrame) -> None:
    (axes,) = tradeoff.draw(summary).axes
    where = marks(axes)
    assert set(where) == set(summary["policy"])
    assert where["clipper(accuracy=78.25)"] == (78.25, 1.0)
    assert where["slackfit"] == pytest.approx((79.4, 0.99989), abs=1e-12)


def test_intervals_are_students_over_seeds_and_none_for_one_seed(summary: pd.DataFrame) -> None:
    def vertical(table: pd.DataFrame) -> float:
        (axes,) = tradeoff.draw(table[table["policy"] == "coarse"]).axes
        lines = [line for line in axes.lines if line.get_marker() == "None" and line.get_transform() == axes.transData]
        return float(np.ptp(lines[1].get_ydata()))

    # Deviations of -1, 0 and 1e-5: s = 1e-5, and t = 4.3027 at two degrees of freedom.
    assert vertical(summary) == pytest.approx(2 * 4.302653 * 1e-5 / 3**0.5, rel=1e-5)
    assert vertical(summary[summary["seed"] == 0]) == 0


def test_families_are_named_below_and_parameters_at_the_marks(summary: pd.DataFrame) -> None:
    figure = tradeoff.draw(summary)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["SlackFit", "Clipper+ (its accuracy)", "INFaaS", "MaxAcc", "MaxBatch", "Coarse"]
    assert written(figure.axes[0]) == [f"{accuracy:.2f}" for accuracy in ACCURACIES]


def test_attainment_of_exactly_1_stands_apart_from_what_comes_near(summary: pd.DataFrame) -> None:
    (axes,) = tradeoff.draw(summary).axes
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks == ["0", "0.9", "0.99", "0.999", "0.9999", "1\n(no miss)"]
    heights = axes.transData.transform([(78, attained) for attained in (0, 0.0003, 0.99, 0.999, 0.9999, 1)])[:, 1]
    frame = axes.get_window_extent()
    assert frame.y0 < heights[0] < frame.y1
    assert heights[1] - heights[0] < 1
    assert (np.diff(heights[2:]) > 15).all()
    assert heights[-1] < frame.y1


@pytest.mark.parametrize("width", [style.COLUMN_IN, style.PAGE_IN])
@pytest.mark.parametrize("attained", [None, 1.0, 0.0003])
def test_no_text_lies_on_another_or_leaves_the_figure(
    summary: pd.DataFrame, width: float, attained: float | None
) -> None:
    table = summary if attained is None else summary.assign(slo_attainment=attained)
    check_texts(tradeoff.draw(table, width=width))


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(st.lists(st.sampled_from([0.0, 0.3, 0.99, 0.999, 1.0]), min_size=6, max_size=6))
def test_texts_keep_apart_wherever_the_marks_lie(attained: list[float]) -> None:
    rows = [
        {"policy": f"clipper(accuracy={x:g})", "trace": "t", "seed": 0, "slo_attainment": y, "mean_serving_accuracy": x}
        for x, y in zip(ACCURACIES, attained, strict=True)
    ]
    check_texts(tradeoff.draw(pd.DataFrame(rows)))


def sweep(summary: pd.DataFrame, **columns: list[object]) -> pd.DataFrame:
    settings = [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]
    return pd.concat([summary.assign(**setting) for setting in settings], ignore_index=True)


def test_two_swept_columns_make_a_grid_with_the_first_down_and_shared_axes(summary: pd.DataFrame) -> None:
    table = sweep(summary, **{"trace.rate_per_s": [2950, 4900, 5550], "trace.cv2": [2, 4, 8], "cluster.workers": [8]})
    figure = tradeoff.draw(table)
    assert [axes.get_title() for axes in figure.axes][:4] == [
        "rate = 2950 /s, cv2 = 2",
        "rate = 2950 /s, cv2 = 4",
        "rate = 2950 /s, cv2 = 8",
        "rate = 4900 /s, cv2 = 2",
    ]
    assert len(figure.axes) == 9
    assert len({axes.get_xlim() for axes in figure.axes}) == len({axes.get_ylim() for axes in figure.axes}) == 1
    assert all(len(marks(axes)) == 11 for axes in figure.axes)
    check_texts(figure)


def test_one_swept_column_wraps_at_three(summary: pd.DataFrame) -> None:
    figure = tradeoff.draw(sweep(summary, **{"cluster.dispatch_ms": [0.0, 0.5, 1.0, 3.0]}))
    assert [axes.get_title() for axes in figure.axes] == [f"dispatch = {ms} ms" for ms in ("0", "0.5", "1", "3")]
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False, True, True, True]
    check_texts(figure)


def test_traces_that_nothing_else_tells_apart_get_a_panel_each(summary: pd.DataFrame) -> None:
    figure = tradeoff.draw(sweep(summary, trace=["poisson", "azure"]))
    assert [axes.get_title() for axes in figure.axes] == ["trace = poisson", "trace = azure"]


def test_traces_that_follow_from_what_is_swept_get_no_panels_of_their_own(summary: pd.DataFrame) -> None:
    table = pd.concat([summary.assign(**{"trace.cv2": cv2, "trace": f"gamma {cv2}"}) for cv2 in (2, 4)])
    assert len(tradeoff.draw(table).axes) == 2


def test_a_combination_without_runs_says_so(summary: pd.DataFrame) -> None:
    table = sweep(summary, **{"trace.cv2": [2, 4], "cluster.drop": ["never", None]})
    figure = tradeoff.draw(table[(table["trace.cv2"] == 2) | (table["cluster.drop"] == "never")])
    assert [written(axes)[0] for axes in figure.axes] == ["73.82", "73.82", "73.82", "no runs"]


def test_a_policy_that_met_no_query_is_named(summary: pd.DataFrame) -> None:
    table = summary.assign(
        mean_serving_accuracy=summary["mean_serving_accuracy"].mask(summary["policy"].isin(["maxacc", "infaas"]))
    )
    figure = tradeoff.draw(table)
    assert "no query met: INFaaS, MaxAcc" in written(figure.axes[0])
    assert "maxacc" not in marks(figure.axes[0])
    check_texts(figure)


def test_nobody_met_a_query(summary: pd.DataFrame) -> None:
    figure = tradeoff.draw(summary.assign(mean_serving_accuracy=np.nan, slo_attainment=0.0))
    assert marks(figure.axes[0]) == {}
    check_texts(figure)


def test_one_row_is_enough(summary: pd.DataFrame) -> None:
    assert len(marks(tradeoff.draw(summary.head(1)).axes[0])) == 1


def test_a_missing_column_is_named(summary: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="summary: a column is missing"):
        tradeoff.draw(summary.drop(columns="slo_attainment"))
