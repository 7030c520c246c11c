"""The choice of the engine: SimPy runs everything; the compiled one runs what it can, where it is faster."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from sim.base.errors import PolicyError, SpecError
from sim.compiled.step_policy import ONE_TABLE, StepPolicy
from sim.compiled.tabulate import NotTabulableError, Rule, tables_of, tabulate
from sim.engine.driver import simulate

if TYPE_CHECKING:
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

Engine = Literal["auto", "simpy", "compiled"]
"""The engine that an experiment requests; the outcomes are the same."""

WORTH_COMPILING = 300_000
"""Number of queries that justifies loading numba, about a second per process; once it is loaded, every run uses it."""

COMPILED_CANNOT = "the compiled engine can't run this"
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
    rule: Rule | None = None

    @property
    def is_general(self) -> bool:
        """Whether it holds for any number of workers and any SLO."""
        if self.rule is None or isinstance(self.rule, StepPolicy):
            return self.rule is not None
        return all(table.constants <= {"dispatch_ns"} for table in tables_of(self.rule))


def replay(
    trace: Trace, cluster: Cluster, table: LatencyTable, policy: Policy, *, seed: int = 0, engine: Engine = "auto"
) -> tuple[Result, EngineChoice]:
    """Return the result of a run and the engine that ran it; the outcomes do not depend on the engine.

    Args:
        trace: Arrivals and SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        policy: What to run next.
        seed: For latencies that are drawn, and policies that draw random numbers.
        engine: `auto` takes the compiled engine where it is possible and faster.

    Raises:
        SpecError: The compiled engine was requested and can't run this.
        PolicyError: The policy raised, or returned a decision that can't be carried out.
    """
    slo_ns = int(np.min(trace.slo_ns)) - cluster.network_ns
    choice = choose(len(trace), cluster, table, policy, engine, slo_ns)
    if choice.rule is None:
        return simulate(trace, cluster, table, policy, seed=seed), choice
    from sim.compiled.replay import replay_compiled  # noqa: PLC0415 - numba takes a third of a second to import

    return replay_compiled(trace, cluster, table, choice.rule, seed=seed), choice


def choose(
    queries: int, cluster: Cluster, table: LatencyTable, policy: Policy, engine: Engine, slo_ns: int | None = None
) -> EngineChoice:
    """Return the engine for a trace of a number of queries, and the reason.

    Args:
        queries: Number of queries.
        cluster: Workers, overheads, failures.
        table: The latency table.
        policy: What to run next.
        engine: The engine that is asked for.
        slo_ns: The smallest SLO less the network's delay; None if it is unknown.

    Raises:
        SpecError: The compiled engine was requested and can't run this.
    """
    if engine == "simpy":
        return EngineChoice("simpy", "requested")
    if only := simpy_only(cluster):
        reason = only
    elif not numba_is_installed():
        reason = NO_NUMBA
    elif engine == "auto" and queries < WORTH_COMPILING and "numba" not in sys.modules:
        reason = f"{queries} queries do not justify loading numba"
    elif broken := _numba_problem():
        reason = broken
    else:
        try:
            rule, description = _rule(policy, table, cluster, slo_ns)
        except (NotTabulableError, PolicyError) as error:
            reason = f"{error.location}: {error.problem}" + (f" ({error.value})" if error.value else "")
        else:
            return EngineChoice("compiled", "requested" if engine == "compiled" else description, rule)
    if engine == "compiled":
        hint = "engine: auto or simpy" + ("; or pip install 'superserve-sim[fast]'" if reason == NO_NUMBA else "")
        raise SpecError("engine", COMPILED_CANNOT, reason, hint)
    return EngineChoice("simpy", reason)


def simpy_only(cluster: Cluster) -> str:
    """Return why the compiled engine can't run a cluster, or an empty string."""
    if cluster.queues:
        return "several queues run in SimPy only"
    if cluster.is_routed:
        return "queues of workers run in SimPy only"
    if cluster.has_limited_memory:
        return "workers with limited memory run in SimPy only"
    return "workers that come and go run in SimPy only" if cluster.is_scaled else ""


def _rule(policy: Policy, table: LatencyTable, cluster: Cluster, slo_ns: int | None) -> tuple[Rule, str]:
    """Return the policy in the form that the compiled engine runs, and a description.

    Raises:
        NotTabulableError: It can't be converted to a decision table.
        PolicyError: Its step function can't be compiled.
    """
    pools = cluster.pools(cluster.served(table), served=True)
    if isinstance(policy, StepPolicy) and type(policy).decide is StepPolicy.decide:
        from sim.compiled.replay import compiled_rule  # noqa: PLC0415 - as above

        if cluster.faults and type(policy).memory_at is not StepPolicy.memory_at:
            problem = "its memory depends on the number of workers, and workers fail"
            raise NotTabulableError(type(policy).__name__, problem)
        if any(pool.table is not pools[0].table for pool in pools):
            raise NotTabulableError(type(policy).__name__, ONE_TABLE)
        return compiled_rule(policy), "the policy has a step function"
    workers = None if cluster.faults else cluster.workers
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
