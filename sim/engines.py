"""The choice of the engine: SimPy runs everything; the compiled one runs what it can, where it is faster."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from sim.base.errors import PolicyError, SpecError
from sim.base.units import NS_PER_S
from sim.compiled.step_policy import ONE_QUEUE, ONE_TABLE, StepPolicy
from sim.compiled.tabulate import DecisionTable, NotTabulableError, QueueRules, Rule, tables_of, tabulate
from sim.engine.driver import simulate
from sim.engine.policy import policies_of

if TYPE_CHECKING:
    from sim.compiled.turns import Planning
    from sim.engine.cluster import Cluster
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

Engine = Literal["auto", "simpy", "compiled"]
"""The engine that an experiment requests; the outcomes are the same."""

WORTH_COMPILING = 300_000
"""Number of queries that justifies loading numba, about a second per process; once it is loaded, every run uses it."""

NO_NUMBA = "numba is not installed"
BROKEN_NUMBA = "numba can't be imported"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a run and the reason.

    Attributes:
        engine: `simpy` or `compiled`.
        reason: One sentence.
        rule: The policy in the form that the compiled engine runs, or None for SimPy.
    """

    engine: str
    reason: str
    rule: Rule | QueueRules | None = None

    @property
    def is_general(self) -> bool:
        """Whether it holds for any number of workers and any SLO."""
        if self.rule is None or isinstance(self.rule, QueueRules):
            return False
        if isinstance(self.rule, StepPolicy):
            return True
        return all(table.constants <= {"dispatch_ns"} for table in tables_of(self.rule))


def replay(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    *,
    seed: int = 0,
    engine: Engine = "auto",
    planner: Planner | None = None,
    period_ns: int = 10 * NS_PER_S,
) -> tuple[Result, EngineChoice]:
    """Return the result of a run and the engine that ran it; the outcomes do not depend on the engine.

    Args:
        trace: Arrivals and SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        policy: What to run next, or that of each queue by name.
        seed: For latencies that are drawn, and policies that draw random numbers.
        engine: `auto` takes the compiled engine where it is possible and faster.
        planner: How many workers there are; None for those of the cluster. If it changes the policy into one that needs
            SimPy, the run begins anew with a copy of the planner as it was.
        period_ns: The time between two turns of the planner.

    Raises:
        SpecError: The compiled engine was requested and can't run this.
        PolicyError: Policy or planner raised, or returned a decision or a plan that can't be carried out.
    """
    slo_ns = int(np.min(trace.slo_ns)) - cluster.network_ns
    choice = choose(len(trace), cluster, table, policy, engine, slo_ns)
    before = planner
    if choice.rule is not None and engine == "auto":
        try:
            before = deepcopy(planner)
        except Exception as error:  # noqa: BLE001 - one's own planner may hold what can't be copied, such as an open file
            choice = EngineChoice("simpy", f"the planner can't be copied, to begin anew if it needs SimPy ({error})")
    if choice.rule is not None:
        planning = planning_for(planner, period_ns, policy, cluster, table, slo_ns)
        how = trace, cluster, table
        try:
            if isinstance(choice.rule, QueueRules):
                from sim.compiled.queues import replay_queues  # noqa: PLC0415 - numba takes a third of a second to import

                return replay_queues(*how, choice.rule, seed=seed, planning=planning), choice
            from sim.compiled.replay import replay_compiled  # noqa: PLC0415 - as above

            return replay_compiled(*how, choice.rule, seed=seed, planning=planning), choice
        except NotTabulableError as error:
            choice, planner = simpy_instead(engine, error), before
    return simulate(trace, cluster, table, policy, seed=seed, planner=planner, period_ns=period_ns), choice


def planning_for(
    planner: Planner | None,
    period_ns: int,
    policy: Policy | Mapping[str, Policy],
    cluster: Cluster,
    table: LatencyTable,
    slo_ns: int | None,
) -> Planning | None:
    """Return who changes the number of workers in a run of the compiled engine; None for nobody.

    Args:
        planner: The planner.
        period_ns: The time between two turns.
        policy: The policy, or that of each queue by name, whose parameters it may change.
        cluster: The workers.
        table: The latency table.
        slo_ns: The smallest SLO less the network's delay; None if it is unknown.
    """
    if planner is None:
        return None
    from sim.compiled.turns import Planning  # noqa: PLC0415 - as above

    known: deque[tuple[Policy, int, Rule]] = deque(maxlen=32)  # a table takes some ten milliseconds

    def rule_of(one: Policy, place: int) -> Rule:
        if isinstance(one, StepPolicy) and not cluster.has_queue_set:  # which has a memory of its own, and no table
            return _rule(one, table, cluster, slo_ns)[0]
        for other, of, rule in known:
            if (other, of) == (one, place):
                return rule
        rule = (
            _queue_rule(one, place, table, cluster, slo_ns)
            if cluster.has_queue_set
            else _rule(one, table, cluster, slo_ns)[0]
        )
        known.append((one, place, rule))
        return rule

    return Planning(planner, period_ns, policies_of(policy, cluster), rule_of)


def simpy_instead(engine: Engine, why: NotTabulableError | PolicyError | str) -> EngineChoice:
    """Return the SimPy engine for a run that the compiled engine can't run.

    Args:
        engine: The engine that is asked for.
        why: The reason.

    Raises:
        SpecError: The compiled engine was requested.
    """
    if isinstance(why, str):
        reason = why
    else:
        reason = f"{why.location}: {why.problem}" + (f" ({why.value})" if why.value else "")
    if engine == "compiled":
        hint = "engine: auto or simpy" + ("; or pip install 'superserve-sim[fast]'" if reason == NO_NUMBA else "")
        raise SpecError("engine", "the compiled engine can't run this", reason, hint)
    return EngineChoice("simpy", reason)


def choose(
    queries: int,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    engine: Engine,
    slo_ns: int | None = None,
) -> EngineChoice:
    """Return the engine for a trace of a number of queries, and the reason.

    Args:
        queries: Number of queries.
        cluster: Workers, overheads, failures.
        table: The latency table.
        policy: What to run next, or that of each queue by name.
        engine: The engine that is asked for.
        slo_ns: The smallest SLO less the network's delay; None if it is unknown.

    Raises:
        SpecError: The compiled engine was requested and can't run this.
    """
    if engine == "simpy":
        return EngineChoice("simpy", "requested")
    why: NotTabulableError | PolicyError | str
    if only := simpy_only(cluster):
        why = only
    elif not numba_is_installed():
        why = NO_NUMBA
    elif engine == "auto" and queries < WORTH_COMPILING and "numba" not in sys.modules:
        why = f"{queries} queries do not justify loading numba"
    elif broken := _numba_problem():
        why = broken
    else:
        try:
            rule, description = _rules(policy, table, cluster, slo_ns)
        except (NotTabulableError, PolicyError) as error:
            why = error
        else:
            return EngineChoice("compiled", "requested" if engine == "compiled" else description, rule)
    return simpy_instead(engine, why)


LIMITED_MEMORY = "workers with limited memory"

SIMPY_ONLY: Mapping[str, Callable[[Cluster], bool]] = {
    LIMITED_MEMORY: lambda cluster: cluster.has_limited_memory,
    "placed queues": lambda cluster: cluster.placement is not None,
}
"""What the compiled engine can't run, whatever the policy."""


def simpy_only(cluster: Cluster) -> str:
    """Return why the compiled engine can't run a cluster, whatever the policy, or an empty string."""
    return next((f"{what} run in SimPy only" for what, holds in SIMPY_ONLY.items() if holds(cluster)), "")


def _rules(
    policy: Policy | Mapping[str, Policy], table: LatencyTable, cluster: Cluster, slo_ns: int | None
) -> tuple[Rule | QueueRules, str]:
    """Return the policy of a run, or those of its queues, as the compiled engine runs them, and a description.

    Raises:
        NotTabulableError: One can't be converted to a decision table.
        PolicyError: Its step function can't be compiled.
    """
    if not cluster.has_queue_set and not isinstance(policy, Mapping):
        return _rule(policy, table, cluster, slo_ns)
    policies = policies_of(policy, cluster)
    by_queue = tuple(_queue_rule(one, place, table, cluster, slo_ns) for place, one in enumerate(policies))
    entries = sum(one.subnets.size for tables in by_queue for one in tables)
    which = "policies of the queues have" if cluster.queues else "policy has"
    return QueueRules(by_queue), f"the {which} decision tables of {entries} entries in all"


def _queue_rule(
    policy: Policy, place: int, table: LatencyTable, cluster: Cluster, slo_ns: int | None
) -> tuple[DecisionTable, ...]:
    """Return the decision table of the policy of a queue, or one for each kind of workers.

    Raises:
        NotTabulableError: There is none.
    """
    if isinstance(policy, StepPolicy):
        raise NotTabulableError(type(policy).__name__, ONE_QUEUE)
    name, pools = "", cluster.pools_by_queue(cluster.served(table), served=True)[place]
    if cluster.queues:
        name, own_ns = cluster.queues[place].name, cluster.queues[place].slo_ns
        slo_ns = None if own_ns is None else own_ns - cluster.network_ns
    workers = None if cluster.faults or cluster.is_scaled else cluster.workers
    how = cluster.dispatch_ns, workers, slo_ns
    found = {pool.kind: tabulate(policy, pool.table, *how, pool.kind, name) for pool in pools}
    return tuple(found[kind.name] for kind in cluster.kinds) or tuple(found.values())


def _rule(policy: Policy, table: LatencyTable, cluster: Cluster, slo_ns: int | None) -> tuple[Rule, str]:
    """Return the policy in the form that the compiled engine runs, and a description.

    Raises:
        NotTabulableError: It can't be converted to a decision table.
        PolicyError: Its step function can't be compiled.
    """
    pools = cluster.pools(cluster.served(table), served=True)
    changing = "fail" if cluster.faults else "come and go" if cluster.is_scaled else ""
    if isinstance(policy, StepPolicy) and type(policy).decide is StepPolicy.decide:
        from sim.compiled.loop_run import compiled_rule  # noqa: PLC0415 - as above

        if changing and type(policy).memory_at is not StepPolicy.memory_at:
            problem = f"its memory depends on the number of workers, and workers {changing}"
            raise NotTabulableError(type(policy).__name__, problem)
        if any(pool.table is not pools[0].table for pool in pools):
            raise NotTabulableError(type(policy).__name__, ONE_TABLE)
        return compiled_rule(policy), "the policy has a step function"
    workers = None if changing else cluster.workers
    by_kind = {
        pool.kind: tabulate(policy, pool.table, cluster.dispatch_ns, workers, slo_ns, pool.kind) for pool in pools
    }
    if not cluster.kinds:
        return by_kind[""], f"the policy has a decision table of {by_kind[''].subnets.size} entries"
    tables = tuple(by_kind[kind.name] for kind in cluster.kinds)
    sizes = " and ".join(str(one.subnets.size) for one in tables)
    return tables, f"the policy has a decision table for each kind of workers, of {sizes} entries"


@cache
def _numba_problem() -> str:
    """Return why the compiled engine can't run although numba is installed, or an empty string."""
    try:
        import_module("sim.compiled.replay")
    except Exception as error:  # noqa: BLE001 - a numba that does not fit NumPy raises an ImportError, a broken one anything
        return f"{BROKEN_NUMBA} ({error})"
    return ""


@cache
def numba_is_installed() -> bool:
    """Return whether numba is installed, even if it is broken."""
    return find_spec("numba") is not None
