"""Variants: another program for some workers of a role, on all engines the same ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology import cases
from tests.topology.programs import Holder, Inverted, Top, held
from topology.binding import bind
from topology.description import diff
from topology.diagram import diagram_of_tag
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.flaws import TagError
from topology.program import Program
from topology.steps import Steps
from topology.tag import Channel, Role, Tag, Variant
from topology.variants import drawn_variants

if TYPE_CHECKING:
    from topology.plan import Plan
    from topology.report import RunReport

BOTH: dict[str, Any] = {"trainer": Holder, "trainer/other": Inverted, "aggregator": Top}


def plan_of(*variants: Variant, count: int = 8) -> Plan:
    return expand(cases.classical(*variants), cases.data(default=count))


def mean(report: RunReport) -> Any:
    return report.results["aggregator/0"]


@given(st.lists(st.floats(0, 0.5), min_size=2, max_size=2), st.integers(1, 40), st.integers(0, 9))
def test_each_worker_runs_one_program_and_a_share_is_its_number(shares: list[float], count: int, seed: int) -> None:
    variants = [Variant(share=share if round(share * count) else 0.0) for share in shares]
    counts = [round((variant.share or 0) * count) for variant in variants]
    if sum(counts) > count:
        with pytest.raises(TagError, match="variants: need more workers"):
            plan_of(*variants, count=count)
        return
    drawn = drawn_variants(plan_of(*variants, count=count), seed)
    assert [list(drawn.values()).count(name) for name in ("other", "third")] == counts
    assert set(drawn) <= {f"trainer/{number}" for number in range(count)}


@given(st.integers(2, 30), st.integers(0, 9), st.data())
def test_the_workers_of_a_smaller_share_are_among_those_of_a_larger_one(
    count: int, seed: int, data: st.DataObject
) -> None:
    fewer, more = sorted(data.draw(st.lists(st.integers(0, count), min_size=2, max_size=2)))
    small, large = (drawn_variants(plan_of(Variant(share=n / count), count=count), seed) for n in (fewer, more))
    assert set(small) <= set(large)


def test_the_seed_draws_other_workers() -> None:
    plan = plan_of(Variant(share=0.25), count=40)
    assert len({tuple(drawn_variants(plan, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", range(3))
def test_named_datasets_and_a_drawn_share_are_two_ways_to_say_the_same(seed: int) -> None:
    plan = plan_of(Variant(share=0.25))
    drawn = SimEngine().run(plan, BOTH, seed=seed)
    ids = tuple(plan.worker(id_).dataset.id for id_ in drawn_variants(plan, seed))  # type: ignore[union-attr]
    named = SimEngine().run(plan_of(Variant(datasets=ids)), BOTH, seed=seed)
    assert len(ids) == 2
    assert drawn.fingerprint() == named.fingerprint()


def test_a_variant_with_the_program_of_its_role_changes_nothing() -> None:
    plain = SimEngine().run(plan_of(), {"trainer": Holder, "aggregator": Top})
    same = SimEngine().run(plan_of(Variant(share=0.5)), {**BOTH, "trainer/other": Holder})
    named = [entry for entry in same.log if entry.kind == "variant"]
    assert [entry.fields for entry in named] == [{"name": "other"}] * 4
    same.log = [entry for entry in same.log if entry.kind != "variant"]
    assert plain.fingerprint() == same.fingerprint()


def test_only_the_workers_of_a_variant_run_its_program() -> None:
    """The mean is that of what all hold, those of the variant with the other sign."""
    plan = plan_of(Variant(share=0.5))
    drawn = drawn_variants(plan, 0)
    data = {worker.id: worker for worker in plan.workers if worker.dataset is not None}
    own = {id_: held(SimpleNamespace(worker=worker), 3) for id_, worker in data.items()}  # type: ignore[arg-type]
    expected = sum((-part if id_ in drawn else part for id_, part in own.items()), np.zeros(3)) / len(own)
    np.testing.assert_allclose(mean(SimEngine().run(plan, BOTH)), expected)


def test_the_config_of_a_variant_adds_to_that_of_its_role() -> None:
    tag = cases.classical(Variant(share=0.5, config={"work_s": 2.0}))
    roles = [replace(role, config={"length": 5, "work_s": 1.0}) if role.data else role for role in tag.roles]
    bindings = bind(Tag(tuple(roles), tag.channels), BOTH)
    made: Any = bindings["trainer/other"].make()
    assert (type(made), made.length, made.work_s) == (Inverted, 5, 2.0)


@dataclass
class First(Program):
    """Receives before it sends, as those do to whom it sends."""

    steps = Steps("distribute")
    function_tags = ("distribute", "aggregate")
    receives_first = ("aggregate",)

    async def distribute(self, io: Any) -> None:
        await io["aggregate"].recv()


@dataclass
class Elsewhere(Program):
    """Refers to its channel by other names."""

    steps = Steps("fetch")
    function_tags = ("fetch", "deliver")

    async def fetch(self, io: Any) -> None:
        await io["fetch"].recv()


def test_programs_of_variants_are_checked_as_those_of_roles() -> None:
    tag = cases.classical(Variant(share=0.5))
    for wrong, told in (
        ({"trainer/other": Elsewhere}, "verbs.trainer.1: not a function tag of the program Elsewhere"),
        ({"trainer/third": Inverted}, "roles.trainer/third: unknown role"),
        ({"trainer/other": int}, "roles.trainer.variants.other.program: not a subclass of Program"),
    ):
        with pytest.raises(TagError, match=told):
            bind(tag, {**BOTH, **wrong})
    with pytest.raises(TagError, match=r"roles.trainer.variants.other: no program"):
        bind(tag, {"trainer": Holder, "aggregator": Top})
    roles = (Role("trainer", data=True), Role("aggregator", replicas=2, variants={"late": Variant(share=0.5)}))
    cycle = Tag(roles, tag.channels)
    with pytest.raises(TagError, match="deadlock: each of these roles receives from the next before it sends"):
        bind(cycle, {"trainer": Holder, "aggregator": Top, "aggregator/late": First})


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ((Variant(),), r"variants.other: needs either share or datasets \(neither\)"),
        ((Variant(share=0.5, datasets=("default-0",)),), r"variants.other: needs either share or datasets \(both\)"),
        ((Variant(share=0.6), Variant(share=0.6)), r"variants: the shares sum to more than 1 \(1.2\)"),
        (
            (Variant(datasets=("default-0",)),) * 2,
            "variants.third.datasets.0: already a dataset of the variant 'other'",
        ),
        ((Variant(share=0.05),), r"other.share: is rounded to 0 workers of 8 \(0.05\); more than 0.0625 for 1 worker"),
        ((Variant(datasets=("default-9",)),), "other.datasets.0: not a dataset of trainer"),
        ((Variant(share=0.9), Variant(datasets=("default-0", "default-1"))), r"need more workers than the 8 .* \(9\)"),
    ],
)
def test_variants_that_make_no_sense_are_refused(variants: tuple[Variant, ...], told: str) -> None:
    with pytest.raises(TagError, match=told):
        plan_of(*variants)


def test_a_variant_of_a_role_without_data_has_no_datasets() -> None:
    roles = (Role("trainer", data=True), Role("aggregator", variants={"other": Variant(datasets=("default-0",))}))
    with pytest.raises(TagError, match=r"other\.datasets: the role consumes no data"):
        Tag(roles, (Channel("param", ("trainer", "aggregator")),))


def test_it_is_seen_in_differences_and_pictures() -> None:
    with_, without = cases.classical(Variant("m:Other", 0.25)), cases.classical()
    assert diff(without, with_).added == ('roles.trainer.variants.other: {"program": "m:Other", "share": 0.25}',)
    assert "other: 25 %" in next(node.label for node in diagram_of_tag(with_).nodes if node.role == "trainer")
