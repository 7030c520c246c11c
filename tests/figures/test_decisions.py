from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from figures.decisions import draw_decisions

if TYPE_CHECKING:
    from pathlib import Path


def test_each_value_that_occurs_has_a_step_of_its_own() -> None:
    accuracy = np.array([[70.0, 80.0, 80.0], [70.0, np.nan, 75.5]])
    size = np.array([[16.0, 1.0, 2.0], [16.0, np.nan, 2.0]])
    figure = draw_decisions(
        np.array([0.0, 1.0, 2.0, 3.0]), np.array([1, 2]), accuracy, size, nothing_else(size), "policy"
    )
    maps, bars = figure.axes[:2], figure.axes[2:]
    assert [text.get_text() for text in bars[0].get_yticklabels()] == ["70.00", "75.50", "80.00"]
    assert [text.get_text() for text in bars[1].get_yticklabels()] == ["1", "2", "16"]
    drawn = maps[0].collections[0].get_array()
    assert drawn.filled(-1).tolist() == [[0, 2, 2], [0, -1, 1]]
    for panel, title in zip(maps, ("accuracy of the subnet (%)", "batch size"), strict=True):
        assert (panel.get_title(), panel.get_ylabel()) == (title, "queries waiting")
        shades = panel.collections[0].get_cmap()(range(3))
        assert shades[:, 0].max() < 0.85, "the palest shade is apart from white, which is nothing"


def test_one_decision_for_all_is_drawn() -> None:
    same = np.full((1, 1), 4.0)
    assert draw_decisions(np.array([0.0, 1.0]), np.array([1]), same, same, nothing_else(same)).axes


def nothing_else(size: np.ndarray) -> np.ndarray:
    return np.full(size.shape, "")


def test_holding_and_dropping_are_hatched_apart_and_named() -> None:
    size = np.array([[np.nan, 4.0], [np.nan, np.nan]])
    other = np.array([["drop", ""], ["drop", "hold"]])
    figure = draw_decisions(np.array([0.0, 1.0, 2.0]), np.array([1, 2]), size, size, other)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hold", "drop"]
    hatches = {patch.get_hatch() for patch in figure.legends[0].get_patches()}
    assert len(hatches) == 2
    assert not draw_decisions(np.array([0.0, 1.0, 2.0]), np.array([1, 2]), size, size, np.full((2, 2), "")).legends


def test_a_fine_surface_makes_a_small_file_of_vectors(tmp_path: Path) -> None:
    shape = (64, 2000)
    accuracy = np.broadcast_to(np.linspace(70, 80, 5).repeat(400), shape)
    other = np.full(shape, "", dtype=object)
    figure = draw_decisions(np.linspace(0, 40, 2001), np.arange(1, 65), accuracy, accuracy, other, "fine")
    figure.savefig(tmp_path / "fine.svg")
    assert (tmp_path / "fine.svg").stat().st_size < 400_000
