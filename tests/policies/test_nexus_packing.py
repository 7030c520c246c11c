"""Nexus' packing: what each worker can hold, the paper's example, and a run of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.packed import Packed
from policies.planners.nexus import NexusPacking, NexusSession, packed
from sim import Cluster, PlannerView, Scaling, ServiceQueue, Trace, simulate
from sim.base.errors import PolicyError
from sim.base.units import NS_PER_S, ns_from_ms
from sim.engine.metrics import slo_attainment
from sim.engine.planning import KindView, QueueView
from sim.engine.run_metrics import NEVER_NS
from sim.tables.files import load_table

TABLE = load_table("ofa-resnet50-rtx2080ti")


@st.composite
def sessions(draw: st.DrawFn) -> list[NexusSession]:
    """Draw queues whose largest batch takes at most half of their SLO."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        base, each = draw(st.floats(1, 30)), draw(st.floats(0.1, 10))
        most = draw(st.integers(1, 32))
        takes = tuple(ns_from_ms(base + each * batch) for batch in range(1, most + 1))
        slo_ns = round(takes[-1] * draw(st.floats(2, 6))) + 1
        found.append(NexusSession(str(number), "", draw(st.floats(0.5, 3000)), slo_ns, takes))
    return found


@given(sessions())
def test_a_packing_serves_all_of_the_rate_within_every_slo(given_sessions: list[NexusSession]) -> None:
    nodes = packed(given_sessions, KindView("", TABLE, ()))
    for node in nodes:
        assert node.occupancy <= 1 + 1e-9
        for one, batch in zip(node.sessions, node.batches, strict=True):
            assert node.duty_ns + one.takes_ns(batch) <= one.slo_ns + 1
            assert batch * NS_PER_S / node.duty_ns >= one.rate_per_s * (1 - 1e-6)
    for one in given_sessions:
        served = sum(part.rate_per_s for node in nodes for part in node.sessions if part.queue == one.queue)
        assert served == pytest.approx(one.rate_per_s, rel=1e-6)
    load = sum(one.rate_per_s / one.throughput_per_s for one in given_sessions)
    alone = sum(int(one.rate_per_s / one.throughput_per_s) + 1 for one in given_sessions)
    assert load - 1e-6 <= len(nodes) <= alone


def test_the_example_of_the_paper_is_packed_as_there() -> None:
    """Section 6.1: of three residual loads, A and B share a GPU with a cycle of 125 ms and batches of 8 and 4."""
    profiles = {"a": (64, 200, (50, 75, 100)), "b": (32, 250, (50, 90, 125)), "c": (32, 250, (60, 95, 125))}
    loads = []
    for name, (rate, slo_ms, (four, eight, sixteen)) in profiles.items():
        takes = [ns_from_ms(four)] * 4 + [ns_from_ms(eight)] * 4 + [ns_from_ms(sixteen)] * 8
        loads.append(NexusSession(name, "", rate, ns_from_ms(slo_ms), tuple(takes)))
    found = {frozenset(one.queue for one in node.sessions): node for node in packed(loads, KindView("", TABLE, ()))}
    assert set(found) == {frozenset("ab"), frozenset("c")}
    both = found[frozenset("ab")]
    assert both.duty_ns == ns_from_ms(125)
    batches = dict(zip((one.queue for one in both.sessions), both.batches, strict=True))
    assert batches == {"a": 8, "b": 4}


def test_workers_keep_the_queues_that_they_have() -> None:
    queues = [QueueView(name, {"": TABLE}, rate * 10, slo_ns=ns_from_ms(50)) for name, rate in (("a", 400), ("b", 900))]
    planner = NexusPacking()
    kind = KindView("", TABLE, tuple(range(8)), scaling=Scaling(8, 1, 0))
    plans = [
        planner.plan(PlannerView(10 * NS_PER_S, 0, 0, (kind,), order)).queues
        for order in (tuple(queues), tuple(queues[::-1]))
    ]
    assert plans[0] == plans[1]


def test_a_run_has_the_workers_of_the_packing_and_meets_slos() -> None:
    """Poisson arrivals of three queues, so that loads of turns differ, and early drop gives up a few queries."""
    rng, seconds = np.random.default_rng(1), 20
    rates, slos_ms = (900, 60, 40), (50, 100, 150)
    codes = np.repeat(np.arange(3), [rate * seconds for rate in rates])
    arrival = rng.integers(0, seconds * NS_PER_S, len(codes))
    order = np.argsort(arrival, kind="stable")
    slo_ns = np.array(slos_ms)[codes[order]] * 1_000_000
    names = ("a", "b", "c")
    trace = Trace(arrival[order], slo_ns, seconds * NS_PER_S, class_codes=codes[order], class_names=names)
    queues = tuple(ServiceQueue(name) for name in names)
    cluster = Cluster(8, queues=queues, scaling=Scaling(16, 1, 0))
    planner, policy = NexusPacking(accuracy=80.16), Packed(accuracy=80.16)
    run = simulate(trace, cluster, TABLE, policy, planner=planner, period_ns=4 * NS_PER_S)
    assert slo_attainment(run) > 0.99
    steady = tuple(
        QueueView(name, {"": TABLE}, rate, slo_ns=ns_from_ms(slo))
        for name, rate, slo in zip(names, rates, slos_ms, strict=True)
    )
    kind = KindView("", TABLE, (), scaling=cluster.scaling)
    wanted = planner.plan(PlannerView(NS_PER_S, 0, 0, (kind,), steady)).workers
    assert run.fleet is not None
    assert abs(int((run.fleet.gone_ns == NEVER_NS).sum()) - int(wanted)) <= 1


def test_several_kinds_are_refused() -> None:
    kinds = tuple(KindView(name, TABLE, ()) for name in ("x", "y"))
    with pytest.raises(PolicyError, match="packs on workers of one kind"):
        NexusPacking().plan(PlannerView(NS_PER_S, 0, 0, kinds, ()))
