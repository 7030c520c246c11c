"""The cluster: identical workers behind one queue, overheads of dispatch and actuation, and worker failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sim.base.errors import DataError, SpecError
from sim.tables.law import FIXED, LatencyLaw
from sim.traces.trace import LATEST_NS

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable
    from sim.tables.law import LawName

DropRule = Literal["never", "expired", "hopeless"]
"""Queries dropped before a decision: none (as in the paper), those whose deadline has passed, or those whose slack is
below the smallest latency in the table plus the dispatch overhead."""

FROM_TABLE: Literal["table"] = "table"
"""Actuation delay: each subnet's own loading time, from the latency table."""


MAX_WORKERS = 1_000_000
"""More workers than this are assumed to be a typo."""


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
    """Identical workers behind one queue.

    Attributes:
        workers: Number of workers, from 1.
        dispatch_ns: Overhead of each batch that the latency table does not include (RPC, copies, decoding).
        actuation_ns: Delay of a batch whose worker last ran another subnet: one delay for all, or `"table"` for each
            subnet's loading time. A worker's first batch has no delay: its subnet was loaded before the run.
        drop: The drop rule.
        faults: Failures of workers at given times.
        latency: How the latency of a batch is distributed; the name of a law stands for that law.

    Raises:
        SpecError: A number is out of range, or two faults of one worker overlap.
    """

    workers: int
    dispatch_ns: int = 0
    actuation_ns: int | Literal["table"] = 0
    drop: DropRule = "never"
    faults: tuple[WorkerFailure, ...] = ()
    latency: LatencyLaw = FIXED

    def __post_init__(self) -> None:
        if type(self.workers) is not int or not 1 <= self.workers <= MAX_WORKERS:
            raise SpecError("cluster.workers", "is out of range", repr(self.workers), f"1 to {MAX_WORKERS}")
        for name in ("dispatch_ns", "actuation_ns"):
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
        object.__setattr__(self, "faults", tuple(sorted(self.faults, key=lambda fault: fault.at_ns)))
        back: dict[int, int | None] = {}
        for fault in self.faults:
            _check_fault(fault, self.workers, back)
            back[fault.worker] = fault.recover_ns

    def changes(self) -> list[tuple[int, int, bool]]:
        """Return failures and recoveries as (time, worker, whether it fails), in order of time, recoveries first."""
        fails = [(fault.at_ns, fault.worker, True) for fault in self.faults]
        recovers = [(fault.recover_ns, fault.worker, False) for fault in self.faults if fault.recover_ns is not None]
        return sorted(fails + recovers, key=lambda change: (change[0], change[2], change[1]))

    def down_ns(self, horizon_ns: int) -> int:
        """Return the downtime within a run of the given length, summed over workers."""
        ends = (fault.recover_ns if fault.recover_ns is not None else horizon_ns for fault in self.faults)
        return sum(max(0, min(end, horizon_ns) - fault.at_ns) for end, fault in zip(ends, self.faults, strict=True))

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
