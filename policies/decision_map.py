"""What a policy decides over slack and queue length, as the figure of it needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from policies.checks import ask, static_view
from sim.engine.policy import Dispatch, Drop

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


class DecisionMap(NamedTuple):
    """The arguments of `figures.decisions.draw_decisions`, by their names."""

    slack_ms: npt.NDArray[np.float64]
    queue_lengths: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    batch_size: npt.NDArray[np.float64]
    other: npt.NDArray[np.str_]


MOST_LENGTHS = 256
"""The longest queue that is drawn."""


def decision_map(policy: Policy, table: LatencyTable, slack_ms: float = 0.0, queue_length: int = 0) -> DecisionMap:
    """Return what a policy decides at slacks from below 0 to above the slowest batch, and up to two batches waiting.

    Args:
        policy: The policy.
        table: The latency table.
        slack_ms: A slack to which the map reaches at least.
        queue_length: A length to which it reaches at least, unless it is above `MOST_LENGTHS`.

    Raises:
        PolicyError: The policy raised, or its decision cannot be carried out.
    """
    slowest_ms = float(table.latency_ns.max()) / 1e6
    edges = np.linspace(-0.1 * slowest_ms, max(1.2 * slowest_ms, slack_ms), 521)
    lengths = np.arange(1, max(2 * table.max_batch, min(queue_length, MOST_LENGTHS)) + 1)
    shape = (len(lengths), len(edges) - 1)
    accuracy, size = np.full(shape, np.nan), np.full(shape, np.nan)
    other = np.full(shape, "", dtype="U4")
    for row, length in enumerate(lengths.tolist()):
        for column, middle_ms in enumerate((edges[:-1] + edges[1:]) / 2):
            decision = ask(policy, static_view(table, slack_ns=round(middle_ms * 1e6), queue_length=length))
            if isinstance(decision, Dispatch):
                accuracy[row, column] = table.subnets[decision.subnet].accuracy
                size[row, column] = decision.batch_size
            else:
                other[row, column] = "drop" if isinstance(decision, Drop) else "hold"
    return DecisionMap(edges, lengths, accuracy, size, other)
