"""Watches the actors of a run: merges what they report, and tells the others who is lost and who comes back."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
from topology.engines.ray_rests import RestCollector
from topology.report import LogEntry, RunReport, Traffic
from topology.rests import read_rest
from topology.state import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from topology.checkpoints import Checkpoints
    from topology.engines.ray_cluster import ClusterHead
    from topology.plan import Plan
    from topology.rests import Rest
    from topology.sites import PlannedProcess

_PATIENCE_S = 10.0
"""How long an actor may take to answer, in seconds."""
_RETURN_S = 60.0
"""How long a process that was lost may take to start again, in seconds."""
_RETRY_S = 0.5
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
        by_round: That of each round, likewise.
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
        self.by_round: dict[int, dict[str, Traffic]] = {}


class _Asked(NamedTuple):
    """Something that an actor was asked.

    Attributes:
        what: `facts`, `meet`, `run`, `report` or `rest`.
        number: The number of the actor.
        restarts: How many times it had been restarted.
        entries: How many entries of its log were known.
        spans: How many of its spans were known.
    """

    what: str
    number: int
    restarts: int
    entries: int
    spans: int


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
        head: The head of the cluster.
        checkpoints: When and where the run is stored; None for never.
        record: Whether the report holds spans, until it says otherwise.
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
        head: ClusterHead,
        checkpoints: Checkpoints | None,
        *,
        record: bool,
    ) -> None:
        self._settings = settings
        self._processes, self._reactive, self._on_entry = processes, reactive, on_entry
        self._report = RunReport(traffic={channel.name: Traffic() for channel in plan.tag.channels})
        self._actors = [_Actor(handle) for handle in handles]
        self._pending: dict[Any, _Asked] = {}
        self._rest = read_rest(checkpoints)
        if self._rest is not None:
            self._report = self._rest.report(channel.name for channel in plan.tag.channels)
        self._report.recording = record
        self._collector = RestCollector(checkpoints, self._report)
        self._files, self._facts = files, facts(files)
        self._head = head
        self._start = time.time()

    def outcome(self) -> RunReport:
        """Run the actors until all have ended or are lost; return their merged report.

        Raises:
            SsimError: A program failed or waited too long, or the cluster went away.
        """
        self._begin()
        for number, actor in enumerate(self._actors):
            self._ask(number, "run", actor.handle.run.remote(self._start_of(actor), self._rest_of(number)))
            self._ask_report(number)
        while any(actor.status == "running" for actor in self._actors):
            done, _ = ray.wait(list(self._pending), num_returns=1, timeout=_RETRY_S)
            for reference in done:
                self._take(reference)
            self._give_up_late_ones()
            self._head.check()
        self._take_news()
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
        self._start = time.time() - (0.0 if self._rest is None else self._rest.at_ns / NS_PER_S)

    def _rest_of(self, number: int) -> Rest | None:
        """Return the part of the run that is to go on that an actor needs."""
        if self._rest is None:
            return None
        own = {id_: self._rest.workers[id_] for id_ in self._processes[number].workers if id_ in self._rest.workers}
        return replace(self._rest, workers=own, log=(), by_round={})

    def _start_of(self, actor: _Actor) -> float:
        """Return when the run began, by the clock of an actor's machine.

        Clocks are taken to agree as far as the time of an answer allows.
        """
        before = time.time()
        theirs: float = _answer(actor.handle.clock.remote())
        return self._start + max(theirs - time.time(), 0.0) + min(theirs - before, 0.0)

    def _ask(self, number: int, what: str, reference: Any) -> None:
        actor = self._actors[number]
        self._pending[reference] = _Asked(what, number, actor.restarts, actor.entries, actor.spans)

    def _ask_report(self, number: int) -> None:
        actor = self._actors[number]
        terms = {"recording": self._report.recording, "with_results": False}
        self._ask(number, "report", actor.handle.report.remote(actor.entries, actor.spans, **terms))

    def _take(self, reference: Any) -> None:
        """Take an answer, or note that the actor is lost."""
        asked = self._pending.pop(reference)
        what, number, restarts, *_ = asked
        actor = self._actors[number]
        try:
            answer = self._answer_of(number, reference)
        except _LOSSES as error:
            if restarts == actor.restarts:
                self._take_loss(asked, final=isinstance(error, _FINAL))
            return
        if restarts != actor.restarts:
            return
        if what == "report":
            self._merge(actor, asked, answer)
            if actor.status == "running":
                self._ask_report(number)
        elif what == "run":
            actor.status = "done"
        elif what == "rest":
            self._merge(actor, asked, answer.news)
            self._collector.take(number, answer)
        elif what == "facts":
            self._ask_to_meet(number, answer)
        else:
            self._run_again(number)

    def _answer_of(self, number: int, reference: Any) -> Any:
        """Return what an actor answers; an error of a program there names the site."""
        try:
            return _answer(reference)
        except SsimError as error:
            site = self._processes[number].site
            if site is not None:
                error.location = f"site {site.name}, {error.location}"
                error.args = (error.location, *error.args[1:])
            raise

    def _take_news(self) -> None:
        """Take all reports and rests that were asked for."""
        while references := [one for one, asked in self._pending.items() if asked.what in {"report", "rest"}]:
            for reference in references:
                self._take(reference)

    def _take_loss(self, asked: _Asked, *, final: bool) -> None:
        """Note that an actor is lost, or not yet back."""
        status = self._actors[asked.number].status
        if status == "running":
            self._note_lost(asked.number, final=final)
        elif asked.what in {"facts", "meet"} and status == "returning":
            if final:
                self._give_up(asked.number)
            else:  # it is about to start
                time.sleep(_RETRY_S)
                self._ask_for_facts(asked.number)

    def _merge(self, actor: _Actor, asked: _Asked, news: RunReport) -> None:
        """Add what an actor has recorded since it was asked, but for what has come since then."""
        own = self._report
        log, spans = news.log[actor.entries - asked.entries :], news.spans[actor.spans - asked.spans :]
        actor.entries += len(log)
        actor.spans += len(spans)
        own.spans += spans
        own.results |= news.results
        own.ended |= {id_: how for id_, how in news.ended.items() if how != AWAY}
        own.end_ns = max(own.end_ns, news.end_ns)
        for name, traffic in news.traffic.items():
            own.traffic[name].add(traffic.since(actor.traffic.get(name, Traffic())))
        actor.traffic = news.traffic
        for number, channels in news.by_round.items():
            known = actor.by_round.setdefault(number, {})
            for name, traffic in channels.items():
                more = traffic.since(known.get(name, Traffic()))
                if min(more.messages, more.lost) >= 0:  # else it is older than what is known: answers come in any order
                    own.by_round.setdefault(number, {}).setdefault(name, Traffic()).add(more)
                    known[name] = traffic
        for entry in log:
            self._add(entry)

    def _add(self, entry: LogEntry) -> None:
        self._report.log.append(entry)
        if entry.kind == "joined":
            self._report.ended.pop(entry.worker, None)
        if self._on_entry is not None:
            self._on_entry(self._report)
        running = [number for number, actor in enumerate(self._actors) if actor.status in {"running", "done"}]
        rounds = self._collector.begin(running)
        for number in running if rounds else ():
            actor = self._actors[number]
            self._ask(number, "rest", actor.handle.rest.remote(actor.entries, actor.spans, rounds))

    def _finish(self, number: int) -> None:
        """Fetch the last report of an actor that has ended, with the results."""
        actor = self._actors[number]
        asked = _Asked("report", number, actor.restarts, actor.entries, actor.spans)
        try:
            terms = {"recording": False, "with_results": True}
            self._merge(actor, asked, _answer(actor.handle.report.remote(actor.entries, actor.spans, **terms)))
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
        self._collector.leave_out(number)
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
