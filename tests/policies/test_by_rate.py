"""Policies that are chosen by the rate, against a published artifact and an analysis."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import poisson

from policies.by_rate import ByRate, Site
from policies.jellyfish import Jellyfish
from policies.modelswitching import ModelSwitching, UpTo
from policies.ramsis import STEPS, Ramsis, solved, transitions
from sim import Cluster, Dispatch, LatencyTable, Policy, ProfiledSubnet, Trace, metrics, simulate
from sim.compiled.tabulate import tabulate
from sim.engines import replay
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

MS = 1_000_000
PUBLISHED = Path(os.environ.get("SSIM_CHECKS", ""))
"""Where the figures of published artifacts lie; the tests that need them skip without."""


@dataclass(frozen=True, slots=True)
class Noted(ByRate):
    """A subnet for each load below 800 queries/s."""

    def policy_for(self, site: Site, load_per_s: float) -> Policy:
        assert site.workers == 2
        assert site.slo_ns == 50 * MS
        return UpTo(min(3, round(load_per_s / 200) - 1), 1)


def test_the_next_higher_load_counts_by_the_rate_of_the_last_half_second() -> None:
    """100 queries/s for a second, 500 for another: the subnet of 200, then those up to 600."""
    arrivals = np.concatenate([np.arange(100) * 10 * MS, 1000 * MS + np.arange(500) * 2 * MS])
    trace = Trace(arrivals, 50 * MS, 2000 * MS)
    run = simulate(trace, Cluster(2), load_table("ofa-resnet50-rtx2080ti"), Noted())
    chosen = dict(zip(run.batches.start_ns.tolist(), run.batches.subnet.tolist(), strict=True))
    assert {subnet for at, subnet in chosen.items() if at < 1000 * MS} == {0}
    assert chosen[max(at for at in chosen if at < 1450 * MS)] == 2
    assert {subnet for at, subnet in chosen.items() if 1600 * MS < at < 1990 * MS} == {2}


def published_table() -> LatencyTable:
    """Return RAMSIS' grid: a line through the measured 95th percentiles, made monotone from the largest batch down."""
    rows = list(csv.DictReader((PUBLISHED / "ramsis_image_cloud_cpu.csv").read_text(encoding="utf-8").splitlines()))
    models = sorted({(float(row["accuracy"]), row["model"]) for row in rows})
    sizes = np.arange(1, 33)
    grid = []
    for _, model in models:
        own = [row for row in rows if row["model"] == model]
        measured = np.array([int(row["batch_size"]) for row in own])
        p95 = np.array([float(row["p95_ms"]) for row in own])
        beyond = p95[-1] * sizes / measured[-1]  # not measured, and longer than the SLO
        line = np.where(sizes > measured[-1], np.maximum(beyond, 150.0), np.interp(sizes, measured, p95))
        grid.append(np.minimum.accumulate(line[::-1])[::-1])
    subnets = tuple(ProfiledSubnet(model, accuracy) for accuracy, model in models)
    return LatencyTable("cloud CPU", subnets, tuple(sizes.tolist()), np.rint(np.array(grid) * MS).astype(np.int64))


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("SSIM_CHECKS"), reason="SSIM_CHECKS does not name the folder of the figures")
def test_model_switching_picks_what_the_published_artifact_picks_at_all_20_loads() -> None:
    table = published_table()
    site = Site(table, workers=60, slo_ns=150 * MS, dispatch_ns=0)
    lines = (PUBLISHED / "ramsis_model_switching_picks.csv").read_text(encoding="utf-8").splitlines()
    published = {int(row["load_qps"]): row["model"] for row in csv.DictReader(lines)}
    picked = {}
    for load in published:
        model = ModelSwitching().policy_for(site, load)
        assert isinstance(model, UpTo)
        picked[load] = table.subnets[model.subnet].id
    assert len(published) == 20
    assert picked == published


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("SSIM_CHECKS"), reason="SSIM_CHECKS does not name the folder of the figures")
def test_ramsis_is_as_accurate_as_model_switching_wherever_both_keep_up() -> None:
    """RAMSIS' claim, on its own latencies."""
    table = published_table()
    site = Site(table, workers=60, slo_ns=150 * MS, dispatch_ns=0)
    gains = []
    for load in range(600, 2601, 400):
        trace = Poisson(mean_qps=load, duration_s=20, slo_ms=150).trace(seed=1)
        ours, theirs = (
            replay(trace, Cluster(60), table, policy.policy_for(site, load))[0]
            for policy in (Ramsis(), ModelSwitching())
        )
        assert metrics.slo_attainment(ours) > 0.999
        assert metrics.slo_attainment(theirs) > 0.99
        gains.append(metrics.mean_serving_accuracy(ours) - metrics.mean_serving_accuracy(theirs))
    assert min(gains) > -0.01
    assert max(gains) > 4


TWIN = LatencyTable(
    "twin", tuple(ProfiledSubnet(name, accuracy) for name, accuracy in (("fast", 60.0), ("slow", 70.0))), (1, 2, 4),
    np.array([[10, 12, 16], [20, 30, 50]]) * MS,
)  # fmt: skip
"""Up to half of an SLO of 100 ms, one worker serves at most 250 queries/s on the fast model and 80 on the slow one."""


@pytest.mark.parametrize(("load", "subnet"), [(40, 1), (60, 1), (90, 0), (160, 0), (400, 0)])
def test_model_switching_takes_the_most_accurate_model_that_keeps_up(load: int, subnet: int) -> None:
    site = Site(TWIN, workers=4, slo_ns=100 * MS, dispatch_ns=0)
    assert ModelSwitching().policy_for(site, 4 * load) == UpTo(subnet, 4)


@pytest.mark.parametrize(("load", "choice"), [(40, (1, 4)), (76, (1, 4)), (77, (0, 4)), (238, (0, 4)), (239, (0, 4))])
def test_jellyfish_takes_the_most_accurate_model_with_the_throughput(load: float, choice: tuple[int, int]) -> None:
    """80 queries/s for a worker on the slow model are enough for 80 / 1.05 = 76.2."""
    site = Site(TWIN, workers=3, slo_ns=100 * MS, dispatch_ns=0)
    assert Jellyfish().policy_for(site, 3 * load) == UpTo(*choice)


@pytest.mark.parametrize("policy", [ModelSwitching(step_qps=40), Jellyfish(step_qps=40)])
def test_more_load_is_served_by_a_less_accurate_model(policy: Policy) -> None:
    calm, busy = (Trace(np.arange(n) * 10**10 // n, 100 * MS, 10**10) for n in (500, 4000))
    runs = [simulate(trace, Cluster(4), TWIN, policy) for trace in (calm, busy)]
    assert metrics.mean_serving_accuracy(runs[0]) > 69.9
    assert metrics.mean_serving_accuracy(runs[1]) < 61
    assert all(metrics.slo_attainment(run) > 0.99 for run in runs)


def test_the_next_queue_of_a_single_worker_is_that_of_a_poisson_stream() -> None:
    site = Site(TWIN, workers=1, slo_ns=100 * MS, dispatch_ns=0)
    busy_ns = np.array([5.0, 20.0, 130.0]) * MS
    found = transitions(busy_ns, site, 30).reshape(3, TWIN.max_batch, STEPS + 1)
    assert found.sum(axis=(1, 2)) == pytest.approx(1)
    assert (found >= -1e-12).all()
    for queue, mean in zip(found, 30 * busy_ns / 1e9, strict=True):
        lengths = queue.sum(axis=1)
        assert lengths[0] == pytest.approx(poisson.cdf(1, mean), abs=2e-4)
        assert lengths[1:3] == pytest.approx(poisson.pmf([2, 3], mean), abs=2e-4)
        assert lengths[3] == pytest.approx(poisson.sf(3, mean), abs=2e-4)
        assert queue[0, STEPS] == pytest.approx(np.exp(-mean), abs=1e-9)


def test_the_next_queue_is_that_of_each_kth_query_of_a_stream() -> None:
    workers, load, count = 3, 60, 40_000
    site = Site(TWIN, workers=workers, slo_ns=100 * MS, dispatch_ns=0)
    found = transitions(np.array([50.0 * MS]), site, load).reshape(TWIN.max_batch, STEPS + 1)
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1e9 / load, (count, 30)).cumsum(axis=1)
    own = np.array(
        [row[place::workers][:10] for row, place in zip(gaps, rng.integers(workers, size=count), strict=True)]
    )
    come = (own < 50 * MS).sum(axis=1)
    lengths = np.bincount(np.clip(come, 1, TWIN.max_batch) - 1, minlength=TWIN.max_batch) / count
    assert found.sum(axis=1) == pytest.approx(lengths, abs=0.01)
    slack = np.where(come > 0, 50 * MS + own[:, 0], 100 * MS)
    assert found.sum(axis=0) @ np.arange(STEPS + 1) == pytest.approx(slack.mean() / MS, abs=1)


@pytest.mark.parametrize("load", [20.0, 200.0, 900.0])
def test_ramsis_takes_at_each_slack_the_model_with_the_most_to_earn(load: float) -> None:
    """The slowest model that fits is not always it; and its policy for a load is a decision table."""
    site = Site(TWIN, workers=4, slo_ns=100 * MS, dispatch_ns=2 * MS)
    table = tabulate(Ramsis().policy_for(site, load), TWIN, site.dispatch_ns, site.workers, site.slo_ns)
    ahead = solved(site, load)
    for queue in (1, 4, 5, 8, 9, 100):
        size = min(-(-queue // 4), 4)
        for slack_ms in (-5, 9, 10, 11, 16, 20, 29, 31, 49, 50, 98):
            fits = [model for model in (0, 1) if TWIN.latency(model, size) <= slack_ms * MS]
            best = max(fits, key=lambda model: (0, 10)[model] + ahead[model, size - 1], default=0)
            assert table.at(slack_ms * MS, queue) == Dispatch(best, size)
    assert table.at(98 * MS, 1) == Dispatch(1, 1)
