"""Claims about the supernet itself: memory, actuation and statistics. They need the supernet, which is not here yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssim.claims.claim import Claim, Judged, Verdict

if TYPE_CHECKING:
    from ssim.results import Results


def _needs_the_supernet(_: Results) -> Judged:
    return Judged("-", Verdict.NOT_TESTABLE, "Needs the supernet, which is not in this tree yet.")


CLAIMS = (
    Claim("less memory than the models it stands for", "Figure 5a", "up to 2.6x", _needs_the_supernet),
    Claim("a subnet is actuated in", "Figure 5b", "< 1 ms", _needs_the_supernet),
    Claim("statistics of a subnet are smaller than the shared layers", "Figure 4", "500x", _needs_the_supernet),
)
