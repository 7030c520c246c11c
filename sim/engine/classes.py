"""The queries of a run by class: by the classes of the trace, or else by SLO where there are a few different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sim.engine.result import Result
    from sim.traces.trace import Trace

MAX_SLOS = 20
"""SLOs of a trace without classes; where there are more, they are no classes of queries."""


def by_class(result: Result) -> Iterator[tuple[str, Result]]:
    """Yield the measured queries of each class as a result, with the name of the class; nothing without classes.

    Classes without a measured query are left out.
    """
    found = classes_of(result.trace)
    if found is None:
        return
    names, codes = found
    arrived = result.arrived
    measured = codes[arrived]
    order = np.argsort(measured, kind="stable") + arrived.start
    ends = np.cumsum(np.bincount(measured, minlength=len(names)))
    for name, queries in zip(names, np.split(order, ends[:-1]), strict=True):
        if len(queries):
            yield name, result.only(queries)


def classes_of(trace: Trace) -> tuple[Sequence[str], npt.NDArray[np.integer]] | None:
    """Return the names of the classes of a trace, and the class of each query; None without classes.

    A trace that has no classes but from 2 to `MAX_SLOS` different SLOs has a class for each SLO, smallest first.
    """
    if trace.class_codes is not None:
        return trace.class_names, trace.class_codes
    if isinstance(trace.slo_ns, int):
        return None
    slos, codes = np.unique(trace.slo_ns, return_inverse=True)
    if not 1 < len(slos) <= MAX_SLOS:
        return None
    return [f"SLO {slo / NS_PER_MS:g} ms" for slo in slos.tolist()], codes
