"""Which engine replays a run: SimPy, which can run everything, or the compiled one, where it can and where it pays."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from sim.base.errors import PolicyError, SpecError
from sim.compiled.stepped import Stepped
from sim.compiled.tabulate import DecisionTable, NotTabulableError, tabulate
from sim.engine.driver import simulate

if TYPE_CHECKING:
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

Engine = Literal["auto", "simpy", "compiled"]
"""What an experiment may ask for; the outcomes are the same."""

WORTH_COMPILING = 300_000
"""Queries from which a run is worth the start of numba, about a second a process; once it runs, every run is."""

NO_NUMBA = "numba is not installed"
BROKEN_NUMBA = "numba can't be imported"


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a run, and why.

    Attributes:
        engine: `simpy` or `compiled`.
        reason: One sentence.
        rule: What the compiled engine runs: the policy as a table, or the policy itself if it is stepped.
    """

    engine: str
    reason: str
    rule: DecisionTable | Stepped | None = None


def replay(
    trace: Trace, cluster: Cluster, table: LatencyTable, policy: Policy, *, seed: int = 0, engine: Engine = "auto"
) -> tuple[Result, Choice]:
    """Return what becomes of each query under a policy, and which engine found out; the outcomes do not depend on it.

    Args:
        trace: When queries arrive, and their SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        policy: What to run next.
        seed: For policies that draw random numbers.
        engine: `auto` takes the compiled engine where it can and where it pays.

    Raises:
        SpecError: The compiled engine was asked for and can't run this.
        PolicyError: The policy raised, or answered something that can't be carried out.
    """
    choice = choose(len(trace), cluster, table, policy, engine)
    if choice.rule is None:
        return simulate(trace, cluster, table, policy, seed=seed), choice
    from sim.compiled.replay import replay_compiled  # noqa: PLC0415 - numba takes a third of a second to import

    return replay_compiled(trace, cluster, table, choice.rule), choice


def choose(queries: int, cluster: Cluster, table: LatencyTable, policy: Policy, engine: Engine) -> Choice:
    """Return which engine runs a trace of so many queries, and why.

    Raises:
        SpecError: The compiled engine was asked for and can't run this.
    """
    if engine == "simpy":
        return Choice("simpy", "asked for")
    if not numba_is_installed():
        reason = NO_NUMBA
    elif engine == "auto" and queries < WORTH_COMPILING and "numba" not in sys.modules:
        reason = f"{queries} queries are not worth the start of numba"
    elif broken := _why_not():
        reason = broken
    else:
        try:
            rule, found = _rule(policy, table, cluster.dispatch_ns)
        except (NotTabulableError, PolicyError) as error:
            reason = f"{error.where}: {error.what}" + (f" ({error.value})" if error.value else "")
        else:
            return Choice("compiled", "asked for" if engine == "compiled" else found, rule)
    if engine == "compiled":
        raise SpecError("engine", "the compiled engine can't run this", reason, "engine: auto or simpy")
    return Choice("simpy", reason)


def _rule(policy: Policy, table: LatencyTable, dispatch_ns: int) -> tuple[DecisionTable | Stepped, str]:
    """Return what the compiled engine runs for a policy, and what that is in words.

    Raises:
        NotTabulableError: It is no table.
        PolicyError: Its step function can't be compiled.
    """
    if isinstance(policy, Stepped) and type(policy).decide is Stepped.decide:
        from sim.compiled.replay import compiled_rule  # noqa: PLC0415 - as above

        return compiled_rule(policy), "the policy offers a step function"
    decisions = tabulate(policy, table, dispatch_ns)
    return decisions, f"the policy is a table of {decisions.subnets.size} decisions"


@cache
def _why_not() -> str:
    """Return why the compiled engine can't run although numba is there, or nothing."""
    try:
        import_module("sim.compiled.replay")
    except Exception as error:  # noqa: BLE001 - a numba that does not fit NumPy raises an ImportError, a broken one anything
        return f"{BROKEN_NUMBA} ({error})"
    return ""


@cache
def numba_is_installed() -> bool:
    """Return whether numba is there, be it broken."""
    return find_spec("numba") is not None
