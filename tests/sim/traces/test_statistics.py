"""One pass in constant memory against the plain formulas over whole arrays."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.base.errors import DataError
from sim.base.units import NS_PER_S
from sim.traces.statistics import describe, window_counts

arrivals = st.lists(st.integers(0, 200 * NS_PER_S), min_size=1, max_size=80).map(sorted)


@given(arrivals, st.lists(st.integers(0, 80), max_size=4), st.integers(0, 70 * NS_PER_S))
@settings(deadline=None)
def test_one_pass_equals_the_plain_formulas_however_it_is_chunked(
    times: list[int], cuts: list[int], rest_ns: int
) -> None:
    times = np.array(times, np.int64)
    duration_ns = max(int(times[-1]), 1) + rest_ns
    found = describe([chunk for chunk in np.split(times, sorted(cuts)) if len(chunk)], duration_ns)
    assert found.queries == len(times)
    assert found.mean_qps == pytest.approx(len(times) / duration_ns * NS_PER_S)
    gaps = np.diff(times).astype(float)
    expected = gaps.var() / gaps.mean() ** 2 if gaps.sum() else math.nan
    assert found.gap_cv2 == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
    for window, (numerator, denominator) in zip(found.windows, [(1, 12), (1, 1), (60, 1)], strict=True):
        windows = duration_ns * denominator // (numerator * NS_PER_S)
        counts = np.bincount([int(t) * denominator // (numerator * NS_PER_S) for t in times], minlength=windows)[
            :windows
        ]
        assert window.windows == windows
        assert window.window_s == numerator / denominator
        mean = counts.mean() if windows else 0
        assert window.peak_to_mean == pytest.approx(counts.max() / mean if mean else math.nan, nan_ok=True)
        assert window.dispersion == pytest.approx(counts.var() / mean if mean else math.nan, nan_ok=True, abs=1e-9)


@given(arrivals, st.sampled_from([(1, 12), (1, 1), (60, 1)]))
def test_window_counts_are_a_histogram(times: list[int], length: tuple[int, int]) -> None:
    times = np.array(times, np.int64)
    counts = window_counts(np.split(times, [len(times)])[:1], length)
    assert counts.sum() == len(times)
    assert np.array_equal(counts, np.bincount(times * length[1] // (length[0] * NS_PER_S)))


def test_a_window_longer_than_the_trace_has_no_figures() -> None:
    found = describe([np.array([0, NS_PER_S])], 2 * NS_PER_S)
    assert found.windows[2].windows == 0
    assert math.isnan(found.windows[2].peak_to_mean)
    assert math.isnan(found.windows[2].dispersion)


def test_times_since_1970_in_nanoseconds_are_no_danger() -> None:
    late = np.array([17, 18], np.int64) * 10**17
    assert describe([late]).windows[0].windows == 18 * 10**17 * 12 // NS_PER_S
    with pytest.raises(DataError, match="too many windows"):
        window_counts([late])


@pytest.mark.parametrize(
    ("chunks", "duration_ns", "message"),
    [
        ([], None, "no arrivals"),
        ([np.array([1, 3]), np.array([2])], None, r"chunks, row 2: is earlier than the row before \(2 < 3 ns\)"),
        ([np.array([1, 3])], 2, r"duration_ns: ends before the last arrival \(2\); 3 or more"),
    ],
)
def test_what_is_no_trace_is_refused(
    chunks: list[npt.NDArray[np.int64]], duration_ns: int | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        describe(chunks, duration_ns)
