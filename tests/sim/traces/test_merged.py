"""Traces side by side: every arrival of every part, each with its SLO and its class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.base.errors import TooLongError
from sim.traces import merged
from sim.traces.merged import Merged, seed_of
from sim.traces.synthetic import Constant, Poisson


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.lists(st.integers(50, 300), min_size=1, max_size=4))
def test_each_class_is_the_trace_of_its_part(seed: int, rates: list[int]) -> None:
    parts = tuple((f"p{i}", Poisson(mean_qps=rate, duration_s=1 + i, slo_ms=10 + i)) for i, rate in enumerate(rates))
    source = Merged(parts=parts)
    trace = source.trace(seed)
    assert (np.diff(trace.arrival_ns) >= 0).all()
    assert trace.class_names == tuple(name for name, _ in parts)
    assert trace.duration_ns == source.duration_ns == len(rates) * 10**9
    assert trace.class_codes is not None
    slo_ns = np.broadcast_to(trace.slo_ns, (len(trace),))
    for place, (name, part) in enumerate(parts):
        mine = trace.class_codes == place
        assert trace.arrival_ns[mine].tolist() == part.trace(seed_of(seed, name)).arrival_ns.tolist()
        assert set(slo_ns[mine].tolist()) == {(10 + place) * 10**6}
    assert (
        np.concatenate(list(source.chunks(seed))).tolist()
        == source.arrivals(seed).tolist()
        == trace.arrival_ns.tolist()
    )


def test_parts_with_the_same_parameters_have_their_own_arrivals_and_keep_them() -> None:
    alike = Poisson(mean_qps=200, duration_s=1, slo_ms=10)
    two = Merged(parts=(("a", alike), ("b", alike))).trace(7)
    more = Merged(parts=(("c", alike), ("b", alike), ("a", alike))).trace(7)
    assert two.class_codes is not None
    assert more.class_codes is not None
    a, b = (two.arrival_ns[two.class_codes == code] for code in (0, 1))
    assert a.tolist() != b.tolist()
    assert more.arrival_ns[more.class_codes == 2].tolist() == a.tolist()


def test_it_is_random_if_a_part_is() -> None:
    fixed = Constant(mean_qps=100, duration_s=1, slo_ms=10)
    assert not Merged(parts=(("a", fixed),)).is_random
    assert Merged(parts=(("a", fixed), ("b", Poisson(mean_qps=100, duration_s=1, slo_ms=10)))).is_random


def test_parts_that_are_too_long_together_are_refused_before_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tuple((name, Constant(mean_qps=100, duration_s=1, slo_ms=10)) for name in ("a", "b"))
    monkeypatch.setattr(merged, "MAX_ARRIVALS", 200)
    assert len(Merged(parts=parts).trace(1)) == 200
    monkeypatch.setattr(merged, "MAX_ARRIVALS", 199)
    told = r"trace of queue b: has more queries than fit into memory \(over 99\); .*queues hold all queries"
    with pytest.raises(TooLongError, match=told):
        Merged(parts=parts).trace(1)
