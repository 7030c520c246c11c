"""The choices that SuperServe (NSDI 2025) does not state, as a space to search.

Four choices are combined with each other: the overhead of a batch, that of each query in it, a delay that keeps no
worker busy, and what the scheduler does (SlackFit with a number of buckets, or a policy that sees the queue). The rest
is changed one at a time, at every overhead of a batch, with nothing for each query and no network: all of them
together would be a hundred times as many.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

from policies.queuefit import QueueFit
from policies.slackfit import SlackFit, bucket_choices
from sim.tables.law import FIXED, LatencyLaw

if TYPE_CHECKING:
    from sim.engine.cluster import DropRule
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.law import PlanName

DISPATCH_MS = (0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 4.25, 4.5, 4.75, 5.0, 5.5, 6.0, 7.0)
"""Overhead of a batch: from none to what would give the smallest subnet the 8,000 q/s of Figure 5c."""

PER_QUERY_MS = (0.0, 0.05, 0.1, 0.2)
"""Overhead of each query: from none to 3.2 ms for a full batch, a fifth of what one core decodes (A40 profile)."""

NETWORK_MS = (0.0, 4.0, 8.0)
"""Delay that keeps no worker busy: from none to a quarter of the SLO."""

BUCKETS = (3, 4, 5, 6, 8, 12, 20, 64)
"""SlackFit's buckets; with two of them the lower one would hold batches of the smallest subnet up to half the slack."""

BETA = 0.7
"""Of the policy that sees the queue: one constant, not a part of the search."""


@dataclass(frozen=True, slots=True)
class LowestBucket(SlackFit):
    """SlackFit that runs the choice of its lowest bucket where no bucket fits the slack."""

    def decide(self, view: View) -> Dispatch:
        """Return the choice of the highest bucket that fits, or else of the lowest."""
        choices = bucket_choices(view.table, self.buckets)
        return choices.decisions[1] if view.slack_ns < choices.from_ns[0] else choices.at(view.slack_ns)


@dataclass(frozen=True, slots=True)
class Choices:
    """One value of each choice but that of the scheduler.

    Attributes:
        dispatch_ms: Overhead of a batch in milliseconds.
        per_query_ms: Overhead of each query in it.
        network_ms: Delay between client and worker that keeps no worker busy.
        drop: The drop rule.
        maf_slo_ms: The SLO of the runs on Azure Functions; 36 ms is that of the paper's synthetic traces.
        clipper: Batches of Clipper+: the largest that fits the slack, or all that wait.
        fallback: Below the smallest latency of the buckets: maximum throughput, or the choice of the lowest bucket.
        placement: Arrivals within a bin of the shrunk trace: at random, or evenly.
        gaps: Law of the gaps of the variant stream of bursty traces.
        table: The latency table. Not searched, as the two below.
        p99_over_median: Spread of lognormal latencies; 1 for fixed ones.
        plan: The figure of a latency that all policies plan on; None for what the table holds.
    """

    dispatch_ms: float = 0.0
    per_query_ms: float = 0.0
    network_ms: float = 0.0
    drop: DropRule = "never"
    maf_slo_ms: float = 36.0
    clipper: Literal["fits", "all"] = "fits"
    fallback: Literal["throughput", "lowest"] = "throughput"
    placement: Literal["random", "even"] = "random"
    gaps: Literal["gamma", "lognormal"] = "gamma"
    table: str = "ofa-resnet50-rtx2080ti"
    p99_over_median: float = 1.0
    plan: PlanName | None = None

    @property
    def latency(self) -> LatencyLaw:
        """How latencies are distributed."""
        return FIXED if self.p99_over_median == 1 else LatencyLaw("lognormal", self.p99_over_median)

    def others(self) -> str:
        """Return the choices that are changed one at a time, as far as they are not the usual ones."""
        usual, mine = asdict(Choices()), asdict(self)
        names = ("drop", "maf_slo_ms", "clipper", "fallback", "placement", "gaps", "table")
        return ", ".join(f"{name.replace('_', ' ')} {mine[name]}" for name in names if mine[name] != usual[name])

    def schedulers(self) -> dict[str, Policy]:
        """Return what the scheduler may do in this setting, by label."""
        kind = LowestBucket if self.fallback == "lowest" else SlackFit
        found: dict[str, Policy] = {f"slackfit(buckets={n})": kind(n) for n in BUCKETS}
        return found | {f"queuefit(beta={BETA})": QueueFit(BETA)}


IDEAL = Choices()
"""Nothing added."""

DENSE = "ofa-resnet50-dense-predicted.json"
"""The table of `ssim.paper.dense`, beside the experiment files."""

_ONE_AT_A_TIME = (
    {"drop": "expired"},
    {"drop": "hopeless"},
    {"maf_slo_ms": 30.0},
    {"maf_slo_ms": 50.0},
    {"clipper": "all"},
    {"fallback": "lowest"},
    {"placement": "even"},
    {"gaps": "lognormal"},
)


def settings(*, quick: bool = False) -> list[Choices]:
    """Return the settings that are searched, in their order; a coarse choice of them if `quick`."""
    if quick:
        return [Choices(d, q, n) for d, q, n in product((0.0, 3.0, 4.0, 4.5, 5.0), (0.0, 0.1), (0.0, 8.0))]
    full = [Choices(d, q, n) for d, q, n in product(DISPATCH_MS, PER_QUERY_MS, NETWORK_MS)]
    return full + [replace(Choices(d), **other) for other in _ONE_AT_A_TIME for d in DISPATCH_MS]  # pyright: ignore[reportArgumentType] - names of fields with their values
