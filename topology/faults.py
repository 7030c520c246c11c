"""Injected faults as the runtime takes them, and who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import SpecError
from topology.state import AWAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.deployment import InjectedFault
    from topology.plan import Plan, Worker
    from topology.program import Program
    from topology.state import WorkerState


def presence_of(state: WorkerState) -> str:
    """Return whether a worker is `present`, `absent` (still to join), `away` (to come back) or `ended`."""
    if state.ended in {"", "died"}:  # a crash is silent
        return "absent" if state.stop is None and not state.ended else "present"
    return AWAY if state.ended == AWAY else "ended"


def begins_s(fault: InjectedFault) -> float:
    """Return when a worker is there first."""
    first = fault.session(0)
    return first[0] if first else 0.0


def refuse_sessions(worker: Worker, program: type[Program]) -> None:
    """Say that a worker can't come back.

    Raises:
        SpecError: Always.
    """
    problem = f"{program.__name__} can't come back: it does not wait for work before it sends (receives_first)"
    raise SpecError(f"faults, {worker.id}, sessions", problem, "", "use join_s and leave_s")


def by_worker(plan: Plan, faults: Sequence[InjectedFault]) -> dict[str, InjectedFault]:
    """Return faults by the id of the worker.

    Raises:
        SpecError: A worker is unknown, or has several entries.
    """
    by_worker: dict[str, InjectedFault] = {}
    for fault in faults:
        plan.worker(fault.worker)
        if fault.worker in by_worker:
            raise SpecError("faults", "duplicate worker", repr(fault.worker), "merge the entries of a worker into one")
        by_worker[fault.worker] = fault
    return by_worker
