"""What stands around an engine: policies made into tables, arrivals drawn, results stored."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import policies
from benchmarks.jobs import CLUSTER, QUICK, TABLE, azure, rounds
from policies.slackfit import SlackFit
from sim.compiled.replay import replay_compiled, replay_counted
from sim.compiled.tabulate import NotTabulableError, tabulate
from sim.traces.azure import Azure
from sim.traces.synthetic import Bursty, Constant, Gamma, Poisson, TimeVarying
from ssim.files.plugins import find_class
from ssim.results.record import KEPT, Keep, put_run
from ssim.results.store import Store

if TYPE_CHECKING:
    from pathlib import Path

RULE = tabulate(SlackFit(), TABLE)
SECONDS = 1.0 if QUICK else 120.0
TRACES = {
    "azure, shrunk to 120 s": Azure(slo_ms=36, duration_s=SECONDS),
    "azure, an hour of the whole day": Azure(slo_ms=36, mean_qps=10_532.894, duration_s=SECONDS * 30),
    "poisson": Poisson(slo_ms=36, mean_qps=6400, duration_s=SECONDS),
    "gamma, CV^2 4": Gamma(slo_ms=36, mean_qps=6400, cv2=4, duration_s=SECONDS),
    "bursty, CV^2 4": Bursty(slo_ms=36, base_qps=1500, variant_qps=4900, cv2=4, duration_s=SECONDS),
    "time-varying, CV^2 4": TimeVarying(
        slo_ms=36,
        start_qps=2500,
        end_qps=7400,
        acceleration_qps2=250,
        cv2=4,
        duration_s=SECONDS,
        ramp_start_s=SECONDS / 2,
    ),
    "constant": Constant(slo_ms=36, mean_qps=6400, duration_s=SECONDS),
}


@pytest.mark.parametrize("name", sorted(policies.SHORT_NAMES))
def bench_tabulate(benchmark: Any, name: str) -> None:
    """A policy is made into a table, and the table held against it."""
    owner = find_class(name, policies.SHORT_NAMES, "policy")
    policy = owner(**({"accuracy": 78.25} if "accuracy" in owner.__dataclass_fields__ else {}))
    try:
        tabulate(policy, TABLE)
    except NotTabulableError as reason:
        pytest.skip(str(reason))
    benchmark.extra_info |= {"what": name, "unit": "tables", "count": 1}
    benchmark.pedantic(tabulate, (policy, TABLE), rounds=rounds(15))


@pytest.mark.parametrize("name", TRACES)
def bench_draw(benchmark: Any, name: str) -> None:
    """Arrivals are drawn, in chunks."""
    source = TRACES[name]
    drawn = benchmark.pedantic(lambda: sum(map(len, source.chunks(7))), rounds=rounds(7))
    benchmark.extra_info |= {"what": name, "unit": "arrivals", "count": drawn}


@pytest.mark.parametrize("keep", KEPT)
def bench_store(benchmark: Any, keep: Keep, tmp_path: Path) -> None:
    """The Azure job is stored, as much of it as is to be kept."""
    trace, store, number = azure(), Store(tmp_path), count()
    if keep in {"summary", "windows"}:
        run: Any = replay_counted(trace, CLUSTER, TABLE, RULE)
    else:
        run = replay_compiled(trace, CLUSTER, TABLE, RULE)
    benchmark.pedantic(lambda: put_run(store, str(next(number)), run, {}, {}, keep), rounds=rounds(7))
    size = sum(map(len, store.files("0").values()))
    benchmark.extra_info |= {"what": f"keep: {keep}", "unit": "queries", "count": len(trace), "bytes": size}
