"""The workers in an experiment file, and their latency tables: the section `cluster` and what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from policies.placement import SearchRule
from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, NonNegativeInt, Positive, PositiveInt
from sim.base.units import ns_from_ms, ns_from_s
from sim.engine.cluster import Cluster, DropRule, Routing, WorkerFailure
from sim.engine.kinds import MAX_WORKERS, OfferRule, WorkerKind
from sim.engine.residence import BYTES_PER_GB, Memory, Sharing
from sim.engine.scaling import Scaling
from sim.engine.service_queue import QueueOrder, ServiceQueue
from sim.tables.law import HIGHEST_RATIO, LatencyLaw, LawName, PlanName
from ssim.files.model import Closed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.tables.latency import LatencyTable

NO_LIMIT = "has no meaning where memory holds all weights"

Plan = PlanName | Annotated[float, Field(gt=0, le=HIGHEST_RATIO)]


class FaultSpec(Closed):
    """A worker that fails, and may come back."""

    worker: NonNegativeInt
    """Number of the worker, from 0."""
    at_s: NonNegative
    """When it fails, in seconds from the start of the trace."""
    recover_s: NonNegative | None = None
    """When it comes back, in seconds from the start of the trace; never if left out."""


class LawSpec(Closed):
    """How the latency of a batch is distributed."""

    law: LawName = "fixed"
    """`fixed`; `lognormal`, by the 99th percentiles of the table; or `samples`, the measurements in the table."""
    p99_over_median: Annotated[float, Field(ge=1, le=HIGHEST_RATIO)] | None = None
    """The spread of a lognormal, the same for all cells; that of the table's 99th percentiles if left out."""


class TableSpec(Closed):
    """A latency table, and which part of it to use."""

    use: str
    """A shipped name, or a file relative to this one."""
    max_batch: PositiveInt | None = None
    """Largest batch size to use; all that the table has if left out."""
    stages: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Stages whose latencies are added up, such as `forward`; the table's own latency if left out."""
    where: dict[str, str | int | float] = Field(default_factory=dict)
    """Rows of a CSV to use, by column: a text, a unique part of one, or a pattern, such as `{device: pascal}`."""
    plan: Plan | None = None
    """The latencies that policies plan on: `median`, `mean`, `p95`, `p99`, or a factor; the table's if left out."""


class WattsSpec(Closed):
    """The power of a worker in watts."""

    idle: NonNegative
    """While it waits."""
    busy: NonNegative
    """While it runs a batch."""


class KindSpec(Closed):
    """Workers of a kind: their number, their latencies, their price and their power."""

    name: str
    """Its name, for tables and figures."""
    workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)]
    """Number of workers, at the start if a planner changes it."""
    table: TableSpec | None = None
    """Its latency table, as `latency_table`, which holds for kinds without one; the subnets must be the same."""
    price_per_h: NonNegative | None = None
    """The price of a worker for an hour."""
    watts: WattsSpec | None = None
    """The power of a worker."""
    max_workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None = None
    """The most workers that `planner` may ask for; their number never changes if left out."""
    min_workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] | None = None
    """The fewest workers that it may leave; 1 if left out."""
    startup_s: NonNegative | None = None
    """Seconds that a new worker takes to start, for which it is paid; 0 if left out."""
    memory_gb: Positive | None = None
    """Memory of a worker for weights in gigabytes of 10^9 bytes; it holds all if left out."""
    load_gb_per_s: Positive | None = None
    """Gigabytes of weights that a worker loads in a second; the loading times of the latency table if left out."""


class ClusterSpec(Closed):
    """The workers, what a batch costs beside its latency, and what is dropped."""

    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None = None
    """Number of workers, if all are alike; at the start, if a planner changes it."""
    kinds: tuple[KindSpec, ...] = ()
    """Kinds of workers, in place of `workers`; they are numbered kind by kind."""
    offer: OfferRule = "kind"
    """Which free workers a policy is offered first: `kind` (in the order of `kinds`), `fastest` or `cheapest`."""
    currency: str | None = None
    """The currency of the prices, such as EUR."""
    dispatch_ms: NonNegative = 0.0
    """Overhead of each batch in milliseconds, on top of its latency."""
    dispatch_per_query_ms: NonNegative = 0.0
    """Overhead of each query in a batch in milliseconds, on top of that of the batch."""
    network_ms: NonNegative = 0.0
    """Delay of each query between client and worker in milliseconds, both ways together; it keeps no worker busy."""
    actuation_ms: NonNegative | Literal["table"] = 0.0
    """Delay in milliseconds when a worker changes its subnet; `table` takes it from the latency table."""
    drop: DropRule = "never"
    """Which queries are dropped: `never`, `expired` (deadline passed) or `hopeless` (no subnet is fast enough)."""
    faults: tuple[FaultSpec, ...] = ()
    """Workers that fail."""
    order: QueueOrder = "edf"
    """Which of the `queues` is offered a free worker first: `edf` (earliest deadline), `slack`, `priority`, `fair`."""
    routing: Routing = "central"
    """Where queries wait: `central`, or in a queue for each worker, by `round_robin`, `shortest` queue, or `random`."""
    latency: LawSpec = LawSpec()
    """How the latency of a batch is distributed: the name of a law, or a law with its spread."""
    dispatch_p99_over_median: Annotated[float, Field(ge=1, le=HIGHEST_RATIO)] | None = None
    """The spread of a lognormal overhead of each batch, whose median is `dispatch_ms`; always the same if left out."""
    occupancy: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The part of the latency after which a worker takes the next batch; below 1, batches overlap (pipelines)."""
    max_workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None = None
    """The most workers that `planner` may ask for, if all are alike; their number never changes if left out."""
    min_workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] | None = None
    """The fewest workers that it may leave; 1 if left out."""
    startup_s: NonNegative | None = None
    """Seconds that a new worker takes to start, for which it is paid; 0 if left out."""
    memory_gb: Positive | None = None
    """Memory of a worker for weights in gigabytes of 10^9 bytes, if all are alike; it holds all if left out."""
    load_gb_per_s: Positive | None = None
    """Gigabytes of weights that a worker loads in a second; the loading times of the latency table if left out."""
    weights: Sharing | None = None
    """What is loaded as a whole: `shared` weights of a supernet, the default, or `separate` models."""
    bytes_per_weight: Positive | None = None
    """Bytes of a weight; 4 (fp32) if left out."""
    placement: Literal["on_demand"] | SearchRule | dict[str, tuple[int, ...]] = "on_demand"
    """Which workers serve which queue: `on_demand`, all serve all, and load what they lack; lists of workers by queue;
    or found by simulation before the run: `greedy` or `fast_greedy`."""

    def build(self, tables: Sequence[LatencyTable | None] = (), queues: tuple[ServiceQueue, ...] = ()) -> Cluster:
        """Return the cluster, in nanoseconds.

        Args:
            tables: The table of each kind of workers, None for the table of the run.
            queues: The queues of the file.

        Raises:
            SpecError: A fault does not fit the workers, or another fault; kinds of workers or queues do not fit
                together; or the law of latencies takes no spread.
        """
        if (self.workers is None) == (not self.kinds):
            what = "is missing" if self.workers is None else "is given beside kinds, which have their own numbers"
            raise SpecError("cluster.workers", what, "", "give the number of workers, or kinds of workers")
        kinds = tuple(
            WorkerKind(
                kind.name,
                kind.workers,
                table,
                kind.price_per_h,
                None if kind.watts is None else kind.watts.idle,
                None if kind.watts is None else kind.watts.busy,
                _scaling(kind, f"cluster.kinds.{number}"),
                _memory(kind, f"cluster.kinds.{number}"),
            )
            for number, (kind, table) in enumerate(zip(self.kinds, tables, strict=True))
        )
        faults = (
            WorkerFailure(f.worker, ns_from_s(f.at_s), None if f.recover_s is None else ns_from_s(f.recover_s))
            for f in self.faults
        )
        if self.memory_gb is None and not any(kind.memory_gb for kind in self.kinds):
            for name in ("weights", "bytes_per_weight"):
                if (value := getattr(self, name)) is not None:
                    raise SpecError(f"cluster.{name}", NO_LIMIT, str(value), "give memory_gb, or leave it out")
        placement = None if isinstance(self.placement, str) else self.placement
        if placement and (unserved := [name for name, workers in placement.items() if not workers]):
            hint = "the workers that serve it, such as [0]"
            raise SpecError(f"cluster.placement.{unserved[0]}", "no worker serves this queue", "[]", hint)
        actuation: int | Literal["table"] = "table" if self.actuation_ms == "table" else ns_from_ms(self.actuation_ms)
        return Cluster(
            self.workers or sum(kind.workers for kind in kinds),
            ns_from_ms(self.dispatch_ms),
            actuation,
            self.drop,
            tuple(faults),
            ns_from_ms(self.dispatch_per_query_ms),
            ns_from_ms(self.network_ms),
            LatencyLaw(self.latency.law, self.latency.p99_over_median),
            self.dispatch_p99_over_median,
            self.occupancy,
            kinds=kinds,
            offer=self.offer,
            currency=self.currency,
            scaling=_scaling(self, "cluster"),
            queues=queues,
            order=self.order,
            routing=self.routing,
            memory=_memory(self, "cluster"),
            weights=self.weights or "shared",
            bytes_per_weight=self.bytes_per_weight or 4,
            placement=placement,
        )


def _scaling(workers: KindSpec | ClusterSpec, place: str) -> Scaling | None:
    """Return how far the number of workers may change; None if it may not.

    Args:
        workers: A section of the file.
        place: Where it stands.

    Raises:
        SpecError: A key has no meaning without `max_workers`.
    """
    if workers.max_workers is None:
        for name in ("min_workers", "startup_s"):
            if (value := getattr(workers, name)) is not None:
                problem = "has no meaning where the number of workers never changes"
                raise SpecError(f"{place}.{name}", problem, f"{value:g}", "give max_workers, or leave it out")
        return None
    least = 1 if workers.min_workers is None else workers.min_workers
    return Scaling(workers.max_workers, least, ns_from_s(workers.startup_s or 0.0))


def _memory(workers: KindSpec | ClusterSpec, place: str) -> Memory | None:
    """Return the memory of workers; None for one that holds all.

    Args:
        workers: A section of the file.
        place: Where it stands.

    Raises:
        SpecError: A key has no meaning without `memory_gb`.
    """
    rate = workers.load_gb_per_s
    if workers.memory_gb is None:
        if rate is not None:
            hint = "give memory_gb, or leave it out"
            raise SpecError(f"{place}.load_gb_per_s", NO_LIMIT, f"{rate:g}", hint)
        return None
    return Memory(round(workers.memory_gb * BYTES_PER_GB), None if rate is None else rate * BYTES_PER_GB)
