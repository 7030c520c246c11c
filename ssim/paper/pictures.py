"""The figures of SuperServe (NSDI 2025), and those that it lacks: what each is drawn from, and how.

Each is a function of stored results and a width. Figures 4 and 5a need torch; 3 and 7 are drawings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from figures import (
    capacity,
    collapse,
    decisions,
    dynamics,
    flops,
    gap,
    latency,
    loading,
    memory,
    misfit,
    served,
    slack,
    statistics,
    sweep,
    tradeoff,
)
from figures.style import COLUMN_IN, PAGE_IN
from figures.tables import setting
from policies.decision_map import decision_map
from policies.slackfit import bucket_choices
from sim.base.errors import StoreError
from sim.base.units import NS_PER_MS, NS_PER_S
from sim.tables.files import load_table
from ssim.jobs.experiment.policies import build_policy
from ssim.jobs.experiment.spec import PolicySpec
from ssim.paper.footprint import footprint
from ssim.paper.inference.statements import FIGURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from ssim.results.reading import Results

TABLE = "ofa-resnet50-rtx2080ti"
TRANSFORMER = "dynabert-predicted"

CLOCKWORK_BYTES_PER_S = 102e6 / 8.37e-3
"""102 MB of weights of ResNet-50 in 8.37 ms: Clockwork's profile, as coded by SuperServe's group in
`erdos-scheduling-simulator` (`data/workload_loader_clockwork_bursty.py`)."""

RESNETS = (
    flops.Model("18", 1.81, 69.758),
    flops.Model("34", 3.66, 73.314),
    flops.Model("50", 4.09, 76.130),
    flops.Model("101", 7.80, 77.374),
    flops.Model("152", 11.51, 78.312),
)
"""torchvision's documentation of its IMAGENET1K_V1 weights."""

SPECIALISED = tuple(
    flops.Model("", gmacs, accuracy)
    for gmacs, accuracy in (
        (0.6, 75.0),
        (0.9, 76.3),
        (1.2, 77.1),
        (1.8, 78.3),
        (2.4, 79.0),
        (3.0, 79.3),
        (3.7, 79.7),
        (4.1, 79.8),
    )
)
"""Published subnets of OFA-ResNet50 (once-for-all, README); the first three were trained further."""

_BOTH = (COLUMN_IN, PAGE_IN)
_COLUMN, _PAGE = (COLUMN_IN,), (PAGE_IN,)


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that can be drawn.

    Attributes:
        name: Of its files.
        paper: Where in the paper, or "" if the paper lacks it.
        title: What it shows.
        source: The experiment it is drawn from, or "" if it needs none.
        draw: Draws it in a width in inches.
        widths: In which it can be read.
    """

    name: str
    paper: str
    title: str
    source: str
    draw: Callable[[Results, float], Figure]
    widths: tuple[float, ...] = _BOTH


def _loading(_: Results, width: float) -> Figure:
    return loading.draw(load_table(TABLE), CLOCKWORK_BYTES_PER_S, "12.2 GB/s", width)


def _actuation(results: Results, width: float) -> Figure:
    table = load_table(TABLE)
    return loading.draw_actuation(table, results.actuations(), CLOCKWORK_BYTES_PER_S, "12.2 GB/s", width)


def _misses(results: Results, width: float) -> Figure:
    return sweep.draw(results.summary("actuation"), "cluster.actuation_ms", "delay of a switch (ms)", width)


def _served(results: Results, width: float) -> Figure:
    frames = []
    for delay in (0, 100):
        runs = results.windows("actuation", actuation_ms=delay)
        coarse = runs[runs["policy"].str.startswith("coarse")]
        frames.append(coarse[coarse["seed"] == coarse["seed"].min()].assign(panel=f"a switch takes {delay} ms"))
    return served.draw(pd.concat(frames, ignore_index=True), width)


def _accuracy(_: Results, width: float) -> Figure:
    others = {"OFA, specialised": SPECIALISED, "ResNets": RESNETS}
    return flops.draw_accuracy(load_table(TABLE), others, width)


def _statistics(_: Results, width: float) -> Figure:
    del width
    found = footprint()
    return statistics.draw_statistics(pd.DataFrame(found.subnets), found.shared_bytes)


def _memory(_: Results, width: float) -> Figure:
    del width
    found = footprint()
    return memory.draw_memory(pd.DataFrame([*found.tuned, *found.alone, *found.in_one]))


def _table(name: str, title: str | None = None) -> Callable[[Results, float], Figure]:
    return lambda _, width: latency.draw_latency(load_table(name), title, width)


def _tradeoff(name: str) -> Callable[[Results, float], Figure]:
    return lambda results, width: tradeoff.draw(results.summary(name), width)


def _bounded(name: str) -> Callable[[Results, float], Figure]:
    """Draw the trade-off with the bound on any policy, where that was found."""

    def draw(results: Results, width: float) -> Figure:
        runs = results.summary(name)
        try:
            runs["weighted_bound"] = results.gaps(name)["weighted_bound"].mean()
        except StoreError as error:
            results.problems.append(str(error))
        return tradeoff.draw(runs, width)

    return draw


def _dynamics(name: str, title: str = "") -> Callable[[Results, float], Figure]:
    return lambda results, width: dynamics.draw(results.windows(name, policy="slackfit"), title, width)


def _dynamics_by(name: str, key: str) -> Callable[[Results, float], Figure]:
    """Draw SlackFit at each value of what is swept, as a line of its own."""

    def draw(results: Results, width: float) -> Figure:
        windows = results.windows(name, policy="slackfit")
        labels = [f"slackfit({setting(key, value)})" for value in windows[key]]
        return dynamics.draw(windows.assign(policy=labels), "", width)

    return draw


def _capacity(name: str) -> Callable[[Results, float], Figure]:
    return lambda results, width: capacity.draw(results.capacities(name), "mean_qps", width)


def _policy_space(results: Results, width: float) -> Figure:
    runs = results.summary("bursty")
    shown = runs[(runs["trace.variant_qps"] == 5550) & runs["policy"].isin(["slackfit", "maxbatch", "maxacc"])]  # noqa: PLR2004 - Figure 11c's rate
    return sweep.draw(shown, "trace.cv2", "CV² of the arrivals", width)


def _operations(name: str) -> Callable[[Results, float], Figure]:
    return lambda _, width: flops.draw_batches(load_table(name), width)


def _slack(results: Results, width: float) -> Figure:
    return slack.draw(*results.slacks("fixed_subnets"), width)


def _decisions(policy: PolicySpec) -> Callable[[Results, float], Figure]:
    def draw(_: Results, width: float) -> Figure:
        del width
        built = build_policy(policy, Path())
        table = load_table(TABLE)
        return decisions.draw_decisions(*decision_map(built, table), title=f"{policy.label} on {table.device}")

    return draw


def _overhead(results: Results, width: float) -> Figure:
    runs = results.summary("overhead")
    shown = ("slackfit", "maxbatch", "clipper(accuracy=76.69)", "clipper(accuracy=78.25)", "clipper(accuracy=79.44)")
    return sweep.draw(runs[runs["policy"].isin(shown)], "cluster.dispatch_ms", "overhead of a batch (ms)", width)


def _buckets(results: Results, width: float) -> Figure:
    """Draw the choices of SlackFit's buckets, and what comes of them at the overheads of the experiment."""
    runs = results.summary("buckets")
    number = runs["policy"].str.extract(r"^slackfit\(buckets=(\d+)\)$")[0]
    shown = runs[number.notna()].assign(buckets=number[number.notna()].astype(int))
    _, manifest = next(iter(results.runs("buckets")))
    cluster, rows = manifest["identity"]["cluster"], []
    table = load_table(TABLE).with_query_overhead(cluster["dispatch_per_query_ns"])
    for buckets in (3, 6, 20):
        choices = bucket_choices(table, buckets)
        for slack_ns in range(0, int(table.latency_ns.max()) + 1, 50_000):
            choice = choices.at(slack_ns)
            per_batch_ns = table.latency(choice.subnet, choice.batch_size) + cluster["dispatch_ns"]
            served = cluster["workers"] * choice.batch_size * NS_PER_S / per_batch_ns
            rows.append({"policy": f"{buckets} buckets", "slack_ms": slack_ns / NS_PER_MS, "capacity_qps": served})
    return collapse.draw(pd.DataFrame(rows), shown, 7050.0, width)


def _search(results: Results, width: float) -> Figure:
    """Draw how near the settings of the inference come to the paper, over the overhead of a batch."""
    found = results.searched()
    panels = {"all figures but 8a": [each for each in FIGURES if each != "8a"], "Figure 8a alone": ["8a"]}
    rows = [
        found.assign(panel=panel, misfit=found[[f"misfit {figure}" for figure in figures]].sum(axis=1))
        for panel, figures in panels.items()
    ]
    return misfit.draw(pd.concat(rows, ignore_index=True), "dispatch_ms", "overhead of a batch (ms)", width)


def _gap(name: str) -> Callable[[Results, float], Figure]:
    return lambda results, width: gap.draw(results.gaps(name), width)


_DECIDERS = (
    PolicySpec(use="slackfit"),
    PolicySpec(use="queuefit"),
    PolicySpec(use="maxbatch"),
    PolicySpec(use="maxacc"),
    PolicySpec(use="infaas"),
    PolicySpec(use="clipper", params={"accuracy": 78.25}),
)

PICTURES = (
    Picture("fig01a", "Figure 1a", "Loading a model, beside running it", "", _loading),
    Picture("fig01b", "Figure 1b", "What a slow switch costs", "actuation", _misses),
    Picture("fig01c", "Figure 1c", "A policy that switches in 0 and in 100 ms", "actuation", _served),
    Picture("fig02", "Figure 2", "Accuracy of subnets and of ResNets over operations", "", _accuracy),
    Picture("fig04", "Figure 4", "Statistics of subnets beside weights", "", _statistics, _COLUMN),
    Picture("fig05a", "Figure 5a", "Memory over the number of subnets", "", _memory, _COLUMN),
    Picture("fig05b", "Figure 5b", "Loading a subnet, beside actuating it in place", "", _actuation),
    Picture(
        "fig05c", "Figure 5c", "The highest rate of single subnets, and of policies", "capacity", _capacity("capacity")
    ),
    Picture("fig06a", "Figure 6a", "Latencies of a transformer, PREDICTED", "", _table(TRANSFORMER, "PREDICTED")),
    Picture("fig06b", "Figure 6b", "Latencies, as published for the RTX 2080 Ti", "", _table(TABLE)),
    Picture("fig06b-a40", "", "Latencies on an A40", "", _table("ofa-resnet50-a40")),
    Picture("fig08a", "Figure 8a", "Azure Functions, CNN supernet", "azure", _bounded("azure")),
    Picture(
        "fig08b",
        "Figure 8b",
        "Azure Functions, transformer, PREDICTED latencies",
        "transformer",
        _tradeoff("transformer"),
    ),
    Picture("fig08c", "Figure 8c", "Azure Functions over time", "azure", _dynamics("azure")),
    Picture("fig09", "Figure 9", "Bursty traces", "bursty", _tradeoff("bursty"), _PAGE),
    Picture("fig10", "Figure 10", "Time-varying traces", "time_varying", _tradeoff("time_varying"), _PAGE),
    Picture("fig11a", "Figure 11a", "A worker fails every 12 s", "faults", _dynamics("faults")),
    Picture(
        "fig11b", "Figure 11b", "The highest rate over the number of workers", "scaling", _capacity("scaling"), _PAGE
    ),
    Picture("fig11c", "Figure 11c", "Three policies over CV²", "bursty", _policy_space),
    Picture("fig12a", "Figure 12a", "Operations of batches, transformer", "", _operations(TRANSFORMER)),
    Picture("fig12b", "Figure 12b", "Operations of batches, CNN", "", _operations(TABLE)),
    Picture(
        "fig13a",
        "Figure 13a",
        "1,500 + 5,500 q/s over time",
        "dynamics_bursty",
        _dynamics_by("dynamics_bursty", "trace.cv2"),
    ),
    Picture(
        "fig13b",
        "Figure 13b",
        "From 2,500 to 7,400 q/s over time",
        "dynamics_time_varying",
        _dynamics_by("dynamics_time_varying", "trace.acceleration_qps2"),
    ),
    Picture("figB14", "v1, Figures 14 and 15", "The time that is left to queries", "fixed_subnets", _slack),
    *(
        Picture(f"decisions-{policy.use}", "", f"What {policy.label} decides", "", _decisions(policy), _PAGE)
        for policy in _DECIDERS
    ),
    Picture("overhead", "", "The overhead of a batch, swept", "overhead", _overhead),
    Picture("buckets", "", "Why few of SlackFit's buckets are robust", "buckets", _buckets, _PAGE),
    Picture("inference", "", "How near the choices that the paper leaves out come to its figures", "", _search, _PAGE),
    Picture("gap", "", "How near to the optimum: Azure Functions", "azure", _gap("azure")),
    Picture("gap-bursty", "", "How near to the optimum: bursty traces", "bursty", _gap("bursty"), _PAGE),
    Picture(
        "gap-overhead", "", "How near to the optimum, by the overhead of a batch", "overhead", _gap("overhead"), _PAGE
    ),
)
"""In the order of the paper, then what it lacks."""
