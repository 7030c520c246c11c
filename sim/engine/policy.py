"""What a policy sees and what it may answer.

A policy is a frozen dataclass with one method, `decide(view) -> Decision`; its fields are its parameters. It is asked
whenever a worker is free and the queue is not empty, again after each of its answers, until either is used up or it
waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard

import numpy as np

from sim.base.errors import PolicyError
from sim.base.units import format_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.tables.latency import LatencyTable


class System(Protocol):
    """What of the running system a policy can look up; each look-up costs only when it is made."""

    @property
    def workers_alive(self) -> int:
        """Workers that have not failed."""
        ...

    @property
    def dispatch_ns(self) -> int:
        """Overhead of each batch, already taken off the slack."""
        ...

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of the policy."""
        ...

    def free_workers(self) -> Sequence[int]:
        """Return the free workers, in order."""
        ...

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet (index) that a worker runs or last ran; None before its first."""
        ...

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queued queries, the earliest first."""
        ...

    def arrivals_within(self, window_ns: int) -> int:
        """Return how many queries arrived in the last `window_ns`, now included."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """All that a policy may look at when it decides.

    Attributes:
        now_ns: The instant of the decision.
        slack_ns: Deadline of the most urgent query, less now, less the dispatch overhead: to be held against
            latencies of the table. Negative if the query is late already.
        queue_length: Queries waiting, one or more.
        table: The latency table.
        system: Further look-ups: free workers, deadlines, arrivals.
    """

    now_ns: int
    slack_ns: int
    queue_length: int
    table: LatencyTable
    system: System

    def rate_per_s(self, window_ns: int) -> float:
        """Return the arrival rate over the last `window_ns`, or over the whole run while it is shorter than that."""
        window = max(1, min(window_ns, self.now_ns))
        return self.system.arrivals_within(window_ns) * 1e9 / window


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run up to `batch_size` of the most urgent queries on one subnet, now.

    Attributes:
        subnet: Index into the table's subnets.
        batch_size: At most this many queries; fewer run if fewer are waiting.
        worker: A free worker, or None for the free one with the lowest number.
    """

    subnet: int
    batch_size: int
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until the next arrival, completion, failure or recovery, but no longer than `until_ns`."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the `count` most urgent queries: with one queue in order of deadlines, these are the hopeless ones."""

    count: int


Decision: TypeAlias = Dispatch | Wait | Drop


class Policy(Protocol):
    """The interface of every policy."""

    def decide(self, view: View) -> Decision:
        """Return what to do next with the most urgent queries."""
        ...


def policy_name(policy: Policy) -> str:
    """Return a policy's name for messages: its class and its parameters (not what it remembers)."""
    given = (f for f in getattr(policy, "__dataclass_fields__", {}).values() if f.init and f.repr)
    return f"{type(policy).__name__}({', '.join(f'{f.name}={getattr(policy, f.name)!r}' for f in given)})"


def situation(view: View) -> str:
    """Return what a message about a decision says of the view."""
    return f"slack {format_ms(view.slack_ns)}, queue {view.queue_length}"


def check_decision(decision: object, view: View, policy: Policy) -> None:
    """Check that a decision can be carried out in the situation of the view.

    Raises:
        PolicyError: It is no decision, names no subnet, worker or batch size that there is, a busy worker, or an
            instant that has passed.
    """

    def wrong(what: str, value: object, right: str) -> PolicyError:
        return PolicyError(f"{policy_name(policy)} at {format_ms(view.now_ns)}", what, repr(value), right)

    match decision:
        case Dispatch(subnet=subnet, batch_size=size, worker=worker):
            if not _is_index(subnet, len(view.table.subnets)):
                raise wrong("there is no such subnet", subnet, f"an index from 0 to {len(view.table.subnets) - 1}")
            if not _is_index(size, view.table.max_batch + 1) or size == 0:
                raise wrong("no such batch size", size, f"a whole number from 1 to {view.table.max_batch}")
            if worker is not None and not (_is_whole(worker) and worker in view.system.free_workers()):
                free = ", ".join(map(str, view.system.free_workers()))
                raise wrong("answers for a worker that is not free", worker, f"free: {free}")
        case Wait(until_ns=until):
            if not _is_whole(until) or until <= view.now_ns:
                raise wrong("waits for an instant that is not ahead", until, f"whole nanoseconds above {view.now_ns}")
        case Drop(count=count):
            if not _is_index(count, view.queue_length + 1) or count == 0:
                raise wrong("drops queries that are not there", count, f"1 to {view.queue_length}")
        case _:
            raise wrong("answers something that is no decision", decision, "Dispatch, Wait or Drop")


def _is_index(value: object, length: int) -> bool:
    return _is_whole(value) and 0 <= value < length


def _is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number, of Python or NumPy; a bool is none."""
    return type(value) is int or isinstance(value, np.integer)
