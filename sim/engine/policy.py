"""The interface of policies: their view of the system, and their decisions.

A policy is a frozen dataclass with one method, `decide(view) -> Decision`; its fields are its parameters. It is called
whenever a worker is free and the queue is not empty, repeatedly until no worker is free, the queue is empty or it
waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from sim.base.errors import PolicyError, SpecError, user_function
from sim.base.units import format_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable


class System(Protocol):
    """Further state of the running system, computed only when a policy asks for it."""

    @property
    def workers_alive(self) -> int:
        """Workers that have not failed, of those that serve this queue."""
        ...

    @property
    def dispatch_ns(self) -> int:
        """Overhead of each batch, already subtracted from the slack."""
        ...

    @property
    def slo_ns(self) -> int:
        """The smallest SLO of the queries in this queue, less the network's delay."""
        ...

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of the policy."""
        ...

    def free_workers(self) -> Sequence[int]:
        """Return the free workers of the kind that is offered, in order."""
        ...

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet (index into its kind's table) that a worker runs or last ran; None before its first.

        None, too, after a subnet that this queue does not have.
        """
        ...

    def loading_ns(self, subnet: int, worker: int) -> int:
        """Return how long a batch on a subnet would wait until its weights are loaded on a worker.

        0 if they are resident, as all are where the memory of workers has no limit.
        """
        ...

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queued queries, less the network's delay, the earliest first."""
        ...

    def arrivals_within(self, window_ns: int) -> int:
        """Return the number of queries of this queue that arrived in the last `window_ns`, now included."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """The inputs of a decision.

    Attributes:
        now_ns: The instant of the decision.
        slack_ns: Deadline of the most urgent query minus now minus dispatch overhead and network delay, comparable with
            latencies of the table. Negative if the query is already late.
        queue_length: Queries waiting, one or more.
        table: The latency table of the workers that are offered, which are all of one kind, for this queue; its
            latencies include the overhead of each query of a batch.
        system: Further state: free workers, and the deadlines and arrivals of this queue.
        kind: The name of the kind of these workers; empty if the cluster has no kinds.
        queue: The name of the queue that the decision is about; empty if the cluster has no queues.
    """

    now_ns: int
    slack_ns: int
    queue_length: int
    table: LatencyTable
    system: System
    kind: str = ""
    queue: str = ""

    def rate_per_s(self, window_ns: int) -> float:
        """Return the arrival rate over the last `window_ns`, or over the whole run if that is shorter."""
        window = max(1, min(window_ns, self.now_ns))
        return self.system.arrivals_within(window_ns) * 1e9 / window


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run up to `batch_size` of the most urgent queries on one subnet, now.

    Attributes:
        subnet: Index into the table's subnets.
        batch_size: Maximum number of queries; fewer run if fewer are waiting.
        worker: A free worker of the kind that is offered. None for the one with the lowest number: of those that have
            the weights of the subnet loaded soonest, where the memory of workers is limited.
    """

    subnet: int
    batch_size: int
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until the next arrival, completion, failure or recovery, but no longer than `until_ns`."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Do nothing until the slack has come down to `until_slack_ns`, or anything else happens.

    The same as `Wait(now_ns + slack_ns - until_slack_ns)`, but without the clock, so that a policy that holds can be a
    decision table. It ends before the batch of the most urgent query is due, so that no policy can hold for ever.

    Attributes:
        until_slack_ns: 0 or more, and less than the slack.
    """

    until_slack_ns: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the `count` most urgent queries, which are the hopeless ones in a queue ordered by deadline."""

    count: int


Decision: TypeAlias = Dispatch | Wait | Hold | Drop


class Policy(Protocol):
    """The interface of every policy."""

    def decide(self, view: View) -> Decision:
        """Return the next action for the most urgent queries."""
        ...


def policies_of(policy: Policy | Mapping[str, Policy], cluster: Cluster) -> list[Policy]:
    """Return the policy of each queue of a cluster; one without queues.

    Raises:
        SpecError: A queue has none, or a policy is that of an unknown queue.
    """
    names = [queue.name for queue in cluster.queues]
    if not isinstance(policy, Mapping):
        return [policy] * max(1, len(names))
    odd = sorted({*names} ^ {*policy})
    if odd or not names:
        problem = "has no policy" if odd and odd[0] in names else "is an unknown queue"
        raise SpecError("policy", problem, repr(odd[0]) if odd else "", f"a policy for each queue: {', '.join(names)}")
    return [policy[name] for name in names]


def policy_name(policy: object) -> str:
    """Return the name of a policy or planner for messages: its class and its parameters, without its state."""
    subject: Any = policy
    given = [f for f in (fields(subject) if is_dataclass(subject) else ()) if f.init and f.repr]
    return f"{type(policy).__name__}({', '.join(f'{f.name}={getattr(policy, f.name)!r}' for f in given)})"


def situation(view: View) -> str:
    """Return what a message about a decision says of the view."""
    return f"slack {format_ms(view.slack_ns)}, queue {view.queue_length}"


def check_decision(decision: object, view: View, policy: Policy) -> None:
    """Check that a decision can be carried out in the state of the view.

    Raises:
        PolicyError: It is not a decision, or it names an unknown subnet, worker or batch size, a busy worker, or a time
            that has passed.
    """
    if isinstance(decision, Dispatch):
        _check_dispatch(decision, view, policy)
    elif isinstance(decision, Wait):
        if not _is_whole(decision.until_ns) or decision.until_ns <= view.now_ns:
            hint = f"integer nanoseconds above {view.now_ns}"
            raise _wrong(policy, view, "waits for a time that is not in the future", decision.until_ns, hint)
    elif isinstance(decision, Hold):
        if not _is_whole(decision.until_slack_ns) or not 0 <= decision.until_slack_ns < view.slack_ns:
            late = view.slack_ns <= 0
            problem = "would hold for ever: no slack is left" if late else "holds until a slack that can't come"
            hint = "dispatch or drop" if late else f"integer nanoseconds from 0 to {view.slack_ns - 1}"
            raise _wrong(policy, view, problem, decision.until_slack_ns, hint)
    elif isinstance(decision, Drop):
        if not _is_index(decision.count, view.queue_length + 1) or decision.count == 0:
            raise _wrong(
                policy,
                view,
                "drops more queries than are waiting, or none",
                decision.count,
                f"1 to {view.queue_length}",
            )
    else:
        raise _wrong(policy, view, "does not return a decision", decision, "Dispatch, Hold, Wait or Drop")


def _check_dispatch(decision: Dispatch, view: View, policy: Policy) -> None:
    subnet, size, worker = decision.subnet, decision.batch_size, decision.worker
    if not _is_index(subnet, len(view.table.subnets)):
        hint = f"an index from 0 to {len(view.table.subnets) - 1}"
        raise _wrong(policy, view, "unknown subnet", subnet, hint)
    if not _is_index(size, view.table.batch_sizes[-1] + 1) or size == 0:
        hint = f"an integer from 1 to {view.table.max_batch}"
        raise _wrong(policy, view, "invalid batch size", size, hint)
    if worker is not None and not (_is_whole(worker) and worker in view.system.free_workers()):
        hint = f"free: {', '.join(map(str, view.system.free_workers()))}"
        raise _wrong(policy, view, "picks a worker that is not free", worker, hint)


def _wrong(policy: Policy, view: View, problem: str, value: object, hint: str) -> PolicyError:
    place = user_function(getattr(type(policy), "decide", None))
    found = "; ".join(filter(None, (repr(value), place, situation(view))))
    return PolicyError(f"{policy_name(policy)} at {format_ms(view.now_ns)}", problem, found, hint)


def _is_index(value: object, length: int) -> bool:
    return (type(value) is int or isinstance(value, np.integer)) and 0 <= int(value) < length


def _is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of Python or NumPy, and not a bool."""
    return type(value) is int or isinstance(value, np.integer)
