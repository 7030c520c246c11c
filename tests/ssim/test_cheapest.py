"""The cheapest mix of kinds of workers: the search finds what trying all mixes finds, and what is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssim.execution.mixes import MixSearch
from tests.ssim.in_process import ssim
from tests.ssim.test_kinds import EXPERIMENT

if TYPE_CHECKING:
    from pathlib import Path

SMALL = EXPERIMENT.replace("duration_s: 1", "duration_s: 0.5").replace(", maxbatch", "")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=3),
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
    st.integers(1, 12),
)
def test_the_search_finds_what_trying_all_mixes_finds(prices: list[int], speeds: list[int], load: int) -> None:
    """Where workers carry what they can, and none does harm; a kind of speed 0 serves nothing."""
    speeds = [*speeds[: len(prices) - 1], 3]

    def carried(mix: tuple[int, ...]) -> float:
        return min(1.0, sum(speed * workers for speed, workers in zip(speeds, mix, strict=True)) / load)

    search = MixSearch(tuple(map(float, prices)), 1.0)
    while wanted := search.wanted():
        for mix in wanted:
            assert mix not in search.attained
            search.attained[mix] = (carried(mix),)
    every = [mix for mix in itertools.product(range(load + 1), repeat=len(prices)) if any(mix) and carried(mix) >= 1]
    assert search.cheapest is not None
    assert search.cost(search.cheapest) == min(map(search.cost, every))


def test_prices_are_sums_of_what_the_file_says() -> None:
    assert [MixSearch((0.2, 0.7), 0.9).cost(mix) for mix in ((3, 0), (1, 1), (0, 3))] == [0.6, 0.9, 2.1]


def test_a_kind_that_does_harm_is_left_out() -> None:
    search = MixSearch((1.0, 0.1), 0.9)
    while wanted := search.wanted():
        for mix in wanted:
            search.attained[mix] = (min(1.0, mix[0] / 4) * (0.5 if mix[1] else 1.0),)
    assert search.cheapest == (4, 0)


def test_no_mix_meets_a_target_that_none_can() -> None:
    search = MixSearch((1.0, 2.0), 0.9)
    while wanted := search.wanted():
        for mix in wanted:
            search.attained[mix] = (0.4, 0.5)
    assert search.cheapest is None
    assert search.cost_by_seed() is None


def test_no_cheaper_mix_nearby_meets_the_target(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SMALL)
    words = ("capacity", "two.yaml", "--rate", "3000", "--cheapest", "--target", "0.95", "--jobs", "1")
    ended = ssim(tmp_path, *words)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "results/two/capacity"
    best, tried = pd.read_csv(folder / "cheapest.csv").iloc[0], pd.read_csv(folder / "mixes.csv")
    assert best.attainment >= 0.95
    assert best.price_per_h == pytest.approx(0.4 * best.workers_a40 + 0.2 * best.workers_turing)
    assert (tried[tried.price_per_h < best.price_per_h - 1e-9].slo_attainment < 0.95).all()
    assert len(tried) == best.mixes_tried
    assert (folder / "figures/mixes.png").is_file()
    again = ssim(tmp_path, *words)
    assert (again.returncode, again.stderr) == (0, ""), "what was tried is stored"


REFUSED = {
    "": "--cheapest: needs the rate that the workers have to carry",
    "cluster.kinds.1.price_per_h=0": "cluster.kinds.1.price_per_h: needs a price",
    "cluster.faults=[{worker: 0, at_s: 0.1}]": "cluster.faults: name workers",
    "cluster={workers: 3}": "--cheapest: the cluster has no kinds",
    "sweep={cluster.kinds.0.workers: [1, 2]}": "cluster.kinds.0.workers is swept",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_bad_input_is_refused_with_its_place(tmp_path: Path, setting: str) -> None:
    (tmp_path / "two.yaml").write_text(SMALL)
    words = ("--rate", "500", "--set", setting) if setting else ()
    ended = ssim(tmp_path, "capacity", "two.yaml", "--jobs", "1", "--cheapest", *words)
    assert REFUSED[setting] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


def test_a_mix_without_memory_for_a_queue_misses_where_a_placement_is_searched(tmp_path: Path) -> None:
    """The small workers are cheaper, but hold no model."""
    (tmp_path / "placed.yaml").write_text("""\
schema: experiment/1
name: placed
seed: 7
cluster:
  kinds:
    - {name: big, workers: 2, memory_gb: 0.4, load_gb_per_s: 12, price_per_h: 1}
    - {name: small, workers: 2, memory_gb: 0.05, load_gb_per_s: 12, price_per_h: 0.1}
  currency: EUR
  placement: fast_greedy
latency_table: ofa-resnet50-rtx2080ti
queues:
  - {name: a, own_weights: true, trace: {kind: gamma, mean_qps: 100, cv2: 1, duration_s: 0.5, slo_ms: 36}}
  - {name: b, own_weights: true, trace: {kind: gamma, mean_qps: 100, cv2: 1, duration_s: 0.5, slo_ms: 36}}
policies: [slackfit]
""")
    ended = ssim(tmp_path, "capacity", "placed.yaml", "--rate", "200", "--target", "0.9", "--cheapest", "-j", "1")
    assert ended.returncode == 0, ended.stderr
    mixes = pd.read_csv(tmp_path / "results/placed/capacity/mixes.csv")
    assert (mixes[mixes.workers_big == 0].slo_attainment == 0).all()
    (found,) = pd.read_csv(tmp_path / "results/placed/capacity/cheapest.csv").to_dict("records")
    assert found["workers_big"] > 0
    assert found["workers_small"] == 0
