"""The policies of the paper against slow definitions of them, on any table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.checks import static_view
from policies.clipper import Clipper
from policies.coarse import Coarse
from policies.infaas import Infaas
from policies.maxacc import MaxAcc
from policies.maxbatch import MaxBatch
from policies.slackfit import SlackFit, bucket_choices
from sim import DataError, Dispatch, LatencyTable, ProfiledSubnet, SpecError, View

if TYPE_CHECKING:
    from sim.engine.policy import Policy

MS = 1_000_000

# SuperServe's table up to batch 4 (reference of the shipped table), in ms.
PAPER = LatencyTable(
    "RTX 2080 Ti",
    tuple(ProfiledSubnet(f"{a}", a) for a in (73.82, 76.69, 77.64, 78.25, 79.44, 80.16)),
    (1, 2, 4, 8, 16),
    np.rint(
        np.array(
            [
                [4.4, 4.7, 5.2, 6.1, 8.8],
                [5.2, 5.4, 6.2, 7.6, 11],
                [5.7, 5.9, 6.7, 7.6, 12],
                [6.1, 6.2, 7.7, 7.9, 13],
                [7.3, 7.4, 8.5, 12, 20],
                [7.7, 8, 11, 20, 34],
            ]
        )
        * MS
    ).astype(np.int64),
)


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    """Draw any table: latencies need not grow with batch or accuracy."""
    subnets = draw(st.integers(1, 5))
    sizes = tuple(sorted(draw(st.sets(st.integers(1, 16), min_size=1, max_size=4))))
    grid = draw(
        st.lists(
            st.lists(st.integers(1, 30), min_size=len(sizes), max_size=len(sizes)), min_size=subnets, max_size=subnets
        )
    )
    return LatencyTable("any", tuple(ProfiledSubnet(f"s{i}", 50.0 + i) for i in range(subnets)), sizes, np.array(grid))


def decide(policy: Policy, table: LatencyTable, slack_ns: int, queue_length: int = 1) -> Dispatch:
    decision = policy.decide(static_view(table, slack_ns=slack_ns, queue_length=queue_length))
    assert isinstance(decision, Dispatch)
    return decision


def latency(table: LatencyTable, decision: Dispatch) -> int:
    return table.latency(decision.subnet, decision.batch_size)


slacks = st.integers(-5, 40)


@given(tables(), slacks)
def test_max_batch_is_its_definition(table: LatencyTable, slack: int) -> None:
    sizes = [b for b in table.batch_sizes if table.latency(0, b) <= slack]
    decision = decide(MaxBatch(), table, slack)
    if sizes:
        subnets = [s for s in range(len(table.subnets)) if table.latency(s, max(sizes)) <= slack]
        assert decision == Dispatch(max(subnets), max(sizes))
    else:
        assert decision == Dispatch(*table.max_throughput)


@given(tables(), slacks)
def test_max_acc_is_its_definition(table: LatencyTable, slack: int) -> None:
    subnets = [s for s in range(len(table.subnets)) if table.latency(s, 1) <= slack]
    decision = decide(MaxAcc(), table, slack)
    if subnets:
        sizes = [b for b in table.batch_sizes if table.latency(max(subnets), b) <= slack]
        assert decision == Dispatch(max(subnets), max(sizes))
    else:
        assert decision == Dispatch(*table.max_throughput)


@given(tables(), slacks)
def test_one_model_takes_its_largest_batch_that_fits(table: LatencyTable, slack: int) -> None:
    for subnet, facts in enumerate(table.subnets):
        sizes = [b for b in table.batch_sizes if table.latency(subnet, b) <= slack]
        assert decide(Clipper(facts.accuracy), table, slack) == Dispatch(subnet, max(sizes, default=table.max_batch))


@given(tables(), slacks, st.integers(1, 12))
def test_slackfit_fits_and_no_higher_bucket_does(table: LatencyTable, slack: int, buckets: int) -> None:
    """By brute force over the buckets of the appendix."""
    cells = [(table.latency(s, b), b, s) for s in table.pareto for b in table.batch_sizes]
    low, high = min(cells)[0], max(cells)[0]
    width = (high - low) / buckets
    fitting = []
    for i in range(buckets):
        inside = [c for c in cells if low + i * width <= c[0] and (c[0] < low + (i + 1) * width or i == buckets - 1)]
        if not inside and i == 0 and width == 0:
            inside = cells
        choice = max(((b, s, time) for time, b, s in inside), default=None)
        if choice is not None and choice[2] <= slack:
            fitting.append(choice)
    decision = decide(SlackFit(buckets), table, slack)
    if fitting:
        assert (decision.batch_size, decision.subnet) == fitting[-1][:2]
        assert latency(table, decision) <= slack
    else:
        assert decision == Dispatch(*table.max_throughput)


def test_slackfit_on_the_paper_s_table() -> None:
    choices = bucket_choices(PAPER, 20)
    assert decide(SlackFit(), PAPER, 36 * MS) == Dispatch(5, 16)  # all slack: the most accurate at batch 16, 34 ms
    assert decide(SlackFit(), PAPER, 33 * MS).subnet == 4  # 79.44 at batch 16, 20 ms
    assert decide(SlackFit(), PAPER, 4 * MS) == Dispatch(0, 16)  # nothing fits: drain
    assert list(choices.from_ns) == sorted(choices.from_ns)


@given(st.integers(0, 40), st.integers(1, 40))
def test_queue_aware_slackfit_is_at_least_as_accurate_and_still_fits(slack_ms: int, queue: int) -> None:
    plain = decide(SlackFit(), PAPER, slack_ms * MS, queue)
    aware = decide(SlackFit(queue_aware=True), PAPER, slack_ms * MS, queue)
    runs = min(plain.batch_size, queue)
    assert aware.subnet >= plain.subnet or PAPER.latency(plain.subnet, runs) > slack_ms * MS
    assert min(aware.batch_size, queue) == runs or queue > aware.batch_size


def test_infaas_serves_the_cheapest_above_its_threshold() -> None:
    assert decide(Infaas(), PAPER, 36 * MS) == Dispatch(0, 16)
    assert decide(Infaas(min_accuracy=78.0), PAPER, 36 * MS) == Dispatch(3, 16)
    with pytest.raises(DataError, match=r"no subnet is accurate enough \(99\); the best has 80.16"):
        decide(Infaas(min_accuracy=99.0), PAPER, 36 * MS)


def test_clipper_names_the_accuracies_there_are() -> None:
    with pytest.raises(DataError, match=r"no subnet of this accuracy \(75\); known: 73.82, 76.69"):
        decide(Clipper(75.0), PAPER, 36 * MS)


@pytest.mark.parametrize(("rate_per_s", "subnet"), [(400, 5), (700, 4), (1100, 3), (1800, 0), (10_000, 0)])
def test_coarse_takes_the_most_accurate_subnet_that_serves_the_rate(rate_per_s: int, subnet: int) -> None:
    # One worker serves 16 queries in 34, 20, 13, 12, 11 or 8.8 ms: 471, 800, 1231, 1333, 1455 or 1818 a second.
    view: View = static_view(PAPER, slack_ns=36 * MS, queue_length=rate_per_s, now_ns=10**10)
    decision = Coarse(window_ms=1000).decide(view)
    assert decision.subnet == subnet


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SlackFit(buckets=0), "SlackFit.buckets: is out of range (0); must be a whole number at least 1"),
        (lambda: SlackFit(buckets=2.5), "SlackFit.buckets: is not a number (2.5)"),
        (
            lambda: Clipper(accuracy=780.0),
            "Clipper.accuracy: is out of range (780.0); must be a finite number above 0 and at most 100",
        ),
        (lambda: Clipper(accuracy="78"), "Clipper.accuracy: is not a number ('78')"),
        (lambda: Coarse(window_ms=float("nan")), "Coarse.window_ms: is out of range (nan)"),
        (lambda: Coarse(headroom=float("inf")), "Coarse.headroom: is out of range (inf)"),
        (lambda: Infaas(min_accuracy=-1.0), "Infaas.min_accuracy: is out of range (-1.0)"),
    ],
)
def test_parameters_out_of_range_are_told(make: object, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert says in str(caught.value)
