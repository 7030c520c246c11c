"""One look for all figures, and files that redraw byte for byte."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from figures import (
    FIGURES,
    attainment,
    capacity,
    classes,
    costs,
    dynamics,
    gap,
    mixes,
    placement,
    queues,
    residence,
    scaling,
    shares,
    style,
    sweep,
    tradeoff,
    workers,
)
from figures.tables import estimate
from sim.base.errors import SpecError, StoreError

LABELS = ["slackfit", "slackfit(buckets=32)", "clipper(accuracy=78.25)", "infaas", "maxacc", "maxbatch", "coarse"]


@given(st.integers(1, 9), st.data())
def test_the_attainment_scale_and_its_inverse_are_inverse_on_all_that_is_shown(
    decades: int, data: st.DataObject
) -> None:
    attained = data.draw(st.floats(0, 1 - 10.0**-decades) | st.just(1.0))
    back = attainment.attainment_at(attainment.position(attained, decades), decades)
    assert abs(float(back) - attained) < 1e-12
    assert (back == 1) == (attained == 1)


@given(st.integers(1, 9), st.floats(0, 1), st.floats(0, 1))
def test_the_attainment_scale_never_turns_around_and_keeps_1_apart(decades: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert attainment.position(low, decades) <= attainment.position(high, decades)
    if low < 1:
        assert attainment.position(low, decades) <= decades + 0.5 < attainment.position(1.0, decades)


def test_nines_are_equally_far_apart() -> None:
    heights = attainment.position([0, 0.9, 0.99, 0.999, 0.9999, 1], 4)
    assert np.diff(heights) == pytest.approx(np.ones(5))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_an_interval_holds_its_mean_and_stays_possible(values: list[float]) -> None:
    mean, low, high = estimate(values, highest=1.0)
    assert 0 <= low <= mean <= high <= 1
    if len(set(values)) == 1:
        assert low == mean == high == values[0]


def test_each_family_has_a_colour_and_a_marker_of_its_own() -> None:
    looks = {style.look(label) for label in LABELS}
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks) == 6


def test_variants_of_a_family_look_alike_and_strangers_always_the_same() -> None:
    assert style.look("clipper(accuracy=73.82)") == style.look("clipper(accuracy=80.16)")
    assert style.look("my_policy:Mine(margin_ms=2)") == style.look("my_policy:Mine")
    assert style.display_name("my_policy:Mine(margin_ms=2)") == "my_policy:Mine(margin_ms=2)"


def test_drawing_leaves_the_settings_of_others_alone_and_does_not_mind_them() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31}):
        figure = style.empty(3.0)
        assert mpl.rcParams["font.size"] == 31
    assert figure.texts[0].get_fontsize() == style.SMALL_PT


def gap_figure(summary: pd.DataFrame) -> Figure:
    return gap.draw(summary.assign(weighted_bound=0.8, weighted_attainment=0.7 * summary["slo_attainment"]))


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_figure_redrawn_is_the_same_byte_for_byte(
    name: str, tmp_path: Path, summary: pd.DataFrame, windows: pd.DataFrame
) -> None:
    capacities = summary.assign(capacity=np.arange(len(summary)) + 1.0)
    trials = summary.assign(workers=summary["seed"] + 3, workers_any_policy=2.0)
    priced = summary.assign(workers_a=summary["seed"], workers_b=1, price_per_h=1.0, currency="EUR", target=0.9)
    by_class = summary.assign(queries=100, p99_latency_ms=20.0, **{"class": "paid"})
    by_queue = summary.assign(queries=100, queue="gold", cv2=summary["seed"])
    scaled = pd.DataFrame({"run": "a", "kind": "", "asked_ns": [0.0], "ready_ns": [0.0], "gone_ns": [float("nan")]})
    served = pd.DataFrame(
        {"run": "a", "class": "gold", "arrival_ns": [0, 5], "start_ns": 5, "finish_ns": 9, "batch_size": 2}
    ).assign(outcome=["met", "late"])
    drawn = {
        "classes": lambda: classes.draw(by_class, "seed 1"),
        "capacity": lambda: capacity.draw(capacities, "mean_qps"),
        "costs": lambda: costs.draw(summary.assign(cost=summary["seed"]), "EUR"),
        "dynamics": lambda: dynamics.draw(windows),
        "gap": lambda: gap_figure(summary),
        "mixes": lambda: mixes.draw(priced),
        "placement": lambda: placement.draw(by_queue.assign(run="a", placement="0 2", workers=3)),
        "queues": lambda: queues.draw(by_queue, "cv2"),
        "residence": lambda: residence.draw(summary.assign(gb=summary["seed"]), "gb"),
        "scaling": lambda: scaling.draw(windows.assign(run="a"), scaled),
        "shares": lambda: shares.draw(served, ["gold"]),
        "sweep": lambda: sweep.draw(summary.assign(cv2=summary["seed"]), "cv2"),
        "tradeoff": lambda: tradeoff.draw(summary),
        "workers": lambda: workers.draw(trials, 0.999),
    }[name]
    first, second = (style.save_as(drawn(), tmp_path / side / "figure.svg") for side in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_figure_is_saved_in_three_formats_each_the_same_byte_for_byte(tmp_path: Path, summary: pd.DataFrame) -> None:
    first, second = (style.save(gap_figure(summary), tmp_path / side / "cv2=0.5") for side in "ab")
    assert [path.name for path in first] == ["cv2=0.5.pdf", "cv2=0.5.svg", "cv2=0.5.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_text_in_a_pdf_is_truetype(tmp_path: Path) -> None:
    pdf = style.save(style.empty(3.0), tmp_path / "figure")[0].read_bytes()
    assert b"/Type3" not in pdf


def test_what_cannot_be_written_is_an_error_with_the_path_and_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"figure\.pdf: can't be written"):
        style.save(Figure(), tmp_path / "file" / "figure")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("draw", [tradeoff.draw, dynamics.draw])
def test_a_figure_of_no_runs_says_so(draw: Callable[[pd.DataFrame], Figure]) -> None:
    assert [text.get_text() for text in draw(pd.DataFrame()).texts] == ["no runs"]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_legend_lies_within_its_figure_however_long_the_names_are(count: int) -> None:
    names = [f"my_long_policy_module_{i}:DeadlineAwareAdaptiveBatching" for i in range(count)]
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 4), layout="constrained")
        figure.add_subplot()
        style.legend_below(figure, [style.handle(name) for name in names], names)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert all(text.get_text().endswith("AdaptiveBatching") for text in legend.get_texts())


def test_the_style_is_a_file_that_others_can_use() -> None:
    """Matplotlib finds it by its name; what a figure is drawn with is what the file says."""
    from matplotlib import rc_params_from_file, rcParams
    from matplotlib.style import context

    said = rc_params_from_file("figures/ssim.mplstyle", use_default_template=False)
    with context("figures.ssim"):
        assert all(rcParams[key] == value for key, value in said.items())
    with style.applied():
        assert all(rcParams[key] == value for key, value in said.items())
    assert said["figure.figsize"][0] == style.COLUMN_IN
    assert said["savefig.dpi"] == style.PNG_DPI
    assert (
        min(size for key, size in said.items() if key.endswith(("labelsize", "titlesize", "font.size")))
        == style.SMALL_PT
    )


def test_pgf_needs_latex_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figures.style.which", lambda _: None)
    with pytest.raises(SpecError, match=r"a \.pgf needs LaTeX, which is not installed; install one of xelatex"):
        style.save_as(style.empty(3.0), tmp_path / "figure.pgf")
    assert list(tmp_path.iterdir()) == []
