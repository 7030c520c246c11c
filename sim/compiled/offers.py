"""The order in which queues are offered a free worker, for the compiled loops; see `sim.engine.offers.Offers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled.compiling import BOOLS, FLOATS, INT, INTS, READ_FLOATS, READ_GRID, READ_INTS, compiled
from sim.compiled.loop_state import FAR
from sim.compiled.queue_state import PRIORITY, SLACK

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Floats, Ints


@compiled(INT(INT, READ_GRID, READ_INTS, INT, INTS, INTS, BOOLS))
def most_urgent(order: int, alone_ns: Ints, ranks: Ints, kind: int, head_ns: Ints, length: Ints, offered: Bools) -> int:
    """Return the queue that is offered next to a kind of workers by `EDF`, `SLACK` or `PRIORITY`, or -1 for none.

    Args:
        order: The order of offers.
        alone_ns: As in `sim.compiled.queue_state.QueueSetting`.
        ranks: The priority of each queue.
        kind: The kind.
        head_ns: The deadline of the most urgent query of each queue.
        length: Queries that wait in each.
        offered: Queues that were offered already.
    """
    found, best_ns, best_rank = -1, FAR, FAR
    for place in range(len(length)):
        if length[place] > 0 and not offered[place]:
            due_ns = head_ns[place] - (alone_ns[place, kind] if order == SLACK else 0)
            rank = ranks[place] if order == PRIORITY else 0
            if rank < best_rank or (rank == best_rank and due_ns < best_ns):
                found, best_ns, best_rank = place, due_ns, rank
    return found


@compiled(INT(BOOLS, FLOATS, INT, FLOATS))
def begin(offered: Bools, deficit: Floats, turn: int, ahead: Floats) -> int:
    """Return whose turn it is, with a copy of what each queue may use, where all of them are to be offered anew."""
    for place in range(len(offered)):
        offered[place] = False
        ahead[place] = deficit[place]
    return turn


@compiled(INT(READ_FLOATS, INTS, BOOLS, FLOATS, INT))
def in_turn(  # noqa: C901, PLR0912 - the steps of deficit round robin
    quantum_ns: Floats, length: Ints, offered: Bools, deficit: Floats, turn: int
) -> int:
    """Return the queue whose turn it is under `FAIR`, or -1 for none; see `sim.engine.offers.Offers`.

    Args:
        quantum_ns: The quantum of each queue.
        length: Queries that wait in each.
        offered: Queues that were offered already.
        deficit: In and out: what each queue may still use.
        turn: The queue whose turn it was.
    """
    left = 0
    for place in range(len(deficit)):
        if length[place] == 0 or offered[place]:
            deficit[place] = min(deficit[place], 0.0)
        else:
            left += 1
    if left == 0:
        return -1
    if length[turn] > 0 and not offered[turn] and deficit[turn] > 0:
        return turn
    rounds = np.inf  # after which no queue has anything to use yet: a light queue may need many
    for place in range(len(deficit)):
        if length[place] > 0 and not offered[place]:
            rounds = min(rounds, -deficit[place] // quantum_ns[place])
    if rounds > 0:
        for place in range(len(deficit)):
            if length[place] > 0 and not offered[place]:
                deficit[place] += rounds * quantum_ns[place]
    while True:
        turn = (turn + 1) % len(deficit)
        if length[turn] > 0 and not offered[turn]:
            deficit[turn] += quantum_ns[turn]
            if deficit[turn] > 0:
                return turn
