"""Both engines and the usual way of writing a simulator, on one job; the outcomes are the same for every query."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.jobs import CLUSTER, TABLE, azure, first, light, rounds
from policies.proteus import Proteus
from policies.slackfit import SlackFit
from sim import Result, ServiceQueue, Trace, WorkerKind, simulate
from sim.compiled.queues import replay_queues
from sim.compiled.replay import replay_compiled, replay_counted
from sim.compiled.step_policy import StepPolicy
from sim.compiled.tabulate import QueueRules, tabulate
from sim.tables.files import load_table
from sim.tables.law import LatencyLaw
from tests.laws.naive_engine import NaiveEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sim import LatencyTable

RULE = tabulate(SlackFit(), TABLE)
HOLDING = tabulate(Proteus(accuracy=78.25), TABLE)
A40 = load_table("ofa-resnet50-a40")
RULE_A40 = tabulate(SlackFit(), A40, kind="a40")
HALF = CLUSTER.workers // 2
KINDS = replace(CLUSTER, kinds=(WorkerKind("rtx2080ti", CLUSTER.workers - HALF), WorkerKind("a40", HALF, A40)))
QUEUES = replace(KINDS, queues=tuple(ServiceQueue(name) for name in ("gold", "silver", "bronze")))
ROUTED = replace(CLUSTER, routing="shortest")
RULES = QueueRules(((RULE, RULE_A40),) * len(QUEUES.queues))
DRAWN = replace(CLUSTER, latency=LatencyLaw("lognormal", 1.2))


class StepFit(StepPolicy):
    """The most accurate subnet whose largest batch fits the slack, by a step function with a memory."""

    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        """Return one number, which counts decisions."""
        return np.zeros(1)

    @staticmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        """Return subnet and batch size."""
        memory[0] += 1
        size, subnet = latency_ns.shape[1] - 1, 0
        while subnet + 1 < len(latency_ns) and latency_ns[subnet + 1, size] <= slack_ns:
            subnet += 1
        return subnet, size


@cache
def _in_queues(trace: Trace) -> Trace:
    """Return a trace whose queries belong to the three queues by chance."""
    codes = np.random.default_rng(0).integers(0, len(QUEUES.queues), len(trace)).astype(np.uint16)
    return replace(trace, class_codes=codes, class_names=tuple(queue.name for queue in QUEUES.queues))


ENGINES: dict[str, tuple[int, Callable[[Trace], Any]]] = {
    "a process for each query": (64_000, lambda trace: NaiveEngine(trace, CLUSTER, TABLE, SlackFit()).run()),
    "SimPy engine": (768_000, lambda trace: simulate(trace, CLUSTER, TABLE, SlackFit())),
    "compiled, every query kept": (768_000, lambda trace: replay_compiled(trace, CLUSTER, TABLE, RULE)),
    "compiled, counted": (768_000, lambda trace: replay_counted(trace, CLUSTER, TABLE, RULE)),
    "compiled, latencies drawn": (768_000, lambda trace: replay_compiled(trace, DRAWN, TABLE, RULE)),
    "compiled, a policy that holds": (768_000, lambda trace: replay_compiled(trace, CLUSTER, TABLE, HOLDING)),
    "compiled, two kinds of workers": (768_000, lambda trace: replay_compiled(trace, KINDS, TABLE, (RULE, RULE_A40))),
    "compiled, two kinds of workers, counted": (
        768_000,
        lambda trace: replay_counted(trace, KINDS, TABLE, (RULE, RULE_A40)),
    ),
    "compiled, two kinds of workers and three queues": (
        768_000,
        lambda trace: replay_queues(_in_queues(trace), QUEUES, TABLE, RULES),
    ),
    "compiled, a queue for each worker": (
        768_000,
        lambda trace: replay_queues(trace, ROUTED, TABLE, QueueRules(((RULE,),))),
    ),
    "compiled, a step function": (768_000, lambda trace: replay_compiled(trace, CLUSTER, TABLE, StepFit())),
}


@pytest.mark.parametrize("name", ENGINES)
def bench_azure(benchmark: Any, name: str) -> None:
    """Azure job: SlackFit, mean batch of about 15."""
    queries, run = ENGINES[name]
    measure(benchmark, name, first(azure(), queries), run)


@pytest.mark.parametrize("name", ENGINES)
def bench_small_batches(benchmark: Any, name: str) -> None:
    """An eighth of the rate: mean batch of about 1, so an event or a step for nearly every query."""
    queries, run = ENGINES[name]
    measure(benchmark, name, first(light(), queries // 4), run)


def measure(benchmark: Any, name: str, trace: Trace, run: Callable[[Trace], Any]) -> None:
    """Measure an engine on a trace, and hold its outcomes against those of the SimPy engine."""
    benchmark.extra_info |= {"what": name, "unit": "queries", "count": len(trace)}
    found = benchmark.pedantic(run, (trace,), rounds=rounds(41 if "compiled" in name else 5))
    if isinstance(found, Result) and "step" not in name and "holds" not in name:
        assert np.array_equal(found.outcome, simulate(found.trace, found.cluster, TABLE, SlackFit()).outcome)
