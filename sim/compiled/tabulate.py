"""Policies as tables: the decisions of a plain Python policy by slack and queue length, found exactly.

A policy that looks at nothing but slack and queue length (and the table, and its own constants) decides by comparisons,
so its decision changes at finitely many slacks. They are found by running `decide` on stand-ins for the two numbers. A
stand-in answers each comparison for the number that it stands for, and keeps the largest number up to which all
answers so far stay the same; the next run starts behind it. The bounds are found by bisection through the policy's own
arithmetic, so that its rounding is reproduced. What can't be followed (arithmetic between two stand-ins, a look at the
clock, a random number) ends the attempt with the reason; nothing is guessed. The finished table is then held against
the policy itself.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import SsimError, raised
from sim.base.streams import stream
from sim.compiled.symbolic import FAR, NoSystem, Reach, StandIn, Trail, Unseen, Untraceable, standing_for
from sim.engine.policy import Dispatch, Policy, View, check_decision, policy_name, situation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sim.tables.latency import LatencyTable

MOST_TILES = 20_000
"""As many stretches of slack and queue length as are tried: a policy that needs more depends on every nanosecond."""

LONGEST_QUEUE = 4096
"""Queue lengths up to this are told apart if the policy tells them apart."""

MOST_CELLS = 100_000
"""As many decisions as a table may hold."""

PROBES = 2_000
"""Random situations in which the table is held against the policy."""


class NotTabulableError(SsimError):
    """A policy can't be written as a table; says why."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionTable:
    """The decisions of a policy.

    Attributes:
        from_ns: Slacks at which some decision changes, increasing, int64, shape (slacks,).
        subnets: Subnet decided on, by how many of these slacks are reached, and by queue length from 1; the last column
            stands for all longer queues. int64, shape (slacks + 1, lengths).
        sizes: Batch size decided on, likewise.
        calls: How often the policy was asked.
    """

    from_ns: npt.NDArray[np.int64]
    subnets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    calls: int = field(compare=False)

    def at(self, slack_ns: int, queue_length: int) -> Dispatch:
        """Return the decision in a situation."""
        row = int(np.searchsorted(self.from_ns, slack_ns, side="right"))
        column = min(queue_length, self.subnets.shape[1]) - 1
        return Dispatch(int(self.subnets[row, column]), int(self.sizes[row, column]))


def tabulate(policy: Policy, table: LatencyTable, dispatch_ns: int = 0) -> DecisionTable:
    """Return a policy as a table.

    Args:
        policy: A frozen dataclass with `decide(view)`: frozen means that it has no memory.
        table: The latency table that it is used with.
        dispatch_ns: The overhead of a batch, which it may look at.

    Raises:
        NotTabulableError: It has a memory, looks at something else, needs too many stretches, waits, drops, picks
            workers, or does not give the same answer to the same view.
    """
    name = type(policy).__name__
    _check_memory(policy, name)
    trail = Trail()
    try:
        name = policy_name(policy)
        asked = _Asked(policy, table, dispatch_ns, trail)
        columns = _merged(_columns(asked))
        edges = sorted({edge for _, column in columns for edge, _ in column[1:]})
        if len(edges) * len(columns) > MOST_CELLS:
            trail.stop(f"needs a table of more than {MOST_CELLS} decisions")
        from_ns = read_only(np.array(edges, dtype=np.int64))
        found = DecisionTable(from_ns, _grid(columns, edges, 0), _grid(columns, edges, 1), asked.calls)
        _hold_against(found, columns, policy, table, dispatch_ns, trail)
    except Untraceable as reason:
        raise NotTabulableError(name, str(reason)) from None
    except NotTabulableError:
        raise
    except (Exception, SystemExit) as error:
        raise NotTabulableError(name, *raised(error)) from error
    return found


def _check_memory(policy: Policy, name: str) -> None:
    """Refuse a policy that may remember: one that is not frozen, or holds something that can change.

    Raises:
        NotTabulableError: It may.
    """
    parameters = getattr(policy, "__dataclass_params__", None)
    if not getattr(parameters, "frozen", False):
        raise NotTabulableError(name, "may remember", "", "a frozen dataclass has no memory")
    for item in dataclasses.fields(cast("Any", policy)):
        held = getattr(policy, item.name)
        if not isinstance(held, (int, float, str, bytes, bool, tuple, frozenset, type(None))):
            raise NotTabulableError(
                name, "may remember", item.name, f"it holds a {type(held).__name__}, which may change"
            )


_Column = tuple[int, list[tuple[int, tuple[int, int]]]]
"""The last queue length that a column stands for; and from which slack on it decides what (subnet, batch size)."""


def _columns(asked: _Asked) -> Iterator[_Column]:
    """Yield the columns of the table by queue length, the last one for all longer queues."""
    length = 1
    while True:
        if length > LONGEST_QUEUE:
            asked.give_up(f"tells queues of more than {LONGEST_QUEUE} apart")
        column: list[tuple[int, tuple[int, int]]] = []
        last, slack = FAR, -FAR
        while slack <= FAR:
            decision, slack_to, length_to = asked.decide(slack, length)
            last = min(last, length_to)
            if not column or column[-1][1] != decision:
                column.append((slack, decision))
            slack = slack_to + 1
        yield last, column
        if last >= FAR:
            return
        length = last + 1


def _merged(columns: Iterator[_Column]) -> list[_Column]:
    """Return the columns without those that decide as the one before: a comparison may have parted them in vain."""
    merged: list[_Column] = []
    for last, column in columns:
        if merged and merged[-1][1] == column:
            merged[-1] = (last, column)
        else:
            merged.append((last, column))
    return merged


def _grid(columns: list[_Column], edges: list[int], part: int) -> npt.NDArray[np.int64]:
    """Return one part of the decisions by slack and queue length, int64, shape (edges + 1, lengths)."""
    lengths = (columns[-2][0] if len(columns) > 1 else 0) + 1
    grid = np.empty((len(edges) + 1, lengths), dtype=np.int64)
    first = 0
    for last, column in columns:
        starts = [start for start, _ in column]
        rows = np.searchsorted(starts, [-FAR, *edges], side="right") - 1
        grid[:, first : min(last, lengths)] = np.array([column[row][1][part] for row in rows])[:, None]
        first = min(last, lengths)
    return read_only(grid)


def _hold_against(
    found: DecisionTable,
    columns: list[_Column],
    policy: Policy,
    table: LatencyTable,
    dispatch_ns: int,
    trail: Trail,
) -> None:
    """Ask the policy at every edge of every column, in random situations and far away, twice each, and compare.

    Raises:
        NotTabulableError: An answer differs from the table, or from the one before.
    """
    rng = stream(0, "probes")
    situations: list[tuple[int, int]] = []
    first = 1
    for last, column in columns:
        ends = {first, min(last, first + 10**6)}
        situations += [(edge + step, length) for edge, _ in column[1:] for step in (-1, 0, 1) for length in ends]
        first = last + 1
    longest, span = 2 * max(found.subnets.shape[1], table.max_batch), 3 * int(table.latency_ns.max())
    slacks, lengths = rng.integers(-span, span, PROBES).tolist(), rng.integers(1, longest + 1, PROBES).tolist()
    situations += list(zip(slacks, lengths, strict=True))
    far = [sign * 2**power for power in range(10, 50, 3) for sign in (-1, 1)]
    situations += [(slack, length) for slack in far + slacks[:20] for length in (1, 40, 300, 5_000, 10**6)]
    system = cast("Any", NoSystem(dispatch_ns, trail))
    for number, (slack_ns, length) in enumerate(situations):
        # A clock that goes, and answers: whoever reads it in a way that was not noticed is noticed by what it decides.
        for now_ns in (number * 1_000_003, 10**15 + number):
            view = View(now_ns, slack_ns, length, table, system)
            decision = policy.decide(view)
            trail.check()
            check_decision(decision, View(now_ns, slack_ns, length, table, system), policy)
            if decision != found.at(slack_ns, length):
                where = f"{policy_name(policy)}, {situation(view)}"
                right = f"{found.at(slack_ns, length)!r} by the table; a policy must depend on its view alone"
                raise NotTabulableError(where, "does not answer as it did", repr(decision), right)


class _Asked:
    """A policy that is asked on stand-ins."""

    def __init__(self, policy: Policy, table: LatencyTable, dispatch_ns: int, trail: Trail) -> None:
        self._policy, self._table, self._trail = policy, table, trail
        self._system = cast("Any", NoSystem(dispatch_ns, trail))
        self.calls = 0

    def give_up(self, reason: str) -> NoReturn:
        """End the attempt."""
        self._trail.stop(reason)

    def decide(self, slack_ns: int, length: int) -> tuple[tuple[int, int], int, int]:
        """Return the decision, and up to which slack and which queue length it is certain to be the same."""
        self.calls += 1
        if self.calls > MOST_TILES:
            self._trail.stop(f"decides differently in more than {MOST_TILES} stretches of slack and queue length")
        slack, queue = Reach(slack_ns, self._trail), Reach(length, self._trail)
        clock = cast("Any", Unseen("the clock", self._trail))
        decision = self._policy.decide(View(clock, standing_for(slack), standing_for(queue), self._table, self._system))
        self._trail.check()
        if type(decision) is not Dispatch:
            self._trail.stop(f"answers {type(decision).__name__}, which a table does not hold")
        if decision.worker is not None:
            self._trail.stop("picks its worker")
        # Stand-ins that come back are pinned to their number, and the reach with them; all else is left to the check.
        parts: tuple[Any, Any] = (decision.subnet, decision.batch_size)
        subnet, size = (operator.index(part) if issubclass(type(part), StandIn) else part for part in parts)
        check_decision(Dispatch(subnet, size), View(0, slack_ns, length, self._table, self._system), self._policy)
        return (int(subnet), int(size)), slack.up_to, queue.up_to
