"""Nexus' squishy bin packing of sessions on GPUs (Shen et al., SOSP 2019, section 6.1); a session is a queue here.

As in uwsampl/nexus, commit b436191, `src/nexus/scheduler/backend_delegate.cpp`, the largest batch of a session takes
half of its SLO. As much of its rate as fills whole workers with such batches has them. The rest has a batch b and a
duty cycle d, in which b queries arrive: the largest b whose first query still meets its SLO, so that d + l(b) is
within it. The rests are packed best fit, the one that is busiest first. Sessions that share a worker share the
shortest of their duty cycles, with smaller batches, and fit if these take no longer than the cycle.

The number of workers follows from the packing. The policy `packed` runs it: it starts a batch as soon as a worker is
free and does not wait for the cycle to end. If `max_workers` are too few, the last nodes get no worker, and queues that
are on no other node share all workers.

Left out: several kinds of workers. The paper has one profile for each session, so it does not say how to pack several
kinds. The code takes the GPUs as they are: each rate goes to the one that it fills best, or else to the fastest
(`src/nexus/scheduler/scheduler.cpp`, `FindBestBackend`); how many of each kind there shall be, it does not say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from policies.planners.capacity import largest_batch
from sim.base.errors import PolicyError
from sim.base.parameters import Percent, check_parameters
from sim.base.units import NS_PER_S
from sim.engine.planning import WorkerPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.engine.planning import KindView, Planner, PlannerView, QueueView


class NexusSession(NamedTuple):
    """A rate of queries of one queue, and what a batch of them takes.

    Attributes:
        queue: The name of the queue.
        subnet: The id of its subnet.
        rate_per_s: The rate in queries/s.
        slo_ns: The SLO.
        latency_ns: What a batch takes with its overhead, by its size from 1; no longer than the largest batch.
    """

    queue: str
    subnet: str
    rate_per_s: float
    slo_ns: int
    latency_ns: tuple[int, ...]

    def takes_ns(self, batch: int) -> int:
        """Return what a batch takes."""
        return self.latency_ns[batch - 1]

    @property
    def throughput_per_s(self) -> float:
        """What a worker serves in largest batches."""
        return len(self.latency_ns) * NS_PER_S / self.latency_ns[-1]

    @property
    def share(self) -> tuple[int, float]:
        """The batch and the duty cycle in ns of the session alone on a worker that it does not fill."""
        gap_ns, batch = NS_PER_S / self.rate_per_s, 1
        while batch < len(self.latency_ns) and batch * gap_ns + self.takes_ns(batch + 1) <= self.slo_ns:
            batch += 1
        return batch, min(self.slo_ns - self.takes_ns(batch), batch * gap_ns)


class NexusNode(NamedTuple):
    """A worker of a packing.

    Attributes:
        sessions: What it serves.
        duty_ns: The duty cycle.
    """

    sessions: tuple[NexusSession, ...]
    duty_ns: float

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch of each session: what arrives in a cycle, and no more than its largest batch."""
        return tuple(
            min(len(one.latency_ns), max(1, math.ceil(self.duty_ns * one.rate_per_s / NS_PER_S - 1e-9)))
            for one in self.sessions
        )

    @property
    def occupancy(self) -> float:
        """The share of the cycle in which the worker is busy."""
        taken = sum(one.takes_ns(batch) for one, batch in zip(self.sessions, self.batches, strict=True))
        return taken / self.duty_ns

    def merged(self, other: NexusNode) -> NexusNode:
        """Return a worker with the sessions of both."""
        return NexusNode(self.sessions + other.sessions, min(self.duty_ns, other.duty_ns))


@dataclass(slots=True)
class NexusPacking:
    """Packs queues on as few workers as meet their SLOs, and has as many workers as that takes.

    Attributes:
        accuracy: That of the subnet of each queue in percent, as of the policy; its most accurate one if left out.
    """

    accuracy: Percent | None = None
    # The queues of each worker at the last turn.
    _given: dict[int, frozenset[str]] = field(default_factory=dict[int, "frozenset[str]"], init=False, repr=False)

    gives_workers_to_queues: ClassVar[bool] = True
    plans_for: ClassVar[str] = "packed"

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the workers of the packing, and the batches of each queue as the parameter `batches` of its policy.

        Raises:
            PolicyError: There are several kinds of workers.
            DataError: The table of a queue has no subnet of this accuracy, or several.
        """
        if len(view.kinds) > 1:
            value, hint = ", ".join(kind.name for kind in view.kinds), "one kind, or the planner proteus"
            raise PolicyError("nexus", "packs on workers of one kind", value, hint)
        kind = next(iter(view.kinds))
        if not view.arrivals:
            return WorkerPlan(kind.workers)
        nodes = packed([_session(view, queue, kind, self.accuracy) for queue in view.queues if queue.arrivals], kind)
        placed = self._placed(nodes, kind.serving)
        self._given = {worker: frozenset(one.queue for one in node.sessions) for worker, node in placed.items()}
        resident = {worker: [one.subnet for one in node.sessions] for worker, node in placed.items()}
        return WorkerPlan(
            len(nodes),
            queues={queue.name: {"batches": _batches(queue.name, placed)} for queue in view.queues},
            resident=resident if kind.units is not None else {},
        )

    def _placed(self, nodes: Sequence[NexusNode], serving: Sequence[int]) -> dict[int, NexusNode]:
        """Return the node of each worker that has one; a worker keeps the queues that it has, where it can."""
        placed: dict[int, NexusNode] = {}
        left = list(nodes[: len(serving)])
        for worker in serving:
            same = [node for node in left if frozenset(one.queue for one in node.sessions) == self._given.get(worker)]
            if same:
                placed[worker] = same[0]
                left.remove(same[0])
        return placed | dict(zip((worker for worker in serving if worker not in placed), left, strict=False))


def _batches(queue: str, placed: Mapping[int, NexusNode]) -> tuple[tuple[int, int | None], ...]:
    """Return the batch of a queue on each worker; nothing, so that it may use all, where no worker has it."""
    found: dict[int, int | None] = dict.fromkeys(placed)
    for worker, node in placed.items():
        for one, batch in zip(node.sessions, node.batches, strict=True):
            if one.queue == queue:
                found[worker] = batch
    return tuple(sorted(found.items())) if any(found.values()) else ()


def _session(view: PlannerView, queue: QueueView, kind: KindView, accuracy: float | None) -> NexusSession:
    table = queue.tables[kind.name]
    subnet = len(table.subnets) - 1 if accuracy is None else table.subnet_of_accuracy(accuracy)
    most = largest_batch(table, subnet, queue.slo_ns, view.dispatch_ns) or 1
    takes = tuple(table.latency(subnet, batch) + view.dispatch_ns for batch in range(1, most + 1))
    return NexusSession(queue.name, table.subnets[subnet].id, view.rate_of(queue), queue.slo_ns, takes)


def packed(sessions: Sequence[NexusSession], kind: KindView) -> list[NexusNode]:
    """Return the workers that serve sessions: first those that one session fills, then those of the rests.

    Args:
        sessions: The rate of each is above 0.
        kind: The workers.
    """
    whole: list[NexusNode] = []
    rests: list[NexusNode] = []
    for one in sessions:
        full = one._replace(rate_per_s=one.throughput_per_s)
        count = int(one.rate_per_s / full.rate_per_s)
        whole += [NexusNode((full,), full.latency_ns[-1])] * count
        rest = one._replace(rate_per_s=one.rate_per_s - count * full.rate_per_s)
        if rest.rate_per_s > 1e-9 * full.rate_per_s:
            rests.append(NexusNode((rest,), max(rest.share[1], rest.takes_ns(rest.share[0]))))
    shared: list[NexusNode] = []
    for node in sorted(rests, key=lambda node: -node.occupancy):
        merged = [(other.merged(node), place) for place, other in enumerate(shared)]
        fitting = [(new.occupancy, place, new) for new, place in merged if new.occupancy <= 1 and _fits(new, kind)]
        if fitting:
            _, place, new = max(fitting, key=lambda found: (found[0], -found[1]))
            shared[place] = new
        else:
            shared.append(node)
    return whole + shared


def _fits(node: NexusNode, kind: KindView) -> bool:
    return kind.fit(*(one.subnet for one in node.sessions))


if TYPE_CHECKING:
    _conforms: type[Planner] = NexusPacking
