"""Policies of systems that serve one model: the subnet is chosen by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Percent, check_parameters

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class OneModel(Parameters):
    """One fixed subnet, named by its accuracy or by its id; by its id where several subnets have one accuracy.

    Attributes:
        accuracy: Accuracy of the subnet in percent, as in the table (to 0.05 points).
        subnet: Id of the subnet; a whole number stands for an id of digits.
    """

    accuracy: Percent | None = None
    subnet: str | int | None = None

    serves_one_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self)
        name, is_id = type(self).__name__, type(self.subnet) in {str, int}
        if self.subnet is not None and not is_id:
            raise SpecError(f"{name}.subnet", "is not an id", repr(self.subnet), "as `ssim table show` prints it")
        if self.accuracy is None and self.subnet is None:
            hint = "accuracy in percent, or subnet: an id of the latency table"
            raise SpecError(f"{name}.accuracy", "is missing", "", hint)
        if self.accuracy is not None and self.subnet is not None:
            both = f"{self.accuracy:g} and {self.subnet}"
            raise SpecError(f"{name}.subnet", "cannot be combined with accuracy", both, "give one of the two")

    def model(self, table: LatencyTable) -> int:
        """Return the subnet (index).

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        if self.accuracy is None:
            return table.subnet_of_id(str(self.subnet))
        return table.subnet_of_accuracy(self.accuracy)
