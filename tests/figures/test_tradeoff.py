"""Attainment against accuracy: which marks, which words, and none upon another."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from figures import style, tradeoff
from sim.base.errors import DataError
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


def check_owners(figure: Figure) -> None:
    """Each text is nearest to its own marker or led to it, and no line crosses another, a text or a marker."""
    figure.draw_without_rendering()
    pt = figure.dpi / 72
    for axes in figure.axes:
        drawn = [line for line in axes.lines if line.get_transform() == axes.transData]
        markers = [line.get_window_extent() for line in drawn if line.get_marker() != "None"]
        texts = [text for text in axes.texts if isinstance(text, Annotation)]
        led = {text.xy: leader(text) for text in texts if not text.get_text()}
        assert not any(a.intersects_path(b) for a, b in itertools.combinations(led.values(), 2))
        for text in texts:
            if text.get_text():
                point, box = axes.transData.transform(text.xy), Text.get_window_extent(text)
                rivals = [m for m in markers if np.hypot(*(middle(m) - point)) > pt]
                if text.xy not in led:
                    assert all(away(box, point) < away(box, middle(m)) for m in rivals)
                others = [path for xy, path in led.items() if xy != text.xy]
                assert not any(path.intersects_bbox(box, filled=False) for path in others)
                own = led.get(text.xy)
                assert not any(own and own.intersects_bbox(m, filled=False) for m in rivals if not m.contains(*point))


def leader(text: Annotation) -> Path:
    """Return the line that is seen, in pixels: it ends at the rim of the marker."""
    end = text.axes.transData.transform(text.xy)
    offset = np.array(text.xyann) * text.get_figure().dpi / 72
    return Path([end + offset, end + offset * min(1, 2 * text.get_figure().dpi / 72 / np.hypot(*offset))])


def middle(box: Bbox) -> np.ndarray:
    return (box.min + box.max) / 2


def away(box: Bbox, point: np.ndarray) -> float:
    return float(np.hypot(*(np.clip(point, box.min, box.max) - point)))


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
    figure = tradeoff.draw(table, width=width)
    check_texts(figure)
    check_owners(figure)


@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(st.lists(st.sampled_from([0.0, 0.3, 0.99, 0.999, 1.0]), min_size=6, max_size=6))
def test_texts_keep_apart_wherever_the_marks_lie(attained: list[float]) -> None:
    rows = [
        {"policy": f"clipper(accuracy={x:g})", "trace": "t", "seed": 0, "slo_attainment": y, "mean_serving_accuracy": x}
        for x, y in zip(ACCURACIES, attained, strict=True)
    ]
    figure = tradeoff.draw(pd.DataFrame(rows))
    check_texts(figure)
    check_owners(figure)


def panels(*cells: dict[str, tuple[float, float]], columns: int = 3) -> pd.DataFrame:
    """Return a table of panels, from accuracy and attainment of each policy."""
    return pd.DataFrame(
        [
            {
                "trace.rate": number // columns,
                "trace.cv2": number % columns,
                "policy": policy,
                "trace": f"t{number}",
                "seed": 0,
                "slo_attainment": attained,
                "mean_serving_accuracy": accuracy,
            }
            for number, cell in enumerate(cells)
            for policy, (accuracy, attained) in cell.items()
        ]
    )


def subnets(*attained: float) -> dict[str, tuple[float, float]]:
    return {f"clipper(accuracy={x:g})": (x, y) for x, y in zip(ACCURACIES, attained, strict=True)}


def test_a_crowded_row_keeps_its_order_and_each_text_its_point() -> None:
    def cell(
        attained: tuple[float, float], best: float, maxacc: float, missed: float
    ) -> dict[str, tuple[float, float]]:
        others = {"slackfit": (best, 1.0), "maxbatch": (best, 1.0), "infaas": (73.82, 1.0), "maxacc": (maxacc, missed)}
        return {**subnets(1, 1, 1, 1, *attained), **others}

    # Loads of the bursty experiment, and two dispatch overheads: what once had lines that crossed, or 78.25 above the
    # marker of 77.64.
    figure = tradeoff.draw(
        panels(
            cell((1.0, 0.00099), 79.586, 77.821, 0.416),
            cell((1.0, 0.00091), 79.590, 77.918, 0.424),
            cell((1.0, 0.00083), 79.592, 78.160, 0.440),
            cell((0.02696, 0.00043), 79.397, 76.597, 0.252),
            cell((0.00996, 0.00038), 79.364, 76.817, 0.248),
            cell((0.01198, 0.00039), 79.310, 77.169, 0.247),
            cell((0.00244, 0.00035), 79.122, 76.292, 0.214),
            cell((0.11882, 0.00022), 79.298, 76.538, 0.254),
            {**cell((0.01914, 0.00018), 79.180, 76.470, 0.194), "maxbatch": (79.18, 0.999912)},
        )
    )
    check_texts(figure)
    check_owners(figure)
    for axes in figure.axes:
        centres = {text.get_text(): middle(Text.get_window_extent(text))[0] for text in axes.texts if text.get_text()}
        row = [centres[f"{accuracy:.2f}"] for accuracy in ACCURACIES[:4]]
        assert row == sorted(row)


@settings(max_examples=1, deadline=None, phases=[Phase.generate], derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_each_text_has_its_point_wherever_the_marks_lie(seed: int) -> None:
    # Points as chance has them: hypothesis would pile up more of them than there is room for. And the same ones each
    # time: about one panel in 500 has a point so walled in by others that its line has to cross a marker.
    rng = np.random.default_rng(seed)
    policies = [*subnets(*[1.0] * 6), "slackfit", "maxbatch", "infaas"]
    levels = [0.0, 0.0003, 0.5, 0.9, 0.99, 0.9999, 1.0, 1.0, 1.0]
    cells = [{policy: (rng.uniform(74, 80), rng.choice(levels)) for policy in policies} for _ in range(9)]
    figure = tradeoff.draw(panels(*cells))
    check_texts(figure)
    check_owners(figure)


def sweep(summary: pd.DataFrame, **columns: list[object]) -> pd.DataFrame:
    settings = [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]
    return pd.concat([summary.assign(**setting) for setting in settings], ignore_index=True)


def test_two_swept_columns_make_a_grid_with_the_first_down_and_shared_axes(summary: pd.DataFrame) -> None:
    table = sweep(summary, **{"trace.rate_per_s": [2950, 4900, 5550], "trace.cv2": [2, 4, 8], "cluster.workers": [8]})
    figure = tradeoff.draw(table)
    assert [axes.get_title() for axes in figure.axes][:4] == [
        "rate = 2950 /s, CV² = 2",
        "rate = 2950 /s, CV² = 4",
        "rate = 2950 /s, CV² = 8",
        "rate = 4900 /s, CV² = 2",
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
    with pytest.raises(DataError, match="summary: missing column"):
        tradeoff.draw(summary.drop(columns="slo_attainment"))


def test_each_panel_has_the_bound_of_its_own_runs(summary: pd.DataFrame) -> None:
    """Where attainment times accuracy is the bound; no line where no bound is known."""
    bounds = {1.0: 0.79, 2.0: 0.6, 3.0: math.nan}
    swept = pd.concat([summary.assign(**{"trace.cv2": cv2, "weighted_bound": bounds[cv2]}) for cv2 in bounds])
    figure = tradeoff.draw(swept)
    for axes, bound in zip(figure.axes, bounds.values(), strict=True):
        dotted = [line for line in axes.lines if line.get_color() == style.GREY and len(line.get_xdata()) > 2]
        assert len(dotted) == (not math.isnan(bound))
        for line in dotted:
            assert np.allclose(np.multiply(line.get_xdata(), line.get_ydata()), 100 * bound)
    assert "bound on any policy" in [text.get_text() for text in figure.legends[0].get_texts()]
