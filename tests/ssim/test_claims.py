"""Verdicts on results that are made up, so that what they ought to be is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.tables.files import load_table
from ssim.paper.claims import CLAIMS, azure, supernet
from ssim.paper.claims.claim import (
    Verdict,
    gain_at_equal_attainment,
    graded_verdict,
    near,
    ratio_at_equal_accuracy,
    verdict,
)
from ssim.paper.footprint import footprint, store_actuations
from ssim.results.reading import Results


def runs(**policies: tuple[float, float]) -> pd.DataFrame:
    """Two seeds of each policy, which differ a bit."""
    names = {"slackfit": "slackfit", "small": "clipper(accuracy=73.82)", "middle": "clipper(accuracy=78.25)"}
    names |= {"large": "clipper(accuracy=79.44)", "largest": "clipper(accuracy=80.16)"}
    return pd.DataFrame(
        [
            {
                "policy": names[name],
                "one_model": name != "slackfit",
                "seed": seed,
                "slo_attainment": attained,
                "mean_serving_accuracy": accuracy + 0.001 * seed,
            }
            for name, (attained, accuracy) in policies.items()
            for seed in range(2)
        ]
    )


class MadeUp(Results):
    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__(Path())
        self.frame = frame

    def summary(self, name: str) -> pd.DataFrame:
        return self.frame


def judged(frame: pd.DataFrame) -> dict[str, Verdict]:
    claims = azure.CLAIMS[:5]
    return {claim.paper: claim.judge(MadeUp(frame)).verdict for claim in claims}


def test_the_papers_own_numbers_are_reproduced() -> None:
    paper = runs(
        slackfit=(1.0, 78.49), small=(1.0, 73.82), middle=(0.9, 78.25), large=(0.35, 79.44), largest=(0, 80.16)
    )
    assert set(judged(paper).values()) == {Verdict.REPRODUCED}


def test_a_baseline_that_keeps_up_takes_the_gain() -> None:
    ours = runs(slackfit=(1.0, 79.3), small=(1.0, 73.82), middle=(1.0, 78.25), large=(0.1, 79.44), largest=(0, 80.16))
    assert gain_at_equal_attainment(ours)[1] == "clipper(accuracy=78.25)"
    assert judged(ours)["+4.67; +4.65 points"] is Verdict.DIRECTION
    assert judged(ours)["2.85x"] is Verdict.DIRECTION


def test_without_a_baseline_there_is_nothing_to_gain() -> None:
    alone = runs(slackfit=(1.0, 79.3), small=(0.9, 73.82), large=(0.0, 79.44), largest=(0, 80.16))
    assert gain_at_equal_attainment(alone) == ([], "")
    assert ratio_at_equal_accuracy(alone) == ([], "")
    assert judged(alone)["+4.67; +4.65 points"] is Verdict.NOT_REPRODUCED


def test_each_claim_is_there_once() -> None:
    keys = [(claim.statement, claim.where) for claim in CLAIMS]
    assert len(set(keys)) == len(keys)
    assert all(claim.paper for claim in CLAIMS)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), st.floats(0.1, 50))
def test_what_is_near_is_reproduced_and_what_points_elsewhere_never_has_the_direction(
    values: list[float], paper: float
) -> None:
    verdict = graded_verdict(values, paper)
    assert (verdict is Verdict.REPRODUCED) == near(values, paper)
    if sum(values) < 0:
        assert verdict is Verdict.NOT_REPRODUCED
    assert graded_verdict([paper] * len(values), paper) is Verdict.REPRODUCED


@pytest.mark.parametrize(("holds", "direction"), [(True, False), (True, True), (False, True), (False, False)])
def test_a_claim_that_holds_is_reproduced(holds: bool, direction: bool) -> None:
    expected = Verdict.REPRODUCED if holds else Verdict.DIRECTION if direction else Verdict.NOT_REPRODUCED
    assert verdict(holds, direction) is expected


def test_the_supernets_claims_are_counted(tmp_path: Path) -> None:
    results = Results(tmp_path)
    store_actuations(results)
    stored = results.actuation_file.read_bytes()
    memory, actuation, statistics = (claim.judge(results) for claim in supernet.CLAIMS)
    store_actuations(results)
    assert results.actuation_file.read_bytes() == stored, "what is stored stays"
    results.actuation_file.write_bytes(b"damaged")
    store_actuations(results)
    shown = results.actuations()
    assert shown["accuracy"].tolist() == [subnet.accuracy for subnet in load_table("ofa-resnet50-rtx2080ti").subnets]
    assert (shown["again_ms"] < shown["first_ms"]).all()
    assert memory.verdict is Verdict.DIRECTION
    assert memory.ours == "2.01x"  # as `ssim supernet memory` says
    assert actuation.verdict is Verdict.REPRODUCED
    assert statistics.verdict is Verdict.REPRODUCED


def test_without_torch_they_can_not_be_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssim.extras.find_spec", lambda _: None)
    monkeypatch.setattr("ssim.paper.claims.supernet.footprint", footprint.__wrapped__)
    for claim in supernet.CLAIMS:
        judged = claim.judge(Results(Path()))
        assert judged.verdict is Verdict.NOT_TESTABLE
        assert judged.why == "torch: is not installed; pip install 'superserve-sim[torch]'"


def test_counting_in_one_supernet_is_what_holding_it_takes() -> None:
    """The figures of the paper count; `supernet.memory` holds and measures."""
    from supernet.families import OfaResNet50
    from supernet.family import build
    from supernet.memory import in_place
    from supernet.space import SubnetConfig

    net = build(OfaResNet50(), device="meta")
    rows = load_table("ofa-resnet50-rtx2080ti").subnets
    published = [net.space.find(SubnetConfig(net.space.family, row.control)) for row in rows if row.control]
    assert [row.bytes for row in in_place(net, published)] == [
        row.bytes for row in footprint().in_one[: len(published)]
    ]
