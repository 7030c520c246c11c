"""Hypothesis strategies for the toolkit's types, and what it means that two of them are the same."""

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet

# Names as people write them, with what breaks a careless file: a comma, a quote, a line break, a leading zero.
names = st.sampled_from(["0", "007", "small", "a,b", 'q"q', "näme", "two\nlines", " x "])
control_tuples = st.builds(
    ControlTuple,
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.lists(st.sampled_from([0.2, 0.25, 0.35, 1.0]), max_size=3).map(tuple),
    st.lists(st.integers(0, 2), max_size=3).map(tuple),
)


def grids(shape: tuple[int, int], lowest: int = 1, highest: int = 10**13) -> st.SearchStrategy[npt.NDArray[np.int64]]:
    """Grids of nanoseconds, up to nearly three hours."""
    return arrays(np.int64, shape, elements=st.integers(lowest, highest))


@st.composite
def latency_tables(draw: st.DrawFn, *, bare: bool = False, highest: int = 10**13) -> LatencyTable:
    """Any table; a bare one has no stages, no percentiles, no samples and no facts about its subnets."""

    def perhaps(strategy: st.SearchStrategy[Any]) -> Any:
        return None if bare else draw(st.none() | strategy)

    ids = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    accuracies = sorted(draw(st.lists(st.floats(1.001, 100), min_size=len(ids), max_size=len(ids))))
    subnets = tuple(
        ProfiledSubnet(
            name,
            accuracy,
            perhaps(control_tuples),
            perhaps(st.floats(0, 1e6)),
            perhaps(st.integers(0, 10**12)),
            perhaps(st.integers(0, 10**12)),
        )
        for name, accuracy in zip(ids, accuracies, strict=True)
    )
    sizes = tuple(sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=6))))
    shape = len(subnets), len(sizes)
    stage_names = draw(st.just([]) if bare else st.lists(st.sampled_from(["forward", "copy", "p99"]), unique=True))
    latency_ns = draw(grids(shape, highest=highest))
    beyond = perhaps(grids(shape, 0, 50))
    p99_ns = None if beyond is None else latency_ns + beyond
    intervals = {}
    for prefix, grid in (("", latency_ns), ("p99_", p99_ns)):
        half = None if grid is None else perhaps(grids(shape, 0, 50))
        if half is not None:
            intervals |= {f"{prefix}low_ns": np.maximum(1, grid - half), f"{prefix}high_ns": grid + half}
    samples = st.lists(st.integers(1, highest), min_size=1, max_size=4)
    return LatencyTable(
        draw(st.sampled_from(["GPU", "NVIDIA A40", "Gerät"])),
        subnets,
        sizes,
        latency_ns,
        p99_ns,
        {name: draw(grids(shape, lowest=0)) for name in stage_names},
        draw(st.sampled_from(["pad", "interpolate"])),
        draw(st.none() | st.integers(sizes[0], sizes[-1])),
        draw(st.dictionaries(names, st.text(max_size=5), max_size=2)),
        energy_uj=perhaps(grids(shape)),
        samples_ns=perhaps(st.just([[draw(samples) for _ in sizes] for _ in subnets])),
        **intervals,
    )


def assert_same(a: LatencyTable, b: LatencyTable, *but: str) -> None:
    """Two tables agree in every field but those named."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return [(key, plain(part)) for key, part in value.items()]
        if isinstance(value, tuple):
            return tuple(plain(part) for part in value)
        return value.tolist() if isinstance(value, np.ndarray) else value

    for field in fields(a):
        if field.name not in but:
            assert plain(getattr(a, field.name)) == plain(getattr(b, field.name)), field.name
