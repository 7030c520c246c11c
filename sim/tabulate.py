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

import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, cast

import numpy as np

from sim.errors import SsimError
from sim.policy import Dispatch, Policy, View, check_decision, policy_name
from sim.streams import stream
from sim.trace import read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from sim.latency import LatencyTable

MOST_TILES = 20_000
"""As many stretches of slack and queue length as are tried: a policy that needs more depends on every nanosecond."""

LONGEST_QUEUE = 4096
"""Queue lengths up to this are told apart if the policy tells them apart."""

PROBES = 2_000
"""Random situations in which the table is held against the policy."""

_FAR = 2**61
"""Beyond every slack and queue length."""


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
    name = policy_name(policy)
    if not getattr(getattr(policy, "__dataclass_params__", None), "frozen", False):
        raise NotTabulableError(name, "may remember", "", "a frozen dataclass has no memory")
    asked = _Asked(policy, table, dispatch_ns)
    try:
        columns = _merged(_columns(asked))
    except _Untraceable as reason:
        raise NotTabulableError(name, str(reason)) from None
    except Exception as error:
        raise NotTabulableError(name, f"raised {type(error).__name__}", str(error)) from error
    edges = sorted({edge for _, column in columns for edge, _ in column[1:]})
    from_ns = read_only(np.array(edges, dtype=np.int64))
    found = DecisionTable(from_ns, _grid(columns, edges, 0), _grid(columns, edges, 1), asked.calls)
    _hold_against(found, policy, table, dispatch_ns)
    return found


_Column = tuple[int, list[tuple[int, tuple[int, int]]]]
"""The last queue length that a column stands for; and from which slack on it decides what (subnet, batch size)."""


def _columns(asked: _Asked) -> Iterator[_Column]:
    """Yield the columns of the table by queue length, the last one for all longer queues."""
    length = 1
    while True:
        if length > LONGEST_QUEUE:
            raise _Untraceable(f"tells queues of more than {LONGEST_QUEUE} apart")
        column: list[tuple[int, tuple[int, int]]] = []
        last, slack = _FAR, -_FAR
        while slack <= _FAR:
            decision, slack_to, length_to = asked.decide(slack, length)
            last = min(last, length_to)
            if not column or column[-1][1] != decision:
                column.append((slack, decision))
            slack = slack_to + 1
        yield last, column
        if last >= _FAR:
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
        rows = np.searchsorted(starts, [-_FAR, *edges], side="right") - 1
        grid[:, first : min(last, lengths)] = np.array([column[row][1][part] for row in rows])[:, None]
        first = min(last, lengths)
    return read_only(grid)


def _hold_against(found: DecisionTable, policy: Policy, table: LatencyTable, dispatch_ns: int) -> None:
    """Ask the policy at every edge and in random situations, twice each, and compare.

    Raises:
        NotTabulableError: An answer differs from the table, or from the one before.
    """
    rng = stream(0, "probes")
    longest = 2 * max(found.subnets.shape[1], table.max_batch)
    span = 3 * int(table.latency_ns.max())
    slacks = [int(edge) + step for edge in found.from_ns for step in (-1, 0, 1)]
    slacks += rng.integers(-span, span, PROBES).tolist()
    for slack_ns, length in zip(slacks, rng.integers(1, longest + 1, len(slacks)).tolist(), strict=True):
        view = View(cast("Any", _Unseen("the clock")), slack_ns, length, table, cast("Any", _NoSystem(dispatch_ns)))
        for _ in range(2):
            decision = policy.decide(view)
            if decision != found.at(slack_ns, length):
                where = f"{policy_name(policy)}, slack {slack_ns} ns, {length} queued"
                right = f"{found.at(slack_ns, length)!r} by the table; a policy must depend on its view alone"
                raise NotTabulableError(where, "does not answer as it did", repr(decision), right)


class _Untraceable(BaseException):
    """What a policy does can't be followed. No `Exception`: a policy that catches those must not catch this."""


class _Unseen:
    """Something that a table knows nothing of; whoever looks at it is not tabulable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _stop(self, *_: object) -> NoReturn:
        raise _Untraceable(f"looks at {self._name}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _stop
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = __abs__ = __int__ = __float__ = _stop
    __index__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __round__ = __hash__ = _stop
    __eq__ = __ne__ = _stop


class _NoSystem:
    """The system behind a view, of which a table knows the overhead alone."""

    def __init__(self, dispatch_ns: int) -> None:
        self.dispatch_ns = dispatch_ns

    def __getattr__(self, name: str) -> NoReturn:
        raise _Untraceable(f"looks at system.{name}")


class _Asked:
    """A policy that is asked on stand-ins."""

    def __init__(self, policy: Policy, table: LatencyTable, dispatch_ns: int) -> None:
        self._policy, self._table, self._system = policy, table, cast("Any", _NoSystem(dispatch_ns))
        self.calls = 0

    def decide(self, slack_ns: int, length: int) -> tuple[tuple[int, int], int, int]:
        """Return the decision, and up to which slack and which queue length it is certain to be the same."""
        self.calls += 1
        if self.calls > MOST_TILES:
            raise _Untraceable(f"decides differently in more than {MOST_TILES} stretches of slack and queue length")
        slack, queue = _Reach(slack_ns), _Reach(length)
        view = View(cast("Any", _Unseen("the clock")), _standing(slack), _standing(queue), self._table, self._system)
        decision = self._policy.decide(view)
        if not isinstance(decision, Dispatch):
            raise _Untraceable(f"answers {type(decision).__name__}, which a table does not hold")
        if decision.worker is not None:
            raise _Untraceable("picks its worker")
        # Stand-ins that come back are pinned to their number, and the reach with them.
        subnet, size = operator.index(decision.subnet), operator.index(decision.batch_size)
        check_decision(Dispatch(subnet, size), View(0, slack_ns, length, self._table, self._system), self._policy)
        return (subnet, size), slack.up_to, queue.up_to


class _Reach:
    """A number, and the largest one up to which everything found out about it stays true."""

    __slots__ = ("number", "up_to")

    def __init__(self, number: int) -> None:
        self.number = number
        self.up_to = _FAR

    def keep(self, holds: Callable[[int], bool]) -> None:
        """Shorten the reach to where a statement holds that is true of the number and, once false, stays false."""
        low, high = self.number, self.up_to
        if holds(high):
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        self.up_to = low


def _standing(reach: _Reach) -> Any:
    return _StandIn(reach, lambda number: number)


class _StandIn:
    """Stands for a number that grows or falls with the number of a reach, through the policy's own arithmetic."""

    __slots__ = ("_of", "_reach")

    def __init__(self, reach: _Reach, of: Callable[[int], Any]) -> None:
        self._reach, self._of = reach, of

    def _then(self, step: Callable[[Any], Any]) -> _StandIn:
        of = self._of
        return _StandIn(self._reach, lambda number: step(of(number)))

    def _pinned(self, as_kind: Callable[[Any], Any]) -> Any:
        of = self._of
        value = as_kind(of(self._reach.number))
        self._reach.keep(lambda number: bool(as_kind(of(number)) == value))
        return value

    def _against(self, other: object) -> int:
        """Return -1, 0 or 1: how the number compares with a constant; shortens the reach to where that stays."""
        constant = _constant(other)
        of = self._of

        def side(number: int) -> int:
            value = of(number)
            return int(value > constant) - int(value < constant)

        here = side(self._reach.number)
        self._reach.keep(lambda number: side(number) == here)
        return here

    def __lt__(self, other: object) -> bool:
        return self._against(other) < 0

    def __le__(self, other: object) -> bool:
        return self._against(other) <= 0

    def __gt__(self, other: object) -> bool:
        return self._against(other) > 0

    def __ge__(self, other: object) -> bool:
        return self._against(other) >= 0

    def __eq__(self, other: object) -> bool:
        return self._against(other) == 0

    def __ne__(self, other: object) -> bool:
        return self._against(other) != 0

    def __bool__(self) -> bool:
        return self._against(0) != 0

    def __hash__(self) -> int:
        value: float = self._pinned(lambda value: value)
        return hash(value)

    def __index__(self) -> int:
        return int(self._pinned(operator.index))

    def __int__(self) -> int:
        return int(self._pinned(int))

    def __float__(self) -> float:
        return float(self._pinned(float))

    def __add__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: value + constant)

    __radd__ = __add__

    def __sub__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: value - constant)

    def __rsub__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: constant - value)

    def __mul__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: value * constant)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: value / constant)

    def __floordiv__(self, other: object) -> _StandIn:
        constant = _constant(other)
        return self._then(lambda value: value // constant)

    def __neg__(self) -> _StandIn:
        return self._then(operator.neg)

    def __pos__(self) -> _StandIn:
        return self

    def __round__(self, digits: SupportsIndex | None = None) -> _StandIn:
        return self._then(lambda value: round(value, digits) if digits is not None else round(value))

    def __floor__(self) -> _StandIn:
        return self._then(math.floor)

    def __ceil__(self) -> _StandIn:
        return self._then(math.ceil)

    def __trunc__(self) -> _StandIn:
        return self._then(math.trunc)

    def _stop(self, *_: object) -> NoReturn:
        raise _Untraceable("does arithmetic on slack or queue length that neither only grows nor only falls")

    __mod__ = __rmod__ = __rfloordiv__ = __rtruediv__ = __pow__ = __rpow__ = __abs__ = __divmod__ = _stop
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = __invert__ = _stop


def _constant(other: object) -> Any:
    """Return the other side of a comparison or an operation, if it is a number."""
    if isinstance(other, (_StandIn, _Unseen)):
        raise _Untraceable("brings slack and queue length, or one of them twice, into one expression")
    if not isinstance(other, (int, float, np.integer, np.floating, np.bool_)):
        raise _Untraceable(f"compares or combines a number with a {type(other).__name__}")
    return other
