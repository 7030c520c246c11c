"""Waiting times against queueing theory, within three standard errors over independent runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import poisson

from sim import Cluster, Dispatch, LatencyTable, ProfiledSubnet, Trace, View, simulate, stream

QUERIES, WARM_UP = 10_000, 1_000
SERVICE_NS = 1_000_000

in_runs = pytest.mark.parametrize("runs", [8, pytest.param(48, marks=pytest.mark.slow)])


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Serves single queries on a subnet drawn at random: the subnets' latencies are the service-time distribution."""

    def decide(self, view: View) -> Dispatch:
        subnets = len(view.table.subnets)
        return Dispatch(int(view.system.rng.integers(subnets)) if subnets > 1 else 0, 1)


def table_of(service_ns: np.ndarray) -> LatencyTable:
    subnets = tuple(ProfiledSubnet(f"s{i}", 50 + i / 1000) for i in range(len(service_ns)))
    return LatencyTable("theory", subnets, (1,), np.rint(service_ns).astype(np.int64)[:, None])


def mean_wait_and_error_ns(service_ns: np.ndarray, servers: int, load: float, runs: int) -> tuple[float, float]:
    """Return the mean wait over independent runs of Poisson arrivals, and its standard error."""
    table, means = table_of(service_ns), []
    gap_ns = float(np.mean(service_ns)) / (servers * load)
    for seed in range(runs):
        arrivals = np.cumsum(stream(seed, "arrivals").exponential(gap_ns, QUERIES)).astype(np.int64)
        trace = Trace(arrivals, 10**12, int(arrivals[-1]))
        result = simulate(trace, Cluster(servers), table, OneByOne(), seed=seed)
        means.append(float((result.per_query(result.batches.start_ns) - arrivals)[WARM_UP:].mean()))
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(runs))


@in_runs
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_m_d_1(load: float, runs: int) -> None:
    wait, error = mean_wait_and_error_ns(np.array([SERVICE_NS]), 1, load, runs)
    theory = SERVICE_NS * load / (2 * (1 - load))  # Pollaczek and Khinchine
    assert abs(wait - theory) < 3 * error


@in_runs
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_m_m_1(load: float, runs: int) -> None:
    quantiles = (np.arange(4000) + 0.5) / 4000
    wait, error = mean_wait_and_error_ns(-np.log1p(-quantiles) * SERVICE_NS, 1, load, runs)
    theory = SERVICE_NS * load / (1 - load)
    assert abs(wait - theory) < 3 * error


@in_runs
@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (8, 0.8)])
def test_m_d_c(servers: int, load: float, runs: int) -> None:
    wait, error = mean_wait_and_error_ns(np.array([SERVICE_NS]), servers, load, runs)
    offered, i = servers * load, np.arange(1, 2000)
    # Crommelin (1932): the mean wait in units of the service time.
    terms = poisson.sf(i * servers - 1, i * offered) - servers / offered * poisson.sf(i * servers, i * offered)
    assert abs(wait - SERVICE_NS * terms.sum()) < 3 * error


def test_crommelins_formula_is_that_of_pollaczek_and_khinchine_for_one_server() -> None:
    i = np.arange(1, 2000)
    terms = poisson.sf(i - 1, i * 0.7) - 1 / 0.7 * poisson.sf(i, i * 0.7)
    assert terms.sum() == pytest.approx(0.7 / (2 * 0.3))
