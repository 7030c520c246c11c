"""The outcome of each query of a run, from the log of the compiled loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled.compiling import BOOL, BOOLS, BYTES, INT, INTS, NOTHING, READ_INTS, compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.compiling import Bools, Ints


@compiled(NOTHING(READ_INTS, INTS, INTS, INTS, BOOLS, INT, INTS, BOOL, INTS, BYTES))
def outcomes(
    deadline_ns: Ints,
    finish_ns: Ints,
    subnets: Ints,
    sizes: Ints,
    losses: Bools,
    rows: int,
    left: Ints,
    in_order: bool,
    batch_of: Ints,
    outcome: npt.NDArray[np.uint8],
) -> None:
    """Write each query's batch and its `sim.engine.run_metrics.Outcome`.

    Args:
        deadline_ns: Deadlines, int64, shape (queries,).
        finish_ns: Of each row of the log of a whole run the completion (`sim.compiled.loop_state.Log`).
        subnets: Its subnet; negative for dropped queries.
        sizes: Its number of queries.
        losses: Whether its worker failed.
        rows: Number of rows.
        left: As from `sim.compiled.kernel.advance`; anything if `in_order`.
        in_order: As there.
        batch_of: In: -1. Out: the number of the batch, if any, int64, shape (queries,).
        outcome: In: 3 (unfinished). Out: uint8, shape (queries,).
    """
    start, batch = np.uint64(0), 0
    for row in range(rows):
        # Unsigned: the compiler needs no code for negative indices.
        end, finish = start + np.uint64(sizes[row]), finish_ns[row]
        batched = subnets[row] >= 0
        answered = batched and not losses[row]
        if in_order and answered:
            for query in range(start, end):
                batch_of[query] = batch
                outcome[query] = finish > deadline_ns[query]
        else:
            for place in range(start, end):
                number = np.uint64(place if in_order else left[place])
                if batched:
                    batch_of[number] = batch
                outcome[number] = finish > deadline_ns[number] if answered else 2
        start = end
        batch += batched
