"""Checks of the table properties that the paper's policies assume: P1, P2, P3 (SuperServe, NSDI 2025, section 4).

The paper states them in words about its own table. To check any table, each is read here as a rule about single cells
(subnet, batch size): the cell's latency is *at least* that of another one, its rival.

- **P1**, latency grows with the batch. Rival: of the same subnet's smaller batches, the slowest.
- **P2**, latency grows with accuracy. Rival: of the less accurate subnets at the same batch, the slowest.
- **P3**, a less accurate subnet serves a larger batch in about the latency of a more accurate one. Rival: of the less
  accurate subnets at larger batches, the fastest. The paper does not quantify "about", so each violation has the
  excess of the rival.

"Grows" is read as "never falls". A cell without a rival (the smallest batch in P1, the least accurate subnet in P2 and
P3, the largest batch in P3) is skipped. Only measured batch sizes count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Violation:
    """A cell that violates a property, and its rival: the cell that it should not be faster than.

    Attributes:
        subnet: The cell's subnet, an index into the table.
        batch_size: Its batch size in queries.
        latency_ns: Its latency.
        rival_subnet: The rival's subnet.
        rival_batch_size: The rival's batch size.
        rival_ns: The rival's latency, which is larger.
    """

    subnet: int
    batch_size: int
    latency_ns: int
    rival_subnet: int
    rival_batch_size: int
    rival_ns: int

    @property
    def over_percent(self) -> float:
        """Excess of the rival in percent of the cell's latency."""
        return 100 * (self.rival_ns - self.latency_ns) / self.latency_ns


@dataclass(frozen=True, slots=True)
class PropertyCheck:
    """The result of one property for one table.

    Attributes:
        name: P1, P2 or P3.
        rule: The property in one sentence.
        needs: What a table must have for any cell to have a rival.
        cells: Number of cells with a rival; if 0, the property says nothing about the table.
        violations: The cells that violate it, by subnet, then by batch size.
    """

    name: str
    rule: str
    needs: str
    cells: int
    violations: tuple[Violation, ...]

    @property
    def holds(self) -> bool:
        """Whether no cell violates the property."""
        return not self.violations


def check_properties(table: LatencyTable) -> tuple[PropertyCheck, ...]:
    """Return the results of P1, P2 and P3 for a table.

    Examples:
        >>> from sim.tables.latency import LatencyTable, ProfiledSubnet
        >>> grid = np.array([[4, 3], [5, 9]])
        >>> table = LatencyTable("gpu", (ProfiledSubnet("small", 70.0), ProfiledSubnet("large", 80.0)), (1, 2), grid)
        >>> [(check.name, check.holds, check.cells) for check in check_properties(table)]
        [('P1', False, 2), ('P2', True, 2), ('P3', True, 1)]
    """
    accuracy = np.array([subnet.accuracy for subnet in table.subnets])
    subnet, column = np.indices(table.latency_ns.shape)

    def check(
        name: str, rule: str, needs: str, rivals_of: Callable[[int, int], npt.NDArray[np.bool_]], worst: int
    ) -> PropertyCheck:
        """Compare each cell with the slowest (worst=1) or the fastest (worst=-1) of the cells in its mask of rivals."""
        cells, violations = 0, []
        for s, c in np.ndindex(table.latency_ns.shape):
            rivals = np.argwhere(rivals_of(s, c))
            if len(rivals):
                cells += 1
                t, d = rivals[np.argmax(worst * table.latency_ns[tuple(rivals.T)])]
                cell_ns, worst_ns = int(table.latency_ns[s, c]), int(table.latency_ns[t, d])
                if cell_ns < worst_ns:
                    violations.append(
                        Violation(s, table.batch_sizes[c], cell_ns, int(t), table.batch_sizes[d], worst_ns)
                    )
        return PropertyCheck(name, rule, needs, cells, tuple(violations))

    accuracy_at = accuracy[subnet]
    sizes, accuracies = "two batch sizes", "subnets of two accuracies"
    return (
        check(
            "P1", "latency never falls as the batch grows", sizes, lambda s, c: (subnet == s) & (column < c), worst=1
        ),
        check(
            "P2",
            "latency never falls as accuracy grows",
            accuracies,
            lambda s, c: (accuracy_at < accuracy[s]) & (column == c),
            worst=1,
        ),
        check(
            "P3",
            "some less accurate subnet serves a larger batch in at most the same latency",
            f"{sizes} and {accuracies}",
            lambda s, c: (accuracy_at < accuracy[s]) & (column > c),
            worst=-1,
        ),
    )


def equally_accurate(table: LatencyTable) -> list[list[int]]:
    """Return the subnets (indices) of each accuracy that several have, the fastest last."""
    by_accuracy: dict[float, list[int]] = {}
    for index, subnet in enumerate(table.subnets):
        by_accuracy.setdefault(subnet.accuracy, []).append(index)
    return [group for group in by_accuracy.values() if len(group) > 1]
