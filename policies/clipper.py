"""Clipper+: one subnet, chosen by hand (SuperServe, NSDI 2025, section 6.1).

It stands for serving systems without an accuracy trade-off (Clipper, Clockwork, TF-Serving) and is run once for each of
the six accuracies. The paper does not state its batching rule; here it takes the same queue in order of deadlines and
the largest batch of its subnet that fits the slack, or its largest batch if none fits, which has the highest
throughput. Clipper itself (NSDI 2017) adapts the batch size by additive increase and multiplicative decrease, which a
known latency table makes unnecessary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from policies.slack_table import SlackTable, one_subnet

if TYPE_CHECKING:
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Clipper(OneModel):
    """One fixed subnet; the largest batch that fits the slack."""

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch of the subnet that fits.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        return _chosen(view.table, self).at(view.slack_ns)


@lru_cache(maxsize=32)
def _chosen(table: LatencyTable, policy: Clipper) -> SlackTable:
    return one_subnet(table, policy.model(table))


if TYPE_CHECKING:
    _conforms: type[Policy] = Clipper
