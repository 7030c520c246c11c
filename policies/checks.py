"""The public check that any policy must pass, one's own included: `check_policy(policy, table)`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import PolicyError, raised
from sim.base.streams import stream
from sim.engine.policy import Decision, Policy, View, check_decision, policy_name, situation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class StillSystem:
    """A system that stands still, for asking a policy without an engine.

    Attributes:
        deadlines: Deadlines of the queued queries in nanoseconds, increasing.
        free: The free workers.
        workers_alive: Workers that have not failed.
        dispatch_ns: Overhead of each batch.
        arrivals: How many queries arrived in any window.
        loaded: The subnet on every worker, or None.
        rng: The policy's random stream.
    """

    deadlines: tuple[int, ...]
    free: tuple[int, ...] = (0,)
    workers_alive: int = 1
    dispatch_ns: int = 0
    arrivals: int = 1
    loaded: int | None = None
    rng: np.random.Generator = field(default_factory=lambda: stream(0, "policy"))

    def free_workers(self) -> Sequence[int]:
        """Return the free workers, in order."""
        return self.free

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet on a worker."""
        return self.loaded

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queued queries."""
        return self.deadlines[:count]

    def arrivals_within(self, window_ns: int) -> int:
        """Return how many queries arrived in a window."""
        return self.arrivals


def still_view(table: LatencyTable, *, slack_ns: int, queue_length: int = 1, now_ns: int = 0, seed: int = 0) -> View:
    """Return a view of a system of one free worker in which all queued queries have the same deadline.

    Args:
        table: The latency table.
        slack_ns: Slack of the most urgent query.
        queue_length: Queries waiting.
        now_ns: The instant.
        seed: Of the policy's random stream.
    """
    deadlines = (now_ns + slack_ns,) * queue_length
    system = StillSystem(deadlines, arrivals=queue_length, rng=stream(seed, "policy"))
    return View(now_ns, slack_ns, queue_length, table, system)


def check_policy(policy: Policy, table: LatencyTable) -> None:
    """Check that a policy keeps the rules, over the situations in which decisions change.

    It is asked at every latency of the table, a nanosecond to either side, far below and far above, with queues
    shorter and longer than the batches. It must answer with something that can be carried out, and leave the view as
    it was. A frozen dataclass has no memory, so it must give the same answer to the same view (and the same random
    stream) again.

    Args:
        policy: Any object with `decide(view)`.
        table: The latency table that it is to be used with.

    Raises:
        PolicyError: What the policy did, and in which situation.
    """
    frozen = bool(getattr(getattr(policy, "__dataclass_params__", None), "frozen", False))
    for slack_ns, queue_length, now_ns in _situations(table):
        answer = _ask(policy, table, slack_ns, queue_length, now_ns)
        if frozen and _ask(policy, table, slack_ns, queue_length, now_ns) != answer:
            problem = "is frozen, but decides differently on the same view"
            view = still_view(table, slack_ns=slack_ns, queue_length=queue_length, now_ns=now_ns)
            location = f"{policy_name(policy)}, {situation(view)}"
            raise PolicyError(location, problem, repr(answer), "a policy with state must not be a frozen dataclass")


def ask(policy: Policy, view: View) -> Decision:
    """Return a policy's decision, which can be carried out.

    Raises:
        PolicyError: The policy raised, or its decision cannot be carried out; names line and situation.
    """
    try:
        decision = policy.decide(view)
    except (Exception, SystemExit) as error:
        raise PolicyError(policy_name(policy), *raised(error, situation(view))) from error
    check_decision(decision, view, policy)
    return decision


def _ask(policy: Policy, table: LatencyTable, slack_ns: int, queue_length: int, now_ns: int) -> object:
    view = still_view(table, slack_ns=slack_ns, queue_length=queue_length, now_ns=now_ns)
    before = table.dense_ns.copy()
    decision = ask(policy, view)
    if not np.array_equal(before, table.dense_ns):
        raise PolicyError(policy_name(policy), "changed the latency table", "", "a view is read-only")
    return decision


def _situations(table: LatencyTable) -> Iterator[tuple[int, int, int]]:
    """Yield slack, queue length and instant."""
    latencies = sorted({int(latency) for latency in table.latency_ns.flat})
    edges = {latency + step for latency in latencies for step in (-1, 0, 1)}
    slacks = sorted(edges | {-10 * latencies[-1], -1, 0, 10 * latencies[-1]})
    queues = sorted({1, 2, *table.batch_sizes, table.max_batch + 1, 10 * table.max_batch})
    for slack_ns in slacks:
        for queue_length in queues:
            yield slack_ns, queue_length, max(0, -slack_ns)
            yield slack_ns, queue_length, 3_600_000_000_000
