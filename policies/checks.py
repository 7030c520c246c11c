"""The public check of policies, including a user's own: `check_policy(policy, table)`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import PolicyError, SsimError, raised, user_function
from sim.base.streams import stream
from sim.engine.policy import Decision, Policy, View, check_decision, policy_name, situation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class StaticSystem:
    """A static system, to call a policy without an engine.

    Attributes:
        deadlines: Deadlines of the queued queries in nanoseconds, increasing.
        free: The free workers.
        workers_alive: Workers that have not failed.
        dispatch_ns: Overhead of each batch.
        slo_ns: The SLO of all queries.
        arrivals: Number of arrivals in any window.
        loaded: The subnet on every worker, or None.
        rng: The policy's random stream.
    """

    deadlines: tuple[int, ...]
    free: tuple[int, ...] = (0,)
    workers_alive: int = 1
    dispatch_ns: int = 0
    slo_ns: int = 0
    arrivals: int = 1
    loaded: int | None = None
    rng: np.random.Generator = field(default_factory=lambda: stream(0, "policy"))

    def free_workers(self) -> Sequence[int]:
        """Return the free workers, in order."""
        return self.free

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet on a worker."""
        return self.loaded

    def loading_ns(self, subnet: int, worker: int) -> int:
        """Return 0: all weights are resident."""
        return 0

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queued queries."""
        return self.deadlines[:count]

    def arrivals_within(self, window_ns: int) -> int:
        """Return the number of arrivals in a window."""
        return self.arrivals


def static_view(table: LatencyTable, *, slack_ns: int, queue_length: int = 1, now_ns: int = 0, seed: int = 0) -> View:
    """Return a view of a system of one free worker in which all queued queries have the same deadline.

    Its SLO is twice the largest latency of the table.

    Args:
        table: The latency table.
        slack_ns: Slack of the most urgent query.
        queue_length: Queries waiting.
        now_ns: Time of the decision.
        seed: Seed of the policy's random stream.
    """
    deadlines = (now_ns + slack_ns,) * queue_length
    slo_ns = 2 * int(table.latency_ns.max())
    system = StaticSystem(deadlines, slo_ns=slo_ns, arrivals=queue_length, rng=stream(seed, "policy"))
    return View(now_ns, slack_ns, queue_length, table, system)


def check_policy(policy: Policy, table: LatencyTable) -> None:
    """Check that a policy obeys its interface, on the inputs at which decisions change.

    It is called at every latency of the table, a nanosecond to either side, far below and far above, with queues
    shorter and longer than the batches. It must return a decision that can be carried out, and must not change the
    view. A frozen dataclass is stateless, so it must return the same decision for the same view (and the same random
    stream).

    Args:
        policy: Any object with `decide(view)`.
        table: The latency table that it will be used with.

    Raises:
        PolicyError: The fault of the policy, with the inputs.
    """
    frozen = bool(getattr(getattr(policy, "__dataclass_params__", None), "frozen", False))
    for slack_ns, queue_length, now_ns in _inputs(table):
        decision = _call(policy, table, slack_ns, queue_length, now_ns)
        if frozen and _call(policy, table, slack_ns, queue_length, now_ns) != decision:
            problem = "is frozen, but decides differently on the same view"
            view = static_view(table, slack_ns=slack_ns, queue_length=queue_length, now_ns=now_ns)
            location = f"{policy_name(policy)}, {situation(view)}"
            found = "; ".join(filter(None, (repr(decision), user_function(type(policy).decide))))
            raise PolicyError(location, problem, found, "a policy with state must not be a frozen dataclass")


def ask(policy: Policy, view: View) -> Decision:
    """Return a policy's decision, which can be carried out.

    Raises:
        PolicyError: The policy raised, or its decision cannot be carried out; names line and situation.
    """
    if not callable(getattr(policy, "decide", None)):
        raise PolicyError(type(policy).__name__, "has no method decide(view)", "", "see sim.engine.policy.Policy")
    try:
        decision = policy.decide(view)
    except (Exception, SystemExit) as error:
        told = "" if isinstance(error, SsimError) else situation(view)  # a parameter that does not fit the table
        raise PolicyError(policy_name(policy), *raised(error, told)) from error
    check_decision(decision, view, policy)
    return decision


def _call(policy: Policy, table: LatencyTable, slack_ns: int, queue_length: int, now_ns: int) -> object:
    view = static_view(table, slack_ns=slack_ns, queue_length=queue_length, now_ns=now_ns)
    before = table.dense_ns.copy()
    decision = ask(policy, view)
    if not np.array_equal(before, table.dense_ns):
        raise PolicyError(policy_name(policy), "changed the latency table", "", "a view is read-only")
    return decision


def _inputs(table: LatencyTable) -> Iterator[tuple[int, int, int]]:
    """Yield slack, queue length and time."""
    latencies = sorted({int(latency) for latency in table.latency_ns.flat})
    edges = {latency + step for latency in latencies for step in (-1, 0, 1)}
    slacks = sorted(edges | {-10 * latencies[-1], -1, 0, 10 * latencies[-1]})
    queues = sorted({1, 2, *table.batch_sizes, table.max_batch + 1, 10 * table.max_batch})
    for slack_ns in slacks:
        for queue_length in queues:
            yield slack_ns, queue_length, max(0, -slack_ns)
            yield slack_ns, queue_length, 3_600_000_000_000
