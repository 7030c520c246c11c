"""Faults planted into the rule of the instant, the loop, drawing and holding: the laws of agreement catch each."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import traceback
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

import sim.compiled.compiling
import sim.compiled.kernel
import sim.compiled.offers
import sim.compiled.queue_kernel
import sim.compiled.queues
import sim.compiled.replay
import sim.compiled.routed_kernel
import sim.compiled.turns
import sim.engine.driver
import sim.engine.instant
import sim.engine.offers
import sim.engine.queue_set
import sim.engine.station
import sim.engine.turns
import sim.tables.service_times
from sim import simulate
from sim.compiled.replay import replay_compiled
from tests.laws.cases import cases, kind_cases, planned_cases, queue_cases
from tests.laws.naive_engine import NaiveEngine
from tests.laws.test_compiled import FromTable, FromTables, by_name, decision_tables, edges, tables_by_kind
from tests.laws.test_planned import (
    engines_agree,
    engines_agree_on_planned_queues,
    held_while_one_that_goes_fails,
    planned_queues,
    planned_rules,
)
from tests.laws.test_queues import engines_agree_on_queues, ruled_queues
from tests.policies.engines import assert_same

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.laws.cases import Case


LONGEST_S = 10.0
"""A small run that takes longer has no end."""

KERNEL = {
    "who completes now is late": ("free_ns[0] <= now:", "free_ns[0] < now:"),
    "a query that arrives now is not seen": ("arrival_ns[arrived] <= now:", "arrival_ns[arrived] < now:"),
    "the free worker with the highest number": (
        "free[first_of[kind]]\n",
        "free[first_of[kind] + idle_of[kind] - 1]\n",
    ),
    "the first batch pays for its subnet": ("if loaded[worker] != NEW:", "if loaded[worker] != -9:"),
    "no subnet is ever changed": ("overhead += setting.actuation_ns[row]", "overhead += 0"),
    "overhead of a query left out": ("overhead += setting.per_query_ns * size", "overhead += 0"),
    "slack without the overhead": ("waiting_ns[0]) - now - dispatch_ns", "waiting_ns[0]) - now"),
    "drops at the deadline itself": ("if slack < limit_ns:", "if slack <= limit_ns:"),
    "an edge of the table belongs below": ("if from_ns[middle] <= slack:", "if from_ns[middle] < slack:"),
    "the queue is taken for one longer": ("min(length, longest) - 1", "min(length + 1, longest) - 1"),
    "holds a nanosecond long": ("now + slack - size)", "now + slack - size + 1)"),
    "a hold that forgets the slack left": ("now + slack - size)", "now + slack)"),
    "held queries do not see completions": ("(idle == 0 or length > 0) and running", "idle == 0 and running"),
    "a hold beyond its end": ("< min(ends_ns, held_ns):", "< ends_ns:"),
    "held queries see no other event": ("< min(ends_ns, held_ns):", "< held_ns:"),
    "held queries are not dropped": ("until_ns, due_ns - limit_ns + 1)", "until_ns)"),
    "a hold takes the queue for one longer": ("min(arrived - head, longest", "min(arrived - head + 1, longest"),
    "a hold overlooks an edge": ("from_ns[place - 1] > due_ns", "from_ns[place - 1] > 1 + due_ns"),
    "a hold that does not shorten": ("held_ns = due_ns - sizes[place, column]", "pass"),
    "quantile of the next query": ("(np.uint64(query) + np.uint64(1))", "(np.uint64(query) + np.uint64(2))"),
    "another mix": ("np.uint64(27)", "np.uint64(28)"),
    "no line between quantiles": ("if is_linear:", "if False:"),
    "overheads with the quantile of latencies": ("1, one.key, query)", "1, latency_key, query)"),
    "a lost batch is answered": ("fails < finish, min", "False, min"),
    "a completion at the failure is lost": ("fails < finish, min", "fails <= finish, min"),
    "a failed worker keeps its subnet": ("loaded[worker] = FAILED if changes[change, 2] == FAILS else GONE", "pass"),
    "a failed worker keeps its order": ("state.last_ns[worker] = 0\n", "pass\n"),
    "a fast batch overtakes": ("max(finish, state.last_ns[worker])", "finish"),
    "busy until the answer": ("max(1, int(latency * setting.occupancy))", "latency"),
    "occupied by the overhead in part": ("frees = now + overhead + max(", "frees = now + overhead // 2 + max("),
}
"""In the loop: what is written, and what stands there instead. Compared with the SimPy engine."""

KINDS = {
    "the hold of the last kind counts": ("held_ns = min(held_ns, now + slack - size)", "held_ns = now + slack - size"),
    "what is held is not offered anew": ("held_ns, kind = FAR, 0  # all", "held_ns = FAR  # all"),
    "a kind that is held holds all": (
        "kind += 1\n                continue\n            if row == DROP",
        "break\n            if row == DROP",
    ),
    "hopeless by the kinds of the beginning": ("            limit_ns = changes[change, 4]\n", ""),
    "decisions of the kind before": ("decided[place + kind, column]", "decided[place, column]"),
    "latencies of the first kind": ("latency_ns[row, size], dispatch_ns", "latency_ns[0, size], dispatch_ns"),
    "a worker returns to the first kind": (
        "!= GONE:\n                kind = kind_of[worker]",
        "!= GONE:\n                kind = 0",
    ),
}
"""Likewise, with kinds of workers."""

GOES = {
    "who goes takes batches": ("if loaded[worker] != GONE:", "if True:"),
    "who goes stays idle": ("idle_of[kind] = without(free, first_of[kind], idle_of[kind], worker)", "pass"),
    "arrivals before a turn are seen after it": ("if now >= until_ns:", "if now > until_ns:"),
}
"""Likewise, with a planner."""

TURNS = {
    "what ends now has ended": ("finish_ns >= now_ns", "finish_ns > now_ns"),
    "who can take a batch now is idle": ("self._busy_ns[worker] >= now_ns)", "self._busy_ns[worker] > now_ns)"),
    "a failure that ends the last batch is forgotten": (" not in left or change in kept]", " not in left]"),
    "who has gone fails": (" if change[1] not in left or change in kept]", "]"),
    "lost queries are answered": ("(1 - lost, queue)", "(np.ones_like(lost), queue)"),
    "no start-up": ("(now_ns + new.startup_ns, new.worker, COMES)", "(now_ns, new.worker, COMES)"),
    "who goes is no event": ("[(now_ns, worker, LEAVES) for worker in left]", "[]"),
    "busy before it came": ("np.maximum(np.maximum(start_ns, self._since_ns), up_ns[worker])", "start_ns"),
    "batches are counted twice": ("still[7] = 0", "pass"),
    "hopeless by the workers before": ("alive[self._pool_of[worker]] += 1", "pass"),
    "drops are counted again": ("= [still], counts", "= [still], counts * [[1], [0], [1]]"),
    "the last batch is that of the last turn": ("max(last_ns[worker], finish)", "max(last_ns[worker], 0)"),
    "the old policy stays": ("None if policy is old else", "None if True else"),
}
"""In the turns of the compiled engine. Compared with the SimPy engine."""

QUEUE_LOOP = {
    "a batch costs nothing": ("deficit[place] -= dispatch_ns + setting.planned_ns[row, size]", "pass"),
    "one more than the bound": ("if length >= bound:", "if length > bound:"),
    "turned away after the drops": ("if next_ns[place] <= now and head_ns[place] < limit_ns:", "if False:"),
    "a gap where one was rejected": ("waiting[np.uint64(head + length)] = query", "pass"),
    "a queue that is held holds all": ("offered[place] = True\n", "kind += 1\n"),
    "decisions of the first queue": ("place * kinds + kind", "kind"),
    "hopeless by the kinds of the beginning": ("setting.limits_ns[change, place]", "setting.limits_ns[0, place]"),
    "each queue switches": ("loaded[worker] = setting.subnet[row]", "loaded[worker] = row"),
    "quantile of another query": ("query = state.waiting[state.head[place]]", "query = state.waiting[0]"),
    "the last ones are never turned away": ("until_ns - 1, setting.bounds[place]", "until_ns - 1, FAR"),
}
"""In the loop of several queues. Compared with the SimPy engine."""

COMPILED_OFFERS = {
    "what is left is kept": ("deficit[place] = min(deficit[place], 0.0)", "pass"),
    "debts are forgotten": ("rounds = min(rounds, ", "rounds = min(9, "),
    "priority before no deadline": ("(rank == best_rank and due_ns < best_ns)", "(False)"),
    "the least slack is the earliest deadline": ("alone_ns[place, kind] if order == SLACK else 0", "0"),
}
"""Likewise, in the order of offers."""

ROUTED_LOOP = {
    "of equal loads the highest number": ("load[one] and other < one", "load[one] and other > one"),
    "the turn is always the first worker's": ("state.at[NEXT] = worker + 1", "pass"),
    "a busy worker's turn is the next one's": ("state.load[worker] == FAR:", "state.load[worker] > 0:"),
    "offers in order of arrival": ("> routes.rank[worker]:", "> 9:"),
    "who waits at a worker that fails is lost": ("while state.length[worker, place] > 0:", "while False:"),
    "a failed worker gets queries": ("_set_load(state, worker, FAR)", "pass"),
    "nobody is routed anew": ("            _reroute(routes, state, arrivals)\n", "            pass\n"),
    "what runs is no load": ("_set_load(state, worker, load[worker] - runs[worker])", "_set_load(state, worker, 0)"),
    "who is held is asked at the end of the hold only": ("                    at[OPEN] += 1\n", ""),
    "dropped queries stay at the worker": ("_set_load(state, worker, load[worker] - size)", "pass"),
    "one more than the bound": (">= setting.bounds[place]", "> setting.bounds[place]"),
    "the drop rule of the first kind": ("routes.limits_ns[place, kind]", "routes.limits_ns[place, 0]"),
    "one order of offers for all workers": ("begin(offered, ahead, next_turn, deficit[worker])", "next_turn"),
}
"""In the loop of a queue for each worker. Compared with the SimPy engine."""

QUEUE_STOPS = {
    "who goes takes batches": ("if loaded[worker] != GONE:", "if True:"),
    "arrivals before a turn are admitted after it": ("if next_ns[place] < until_ns:", "if False:"),
    "arrivals at a turn are admitted before it": ("place, until_ns - 1,", "place, until_ns,"),
    "the first queue's turn after each stop": ("state.at[TURN] = held_ns, turn", "state.at[TURN] = held_ns, 0"),
    "holds end at a stop": ("state.at[HELD_NS], state.at[TURN] = held_ns, turn", "state.at[TURN] = turn"),
}
"""In the loop of several queues, with a planner. Compared with the SimPy engine."""

ROUTED_STOPS = {
    "holds end at a stop": ("at[HELD_NS] = running, arrived, change, held_ns", "_ = running, arrived, change, held_ns"),
    "what happens at a turn comes first": ("if now >= until_ns:", "if now > until_ns:"),
}
"""Likewise, with a queue for each worker."""

QUEUE_TURNS = {
    "batches are of the first queue": ("int(queue_of[left[place]]) if queue_of.size else 0", "0"),
    "nobody is rejected": ("np.stack([arrived, dropped, rejected])", "np.stack([arrived, dropped, 0 * rejected])"),
    "who is rejected waits": ("arrived - taken - dropped - rejected)", "arrived - taken - dropped)"),
}
"""Likewise, in the turns of the compiled engine."""

INSTANT = {
    "waits past the end of the wait": ("now_ns >= self._wait_ns", "now_ns > self._wait_ns"),
    "a late report of a lost batch frees": ("if self._running[worker] == batch:", "if True:"),
    "a recovered worker has its subnet": (
        "self._running[worker] = self._loaded[worker] = None",
        "self._running[worker] = None",
    ),
    "a recovered worker is new": (
        "self._unused[worker] = False\n        self.residence",
        "self._unused[worker] = True\n        self.residence",
    ),
    "holds by the clock": (
        "self._now_ns + slack_ns - int(decision.until_slack_ns)",
        "self._now_ns + int(decision.until_slack_ns)",
    ),
    "slack without the overhead": ("self._now_ns - self._cluster.dispatch_ns", "self._now_ns"),
    "one decision an instant": (
        "(self._start(decision))\n                return True",
        "(self._start(decision))\n                return False",
    ),
    "a batch larger than asked": ("min(int(decision.batch_size), queue.length)", "queue.length"),
    "who waits at a worker that goes stays": ("gone += self._leave(worker)", "self._leave(worker)"),
}
"""In the rule of the instant. Compared with the naive engine, as the next three."""

STATION = {
    "no drop rule": ("if queue.length and", "if False and"),
    "hopeless without the overhead": ("self._cluster.dispatch_ns + min(pool", "min(pool"),
}

DRIVER = {
    "batches overtake": ("max([finish_ns, *(self._log.finish[other] for other in before)])", "finish_ns"),
    "a failure spares what overlaps": ("for batch in self._overlapping(worker, now_ns):", "for batch in ():"),
    "actuation is free": ("overhead_ns += self._actuation_ns[queue][pool][subnet]", "pass"),
}

OFFERS = {
    "a batch costs nothing": ("self._deficit[place] -= work_ns", "pass"),
    "what is left is kept": ("deficit[place] = min(work, 0.0)", "pass"),
    "debts are forgotten": ("rounds = min(", "rounds = 1 + min("),
    "an offer that is not taken counts": (
        "deficit, turn, left = list(self._deficit)",
        "deficit, turn, left = self._deficit",
    ),
    "priority before no deadline": ("(self._rank[place], deadline[place])", "self._rank[place]"),
    "the least slack is the earliest deadline": ("deadline[place] - alone[place]", "deadline[place]"),
}
"""In the order of offers. Compared with the naive engine."""

QUEUE_SET = {
    "one more than the bound": ("self.waiting >= self.bound", "self.waiting > self.bound"),
    "a batch leaves its place taken": ("self._stream.waiting -= count", "pass"),
    "running queries do not count": ("self.running[one] + sum(", "sum("),
    "who waits at a failed worker stays": ("self._stranded += queue.leave()", "pass"),
    "a failed worker gets queries": ("self._alive.remove(worker)", "pass"),
    "turns begin anew": ("self._next = worker + 1", "pass"),
    "a worker gets queries before it has come": (
        "self.running.append(0)",
        "self._alive.append(len(self.running)); self.running.append(0)",
    ),
    "the arrivals of all queues": ("trace.arrival_ns[codes == place].tolist()", "trace.arrival_ns.tolist()"),
}
"""In queues side by side and in routing, likewise."""

SERVICE = {
    "quantile of the next query": ("(query + 1) * _GOLDEN", "query * _GOLDEN"),
    "the key is left out": ("mixed = (key + ", "mixed = ("),
    "the other end of a part": ("low = int(self.nodes_ns[node])", "low = int(self.nodes_ns[node + 1])"),
    "one quantile for overheads and latencies": ('stream(seed, "dispatch")', 'stream(seed, "latency")'),
}


def in_own_process(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own: a fault may spoil memory, and is caught if that ends the process."""

    @wraps(test)
    def run(**parameters: Any) -> None:
        child = os.fork()
        if not child:
            try:
                test(**parameters)
            except BaseException:  # noqa: BLE001 - nothing else of the parent may run in this process
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == 0 or (code < 0 and parameters["name"] is not None)

    return run


def changed(module: ModuleType, change: tuple[str, str]) -> tuple[str, str]:
    """Return the name of a module's file, and its text with a change."""
    path = Path(str(module.__file__))
    text = path.read_text(encoding="utf-8")
    assert text.count(change[0]) == 1, f"{path.name} has {change[0]!r} {text.count(change[0])} times"
    return path.name, text.replace(*change)


def mutant(module: ModuleType, change: tuple[str, str] | None) -> ModuleType:
    """Return a module with a change in its text, or as it is, of which nothing is compiled."""
    path = Path(str(module.__file__))
    name, text = (path.name, path.read_text(encoding="utf-8")) if change is None else changed(module, change)
    spec = importlib.util.spec_from_loader(module.__name__, None)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    exec(compile(text, f"<mutant of {name}>", "exec"), made.__dict__)  # noqa: S102 - our own text
    return made


def uncompiled(_: object, **__: object) -> Any:
    return lambda function: function


def caught(strategy: st.SearchStrategy[Any], differs: Any, most: int = 3000) -> bool:
    """Return whether some random case tells two engines apart."""
    try:
        find(
            strategy,
            differs,
            settings=settings(max_examples=most, database=None, phases=[Phase.generate], deadline=None),
        )
    except NoSuchExample:
        return False
    return True


@st.composite
def with_decisions(draw: st.DrawFn) -> tuple[Case, Any]:
    case = draw(cases())
    return case, draw(decision_tables(len(case.table.subnets), case.table.max_batch))


@st.composite
def with_kinds(draw: st.DrawFn) -> tuple[Case, Any]:
    case = draw(kind_cases())
    return case, draw(tables_by_kind(case))


def test_the_code_has_the_lines_that_faults_change() -> None:
    for module, changes in (
        (sim.compiled.kernel, KERNEL | KINDS | GOES),
        (sim.compiled.turns, TURNS | QUEUE_TURNS),
        (sim.compiled.queue_kernel, QUEUE_LOOP | QUEUE_STOPS),
        (sim.compiled.offers, COMPILED_OFFERS),
        (sim.compiled.routed_kernel, ROUTED_LOOP | ROUTED_STOPS),
        (sim.engine.instant, INSTANT),
        (sim.engine.station, STATION),
        (sim.engine.driver, DRIVER),
        (sim.engine.offers, OFFERS),
        (sim.engine.queue_set, QUEUE_SET),
        (sim.tables.service_times, SERVICE),
    ):
        for change in changes.values():
            changed(module, change)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *KERNEL, *KINDS])
@in_own_process
def test_a_fault_in_the_loop_is_caught(name: str | None) -> None:
    """And the loop as it is passes, whether compiled or not."""
    plain = mock.patch.object(sim.compiled.compiling, "compiled", uncompiled)
    with plain:
        changes = KERNEL | KINDS
        made = mutant(sim.compiled.kernel, changes.get(str(name)))

    def differs(found: tuple[Case, Any]) -> bool:
        case, decisions = found
        policy = FromTable(decisions) if name not in KINDS else FromTables(by_name(case, decisions))
        expected = simulate(case.trace, case.cluster, case.table, policy, seed=1)

        def agrees() -> None:
            with mock.patch.object(sim.compiled.kernel, "advance", made.advance), np.errstate(over="ignore"):
                assert_same(replay_compiled(case.trace, case.cluster, case.table, decisions, seed=1), expected)

        return fails(agrees)

    some = with_kinds() if name in KINDS else with_decisions()
    found = (name not in KINDS and any(map(differs, edges()))) or caught(some, differs, 3000 if name else 100)
    assert found == (name is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *GOES, *TURNS])
@in_own_process
def test_a_fault_in_the_turns_of_the_compiled_engine_is_caught(name: str | None) -> None:
    with mock.patch.object(sim.compiled.compiling, "compiled", uncompiled):
        loop = mutant(sim.compiled.kernel, GOES.get(str(name)))
        turns = mutant(sim.compiled.turns, TURNS.get(str(name)))

    def differs(drawn: tuple[Any, ...]) -> bool:
        def agrees() -> None:
            with (
                mock.patch.object(sim.compiled.kernel, "advance", loop.advance),
                mock.patch.object(sim.compiled.replay, "CompiledTurns", turns.CompiledTurns),
                np.errstate(over="ignore"),
            ):
                engines_agree(*drawn)

        return fails(agrees)

    found = differs(held_while_one_that_goes_fails()) or caught(planned_rules(), differs, 3000 if name else 100)
    assert found == (name is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *QUEUE_LOOP, *COMPILED_OFFERS])
@in_own_process
def test_a_fault_in_the_loop_of_several_queues_is_caught(name: str | None) -> None:
    with mock.patch.object(sim.compiled.compiling, "compiled", uncompiled):
        offers = mutant(sim.compiled.offers, COMPILED_OFFERS.get(str(name)))
        with mock.patch.dict(sys.modules, {"sim.compiled.offers": offers}):
            made = mutant(sim.compiled.queue_kernel, QUEUE_LOOP.get(str(name)))

    def differs(drawn: tuple[Any, ...]) -> bool:
        def agrees() -> None:
            with (
                mock.patch.object(sim.compiled.queue_kernel, "advance_queues", made.advance_queues),
                np.errstate(over="ignore"),
            ):
                engines_agree_on_queues(*drawn)

        return fails(agrees)

    assert caught(ruled_queues(), differs, 3000 if name else 100) == (name is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *ROUTED_LOOP])
@in_own_process
def test_a_fault_in_the_loop_of_a_queue_for_each_worker_is_caught(name: str | None) -> None:
    with mock.patch.object(sim.compiled.compiling, "compiled", uncompiled):
        made = mutant(sim.compiled.routed_kernel, ROUTED_LOOP.get(str(name)))

    def differs(drawn: tuple[Any, ...]) -> bool:
        def agrees() -> None:
            with (
                mock.patch.object(sim.compiled.routed_kernel, "advance_routed", made.advance_routed),
                np.errstate(over="ignore"),
            ):
                engines_agree_on_queues(*drawn)

        return fails(agrees)

    assert caught(ruled_queues(routed=True), differs, 3000 if name else 100) == (name is not None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("routed", "name"),
    [
        *((False, name) for name in (None, *QUEUE_STOPS, *QUEUE_TURNS)),
        *((True, name) for name in (None, *ROUTED_STOPS, *QUEUE_TURNS)),
    ],
)
@in_own_process
def test_a_fault_in_the_turns_of_a_run_with_queues_is_caught(routed: bool, name: str | None) -> None:
    stops = ROUTED_STOPS if routed else QUEUE_STOPS
    kernel, loop = (
        (sim.compiled.routed_kernel, "advance_routed") if routed else (sim.compiled.queue_kernel, "advance_queues")
    )
    with mock.patch.object(sim.compiled.compiling, "compiled", uncompiled):
        made = mutant(kernel, stops.get(str(name)))
        turns = mutant(sim.compiled.turns, QUEUE_TURNS.get(str(name)))

    def differs(drawn: tuple[Any, ...]) -> bool:
        def agrees() -> None:
            with (
                mock.patch.object(kernel, loop, getattr(made, loop)),
                mock.patch.object(sim.compiled.queues, "CompiledTurns", turns.CompiledTurns),
                np.errstate(over="ignore"),
            ):
                engines_agree_on_planned_queues(*drawn)

        return fails(agrees)

    some = planned_queues().filter(lambda drawn: drawn[0].cluster.is_routed == routed)
    assert caught(some, differs, 3000 if name else 100) == (name is not None)


def fails(law: Callable[[], None]) -> bool:
    """Return whether a law does not hold. A run that breaks off, or never ends, is not that of the other engine."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        law()
    except Exception:  # noqa: BLE001 - a fault may end in any
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def differs_from_naive(case: Case) -> bool:
    def agrees() -> None:
        plans = {"planner": case.planner, "period_ns": case.period_ns}
        found = simulate(case.trace, case.cluster, case.table, case.policy, seed=2, **plans)
        naive = NaiveEngine(case.trace, case.cluster, case.table, case.policy, seed=2, **plans).run()
        assert found.outcome.tolist() == naive.outcome
        assert found.per_query(found.batches.start_ns).tolist() == naive.start
        finish = np.where(found.answered, found.per_query(found.batches.finish_ns), -1)
        assert finish.tolist() == naive.finish

    return fails(agrees)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *INSTANT])
def test_a_fault_in_the_rule_of_the_instant_is_caught(name: str | None) -> None:
    made = mutant(sim.engine.instant, INSTANT[name] if name else ("self._batches = 0", "self._batches = 0"))
    with mock.patch.object(sim.engine.driver, "Scheduler", made.Scheduler):
        most = 3000 if name else 100
        assert caught(st.one_of(cases(), planned_cases()), differs_from_naive, most) == (name is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATION)
def test_a_fault_in_the_drop_rule_is_caught(name: str) -> None:
    made = mutant(sim.engine.station, STATION[name])
    with mock.patch.object(sim.engine.instant, "Stations", made.Stations):
        assert caught(cases(), differs_from_naive)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIVER)
def test_a_fault_in_the_driver_is_caught(name: str) -> None:
    made = mutant(sim.engine.driver, DRIVER[name])
    with mock.patch(f"{__name__}.simulate", made.simulate):
        assert caught(cases(), differs_from_naive)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFERS)
def test_a_fault_in_the_order_of_offers_is_caught(name: str) -> None:
    made = mutant(sim.engine.offers, OFFERS[name])
    with mock.patch.object(sim.engine.station, "Offers", made.Offers):
        assert caught(queue_cases(), differs_from_naive)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUEUE_SET)
def test_a_fault_in_queues_side_by_side_is_caught(name: str) -> None:
    made = mutant(sim.engine.queue_set, QUEUE_SET[name])
    with (
        mock.patch.object(sim.engine.driver, "admission_for", made.admission_for),
        mock.patch.object(sim.engine.instant, "QueueSet", made.QueueSet),
        mock.patch.object(sim.engine.station, "QueueSet", made.QueueSet),
        mock.patch.object(sim.engine.turns, "QueueSet", made.QueueSet),
    ):
        assert caught(st.one_of(queue_cases(), planned_cases()), differs_from_naive)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICE)
def test_a_fault_in_drawing_is_caught(name: str) -> None:
    made = mutant(sim.tables.service_times, SERVICE[name])
    with (
        mock.patch.object(sim.engine.driver, "service_times", made.service_times),
        mock.patch("sim.engine.cluster.quantile", made.quantile),
        mock.patch("sim.engine.cluster.dispatch_key", made.dispatch_key),
        mock.patch("sim.engine.cluster.spread_around", made.spread_around),
    ):
        assert caught(cases(), differs_from_naive)
