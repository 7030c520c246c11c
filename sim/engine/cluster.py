"""The cluster: workers of one or several kinds behind one queue, its overheads and delays, and worker failures."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from sim.base.errors import DataError, SpecError
from sim.engine.kinds import MAX_WORKERS, OfferRule, WorkerKind, WorkerPool, check_kinds, pools_of, sorted_pools
from sim.engine.placement import check_placement
from sim.engine.residence import check_sharing
from sim.engine.service_queue import QueueOrder, ServiceQueue, check_queues, pools_of_queues, subnets_of
from sim.tables.law import FIXED, HIGHEST_RATIO, LatencyLaw
from sim.tables.service_times import LONGEST_NS, dispatch_key, quantile, service_times, spread_around
from sim.traces.trace import LATEST_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sim.engine.placement import Placement
    from sim.engine.residence import Memory, Sharing
    from sim.engine.scaling import Scaling
    from sim.tables.latency import LatencyTable, ProfiledSubnet
    from sim.tables.law import LawName
    from sim.tables.service_times import Distributions
    from sim.traces.trace import Trace

DropRule = Literal["never", "expired", "hopeless"]
"""Queries dropped before a decision: none (as in the paper), those whose deadline has passed, or those whose slack is
below the smallest latency in the table plus the dispatch overhead. Deadlines are as in `Cluster.due_ns`."""

Routing = Literal["central", "round_robin", "shortest", "random"]
"""Where queries wait: in queues that all workers share; or each worker has its own, to which queries go on arrival: to
the workers in turn, to the one with the fewest queries (those that it runs included; of equals the lowest number), or
to any with equal probability. Only workers that serve get queries; those that wait for a worker that fails, or that a
planner lets go, are routed anew."""

FROM_TABLE: Literal["table"] = "table"
"""Actuation delay: each subnet's own loading time, from the latency table."""


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """A failure of one worker, with or without recovery.

    The batch in flight is lost. A recovered worker has no subnet loaded.

    Attributes:
        worker: The worker's number, from 0.
        at_ns: Time of the failure.
        recover_ns: Time of the recovery, or None for never.
    """

    worker: int
    at_ns: int
    recover_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Workers behind one queue.

    Attributes:
        workers: Number of all workers, from 1; they are identical if there are no kinds.
        dispatch_ns: Overhead of each batch that the latency table does not include (RPC, copies, decoding).
        actuation_ns: Delay of a batch whose worker last ran another subnet: one delay for all, or `"table"` for each
            subnet's loading time. A worker's first batch has no delay: its subnet was loaded before the run.
        drop: The drop rule.
        faults: Failures of workers at given times.
        dispatch_per_query_ns: Overhead of each query in a batch, on top of that of the batch.
        network_ns: Delay of each query between client and worker, both ways together, which keeps no worker busy.
        latency: How the latency of a batch is distributed; the name of a law stands for that law.
        dispatch_p99_over_median: Spread of the overhead of a batch: 99th percentile over median of a lognormal whose
            median is `dispatch_ns`. None for an overhead that is always the same.
        occupancy: The part of a batch's latency after which its worker can take the next one, above 0, at most 1. Below
            1, batches overlap on a worker, as in a pipeline, and finish in the order of their starts.
        kinds: Kinds of workers, whose numbers of workers add up to `workers`: see `of_kinds`.
        offer: Which free workers a policy is offered first.
        currency: That of the kinds' prices.
        scaling: How far a planner may change the number of workers, if there are no kinds.
        queues: Queues, each with an SLO, a weight or tables of its own; without any, all queries wait in one queue.
        order: Which queue a free worker is offered first.
        routing: Where queries wait, and who decides which worker runs them.
        memory: The memory of a worker for weights, if there are no kinds; None for one that holds all.
        weights: What is loaded as a whole where memory is limited: `shared` (a supernet) or `separate` models.
        bytes_per_weight: Bytes of a weight: 4 in fp32.
        placement: The workers that serve each queue, by its name; None if all workers serve all queues.

    Raises:
        SpecError: A number is out of range, two faults of one worker overlap, or kinds or queues do not fit together.
    """

    workers: int
    dispatch_ns: int = 0
    actuation_ns: int | Literal["table"] = 0
    drop: DropRule = "never"
    faults: tuple[WorkerFailure, ...] = ()
    dispatch_per_query_ns: int = 0
    network_ns: int = 0
    latency: LatencyLaw = FIXED
    dispatch_p99_over_median: float | None = None
    occupancy: float = 1.0
    kinds: tuple[WorkerKind, ...] = ()
    offer: OfferRule = "kind"
    currency: str | None = None
    scaling: Scaling | None = None
    queues: tuple[ServiceQueue, ...] = ()
    order: QueueOrder = "edf"
    routing: Routing = "central"
    memory: Memory | None = None
    weights: Sharing = "shared"
    bytes_per_weight: float = 4
    placement: Placement | None = None

    @classmethod
    def of_kinds(cls, *kinds: WorkerKind, **options: Any) -> Cluster:
        """Return a cluster of kinds of workers, with the other attributes by name."""
        return cls(sum(kind.workers for kind in kinds), kinds=kinds, **options)

    def __post_init__(self) -> None:
        if type(self.workers) is not int or not 1 <= self.workers <= MAX_WORKERS:
            raise SpecError("cluster.workers", "is out of range", repr(self.workers), f"1 to {MAX_WORKERS}")
        for name in ("dispatch_ns", "actuation_ns", "dispatch_per_query_ns", "network_ns"):
            value = getattr(self, name)
            if not (name == "actuation_ns" and value == FROM_TABLE) and (
                type(value) is not int or not 0 <= value < LATEST_NS
            ):
                raise SpecError(f"cluster.{name}", "invalid delay", repr(value), "integer nanoseconds, 0 or more")
        if self.drop not in {"never", "expired", "hopeless"}:
            raise SpecError("cluster.drop", "unknown drop rule", repr(self.drop), "never, expired or hopeless")
        given: Any = self.latency
        if isinstance(given, str):
            object.__setattr__(self, "latency", LatencyLaw(cast("LawName", given)))
        elif not isinstance(given, LatencyLaw):
            raise SpecError("cluster.latency", "is not a law", repr(given), 'such as LatencyLaw("lognormal")')
        self._check_kinds()
        self._check_queues()
        self._check_overlap()
        self._check_memory()
        object.__setattr__(self, "faults", tuple(sorted(self.faults, key=lambda fault: fault.at_ns)))
        back: dict[int, int | None] = {}
        for fault in self.faults:
            _check_fault(fault, self.workers, back)
            back[fault.worker] = fault.recover_ns

    def _check_kinds(self) -> None:
        check_kinds(self.kinds, self.offer, self.currency)
        if self.kinds and sum(kind.workers for kind in self.kinds) != self.workers:
            hint = "Cluster.of_kinds adds them up"
            raise SpecError("cluster.workers", "is not the sum of the kinds' workers", str(self.workers), hint)
        if self.scaling is not None:
            if self.kinds:
                raise SpecError("cluster.max_workers", "is given beside kinds, which have their own bounds")
            if fault := self.scaling.fault(self.workers, MAX_WORKERS):
                raise SpecError(f"cluster.{fault[0]}", *fault[1:])

    def _check_queues(self) -> None:
        check_queues(self.queues, self.order, [kind.name for kind in self.kinds])
        if self.routing not in get_args(Routing):
            raise SpecError("cluster.routing", "unknown routing", repr(self.routing), " or ".join(get_args(Routing)))
        check_placement(self.placement, [queue.name for queue in self.queues], self.workers)
        if self.placement is not None and (self.is_scaled or self.is_routed):
            what, key = ("workers that come and go", "max_workers") if self.is_scaled else ("routing", "routing")
            raise SpecError("cluster.placement", f"can't be combined with {what}", "", f"leave out {key}, or placement")

    def _check_overlap(self) -> None:
        part: Any = self.occupancy
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise SpecError(
                "cluster.occupancy", "is out of range", repr(part), "a part of the latency: above 0, at most 1"
            )
        spread: Any = self.dispatch_p99_over_median
        if spread is None:
            return
        place = "cluster.dispatch_p99_over_median"
        if isinstance(spread, bool) or not isinstance(spread, int | float) or not 1 <= spread <= HIGHEST_RATIO:
            raise SpecError(place, "is out of range", repr(spread), f"from 1 to {HIGHEST_RATIO:g}")
        if not self.dispatch_ns:
            raise SpecError(place, "has no meaning without an overhead", f"{spread:g}", "a dispatch overhead above 0")
        if self.dispatch_ns * spread**2 >= LONGEST_NS:
            raise SpecError(place, "the overhead is too long to be drawn", f"{self.dispatch_ns} ns", "minutes at most")

    def _check_memory(self) -> None:
        check_sharing(self.weights, self.bytes_per_weight)
        if self.memory is not None:
            if self.kinds:
                raise SpecError("cluster.memory_gb", "is given beside kinds, which have their own memory")
            if fault := self.memory.fault():
                raise SpecError(f"cluster.{fault[0]}", *fault[1:])
        if self.has_limited_memory:
            if self.occupancy < 1:
                hint = "leave out occupancy, or memory_gb"
                raise SpecError("cluster.occupancy", "can't be combined with a limited memory", "", hint)
            if self.actuation_ns == FROM_TABLE:
                hint = "give the delay of a switch between resident subnets as a number"
                raise SpecError("cluster.actuation_ns", "counts the loading that memory_gb counts", "'table'", hint)

    @property
    def has_limited_memory(self) -> bool:
        """Whether some workers may not hold all weights."""
        return self.memory is not None or any(kind.memory for kind in self.kinds)

    def memory_of(self, kind: str) -> Memory | None:
        """Return the memory of the workers of a kind, empty for one without a name; None for one that holds all."""
        return next((one.memory for one in self.kinds if one.name == kind), self.memory)

    @property
    def is_routed(self) -> bool:
        """Whether each worker has a queue of its own."""
        return self.routing != "central"

    @property
    def has_queue_set(self) -> bool:
        """Whether queries wait in several queues, or in queues with names."""
        return bool(self.queues) or self.is_routed

    @property
    def is_scaled(self) -> bool:
        """Whether a planner may change the number of workers."""
        return any(kind.scaling for kind in self.kinds) or self.scaling is not None

    @property
    def is_drawn(self) -> bool:
        """Whether the time that a batch takes depends on the seed."""
        return self.latency.is_drawn or self.dispatch_p99_over_median is not None

    @property
    def is_random(self) -> bool:
        """Whether a run depends on the seed, whatever its trace and its policy."""
        return self.is_drawn or self.routing == "random"

    @property
    def dispatch_drawn(self) -> Distributions | None:
        """What the overhead of a batch is drawn from, as that of a table of one cell; None if it is not drawn."""
        spread = self.dispatch_p99_over_median
        return None if spread is None else spread_around(self.dispatch_ns, spread)

    def __repr__(self) -> str:
        values = ((one.name, getattr(self, one.name), one.default) for one in fields(self))
        shown = ", ".join(f"{name}={value!r}" for name, value, usual in values if value != usual)
        return f"{type(self).__name__}({shown})"

    def changes(self) -> list[tuple[int, int, bool]]:
        """Return failures and recoveries as (time, worker, whether it fails), in order of time, recoveries first."""
        fails = [(fault.at_ns, fault.worker, True) for fault in self.faults]
        recovers = [(fault.recover_ns, fault.worker, False) for fault in self.faults if fault.recover_ns is not None]
        return sorted(fails + recovers, key=lambda change: (change[0], change[2], change[1]))

    def down_ns(self, horizon_ns: int, workers: range | None = None) -> int:
        """Return the downtime within a run of the given length, summed over workers: all, or some of them."""
        faults = [fault for fault in self.faults if workers is None or fault.worker in workers]
        ends = (fault.recover_ns if fault.recover_ns is not None else horizon_ns for fault in faults)
        return sum(max(0, min(end, horizon_ns) - fault.at_ns) for end, fault in zip(ends, faults, strict=True))

    def served(self, table: LatencyTable) -> LatencyTable:
        """Return a table as batches take on these workers and as policies see it, with the overhead of each query.

        Raises:
            SpecError: A batch takes longer than any run.
        """
        return _with_query_overhead(table, self.dispatch_per_query_ns)

    def pools(self, table: LatencyTable, *, served: bool = False) -> list[WorkerPool]:
        """Return the workers of each kind, in the order in which free workers are offered.

        Args:
            table: The table of the run, and of kinds without one.
            served: Whether it is as the cluster serves it (`served`), and those of kinds shall be.

        Raises:
            SpecError: The subnets of a kind differ from those of the table.
        """
        kinds = self.kinds
        if served:
            kinds = tuple(replace(kind, table=kind.table and self.served(kind.table)) for kind in kinds)
        return sorted_pools([pools_of(self.workers, kinds, table)], kinds, self.offer)[0]

    def pools_by_queue(self, table: LatencyTable, *, served: bool = False) -> list[list[WorkerPool]]:
        """Return the same for each queue, with its tables; one list without queues. Their rows are those of `subnets`.

        Raises:
            SpecError: The subnets of a kind differ from those of the table, or no subnet is accurate enough for a
                queue.
        """
        if not self.queues:
            return [self.pools(table, served=served)]
        return pools_of_queues(self, table, self.served if served else lambda one: one)

    def subnets(self, table: LatencyTable) -> tuple[ProfiledSubnet, ...]:
        """Return the subnets of all queues, those of the run's table first."""
        return subnets_of(table, self.queues)

    @property
    def kind_of_worker(self) -> npt.NDArray[np.int64]:
        """The kind of each worker, by its place in `kinds`; 0 for identical workers. int64, shape (workers,)."""
        counts = [kind.workers for kind in self.kinds] or [self.workers]
        return np.repeat(np.arange(len(counts)), counts)

    def overheads(self, seed: int) -> Callable[[int, int], int]:
        """Return a function from batch size and head (the number of the query) to the overhead of the batch."""
        fixed, each, drawn = self.dispatch_ns, self.dispatch_per_query_ns, self.dispatch_drawn
        if drawn is None:
            return lambda size, _head: fixed + size * each
        key = dispatch_key(seed)
        return lambda size, head: drawn.latency(0, 1, quantile(key, head)) + size * each

    def occupied_ns(self, latency_ns: int) -> int:
        """Return how long a batch of a latency keeps its worker from the next one, overheads apart."""
        return latency_ns if self.occupancy == 1 else max(1, int(latency_ns * self.occupancy))

    def least_ns(self, table: LatencyTable, *, occupied: bool = False) -> npt.NDArray[np.int64]:
        """Return the least time that a batch can take, overheads included.

        Args:
            table: The table that policies see.
            occupied: Whether only the time counts in which its worker can't take the next batch.

        Returns:
            int64, shape (subnets, largest batch): by subnet of the table and batch size from 1.

        Raises:
            DataError: The table lacks what the law of the latencies needs.
        """
        drawn = self.dispatch_drawn
        least = self.dispatch_ns if drawn is None else int(drawn.nodes_ns[0])
        overhead = least + self.dispatch_per_query_ns * np.arange(1, table.max_batch + 1)
        smallest = service_times(table, self.latency).smallest_ns[:, 1:]
        if occupied and self.occupancy < 1:
            smallest = np.maximum((smallest * self.occupancy).astype(np.int64), 1)
        return smallest + overhead

    def due_ns(self, trace: Trace) -> npt.NDArray[np.int64]:
        """Return when the batch of each query must be done at the latest: its deadline less the network's delay.

        The queue, slacks and drop rules know no other deadline. So a network is the same as a shorter SLO with later
        answers.

        Returns:
            int64, shape (queries,).
        """
        return trace.deadline_ns - self.network_ns if self.network_ns else trace.deadline_ns

    def actuation_delays(self, table: LatencyTable) -> list[int]:
        """Return the actuation delay of each subnet of a table, in nanoseconds.

        Raises:
            DataError: They come from the table, which does not have them.
        """
        if self.actuation_ns != FROM_TABLE:
            return [self.actuation_ns] * len(table.subnets)
        delays = [subnet.loading_ns for subnet in table.subnets]
        if None in delays:
            subnet = table.subnets[delays.index(None)].id
            hint = "give the actuation delay as a number"
            raise DataError(f"table of {table.device}", "a subnet has no loading time", subnet, hint)
        return [delay for delay in delays if delay is not None]


@lru_cache(maxsize=32)
def _with_query_overhead(table: LatencyTable, per_query_ns: int) -> LatencyTable:
    """Return the same object for the same table: policies remember what they worked out of it.

    Raises:
        SpecError: A batch takes longer than any run.
    """
    if per_query_ns * table.max_batch >= LATEST_NS:
        hint = f"less than {LATEST_NS} ns for a batch of {table.max_batch}"
        raise SpecError("cluster.dispatch_per_query_ns", "is too long", str(per_query_ns), hint)
    return table.with_query_overhead(per_query_ns)


def _check_fault(fault: WorkerFailure, workers: int, back: dict[int, int | None]) -> None:
    location = f"cluster.faults, worker {fault.worker} at {fault.at_ns} ns"
    if not 0 <= fault.worker < workers:
        raise SpecError(location, "unknown worker", str(fault.worker), f"0 to {workers - 1}")
    if type(fault.at_ns) is not int or not 0 <= fault.at_ns < LATEST_NS:
        raise SpecError(location, "invalid failure time", repr(fault.at_ns), "integer nanoseconds, 0 or more")
    back_ns = fault.recover_ns
    if back_ns is not None and (type(back_ns) is not int or not fault.at_ns < back_ns < LATEST_NS):
        raise SpecError(
            location, "recovery does not come after the failure", f"{fault.recover_ns} ns", "0 <= at < recover"
        )
    recovered = back.get(fault.worker, 0)
    if recovered is None or recovered > fault.at_ns:
        raise SpecError(location, "fails while it is down", str(fault.worker), "faults of one worker must not overlap")
