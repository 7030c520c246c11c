"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002) over the subnets of a space.

One run returns a whole front; regularised evolution (Real et al., AAAI 2019), as in once-for-all, needs a run for each
limit on costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.base.streams import stream
from supernet.search.pareto import crowding_distances, front, nondomination_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    import numpy.typing as npt

    from supernet.space import SubnetConfig, SubnetSpace

_CROSSOVER_RATE = 0.9
_TRIES = 100
"""Draws for one new subnet; if all give known networks, the space is taken to be exhausted."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """All subnets that a search has evaluated.

    Attributes:
        subnets: In the order of evaluation.
        points: Their (cost, error), float64, shape (subnets, 2).
    """

    subnets: tuple[SubnetConfig, ...]
    points: npt.NDArray[np.float64]

    @property
    def front(self) -> Evaluated:
        """The Pareto front, by cost."""
        best = front(self.points)
        return Evaluated(tuple(self.subnets[index] for index in best), self.points[best])


@dataclass(frozen=True, slots=True)
class Nsga2:
    """A search by NSGA-II.

    Attributes:
        space: The subnets.
        network: Returns equal keys for subnets that are the same network, which is evaluated once.
        evaluate: Returns the (cost, error) of subnets, both to be minimised, shape (subnets, 2).
        population: The size of the population.
        rate: The mutation rate of each entry of a control tuple.
    """

    space: SubnetSpace
    network: Callable[[SubnetConfig], Hashable]
    evaluate: Callable[[Sequence[SubnetConfig]], npt.NDArray[np.float64]]
    population: int = 64
    rate: float = 0.1

    def search(self, evaluations: int, seed: int, on_progress: Callable[[int], None] = lambda _done: None) -> Evaluated:
        """Return the evaluated subnets; all of the space, if the evaluations suffice.

        Args:
            evaluations: The number of networks to evaluate.
            seed: Of the first population, crossover and mutation.
            on_progress: Called with the number of networks evaluated so far.

        Raises:
            SpecError: Too few evaluations for a first population.
        """
        if evaluations < self.population:
            hint = f"at least {self.population}, one population"
            raise SpecError("search", "too few evaluations", str(evaluations), hint)
        known: dict[Hashable, SubnetConfig] = {}
        if self.space.size <= evaluations:
            self._new(self.space.enumerate(), known, self.space.size)
            return self._evaluated(list(known.values()), on_progress)
        rng = stream(seed, "search")
        drawn = (self.space.sample_stratified(rng) for _ in range(_TRIES * self.population))
        first = chain((self.space.smallest, self.space.largest), drawn)
        population = archive = self._evaluated(self._new(first, known, self.population), on_progress)
        while len(known) < evaluations:
            count = min(self.population, evaluations - len(known))
            children = self._new(self._children(population, rng, _TRIES * count), known, count)
            if not children:
                break
            offspring = self._evaluated(children, lambda _: on_progress(len(known)))
            archive, population = _joined(archive, offspring), self._fittest(_joined(population, offspring))
        return archive

    def _new(
        self, drawn: Iterable[SubnetConfig], known: dict[Hashable, SubnetConfig], count: int
    ) -> list[SubnetConfig]:
        """Return drawn subnets with new networks, up to a count; adds their networks to the known ones."""
        new: list[SubnetConfig] = []
        for subnet in drawn:
            network = self.network(subnet)
            if network not in known:
                known[network] = subnet
                new.append(subnet)
            if len(new) == count:
                break
        return new

    def _evaluated(self, subnets: list[SubnetConfig], on_progress: Callable[[int], None]) -> Evaluated:
        evaluated = Evaluated(tuple(subnets), self.evaluate(subnets))
        on_progress(len(subnets))
        return evaluated

    def _children(self, population: Evaluated, rng: np.random.Generator, count: int) -> Iterable[SubnetConfig]:
        fitness = _order(population.points)
        for _ in range(count):
            first, second = (  # binary tournaments
                population.subnets[min(rng.integers(len(fitness), size=2), key=fitness.__getitem__)] for _ in "12"
            )
            child = self.space.crossover(first, second, rng) if rng.random() < _CROSSOVER_RATE else first
            yield self.space.mutate(child, rng, self.rate)

    def _fittest(self, candidates: Evaluated) -> Evaluated:
        best = np.argsort(_order(candidates.points))[: self.population]
        return Evaluated(tuple(candidates.subnets[index] for index in best.tolist()), candidates.points[best])


def _order(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the position of each point by front, then by crowding distance; 0 is the fittest."""
    rank, room = nondomination_ranks(points), np.zeros(len(points))
    for number in range(int(rank.max()) + 1):
        members = rank == number
        room[members] = crowding_distances(points[members])
    order = np.empty(len(points), np.int64)
    order[np.lexsort((-room, rank))] = np.arange(len(points))
    return order


def _joined(first: Evaluated, second: Evaluated) -> Evaluated:
    return Evaluated((*first.subnets, *second.subnets), np.concatenate([first.points, second.points]))
