"""Residence: which weights lie in the memory of a worker, and how long absent ones take to load.

A *unit* of weights is loaded and evicted as a whole: a supernet with all of its subnets, or one of several separate
models. A batch on a subnet whose unit is absent waits on its worker until the unit is loaded; the least recently used
units are evicted to make room. Only weights count: neither activations nor what a framework takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from sim.base.errors import DataError, SpecError
from sim.base.units import NS_PER_S
from sim.engine.kinds import pool_of_workers
from sim.engine.placement import queues_on
from sim.traces.trace import LATEST_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import LatencyTable

Sharing = Literal["shared", "separate"]
"""What is loaded as a whole: the subnets of a latency table, which share the weights of a supernet; or each subnet, as
a model of its own."""

BYTES_PER_GB = 10**9


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a worker for weights.

    Attributes:
        size_bytes: How many bytes of weights it holds.
        load_bytes_per_s: How fast weights are loaded; None for the loading times of the latency table.
    """

    size_bytes: int
    load_bytes_per_s: float | None = None

    def fault(self) -> tuple[str, str, str, str] | None:
        """Return what is wrong with it: key, problem, value and hint; or None."""
        if type(self.size_bytes) is not int or self.size_bytes < 1:
            return "memory_gb", "is out of range", repr(self.size_bytes), "bytes: an integer above 0"
        rate: Any = self.load_bytes_per_s
        if rate is None:
            return None
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not (rate > 0 and isfinite(rate)):
            return "load_gb_per_s", "is out of range", repr(rate), "bytes/s: a number above 0"
        return None


class Unit(NamedTuple):
    """Weights that are loaded and evicted as a whole.

    Attributes:
        subnet: The subnet that names it: a separate model itself, or the most accurate subnet of a supernet.
        size_bytes: Its bytes: of a supernet, those of its largest subnet.
        load_ns: How long it takes to load: of a supernet, as long as its slowest subnet.
    """

    subnet: str
    size_bytes: int
    load_ns: int


class Units(NamedTuple):
    """The units of weights on the workers of a kind.

    Attributes:
        units: All of them, in the order of the subnets of the run: a supernet stands where its most accurate one does.
        of: The unit of each subnet, by queue and subnet of the queue's table.
        named: The unit of each subnet by its id; an id that a queue before has for another one follows the queue's name
            and a slash.
        size_bytes: The size of the memory; 0 where it has no limit.
    """

    units: tuple[Unit, ...]
    of: tuple[tuple[int, ...], ...]
    named: Mapping[str, int]
    size_bytes: int

    def fit(self, subnets: Iterable[str]) -> bool:
        """Return whether the weights of subnets, by id, fit into the memory together."""
        needed = {self.named[name] for name in subnets}
        return not self.units or sum(self.units[unit].size_bytes for unit in needed) <= self.size_bytes

    def of_queues(self, queues: Iterable[int]) -> list[int]:
        """Return the units that serve some queues, given as indices, in order."""
        return sorted({unit for queue in queues for unit in self.of[queue]}) if self.units else []

    def bytes_for(self, queues: Iterable[int]) -> int:
        """Return the bytes of the weights that serve some queues, given as indices; 0 where memory has no limit."""
        return sum(self.units[unit].size_bytes for unit in self.of_queues(queues))

    def first(self, memory: Memory) -> list[int]:
        """Return the units that a worker that may run all of them begins with: each in its turn, if it still fits."""
        found, free = [], memory.size_bytes
        for number, unit in enumerate(self.units):
            if unit.size_bytes <= free:
                found.append(number)
                free -= unit.size_bytes
        return found


def check_sharing(weights: Sharing, bytes_per_weight: float) -> None:
    """Check how a cluster says that weights lie in memory.

    Raises:
        SpecError: A value is unknown or out of range.
    """
    if weights not in get_args(Sharing):
        raise SpecError("cluster.weights", "is unknown", repr(weights), " or ".join(get_args(Sharing)))
    each: Any = bytes_per_weight
    if isinstance(each, bool) or not isinstance(each, int | float) or not (each > 0 and isfinite(each)):
        raise SpecError("cluster.bytes_per_weight", "is out of range", repr(each), "a number above 0, such as 4 (fp32)")


def units_of(cluster: Cluster, pools: Sequence[WorkerPool]) -> Units:
    """Return the units of weights on the workers of a kind; without a placement, each fits into their memory.

    Args:
        cluster: The workers, of which this kind has a limited memory.
        pools: Those of the kind, for each queue.

    Raises:
        DataError: A table lacks the number of weights of a subnet, or its loading time where that is needed.
        SpecError: The memory does not hold a unit, or loading takes longer than any run.
    """
    memory = cluster.memory_of(pools[0].kind)
    if memory is None:
        return Units((), (), {}, 0)
    kinds = [kind.name for kind in cluster.kinds]
    place = f"cluster.kinds.{kinds.index(pools[0].kind)}" if kinds else "cluster"
    rows = [pool.rows if cluster.weights == "separate" else [pool.rows[-1]] * len(pool.rows) for pool in pools]
    found: dict[int, Unit] = {}
    for pool, of_subnet in zip(pools, rows, strict=True):
        for subnet, row in enumerate(of_subnet):
            size_bytes, load_ns = _weights(cluster, memory, pool.table, subnet)
            name = pool.table.subnets[pool.rows.index(row)].id
            known = found.get(row, Unit(name, 0, 0))
            found[row] = Unit(name, max(known.size_bytes, size_bytes), max(known.load_ns, load_ns))
    largest = max(found.values(), key=lambda unit: unit.size_bytes)
    if largest.size_bytes > memory.size_bytes and cluster.placement is None:
        what = "the supernet" if cluster.weights == "shared" else f"subnet {largest.subnet}"
        hint = f"{largest.size_bytes / BYTES_PER_GB:g} or more, or a table without large subnets"
        value = f"{memory.size_bytes / BYTES_PER_GB:g} GB"
        raise SpecError(f"{place}.memory_gb", f"does not hold the weights of {what}", value, hint)
    slowest = max(found.values(), key=lambda unit: unit.load_ns)
    if slowest.load_ns >= LATEST_NS:
        raise SpecError(f"{place}.load_gb_per_s", "loading takes longer than any run", slowest.subnet, "a higher rate")
    order = sorted(found)
    number = {row: place for place, row in enumerate(order)}
    of = tuple(tuple(number[row] for row in one) for one in rows)
    return Units(tuple(found[row] for row in order), of, _named(cluster, pools, of), memory.size_bytes)


def _named(cluster: Cluster, pools: Sequence[WorkerPool], of: Sequence[Sequence[int]]) -> dict[str, int]:
    """Return the unit of each subnet by the id that it has in results."""
    found: dict[str, int] = {}
    rows: dict[str, int] = {}
    for place, (pool, units) in enumerate(zip(pools, of, strict=True)):
        for subnet, row, unit in zip(pool.table.subnets, pool.rows, units, strict=True):
            name = subnet.id if rows.setdefault(subnet.id, row) == row else f"{cluster.queues[place].name}/{subnet.id}"
            found.setdefault(name, unit)
    return found


def _weights(cluster: Cluster, memory: Memory, table: LatencyTable, subnet: int) -> tuple[int, int]:
    """Return bytes and loading time of the weights of a subnet.

    Raises:
        DataError: The table lacks what is needed.
    """
    one, location = table.subnets[subnet], f"table of {table.device}"
    if one.params is None:
        problem, hint = "a subnet has no number of weights", "a table with params, or leave out memory_gb"
        raise DataError(location, problem, one.id, hint)
    size_bytes = ceil(one.params * cluster.bytes_per_weight)
    if memory.load_bytes_per_s is not None:
        return size_bytes, ceil(size_bytes / memory.load_bytes_per_s * NS_PER_S)
    if one.loading_ns is None and cluster.placement is not None and not cluster.faults:
        return size_bytes, 0  # nothing is ever loaded
    if one.loading_ns is None:
        raise DataError(location, "a subnet has no loading time", one.id, "give load_gb_per_s")
    return size_bytes, one.loading_ns


class WorkerMemory:
    """What lies in the memory of a worker during a run.

    Weights are loaded one unit after the other. Room is made when loading begins, and never by what the batch that runs
    uses. A batch that needs an absent unit has it loaded next; planned units are loaded beside execution.

    Law: the bytes of the units never exceed the size of the memory.
    """

    __slots__ = ("_free", "_kept", "_loaded_ns", "_ready_ns", "_running", "_units", "_wanted")

    def __init__(self, memory: Memory, units: Units, first: Sequence[int] | None = None) -> None:
        """Begin with some units, the first of them as the one used last: so more memory never loads more.

        Args:
            memory: Its size.
            units: All units.
            first: Those that it begins with, which fit; None for those that fit, each in its turn.
        """
        self._units = units.units
        self._free = memory.size_bytes
        # When each resident unit is there, or will be; the least recently used first.
        self._ready_ns: dict[int, int] = {}
        self._loaded_ns = 0  # when all that is being loaded is there
        self._running: int | None = None  # the unit that the batch under way uses
        self._kept: set[int] = set()  # by the latest plan
        self._wanted: list[int] = []  # of these, what is not being loaded yet
        for unit in reversed(units.first(memory) if first is None else first):
            self._place(unit, 0)

    @property
    def resident(self) -> list[int]:
        """The units that are there or being loaded, the least recently used first."""
        return list(self._ready_ns)

    def wait_ns(self, unit: int, now_ns: int) -> int:
        """Return how long a batch would wait for a unit."""
        ready_ns = self._ready_ns.get(unit)
        if ready_ns is None:
            ready_ns = max(now_ns, self._loaded_ns) + self._units[unit].load_ns
        return max(0, ready_ns - now_ns)

    def use(self, unit: int, now_ns: int) -> int:
        """Have a batch use a unit, which is loaded if it is absent; return how long the batch waits for it."""
        wait_ns = self.wait_ns(unit, now_ns)
        if unit in self._ready_ns:
            self._ready_ns[unit] = self._ready_ns.pop(unit)  # to the end: used last
        else:
            self._load(unit, now_ns, self.resident)
        self._running = unit
        return wait_ns

    def keep(self, units: Sequence[int], now_ns: int) -> None:
        """Load some units beside execution, one after the other; none of them makes room for another."""
        self._kept = set(units)
        self._wanted = [unit for unit in units if unit not in self._ready_ns]
        self._load_wanted(now_ns)

    def release(self, now_ns: int) -> None:
        """Note that no batch runs."""
        self._running = None
        self._load_wanted(now_ns)

    def clear(self) -> None:
        """Lose everything, as a worker that fails does."""
        self._wanted, self._kept, self._loaded_ns, self._running = [], set(), 0, None
        for unit in self.resident:
            self._evict(unit)

    def _load_wanted(self, now_ns: int) -> None:
        while self._wanted:
            unit = self._wanted[0]
            others = [other for other in self._ready_ns if other not in self._kept and other != self._running]
            if unit not in self._ready_ns and not self._load(unit, now_ns, others):
                return
            self._wanted.pop(0)

    def _load(self, unit: int, now_ns: int, evictable: Sequence[int]) -> bool:
        """Load a unit if the first of the evictable ones make room for it; return whether they do."""
        missing = self._units[unit].size_bytes - self._free
        if missing > sum(self._units[other].size_bytes for other in evictable):
            return False
        for other in evictable:
            if self._units[unit].size_bytes <= self._free:
                break
            self._evict(other)
        self._loaded_ns = max(now_ns, self._loaded_ns) + self._units[unit].load_ns
        self._place(unit, self._loaded_ns)
        return True

    def _place(self, unit: int, ready_ns: int) -> None:
        self._ready_ns[unit] = ready_ns
        self._free -= self._units[unit].size_bytes

    def _evict(self, unit: int) -> None:
        del self._ready_ns[unit]
        self._free += self._units[unit].size_bytes


class Residence:
    """What lies in the memories of the workers of a run."""

    def __init__(self, cluster: Cluster, pools: Sequence[Sequence[WorkerPool]]) -> None:
        """Begin with what fits into each memory.

        Args:
            cluster: The workers.
            pools: Their pools, by queue.

        Raises:
            DataError: See `units_of`.
            SpecError: See `units_of`; or a worker does not hold the models of the queues that are placed on it.
        """
        self._cluster = cluster
        of_kind = {pool.kind: [one[number] for one in pools] for number, pool in enumerate(pools[0])}
        units = {kind: units_of(cluster, mine) for kind, mine in of_kind.items()}
        self._limits = [(cluster.memory_of(pool.kind), units[pool.kind]) for pool in pools[0]]  # by pool
        self._of_worker: list[tuple[WorkerMemory, Units] | None] = []
        for pool in pool_of_workers(pools[0]):
            self.add(pool)

    def add(self, pool: int) -> None:
        """Add the next worker, which is of a pool."""
        memory, units = self._limits[pool]
        first = None if self._cluster.placement is None else self._placed(len(self._of_worker), units)
        self._of_worker.append(None if memory is None else (WorkerMemory(memory, units, first), units))

    def _placed(self, worker: int, units: Units) -> list[int]:
        """Return the units of the queues that are placed on a worker.

        Raises:
            SpecError: Its memory does not hold them all.
        """
        queues = queues_on(self._cluster, worker)
        if (needed := units.bytes_for(queues)) > units.size_bytes:
            names = ", ".join(self._cluster.queues[place].name for place in queues)
            size, problem = units.size_bytes / BYTES_PER_GB, f"worker {worker} does not hold the models of its queues"
            value, hint = f"{names}: {needed / BYTES_PER_GB:g} GB", f"memory_gb: {size:g}; fewer queues, or more memory"
            raise SpecError("cluster.placement", problem, value, hint)
        return units.of_queues(queues)

    def first_load_ns(self) -> list[int]:
        """Return how long a new worker of each pool loads what it begins with."""
        return [
            sum(units.units[one].load_ns for one in units.first(memory)) if memory else 0
            for memory, units in self._limits
        ]

    def units(self, pool: int) -> Units | None:
        """Return the units on workers of a pool; None where memory has no limit."""
        memory, units = self._limits[pool]
        return None if memory is None else units

    def wait_ns(self, worker: int, queue: int, subnet: int, now_ns: int) -> int:
        """Return how long a batch of a queue would wait for the weights of a subnet."""
        if (found := self._of_worker[worker]) is None:
            return 0
        memory, units = found
        return memory.wait_ns(units.of[queue][subnet], now_ns)

    def use(self, workers: Sequence[int], queue: int, subnet: int, now_ns: int) -> tuple[int, int]:
        """Have a batch of a queue use the weights of a subnet on one of some workers of a pool.

        Returns:
            The first worker of those that have the weights loaded soonest, and how long the batch waits for them.
        """
        worker = workers[0]
        if self._of_worker[worker] is not None and len(workers) > 1:
            worker = min(workers, key=lambda one: self.wait_ns(one, queue, subnet, now_ns))
        if (found := self._of_worker[worker]) is None:
            return worker, 0
        memory, units = found
        return worker, memory.use(units.of[queue][subnet], now_ns)

    def release(self, worker: int, now_ns: int) -> None:
        """Note that a worker runs no batch."""
        if (found := self._of_worker[worker]) is not None:
            found[0].release(now_ns)

    def keep(self, subnets: Mapping[int, Sequence[str]], now_ns: int) -> None:
        """Load the weights of subnets beside execution.

        Args:
            subnets: The ids of subnets by worker, which fit into its memory.
            now_ns: The instant.
        """
        for worker, names in subnets.items():
            if (found := self._of_worker[worker]) is not None:
                memory, units = found
                memory.keep(list(dict.fromkeys(units.named[name] for name in names)), now_ns)

    def resident(self, worker: int) -> tuple[str, ...]:
        """Return the ids of the subnets whose weights are on a worker, or being loaded; empty where all are."""
        if (found := self._of_worker[worker]) is None:
            return ()
        memory, units = found
        there = set(memory.resident)
        return tuple(name for name, unit in units.named.items() if unit in there)

    def clear(self, worker: int) -> None:
        """Have a worker lose its weights."""
        if (found := self._of_worker[worker]) is not None:
            found[0].clear()
