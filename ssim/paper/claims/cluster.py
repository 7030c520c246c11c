"""Claims about workers and tables: Figures 5c, 11a, 11b and 12."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.tables.files import load_table
from ssim.paper.claims.claim import NEAR, Claim, Judged, Verdict, clipper, format_interval, near, values, verdict

if TYPE_CHECKING:
    from ssim.results.reading import Results


def _faults(results: Results) -> Judged:
    found = values(results.summary("faults"), "slackfit", "slo_attainment")
    why = (
        "All misses are batches that were in flight on a worker when it was killed, if there are no others: Figure 11a."
    )
    return Judged(format_interval(found, 5), verdict(sum(found) / len(found) >= 0.999), why)  # noqa: PLR2004 - the claim


def _range(results: Results) -> Judged:
    found = results.capacities("capacity").groupby("policy")["capacity"].mean()
    low, high = float(found[clipper("80.16")]), float(found[clipper("73.82")])
    why = "The smallest subnet takes 8.8 ms for 16 by the published table: 14,500 q/s on eight workers."
    holds = near([low], 2000) and near([high], 8000)
    return Judged(f"{low:.0f} to {high:.0f} q/s", verdict(holds, low < high), why)


def _linear(results: Results) -> Judged:
    rows = results.capacities("scaling")
    mine = rows[(rows["policy"] == "slackfit") & (rows["trace.cv2"] == 0)]
    means = mine.groupby("cluster.workers")["capacity"].mean()
    per_worker = means / means.index.to_numpy(dtype=float)
    spread = float(per_worker.max() / per_worker.min() - 1)
    ours = f"per worker within {100 * spread:.1f} % from {means.index.min()} to {means.index.max()}"
    return Judged(ours, verdict(spread < NEAR), "Evenly spaced arrivals, as there.")


def _most(_: Results) -> Judged:
    why = (
        "ResNet-18's latencies are not published, and whether images or requests of 8 images are counted is not "
        "stated. `experiments/scaling.yaml` has the smallest subnet instead."
    )
    return Judged("-", Verdict.NOT_TESTABLE, why)


def _operations(_: Results) -> Judged:
    table = load_table("ofa-resnet50-rtx2080ti")
    small, large = (16 * (table.subnets[0].gmacs or 0), 2 * (table.subnets[-1].gmacs or 0))
    return Judged(f"{small:.1f} against {large:.1f} GMACs", verdict(small < large), "Counted from the control tuples.")


CLAIMS = (
    Claim("attained while 4 of 8 workers are killed", "Figure 11a", "0.999", _faults),
    Claim("highest rate of the largest and the smallest subnet", "Figure 5c", "about 2,000 to 8,000 q/s", _range),
    Claim("the highest rate grows linearly with workers", "Figure 11b", "yes", _linear),
    Claim("ResNet-18 on 32 workers", "Figure 11b", "about 33,000 q/s", _most),
    Claim("(73.82, batch 16) takes slightly less operations than (80.16, batch 2)", "Figure 12b", "yes", _operations),
)
