"""Storing a run in real time as it was after a number of rounds, and going on from there.

In virtual time a run is stored in mid-flight (`topology.checkpoints`). In real time nobody sees all workers at one
instant. But if nothing of a round is under way when it ends, a run is determined by the state of each worker after that
round: a copy that it makes when a turn of its loop begins. Workers that wait for work before they send have done so
when they have nothing left to do for the round; the others when they begin the next one.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from topology.checkpoints import put_back, safepoint, world_of
from topology.copying import pickled, unpickled
from topology.report import LogEntry, RunReport, Traffic
from topology.steps import Loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from topology.checkpoints import Checkpoints
    from topology.deployment import InjectedFault
    from topology.interpreter import Interpreter
    from topology.program import Program
    from topology.runtime import WorkerRuntime
    from topology.state import WorkerState
    from topology.tape import Safepoint


class RestedWorker(NamedTuple):
    """A worker after a number of rounds.

    Attributes:
        at_ns: When it was so.
        content: Its safepoint, pickled.
    """

    at_ns: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Rest:
    """A run after a number of rounds.

    Attributes:
        rounds: The number.
        workers: The workers by id; those that were lost begin anew.
        log: The events until then.
        by_round: The traffic until then.
    """

    rounds: int
    workers: Mapping[str, RestedWorker]
    log: Sequence[LogEntry]
    by_round: Mapping[int, Mapping[str, Traffic]]

    @property
    def at_ns(self) -> int:
        """When the last of the workers had completed these rounds."""
        return max(worker.at_ns for worker in self.workers.values())

    def report(self, channels: Iterable[str]) -> RunReport:
        """Return the report until then.

        Args:
            channels: The names of all channels.
        """
        report = RunReport(traffic={name: Traffic() for name in channels}, log=list(self.log))
        for number, of_round in self.by_round.items():
            for name, traffic in of_round.items():
                report.traffic[name].add(traffic)
                report.by_round.setdefault(number, {}).setdefault(name, Traffic()).add(traffic)
        return report


def store_rest(checkpoints: Checkpoints, report: RunReport, rounds: int, workers: Mapping[str, RestedWorker]) -> None:
    """Store a run after a number of rounds.

    Args:
        checkpoints: Where.
        report: The report, which may have gone on.
        rounds: The number.
        workers: The workers by id.
    """
    latest_ns = max(worker.at_ns for worker in workers.values())
    until_ns = {id_: worker.at_ns for id_, worker in workers.items()}
    log = [entry for entry in report.log if entry.at_ns <= until_ns.get(entry.worker, latest_ns)]
    by_round = {number: channels for number, channels in report.by_round.items() if number <= rounds}
    checkpoints.rounds = rounds
    checkpoints.store(pickle.dumps(Rest(rounds, workers, log, by_round)))


def read_rest(checkpoints: Checkpoints | None) -> Rest | None:
    """Return the run that is to go on, or None."""
    if checkpoints is None or checkpoints.resume is None:
        return None
    rest: Rest = pickle.loads(checkpoints.resume)  # noqa: S301 - written by the same user's run
    return rest


def unrestable(owners: Mapping[str, type[Program]], faults: Sequence[InjectedFault]) -> str:
    """Return why a run in real time can't be stored after a round, or "".

    Args:
        owners: The program of each role.
        faults: The faults that are injected.
    """
    if faults:
        return "faults are injected"
    role = next((role for role, owner in owners.items() if not owner.rests), None)
    return "" if role is None else f"{role} has messages under way when a round ends"


class RoundKeeper:
    """Keeps the workers of a process as they were after each so many rounds.

    Args:
        runtime: The workers.
        checkpoints: How many, and what is left out of copies.

    Attributes:
        refused: Why they can't be kept; "" if they can.
    """

    def __init__(self, runtime: WorkerRuntime, checkpoints: Checkpoints) -> None:
        self._runtime, self._checkpoints = runtime, checkpoints
        self._world = world_of(runtime, checkpoints.shared())
        self._known = {id(value): key for key, value in self._world.items()}
        self._kept: dict[str, dict[int, Safepoint]] = {id_: {} for id_ in runtime.states}
        self._idle_since: dict[str, int | None] = {}  # of workers that wait for work, the last round that they did
        self.refused = ""
        for interpreter in runtime.interpreters.values():
            interpreter.on_safepoint = self._keep

    def _keep(self, interpreter: Interpreter, state: WorkerState, position: int) -> None:
        """Keep a worker when a turn of its loop begins."""
        program, every = interpreter.program, self._checkpoints.every
        if self.refused or not isinstance(program.steps.body[position], Loop):
            return
        current = program.current_round
        if current is None:
            return
        if state.idle_channels:
            self._idle_since[state.worker.id] = current
        completed = current if state.idle_channels else current - 1
        number = -(-completed // every) * every
        if not state.idle_channels and completed != number:
            return
        try:
            self._kept[state.worker.id][number] = safepoint(interpreter, state, position, self._known)
        except Exception as error:  # noqa: BLE001  (whatever pickling a user's object raises)
            self.refused = f"the state of {state.worker.id} can't be copied: {error}"
        else:
            self.on_kept()

    def on_kept(self) -> None:
        """Do something after a worker was kept."""

    def after(self, rounds: int) -> dict[str, RestedWorker] | None:
        """Return the workers after a number of rounds, by id; None while some have not completed them."""
        if any(self._is_behind(state, rounds) for state in self._runtime.states.values()):
            return None
        found = {}
        for id_, kept in self._kept.items():
            numbers = [number for number in kept if number <= rounds]
            if numbers:
                newest = kept[max(numbers)]
                content = pickled(newest, self._known, self._checkpoints.reducers)
                found[id_] = RestedWorker(newest.at_ns, content)
            for number in numbers:
                if number != max(numbers):
                    del kept[number]
        return found

    def _is_behind(self, state: WorkerState, rounds: int) -> bool:
        """Return whether a worker has something to do for a round up to this one."""
        if state.ended:
            return False
        if not state.idle_channels:
            return rounds not in self._kept[state.worker.id]
        current = self._runtime.interpreters[state.worker.id].program.current_round
        return current is not None and current <= rounds and current != self._idle_since.get(state.worker.id)

    def restore(self, rest: Rest) -> dict[str, int]:
        """Put the workers back to where they were; return at which step each begins, by id."""
        positions = {}
        for id_ in self._runtime.states.keys() & rest.workers.keys():
            found: Safepoint = unpickled(rest.workers[id_].content, self._world)
            put_back(self._runtime.interpreters[id_], self._runtime.states[id_], found, self._world)
            self._kept[id_][rest.rounds] = found
            positions[id_] = found.position
        return positions


class LocalKeeper(RoundKeeper):
    """Stores the run, all of whose workers are in this process, as soon as it is wanted and they have rested."""

    def on_kept(self) -> None:
        """Store the run if it is wanted after this round."""
        checkpoints = self._checkpoints
        checkpoints.refused = self.refused
        workers = self.after(checkpoints.wanted) if checkpoints.wanted else None
        if workers:
            store_rest(checkpoints, self._runtime.report(), checkpoints.wanted, workers)
            checkpoints.wanted = 0
