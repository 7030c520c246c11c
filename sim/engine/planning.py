"""The interface of planners: what they see at a turn, and their plans.

A planner is a dataclass with one method, `plan(view) -> WorkerPlan`; its fields are its parameters. It is asked once in
each period how many workers there shall be, and which policies serve the queues. It sees what happened before its turn;
its plan holds from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sim.base.errors import PolicyError, SsimError, raised, user_function
from sim.base.units import NS_PER_S, format_ms
from sim.engine.policy import policy_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.policy import Policy
    from sim.engine.scaling import Scaling
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class KindView:
    """The workers of a kind, as a planner sees them.

    Attributes:
        name: The name of the kind; empty if the cluster has no kinds.
        table: Their latency table, as the policy of the first queue sees it.
        serving: The numbers of the workers that serve: neither failed nor told to go.
        starting: Workers whose start-up has not ended.
        failed: Workers that have failed.
        queries: Queries in the batches that they started since the last turn.
        busy_share: The share of the time since the last turn that those who serve were busy, 0 to 1; NaN if they had no
            time.
        scaling: The bounds of their number; None if it can't be changed.
        price_per_h: The price of a worker for an hour; None if it is unknown.
    """

    name: str
    table: LatencyTable
    serving: tuple[int, ...]
    starting: int = 0
    failed: int = 0
    queries: int = 0
    busy_share: float = float("nan")
    scaling: Scaling | None = None
    price_per_h: float | None = None

    @property
    def workers(self) -> int:
        """The workers that serve or start: what a plan is about."""
        return len(self.serving) + self.starting

    @property
    def startup_ns(self) -> int:
        """The start-up of a new worker."""
        return self.scaling.startup_ns if self.scaling else 0

    def limited(self, workers: int) -> int:
        """Return the number of workers that the bounds allow, the nearest to a given one."""
        if self.scaling is None:
            return self.workers
        return min(max(workers, self.scaling.min_workers), self.scaling.max_workers)


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue, as a planner sees it; counts are since the last turn, or the start of the run.

    Attributes:
        name: The name of the queue; empty if the cluster has no queues.
        tables: The latency tables of its model, as its policy sees them, by the name of the kind of workers.
        arrivals: Queries that arrived.
        met: Queries that were answered by their deadlines.
        late: Queries that were answered later.
        dropped: Queries that were dropped, or lost with a worker.
        rejected: Queries that found a full queue.
        length: Queries waiting.
        slo_ns: The smallest SLO of its queries in the run, less the network's delay; 0 if it has none.
        weight: Its weight.
    """

    name: str
    tables: Mapping[str, LatencyTable]
    arrivals: int = 0
    met: int = 0
    late: int = 0
    dropped: int = 0
    rejected: int = 0
    length: int = 0
    slo_ns: int = 0
    weight: float = 1.0

    @property
    def attainment(self) -> float:
        """The share of the queries answered, dropped or rejected since the last turn that met their SLO.

        NaN without any.
        """
        return _attainment([self])


@dataclass(frozen=True, slots=True)
class PlannerView:
    """What a planner sees at a turn; counts are since the last turn, or the start of the run.

    Attributes:
        now_ns: The instant of the turn.
        since_ns: That of the last one.
        dispatch_ns: Overhead of each batch.
        kinds: The kinds of workers, in the order of the cluster; one without a name if they are all alike.
        queues: The queues, in the order of the cluster; one without a name if it has none.
    """

    now_ns: int
    since_ns: int
    dispatch_ns: int
    kinds: tuple[KindView, ...]
    queues: tuple[QueueView, ...]

    @property
    def period_ns(self) -> int:
        """The time since the last turn."""
        return self.now_ns - self.since_ns

    @property
    def arrivals(self) -> int:
        """Queries of all queues that arrived."""
        return sum(queue.arrivals for queue in self.queues)

    @property
    def queue_length(self) -> int:
        """Queries waiting in all queues."""
        return sum(queue.length for queue in self.queues)

    @property
    def slo_ns(self) -> int:
        """The smallest SLO of the run's queries, less the network's delay; 0 without any query."""
        return min((queue.slo_ns for queue in self.queues if queue.slo_ns), default=0)

    @property
    def rate_per_s(self) -> float:
        """The arrival rate of all queues since the last turn in queries/s."""
        return self.rate_of(*self.queues)

    @property
    def attainment(self) -> float:
        """The share of the queries answered, dropped or rejected since the last turn that met their SLO.

        NaN without any.
        """
        return _attainment(self.queues)

    def rate_of(self, *queues: QueueView) -> float:
        """Return the arrival rate of some queues since the last turn in queries/s."""
        return sum(queue.arrivals for queue in queues) * NS_PER_S / self.period_ns


def _attainment(queues: Sequence[QueueView]) -> float:
    met = sum(queue.met for queue in queues)
    ended = met + sum(queue.late + queue.dropped + queue.rejected for queue in queues)
    return met / ended if ended else float("nan")


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """The workers from now on, and what is changed of the policies.

    Attributes:
        workers: How many shall serve or start, by the name of the kind; a kind that is left out keeps its workers. One
            number if there is only one kind. Numbers are limited to the bounds of the kind.
        parameters: Parameters to change of the policies of all queues, by name.
        queues: By the name of the queue, parameters to change of its policy, or another policy; a queue that is left
            out keeps its policy.
    """

    workers: Mapping[str, int] | int = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    queues: Mapping[str, Mapping[str, Any] | Policy] = field(default_factory=dict)


class Planner(Protocol):
    """The interface of every planner."""

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the workers from now on."""
        ...


def ask_planner(planner: Planner, view: PlannerView, policies: Sequence[Policy]) -> tuple[list[int], list[Policy]]:
    """Return the number of workers of each kind that a planner wants, within the bounds, and the policies from now on.

    Args:
        planner: The planner.
        view: What it sees.
        policies: The policy of each queue.

    Raises:
        PolicyError: It raised, or its plan can't be carried out.
    """
    try:
        found: Any = planner.plan(view)
    except (Exception, SystemExit) as error:
        situation = f"{view.rate_per_s:g} queries/s, queue {view.queue_length}"
        problem = raised(error, "" if isinstance(error, SsimError) else situation)
        raise PolicyError(_location(planner, view), *problem) from error
    if not isinstance(found, WorkerPlan):
        raise _wrong(planner, view, "does not return a plan", found, "WorkerPlan(workers)")
    return _wanted(found, planner, view), _changed(found, planner, view, policies)


def _wanted(plan: WorkerPlan, planner: Planner, view: PlannerView) -> list[int]:
    given: Any = plan.workers
    names = [kind.name for kind in view.kinds]
    if not isinstance(given, Mapping):
        if len(names) > 1:
            raise _wrong(planner, view, "does not say of which kind", given, f"{{{names[0]!r}: 1}}, by name")
        given = {names[0]: given}
    for name, number in given.items():
        if name not in names:
            known = f"known: {', '.join(names)}" if names != [""] else "one number: the workers are all alike"
            raise _wrong(planner, view, "wants workers of an unknown kind", name, known)
        if (type(number) is not int and not isinstance(number, np.integer)) or number < 0:
            of = f" of kind {name!r}" if name else ""
            raise _wrong(planner, view, f"wants an impossible number of workers{of}", number, "an integer, 0 or more")
    return [kind.limited(int(given[kind.name])) if kind.name in given else kind.workers for kind in view.kinds]


def _changed(plan: WorkerPlan, planner: Planner, view: PlannerView, policies: Sequence[Policy]) -> list[Policy]:
    given: Any = plan.queues
    names = [queue.name for queue in view.queues]
    if not isinstance(given, Mapping):
        raise _wrong(
            planner, view, "plans queues, but names none", given, "a mapping of names to parameters or policies"
        )
    if odd := [name for name in given if name not in names]:
        known = f"known: {', '.join(names)}" if names != [""] else "parameters: the cluster has no queues"
        raise _wrong(planner, view, "plans an unknown queue", odd[0], known)
    found: list[Policy] = []
    for name, before in zip(names, policies, strict=True):
        policy = _with_parameters(before, plan.parameters, planner, view)
        own = given.get(name, {})
        if isinstance(own, Mapping):
            policy = _with_parameters(policy, own, planner, view)
        elif isinstance(own, type) or not callable(getattr(own, "decide", None)):
            problem = f"gives queue {name!r} neither parameters nor a policy" if name else "gives no policy"
            raise _wrong(planner, view, problem, own, "a mapping of names to values, or an object with `decide`")
        else:
            policy = own
        found.append(policy)
    return found


def _with_parameters(policy: Policy, given: Any, planner: Planner, view: PlannerView) -> Policy:
    if not isinstance(given, Mapping):
        raise _wrong(planner, view, "changes parameters, but names none", given, "a mapping of names to values")
    if not given:
        return policy
    subject: Any = policy
    known = [one.name for one in getattr(subject, "__dataclass_fields__", {}).values() if one.init]
    if odd := [name for name in given if name not in known]:
        hint = f"{policy_name(policy)} has {', '.join(known) or 'none'}"
        raise _wrong(planner, view, "changes a parameter that the policy lacks", odd[0], hint)
    try:
        changed: Policy = replace(subject, **given)
    except Exception as error:
        raise PolicyError(_location(planner, view), *raised(error, repr(dict(given)))) from error
    return changed


def _location(planner: Planner, view: PlannerView) -> str:
    return f"{policy_name(planner)} at {format_ms(view.now_ns)}"


def _wrong(planner: Planner, view: PlannerView, problem: str, value: object, hint: str) -> PolicyError:
    place = user_function(getattr(type(planner), "plan", None))
    return PolicyError(_location(planner, view), problem, "; ".join(filter(None, (repr(value), place))), hint)
