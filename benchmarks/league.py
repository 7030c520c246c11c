"""The league of the field's schedulers: `docs/league.md` and its picture, from stored runs of `experiments/field.yaml`.

ssim run experiments/field.yaml && ssim optimum experiments/field.yaml
python -m benchmarks.league results/field docs/league.md
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures import style
from figures.style import save_as
from policies.by_rate import ByRate, Site
from policies.decision_map import decision_map
from sim.base.intervals import mean_and_half_width
from sim.base.units import ns_from_ms
from sim.base.whole_file import write_text
from sim.tables.files import load_table
from sim.tables.law import LatencyLaw, planned
from ssim.jobs.experiment.policies import build_policy
from ssim.jobs.reading import read_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ssim.jobs.experiment.spec import ExperimentSpec, PolicySpec

SPREAD = "cluster.latency.p99_over_median"

KINDS = {"azure": "Azure", "bursty": "Bursty", "time_varying": "Time-varying"}

LOADS = ("low", "medium", "high")

EQUAL = 1e-12
"""Shares that differ by no more are the same."""

WHY = {
    "slackfit": (
        "It fills the slack of the head with the best choice of a bucket. Few buckets leave slack unused, "
        "which is a reserve; many fill it, and each overrun is then a miss. Planning on the 99th percentile "
        "makes a reserve again, whose price in accuracy depends on the batches that still fit."
    ),
    "queuefit": (
        "It is ours, not the field's. It weighs the drain of the whole queue against the head's slack, and "
        "takes the latencies that it plans on as certain."
    ),
    "queuefit_reserve": (
        "It is ours, not the field's. To the drain of the queue it adds a reserve for what arrives meanwhile, from the "
        "mean and the variance of the arrivals that it has seen."
    ),
    "maxbatch": (
        "The largest batch first, then the best subnet that still fits: it fills the slack, as SlackFit with "
        "many buckets does."
    ),
    "clipper": (
        "One subnet, eager, batches as large as the slack. It is as good as the guess of its subnet: too "
        "accurate a one falls behind under load, too fast a one gives accuracy away."
    ),
    "nexus": (
        "One subnet with early drop: it gives up who would be late with the batch that it expects, so that "
        "the rest is served in time."
    ),
    "symphony": (
        "One subnet, batches deferred to the last moment. Few busy workers, and no slack left: a latency "
        "above the plan makes a whole batch late."
    ),
    "clockwork": (
        "One subnet, with a margin before each deadline and drops of who can't be in time. The margin and the "
        "drops keep it in time as latencies vary."
    ),
    "proteus": "One subnet, and batches that start at the last moment: as for Symphony, any overrun is a miss.",
    "alpaserve": (
        "One subnet, first come first served, and who would be late alone is dropped: it sheds load instead "
        "of falling behind."
    ),
    "triton": (
        "One subnet; queries wait for a preferred size or for a delay. The delay is paid at every load, and "
        "nothing is dropped."
    ),
    "aimd": (
        "One subnet; its batch limit follows the latencies seen, far from the SLO, so that it has slack to "
        "spare and less throughput."
    ),
    "modelswitching": (
        "One subnet for each load, chosen in advance for a steady stream. Within a burst the rate seen lags behind."
    ),
    "jellyfish": (
        "One subnet for each load, by throughput alone: a load near a subnet's capacity leaves no room for bursts."
    ),
    "ramsis": (
        "A policy for each load, optimal for a Poisson stream and a queue for each worker. A worker takes its "
        "share of the common queue as its batch, which is small until the queue is long, and nothing is "
        "dropped: where bursts come, it falls behind."
    ),
}
"""The mechanism behind a policy's place, without numbers."""


def read(folder: Path) -> pd.DataFrame:
    """Return a row a run: policy, trace, load, spread, attainment, accuracy and share of the bound."""
    rows = pd.read_csv(folder / "gap.csv")
    given = rows["trace"].map(ast.literal_eval)
    rows["kind"] = given.map(lambda trace: trace["kind"])
    order = {kind: list(dict.fromkeys(rows["trace"][rows["kind"] == kind])) for kind in KINDS}
    rows["load"] = [LOADS[order[kind].index(trace)] for kind, trace in zip(rows["kind"], rows["trace"], strict=True)]
    rows["accuracy"] = 100 * rows["weighted_attainment"] / rows["slo_attainment"].where(rows["slo_attainment"] > 0)
    return rows


def page(rows: pd.DataFrame, policies: Sequence[PolicySpec], picture: str) -> str:
    """Return the page."""
    repeats, points = rows["seed"].nunique(), rows.groupby(["kind", "load", SPREAD]).ngroups
    share = rows.pivot_table("weighted_share", ["kind", "load", SPREAD], "policy", aggfunc="mean")
    count = len(policies)
    parts = [
        f"""# The league of the field

Made by `python -m benchmarks.league` from `experiments/field.yaml`: {count} policies at {points} points, {repeats}
seeds each, on 8 workers with the latencies of ofa-resnet50-a40, an SLO of 36 ms, and no overheads. All policies of
a seed meet the same arrivals and the same random numbers. *Share* is SLO attainment times accuracy over the
[bound on any policy](optimum.md), which no policy need reach; it is looser the more latencies vary. Spread is the 99th
percentile of a latency over its median. Single-model policies use the subnet with 78.25 % accuracy
(Clipper+ also that with 80.16 %): a choice, not the best for each point. What each leaves out of its system is on
[the page of the field](field.md).

```console
$ ssim run experiments/field.yaml
$ ssim optimum experiments/field.yaml
$ python -m benchmarks.league results/field docs/league.md
```

## All points

The mean share over all points, the worst point, the points at which a policy is first, and the mean share at each
spread.
""",
        _overall(share),
        f"""## What they decide

![Batch size over slack and queue length, for each policy]({picture})

Darker is a larger batch; dots: held; strokes: dropped; policies by the rate at 3,000 queries/s. Policies with a state
are shown as they begin.
""",
        """## Who wins where, and why

The points at which a policy is first, its largest distance from the best share, and its mean attainment at each spread.
""",
        *_by_class(policies, share, rows),
        "## Every point\n\nMeans with 95 % intervals over seeds, all in percent.\n",
    ]
    for point, here in rows.groupby(["kind", "load"], sort=False):
        kind, load = map(str, cast("tuple[str, str]", point))
        parts.append(f"### {KINDS[kind]}, {load} load\n\n`{here['trace'].iloc[0]}`\n\n{_point(here)}")
    return "\n".join(parts).rstrip() + "\n"


def _overall(share: pd.DataFrame) -> str:
    best = share.max(axis=1)
    spreads = share.index.get_level_values(SPREAD)
    found = []
    for policy in share.mean().sort_values(ascending=False).index:
        own = share[policy]
        by_spread = [f"{100 * own[spreads == spread].mean():.2f}" for spread in sorted(set(spreads))]
        firsts = int((own >= best - EQUAL).sum())
        found.append([f"`{policy}`", f"{100 * own.mean():.2f}", f"{100 * own.min():.2f}", str(firsts), *by_spread])
    head = ["policy", "share, %", "worst, %", "first", *(f"spread {spread:g}" for spread in sorted(set(spreads)))]
    return _markdown(head, found)


def _point(here: pd.DataFrame) -> str:
    spreads = sorted(here[SPREAD].unique())
    found = []
    for policy, own in here.groupby("policy", sort=False):
        cells = [f"`{policy}`"]
        for spread in spreads:
            runs = own[own[SPREAD] == spread]
            cells += [
                _interval(100 * runs["slo_attainment"], 2),
                _interval(runs["accuracy"].dropna(), 2),
                _interval(100 * runs["weighted_share"], 2),
            ]
        found.append(cells)
    head = [f"{name}, {spread:g}" for spread in spreads for name in ("attained", "accuracy", "share")]
    return _markdown(["policy", *head], found)


def _by_class(policies: Sequence[PolicySpec], share: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    """Yield a paragraph on each class of policies, with a table of how its policies stand."""
    spreads = sorted(rows[SPREAD].unique())
    head = ["policy", "first at", "farthest behind", *(f"attained at {spread:g}" for spread in spreads)]
    for use in dict.fromkeys(policy.use for policy in policies):
        labels = [policy.label for policy in policies if policy.use == use]
        table = _markdown(head, [_standing(label, share, rows) for label in labels])
        yield f"### `{use}`\n\n{WHY[use]}\n\n{table}"


def _standing(label: str, share: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    behind = share.max(axis=1) - share[label]
    attained = rows[rows["policy"] == label].groupby(SPREAD)["slo_attainment"].mean()
    firsts = ", ".join(_named(point) for point in behind[behind <= EQUAL].index)
    farthest = f"{100 * behind.max():.1f} points, {_named(behind.idxmax())}"
    return [f"`{label}`", firsts or "no point", farthest, *(f"{100 * value:.2f} %" for value in attained)]


def _named(point: object) -> str:
    kind, load, spread = cast("tuple[str, str, float]", point)
    return f"{KINDS[kind]} {load} ({spread:g})"


def _interval(values: pd.Series[float], digits: int) -> str:
    if not len(values):
        return "none"
    mean, half = mean_and_half_width(values.tolist())
    return f"{mean:.{digits}f}" + ("" if np.isnan(half) else f" ±{half:.{digits}f}")


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def surfaces(spec: ExperimentSpec, folder: Path) -> Figure:
    """Return the batch sizes of all policies over slack and queue length, side by side."""
    table, law = load_table(next(iter(spec.named_tables().values())).use), LatencyLaw("lognormal", 1.2)
    with style.applied():
        columns = 5
        lines = -(-len(spec.policies) // columns)
        figure = Figure(figsize=(style.PAGE_IN, 1.3 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, asked in zip(panels, spec.policies, strict=False):
            seen = planned(table, asked.plan, law)
            policy = build_policy(asked, folder)
            if isinstance(policy, ByRate):
                policy = policy.policy_for(Site(seen, spec.cluster.workers or 0, ns_from_ms(36), 0), 3000)
            found = decision_map(policy, seen)
            edges = np.append(found.queue_lengths - 0.5, found.queue_lengths[-1] + 0.5)
            axes.pcolormesh(
                found.slack_ms, edges, found.batch_size, cmap="Blues", vmin=0, vmax=table.max_batch, rasterized=True
            )
            middles = (found.slack_ms[1:] + found.slack_ms[:-1]) / 2
            for name, hatch in (("hold", "...."), ("drop", "////")):
                if (found.other == name).any():
                    here = np.where(found.other == name, 1.0, 0.0)
                    axes.contourf(middles, found.queue_lengths, here, levels=[0.5, 1.5], colors="none", hatches=[hatch])
            axes.set_title(asked.label.replace("accuracy=", "").replace(", ", ",\n", 1), fontsize=5)
        for axes in panels[len(spec.policies) :]:
            axes.set_axis_off()
        figure.supxlabel("slack (ms)", fontsize=7)
        figure.supylabel("queue length", fontsize=7)
    return figure


def main(results: Path, target: Path, experiment: Path) -> None:
    """Write the page and its picture beside it."""
    spec = read_job(experiment).spec
    picture = target.with_suffix(".svg")
    save_as(surfaces(spec, experiment.parent), picture)
    write_text(target, page(read(results), spec.policies, picture.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parents[1] / "experiments" / "field.yaml")
