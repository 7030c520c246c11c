"""Client selection by training statistics: Oort and power of choice, for `select` of a channel.

Aggregators record in the `peer_stats` of each client: `loss` (mean loss of its last training), `utility` (number of
examples times the root mean squared loss), `seconds` (from sending the model to its update) and `round`. A selector
that uses them has `uses_stats`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import annotated_types as at
import numpy as np

from sim.base.parameters import NonNegative, Parameters, PositiveInt, Share
from topology.selection import RandomPeers

if TYPE_CHECKING:
    from collections.abc import Mapping

_Share = Annotated[float, at.Ge(0), at.Le(1)]

_STALENESS = 0.1  # weight of the staleness bonus, as in the paper


@dataclass(frozen=True)
class Oort(Parameters):
    """Oort: the clients of highest utility in least time, and some unexplored ones (Lai et al., OSDI 2021, section 4).

    The score of an explored client is its utility plus a staleness bonus. It is multiplied by (T / seconds)^alpha for
    clients slower than T, the `pace` quantile of durations. Clients are sampled in proportion to their scores.

    Attributes:
        k: Number of selected clients.
        explore: Share of unexplored clients in the first round.
        fade: Factor of that share after each round.
        least: Minimum of that share.
        alpha: Exponent of the penalty for slow clients.
        pace: Quantile of durations beyond which a client counts as slow.
    """

    uses_stats: ClassVar[bool] = True

    k: PositiveInt = 10
    explore: _Share = 0.9
    fade: Share = 0.98
    least: _Share = 0.2
    alpha: NonNegative = 2.0
    pace: Share = 0.8

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` peers, in their order."""
        if self.k >= len(peers):
            return peers
        explored = [peer for peer in peers if math.isfinite(stats.get(peer, {}).get("utility", math.nan))]
        unexplored = [peer for peer in peers if peer not in set(explored)]
        last_round = max((stats[peer]["round"] for peer in explored), default=0)
        share = max(self.least, self.explore * self.fade**last_round)
        wanted = share * self.k
        new = round(wanted)
        if unexplored and wanted > 0 and not new:  # of a small k: now and then, rather than never again
            new = int(rng.random() < wanted)
        new = min(len(unexplored), max(new, self.k - len(explored)))
        chosen = set(RandomPeers(new).choose(tuple(unexplored), stats, rng)) if new else set[str]()
        if explored and len(chosen) < self.k:
            scores = self._scores([stats[peer] for peer in explored], last_round)
            count = min(self.k - len(chosen), int(np.count_nonzero(scores)))
            picks = rng.choice(len(explored), count, replace=False, p=scores / scores.sum())
            chosen |= {explored[int(pick)] for pick in picks}
        return tuple(peer for peer in peers if peer in chosen)

    def _scores(self, stats: list[Mapping[str, Any]], last_round: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        seconds = np.array([entry["seconds"] for entry in stats], float)
        utility = np.array([entry["utility"] for entry in stats], float)
        age = np.maximum(1, last_round + 1 - np.array([entry["round"] for entry in stats], float))
        bonus = np.sqrt(_STALENESS * math.log(last_round + 1) * age / (last_round + 1)) * utility.mean()
        limit = float(np.quantile(seconds, self.pace))
        penalty = np.where(seconds > limit, (limit / np.maximum(seconds, 1e-12)) ** self.alpha, 1.0)
        scores: np.ndarray[Any, np.dtype[np.float64]] = np.maximum((utility + bonus) * penalty, 1e-12)
        return scores


@dataclass(frozen=True)
class PowerOfChoice(Parameters):
    """Power of choice: of some random clients, those with the highest loss (Cho, Wang and Joshi, AISTATS 2022).

    Attributes:
        k: Number of selected clients.
        among: Number of random candidates.
    """

    uses_stats: ClassVar[bool] = True

    k: PositiveInt = 1
    among: PositiveInt = 2

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` peers, in their order; clients without a known loss come first."""
        candidates = RandomPeers(max(self.k, self.among)).choose(peers, stats, rng)
        worst = sorted(candidates, key=lambda peer: -stats.get(peer, {}).get("loss", math.inf))[: self.k]
        return tuple(peer for peer in peers if peer in set(worst))
