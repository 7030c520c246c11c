"""The expanded topology: workers and their peers. `Worker` objects are made on access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from sim.base.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topology.deployment import Dataset, Machine
    from topology.tag import Role, Tag


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a role.

    Attributes:
        id: The role and a number among its workers, such as `trainer/3`.
        role: Its role.
        at: Its group on each of the role's channels.
        dataset: Its dataset, if its role consumes data.
        compute: The machine that it runs on.
    """

    id: str
    role: str
    at: dict[str, str]
    dataset: Dataset | None
    compute: str


@dataclass(frozen=True, slots=True, eq=False)
class RoleWorkers:
    """The workers of one role, in columns.

    Attributes:
        role: The role.
        places: The number of each worker's entry of the role's `at`, never decreasing, int64, shape (workers,).
        datasets: The dataset of each worker; empty if the role consumes none.
    """

    role: Role
    places: npt.NDArray[np.int64]
    datasets: tuple[Dataset, ...]

    def __len__(self) -> int:
        return len(self.places)

    def worker(self, number: int) -> Worker:
        """Return a worker by its number, from 0."""
        name = self.role.name
        dataset = self.datasets[number] if self.role.data else None
        compute = dataset.compute if dataset else self.role.compute
        return Worker(f"{name}/{number}", name, self.role.at[self.places[number]], dataset, compute)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The workers of a TAG: those of the first role first, within a role by place and then by dataset or replica.

    Attributes:
        tag: What was expanded.
        roles: The workers of each role, by its name.
        machines: The machines by id, `default` always among them.
        index: The numbers of the workers of a role in a group of a channel: (channel, group, role) to int64 arrays.
    """

    tag: Tag
    roles: dict[str, RoleWorkers]
    machines: dict[str, Machine]
    index: dict[tuple[str, str, str], npt.NDArray[np.int64]] = field(repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.roles.values()))

    @property
    def workers(self) -> Sequence[Worker]:
        """All workers, made one by one on access."""
        return _Workers(self.roles)

    def worker(self, id_: str) -> Worker:
        """Return a worker by its id.

        Raises:
            SpecError: Unknown.
        """
        role, _, number = id_.rpartition("/")
        workers = self.roles.get(role)
        if workers is None or not number.isdecimal() or int(number) >= len(workers) or str(int(number)) != number:
            hint = ", ".join(f"{name}/0 to {name}/{len(workers) - 1}" for name, workers in self.roles.items())
            raise SpecError("plan", "unknown worker", repr(id_), hint)
        return workers.worker(int(number))

    def peers(self, worker: Worker, channel: str) -> tuple[str, ...]:
        """Return the ids of the workers to which a worker can send over a channel, in the order of the plan.

        Raises:
            KeyError: Its role is not on the channel.
        """
        other = self.tag.channel(channel).peer_of(worker.role)
        return tuple(id_ for id_ in self.members(channel, worker.at[channel], other) if id_ != worker.id)

    def members(self, channel: str, group: str, role: str) -> tuple[str, ...]:
        """Return the ids of the workers of a role in a group of a channel, in the order of the plan."""
        return tuple(f"{role}/{number}" for number in self.index[channel, group, role].tolist())


class _Workers(Sequence[Worker]):
    def __init__(self, roles: dict[str, RoleWorkers]) -> None:
        self._roles = tuple(roles.values())

    def __len__(self) -> int:
        return sum(map(len, self._roles))

    def __iter__(self) -> Iterator[Worker]:
        for workers in self._roles:
            yield from map(workers.worker, range(len(workers)))

    @overload
    def __getitem__(self, index: int) -> Worker: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Worker]: ...
    def __getitem__(self, index: int | slice) -> Worker | Sequence[Worker]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        for workers in self._roles:
            if 0 <= number < len(workers):
                return workers.worker(number)
            number -= len(workers)
        raise IndexError(index)
