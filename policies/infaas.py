"""INFaaS: the cheapest variant that is accurate enough (SuperServe, NSDI 2025, section 6.1).

The paper runs INFaaS without an accuracy threshold, where it always serves the cheapest and so the least accurate
subnet, as its authors confirmed. Cheapest means here the variant with the highest throughput; of several, the least
accurate, and the faster one of equally accurate ones. Its batching in the paper's runs is not stated; here, as for
Clipper+, the largest batch that fits the slack.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from policies.slack_table import SlackTable, one_subnet
from sim.base.errors import DataError
from sim.base.parameters import Parameters, Percent

if TYPE_CHECKING:
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Infaas(Parameters):
    """The subnet with the highest throughput among those above an accuracy threshold; the largest batch that fits.

    Attributes:
        min_accuracy: The threshold in percent; None for no threshold.
    """

    min_accuracy: Percent | None = None

    serves_one_model: ClassVar[bool] = True

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch that fits on the cheapest subnet.

        Raises:
            DataError: No subnet of the table reaches the threshold.
        """
        return _cheapest(view.table, self.min_accuracy).at(view.slack_ns)


@lru_cache(maxsize=32)
def _cheapest(table: LatencyTable, min_accuracy: float | None) -> SlackTable:
    per_query = (table.latency_ns / np.asarray(table.batch_sizes)).min(axis=1)
    accurate = [s for s, subnet in enumerate(table.subnets) if min_accuracy is None or subnet.accuracy >= min_accuracy]
    if not accurate:
        best = f"the best has {table.subnets[-1].accuracy:.2f}"
        raise DataError(f"table of {table.device}", "no subnet is accurate enough", f"{min_accuracy:g}", best)
    return one_subnet(table, min(accurate, key=lambda s: (per_query[s], table.subnets[s].accuracy, -s)))


if TYPE_CHECKING:
    _conforms: type[Policy] = Infaas
