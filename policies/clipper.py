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
from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Percent, check_parameters

if TYPE_CHECKING:
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Clipper(Parameters):
    """One fixed subnet; the largest batch that fits the slack.

    The subnet is named by its accuracy or by its id; by its id where several subnets have one accuracy.

    Attributes:
        accuracy: Accuracy of the subnet in percent, as in the table (to 0.05 points).
        subnet: Id of the subnet; a whole number stands for an id of digits.
    """

    accuracy: Percent | None = None
    subnet: str | int | None = None

    serves_one_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self)
        is_id = type(self.subnet) in {str, int}
        if self.subnet is not None and not is_id:
            raise SpecError("Clipper.subnet", "is not an id", repr(self.subnet), "as `ssim table show` prints it")
        if self.accuracy is None and self.subnet is None:
            hint = "accuracy in percent, or subnet: an id of the latency table"
            raise SpecError("Clipper.accuracy", "is missing", "", hint)
        if self.accuracy is not None and self.subnet is not None:
            both = f"{self.accuracy:g} and {self.subnet}"
            raise SpecError("Clipper.subnet", "cannot be combined with accuracy", both, "give one of the two")

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch of the subnet that fits.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        return _chosen(view.table, self.accuracy, self.subnet).at(view.slack_ns)


@lru_cache(maxsize=32)
def _chosen(table: LatencyTable, accuracy: float | None, subnet: str | int | None) -> SlackTable:
    if accuracy is None:
        return one_subnet(table, table.subnet_of_id(str(subnet)))
    return one_subnet(table, table.subnet_of_accuracy(accuracy))


if TYPE_CHECKING:
    _conforms: type[Policy] = Clipper
