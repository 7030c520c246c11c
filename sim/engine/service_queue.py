"""Queues of a cluster: a model, a tenant or a class of service each, with its own SLO, weight, floor and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.parameters import is_number
from sim.engine.kinds import pools_of, sorted_pools
from sim.tables.floor import accurate_part
from sim.tables.latency import LatencyTable
from sim.traces.trace import LATEST_NS, MAX_CLASSES, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import ProfiledSubnet

QueueOrder = Literal["edf", "slack", "priority", "fair"]
"""Which queue a free worker is offered first: that of the earliest deadline; that of the least slack, after the latency
of one query on the queue's fastest subnet; that of the smallest priority number, then of the earliest deadline; or the
queue whose turn it is by deficit round robin (`sim.engine.offers`). Of equal queues, the first of the cluster."""


@dataclass(frozen=True, slots=True)
class ServiceQueue:
    """Queries that wait together and share batches with no others.

    Attributes:
        name: Its name, unique in the cluster: the class of its queries in the trace.
        slo_ns: The SLO of its queries; None for those of the trace.
        weight: Its share under `fair`, and in weighted results; above 0.
        priority: Its rank under `priority`: 1 or more, the smallest number first.
        floor: The least accuracy in percent of a subnet that serves it; None for all subnets.
        bound: Queries of it that may wait in the cluster, 1 or more; any more are rejected. None for no bound.
        table: The latencies of its own model as policies see them: a table, or one for each kind of workers by name;
            None for the tables of the cluster and of the run.
        own_weights: Whether its model has weights of its own, as a fine-tuned copy has, although other queues have
            models with equal subnets.

    Raises:
        SpecError: A number is out of range.
    """

    name: str
    slo_ns: int | None = None
    weight: float = 1.0
    priority: int = 1
    floor: float | None = None
    bound: int | None = None
    table: LatencyTable | Mapping[str, LatencyTable] | None = None
    own_weights: bool = False

    def __post_init__(self) -> None:
        if not str(self.name).strip():
            raise SpecError("queues", "a queue needs a name", repr(self.name), "such as gold")
        slo_ns, weight, floor = self.slo_ns, self.weight, self.floor
        if slo_ns is not None and (type(slo_ns) is not int or not 0 < slo_ns < LATEST_NS):
            raise self.wrong("slo_ns is out of range", repr(slo_ns), "integer nanoseconds above 0")
        if not is_number(weight) or not 0 < weight < math.inf:
            raise self.wrong("weight is out of range", repr(weight), "a number above 0")
        if floor is not None and (not is_number(floor) or not 0 <= floor <= 100):  # noqa: PLR2004 - percent
            raise self.wrong("floor is out of range", repr(floor), "percent, from 0 to 100")
        for name in ("priority", "bound"):
            value = getattr(self, name)
            if not (name == "bound" and value is None) and (type(value) is not int or value < 1):
                raise self.wrong(f"{name} is out of range", repr(value), "an integer, 1 or more")

    def wrong(self, problem: str, value: str = "", hint: str = "") -> SpecError:
        """Return the error that tells what is wrong with this queue."""
        return SpecError(f"queues, {self.name!r}", problem, value, hint)

    def own_table(self, kind: str) -> LatencyTable | None:
        """Return its own table on a kind of workers, or on all workers if they have no kinds."""
        return self.table if self.table is None or isinstance(self.table, LatencyTable) else self.table.get(kind)


def check_queues(queues: Sequence[ServiceQueue], order: QueueOrder, kinds: Sequence[str]) -> None:
    """Check that queues fit together and to the kinds of workers.

    Raises:
        SpecError: Two have one name, the order is unknown or needs different priorities, or a queue with tables of its
            own has none for a kind.
    """
    if order not in get_args(QueueOrder):
        raise SpecError("cluster.order", "unknown order", repr(order), " or ".join(get_args(QueueOrder)))
    if not queues:
        if order != "edf":
            raise SpecError("cluster.order", "has no meaning without queues", repr(order), "leave it out")
        return
    if len(queues) > MAX_CLASSES:
        raise SpecError("queues", "has too many queues", str(len(queues)), f"at most {MAX_CLASSES}")
    names = [queue.name for queue in queues]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise SpecError("queues", "two queues have the same name", repr(twice[0]), "give each its own")
    if order == "priority" and len(queues) > 1 and len({queue.priority for queue in queues}) == 1:
        problem, hint = "all queues have the same priority", "give them different ones, or order: edf"
        raise SpecError("cluster.order", problem, "'priority'", hint)
    for queue in queues:
        _check_tables(queue, kinds)


def _check_tables(queue: ServiceQueue, kinds: Sequence[str]) -> None:
    if queue.table is None:
        return
    if isinstance(queue.table, LatencyTable):
        if kinds:
            hint = f"a table for each: {', '.join(kinds)}"
            raise queue.wrong("has one latency table for several kinds of workers", "", hint)
        return
    if unknown := [name for name in queue.table if name not in kinds]:
        problem, hint = "has a latency table for an unknown kind of workers", did_you_mean(unknown[0], kinds)
        raise queue.wrong(problem, repr(unknown[0]), hint)
    if missing := [name for name in kinds if name not in queue.table]:
        problem, hint = "has no latency table for a kind of workers", "a table for each kind, or none"
        raise queue.wrong(problem, repr(missing[0]), hint)


def in_queues(trace: Trace, queues: Sequence[ServiceQueue]) -> Trace:
    """Return a trace whose classes are the queues, in their order, with the SLOs of the queues.

    Raises:
        DataError: A class of the trace is not the name of a queue, or the trace has no classes and there are several
            queues.
    """
    if not queues:
        return trace
    names = tuple(queue.name for queue in queues)
    if trace.class_codes is None:
        if len(queues) > 1:
            hint = "a trace for each queue, or a column that names the queue: class: {column: ...}"
            raise DataError("trace", "does not say to which queue a query belongs", "", hint)
        codes = np.zeros(len(trace), np.uint16)
    else:
        unknown = [name for name in trace.class_names if name not in names]
        if unknown:
            raise DataError("trace", "names an unknown queue", repr(unknown[0]), did_you_mean(unknown[0], names))
        codes = trace.class_codes
        if trace.class_names != names:
            codes = np.array([names.index(name) for name in trace.class_names], np.uint16)[codes]
    if isinstance(trace.slo_ns, int):
        given = np.array([queue.slo_ns or trace.slo_ns for queue in queues], np.int64)
        met = given if (given == given[0]).all() else given[np.bincount(codes, minlength=len(queues)) > 0]
        slo_ns: int | npt.NDArray[np.int64] = int(met[0]) if (met == met[0]).all() else given[codes]
        if codes is trace.class_codes and np.array_equal(slo_ns, trace.slo_ns):
            return trace  # as it is
        return replace(trace, slo_ns=slo_ns, class_codes=codes, class_names=names)
    own = np.array([queue.slo_ns or 0 for queue in queues], np.int64)[codes]
    slos = np.where(own > 0, own, trace.slo_ns)
    slo_ns = int(slos[0]) if (slos == slos[0]).all() else slos
    return replace(trace, slo_ns=slo_ns, class_codes=codes, class_names=names)


def subnets_of(table: LatencyTable, queues: Sequence[ServiceQueue]) -> tuple[ProfiledSubnet, ...]:
    """Return the subnets of a run: those of its table, then those of queues with other models.

    Subnets of equal id and accuracy are one, but for those of queues with weights of their own. An id that another
    subnet has gets the name of the queue in front.
    """
    return tuple(_subnets(table, queues).values())


def _subnets(table: LatencyTable, queues: Sequence[ServiceQueue]) -> dict[tuple[str, str, float], ProfiledSubnet]:
    """Return the subnets of a run by key; see `_key`."""
    found = {_key(None, subnet): subnet for subnet in table.subnets}
    ids = {subnet.id for subnet in table.subnets}
    for queue in queues:
        own = _first_table(queue) or (table if queue.own_weights else None)
        for subnet in own.subnets if own else ():
            if (key := _key(queue, subnet)) not in found:
                named = replace(subnet, id=f"{queue.name}/{subnet.id}") if subnet.id in ids else subnet
                found[key] = named
                ids.add(named.id)
    return found


def _key(queue: ServiceQueue | None, subnet: ProfiledSubnet) -> tuple[str, str, float]:
    """Return what tells a subnet of a queue from others: the queue if the weights are its own, id and accuracy."""
    return queue.name if queue is not None and queue.own_weights else "", subnet.id, subnet.accuracy


def _first_table(queue: ServiceQueue) -> LatencyTable | None:
    if queue.table is None or isinstance(queue.table, LatencyTable):
        return queue.table
    return next(iter(queue.table.values()))


def pools_of_queues(
    cluster: Cluster, table: LatencyTable, seen: Callable[[LatencyTable], LatencyTable]
) -> list[list[WorkerPool]]:
    """Return for each queue the workers of each kind with the queue's tables, in the order in which they are offered.

    The rows of a pool are places in `subnets_of`. The subnets of its table are those that the queue's floor admits.

    Args:
        cluster: The workers and the queues.
        table: The table of the run.
        seen: Returns a table as the cluster serves it.

    Raises:
        SpecError: The subnets of a kind differ from those of others, or no subnet is accurate enough for a queue.
    """
    row_of = {key: row for row, key in enumerate(_subnets(table, cluster.queues))}
    found = []
    for queue in cluster.queues:
        own = [queue.own_table(kind.name) or kind.table for kind in cluster.kinds]
        served = (each and seen(_accurate(each, queue)) for each in own)
        kinds = [replace(kind, table=each) for kind, each in zip(cluster.kinds, served, strict=True)]
        try:
            pools = pools_of(cluster.workers, kinds, seen(_accurate(_first_table(queue) or table, queue)))
        except SpecError as error:  # the kinds are told of where they are named, unless the queue names their tables
            if queue.table is None:
                raise
            raise queue.wrong(
                f"{error.location.partition(', ')[2]}: {error.problem}", error.value, error.hint
            ) from error
        for place, pool in enumerate(pools):
            rows = tuple(row_of[_key(queue, subnet)] for subnet in pool.table.subnets)
            pools[place] = pool._replace(rows=rows)
        found.append(pools)
    return sorted_pools(found, cluster.kinds, cluster.offer)


def _accurate(table: LatencyTable, queue: ServiceQueue) -> LatencyTable:
    """Return a table without the subnets that are less accurate than a queue's floor.

    Raises:
        SpecError: None is left.
    """
    if queue.floor is None:
        return table
    best = max(subnet.accuracy for subnet in table.subnets)
    if best < queue.floor:
        raise queue.wrong("no subnet reaches its floor", f"{queue.floor:g} %", f"{best:g} % or less")
    return accurate_part(table, queue.floor)
