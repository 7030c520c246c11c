"""From a TAG to workers: a pure function, the same for the same input in any order.

Flame's controller (`cmd/controller/app/job/builder.go`) does this job by job and searches a list for each dataset; here
the groups are looked up, and workers stay columns until somebody looks at one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import did_you_mean
from topology.checks import Flaw, TagError
from topology.parties import Compute
from topology.plan import Plan, Staff
from topology.tag import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from topology.parties import Dataset
    from topology.tag import Role, Tag

_TOLD = 20
"""More flaws of one kind than this are counted, not told one by one."""


def expand(tag: Tag, datasets: Iterable[Dataset] = (), computes: Iterable[Compute] = ()) -> Plan:
    """Return the workers of a TAG.

    A role with data has a worker for each of its datasets, in the only place of its `at` that holds the dataset's
    group; any other role has `replicas` workers in each place. The order of what is given does not matter.

    Args:
        tag: Roles and channels.
        datasets: All data there is.
        computes: The machines; `default` need not be named.

    Raises:
        TagError: A dataset is of no role, fits no place or several, or names no machine; a role with data has none; a
            group of a channel stays empty at one end. Tells all of it, by place.
    """
    machines = {DEFAULT: Compute(DEFAULT)}
    flaws: list[Flaw] = []
    for number, compute in enumerate(computes):
        if compute.id in machines and (compute.id != DEFAULT or number > 0):
            flaws.append(Flaw(("computes", compute.id), "stands twice", repr(compute.id), "keep one"))
        machines[compute.id] = compute
    by_role: dict[str, list[Dataset]] = {role.name: [] for role in tag.roles}
    given = list(datasets)
    flaws += _dataset_flaws(given, tag, machines)
    for dataset in given:
        if dataset.role in by_role:
            by_role[dataset.role].append(dataset)
    staff = {role.name: _staff(role, by_role[role.name], flaws) for role in tag.roles}
    flaws += _machine_flaws(tag.roles, machines)
    index = _index(tag, staff)
    if not flaws:
        flaws += _empty_groups(tag, index)
    if flaws:
        raise TagError("expansion", flaws)
    return Plan(tag, staff, machines, index)


def _dataset_flaws(datasets: Sequence[Dataset], tag: Tag, machines: dict[str, Compute]) -> Iterator[Flaw]:
    data = [role.name for role in tag.roles if role.data]
    for name in sorted({dataset.role for dataset in datasets} - set(data)):
        known = any(role.name == name for role in tag.roles)
        what = "the role takes no data" if known else "there is no such role"
        right = "say data: true in the role" if known else did_you_mean(name, data)
        yield Flaw(("datasets", name), what, repr(name), right)
    if len({dataset.id for dataset in datasets}) < len(datasets):
        twice = sorted(id_ for id_, times in Counter(dataset.id for dataset in datasets).items() if times > 1)
        yield Flaw(("datasets",), "an id stands more than once", ", ".join(twice[:_TOLD]), "each dataset has its own")
    for name in sorted({dataset.compute for dataset in datasets} - set(machines)):
        who = next(dataset for dataset in datasets if dataset.compute == name)
        place = ("datasets", who.role, who.group)
        yield Flaw(place, f"{who.id} lies on a machine that is not there", repr(name), did_you_mean(name, machines))


def _machine_flaws(roles: Sequence[Role], machines: dict[str, Compute]) -> Iterator[Flaw]:
    for role in roles:
        if role.compute not in machines:
            right = did_you_mean(role.compute, machines)
            yield Flaw(("roles", role.name, "compute"), "there is no such machine", repr(role.compute), right)


def _staff(role: Role, datasets: list[Dataset], flaws: list[Flaw]) -> Staff:
    if not role.data:
        return Staff(role, np.repeat(np.arange(len(role.at)), role.replicas), ())
    if not datasets:
        flaws.append(Flaw(("roles", role.name), "has data and no dataset", "", f"name some under datasets.{role.name}"))
    places_of: dict[str, list[int]] = {}
    for number, groups in enumerate(role.at):
        for group in set(groups.values()):
            places_of.setdefault(group, []).append(number)
    only = {group: places[0] for group, places in places_of.items() if len(places) == 1}
    for group in sorted({dataset.group for dataset in datasets} - set(only)):
        count = sum(dataset.group == group for dataset in datasets)
        fits = len(places_of.get(group, ()))
        what = f"{count} dataset{'s' * (count > 1)} of a group that {'fits several places' if fits else 'is nowhere'}"
        right = f"a group that stands in one entry of the role's 'at' ({', '.join(sorted(only)) or 'there is none'})"
        flaws.append(Flaw(("datasets", role.name, group), what, repr(group), right))
    fitting = [dataset for dataset in datasets if dataset.group in only]
    places = np.array([only[dataset.group] for dataset in fitting], dtype=np.int64)
    order = _order(places, [dataset.id for dataset in fitting])
    return Staff(role, places[order], tuple(fitting[number] for number in order.tolist()))


def _order(places: npt.NDArray[np.int64], ids: list[str]) -> npt.NDArray[np.int64]:
    """Return the order by place and then by id."""
    if all(map(str.__le__, ids, ids[1:])):
        return np.argsort(places, kind="stable")
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return by_id[np.argsort(places[by_id], kind="stable")]


def _index(tag: Tag, staff: dict[str, Staff]) -> dict[tuple[str, str, str], npt.NDArray[np.int64]]:
    """Return who sits where. Workers of one place stand side by side, so that this is a matter of ranges."""
    index: dict[tuple[str, str, str], npt.NDArray[np.int64]] = {}
    for channel in tag.channels:
        for role in dict.fromkeys(channel.pair):
            own = staff[role]
            ends = np.searchsorted(own.places, np.arange(len(own.role.at) + 1))
            ranges: dict[str, list[npt.NDArray[np.int64]]] = {group: [] for group in channel.groups}
            for number, place in enumerate(own.role.at):
                ranges[place[channel.name]].append(np.arange(ends[number], ends[number + 1]))
            for group, parts in ranges.items():
                index[channel.name, group, role] = np.concatenate(parts) if parts else np.arange(0)
    return index


def _empty_groups(tag: Tag, index: dict[tuple[str, str, str], npt.NDArray[np.int64]]) -> Iterator[Flaw]:
    for (channel, group, role), members in sorted(index.items(), key=lambda item: item[0]):
        if not len(members):
            what = f"no worker of role {role!r} is in group {group!r}"
            right = f"a dataset of that group, or drop it from channel {channel!r}"
            place = ("datasets", role) if tag.role(role).data else ("roles", role)
            yield Flaw(place, what, "", right)
