"""Hypothesis strategies for supernets; apart from the others, which need no torch."""

from __future__ import annotations

from hypothesis import strategies as st

from supernet.space import SubnetSpace


@st.composite
def subnet_spaces(draw: st.DrawFn) -> SubnetSpace:
    """Any space of one entry or more."""
    choices = st.sets(st.integers(0, 4), min_size=1, max_size=4).map(lambda found: tuple(sorted(found)))
    entries = draw(st.lists(choices, min_size=1, max_size=9))
    first, second = sorted(draw(st.lists(st.integers(0, len(entries)), min_size=2, max_size=2)))
    ratios = tuple(tuple((choice + 1) / 8 for choice in entry) for entry in entries[first:second])
    return SubnetSpace("net", tuple(entries[:first]), ratios, tuple(entries[second:]))
