"""Choosing parties by how they did: Oort, and power of choice. They go into a channel's `select`, as all selectors do.

What they look at are stats that aggregators keep of each peer: `loss` (mean of its last training), `utility` (examples
times the root of the mean squared loss), `seconds` (from sending it the model to its answer) and `round`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import annotated_types as at
import numpy as np

from sim.base.parameters import NonNegative, Parameters, PositiveInt, Share
from topology.selection import RandomPeers

if TYPE_CHECKING:
    from collections.abc import Mapping

_Share = Annotated[float, at.Ge(0), at.Le(1)]

_STALE = 0.1  # of the bonus for who was long not chosen, as in the paper


@dataclass(frozen=True, slots=True)
class Oort(Parameters):
    """The parties that promise most in least time, and some that are not known (Lai et al., OSDI 2021, section 4).

    A known party's worth is its utility, plus a bonus the longer it was not chosen, times (T / seconds)^alpha if it
    takes longer than T, the time that `pace` of the known ones keep. Parties are drawn by worth.

    Attributes:
        k: How many are chosen.
        explore: The share of unknown ones in the first round.
        fade: What is left of that share after each round.
        least: It does not fall below.
        alpha: How much slowness costs.
        pace: The share of known parties that are not slow.
    """

    k: PositiveInt = 10
    explore: _Share = 0.9
    fade: Share = 0.98
    least: _Share = 0.2
    alpha: NonNegative = 2.0
    pace: Share = 0.8

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` of them, in their order."""
        if self.k >= len(peers):
            return peers
        known = [peer for peer in peers if math.isfinite(stats.get(peer, {}).get("utility", math.nan))]
        fresh = [peer for peer in peers if peer not in set(known)]
        turn = max((stats[peer]["round"] for peer in known), default=0)
        explored = max(self.least, self.explore * self.fade**turn)
        new = min(len(fresh), max(round(explored * self.k), self.k - len(known)))
        chosen = set(RandomPeers(new).choose(tuple(fresh), stats, rng)) if new else set[str]()
        if known and len(chosen) < self.k:
            worth = self._worth([stats[peer] for peer in known], turn)
            count = min(self.k - len(chosen), int(np.count_nonzero(worth)))
            picks = rng.choice(len(known), count, replace=False, p=worth / worth.sum())
            chosen |= {known[int(pick)] for pick in picks}
        return tuple(peer for peer in peers if peer in chosen)

    def _worth(self, stats: list[Mapping[str, Any]], turn: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        seconds = np.array([note["seconds"] for note in stats], float)
        utility = np.array([note["utility"] for note in stats], float)
        since = np.maximum(1, turn + 1 - np.array([note["round"] for note in stats], float))
        bonus = np.sqrt(_STALE * math.log(turn + 1) * since / (turn + 1)) * utility.mean()
        usual = float(np.quantile(seconds, self.pace))
        slow = np.where(seconds > usual, (usual / np.maximum(seconds, 1e-12)) ** self.alpha, 1.0)
        worth: np.ndarray[Any, np.dtype[np.float64]] = np.maximum((utility + bonus) * slow, 1e-12)
        return worth


@dataclass(frozen=True, slots=True)
class PowerOfChoice(Parameters):
    """Of some taken at random, those with the highest loss (Cho, Wang and Joshi, AISTATS 2022).

    Attributes:
        k: How many are chosen.
        among: How many are taken at random.
    """

    k: PositiveInt = 1
    among: PositiveInt = 2

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` of them, in their order; a party that is not known counts as the worst."""
        drawn = RandomPeers(max(self.k, self.among)).choose(peers, stats, rng)
        worst = sorted(drawn, key=lambda peer: -stats.get(peer, {}).get("loss", math.inf))[: self.k]
        return tuple(peer for peer in peers if peer in set(worst))
