"""Claims about the supernet itself: memory, actuation and statistics. Without torch they can't be tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import SpecError
from ssim.extras import require
from ssim.paper.claims.claim import Claim, Judged, Verdict, graded_verdict, verdict
from ssim.paper.footprint import MODELS, footprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssim.results.reading import Results

_SCALE_MS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Times of this machine are told to their order: their digits would differ from run to run."""


def _with_torch(judge: Callable[[Results], Judged]) -> Callable[[Results], Judged]:
    """Return a judge that says what is missing where torch is not installed."""

    def judged(results: Results) -> Judged:
        try:
            require("torch")
            return judge(results)
        except SpecError as error:
            return Judged("-", Verdict.NOT_TESTABLE, str(error))

    return judged


def _memory(_: Results) -> Judged:
    found = footprint()
    alone = found.alone[-1].bytes
    ratio = alone / found.in_one[-1].bytes
    most = sum(alone >= 2.6 * row.bytes for row in found.in_one)
    why = (
        f"Against its six subnets apart, {MODELS} in one supernet, each with statistics of its own in fp32. "
        f"2.6x holds for up to {most} subnets."
    )
    return Judged(f"{ratio:.2f}x", graded_verdict([ratio], 2.6, nothing=1.0), why)


def _actuation(results: Results) -> Judged:
    slowest = results.actuations()[["first_ms", "again_ms"]].max()
    first, again = float(slowest["first_ms"]), float(slowest["again_ms"])
    told = [next((f"< {limit:g} ms" for limit in _SCALE_MS if ms < limit), f"{ms:.0f} ms") for ms in (again, first)]
    why = (
        "The slowest of six, in CPU time of this machine; nothing is copied. What a forward pass then takes: "
        "`python -m benchmarks.actuation`."
    )
    return Judged(f"{told[0]}; {told[1]} for the first time", verdict(again < 1), why)


def _statistics(_: Results) -> Judged:
    found = footprint()
    of_shared = [found.shared_bytes / each.statistics_bytes for each in found.subnets]
    of_own = [each.weights_bytes / each.statistics_bytes for each in found.subnets]
    ours = f"{min(of_shared):.0f}x to {max(of_shared):.0f}x"
    why = f"Than the whole supernet's weights; {min(of_own):.0f}x to {max(of_own):.0f}x than those that a subnet uses."
    return Judged(ours, verdict(min(of_shared) >= 500, max(of_shared) >= 500), why)  # noqa: PLR2004 - the claim


CLAIMS = (
    Claim("less memory than the models it stands for", "Figure 5a", "up to 2.6x", _with_torch(_memory)),
    Claim("a subnet is actuated in", "Figure 5b", "< 1 ms", _with_torch(_actuation)),
    Claim("statistics of a subnet are smaller than shared layers", "Figure 4", "500x", _with_torch(_statistics)),
)
