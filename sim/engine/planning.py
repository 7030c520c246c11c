"""The interface of planners: what they see at a turn, and their plans.

A planner is a dataclass with one method, `plan(view) -> WorkerPlan`; its fields are its parameters. It is asked once in
each period how many workers there shall be, and which policies serve the queues. It sees what happened before its turn;
its plan holds from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from sim.base.errors import PolicyError, SsimError, did_you_mean, raised, user_function
from sim.base.units import NS_PER_S, format_ms
from sim.engine.policy import policy_name

if TYPE_CHECKING:
    from sim.engine.policy import Policy
    from sim.engine.residence import Units
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
        load_ns: How long a new worker loads the weights that it begins with; 0 where memory has no limit.
        units: What is loaded as a whole, and the memory of a worker; None where memory has no limit.
        resident: The ids of the subnets whose weights are on each worker that serves, or being loaded, by its number;
            empty where memory has no limit.
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
    load_ns: int = 0
    units: Units | None = None
    resident: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """The workers that serve or start: what a plan is about."""
        return len(self.serving) + self.starting

    @property
    def startup_ns(self) -> int:
        """The start-up of a new worker, with the loading of weights."""
        return self.scaling.startup_ns + self.load_ns if self.scaling else 0

    def fit(self, *subnets: str) -> bool:
        """Return whether the weights of subnets, by id, fit into the memory of a worker together."""
        return self.units is None or self.units.fit(subnets)

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
        resident: By the number of a worker that serves, the ids of subnets whose weights it shall hold. Absent ones are
            loaded beside execution, in this order, and what the plan does not name makes room for them.
    """

    workers: Mapping[str, int] | int = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    queues: Mapping[str, Mapping[str, Any] | Policy] = field(default_factory=dict)
    resident: Mapping[int, Sequence[str]] = field(default_factory=dict)


class CheckedPlan(NamedTuple):
    """A plan that can be carried out.

    Attributes:
        workers: How many workers of each kind shall serve or start, within the bounds.
        policies: The policy of each queue from now on.
        resident: By worker, the ids of subnets whose weights it shall hold.
    """

    workers: list[int]
    policies: list[Policy]
    resident: Mapping[int, Sequence[str]]


class Planner(Protocol):
    """The interface of every planner.

    A class may say more of itself: `changes_workers` (False if it never does), `gives_workers_to_queues` (whether each
    worker serves one of the queues only), and `plans_for` (the name of the policy whose parameters it changes).
    """

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the workers from now on."""
        ...


def ask_planner(planner: Planner, view: PlannerView, policies: Sequence[Policy]) -> tuple[list[int], list[Policy]]:
    """Return the number of workers of each kind that a planner wants, within the bounds, and the policies from now on.

    For workers that hold all weights; see `checked_plan`.
    """
    plan = checked_plan(planner, view, policies)
    return plan.workers, plan.policies


def checked_plan(planner: Planner, view: PlannerView, policies: Sequence[Policy]) -> CheckedPlan:
    """Return what a planner plans.

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
    wanted, changed = _wanted(found, planner, view), _changed(found, planner, view, policies)
    return CheckedPlan(wanted, changed, _resident(found, planner, view))


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


def _resident(plan: WorkerPlan, planner: Planner, view: PlannerView) -> Mapping[int, Sequence[str]]:
    given: Any = plan.resident
    if not isinstance(given, Mapping):
        raise _wrong(
            planner, view, "plans weights, but names no workers", given, "a mapping of numbers to ids of subnets"
        )
    kind_of = {worker: kind for kind in view.kinds for worker in kind.serving}
    for worker, subnets in given.items():
        if worker not in kind_of:
            known = ", ".join(map(str, kind_of)) or "none"
            raise _wrong(
                planner, view, "plans weights of a worker that does not serve", worker, f"those that do: {known}"
            )
        kind = kind_of[worker]
        if isinstance(subnets, str) or not isinstance(subnets, Sequence):
            raise _wrong(planner, view, f"plans weights of worker {worker}, but no list", subnets, "ids of subnets")
        names = _names(view, kind)
        if odd := [name for name in subnets if name not in names]:
            hint = did_you_mean(str(odd[0]), names)
            raise _wrong(planner, view, f"plans weights of an unknown subnet on worker {worker}", odd[0], hint)
        if not kind.fit(*subnets):
            hint = "fewer: the `fit` of a kind says which are too many"
            raise _wrong(planner, view, f"plans more weights than worker {worker} holds", ", ".join(subnets), hint)
    return given


def _names(view: PlannerView, kind: KindView) -> list[str]:
    """Return the ids of all subnets that workers of a kind may run."""
    if kind.units is not None:
        return list(kind.units.named)
    ids = [(queue.name, subnet.id) for queue in view.queues for subnet in queue.tables[kind.name].subnets]
    return [name for queue, own in ids for name in (own, f"{queue}/{own}")]


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
        if plans_for := getattr(planner, "plans_for", None):
            hint += f"; this planner plans for the policy {plans_for}"
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
