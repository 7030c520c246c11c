"""The expanded topology: who there is, and who can send to whom. Workers are made when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from sim.base.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topology.parties import Compute, Dataset
    from topology.tag import Role, Tag


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a role.

    Attributes:
        id: The role and a number among its workers, such as `trainer/3`.
        role: Its role.
        at: Its group on each of the role's channels.
        dataset: Its data, if its role has data.
        compute: Where it runs.
    """

    id: str
    role: str
    at: dict[str, str]
    dataset: Dataset | None
    compute: str


@dataclass(frozen=True, slots=True, eq=False)
class Staff:
    """The workers of one role, in columns.

    Attributes:
        role: The role.
        places: For each worker the entry of the role's `at`, never decreasing, int64, shape (workers,).
        datasets: For each worker its data; empty if the role has none.
    """

    role: Role
    places: npt.NDArray[np.int64]
    datasets: tuple[Dataset, ...]

    def __len__(self) -> int:
        return len(self.places)

    def worker(self, number: int) -> Worker:
        """Return the worker of a number, from 0."""
        name = self.role.name
        dataset = self.datasets[number] if self.role.data else None
        compute = dataset.compute if dataset else self.role.compute
        return Worker(f"{name}/{number}", name, self.role.at[self.places[number]], dataset, compute)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The workers of a TAG: those of the first role first, within a role by place and then by dataset or replica.

    Attributes:
        tag: What was expanded.
        staff: The workers of each role, by name of the role.
        computes: The machines by id; `default` is always there.
        index: The numbers of the workers of a role in a group of a channel: (channel, group, role) to int64 arrays.
    """

    tag: Tag
    staff: dict[str, Staff]
    computes: dict[str, Compute]
    index: dict[tuple[str, str, str], npt.NDArray[np.int64]] = field(repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.staff.values()))

    @property
    def workers(self) -> Sequence[Worker]:
        """All workers, made one by one as they are asked for."""
        return _Workers(self.staff)

    def worker(self, id_: str) -> Worker:
        """Return the worker of an id.

        Raises:
            SpecError: There is none.
        """
        role, _, number = id_.rpartition("/")
        staff = self.staff.get(role)
        if staff is None or not number.isdecimal() or int(number) >= len(staff) or str(int(number)) != number:
            right = ", ".join(f"{name}/0 to {name}/{len(each) - 1}" for name, each in self.staff.items())
            raise SpecError("plan", "has no such worker", repr(id_), right)
        return staff.worker(int(number))

    def peers(self, worker: Worker, channel: str) -> tuple[str, ...]:
        """Return the ids of those a worker can send to over a channel, in the order of the plan.

        Raises:
            KeyError: The worker is not on the channel.
        """
        other = self.tag.channel(channel).peer_of(worker.role)
        return tuple(id_ for id_ in self.members(channel, worker.at[channel], other) if id_ != worker.id)

    def members(self, channel: str, group: str, role: str) -> tuple[str, ...]:
        """Return the ids of the workers of a role in a group of a channel, in the order of the plan."""
        return tuple(f"{role}/{number}" for number in self.index[channel, group, role].tolist())


class _Workers(Sequence[Worker]):
    def __init__(self, staff: dict[str, Staff]) -> None:
        self._staff = tuple(staff.values())

    def __len__(self) -> int:
        return sum(map(len, self._staff))

    def __iter__(self) -> Iterator[Worker]:
        for staff in self._staff:
            yield from map(staff.worker, range(len(staff)))

    @overload
    def __getitem__(self, index: int) -> Worker: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Worker]: ...
    def __getitem__(self, index: int | slice) -> Worker | Sequence[Worker]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        rest = index + len(self) if index < 0 else index
        for staff in self._staff:
            if 0 <= rest < len(staff):
                return staff.worker(rest)
            rest -= len(staff)
        raise IndexError(index)
