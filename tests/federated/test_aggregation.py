"""Rules that see each update: what each withstands, and when it is the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there
from hypothesis import given, settings  # noqa: E402 - after torch is known to be there
from hypothesis import strategies as st  # noqa: E402
from scipy.stats import norm  # noqa: E402

from federated.aggregation import ClippedMean, GeometricMedian, Krum, Median, QFedAvg, TrimmedMean  # noqa: E402
from federated.algorithms import Scaffold  # noqa: E402
from federated.attacks import Attacker  # noqa: E402
from federated.compression import EightBit, TopK  # noqa: E402
from federated.programs import Aggregator, Trainer  # noqa: E402
from sim.base.errors import ProgramError, SpecError, SsimError  # noqa: E402
from tests.federated.quadratic import clients, far, job_of, run, state_of  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402

RULES = [Median(), TrimmedMean(0.25), Krum(2), Krum(2, select=3), GeometricMedian(), ClippedMean(2.0)]
FLAT: dict[str, Any] = {"trainer": Trainer, "aggregator": Aggregator}


def drawn(seed: int, count: int, elements: int = 5) -> tuple[Any, Any]:
    chance = torch.Generator().manual_seed(seed)
    deltas = torch.randn((count, elements), generator=chance, dtype=torch.float64)
    return deltas, torch.rand(count, generator=chance, dtype=torch.float64) + 0.5


@given(st.sampled_from(RULES), st.integers(0, 10**6), st.integers(7, 12))
@settings(max_examples=60, deadline=None)
def test_the_order_of_updates_does_not_matter(rule: Any, seed: int, count: int) -> None:
    deltas, weights = drawn(seed, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))
    found, again = rule.combine(deltas, weights), rule.combine(deltas[order], weights[order])
    assert torch.allclose(found, again, rtol=1e-9, atol=1e-12)


@given(st.sampled_from(RULES), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_equal_updates_are_what_comes_out(rule: Any, seed: int) -> None:
    deltas, weights = drawn(seed, 1)
    deltas = deltas / deltas.norm()
    found = rule.combine(deltas.repeat(8, 1), weights.repeat(8))
    assert torch.allclose(found, deltas[0], rtol=1e-12, atol=1e-15)


@given(st.integers(0, 10**6), st.integers(3, 12))
@settings(max_examples=30, deadline=None)
def test_rules_that_leave_nothing_out_are_the_mean(seed: int, count: int) -> None:
    deltas, weights = drawn(seed, count)
    plain, weighted = deltas.mean(0), (weights[:, None] * deltas).sum(0) / weights.sum()
    assert torch.allclose(TrimmedMean(0.0).combine(deltas, weights), plain)
    assert torch.allclose(Krum(0, select=count).combine(deltas, weights), plain)
    assert torch.allclose(ClippedMean(1e9).combine(deltas, weights), weighted)


@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_q_fedavg_is_the_mean_for_q_0_and_favours_high_losses_for_more(seed: int, count: int, rate: float) -> None:
    deltas, weights = drawn(seed, count, elements=count)
    losses = drawn(seed + 1, count)[1]
    assert torch.allclose(QFedAvg(0.0, rate).combine(deltas, weights, losses), deltas.mean(0))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    found = QFedAvg(2.0, rate).combine(deltas, weights, losses)
    assert torch.allclose(found, QFedAvg(2.0, rate).combine(deltas[order], weights, losses[order]))
    shares = QFedAvg(2.0, rate).combine(torch.eye(count, dtype=torch.float64), weights, losses)
    assert torch.equal(shares.argsort(), losses.argsort())


WITHSTANDS = [(Median(), 4), (TrimmedMean(0.45), 4), (Krum(3), 3), (Krum(3, select=6), 3), (GeometricMedian(), 4)]


@given(st.sampled_from(WITHSTANDS), st.integers(0, 10**6), st.floats(1e3, 1e12))
@settings(max_examples=60, deadline=None)
def test_a_minority_moves_no_rule_far_and_every_minority_the_mean(given_: Any, seed: int, size: float) -> None:
    """Of nine updates as many are anything as each rule withstands, and it stays near the others."""
    rule, bad = given_
    deltas, _ = drawn(seed, 9)
    weights = torch.ones(9, dtype=torch.float64)
    honest = deltas[bad:].norm(dim=1).max()
    deltas[:bad] = size * (1 + torch.rand((bad, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert rule.combine(deltas, weights).norm() < 20 * honest
    assert deltas.mean(0).norm() > size / 10


def test_a_clipped_update_moves_the_mean_by_its_norm_at_most() -> None:
    deltas, weights = drawn(1, 6)
    deltas[0] *= 1e9
    assert ClippedMean(0.5).combine(deltas, weights).norm() <= 0.5


def test_attackers_ruin_the_mean_and_no_robust_rule() -> None:
    plan = expand(cases.classical(), clients(*[4] * 9))
    sound = state_of(run(plan, FLAT, job_of(plan, 20)), "aggregator/0")
    distance = {}
    for rule in (None, Median(), Krum(3, select=4), GeometricMedian()):
        report = attacked(plan, 20, {"share": 0.34, "attack": "gaussian", "scale": 1e4}, aggregation=rule)
        distance[type(rule).__name__] = far(state_of(report, "aggregator/0"), sound)
    assert distance.pop("NoneType") > 1000
    assert max(distance.values()) < 3


def test_no_attackers_are_trainers() -> None:
    plan = expand(cases.classical(), clients(3, 4, 5))
    report = attacked(plan, 3, {"share": 0.0})
    assert far(state_of(report, "aggregator/0"), state_of(run(plan, FLAT, job_of(plan)), "aggregator/0")) == 0


@given(st.integers(2, 9), st.floats(0.01, 1))
@settings(max_examples=10, deadline=None)
def test_a_share_above_0_attacks_or_is_refused(count: int, share: float) -> None:
    plan = expand(cases.classical(), clients(*[4] * count))
    if round(share * count):
        attacked(plan, 1, {"share": share})
        return
    with pytest.raises(SsimError, match=f"share: is rounded to 0 attackers of {count}") as caught:
        attacked(plan, 1, {"share": share})
    smallest = float(caught.value.hint.split()[2])
    assert round(1.001 * smallest * count) == 1
    assert round(0.999 * smallest * count) == 0


def attacked(plan: Any, rounds: int, config: dict[str, Any], **more: Any) -> Any:
    """What comes of a training whose trainers may attack."""
    makers = job_of(plan, rounds, **more).programs({"trainer": Attacker, "aggregator": Aggregator})
    return SimEngine().run(plan, {**makers, "trainer": lambda **_: makers["trainer"](**config)})


@dataclass(frozen=True)
class Seen:
    """The mean, which keeps what it saw."""

    rows: list[Any]

    def combine(self, deltas: Any, weights: Any) -> Any:
        self.rows.append(deltas)
        return deltas.mean(0)


@given(st.integers(5, 14), st.data())
@settings(max_examples=15, deadline=None)
def test_a_little_is_enough_as_in_the_paper(count: int, data: st.DataObject) -> None:
    """All attackers send mean - z std of their own updates, with z of the paper's step 3; others send their own."""
    attackers = data.draw(st.integers(2, (count - 1) // 2))
    plan = expand(cases.classical(), clients(*[4] * count))
    rows: list[Any] = []
    attacked(plan, 1, {"share": attackers / count, "attack": "alie"}, aggregation=Seen(rows))
    attacked(plan, 1, {"share": 0.0}, aggregation=Seen(rows))
    sent, honest = (found.numpy() for found in rows)
    changed = np.flatnonzero((sent != honest).any(axis=1))
    z = norm.ppf((count - attackers - (np.floor(count / 2 + 1) - attackers)) / (count - attackers))
    assert len(changed) == attackers
    assert np.allclose(sent[changed], honest[changed].mean(0) - z * np.var(honest[changed], axis=0) ** 0.5, atol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_little_is_enough_needs_a_minority_of_several(share: float) -> None:
    with pytest.raises(SpecError, match=r"alie with \d attackers of 9"):
        attacked(expand(cases.classical(), clients(*[4] * 9)), 1, {"share": share, "attack": "alie"})


@pytest.mark.parametrize("attack", ["sign_flip", "gaussian", "alie"])
@pytest.mark.parametrize("compression", [TopK(1.0), EightBit()])
def test_a_false_update_is_compressed_as_others_are(attack: str, compression: Any) -> None:
    plan, config = expand(cases.classical(), clients(*[4] * 9)), {"share": 0.34, "attack": attack}
    plain, sent = (attacked(plan, 2, config, compression=given) for given in (None, compression))
    assert far(state_of(plain, "aggregator/0"), state_of(sent, "aggregator/0")) < 0.1
    assert not [entry for entry in sent.log if entry.kind == "refused"]


@dataclass(frozen=True)
class Wrong:
    result: Any

    def combine(self, deltas: Any, weights: Any) -> Any:
        return self.result(deltas)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Wrong(lambda deltas: deltas), r"returned the wrong shape \(.*\); must be \("),
        (Wrong(len), "returned the wrong shape"),
        (Wrong(lambda deltas: deltas[0] * float("nan")), "not finite"),
        (Krum(1), "too few updates"),
    ],
)
def test_a_rule_that_goes_wrong_is_told(rule: Any, says: str) -> None:
    plan = expand(cases.classical(), clients(3, 4, 5))
    with pytest.raises((SsimError, ProgramError), match=says):
        run(plan, FLAT, job_of(plan, aggregation=rule))


def test_what_relies_on_the_mean_is_refused() -> None:
    plan = expand(cases.classical(), clients(3, 4, 5))
    with pytest.raises(SpecError, match="Scaffold relies on the mean"):
        job_of(plan, aggregation=Median(), algorithm=Scaffold())
