"""Watches the actors of a run: merges what they report, and tells the others who is lost and who comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
)

from sim.base.errors import SsimError
from sim.base.units import NS_PER_S
from topology.engines.ray_actor import facts
from topology.engines.ray_cluster import reach
from topology.report import LogEntry, RunReport, Traffic
from topology.state import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from topology.plan import Plan
    from topology.sites import PlannedProcess

_PATIENCE_S = 10.0
"""How long an actor may take to answer, in seconds."""
_RETURN_S = 60.0
"""How long a process that was lost may take to start again, in seconds."""
_RETRY_S = 0.5
_KNOCK_S = 3.0
"""The time between two looks whether the head of the cluster answers, in seconds."""
_HEAD_S = 30.0
"""How long it may not answer, in seconds: it may be restarted."""
LOST = "lost"
_FINAL = (ActorDiedError, ActorUnschedulableError)
"""An actor that is lost and won't be restarted."""
_LOSSES = (RayActorError, ActorUnschedulableError, ObjectLostError)
"""An actor that is lost, or its answer with the machine on which it was."""


class _Actor:
    """What is known of an actor.

    Attributes:
        handle: Its handle.
        restarts: How many times it was restarted.
        status: `running`, `done`, `returning` or `gone`.
        until: While it is returning: until when it is waited for.
        entries: How many entries of its log are known since it was started last.
        spans: How many of its spans are known since it was started last.
        traffic: The traffic that it reported since then.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.restarts = 0
        self.status = "running"
        self.until = 0.0
        self.forget()

    def forget(self) -> None:
        """Forget what is known of an actor that was lost."""
        self.entries = self.spans = 0
        self.traffic: dict[str, Traffic] = {}


class ActorWatch:
    """Watches the actors of a run.

    Args:
        plan: The workers.
        settings: What all actors know, for one that is restarted.
        processes: Those of each actor.
        handles: The actors.
        reactive: The roles whose workers may begin anew in mid-run.
        on_entry: Called with the report after each entry of a program in its log.
        files: What must be the same on all machines, beyond the toolkit.
        head: The address of the cluster.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Any,
        processes: Sequence[PlannedProcess],
        handles: Sequence[Any],
        reactive: Collection[str],
        on_entry: Callable[[RunReport], None] | None,
        files: Sequence[Path],
        head: str,
    ) -> None:
        self._settings = settings
        self._processes, self._reactive, self._on_entry = processes, reactive, on_entry
        self._report = RunReport(traffic={channel.name: Traffic() for channel in plan.tag.channels})
        self._actors = [_Actor(handle) for handle in handles]
        self._pending: dict[Any, tuple[str, int, int]] = {}  # what was asked, of which actor, after how many restarts
        self._files, self._facts = files, facts(files)
        self._head, self._knocked = head, time.time()
        self._start = self._answered = self._knocked

    def outcome(self) -> RunReport:
        """Run the actors until all have ended or are lost; return their merged report.

        Raises:
            SsimError: A program failed or waited too long, or the cluster went away.
        """
        self._begin()
        for number, actor in enumerate(self._actors):
            self._ask(number, "run", actor.handle.run.remote(self._start_of(actor)))
            self._ask_report(number)
        while any(actor.status == "running" for actor in self._actors):
            done, _ = ray.wait(list(self._pending), num_returns=1, timeout=_RETRY_S)
            for reference in done:
                self._take(reference)
            self._give_up_late_ones()
            self._knock()
        for reference in [one for one, (what, *_) in self._pending.items() if what == "report"]:
            self._take(reference)
        for number, actor in enumerate(self._actors):
            if actor.status == "done":
                self._finish(number)
        self._report.log.sort(key=lambda entry: entry.at_ns)
        self._report.spans.sort(key=lambda span: (span.end_ns, span.start_ns))
        return self._report

    def _begin(self) -> None:
        """Introduce the actors to each other.

        Raises:
            SsimError: A program can't be made there.
        """
        handles = [actor.handle for actor in self._actors]
        restarts = [0] * len(handles)
        try:
            for reference in [handle.meet.remote(self._settings, handles, restarts) for handle in handles]:
                _answer(reference)
        except _LOSSES as error:
            raise SsimError("ray", "a process was lost before the first round", str(error)) from error
        self._start = time.time()

    def _start_of(self, actor: _Actor) -> float:
        """Return when the run began, by the clock of an actor's machine.

        Clocks are taken to agree as far as the time of an answer allows.
        """
        before = time.time()
        theirs: float = _answer(actor.handle.clock.remote())
        return self._start + max(theirs - time.time(), 0.0) + min(theirs - before, 0.0)

    def _ask(self, number: int, what: str, reference: Any) -> None:
        self._pending[reference] = what, number, self._actors[number].restarts

    def _ask_report(self, number: int) -> None:
        actor = self._actors[number]
        self._ask(number, "report", actor.handle.report.remote(actor.entries, actor.spans, with_results=False))

    def _take(self, reference: Any) -> None:
        """Take an answer, or note that the actor is lost."""
        what, number, restarts = self._pending.pop(reference)
        actor = self._actors[number]
        try:
            answer = _answer(reference)
        except _LOSSES as error:
            if restarts == actor.restarts and actor.status == "running":
                self._note_lost(number, final=isinstance(error, _FINAL))
            elif what in {"facts", "meet"} and restarts == actor.restarts and actor.status == "returning":
                if isinstance(error, _FINAL):
                    self._give_up(number)
                else:  # it is about to start
                    time.sleep(_RETRY_S)
                    self._ask_for_facts(number)
            return
        if restarts != actor.restarts:
            return
        if what == "report":
            self._merge(actor, answer)
            if actor.status == "running":
                self._ask_report(number)
        elif what == "run":
            actor.status = "done"
        elif what == "facts":
            self._ask_to_meet(number, answer)
        else:
            self._run_again(number)

    def _merge(self, actor: _Actor, news: RunReport) -> None:
        """Add what an actor has recorded since its last report."""
        own = self._report
        actor.entries += len(news.log)
        actor.spans += len(news.spans)
        own.spans += news.spans
        own.results |= news.results
        own.ended |= {id_: how for id_, how in news.ended.items() if how != AWAY}
        own.end_ns = max(own.end_ns, news.end_ns)
        for name, traffic in news.traffic.items():
            own.traffic[name].add(traffic.since(actor.traffic.get(name, Traffic())))
        actor.traffic = news.traffic
        for number, channels in news.by_round.items():
            for name, traffic in channels.items():
                own.by_round.setdefault(number, {}).setdefault(name, Traffic()).add(traffic)
        for entry in news.log:
            self._add(entry)

    def _add(self, entry: LogEntry) -> None:
        self._report.log.append(entry)
        if entry.kind == "joined":
            self._report.ended.pop(entry.worker, None)
        if self._on_entry is not None:
            self._on_entry(self._report)

    def _finish(self, number: int) -> None:
        """Fetch the last report of an actor that has ended, with the results."""
        actor = self._actors[number]
        try:
            self._merge(actor, _answer(actor.handle.report.remote(actor.entries, actor.spans, with_results=True)))
        except _LOSSES:
            self._note_ends(number)

    def _note_ends(self, number: int) -> list[str]:
        """Note that the workers of an actor are lost; return their ids, but for those that had ended before."""
        ids = [id_ for id_ in self._processes[number].workers if self._report.ended.get(id_, LOST) == LOST]
        for id_ in ids:
            if id_ not in self._report.ended:
                self._report.ended[id_] = LOST
                self._add(self._entry(id_, LOST, {}))
        return ids

    def _entry(self, worker: str, kind: str, fields: dict[str, Any]) -> LogEntry:
        """Return an event that happens now."""
        return LogEntry(round((time.time() - self._start) * NS_PER_S), worker, kind, fields)

    def _note_lost(self, number: int, *, final: bool) -> None:
        """Tell the others that an actor is lost, and wait for it unless it is for good."""
        actor = self._actors[number]
        actor.restarts += 1
        actor.forget()
        lost = self._note_ends(number)
        back = [id_ for id_ in lost if id_.rpartition("/")[0] in self._reactive]
        actor.status = "gone" if final or not back else "returning"
        self._tell(number, [] if actor.status == "gone" else back)
        if actor.status == "returning":
            actor.until = time.time() + _RETURN_S
            self._ask_for_facts(number)

    def _ask_for_facts(self, number: int) -> None:
        self._ask(number, "facts", self._actors[number].handle.facts.remote(self._files))

    def _ask_to_meet(self, number: int, found: tuple[str, dict[str, str]]) -> None:
        """Introduce an actor that has come back, unless it is on a machine where something differs."""
        actor, (machine, there) = self._actors[number], found
        differing = [name for name, here in self._facts.items() if there[name] != here]
        if differing:
            why = f"{machine} has another {', '.join(differing)}"
            for id_ in self._processes[number].workers:
                self._add(self._entry(id_, "kept out", {"why": why}))
            self._give_up(number)
            return
        handles, restarts = [other.handle for other in self._actors], [other.restarts for other in self._actors]
        self._ask(number, "meet", actor.handle.meet.remote(self._settings, handles, restarts))

    def _tell(self, number: int, back: Sequence[str]) -> dict[str, str]:
        """Tell the others that an actor is lost, and who may come back; return what became of their workers."""
        restarts, known = self._actors[number].restarts, dict[str, str]()
        for other, actor in enumerate(self._actors):
            if other != number and actor.status in {"running", "done"}:
                try:
                    known |= _answer(actor.handle.lost.remote(number, restarts, back), _PATIENCE_S)
                except (*_LOSSES, GetTimeoutError):  # it is lost, too, or hears of it later
                    continue
            elif other != number:
                known |= dict.fromkeys(self._processes[other].workers, AWAY if actor.status == "returning" else "ended")
        return known

    def _run_again(self, number: int) -> None:
        """Run the workers of an actor that has come back, as far as they may begin anew."""
        actor = self._actors[number]
        ids = [id_ for id_ in self._processes[number].workers if self._report.ended.get(id_) == LOST]
        back = [id_ for id_ in ids if id_.rpartition("/")[0] in self._reactive]
        known = self._tell(number, back)
        known |= dict.fromkeys(set(self._processes[number].workers).difference(back), "ended")
        try:
            start = self._start_of(actor)
        except _LOSSES:  # again
            self._ask_for_facts(number)
            return
        actor.status = "running"
        self._ask(number, "run", actor.handle.run_again.remote(start, back, known))
        self._ask_report(number)

    def _give_up_late_ones(self) -> None:
        for number, actor in enumerate(self._actors):
            if actor.status == "returning" and time.time() > actor.until:
                self._give_up(number)

    def _knock(self) -> None:
        """Pass if the head of the cluster answers now and then: a minute without it, and Ray ends this process.

        Raises:
            SsimError: It has not answered for a while.
        """
        now = time.time()
        if now < self._knocked + _KNOCK_S:
            return
        self._knocked = now
        try:
            reach(self._head)
            self._answered = now
        except OSError as error:
            if now > self._answered + _HEAD_S:
                place, hint = f"ray, {self._head}", "see `ray status` there"
                raise SsimError(place, "the cluster went away", str(error), hint) from error

    def _give_up(self, number: int) -> None:
        """Tell the others that an actor won't come back."""
        self._actors[number].status = "gone"
        self._tell(number, [])


def _answer(reference: Any, timeout_s: float | None = None) -> Any:
    """Return what an actor answers.

    Raises:
        SsimError: A program failed or waited too long.
        RayError: The actor is lost, one of `_LOSSES`.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SsimError):
            raise cause from error
        raise SsimError("ray", "an actor failed", str(cause)) from error
