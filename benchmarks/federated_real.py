"""Simulated against real: bytes and times of each channel in virtual time, and on a Ray cluster of this machine.

A small CNN on scikit-learn's digits, four clients. Each worker has a process of its own, and all share the cores. The
simulation is told three numbers, which a training on the classical topology gives: how fast a client trains, how long a
message takes, and how many cores there are. With these it predicts the hierarchical and the hybrid one. The first round
is left out: in it processes load their data. Medians over messages, trainings and rounds. Bytes are those of arrays and
numbers (`topology.message.size_of`), beside those that were pickled for another process.

    python -m benchmarks.federated_real -o docs/pictures/federated_real.svg
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from federated.costs import CostModel
from figures import style
from figures.style import save_as
from ssim.jobs.reading import read_job
from topology.deployment import Machine
from topology.engines.ray import RayEngine
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.tag import DEFAULT, Link, Tag

if TYPE_CHECKING:
    from topology.plan import Plan
    from topology.report import RunReport

ROOT = Path(__file__).parents[1]
NAMES = ("classical", "hierarchical", "hybrid")
SEED = 7


@dataclass(frozen=True)
class Measured:
    """What a run gives, without its first round.

    Attributes:
        training_s: Duration of a training of a client.
        round_s: Duration of a round.
        message_s: Time of a message, by channel.
        bytes: Bytes of all messages of the run, by channel.
        pickled: Bytes of those that went to another process, as they were pickled.
    """

    training_s: float
    round_s: float
    message_s: dict[str, float]
    bytes: dict[str, int]
    pickled: dict[str, int]


def measured(report: RunReport) -> Measured:
    """Return what a report gives."""
    ends = [entry.at_ns for entry in report.log if entry.kind == "round"]
    spans = [span for span in report.spans if span.start_ns >= ends[0]]
    trainings = [s.end_ns - s.start_ns for s in spans if s.kind == "compute" and s.what == "train"]
    messages = {
        name: [s.end_ns - s.start_ns for s in spans if s.kind == "message" and s.what == name]
        for name in report.traffic
    }
    return Measured(
        median(trainings) / 1e9,
        median(later - earlier for earlier, later in pairwise(ends)) / 1e9,
        {name: median(times) / 1e9 for name, times in messages.items() if times},
        {name: traffic.bytes for name, traffic in report.traffic.items()},
        {name: traffic.pickled for name, traffic in report.traffic.items()},
    )


class Training:
    """A training on a topology, with its workers in processes of their own."""

    def __init__(self, name: str, rounds: int) -> None:
        groups = "default: 4" if name == "classical" else "default: null, eu: 2, na: 2"
        settings = (
            f"topology.use={ROOT / 'topologies' / name}.yaml",
            f"topology.datasets={{trainer: {{{groups}}}}}",
            f"rounds={rounds}",
            "partition=iid",
        )
        (self.run,) = read_job(ROOT / "experiments" / "federated" / "digits.yaml", settings).runs
        self.plan: Plan = self.run.parts.topology.plan

    def real(self) -> Measured:
        """Train on Ray."""
        engine = RayEngine(actors=len(self.plan), default_timeout_s=600.0, record=True, count_pickled=True)
        report = engine.run(self.plan, self.run.job.programs(self.run.parts.owners), seed=SEED)
        first, *others = (report.by_round[number] for number in sorted(report.by_round))
        if any(of_round != first for of_round in others):
            raise SystemExit(f"{self.run.name}: rounds differ in bytes: {report.by_round}")
        return measured(report)

    def simulated(self, gmacs_per_s: float, latency_s: float) -> Measured:
        """Train in virtual time, on one machine with the cores of this one."""
        link = Link(latency_ms=1000 * latency_s)
        channels = tuple(replace(channel, link=link) for channel in self.plan.tag.channels)
        datasets = [worker.dataset for worker in self.plan.workers if worker.dataset is not None]
        machine = Machine(DEFAULT, slots=os.cpu_count())
        plan = expand(Tag(self.plan.tag.roles, channels), datasets, [machine])
        job = replace(self.run.job, costs=CostModel(self.run.context, gmacs_per_s))
        return measured(SimEngine(record=True).run(plan, job.programs(self.run.parts.owners), seed=SEED))


def table(found: dict[str, tuple[Measured, Measured]]) -> list[str]:
    """Return the lines of the table, a row for each channel."""
    lines = ["| topology | channel | MB | pickled | message, simulated | real | round, simulated | real |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, (simulated, real) in found.items():
        for channel, size in real.bytes.items():
            if simulated.bytes[channel] != size:
                raise SystemExit(f"{name}, {channel}: {simulated.bytes[channel]} B simulated, {size} B real")
            times = f"{1000 * simulated.message_s[channel]:.1f} ms | {1000 * real.message_s[channel]:.1f} ms"
            rounds = f"{simulated.round_s:.2f} s | {real.round_s:.2f} s"
            sizes = f"{size / 1e6:.2f} | {real.pickled[channel] / 1e6:.2f}"
            lines.append(f"| {name} | {channel} | {sizes} | {times} | {rounds} |")
    return lines


def draw(found: dict[str, tuple[Measured, Measured]]) -> Figure:
    """Return simulated values against real ones: times of messages and rounds, and bytes."""
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.8), layout="constrained")
        times, sizes = figure.subplots(1, 2)
        for (name, (simulated, real)), colour in zip(found.items(), ("#0072B2", "#D55E00", "#009E73"), strict=True):
            pairs = [(simulated.message_s[channel], real.message_s[channel]) for channel in real.message_s]
            times.scatter(*zip(*pairs, strict=True), color=colour, marker="o")
            times.scatter(simulated.training_s, real.training_s, color=colour, marker="^")
            times.scatter(simulated.round_s, real.round_s, color=colour, marker="s")
            bytes_ = [(simulated.bytes[channel] / 1e6, real.pickled[channel] / 1e6) for channel in real.bytes]
            sizes.scatter(*zip(*bytes_, strict=True), color=colour, label=name)
        times.set(xscale="log", yscale="log", xlabel="simulated (s)", ylabel="real (s)")
        sizes.set(xlabel="simulated (MB of a channel)", ylabel="pickled (MB of a channel)")
        for axes in (times, sizes):
            axes.axline((1, 1), (2, 2), color=style.GREY, linewidth=0.8)
        for marker, what in (("o", "message"), ("^", "training"), ("s", "round")):
            times.scatter([], [], color=style.GREY, marker=marker, label=what)
        times.legend()
        sizes.legend()
    return figure


def main() -> None:
    """Measure, and print and draw what came."""
    parser = argparse.ArgumentParser(description="Simulated against real federated trainings.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path)
    given: Any = parser.parse_args()
    torch.set_num_threads(1)
    trainings = {name: Training(name, given.rounds) for name in NAMES}
    real = {name: training.real() for name, training in trainings.items()}
    first, plain = real["classical"], trainings["classical"].simulated(1.0, 0.001)
    gmacs_per_s, latency_s = plain.training_s / first.training_s, first.message_s["param"]
    found = {name: (training.simulated(gmacs_per_s, latency_s), real[name]) for name, training in trainings.items()}
    print(f"{gmacs_per_s:.3g} GMAC/s in a process, {1000 * latency_s:.2f} ms a message, {os.cpu_count()} cores")
    print("\n".join(table(found)))
    if given.output is not None:
        save_as(draw(found), given.output)


if __name__ == "__main__":
    main()
