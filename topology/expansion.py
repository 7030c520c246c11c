"""Expansion of a TAG to workers: a pure function that does not depend on the order of its input.

Flame's controller (`cmd/controller/app/job/builder.go`) does this job by job and searches a list for each dataset; here
groups are looked up, and workers are columns.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import did_you_mean
from topology.deployment import Machine
from topology.flaws import Flaw, TagError
from topology.plan import Plan, RoleWorkers
from topology.tag import DEFAULT
from topology.variants import variant_flaws

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from topology.deployment import Dataset
    from topology.tag import Role, Tag

_LISTED = 20
"""At most this many duplicate ids are listed."""


def expand(tag: Tag, datasets: Iterable[Dataset] = (), machines: Iterable[Machine] = ()) -> Plan:
    """Return the workers of a TAG.

    A role with data has a worker for each of its datasets, in the only entry of its `at` that contains the dataset's
    group; any other role has `replicas` workers for each entry. The order of the input does not matter.

    Args:
        tag: Roles and channels.
        datasets: All datasets.
        machines: The machines; `default` may be left out.

    Raises:
        TagError: A dataset has an unknown role or machine, or its group fits no entry or several; a role with data has
            no dataset; a group of a channel has no workers at one end. Lists all flaws, by place.
    """
    by_id = {DEFAULT: Machine(DEFAULT)}
    flaws: list[Flaw] = []
    for number, machine in enumerate(machines):
        if machine.id in by_id and (machine.id != DEFAULT or number > 0):
            flaws.append(Flaw(("computes", machine.id), "duplicate id", repr(machine.id), "keep one"))
        by_id[machine.id] = machine
    by_role: dict[str, list[Dataset]] = {role.name: [] for role in tag.roles}
    datasets = list(datasets)
    flaws += _dataset_flaws(datasets, tag, by_id)
    for dataset in datasets:
        if dataset.role in by_role:
            by_role[dataset.role].append(dataset)
    roles = {role.name: _role_workers(role, by_role[role.name], flaws) for role in tag.roles}
    flaws += _machine_flaws(tag.roles, by_id)
    flaws += [flaw for workers in roles.values() for flaw in variant_flaws(workers)]
    index = _index(tag, roles)
    if not flaws:
        flaws += _empty_groups(tag, index)
    if flaws:
        raise TagError("expansion", flaws)
    return Plan(tag, roles, by_id, index)


def _dataset_flaws(datasets: Sequence[Dataset], tag: Tag, machines: dict[str, Machine]) -> Iterator[Flaw]:
    data = [role.name for role in tag.roles if role.data]
    for name in sorted({dataset.role for dataset in datasets} - set(data)):
        known = any(role.name == name for role in tag.roles)
        problem = "the role consumes no data" if known else "unknown role"
        hint = "set data: true for the role" if known else did_you_mean(name, data)
        yield Flaw(("datasets", name), problem, repr(name), hint)
    if len({dataset.id for dataset in datasets}) < len(datasets):
        duplicates = sorted(id_ for id_, count in Counter(dataset.id for dataset in datasets).items() if count > 1)
        yield Flaw(("datasets",), "duplicate ids", ", ".join(duplicates[:_LISTED]), "ids must be unique")
    for name in sorted({dataset.compute for dataset in datasets} - set(machines)):
        first = next(dataset for dataset in datasets if dataset.compute == name)
        place = ("datasets", first.role, first.group)
        yield Flaw(place, f"unknown machine of {first.id}", repr(name), did_you_mean(name, machines))


def _machine_flaws(roles: Sequence[Role], machines: dict[str, Machine]) -> Iterator[Flaw]:
    for role in roles:
        if role.compute not in machines:
            hint = did_you_mean(role.compute, machines)
            yield Flaw(("roles", role.name, "compute"), "unknown machine", repr(role.compute), hint)


def _role_workers(role: Role, datasets: list[Dataset], flaws: list[Flaw]) -> RoleWorkers:
    if not role.data:
        return RoleWorkers(role, np.repeat(np.arange(len(role.at)), role.replicas), ())
    if not datasets:
        flaws.append(Flaw(("roles", role.name), "no dataset", "", f"add some under datasets.{role.name}"))
    places_of: dict[str, list[int]] = {}
    for number, groups in enumerate(role.at):
        for group in set(groups.values()):
            places_of.setdefault(group, []).append(number)
    only = {group: places[0] for group, places in places_of.items() if len(places) == 1}
    for group in sorted({dataset.group for dataset in datasets} - set(only)):
        count = sum(dataset.group == group for dataset in datasets)
        fits = len(places_of.get(group, ()))
        datasets_ = f"{count} dataset{'s' * (count > 1)}"
        problem = f"{datasets_} of {'an ambiguous' if fits else 'an unknown'} group"
        hint = f"use a group of exactly one entry of the role's 'at': {', '.join(sorted(only)) or 'there are none'}"
        flaws.append(Flaw(("datasets", role.name, group), problem, repr(group), hint))
    fitting = [dataset for dataset in datasets if dataset.group in only]
    places = np.array([only[dataset.group] for dataset in fitting], dtype=np.int64)
    order = _order(places, [dataset.id for dataset in fitting])
    return RoleWorkers(role, places[order], tuple(fitting[number] for number in order.tolist()))


def _order(places: npt.NDArray[np.int64], ids: list[str]) -> npt.NDArray[np.int64]:
    """Return the order by place and then by id."""
    if all(map(str.__le__, ids, ids[1:])):
        return np.argsort(places, kind="stable")
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return by_id[np.argsort(places[by_id], kind="stable")]


def _index(tag: Tag, roles: dict[str, RoleWorkers]) -> dict[tuple[str, str, str], npt.NDArray[np.int64]]:
    """Return the index of a plan. The workers of a place are consecutive, so that it is made of ranges."""
    index: dict[tuple[str, str, str], npt.NDArray[np.int64]] = {}
    for channel in tag.channels:
        for role in dict.fromkeys(channel.pair):
            workers = roles[role]
            ends = np.searchsorted(workers.places, np.arange(len(workers.role.at) + 1))
            ranges: dict[str, list[npt.NDArray[np.int64]]] = {group: [] for group in channel.groups}
            for number, place in enumerate(workers.role.at):
                ranges[place[channel.name]].append(np.arange(ends[number], ends[number + 1]))
            for group, parts in ranges.items():
                index[channel.name, group, role] = np.concatenate(parts) if parts else np.arange(0)
    return index


def _empty_groups(tag: Tag, index: dict[tuple[str, str, str], npt.NDArray[np.int64]]) -> Iterator[Flaw]:
    for (channel, group, role), members in sorted(index.items(), key=lambda item: item[0]):
        if not len(members):
            problem = f"role {role!r} has no workers in group {group!r}"
            hint = f"add a dataset of that group, or remove it from channel {channel!r}"
            place = ("datasets", role) if tag.role(role).data else ("roles", role)
            yield Flaw(place, problem, "", hint)
