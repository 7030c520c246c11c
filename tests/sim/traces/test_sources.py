"""Laws that hold for every generator."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sim.base.errors import DataError, SpecError
from sim.traces import SHORT_NAMES
from sim.traces.azure import Azure
from sim.traces.source import CHUNK, TraceSource
from sim.traces.synthetic import Constant, Gamma, Poisson
from ssim.files.plugins import find_class
from tests.sim.traces.sources import GENERATORS, identity, joined

every_generator = pytest.mark.parametrize("source", GENERATORS, ids=identity)


@every_generator
def test_chunks_joined_are_the_trace_and_never_decrease(source: TraceSource) -> None:
    trace = source.trace(3)
    chunks = list(source.chunks(3))
    assert np.array_equal(np.concatenate(chunks), trace.arrival_ns)
    assert (np.diff(trace.arrival_ns) >= 0).all()
    assert trace.arrival_ns[0] >= 0
    assert trace.arrival_ns[-1] < trace.duration_ns == source.duration_ns
    assert all(0 < len(chunk) <= CHUNK and chunk.dtype == np.int64 for chunk in chunks)


@every_generator
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(source: TraceSource) -> None:
    first = joined(source, 1).tobytes()
    assert joined(source, 1).tobytes() == first
    drawn = source.kind != "constant" and getattr(source, "cv2", 1) != 0
    assert (joined(source, 2).tobytes() != first) == drawn


@every_generator
def test_provenance_says_how_to_make_the_trace_again(source: TraceSource) -> None:
    provenance = source.trace(3).provenance
    owner = find_class(provenance["kind"], SHORT_NAMES, "trace source")
    assert owner(**provenance["parameters"]) == source
    assert provenance["seed"] == 3
    assert source.inputs() == ()
    assert source.located(Path("/elsewhere")) is source


def test_short_names_are_the_kinds() -> None:
    assert {name: find_class(name, SHORT_NAMES, "trace source").kind for name in SHORT_NAMES} == {
        n: n for n in SHORT_NAMES
    }


@pytest.mark.parametrize(
    ("source", "queries"),
    [
        (Poisson(slo_ms=36, mean_qps=100_000, duration_s=200), 20_000_000),
        (Azure(slo_ms=36, mean_qps=10_533, duration_s=1900), 20_000_000),
    ],
    ids=identity,
)
def test_twenty_million_arrivals_need_a_few_megabytes(source: TraceSource, queries: int) -> None:
    tracemalloc.start()
    count = sum(len(chunk) for chunk in source.chunks(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(count - queries) < 0.01 * queries
    assert peak < 10e6 < 8 * queries


@pytest.mark.parametrize("value", [0, -1, 1e-7, 1e300, float("nan"), float("inf"), "36", True])
def test_an_slo_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match=r"Poisson\.slo_ms"):
        Poisson(slo_ms=value, mean_qps=1, duration_s=1)


def test_a_trace_without_arrivals_is_refused() -> None:
    with pytest.raises(DataError, match="trace poisson: has no arrivals"):
        Poisson(slo_ms=36, mean_qps=1e-9, duration_s=1).trace(0)


def test_one_arrival_at_zero_is_a_trace() -> None:
    assert joined(Constant(slo_ms=36, mean_qps=1, duration_s=1)).tolist() == [0]
    assert len(Gamma(slo_ms=36, mean_qps=1000, cv2=0, duration_s=0.0015).trace(0)) == 1
