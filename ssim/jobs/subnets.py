"""The subnets of a supernet that rows of latency tables and of accuracies stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import DataError
from supernet.space import SubnetConfig

if TYPE_CHECKING:
    from pathlib import Path

    from sim.tables.latency import ProfiledSubnet
    from supernet.space import SubnetSpace


def subnet_of(row: ProfiledSubnet, space: SubnetSpace, source: str | Path) -> SubnetConfig:
    """Return the subnet of a space that a row stands for.

    Args:
        row: A row of a table or of accuracies.
        space: The supernet's.
        source: The table or the file, for messages.

    Raises:
        DataError: The row has no control tuple.
        SpecError: Its control tuple is none of the space's.
    """
    if row.control is None:
        raise DataError(f"{source}, subnet {row.id}", "has no control tuple", hint="one for each subnet")
    return space.find(SubnetConfig(space.family, row.control))
