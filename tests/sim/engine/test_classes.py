"""The queries of a run by class: what is true of any classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import Measure, Outcome, Trace, metrics, simulate
from sim.engine.classes import MAX_SLOS, by_class
from tests.laws.cases import Case, cases

NAMES = ("a", "b", "c", "never")


def classed(case: Case, codes: list[int], slo_ns: object = None) -> Trace:
    trace = case.trace
    return Trace(trace.arrival_ns, slo_ns or trace.slo_ns, trace.duration_ns, class_codes=codes, class_names=NAMES)


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_classes_are_a_partition_of_what_is_measured(case: Case, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2), min_size=len(case.trace), max_size=len(case.trace)))
    whole = simulate(classed(case, codes), case.cluster, case.table, case.policy)
    first = data.draw(st.integers(0, int(case.trace.arrival_ns[-1])))
    for run in (whole, replace(whole, measure=Measure(first))):
        found = dict(by_class(run))
        assert list(found) == [name for name in NAMES if name in found]
        for outcome in Outcome:
            assert sum(part.count(outcome) for part in found.values()) == run.count(outcome)
        assert np.sum([part.met_by_subnet for part in found.values()], axis=0).tolist() == run.met_by_subnet.tolist()
        joined = np.concatenate([part.latency_ns for part in found.values()])
        assert sorted(joined.tolist()) == sorted(run.latency_ns.tolist())
        for number, name in enumerate(NAMES):
            own = np.flatnonzero((np.array(codes) == number) & (case.trace.arrival_ns >= run.from_ns))
            assert (name in found) == (len(own) > 0)
            if name in found:
                assert found[name].queries == len(own)
                met = run.outcome[own] == Outcome.MET
                assert metrics.slo_attainment(found[name]) == met.mean()
                accuracy = [
                    case.table.subnets[s].accuracy for s in whole.batches.subnet[whole.batch[own[met]]].tolist()
                ]
                if accuracy:
                    assert metrics.mean_serving_accuracy(found[name]) == pytest.approx(np.mean(accuracy))


@settings(max_examples=50, deadline=None)
@given(cases())
def test_one_class_is_the_whole(case: Case) -> None:
    run = simulate(classed(case, [1] * len(case.trace)), case.cluster, case.table, case.policy)
    ((name, part),) = by_class(run)
    assert name == "b"
    assert part.outcome.tolist() == run.outcome.tolist()
    assert part.latency_ns.tolist() == run.latency_ns.tolist()


def test_a_few_slos_are_classes_where_there_are_no_others() -> None:
    case = Trace(np.arange(0, 60_000_000, 1_000_000), 30_000_000, 10**9)
    slos = np.where(np.arange(60) % 3 == 0, 25_000_000, 80_500_000)
    assert dict(by_class(_result(case))) == {}
    two = Trace(case.arrival_ns, slos, 10**9)
    found = {name: part.queries for name, part in by_class(_result(two))}
    assert found == {"SLO 25 ms": 20, "SLO 80.5 ms": 40}
    many = Trace(case.arrival_ns, np.arange(60) % (MAX_SLOS + 1) + 1_000_000, 10**9)
    assert dict(by_class(_result(many))) == {}


def _result(trace: Trace) -> object:
    from policies.slackfit import SlackFit
    from sim import Cluster
    from sim.tables.files import load_table

    return simulate(trace, Cluster(workers=1), load_table("ofa-resnet50-rtx2080ti"), SlackFit())
