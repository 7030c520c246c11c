"""Kinds of workers: each with its own latencies over the same subnets, its own price and its own power.

Workers are numbered kind by kind, in the order of the cluster. A `WorkerPool` is a kind as the engines use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from sim.base.errors import SpecError
from sim.base.parameters import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.residence import Memory
    from sim.engine.scaling import Scaling
    from sim.tables.latency import LatencyTable

OfferRule = Literal["kind", "fastest", "cheapest"]
"""Which of the free workers a policy is offered first: by the order of kinds in the cluster; those of the kind with the
smallest sum of latencies, over all subnets and the batch sizes that all kinds have; or with the lowest price. Equal
kinds keep their order. Among the workers of a kind, the lowest number comes first."""


MAX_WORKERS = 1_000_000
"""More workers than this are assumed to be a typo."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """Identical workers, which differ from those of other kinds.

    Attributes:
        name: Its name, unique in the cluster.
        workers: Number of workers, from 1.
        table: Latencies of its workers as policies see them; None for the table of the run.
        price_per_h: The price of a worker for an hour; None if it is unknown.
        idle_w: The power of an idle worker in watts; None if it is unknown.
        busy_w: The power of a busy worker in watts; None if it is unknown.
        scaling: How far a planner may change the number of workers; None if it may not.
        memory: The memory of a worker for weights; None for one that holds all.

    Raises:
        SpecError: A number is out of range, or one power is given without the other.
    """

    name: str
    workers: int
    table: LatencyTable | None = None
    price_per_h: float | None = None
    idle_w: float | None = None
    busy_w: float | None = None
    scaling: Scaling | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        place = f"cluster.kinds, {self.name!r}"
        if not str(self.name).strip():
            raise SpecError("cluster.kinds", "a kind needs a name", repr(self.name), "such as a40")
        least = 1 if self.scaling is None else 0
        if type(self.workers) is not int or self.workers < least:
            raise SpecError(place, "the number of workers is out of range", repr(self.workers), f"{least} or more")
        if self.scaling is not None and (fault := self.scaling.fault(self.workers, MAX_WORKERS)):
            raise SpecError(place, f"{fault[0]} {fault[1]}", *fault[2:])
        if self.memory is not None and (fault := self.memory.fault()):
            raise SpecError(place, f"{fault[0]} {fault[1]}", *fault[2:])
        for name in ("price_per_h", "idle_w", "busy_w"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < float("inf")):
                raise SpecError(place, f"{name} is out of range", repr(value), "a number, 0 or more")
        if (self.idle_w is None) != (self.busy_w is None):
            raise SpecError(place, "one power is missing", "", "give the power of idle and of busy workers")
        if self.idle_w is not None and self.busy_w is not None and self.busy_w < self.idle_w:
            problem, hint = "a busy worker takes less power than an idle one", f"busy: {self.idle_w:g} or more"
            raise SpecError(place, problem, f"{self.busy_w:g} W", hint)


def check_kinds(kinds: Sequence[WorkerKind], offer: OfferRule, currency: str | None) -> None:
    """Check that kinds fit together.

    Raises:
        SpecError: Two have one name, the rule of offers is unknown or needs prices, some lack a price or powers, or a
            price lacks a currency.
    """
    if offer not in get_args(OfferRule):
        raise SpecError("cluster.offer", "unknown rule", repr(offer), " or ".join(get_args(OfferRule)))
    if not kinds:
        for name, given in (("offer", None if offer == "kind" else offer), ("currency", currency)):
            if given is not None:
                problem = "has no meaning without kinds of workers"
                raise SpecError(f"cluster.{name}", problem, repr(given), "leave it out")
        return
    names = [kind.name for kind in kinds]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise SpecError("cluster.kinds", "two kinds have the same name", repr(twice[0]), "give each its own")
    for name, what in (("price_per_h", "price"), ("busy_w", "power")):
        without = [kind.name for kind in kinds if getattr(kind, name) is None]
        if 0 < len(without) < len(kinds):
            hint = f"give the {what} of all kinds, or none"
            raise SpecError(f"cluster.kinds, {without[0]!r}", f"has no {what}", "", hint)
    _check_prices(kinds[0].price_per_h is not None, offer, currency)


def _check_prices(priced: bool, offer: OfferRule, currency: str | None) -> None:
    if priced and not (isinstance(currency, str) and currency.strip()):
        raise SpecError("cluster.currency", "a price needs a currency", repr(currency), "such as EUR")
    if currency is not None and not priced:
        raise SpecError("cluster.currency", "kinds have no price", repr(currency), "give price_per_h, or leave it out")
    if offer == "cheapest" and not priced:
        raise SpecError("cluster.offer", "kinds have no price", "'cheapest'", "give price_per_h, or offer: kind")


class WorkerPool(NamedTuple):
    """The workers of a kind in a run.

    Attributes:
        kind: The name of the kind; empty if the cluster has no kinds.
        workers: Their numbers.
        table: Their latency table as policies see it, without overheads.
        rows: The subnet of the run's table for each of its subnets: equally accurate ones may stand in another order.
    """

    kind: str
    workers: range
    table: LatencyTable
    rows: tuple[int, ...]


def pools_of(workers: int, kinds: Sequence[WorkerKind], table: LatencyTable) -> list[WorkerPool]:
    """Return the workers of each kind, in the order of their numbers.

    Args:
        workers: Number of all workers.
        kinds: The kinds; none for identical workers.
        table: The table of the run, and of kinds without one.

    Raises:
        SpecError: The subnets of a kind differ from those of the run's table.
    """
    if not kinds:
        return [WorkerPool("", range(workers), table, tuple(range(len(table.subnets))))]
    pools: list[WorkerPool] = []
    first = 0
    for kind in kinds:
        own = kind.table or table
        pools.append(WorkerPool(kind.name, range(first, first + kind.workers), own, _rows(kind.name, own, table)))
        first += kind.workers
    return pools


def sorted_pools(
    pools: Sequence[Sequence[WorkerPool]], kinds: Sequence[WorkerKind], offer: OfferRule
) -> list[list[WorkerPool]]:
    """Return the workers of each kind, for each queue, in the order in which free workers are offered.

    Args:
        pools: Those of `pools_of`, for each queue.
        kinds: The kinds; none for identical workers.
        offer: Which is offered first. The fastest kind is that of the smallest sum over all queues.
    """
    order = list(range(len(pools[0])))
    if offer == "fastest":
        longest = [min(pool.table.max_batch for pool in of_queue) for of_queue in pools]
        order.sort(
            key=lambda place: sum(
                int(of_queue[place].table.dense_ns[:, 1 : most + 1].sum())
                for of_queue, most in zip(pools, longest, strict=True)
            )
        )
    elif offer == "cheapest":
        order.sort(key=lambda place: kinds[place].price_per_h or 0.0)
    return [[of_queue[place] for place in order] for of_queue in pools]


def pool_of_workers(pools: Sequence[WorkerPool]) -> list[int]:
    """Return the pool of each worker, as an index."""
    found = [0] * sum(len(pool.workers) for pool in pools)
    for number, pool in enumerate(pools):
        for worker in pool.workers:
            found[worker] = number
    return found


def _rows(kind: str, own: LatencyTable, table: LatencyTable) -> tuple[int, ...]:
    known = {subnet.id: row for row, subnet in enumerate(table.subnets)}
    place = f"cluster.kinds, {kind!r}"
    mine = {subnet.id for subnet in own.subnets}
    if odd := mine ^ known.keys():
        name = min(odd)
        which = "has a subnet that other kinds lack" if name in mine else "lacks a subnet of other kinds"
        raise SpecError(place, f"its table {which}", name, "all kinds run the same subnets")
    for subnet in own.subnets:
        other = table.subnets[known[subnet.id]]
        if subnet.accuracy != other.accuracy:
            found, hint = f"{subnet.id}: {subnet.accuracy} %", f"{other.accuracy} % on other kinds"
            raise SpecError(place, "a subnet has another accuracy", found, hint)
    return tuple(known[subnet.id] for subnet in own.subnets)
