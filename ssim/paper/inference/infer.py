"""From the search to what is reported: regions, and their points again in full length with all seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sim.base.errors import SsimError
from ssim.jobs.experiment.summary import write_csv
from ssim.paper.claims.claim import Judged, Verdict
from ssim.paper.inference.evidence import PointResults
from ssim.paper.inference.region import Region, Searched, SearchPoint, middle, region, without
from ssim.paper.inference.search import FULL, QUICK, SHORT, Search, trials
from ssim.paper.inference.space import BETA, DENSE, IDEAL, settings
from ssim.paper.inference.statements import FIGURES, STATEMENTS, claim_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sim.tables.law import PlanName
    from ssim.paper.claims.claim import Claim
    from ssim.paper.inference.space import Choices
    from ssim.paper.inference.statements import Statement

REPEATS = 5
"""Seeds of what is reported."""

COMPARED = (*(f"slackfit(buckets={buckets})" for buckets in (3, 20, 64)), f"queuefit(beta={BETA})")
"""What the scheduler does where two tables are compared."""

DRAWN = (*(f"slackfit(buckets={buckets})" for buckets in (3, 20)), f"queuefit(beta={BETA})")
"""What the scheduler does where latencies are drawn."""

SPREADS: tuple[tuple[float, PlanName | None], ...] = (
    (1.0, None),
    *((spread, plan) for spread in (1.05, 1.1, 1.2, 1.4) for plan in (None, "p99")),
)
"""99th percentile over median, and what policies plan on. The A40's own are 1.08 to 1.36 (means)."""


@dataclass(slots=True)
class Inferred:
    """What came of the search.

    Attributes:
        searched: All points, in short runs with one seed.
        regions: The region of all figures but one, by that figure.
        reported: Their points in full length with all seeds; in the coarse form as they were searched.
        results: The same in the form that the judges of claims read.
        compared: What the scheduler does, with nothing added and at the nearest point without Figure 8a, each with the
            published and with the dense table.
        drawn: The same with the published table, and latencies that vary more and more.
        repeats: The seeds of what is reported.
    """

    searched: Sequence[Searched]
    regions: dict[str, Region]
    reported: dict[SearchPoint, Searched]
    results: dict[SearchPoint, PointResults]
    compared: tuple[SearchPoint, ...]
    drawn: tuple[SearchPoint, ...]
    repeats: int
    _judged: dict[tuple[str, SearchPoint], Judged] = field(
        default_factory=dict[tuple[str, SearchPoint], Judged], repr=False
    )

    def column(self, claim: Claim) -> Judged | None:
        """Return the range over the region of all other figures and the middle verdict; None if it was not searched."""
        found = [statement for statement in STATEMENTS if claim_of(statement) is claim]
        if not found:
            return None
        statement = found[0]
        points = [each.point for each in self.regions[statement.figure].shown]
        verdicts = [self._judge(claim, point).verdict for point in points]
        share = sum(verdict is Verdict.REPRODUCED for verdict in verdicts)
        return Judged(f"{self.range_of(statement)}; at {share} of {len(points)} points", middle(verdicts))

    def range_of(self, statement: Statement) -> str:
        """Return the range of a statement's number over the region of all other figures."""
        number = STATEMENTS.index(statement)
        values = [self.reported[each.point].values[number] for each in self.regions[statement.figure].shown]
        known = [value for value in values if value == value]  # noqa: PLR0124 - not NaN
        if not known:
            return "none"
        low, high = (f"{value:.{statement.digits}f}" for value in (min(known), max(known)))
        return f"{low if low == high else f'{low} to {high}'} {statement.shows}"

    def _judge(self, claim: Claim, point: SearchPoint) -> Judged:
        key = (f"{claim.statement} {claim.where}", point)
        if key not in self._judged:
            try:
                self._judged[key] = claim.judge(self.results[point])
            except SsimError as error:
                self._judged[key] = Judged("-", Verdict.NOT_REPRODUCED, str(error))
        return self._judged[key]


def infer(
    experiments: Path,
    folder: Path,
    *,
    quick: bool,
    jobs: int,
    on_done: Callable[[str, int, int], None] = lambda _part, _done, _all: None,
) -> Inferred:
    """Return what is compatible with the paper; what is stored is not simulated again.

    Args:
        experiments: The folder of experiment files.
        folder: Where points are stored, and the table of the search.
        quick: A coarse search on short traces, whose points are reported as they are.
        jobs: How many settings at once.
        on_done: Told the part of the work, how many settings are done, and of how many.

    Raises:
        SpecError: An experiment file is missing or wrong, or numba is not installed.
        StoreError: Points can't be stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = settings(quick=quick)
    search = Search(folder, trials(experiments, QUICK if quick else SHORT, 1), experiments, jobs)
    search.run(
        {setting: setting.schedulers() for setting in chosen}, lambda done, every: on_done("search", done, every)
    )
    searched = [search.searched(SearchPoint(setting, label)) for setting in chosen for label in setting.schedulers()]
    regions = {figure: region(searched, without(figure)) for figure in FIGURES}
    points = dict.fromkeys(each.point for found in regions.values() for each in found.shown)
    two = (IDEAL, regions["8a"].points[0].point.setting)
    compared = tuple(
        SearchPoint(replace(setting, table=table), label)
        for setting in two
        for table in (IDEAL.table, DENSE)
        for label in COMPARED
    )
    drawn = tuple(
        SearchPoint(replace(setting, p99_over_median=spread, plan=plan), label)
        for setting in two
        for label in DRAWN
        for spread, plan in SPREADS
        if not quick or spread in {1.0, 1.2}
    )
    points |= dict.fromkeys((*compared, *drawn))
    full = search
    if quick:
        search.run(_by_setting(points), lambda done, every: on_done("tables and spreads", done, every))
    else:
        full = Search(folder, trials(experiments, FULL, REPEATS), experiments, jobs)
        full.run(_by_setting(points), lambda done, every: on_done("with all seeds", done, every))
    reported = {point: full.searched(point) for point in points}
    results = {point: PointResults(full.evidence(point)) for point in points}
    write_table(folder / "search.csv", searched)
    return Inferred(searched, regions, reported, results, compared, drawn, 1 if quick else REPEATS)


def write_table(path: Path, searched: Sequence[Searched]) -> None:
    """Write a row for each point: its choices, its misfit by figure, and if it is in the region without Figure 8a."""
    near = {each.point for each in region(searched, without("8a")).points}
    rows: list[dict[str, Any]] = [
        {
            **asdict(each.point.setting),
            "scheduler": each.point.scheduler,
            **{f"misfit {figure}": round(each.misfit([figure]), 6) for figure in FIGURES},
            "holding": each.holding(FIGURES),
            "in_region": int(each.point in near),
        }
        for each in searched
    ]
    write_csv(path, rows, list(rows[0]))


def _by_setting(points: Iterable[SearchPoint]) -> dict[Choices, list[str]]:
    found: dict[Choices, list[str]] = {}
    for point in points:
        found.setdefault(point.setting, []).append(point.scheduler)
    return found
