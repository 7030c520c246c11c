"""The inference: distances agree with verdicts, regions with their rule, and a search with itself."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import ssim
from sim.base.errors import SpecError
from sim.traces.azure import Azure
from sim.traces.synthetic import Bursty
from ssim.paper.claims import CLAIMS
from ssim.paper.claims.claim import Verdict
from ssim.paper.claims.synthetic import CV2S, ENDS, PACES, RATES
from ssim.paper.inference.evidence import CHOSEN, CLIPPERS, Evidence, PointResults, SearchedRun, clipper
from ssim.paper.inference.infer import Inferred
from ssim.paper.inference.region import TOLERANCE, Searched, SearchPoint, contradictions, hold_nowhere, middle, region
from ssim.paper.inference.report import sections
from ssim.paper.inference.search import Search, SearchTrace, _Simulated, trials
from ssim.paper.inference.space import BUCKETS, Choices
from ssim.paper.inference.space import settings as settings_of
from ssim.paper.inference.statements import CAP, FIGURES, STATEMENTS, claim_of
from ssim.paper.inference.variants import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ATTAINED = st.sampled_from([0.0, 0.2, 0.5, 0.93, 0.95, 0.98, 0.989, 0.99, 0.991, 0.999, 0.9995, 0.99999, 1.0])
ACCURACIES = {name: float(name) for name in CLIPPERS}


@st.composite
def evidence(draw: Callable[..., object]) -> Evidence:
    """Anything that a search may find with one seed."""
    rows: list[SearchedRun] = []

    def add(experiment: str, policies: tuple[str, ...], windows: int = 0, **at: float) -> None:
        swept = tuple(sorted((f"trace.{key}", value) for key, value in at.items()))
        for policy in policies:
            name = policy.removeprefix("clipper(accuracy=").removesuffix(")")
            attained = draw(ATTAINED)
            accuracy = ACCURACIES.get(name) or draw(st.sampled_from([73.9, 77.0, 78.15, 78.47, 78.6, 79.2]))
            band = st.sampled_from([75.9, 76.0, 77.5, 78.0, 78.1, 79.2, math.nan])
            seen = tuple(draw(st.lists(band, min_size=windows, max_size=windows)))
            rows.append(SearchedRun(experiment, swept, policy, 7, attained, accuracy if attained else math.nan, seen))

    clippers = tuple(map(clipper, CLIPPERS))
    add("azure_ideal", (CHOSEN, *clippers))
    for rate in RATES:
        for cv2 in CV2S:
            more = ("maxbatch", "maxacc") if rate == 5550 else ()
            add("bursty", (CHOSEN, *clippers, *more), variant_qps=rate, cv2=cv2)
    for end in ENDS:
        for pace in PACES:
            add("time_varying", (CHOSEN, clipper("79.44")), end_qps=end, acceleration_qps2=pace)
    add("faults", (CHOSEN,))
    add("fixed_subnets", clippers)
    for cv2 in (2, 8):
        add("dynamics_bursty", (CHOSEN,), 12, cv2=cv2)
    for pace in (250, 5000):
        add("dynamics_time_varying", (CHOSEN,), 12, acceleration_qps2=pace)
    rates = st.sampled_from([1700.0, 1800.0, 2000.0, 7200.0, 8000.0, 8800.0, 14000.0])
    return Evidence(rows, {clipper("80.16"): draw(rates), clipper("73.82"): draw(rates)})


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # shrinking so much takes minutes
@given(evidence())
def test_a_distance_is_at_most_one_where_its_claim_is_reproduced(found: Evidence) -> None:
    needed = (CHOSEN, clipper("73.82"))
    if any(math.isnan(value) for row in found.rows for value in (row.accuracy,) if row.policy in needed):
        return
    if any(row.windows and all(map(math.isnan, row.windows)) for row in found.rows):
        return
    results = PointResults(found)
    for statement in STATEMENTS:
        _, distance = statement.measure(found)
        judged = claim_of(statement).judge(results)
        assert (distance <= 1) == (judged.verdict is Verdict.REPRODUCED), (statement.claim, distance, judged)


def test_every_statement_is_one_claim() -> None:
    claims = [claim_of(statement) for statement in STATEMENTS]
    assert len({id(claim) for claim in claims}) == len(STATEMENTS) <= len(CLAIMS)


def searched(*distances: float) -> Searched:
    """A point at which the first statements have these distances, and all others hold."""
    filled = (*distances, *[0.0] * (len(STATEMENTS) - len(distances)))
    return Searched(SearchPoint(Choices(), str(distances)), filled, filled)


@given(st.lists(st.lists(st.floats(0, 9), min_size=5, max_size=5), min_size=1, max_size=20))
def test_a_region_is_what_is_within_the_tolerance_of_the_least_misfit(found: list[list[float]]) -> None:
    points = [searched(*each) for each in found]
    near = region(points, FIGURES)
    by_hand = [sum(max(0.0, min(d, CAP) - 1) for d in each) for each in found]
    assert near.least == min(by_hand)
    assert {id(each) for each in near.points} == {
        id(p) for p, misfit in zip(points, by_hand, strict=True) if misfit <= near.least + TOLERANCE
    }
    assert near.fits == any(all(d <= 1 for d in each) for each in found)


def test_one_statement_that_holds_nowhere_does_not_move_the_region() -> None:
    good, bad = searched(50.0, 0.5), searched(9.0, 2.5)
    assert region([good, bad], FIGURES).points[0] is good
    assert [number for number, _ in hold_nowhere([good, bad])] == [0]


def test_contradictions_are_pairs_that_hold_apart_only() -> None:
    assert contradictions([searched(2.0, 0.5), searched(0.5, 2.0)]) == [(0, 1)]
    assert contradictions([searched(2.0, 0.5), searched(0.5, 0.5)]) == []


def test_the_middle_verdict_is_the_worse_of_two() -> None:
    assert middle([Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]) is Verdict.NOT_REPRODUCED
    assert middle([Verdict.REPRODUCED, Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]) is Verdict.REPRODUCED


@pytest.mark.parametrize("quick", [False, True])
def test_settings_are_all_different_and_include_nothing_added(quick: bool) -> None:
    found = settings_of(quick=quick)
    assert len(set(found)) == len(found)
    assert found[0] == Choices()
    assert len(found[0].schedulers()) == len(BUCKETS) + 1


SHORT = {
    "azure_ideal": ("trace.duration_s=1",),
    "bursty": ("trace.duration_s=0.2", "sweep={}"),
    "dynamics_bursty": ("trace.duration_s=1", "sweep={}"),
}


@pytest.fixture(scope="module")
def short_trials() -> list[SearchTrace]:
    pytest.importorskip("numba", reason="the search needs the compiled engine")
    found = trials(EXPERIMENTS, SHORT, 1)
    return [replace(trial, at=(("trace.cv2", 8), ("trace.variant_qps", 5550))) for trial in found]


@pytest.mark.parametrize("drawn", [False, True])
def test_a_search_simulates_what_the_toolkit_runs(short_trials: list[SearchTrace], tmp_path: Path, drawn: bool) -> None:
    setting = Choices(dispatch_ms=4.5, per_query_ms=0.1, network_ms=4.0, drop="hopeless")
    if drawn:
        setting = replace(setting, p99_over_median=1.2, plan="p99")
    search = Search(tmp_path, short_trials, EXPERIMENTS)
    search.run({setting: ["slackfit(buckets=5)", "queuefit(beta=0.7)"]})
    overheads = {"dispatch_ms": 4.5, "dispatch_per_query_ms": 0.1, "network_ms": 4.0, "drop": "hopeless"}
    keys: dict[str, Any] = {f"cluster.{key}": value for key, value in overheads.items()}
    if drawn:
        keys |= {"cluster.latency": {"law": "lognormal", "p99_over_median": 1.2}, "latency_table.plan": "p99"}
    policies = [
        {"use": "slackfit", "params": {"buckets": 5}},
        "queuefit",
        {"use": "clipper", "params": {"accuracy": 78.25}},
    ]
    keys |= {"trace.duration_s": 1, "repeats": 1, "policies": policies}
    ran = ssim.run("azure_ideal", out=tmp_path, **keys)
    expected = ran.frame().set_index("policy")["slo_attainment"]
    for label, policy in (("slackfit(buckets=5)", "slackfit(buckets=5)"), ("queuefit(beta=0.7)", "queuefit")):
        rows = [row for row in search.evidence(SearchPoint(setting, label)).rows if row.experiment == "azure_ideal"]
        found = {row.policy: row.attainment for row in rows}
        assert found[CHOSEN] == expected[policy]
        assert found[clipper("78.25")] == expected[clipper("78.25")]
    assert 0 < expected.min() < 1


def test_a_search_that_was_interrupted_goes_on_and_older_code_counts_no_more(
    short_trials: list[SearchTrace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated: list[Choices] = []
    row = _Simulated.row

    def counting(self: _Simulated, trial: SearchTrace, label: str, policy: Any) -> SearchedRun:
        if len(simulated) == 2 and trial.experiment == "bursty":
            raise KeyboardInterrupt
        if trial.experiment == "dynamics_bursty":
            simulated.append(self._setting)
        return row(self, trial, label, policy)

    wanted = {Choices(ms): ["slackfit(buckets=5)"] for ms in (0.0, 1.0, 2.0)}
    search = Search(tmp_path, short_trials, EXPERIMENTS)
    monkeypatch.setattr(_Simulated, "row", counting)
    with pytest.raises(KeyboardInterrupt):
        search.run(wanted)
    assert simulated == list(wanted)[:2]
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    simulated.append(Choices(9.0))
    search.run(wanted)
    assert simulated[3:] == list(wanted)[2:]
    assert all(path.read_bytes() == content for path, content in before.items())
    search.run(wanted)
    assert len(simulated) == 4
    monkeypatch.setattr("ssim.paper.inference.search.own_hash", lambda _files: "other code")
    search.run(wanted)
    assert simulated[4:] == list(wanted)


def test_without_numba_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ssim.paper.inference.search.numba_is_installed", lambda: False)
    with pytest.raises(SpecError, match="needs the compiled engine"):
        Search(tmp_path, [], EXPERIMENTS)


def test_where_nothing_fits_the_page_says_so_and_shows_the_nearest() -> None:
    point = Searched(
        SearchPoint(Choices(4.0), "slackfit(buckets=5)"), (0.5,) * len(STATEMENTS), (2.0,) * len(STATEMENTS)
    )
    regions = {figure: region([point], FIGURES) for figure in FIGURES}
    nearest = Inferred([point], regions, {point.point: point}, {}, (), (), 5)
    text = "\n".join(text for _, text in sections(nearest, lambda head, rows: f"{head}{rows}"))
    assert "Nothing fits all statements of: all but 8a" in text
    assert "(nearest)" in text
    good = Searched(point.point, point.values, (0.5,) * len(STATEMENTS))
    fits = Inferred([good], {figure: region([good], FIGURES) for figure in FIGURES}, {point.point: good}, {}, (), (), 5)
    assert "Nothing fits" not in "\n".join(text for _, text in sections(fits, lambda head, rows: f"{head}{rows}"))


def test_the_page_says_where_a_statement_holds_and_what_that_costs() -> None:
    near, far = (
        replace(point, point=point.point._replace(scheduler=f"slackfit(buckets={buckets})"))
        for buckets, point in ((3, searched(2.0, 0.5, 0.5)), (4, searched(0.5, 9.0, 0.5)))
    )
    regions = {figure: region([near, far], [each for each in FIGURES if each != figure]) for figure in FIGURES}
    reported = {each.point: each for each in (near, far)}
    first, second = STATEMENTS[:2]
    regions[first.figure] = region([near], FIGURES)
    drawn = replace(near, point=SearchPoint(Choices(p99_over_median=1.2, plan="p99"), "x"), distances=far.distances)
    found = Inferred([near, far], regions, reported | {drawn.point: drawn}, {}, (), (near.point, drawn.point), 5)
    parts = dict(sections(found, lambda _head, rows: "\n".join("|".join(row) for row in rows)))
    row = next(row for row in parts["What the inferred column misses"].splitlines() if row.startswith(first.claim))
    assert row.split("|")[1] == "2"
    assert far.point.scheduler in row
    assert "1 points" in row
    assert row.split("|")[-1] == f"{second.claim} ({second.figure})"
    fixed, varied, best = parts["With latencies that vary"].splitlines()[-3:]
    most = "99th percentile over median 1.2, planned on the p99"
    assert best.endswith(f"25, with slackfit(buckets=3), nothing added; x, nothing added, {most}.")
    assert fixed.split("|")[2:4] == ["fixed", "median"]
    assert fixed.endswith("||")
    assert varied.split("|")[2:4] == ["1.2", "p99"]
    assert varied.endswith(f"|{second.claim} ({second.figure})|{first.claim} ({first.figure})")


def test_other_arrivals_have_the_same_mean_and_the_shape_that_is_asked_for() -> None:
    source = Bursty(base_qps=1500, variant_qps=5550, cv2=8, duration_s=20, slo_ms=36)
    changed = source_of(source, Choices(gaps="lognormal"), "bursty")
    assert len(changed.arrivals(3)) == pytest.approx(len(source.arrivals(3)), rel=0.05)
    day = Azure(slo_ms=36, duration_s=5)
    even = source_of(day, Choices(placement="even"), "azure_ideal").arrivals(3)
    assert len(even) == pytest.approx(6400 * 5, rel=0.001)
    assert np.diff(even).max() < 400_000
    assert source_of(day, Choices(maf_slo_ms=50.0), "azure_ideal").slo_ms == 50
    assert source_of(day, Choices(maf_slo_ms=50.0), "fixed_subnets").slo_ms == 36
