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
from typing import TYPE_CHECKING, ClassVar

from policies.slack_table import SlackTable, one_subnet
from sim.base.parameters import Parameters, Percent

if TYPE_CHECKING:
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Clipper(Parameters):
    """One fixed subnet; the largest batch that fits the slack.

    Attributes:
        accuracy: Accuracy of the subnet in percent, as in the table (to 0.05 points).
    """

    accuracy: Percent

    serves_one_model: ClassVar[bool] = True

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch of the subnet that fits.

        Raises:
            DataError: The table has no subnet of this accuracy.
        """
        return _of_accuracy(view.table, self.accuracy).at(view.slack_ns)


@lru_cache(maxsize=32)
def _of_accuracy(table: LatencyTable, accuracy: float) -> SlackTable:
    return one_subnet(table, table.subnet_of_accuracy(accuracy))


if TYPE_CHECKING:
    _conforms: type[Policy] = Clipper
