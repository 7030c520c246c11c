"""Federated training: how many times a second a client trains, beside a loop written by hand and the peers.

A small CNN on scikit-learn's digits (`experiments/federated/digits.yaml`, equal parts), FedAvg, one thread a process.
Parties have few examples, so what a framework costs is seen; the more they have, the less it matters. On Ray and where
it is said there is a process for each core, the others have one. Set-up is not timed (data, networks, Ray, a first
round).

Wall time, medians over a few repeats; in each all are run in turn, and ratios are medians of the ratios within it, so
that whatever else the machine does hits all alike. What has to start Ray takes part in every third repeat. Accuracy and
loss on test examples, means over seeds, show that all did the same work; chance is each one's own.

    pip install 'pfl[pytorch]' 'flwr[simulation]'
    python -m benchmarks.bench_federated
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import pytest
import torch

from benchmarks.federated_peers import ON_RAY, SETTLING_S, Outcome, Peer, Task, here, plain_loop
from benchmarks.jobs import QUICK, rounds
from benchmarks.peers import aligned
from federated.pool import TrainingPool
from federated.vectorized import VectorizedClients
from sim import stream
from topology.engines.sim import SimEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topology.report import RunReport

SIZES = {"10 of 100": (100, 10), "100 of 100": (100, 100), "10 of 10": (10, 10)}
"""How many clients there are, and how many of them train in a round."""


def ssim(task: Task, *, stored: bool = False, pool: TrainingPool | VectorizedClients | None = None) -> Outcome:
    """Train with ours, in virtual time.

    Args:
        task: The training.
        stored: Whether all is kept that is needed to store the run at any instant (it is not stored).
        pool: How clients train at once, if they do.
    """
    plan, owners, done = task.run.parts.topology.plan, task.run.parts.owners, list[float]()
    job = replace(task.job, rounds=task.rounds + 1, pool=pool)

    def watch(report: RunReport) -> None:
        if report.log[-1].kind == "round":
            done.append(perf_counter())

    checkpoints = job.checkpoints(lambda _: None) if stored else None
    report = SimEngine().run(plan, job.programs(owners), seed=task.seed, watch=watch, checkpoints=checkpoints)
    return Outcome(done[-1] - done[0], report.results["aggregator/0"]["state"])


def ssim_vectorized(task: Task) -> Outcome:
    """Train with ours, in virtual time, the clients of a round as one computation."""
    return ssim(task, pool=VectorizedClients(task.job.context.network))


def ssim_in_processes(task: Task) -> Outcome:
    """Train with ours, in virtual time, the clients in as many processes as there are cores."""
    with TrainingPool(task.job, os.cpu_count() or 1) as pool:
        pool.wait()
        return ssim(task, pool=pool)


def ssim_on_ray(task: Task) -> Outcome:
    """Train with the same programs in as many processes as there are cores."""
    from topology.engines.ray import RayEngine  # noqa: PLC0415 - an optional dependency

    plan, owners = task.run.parts.topology.plan, task.run.parts.owners
    job = replace(task.job, rounds=task.rounds + 1)
    report = RayEngine(default_timeout_s=600.0).run(plan, job.programs(owners), seed=task.seed)
    done = [entry.at_ns for entry in report.log if entry.kind == "round"]
    sleep(SETTLING_S)
    return Outcome((done[-1] - done[0]) / 1e9, report.results["aggregator/0"]["state"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("who", "train"),
    [
        ("a plain loop", plain_loop),
        ("in virtual time", ssim),
        ("in virtual time, ready to be stored", partial(ssim, stored=True)),
    ],
)
def bench_trainings(benchmark: Any, who: str, train: Callable[[Task], Outcome], size: str) -> None:
    """Parties train, with our engine and without any; the first round is timed here, too."""
    torch.set_num_threads(1)
    clients, chosen = SIZES[size]
    task = Task(clients, chosen, 1 if QUICK else 2 * clients // chosen)
    count = task.trainings + chosen
    benchmark.extra_info |= {"what": f"{size}, {who}", "job": size, "unit": "trainings", "count": count}
    benchmark.pedantic(train, (task,), rounds=rounds(5), warmup_rounds=1)


def measure(peers: Sequence[Peer], task: Task, repeats: int) -> list[dict[int, Outcome]]:
    """Return what came of it, by peer and seed; each repeat has a seed and an order of its own."""
    found: list[dict[int, Outcome]] = [{} for _ in peers]
    for repeat in range(repeats):
        own = replace(task, seed=task.seed + repeat)
        for which in stream(task.seed, "turns", repeat).permutation(len(peers)):
            if repeat % peers[which].every == 0:
                found[which][own.seed] = peers[which].train(own)
    return found


def table(peers: Sequence[Peer], task: Task, found: list[dict[int, Outcome]]) -> str:
    """Return who did how many trainings a second, how much that is of the first's, and what came of them."""
    rows = [["who", "job", "trainings/s", "to ssim", "ms a training", "test accuracy %", "test loss"]]
    for peer, outcomes in zip(peers, found, strict=True):
        median = statistics.median(outcome.seconds for outcome in outcomes.values())
        ratio = statistics.median(found[0][seed].seconds / outcome.seconds for seed, outcome in outcomes.items())
        results = [replace(task, seed=seed).result(outcome.state) for seed, outcome in outcomes.items()]
        accuracy, loss = (statistics.fmean(column) for column in zip(*results, strict=True))
        job = f"{task.chosen} of {task.clients} clients, {task.rounds} rounds"
        speed = [f"{task.trainings / median:,.0f}", f"{ratio:.2f}x", f"{1e3 * median / task.trainings:.2f}"]
        rows.append([peer.name, job, *speed, f"{accuracy:.1f}", f"{loss:.3f}"])
    return aligned(rows)


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Federated training of a small CNN by ssim and its peers.")
    parser.add_argument("--trainings", type=int, default=1_000, help="in a run, of 100 clients; of 10, a tenth")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()

    torch.set_num_threads(1)
    on_ray = [Peer("ssim, Ray engine", ssim_on_ray, every=ON_RAY)] if find_spec("ray") else []
    in_processes = Peer(f"ssim, SimPy engine, --jobs {os.cpu_count()}", ssim_in_processes)
    vectorized = Peer("ssim, SimPy engine, vectorized", ssim_vectorized)
    peers = [Peer("ssim, SimPy engine", ssim), in_processes, vectorized, *here(), *on_ray]
    for peer in peers:  # whatever is slow the first time
        peer.train(Task(10, 2, 2))
    for clients, chosen in SIZES.values():
        trainings = options.trainings * clients // 100  # the fewer clients, the more examples each has
        task = Task(clients, chosen, max(1, trainings // chosen))
        print(table(peers, task, measure(peers, task, options.repeats)), flush=True)
        print(f"{len(task.shards[0][1])} examples each, {task.epochs} epochs, batches of {task.batch}\n", flush=True)


if __name__ == "__main__":
    main()
