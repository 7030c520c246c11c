"""The offline optimum of a small trace: the zero-one program of SuperServe (NSDI 2025, section 4, Eq. 1), in slots.

The paper's variables are the subnet, worker and start of each batch of queries. Here identical queries, batches and
workers are counted instead, which is exact (`docs/optimum.md` has the proof):

- `x[way, slot]`, integers: number of batches that start in this way (subnet and batch size) at this slot. At no slot
  are more of them running than there are workers (1b); they can then be assigned to workers.
- `y[group, way, slot]`: number of queries of a group (one queue, arrival slot and deadline slot) in them. Only between
  arrival (1c) and deadline (1e); no query twice (1a); at most the size of the batches. These are flows, so that
  integral batches imply integral flows.

Time is divided into slots. With pessimistic rounding (late arrivals, long batches, early deadlines) the optimum is a
feasible schedule: a lower bound. With optimistic rounding every schedule in continuous time is one in slots: an upper
bound. With slots that divide all times the two are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.errors import SpecError, SsimError

if TYPE_CHECKING:
    import numpy.typing as npt
    from scipy.optimize import Bounds, LinearConstraint

    from sim.bounds.instance import Instance


class Batch(NamedTuple):
    """Batches of the lower bound that start at one time in one way; `queries` is their total size."""

    start_ns: int
    way: int
    batches: int
    queries: int


@dataclass(frozen=True, slots=True)
class Optimum:
    """The value that the best clairvoyant policy reaches, between two bounds.

    Attributes:
        lower: Mean value per query of the schedule in `batches`.
        upper: Mean value per query that no schedule exceeds.
        proven: Whether the solver proved both optimal within its time limit, so that only the slots separate them.
        batches: The schedule of the lower bound.
    """

    lower: float
    upper: float
    proven: bool
    batches: tuple[Batch, ...]


MOST_VARIABLES = 2_000_000
"""Limit above which the solver needs hours and tens of gigabytes."""


def offline_optimum(instance: Instance, slot_ns: int, time_limit_s: float = 60.0) -> Optimum:
    """Return the optimum of an instance, solved twice: with pessimistic and with optimistic rounding.

    A solver that runs out of time gives its best schedule and its best bound, which are valid, too.

    Args:
        instance: The queries, workers and ways.
        slot_ns: The length of a slot in nanoseconds; at most the shortest batch.
        time_limit_s: Time limit of each of the two.

    Raises:
        SpecError: A slot is longer than the shortest batch, the cluster has failures, actuation delays, drawn times,
            batches that overlap or workers that come and go, or there are too many queries for such short slots.
        SsimError: The solver failed.
    """
    instance.check_workers_stay()
    shortest = int(instance.duration_ns.min())
    if not 1 <= slot_ns <= shortest:
        raise SpecError("slot_ns", "invalid slot length", str(slot_ns), f"1 to {shortest}, the shortest batch")
    cluster = instance.cluster
    if cluster.is_drawn or cluster.occupancy < 1:
        key = "latency" if cluster.latency.is_drawn else "dispatch_p99_over_median" if cluster.is_drawn else "occupancy"
        problem = "the offline optimum is for fixed latencies, and for batches that do not overlap on a worker"
        raise SpecError(f"cluster.{key}", problem, "", f"leave out {key}; the bound holds with it, too")
    if cluster.faults or cluster.actuation_ns != 0:
        problem = "the zero-one program supports neither failures nor actuation delays"
        raise SpecError(
            "cluster", problem, "", "use a cluster without faults and with actuation_ns 0; the bound supports both"
        )
    lower = _solve(_Slots.late(instance, slot_ns), instance, slot_ns, time_limit_s)
    upper = _solve(_Slots.early(instance, slot_ns), instance, slot_ns, time_limit_s)
    return Optimum(lower.reached, upper.bound, lower.proven and upper.proven, lower.batches)


class _Slots(NamedTuple):
    """An instance in slots: groups of queries and their numbers, and the lengths of the ways; all int64."""

    queue: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]
    deadline: npt.NDArray[np.int64]
    queries: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]

    @classmethod
    def late(cls, instance: Instance, slot_ns: int) -> _Slots:
        """Return the slots with pessimistic rounding."""
        arrival, duration = -(-instance.arrival_ns // slot_ns), -(-instance.duration_ns // slot_ns)
        return cls._grouped(instance.queue_of, arrival, instance.deadline_ns // slot_ns, duration)

    @classmethod
    def early(cls, instance: Instance, slot_ns: int) -> _Slots:
        """Return the slots with optimistic rounding."""
        arrival, deadline = instance.arrival_ns // slot_ns, instance.deadline_ns // slot_ns
        return cls._grouped(instance.queue_of, arrival, deadline, instance.duration_ns // slot_ns)

    @classmethod
    def _grouped(
        cls,
        queue: npt.NDArray[np.int64],
        arrival: npt.NDArray[np.int64],
        deadline: npt.NDArray[np.int64],
        duration: npt.NDArray[np.int64],
    ) -> _Slots:
        groups, queries = np.unique(np.column_stack([queue, arrival, deadline]), axis=0, return_counts=True)
        return cls(groups[:, 0], groups[:, 1], groups[:, 2], queries.astype(np.int64), duration)


class _Solved(NamedTuple):
    reached: float
    bound: float
    proven: bool
    batches: tuple[Batch, ...]


def _solve(slots: _Slots, instance: Instance, slot_ns: int, time_limit_s: float) -> _Solved:
    """Return the objective of the program and the bound that its solver proved."""
    from scipy.optimize import milp  # noqa: PLC0415 - half a second, and only this needs it

    program = _Program.of(slots, instance)
    if not len(program.group):
        return _Solved(0.0, 0.0, proven=True, batches=())
    starts = len(program.start)
    cost = np.concatenate([np.zeros(starts), -instance.value[program.way[program.batch]]])
    solved = milp(
        cost,
        integrality=np.concatenate([np.ones(starts), np.zeros(len(program.group))]),
        bounds=program.bounds(slots, instance),
        constraints=program.constraints(slots, instance),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )
    if solved.x is None and solved.mip_dual_bound is None:
        raise SsimError("milp", "found neither a schedule nor a bound", str(solved.message), "allow more time")
    everything = float(instance.value.max()) * len(instance)
    bound = everything if solved.mip_dual_bound is None else min(everything, -float(solved.mip_dual_bound))
    if solved.x is None:
        return _Solved(0.0, bound / len(instance), proven=False, batches=())
    held = np.bincount(program.batch, solved.x[starts:], minlength=starts)
    batches = tuple(
        Batch(int(program.start[i]) * slot_ns, int(program.way[i]), round(solved.x[i]), round(held[i]))
        for i in np.flatnonzero(np.rint(held))
    )
    # The value of whole queries, not the solver's objective: that is off by its tolerances.
    reached = sum(instance.value[batch.way] * batch.queries for batch in batches)
    return _Solved(float(reached) / len(instance), bound / len(instance), solved.status == 0, batches)


class _Program(NamedTuple):
    """The variables: batches by way and start, and queries by group and batch; all int64."""

    way: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]

    @classmethod
    def of(cls, slots: _Slots, instance: Instance) -> _Program:
        """Return the variables that can be nonzero.

        Raises:
            SpecError: There are too many.
        """
        room = slots.deadline[:, None] - slots.duration[None, :] - slots.arrival[:, None] + 1
        fitting = np.where(slots.queue[:, None] == instance.queue[None, :], np.maximum(room, 0), 0)
        total = int(fitting.sum())
        if total > MOST_VARIABLES:
            problem, value = "needs too many variables", f"{total} for {len(instance)} queries"
            raise SpecError("slot_ns", problem, value, f"longer slots or fewer queries: up to {MOST_VARIABLES}")
        groups, ways = np.nonzero(fitting)
        times = fitting[groups, ways]
        group, way = np.repeat(groups, times), np.repeat(ways, times)
        first = np.repeat(np.cumsum(times) - times, times)
        start = slots.arrival[group] + np.arange(total) - first
        pairs, batch = np.unique(np.column_stack([way, start]), axis=0, return_inverse=True)
        return cls(pairs[:, 0], pairs[:, 1], group, batch.ravel())

    def bounds(self, slots: _Slots, instance: Instance) -> Bounds:
        """Return the bounds of all variables."""
        from scipy.optimize import Bounds  # noqa: PLC0415 - as above

        return Bounds(0, np.concatenate([instance.workers[instance.group[self.way]], slots.queries[self.group]]))

    def constraints(self, slots: _Slots, instance: Instance) -> list[LinearConstraint]:
        """Return the constraints: no query is served twice, no batch exceeds its size, no worker runs two batches."""
        from scipy.optimize import LinearConstraint  # noqa: PLC0415 - as above
        from scipy.sparse import csr_array, hstack  # noqa: PLC0415 - as above

        starts, flows = len(self.start), len(self.group)
        ones, each = np.ones(flows), np.arange(flows)
        served = csr_array((ones, (self.group, each)), shape=(len(slots.queries), flows))
        held = csr_array((ones, (self.batch, each)), shape=(starts, flows))
        room = csr_array(
            (-instance.max_queries[self.way].astype(float), (np.arange(starts),) * 2), shape=(starts, starts)
        )
        length = slots.duration[self.way]
        first = int(self.start.min())
        columns = np.repeat(np.arange(starts), length)
        begun = np.repeat(np.cumsum(length) - length, length)
        rows = np.repeat(self.start - first, length) + np.arange(len(columns)) - begun
        span = int(rows.max()) + 1
        rows += np.repeat(instance.group[self.way], length) * span  # each group of workers has rows of its own
        shape = (len(instance.workers) * span, starts)
        running = csr_array((np.ones(len(columns)), (rows, columns)), shape=shape)
        nothing = csr_array((len(slots.queries), starts))
        return [
            LinearConstraint(hstack([nothing, served]), ub=slots.queries),
            LinearConstraint(hstack([room, held]), ub=0),
            LinearConstraint(hstack([running, csr_array((shape[0], flows))]), ub=np.repeat(instance.workers, span)),
        ]
