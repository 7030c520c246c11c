"""The subnets of a supernet that rows of latency tables and of accuracies stand for."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from sim.base.errors import DataError, SpecError
from sim.tables.latency import ProfiledSubnet
from supernet.space import SubnetConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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


def chosen_subnets(text: str, space: SubnetSpace, known: Sequence[ProfiledSubnet]) -> tuple[ProfiledSubnet, ...]:
    """Return subnets that are asked for by their number, evenly spaced by accuracy, or by their ids.

    Args:
        text: A number, or ids with spaces between them.
        space: The supernet's.
        known: Those with a measured accuracy, the least accurate first.

    Raises:
        SpecError: An id is unknown, or the accuracy of a subnet is.
    """
    way_out = "`ssim supernet calibrate` measures it; or a CSV file with the columns subnet and accuracy"
    if text.isdigit():
        count = int(text)
        if not known or count < 1:
            ids = " ".join(subnet.id for subnet in space.linspace(max(2, count)))
            raise SpecError("--subnets", "no accuracy is known", f"of {ids}" if count else text, way_out)
        places = {round(n * (len(known) - 1) / max(1, count - 1)) for n in range(count)}
        return tuple(known[place] for place in sorted(places))
    asked = [space.find(one).id for one in text.split()]
    unknown = [one for one in asked if one not in {row.id for row in known}]
    if unknown:
        raise SpecError("--subnets", "accuracy unknown", " ".join(unknown), way_out)
    return tuple(row for row in known if row.id in asked)


def subnets_in_csv(path: Path, space: SubnetSpace) -> tuple[ProfiledSubnet, ...] | None:
    """Return the subnets of a CSV file with the columns subnet and accuracy; None if it has other ones.

    Raises:
        SpecError: A subnet is none of the space's.
        DataError: A value is missing or not a number, or a subnet has two rows.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        if {name.strip() for name in rows.fieldnames or ()} != {"subnet", "accuracy"}:
            return None
        found: dict[str, ProfiledSubnet] = {}
        for row in rows:
            place = f"{path}:{rows.line_num}"
            subnet = space.find(str(row["subnet"]).strip())
            try:
                accuracy = float(row["accuracy"])
            except (TypeError, ValueError):
                raise DataError(place, "accuracy is not a number", repr(row["accuracy"]), "percent") from None
            if subnet.id in found:
                raise DataError(place, "duplicate subnet", subnet.id, "one row for each")
            found[subnet.id] = ProfiledSubnet(subnet.id, accuracy, subnet.control)
    if not found:
        raise DataError(str(path), "has no rows", "", "one for each subnet")
    return tuple(sorted(found.values(), key=lambda subnet: (subnet.accuracy, subnet.id)))
