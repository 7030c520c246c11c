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
    """When and where a run is stored. Only virtual time can be stored; other engines refuse it.

    Attributes:
        store: Called with the run as bytes.
        resume: A stored run to go on with; None to begin.
        shared: What programs refer to and is made anew when a run goes on, by name: it is not stored.
        reducers: How objects of some classes are pickled, as `__reduce__` says it.
        due: Set to have the run stored at the end of the present instant.
        refused: Why the run can't be stored; "" if it can.
    """

    store: Callable[[bytes], None]
    resume: bytes | None = None
    shared: Mapping[str, Any] = field(default_factory=dict)
    reducers: Mapping[type[Any], Callable[[Any], Any]] = field(default_factory=dict)
    due: bool = False
    refused: str = ""


class Recorder:
    """Keeps what each program sees, so that the run can be stored at the end of any instant.

    Args:
        runtime: All workers of the run.
        checkpoints: When and where.
        world: What belongs to the engine, by key.
    """

    def __init__(self, runtime: WorkerRuntime, checkpoints: Checkpoints, world: dict[Key, Any]) -> None:
        self._runtime, self._checkpoints = runtime, checkpoints
        self._world: dict[Key, Any] = {**world, ("runtime",): runtime, ("plan",): runtime.plan}
        self._world |= {("shared", name): value for name, value in checkpoints.shared.items()}
        for id_, state in runtime.states.items():
            interpreter = runtime.interpreters[id_]
            self._world |= {("worker", id_): state, ("program", id_): interpreter.program, ("io", id_): interpreter.io}
            for name, mailbox in state.mailboxes.items():
                self._world |= {("mailbox", id_, name): mailbox, ("port", id_, name): interpreter.io.port(name)}
            state.tape = Tape()
            interpreter.on_safepoint = self._mark
        self._known = {id(value): key for key, value in self._world.items()}

    def _mark(self, interpreter: Interpreter, state: WorkerState, position: int) -> None:
        """Keep the state of a program at a safepoint."""
        if state.tape is None or state.tape.replaying:
            return
        io = interpreter.io
        stats = {name: {peer: dict(of) for peer, of in io.port(name).peer_stats.items()} for name in state.mailboxes}
        try:
            content = copied((fields_of(interpreter.program), stats, state.rng_state), self._known)
        except Exception as error:  # noqa: BLE001  (whatever pickling a user's object raises)
            self._refuse(f"the state of {state.worker.id} can't be copied: {error}")
        else:
            state.tape.mark(Safepoint(position, content, state.now_ns()))

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
            fields, stats, state.rng_state = restored(tape.safepoint.state, self._world)
            set_fields(interpreter.program, fields)
            for name, of_peers in stats.items():
                interpreter.io.port(name).peer_stats.update(of_peers)
            if state.ended:
                continue
            tape.rewind()
            state.stop = start(state, tape.safepoint.position)
            tape.replay(drain)
