"""RAMSIS (Ji et al., EuroSys 2024), sections 4 and 5: for each load the policy that solves a Markov decision process.

Code read: dmmendo/RAMSIS, commit 9b74967, `VarBatchSMDP.py` (states, lines 203 to 264; transitions, 358 to 544) and
`RAMSIS_gen.py` (line 131). The process is that of one worker, which gets each K-th query of a Poisson stream, K the
number of workers. Its state is the length of its queue, up to the largest batch (32 there), and the slack of the head
on a grid of 100 steps of the SLO. An action runs the whole queue on one model whose planned latency fits the slack,
which earns the model's accuracy; where none fits, the fastest model runs and earns nothing. Value iteration: 100
sweeps, without a discount. The rate is that of the last 500 ms, and the next higher load counts.

Left open: where in the K queries a worker stands when it starts (each place is equally likely here). The system has
a queue for each worker; here there is one for all, of which a worker that comes free takes its share, one K-th, as its
queue. The artifact has tables for some loads; here a table is made for each multiple of `step_qps` when it is seen, so
that no load is beyond them. The artifact plans on 95th percentiles (`plan: p95`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from math import lgamma
from typing import TYPE_CHECKING

import numpy as np

from policies.by_rate import ByRate, Site
from sim.base.units import NS_PER_S
from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import Policy, View

    _Floats = npt.NDArray[np.float64]

STEPS = 100
"""Steps of the slack."""

SWEEPS = 100
"""Sweeps of the value iteration: decisions ahead."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Decides by the slack and by a worker's share of the queue.

    Attributes:
        lengths: The longest queue of which the share is 1, 2, ... queries.
        from_ns: By share: the slacks at which the model changes, increasing.
        subnets: By share: the models, one more than slacks.
        sizes: The batch of each share; that of the last one is the largest.
    """

    lengths: tuple[int, ...]
    from_ns: tuple[tuple[int, ...], ...]
    subnets: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    def decide(self, view: View) -> Dispatch:
        """Return the model that the process chooses."""
        share = min(bisect_left(self.lengths, view.queue_length), len(self.sizes) - 1)
        return Dispatch(self.subnets[share][bisect_right(self.from_ns[share], view.slack_ns)], self.sizes[share])


@dataclass(frozen=True, slots=True)
class Ramsis(ByRate):
    """The policy that earns the most accuracy in time at the load."""

    def policy_for(self, site: Site, load_per_s: float) -> Policy:
        """Return the solution for a load."""
        table, largest = site.table, site.table.max_batch
        busy_ns = table.dense_ns[:, 1:] + site.dispatch_ns
        ahead = solved(site, load_per_s)
        accuracy = np.array([subnet.accuracy for subnet in table.subnets])
        from_ns, chosen = [], []
        for column in range(largest):
            edges: list[int] = []
            models = [min(table.pareto, key=lambda model: busy_ns[model, column])]
            best = -np.inf
            for model in sorted(table.pareto, key=lambda model: busy_ns[model, column]):
                earned = accuracy[model] + ahead[model, column]
                if earned > best or not edges:
                    edges.append(int(table.dense_ns[model, column + 1]))
                    models.append(model)
                    best = earned
            from_ns.append(tuple(edges))
            chosen.append(tuple(models))
        lengths = tuple(site.workers * size for size in range(1, largest + 1))
        return Shares(lengths, tuple(from_ns), tuple(chosen), tuple(range(1, largest + 1)))


def solved(site: Site, load_per_s: float) -> _Floats:
    """Return what is earned after a batch, by model and batch size, float64, shape (subnets, largest batch)."""
    table, largest = site.table, site.table.max_batch
    busy_ns = (table.dense_ns[:, 1:] + site.dispatch_ns).astype(np.float64)
    accuracy = np.array([subnet.accuracy for subnet in table.subnets])
    slack_ns = np.linspace(0, site.slo_ns, STEPS + 1)
    fits = busy_ns[..., None] <= slack_ns  # by model, batch size and slack
    following = transitions(busy_ns, site, load_per_s)
    fastest = np.argmin(busy_ns, axis=0), np.arange(largest)
    ahead = np.zeros(busy_ns.shape)
    for _ in range(SWEEPS):
        earned = np.where(fits, (accuracy[:, None] + ahead)[..., None], -np.inf).max(axis=0)
        value = np.where(fits.any(axis=0), earned, ahead[fastest][:, None])
        ahead = following @ value.ravel()
        ahead -= ahead.max()  # only differences count
    return ahead


def transitions(busy_ns: _Floats, site: Site, load_per_s: float) -> _Floats:
    """Return the probabilities of the next state of a worker, by the time that it is busy.

    The next query comes after 1 to K more of the stream, each equally likely; of the queries behind it, each K-th.
    Slacks are rounded down. A worker with an empty queue waits for the next query, which then has all its slack.

    Args:
        busy_ns: The times, of any shape.
        site: What the policy is made for.
        load_per_s: The rate of the stream.

    Returns:
        float64, the shape of the times and (largest batch * (STEPS + 1),): by queue length from 1, and slack.
    """
    workers, largest = site.workers, site.table.max_batch
    found = np.zeros((*busy_ns.shape, largest, STEPS + 1))
    per_ns = load_per_s / NS_PER_S
    step_ns = site.slo_ns / STEPS
    for place in np.ndindex(busy_ns.shape):
        busy = float(busy_ns[place])
        # Waited of the first query in its queue, by steps: up to an end of each, which is what it is taken for.
        waited = np.minimum(np.arange(int(np.ceil(busy / step_ns)) + 1) * step_ns, busy)
        mean = per_ns * (busy - waited)  # of queries that come before it
        # Among up to K places: that the first own query has come with so many of the stream.
        has_come = np.minimum(np.arange(workers + 1), workers) / workers
        few = _poisson(mean, workers)
        ahead = few @ has_come + 1 - few.sum(axis=1)
        first = -np.diff(ahead)  # that it came within each step before the end
        behind = per_ns * (waited[:-1] + waited[1:]) / 2
        up_to = _poisson(behind, workers * largest).cumsum(axis=1)
        more = up_to[:, workers * np.arange(1, largest) - 1].T  # fewer than so many own queries
        lengths = np.diff(np.vstack([np.zeros(len(first)), more, np.ones(len(first))]), axis=0)
        slack = np.maximum(STEPS - np.arange(1, len(first) + 1), 0)
        for step, column in zip(slack.tolist(), (lengths * first).T, strict=True):
            found[place][:, step] += column
        found[place][0, STEPS] += 1 - ahead[0]
    return found.reshape(*busy_ns.shape, -1)


def _poisson(mean: _Floats, most: int) -> _Floats:
    """Return the Poisson probabilities of 0 to `most`, float64, shape (means, most + 1)."""
    count = np.arange(most + 1)
    factorial = np.array([lgamma(k + 1) for k in count.tolist()])
    logarithm = np.log(np.maximum(mean, 1e-300))[:, None]
    return np.asarray(np.exp(count * logarithm - mean[:, None] - factorial))


if TYPE_CHECKING:
    _conforms: type[Policy] = Ramsis
