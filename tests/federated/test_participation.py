"""Over-commitment, a least number of updates, and what is done when the time is up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from hypothesis import given, settings  # noqa: E402 - after torch is known to be there
from hypothesis import strategies as st  # noqa: E402

from federated.asynchronous import AsyncAggregator  # noqa: E402
from federated.programs import Aggregator, EagerAggregator, Trainer  # noqa: E402
from federated.ring import HybridAggregator  # noqa: E402
from sim.base.errors import SpecError  # noqa: E402
from ssim.jobs.federated.progress import party_rows  # noqa: E402
from tests.federated.quadratic import clients, far, job_of, run, state_of  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Select, Tag  # noqa: E402

ROUNDS = 4


def federation(sizes: tuple[int, ...], k: int | None = None, **config: Any) -> Any:
    """A server that asks k trainers at random, or all; a trainer takes 10 ms an example."""
    tag = cases.classical()
    select = {} if k is None else {"aggregator": Select("random", {"k": k})}
    roles = tuple(replace(role, config=config if role.name == "aggregator" else {}) for role in tag.roles)
    return expand(Tag(roles, (replace(tag.channels[0], select=select),)), clients(*sizes))


def trained(plan: Any, server: Any = Aggregator, faults: Any = (), **more: Any) -> Any:
    owners: dict[str, Any] = {"trainer": Trainer, "aggregator": server}
    return run(plan, owners, job_of(plan, ROUNDS, **more), faults=faults)


def answers(report: Any, number: int | None = None) -> dict[str, list[str]]:
    """Who was asked, by what came of it."""
    found: dict[str, list[str]] = {}
    for row in party_rows(report):
        if number in {None, row["round"]}:
            found.setdefault(row["answer"], []).append(row["party"])
    return found


@given(st.permutations([2, 3, 5, 7, 9, 11, 13]), st.integers(1, 6), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_earliest_are_used_and_the_round_ends_with_the_last_of_them(order: list[int], k: int, eager: bool) -> None:
    sizes, server = tuple(order), EagerAggregator if eager else Aggregator
    report = trained(federation(sizes, k, overcommit=7 / k), server)
    first = [f"trainer/{sizes.index(size)}" for size in sorted(sizes)[:k]]
    assert sorted(answers(report, 1)["used"]) == sorted(first)
    ends_s = [entry.at_ns / 1e9 for entry in report.log if entry.kind == "round"]
    assert ends_s[0] == pytest.approx(0.01 * sorted(sizes)[k - 1] + 0.001)
    rows = [row for row in party_rows(report) if row["answer"] == "used"]
    assert [sum(row["round"] == n for row in rows) for n in range(1, ROUNDS + 1)] == [k] * ROUNDS


@given(st.lists(st.integers(2, 20), min_size=4, max_size=8), st.integers(1, 4), st.sampled_from([1.3, 1.5, 2.0]))
@settings(max_examples=15, deadline=None)
def test_each_update_that_was_sent_is_used_or_late_once(sizes: list[int], k: int, overcommit: float) -> None:
    report = trained(federation(tuple(sizes), k, overcommit=overcommit))
    rows = party_rows(report)
    assert len({(row["round"], row["party"]) for row in rows}) == len(rows)
    arrived = [row for row in rows if row["answer"] in {"used", "late"}]
    assert all(row["bytes"] > 0 and row["seconds"] > 0 for row in arrived)
    assert all(row["bytes"] is None for row in rows if row["answer"] == "none")
    tasks, dismissals = len(rows), len(sizes)
    on_their_way = report.traffic["param"].messages - tasks - dismissals - len(arrived)
    assert 0 <= on_their_way <= len(answers(report).get("none", []))


def test_who_asks_for_no_more_does_as_before() -> None:
    sizes = (2, 5, 3, 8, 6)
    plain = trained(federation(sizes, 2))
    assert trained(federation(sizes, 2, overcommit=1.0)).fingerprint() == plain.fingerprint()
    everybody = trained(federation(sizes, 5))
    assert trained(federation(sizes, 5, overcommit=1.4)).fingerprint() == everybody.fingerprint()


def test_the_model_is_that_of_the_earliest_alone() -> None:
    over = state_of(trained(federation((2, 9, 3, 8), 2, overcommit=2.0)), "aggregator/0")
    alone = expand(cases.classical(), [data for data in clients(2, 9, 3, 8) if data.size < 5])
    job = job_of(alone, ROUNDS)
    job.context.datasets[:] = clients(2, 9, 3, 8)  # the optima are numbered as above
    assert far(over, state_of(run(alone, {"trainer": Trainer, "aggregator": Aggregator}, job), "aggregator/0")) < 1e-12


def test_a_damaged_update_is_not_one_of_those_that_are_enough() -> None:
    spoiled = {"d00": lambda delta: {name: part * float("nan") for name, part in delta.items()}}
    report = trained(federation((1, 4, 6, 9), 2, overcommit=2.0), broken=spoiled)
    assert answers(report, 1) == {"refused": ["trainer/0"], "used": ["trainer/1", "trainer/2"], "late": ["trainer/3"]}


def test_a_round_with_too_few_updates_leaves_the_model_as_it_is() -> None:
    dead = [InjectedFault(f"trainer/{number}", die_s=0.0) for number in (0, 1)]
    report = trained(federation((2, 3, 4), min_updates=2, timeout_s=1.0), faults=dead)
    assert far(state_of(report, "aggregator/0"), job_of(federation((2, 3, 4))).context.initial_state()) == 0
    assert [entry.kind for entry in report.log if entry.kind in {"too few updates", "no updates"}] == [
        "too few updates"
    ] * ROUNDS
    enough = trained(federation((2, 3, 4), min_updates=1, timeout_s=1.0), faults=dead)
    assert far(state_of(enough, "aggregator/0"), state_of(report, "aggregator/0")) > 0


def test_a_server_that_waits_has_as_many_as_it_must() -> None:
    sizes, limits = (1, 50, 30), {"timeout_s": 0.1, "min_updates": 2}
    waited = trained(federation(sizes, **limits, if_fewer="wait"))
    assert answers(waited, 1)["used"] == ["trainer/0", "trainer/2"]
    assert next(e.at_ns / 1e9 for e in waited.log if e.kind == "round") == pytest.approx(0.3 + 0.001)
    skipped = trained(federation(sizes, **limits))
    assert answers(skipped, 1)["used"] == ["trainer/0"]
    assert skipped.end_s < waited.end_s


@pytest.mark.parametrize(
    ("server", "k", "config", "says"),
    [
        (Aggregator, None, {"overcommit": 1.3}, "overcommit: needs a selector with k"),
        (Aggregator, 2, {"overcommit": 0.9}, "overcommit"),
        (Aggregator, 2, {"min_updates": 3}, "min_updates: more than the updates of a round"),
        (Aggregator, None, {"min_updates": 4}, "min_updates: more than the updates of a round"),
        (Aggregator, None, {"if_fewer": "wait", "min_updates": 2}, "if_fewer: not used without"),
        (AsyncAggregator, None, {"min_updates": 2}, "min_updates: not used by AsyncAggregator"),
        (HybridAggregator, None, {"overcommit": 2.0}, "overcommit: not used by HybridAggregator"),
    ],
)
def test_what_can_not_be_meant_is_refused(server: Any, k: int | None, config: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        trained(federation((2, 3, 4), k, **config), server)


def test_what_selectors_know_of_a_late_client_is_what_it_took() -> None:
    seen: dict[str, Any] = {}

    class Watching(Aggregator):
        def select(self, io: Any, present: tuple[str, ...]) -> None:
            seen.update({peer: dict(stats) for peer, stats in io["distribute"].peer_stats.items()})
            super().select(io, present)

    plan = federation((1, 2, 30), timeout_s=0.1)  # the last one takes 0.3 s
    report = trained(plan, Watching)
    assert "trainer/2" in answers(report)["late"]
    assert seen["trainer/2"]["seconds"] == pytest.approx(0.3)
    assert seen["trainer/2"]["utility"] > 0
    assert {peer for peer, stats in seen.items() if stats["seconds"] > 0.1} == {"trainer/2"}
