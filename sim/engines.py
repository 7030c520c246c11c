"""Which engine replays a run: SimPy, which can run everything, or the compiled one, where it can and where it pays."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from sim.engine import simulate
from sim.errors import SpecError
from sim.tabulate import DecisionTable, NotTabulableError, tabulate

if TYPE_CHECKING:
    from sim.cluster import Cluster
    from sim.latency import LatencyTable
    from sim.policy import Policy
    from sim.result import Result
    from sim.trace import Trace

Engine = Literal["auto", "simpy", "compiled"]
"""What an experiment may ask for; the outcomes are the same."""

WORTH_COMPILING = 300_000
"""Queries from which a run is worth the start of numba, about a second a process; once it runs, every run is."""

NO_NUMBA = "numba is not installed"


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a run, and why.

    Attributes:
        engine: `simpy` or `compiled`.
        reason: One sentence.
        decisions: The tabulated policy, for the compiled engine.
    """

    engine: str
    reason: str
    decisions: DecisionTable | None = None


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
    if choice.decisions is None:
        return simulate(trace, cluster, table, policy, seed=seed), choice
    from sim.compiled import replay_compiled  # noqa: PLC0415 - numba takes a third of a second to import

    return replay_compiled(trace, cluster, table, choice.decisions), choice


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
    else:
        try:
            decisions = tabulate(policy, table, cluster.dispatch_ns)
        except NotTabulableError as error:
            reason = f"{error.where}: {error.what}"
        else:
            found = f"the policy is a table of {decisions.subnets.size} decisions"
            return Choice("compiled", "asked for" if engine == "compiled" else found, decisions)
    if engine == "compiled":
        raise SpecError("engine", "the compiled engine can't run this", reason, "engine: auto or simpy")
    return Choice("simpy", reason)


@cache
def numba_is_installed() -> bool:
    """Return whether the compiled engine can run at all."""
    return find_spec("numba") is not None
