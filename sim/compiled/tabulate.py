"""Decision tables: the exact decisions of a plain Python policy by slack and queue length.

A policy that depends only on slack and queue length (and the latency table and its own constants) decides by
comparisons, so its decision changes at finitely many slacks. Tracing finds them: `decide` runs on symbolic numbers,
each of which records the interval on which all comparisons keep their result; the next trace starts behind it. The
bounds come from bisection through the policy's own arithmetic, so that its rounding is reproduced. Whatever can't be
traced (arithmetic between two symbolic numbers, the clock, random numbers) is refused with the reason; nothing is
guessed. The finished table is then validated against the policy itself.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import SsimError, raised
from sim.base.streams import stream
from sim.compiled.step_policy import DROP, HOLD, StepPolicy, decision_of
from sim.compiled.symbolic import (
    FAR,
    OpaqueSystem,
    OpaqueValue,
    SymbolicNumber,
    TraceContext,
    Untraceable,
    ValidityInterval,
    symbolic_number,
)
from sim.engine.policy import Dispatch, Drop, Hold, Policy, View, check_decision, policy_name, situation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sim.engine.policy import Decision
    from sim.tables.latency import LatencyTable

MAX_TRACES = 20_000
"""Limit on intervals of slack and queue length: a policy that needs more depends on every nanosecond."""

MAX_QUEUE = 4096
"""Limit on queue lengths that a policy distinguishes."""

MAX_CELLS = 100_000
"""Limit on decisions in a table."""

PROBES = 2_000
"""Random inputs on which the table is validated against the policy."""


class NotTabulableError(SsimError):
    """A policy can't be converted to a decision table, with the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionTable:
    """The decisions of a policy.

    Attributes:
        from_ns: Slacks at which some decision changes, increasing, int64, shape (slacks,).
        subnets: Subnet by slack interval and by queue length from 1; the last column stands for all longer queues.
            int64, shape (slacks + 1, lengths). `HOLD` and `DROP` of `sim.compiled.step_policy` for other decisions.
        sizes: Batch size, likewise; the slack until which to hold, or the number of queries to drop.
        calls: Number of calls of the policy.
        constants: What the decisions depend on beside latency table and policy, such as `slo_ns`: names of what does
            not change during a run of `sim.engine.policy.System`.
    """

    from_ns: npt.NDArray[np.int64]
    subnets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    calls: int = field(compare=False)
    constants: frozenset[str] = frozenset()

    @property
    def drops(self) -> bool:
        """Whether some decision is to drop queries."""
        return bool((self.subnets == DROP).any())

    def at(self, slack_ns: int, queue_length: int) -> Decision:
        """Return the decision for a slack and a queue length."""
        return self.in_all([(slack_ns, queue_length)])[0]

    def in_all(self, situations: Sequence[tuple[int, int]]) -> list[Decision]:
        """Return the decision for each slack and queue length."""
        slacks_ns, lengths = np.array(situations, dtype=np.int64).T
        rows = np.searchsorted(self.from_ns, slacks_ns, side="right")
        columns = np.minimum(lengths, self.subnets.shape[1]) - 1
        chosen = list(zip(self.subnets[rows, columns].tolist(), self.sizes[rows, columns].tolist(), strict=True))
        distinct = {pair: decision_of(*pair) for pair in set(chosen)}
        return [distinct[pair] for pair in chosen]


Rule: TypeAlias = DecisionTable | tuple[DecisionTable, ...] | StepPolicy
"""A policy for the compiled engine: a step policy; or a decision table, which is of one latency table (as the cluster
serves it) and one dispatch overhead; or several, one for each kind of workers in the order of the cluster."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The policies of several queues for the compiled engine.

    Attributes:
        by_queue: For each queue of the cluster a decision table, or one for each kind of workers.
    """

    by_queue: tuple[tuple[DecisionTable, ...], ...]


def tables_of(rule: DecisionTable | tuple[DecisionTable, ...]) -> tuple[DecisionTable, ...]:
    """Return the decision tables of a rule: one for each kind of workers, or one for all."""
    return (rule,) if isinstance(rule, DecisionTable) else rule


def tabulate(
    policy: Policy,
    table: LatencyTable,
    dispatch_ns: int = 0,
    workers: int | None = None,
    slo_ns: int | None = None,
    kind: str = "",
    queue: str = "",
) -> DecisionTable:
    """Return the decision table of a policy.

    Args:
        policy: A frozen dataclass with `decide(view)`: frozen means stateless.
        table: The latency table that it is used with, as the cluster serves it (`sim.engine.cluster.Cluster.served`).
        dispatch_ns: The overhead of a batch, on which it may depend.
        workers: Number of workers, on which it may depend unless they fail: then None.
        slo_ns: The SLO less the network's delay, likewise; None if it is unknown.
        kind: The kind of workers that it is offered.
        queue: The queue that it is offered.

    Raises:
        NotTabulableError: It has state, depends on other inputs, needs too many intervals, waits until an
            instant, picks workers, or is not deterministic.
    """
    name = type(policy).__name__
    _check_stateless(policy, name)
    context = TraceContext()
    try:
        name = policy_name(policy)
        given = {"dispatch_ns": dispatch_ns, "workers_alive": workers, "slo_ns": slo_ns}
        system = OpaqueSystem({name: value for name, value in given.items() if value is not None}, context)
        names = kind, queue
        tracer = _Tracer(policy, table, system, context, names)
        columns = _merged(_columns(tracer))
        edges = sorted({edge for _, column in columns for edge, _ in column[1:]})
        if len(edges) * len(columns) > MAX_CELLS:
            context.stop(f"needs more than {MAX_CELLS} decisions")
        from_ns = read_only(np.array(edges, dtype=np.int64))
        subnets, sizes = (_grid(columns, edges, part) for part in (0, 1))
        decisions = DecisionTable(from_ns, subnets, sizes, tracer.calls, frozenset(system.used))
        _validate(decisions, columns, policy, table, system, context, names)
    except Untraceable as reason:
        raise NotTabulableError(name, str(reason)) from None
    except NotTabulableError:
        raise
    except (Exception, SystemExit) as error:
        raise NotTabulableError(name, *raised(error)) from error
    return decisions


def _check_stateless(policy: Policy, name: str) -> None:
    """Refuse a policy that may have state: one that is not frozen, or has a mutable attribute.

    Raises:
        NotTabulableError: It may have state.
    """
    parameters = getattr(policy, "__dataclass_params__", None)
    if not getattr(parameters, "frozen", False):
        raise NotTabulableError(name, "may have state", "", "only frozen dataclasses are known to be stateless")
    for item in dataclasses.fields(cast("Any", policy)):
        value = getattr(policy, item.name)
        if not isinstance(value, (int, float, str, bytes, bool, tuple, frozenset, type(None))):
            raise NotTabulableError(
                name, "may have state", item.name, f"a {type(value).__name__} is mutable or not known to be immutable"
            )


_Column = tuple[int, list[tuple[int, tuple[int, int]]]]
"""The last queue length of a column, and its decisions: (first slack, (subnet, batch size)), as in `DecisionTable`."""


def _columns(tracer: _Tracer) -> Iterator[_Column]:
    """Yield the columns of the table by queue length, the last one for all longer queues."""
    length = 1
    while True:
        if length > MAX_QUEUE:
            tracer.give_up(f"distinguishes queue lengths above {MAX_QUEUE}")
        column: list[tuple[int, tuple[int, int]]] = []
        last, slack = FAR, -FAR
        while slack <= FAR:
            decision, slack_to, length_to = tracer.decide(slack, length)
            last = min(last, length_to)
            if not column or column[-1][1] != decision:
                column.append((slack, decision))
            slack = slack_to + 1
        yield last, column
        if last >= FAR:
            return
        length = last + 1


def _merged(columns: Iterator[_Column]) -> list[_Column]:
    """Return the columns without those equal to the one before: not every comparison changes a decision."""
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


def _validate(
    decisions: DecisionTable,
    columns: list[_Column],
    policy: Policy,
    table: LatencyTable,
    system: Any,
    context: TraceContext,
    names: tuple[str, str],
) -> None:
    """Compare the table with the policy at every edge of every column, on random inputs and far away, twice each.

    Raises:
        NotTabulableError: A decision differs from the table, or from the one before.
    """
    rng = stream(0, "probes")
    situations: list[tuple[int, int]] = []
    first = 1
    for last, column in columns:
        ends = {first, min(last, first + 10**6)}
        situations += [(edge + step, length) for edge, _ in column[1:] for step in (-1, 0, 1) for length in ends]
        first = last + 1
    longest, span = 2 * max(decisions.subnets.shape[1], table.max_batch), 3 * int(table.latency_ns.max())
    slacks, lengths = rng.integers(-span, span, PROBES).tolist(), rng.integers(1, longest + 1, PROBES).tolist()
    situations += list(zip(slacks, lengths, strict=True))
    far = [sign * 2**power for power in range(10, 50, 3) for sign in (-1, 1)]
    situations += [(slack, length) for slack in far + slacks[:20] for length in (1, 40, 300, 5_000, 10**6)]
    for number, ((slack_ns, length), expected) in enumerate(zip(situations, decisions.in_all(situations), strict=True)):
        # The clock runs: a policy that reads it in a way that tracing missed shows by its decisions.
        for now_ns in (number * 1_000_003, 10**15 + number):
            view = View(now_ns, slack_ns, length, table, system, *names)
            decision = policy.decide(view)
            context.check()
            check_decision(decision, view, policy)
            if decision != expected:
                location = f"{policy_name(policy)}, {situation(view)}"
                hint = f"{expected!r} in the table; a policy must depend on its view alone"
                raise NotTabulableError(location, "deviates from its decision table", repr(decision), hint)


class _Tracer:
    """Runs a policy on symbolic numbers."""

    def __init__(
        self, policy: Policy, table: LatencyTable, system: Any, context: TraceContext, names: tuple[str, str]
    ) -> None:
        self._policy, self._table, self._context, self._system, self._names = policy, table, context, system, names
        self.calls = 0

    def give_up(self, reason: str) -> NoReturn:
        """Fail the trace."""
        self._context.stop(reason)

    def decide(self, slack_ns: int, length: int) -> tuple[tuple[int, int], int, int]:
        """Return the decision, and the largest slack and queue length up to which it is certain to be the same."""
        self.calls += 1
        if self.calls > MAX_TRACES:
            self._context.stop(f"needs more than {MAX_TRACES} intervals of slack and queue length")
        slack, queue = ValidityInterval(slack_ns, self._context), ValidityInterval(length, self._context)
        clock = cast("Any", OpaqueValue("the clock", self._context))
        decision = self._policy.decide(
            View(clock, symbolic_number(slack), symbolic_number(queue), self._table, self._system, *self._names)
        )
        self._context.check()
        parts: tuple[Any, Any] = (0, 0)
        if type(decision) is Dispatch:
            if decision.worker is not None:
                self._context.stop("picks its worker")
            parts = decision.subnet, decision.batch_size
        elif type(decision) is Hold:
            if slack_ns == -FAR:
                self._context.stop("would hold for ever: it holds queries that have no slack left")
            parts = HOLD, decision.until_slack_ns
        elif type(decision) is Drop:
            parts = DROP, decision.count
        else:
            self._context.stop(f"returns {type(decision).__name__}, which a decision table can't hold")
        # Symbolic numbers in the decision are fixed to their concrete value, which shortens the interval.
        subnet, size = (operator.index(part) if issubclass(type(part), SymbolicNumber) else part for part in parts)
        found = type(decision)(*((subnet, size) if type(decision) is Dispatch else (size,)))
        check_decision(found, View(0, slack_ns, length, self._table, self._system, *self._names), self._policy)
        return (int(subnet), int(size)), slack.upper, queue.upper
