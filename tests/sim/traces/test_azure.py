"""The calibrated Azure day against the figures that it was made from (sources: see sim/traces/azure.py)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.base.streams import stream
from sim.base.units import NS_PER_S
from sim.traces.azure import HOURLY, Azure, placed, shrunk, unshrunk
from sim.traces.statistics import describe, window_counts

SEEDS = range(40)
DAYS = [Azure(slo_ms=36).minute_qps(seed) for seed in SEEDS]


def correlation(rates: npt.NDArray[np.float64], lag: int) -> float:
    residual = rates - rates.mean()
    return float((residual * np.roll(residual, -lag)).mean() / residual.var())


def gap_cv2_of(rates: npt.NDArray[np.float64]) -> float:
    """Return the CV^2 of the gaps of a Poisson process with a piecewise constant rate."""
    return 2 * rates.mean() * (1 / rates).mean() - 1


@given(st.floats(0.1, 1e5), st.floats(0, 0.1), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_mean_of_the_rates_is_exact(mean_qps: float, residual_cv2: float, seed: int) -> None:
    rates = Azure(slo_ms=36, mean_qps=mean_qps, residual_cv2=residual_cv2).minute_qps(seed)
    assert rates.mean() == pytest.approx(mean_qps, rel=1e-12)
    assert (rates > 0).all()


def test_without_residual_the_day_is_the_hourly_profile() -> None:
    hours = Azure(slo_ms=36, mean_qps=1, residual_cv2=0).minute_qps(0).reshape(24, 60).mean(axis=1)
    # Interpolation rounds off the peaks; the profile itself is read to 0.01.
    assert np.abs(hours - HOURLY).max() < 0.02
    assert np.var(HOURLY) == pytest.approx(0.0063, abs=0.0002)


def test_hours_follow_the_profile_within_their_standard_error() -> None:
    hours = np.mean([day.reshape(24, 60).mean(axis=1) for day in DAYS], axis=0) / 6400
    # A mean over an hour of an AR(1) process of phi 0.78: variance v (1 + phi) / (1 - phi) / 60.
    error = math.sqrt(0.0066 * 1.78 / 0.22 / 60 / len(DAYS))
    assert np.abs(hours - HOURLY).max() < 0.01 + 4 * error < 0.04


def test_variation_and_peaks_are_those_of_the_paper() -> None:
    # SuperServe: spikes to 8,750 at a mean of 6,400 q/s, 1.37 times.
    cv2 = np.array([day.var() / day.mean() ** 2 for day in DAYS])
    peaks = np.array([day.max() / day.mean() for day in DAYS])
    assert 0.010 <= cv2.mean() <= 0.016
    assert 1.28 <= peaks.mean() <= 1.45
    assert peaks.mean() == pytest.approx(8863 / 6400, abs=4 * peaks.std() / math.sqrt(len(DAYS)))


def test_a_minute_is_like_the_one_before_and_unlike_that_of_twelve_hours_ago() -> None:
    assert 0.82 <= np.mean([correlation(day, 1) for day in DAYS]) <= 0.92
    assert np.mean([correlation(day, 720) for day in DAYS]) < 0


@pytest.mark.parametrize("seed", range(3))
def test_the_run_has_the_rates_of_its_minutes(seed: int) -> None:
    source = Azure(slo_ms=36)
    expected = source.minute_qps(seed) / 12
    counts = window_counts(source.chunks(seed), (1, 12))
    # The sum of squares of 1,440 standardised Poisson counts has mean 1,440 and variance about 2 x 1,440.
    squares = ((counts - expected) ** 2 / expected).sum()
    assert abs(squares - 1440) < 4.5 * math.sqrt(2 * 1440 + (1 / expected).sum())
    found = describe(source.chunks(seed), source.duration_ns)
    assert found.mean_qps == pytest.approx(6400, rel=0.01)
    assert abs(found.queries - 768_000) < 4.5 * math.sqrt(768_000)


def gap_test_passes(gap_cv2: float, rates: npt.NDArray[np.float64]) -> bool:
    return abs(gap_cv2 - gap_cv2_of(rates)) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_gaps_vary_as_a_mixture_of_exponentials_and_evenly_placed_ones_do_not(seed: int) -> None:
    source = Azure(slo_ms=36)
    rates = source.minute_qps(seed)
    found = describe(source.chunks(seed), source.duration_ns)
    assert gap_test_passes(found.gap_cv2, rates)
    counts = window_counts(source.chunks(seed), (1, 12))
    even = np.concatenate([(m + (np.arange(n) + 0.5) / n) * NS_PER_S / 12 for m, n in enumerate(counts)]).astype(
        np.int64
    )
    assert np.array_equal(window_counts([even], (1, 12)), counts)
    assert not gap_test_passes(describe([even]).gap_cv2, rates)


@given(st.integers(1, 40), st.integers(10**6, 10**12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_bins_share_the_run_and_do_not_depend_on_those_before(bins: int, duration_ns: int, seed: int) -> None:
    rates = np.full(bins, 2000 * NS_PER_S / duration_ns)
    whole = np.concatenate([np.empty(0, np.int64), *shrunk(rates, duration_ns, seed)])
    assert ((whole >= 0) & (whole < duration_ns)).all()
    assert (np.diff(whole) >= 0).all()
    quiet = rates.copy()
    quiet[: bins // 2] = 0
    rest = np.concatenate([np.empty(0, np.int64), *shrunk(quiet, duration_ns, seed)])
    assert np.array_equal(rest, whole[whole >= bins // 2 * duration_ns // bins])


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_instants_are_placed_as_sorted_uniform_numbers(count: int) -> None:
    length_ns, rng = 10**9, stream(3, "placed")
    times = np.array([placed(rng, count, length_ns) for _ in range(4000)])
    assert ((times >= 0) & (times < length_ns)).all()
    assert (np.diff(times, axis=1) >= 0).all()
    # The k-th of n sorted uniform numbers has mean k / (n + 1) and variance k (n + 1 - k) / (n + 1)^2 / (n + 2).
    k = np.arange(1, count + 1)
    mean, variance = k / (count + 1), k * (count + 1 - k) / (count + 1) ** 2 / (count + 2)
    assert (np.abs(times.mean(axis=0) / length_ns - mean) < 4.5 * np.sqrt(variance / len(times))).all()
    assert (times / length_ns).var(axis=0) == pytest.approx(variance, rel=0.15)
    # Any one of them, whichever its rank, is uniform (Kolmogorov-Smirnov at one in ten thousand).
    any_one = np.sort(times[np.arange(len(times)), rng.integers(0, count, len(times))]) / length_ns
    assert np.abs(any_one - (np.arange(len(times)) + 0.5) / len(times)).max() < 2.23 / math.sqrt(len(times))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_trace_in_real_time_has_exactly_its_counts(counts: list[int], seed: int) -> None:
    found = window_counts(unshrunk(np.array(counts), 60 * NS_PER_S, seed), (60, 1))
    assert found.tolist()[: len(counts)] == counts[: len(found)]
    assert found.sum() == sum(counts)
