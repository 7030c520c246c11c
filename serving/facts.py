"""Figures of a live run beside its result: delays, attainment at the client, and whether the run counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.base.units import NS_PER_MS, format_ms
from sim.engine.metrics import slo_attainment
from sim.engine.result import NONE
from sim.engine.run_metrics import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from serving.session import LiveRun

MOST_SEND_LAG_NS = 5 * NS_PER_MS
"""A run is void if the 99th percentile of its send lag is above: it did not have the arrivals that were asked for."""

MOST_EXTRA_NS = 10 * NS_PER_MS
"""A run is void if the 99th percentile of what batches took beyond their expected time is above."""


def delays_ns(run: LiveRun) -> dict[str, npt.NDArray[np.int64]]:
    """Return the delays of a live run, one number for each query or batch, in nanoseconds.

    Returns:
        The first three are empty if queries came from clients of others, who keep their times for themselves.
        `send_lag`: sent after the intended instant; `receive_lag`: received by the router after it was sent;
        `answer_lag`: answer at the client after that at the router; `dispatch`: from the decision to the answer, less
        the forward pass; `extra`: from the decision to the answer, less the expected time; `decide`: one decision.
    """
    done = [one for one in run.log.batches if not one.lost]
    start, begun, ended, finish, expected = (
        np.array(
            [(one.start_ns, one.begun_ns, one.ended_ns, one.finish_ns, one.expected_ns) for one in done], dtype=np.int64
        )
        .reshape(-1, 5)
        .T
    )
    answered, sent = run.answered_ns != NONE, run.sent_ns != NONE
    return {
        "send_lag": (run.sent_ns - run.intended_ns)[sent],
        "receive_lag": (np.array(run.log.arrival_ns, dtype=np.int64) - run.sent_ns)[sent],
        "answer_lag": (run.answered_ns - np.array(run.log.answered_ns, dtype=np.int64))[answered],
        "dispatch": finish - start - (ended - begun),
        "extra": finish - start - expected,
        "decide": np.array(run.decide_ns, dtype=np.int64),
    }


def facts(run: LiveRun) -> dict[str, Any]:
    """Return the figures of a live run beside those of its result; delays in ms as [median, 99th percentile].

    Both attainments count the same queries: those that the result measures.
    """
    delays = delays_ns(run)
    slo_ns, latency_ns = run.result.trace.slo_ns, run.answered_ns - run.intended_ns
    met = (run.answered_ns != NONE) & (latency_ns <= slo_ns)
    received_ns, measure = run.result.trace.arrival_ns, run.result.measure
    counts = (received_ns >= measure.from_ns) & (received_ns < measure.limit_ns(run.result.trace.duration_ns))
    return {
        **{f"{name}_ms": _quantiles_ms(values) for name, values in delays.items()},
        "slo_attainment_router": slo_attainment(run.result),
        "slo_attainment_client": float(met[counts].mean()) if (run.sent_ns != NONE).any() else None,
        "slo_ns": min(filter(None, run.log.least_slos_ns)),
        **({"queue_slos_ns": list(run.log.least_slos_ns)} if len(run.log.least_slos_ns) > 1 else {}),
        "rejected": int(np.count_nonzero(run.result.outcome == Outcome.REJECTED)),
        "cancelled": int(np.count_nonzero(run.result.outcome == Outcome.CANCELLED)),
        "lost": sum(one.start.size for one in run.log.batches if one.lost),
        "failed": len(run.log.uncomputed),
        "received": len(run.log.arrival_ns),
        "unsent": run.unsent,
        "unfinished": int(np.count_nonzero(run.result.outcome == Outcome.UNFINISHED)),
        "faults": list(run.log.faults),
        "void": void_reasons(delays),
    }


def void_reasons(delays: Mapping[str, npt.NDArray[np.int64]]) -> list[str]:
    """Return why a run does not count: the machine was too busy to do what was asked for. Empty if it does.

    Args:
        delays: Those of `delays_ns` that are known.
    """
    limits = {"send_lag": ("send lag", MOST_SEND_LAG_NS), "extra": ("time beyond the expected", MOST_EXTRA_NS)}
    found = []
    for name, (words, limit_ns) in limits.items():
        values = delays.get(name, ())
        if len(values) and (high := float(np.quantile(values, 0.99))) > limit_ns:
            found.append(f"p99 of the {words} is {high / NS_PER_MS:.1f} ms, above {format_ms(limit_ns)}")
    return found


def _quantiles_ms(values: npt.NDArray[np.int64]) -> list[float] | None:
    """Return median and 99th percentile in milliseconds; None without values."""
    if not len(values):
        return None
    return [round(value / NS_PER_MS, 6) for value in np.quantile(values, (0.5, 0.99)).tolist()]
