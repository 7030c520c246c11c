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


def chosen_subnets(
    text: str, space: SubnetSpace, known: Sequence[ProfiledSubnet]
) -> tuple[ProfiledSubnet | SubnetConfig, ...]:
    """Return subnets that are asked for by their number or by their ids.

    Args:
        text: A number of evenly spaced subnets, or ids with spaces between them.
        space: The supernet's.
        known: Those with a measured accuracy, the least accurate first: a number is one of these, if there are any.

    Raises:
        SpecError: An id is unknown, or the number is 0, or the accuracies of some of the subnets are known.
    """
    if text.isdigit():
        count = int(text)
        if not count:
            raise SpecError("--subnets", "no subnet is asked for", text, "1 or more")
        if not known:
            return tuple(space.linspace(count) if count > 1 else [space.largest])
        places = {round(n * (len(known) - 1) / max(1, count - 1)) for n in range(count)}
        return tuple(known[place] for place in sorted(places))
    asked, rows = [space.find(one) for one in dict.fromkeys(text.split())], {row.id: row for row in known}
    unknown = [subnet.id for subnet in asked if subnet.id not in rows]
    if known and unknown:
        hint = "`ssim supernet calibrate` measures it; or a CSV file with the columns subnet and accuracy"
        raise SpecError("--subnets", "accuracy unknown", " ".join(unknown), hint)
    ids = {subnet.id for subnet in asked}
    return tuple(row for row in known if row.id in ids) if known else tuple(asked)


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
