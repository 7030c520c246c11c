"""Do the properties hold on which the paper's policies build? SuperServe (NSDI 2025), section 4: P1, P2, P3.

The paper states them in words about its own table. To check any table, each is read here as a rule about single cells
(subnet, batch size): the cell's latency is *at least* that of another one, its rival.

- **P1**, latency grows with the batch. Rival: of the same subnet's smaller batches, the slowest.
- **P2**, latency grows with accuracy. Rival: of the less accurate subnets at the same batch, the slowest.
- **P3**, a less accurate subnet serves a larger batch in about the latency of a more accurate one. Rival: of the less
  accurate subnets at larger batches, the fastest. "About" has no number in the paper, so each break tells by how much
  the rival is over; who reads it decides.

"Grows" is read as "never falls". A cell without a rival (the smallest batch in P1, the least accurate subnet in P2 and
P3, the largest batch in P3) is not looked at. Only measured batch sizes count.
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
    """A cell that breaks a property, and its rival: the cell that it should be no faster than.

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
        """By how many percent of the cell's latency the rival is slower."""
        return 100 * (self.rival_ns - self.latency_ns) / self.latency_ns


@dataclass(frozen=True, slots=True)
class PropertyCheck:
    """What one property says of one table.

    Attributes:
        name: P1, P2 or P3.
        rule: The property in one sentence.
        cells: How many cells were looked at: those that have a rival.
        breaks: The cells that break it, by subnet, then by batch size.
    """

    name: str
    rule: str
    cells: int
    breaks: tuple[Violation, ...]

    @property
    def holds(self) -> bool:
        """Whether no cell breaks the property."""
        return not self.breaks


def check_properties(table: LatencyTable) -> tuple[PropertyCheck, ...]:
    """Return what P1, P2 and P3 say of a table, as the module's text reads them.

    Example:
        >>> from sim.tables.latency import LatencyTable, ProfiledSubnet
        >>> grid = np.array([[4, 3], [5, 9]])
        >>> table = LatencyTable("gpu", (ProfiledSubnet("small", 70.0), ProfiledSubnet("large", 80.0)), (1, 2), grid)
        >>> [(check.name, check.holds, check.cells) for check in check_properties(table)]
        [('P1', False, 2), ('P2', True, 2), ('P3', True, 1)]
    """
    accuracy = np.array([subnet.accuracy for subnet in table.subnets])
    subnet, column = np.indices(table.latency_ns.shape)

    def check(
        name: str, rule: str, rivals_of: Callable[[int, int], npt.NDArray[np.bool_]], worst: int
    ) -> PropertyCheck:
        """Compare each cell with the slowest (worst=1) or the fastest (worst=-1) of the cells in its mask of rivals."""
        cells, breaks = 0, []
        for s, c in np.ndindex(table.latency_ns.shape):
            rivals = np.argwhere(rivals_of(s, c))
            if len(rivals):
                cells += 1
                t, d = rivals[np.argmax(worst * table.latency_ns[tuple(rivals.T)])]
                own, other = int(table.latency_ns[s, c]), int(table.latency_ns[t, d])
                if own < other:
                    breaks.append(Violation(s, table.batch_sizes[c], own, int(t), table.batch_sizes[d], other))
        return PropertyCheck(name, rule, cells, tuple(breaks))

    accuracy_at = accuracy[subnet]
    return (
        check("P1", "latency never falls as the batch grows", lambda s, c: (subnet == s) & (column < c), 1),
        check(
            "P2",
            "latency never falls as accuracy grows",
            lambda s, c: (accuracy_at < accuracy[s]) & (column == c),
            1,
        ),
        check(
            "P3",
            "some less accurate subnet serves a larger batch in at most the same latency",
            lambda s, c: (accuracy_at < accuracy[s]) & (column > c),
            -1,
        ),
    )
