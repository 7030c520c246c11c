"""Real traces against the figures published for them, or computed from them by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.traces.azure_files import Azure2019, Azure2021
from sim.traces.formats import Llm
from sim.traces.statistics import describe
from tests.sim.traces.sources import recorded

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "least", "mean", "peak", "cv2", "dispersion"),
    [
        # Sums over the columns of the files: 500 functions of day 7, 08:00 to 16:00; samples of invitro.
        ("azure500_m0480-0959", 3013, 6329, 7603, 0.0100, 64),
        ("heavy10_24h", 8408, 9054, 9736, 0.0004, 4),
        ("invitro1350a_24h", 480, 692, 1611, 0.0467, 32),
    ],
)
def test_minute_totals_of_azure_2019(
    name: str, least: int, mean: int, peak: int, cv2: float, dispersion: float
) -> None:
    source = Azure2019(slo_ms=36, path=recorded(f"maf2019/{name}_invocations.csv.gz"))
    counts = source.minute_counts(0)
    assert (counts.min(), round(counts.mean()), counts.max()) == (least, mean, peak)
    assert counts.var() / counts.mean() ** 2 == pytest.approx(cv2, abs=0.00006)
    assert counts.var() / counts.mean() == pytest.approx(dispersion, abs=0.6)
    # The run has the real rate, and at 6,400 q/s the gaps of a mixture of exponentials.
    found = describe(source.chunks(0), source.duration_ns)
    assert abs(found.queries - counts.mean() * 2) < 4.5 * math.sqrt(counts.mean() * 2)
    busy = Azure2019(slo_ms=36, path=source.path, mean_qps=6400)
    assert describe(busy.chunks(0)).gap_cv2 == pytest.approx(2 * counts.mean() * (1 / counts).mean() - 1, abs=0.02)


@pytest.mark.parametrize("functions", [10, 100])
def test_few_functions_vary_more_than_all(functions: int) -> None:
    everything = Azure2019(slo_ms=36, path=recorded("maf2019/azure500_m0480-0959_invocations.csv.gz"))
    some = Azure2019(slo_ms=36, path=everything.path, functions=functions)
    rates = [some.minute_counts(seed).mean() for seed in range(10)]
    assert np.median(rates) < everything.minute_counts(0).mean() / 2


@pytest.mark.parametrize(
    ("name", "queries", "span_s", "qps", "second", "minute", "gap_cv"),
    [
        ("code", 8819, 3436, 2.57, (26, 5.14), (4.18, 1.08), 13.2),
        ("conv", 19366, 3502, 5.53, (2.9, 0.25), (1.52, 0.048), 1.09),
    ],
)
def test_azure_llm_2023(
    name: str,
    queries: int,
    span_s: int,
    qps: float,
    second: tuple[float, float],
    minute: tuple[float, float],
    gap_cv: float,
) -> None:
    source = Llm(slo_ms=36, path=recorded(f"llm/AzureLLMInferenceTrace_{name}.csv.gz"))
    trace = source.trace(0)
    found = describe(source.chunks(0))
    assert found.queries == len(trace) == queries
    assert (trace.arrival_ns % 100 == 0).all()
    assert round(found.duration_s) == span_s
    assert found.mean_qps == pytest.approx(qps, abs=0.006)
    assert math.sqrt(found.gap_cv2) == pytest.approx(gap_cv, rel=0.01)
    for window, (peak, cv2) in zip(found.windows[1:], (second, minute), strict=True):
        mean = queries / found.duration_s * window.window_s
        assert window.peak_to_mean == pytest.approx(peak, rel=0.02)
        assert window.dispersion / mean == pytest.approx(cv2, rel=0.02)


def test_azure_2021() -> None:
    source = Azure2021(slo_ms=36, path=recorded("maf2021/azure2021_first998.csv.gz"))
    found = describe(source.chunks(0))
    assert found.queries == 998
    assert round(found.duration_s) == 6465
    assert math.sqrt(found.gap_cv2) == pytest.approx(1.75, abs=0.006)
