"""Storing a run in mid-flight, and going on with it: all that is under way stays under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from topology.copying import Key, copied, fields_of, pickled, restored, set_fields, unpickled
from topology.state import AWAY
from topology.tape import Safepoint, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from topology.interpreter import Interpreter
    from topology.runtime import WorkerRuntime
    from topology.state import WorkerState


@dataclass
class Checkpoints:
    """When and where a run is stored: in virtual time in mid-flight, in real time after a round (`topology.rests`).

    Attributes:
        store: Called with the run as bytes.
        resume: A stored run to go on with; None to begin.
        shared: Returns what programs refer to and is made anew when a run goes on, by name: it is not stored.
        reducers: How objects of some classes are pickled, as `__reduce__` says it.
        due: Set to have the run stored at the end of the present instant, in virtual time.
        every: In real time: a run may be stored after this many rounds, and their multiples.
        wanted: Set to have the run stored as it is after this many rounds, in real time; 0 for not.
        rounds: After how many rounds the run is that is stored, in real time.
        refused: Why the run can't be stored; "" if it can.
    """

    store: Callable[[bytes], None]
    resume: bytes | None = None
    shared: Callable[[], Mapping[str, Any]] = dict
    reducers: Mapping[type[Any], Callable[[Any], Any]] = field(default_factory=dict)
    due: bool = False
    every: int = 1
    wanted: int = 0
    rounds: int = 0
    refused: str = ""


def world_of(runtime: WorkerRuntime, shared: Mapping[str, Any]) -> dict[Key, Any]:
    """Return what belongs to a run and not to the copy of a program, by key.

    Args:
        runtime: The workers of the run, or of a process.
        shared: What programs refer to and is made anew when a run goes on, by name.
    """
    world: dict[Key, Any] = {("runtime",): runtime, ("plan",): runtime.plan}
    world |= {("shared", name): value for name, value in shared.items()}
    for id_, state in runtime.states.items():
        interpreter = runtime.interpreters[id_]
        world |= {("worker", id_): state, ("program", id_): interpreter.program, ("io", id_): interpreter.io}
        for name, mailbox in state.mailboxes.items():
            world |= {("mailbox", id_, name): mailbox, ("port", id_, name): interpreter.io.port(name)}
    return world


def safepoint(interpreter: Interpreter, state: WorkerState, position: int, known: Mapping[int, Key]) -> Safepoint:
    """Return a copy of what a program can change.

    Args:
        interpreter: Runs the program.
        state: Its worker.
        position: The step that begins.
        known: The keys of what is left out, by its `id()`.

    Raises:
        Exception: It can't be copied; whatever pickle raises.
    """
    io = interpreter.io
    stats = {name: {peer: dict(of) for peer, of in io.port(name).peer_stats.items()} for name in state.mailboxes}
    content = copied((fields_of(interpreter.program), stats, state.rng_state), known)
    return Safepoint(position, content, state.now_ns())


def put_back(interpreter: Interpreter, state: WorkerState, found: Safepoint, world: Mapping[Key, Any]) -> None:
    """Put a program back to where it was copied."""
    fields, stats, state.rng_state = restored(found.state, world)
    set_fields(interpreter.program, fields)
    for name, of_peers in stats.items():
        interpreter.io.port(name).peer_stats.update(of_peers)


class Recorder:
    """Keeps what each program sees, so that the run can be stored at the end of any instant.

    Args:
        runtime: All workers of the run.
        checkpoints: When and where.
        world: What belongs to the engine, by key.
    """

    def __init__(self, runtime: WorkerRuntime, checkpoints: Checkpoints, world: dict[Key, Any]) -> None:
        self._runtime, self._checkpoints = runtime, checkpoints
        self._world = world | world_of(runtime, checkpoints.shared())
        for id_, state in runtime.states.items():
            state.tape = Tape()
            runtime.interpreters[id_].on_safepoint = self._mark
        self._known = {id(value): key for key, value in self._world.items()}

    def _mark(self, interpreter: Interpreter, state: WorkerState, position: int) -> None:
        """Keep the state of a program at a safepoint."""
        if state.tape is None or state.tape.replaying:
            return
        try:
            found = safepoint(interpreter, state, position, self._known)
        except Exception as error:  # noqa: BLE001  (whatever pickling a user's object raises)
            self._refuse(f"the state of {state.worker.id} can't be copied: {error}")
        else:
            state.tape.mark(found)

    def _refuse(self, why: str) -> None:
        self._checkpoints.refused = why
        for state in self._runtime.states.values():
            state.tape = None

    def store(self, engine: Any) -> None:
        """Store the run, with the state of its engine."""
        self._checkpoints.due = False
        if self._checkpoints.refused:
            return
        try:
            content = pickled((engine, self._runtime.stored()), self._known, self._checkpoints.reducers)
        except Exception as error:  # noqa: BLE001  (the same)
            self._refuse(str(error))
        else:
            self._checkpoints.store(content)

    @property
    def due(self) -> bool:
        """Whether the run is to be stored at the end of this instant."""
        return self._checkpoints.due

    def load(self) -> Any:
        """Put the run that is to go on into the runtime, if there is one; return the state of its engine, or None."""
        if self._checkpoints.resume is None:
            return None
        engine, stored = unpickled(self._checkpoints.resume, self._world)
        self._runtime.restore(stored)
        return engine

    def replay(self, start: Callable[[WorkerState, int], Callable[[], None]], drain: Callable[[], None]) -> None:
        """Bring all programs back to where they were.

        Args:
            start: Starts a worker at a position; returns what stops it.
            drain: Lets the workers go on as far as they can.
        """
        for id_, state in self._runtime.states.items():
            if state.tape is None or state.ended not in {"", AWAY} or state.stop is None:
                continue
            interpreter, tape = self._runtime.interpreters[id_], state.tape
            put_back(interpreter, state, tape.safepoint, self._world)
            if state.ended:
                continue
            tape.rewind()
            state.stop = start(state, tape.safepoint.position)
            tape.replay(drain)
