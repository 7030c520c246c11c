"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002) over the subnets of a space.

One run returns a whole front; regularised evolution (Real et al., AAAI 2019), as in once-for-all, needs one for each
limit on costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.base.streams import stream
from supernet.search.pareto import crowding, front, ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    import numpy.typing as npt

    from supernet.space import SubNet, SubNetSpace

_CROSSED = 0.9  # of the children have two parents
_TRIES = 100
"""Draws for one new subnet; after as many that are known already, there are taken to be no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """All subnets that a search has looked at.

    Attributes:
        subnets: In the order in which they were looked at.
        points: Their (cost, error), float64, shape (subnets, 2).
    """

    subnets: tuple[SubNet, ...]
    points: npt.NDArray[np.float64]

    @property
    def front(self) -> Evaluated:
        """Those that no other dominates, by cost."""
        best = front(self.points)
        return Evaluated(tuple(self.subnets[index] for index in best), self.points[best])


@dataclass(frozen=True, slots=True)
class Nsga2:
    """A search by NSGA-II.

    Attributes:
        space: The subnets.
        network: What two subnets have in common that are the same network: it is looked at once.
        evaluate: Returns the (cost, error) of some subnets, both the smaller the better, shape (subnets, 2).
        population: How many live at a time.
        rate: The share of the entries of a control tuple that change from parent to child.
    """

    space: SubNetSpace
    network: Callable[[SubNet], Hashable]
    evaluate: Callable[[Sequence[SubNet]], npt.NDArray[np.float64]]
    population: int = 64
    rate: float = 0.1

    def search(self, evaluations: int, seed: int, on_progress: Callable[[int], None] = lambda _done: None) -> Evaluated:
        """Return what was looked at; all subnets, if there are no more than may be.

        Args:
            evaluations: How many networks may be looked at.
            seed: Decides the first ones, and their descent.
            on_progress: Told how many have been looked at.

        Raises:
            SpecError: Too few evaluations for a first population.
        """
        if evaluations < self.population:
            right = f"at least {self.population}, one population"
            raise SpecError("search", "has too few evaluations", str(evaluations), right)
        known: dict[Hashable, SubNet] = {}
        if self.space.size <= evaluations:
            self._take(self.space.enumerate(), known, self.space.size)
            return self._evaluated(list(known.values()), on_progress)
        rng = stream(seed, "search")
        drawn = (self.space.graded(rng) for _ in range(_TRIES * self.population))
        first = chain((self.space.smallest, self.space.largest), drawn)
        living = everything = self._evaluated(self._take(first, known, self.population), on_progress)
        while len(known) < evaluations:
            wanted = min(self.population, evaluations - len(known))
            children = self._take(self._children(living, rng, _TRIES * wanted), known, wanted)
            if not children:
                break
            born = self._evaluated(children, lambda _: on_progress(len(known)))
            everything, living = _joined(everything, born), self._fittest(_joined(living, born))
        return everything

    def _take(self, drawn: Iterable[SubNet], known: dict[Hashable, SubNet], wanted: int) -> list[SubNet]:
        """Return those drawn whose network is not known, until there are as many as wanted; they are known then."""
        new: list[SubNet] = []
        for subnet in drawn:
            network = self.network(subnet)
            if network not in known:
                known[network] = subnet
                new.append(subnet)
            if len(new) == wanted:
                break
        return new

    def _evaluated(self, subnets: list[SubNet], on_progress: Callable[[int], None]) -> Evaluated:
        found = Evaluated(tuple(subnets), self.evaluate(subnets))
        on_progress(len(subnets))
        return found

    def _children(self, living: Evaluated, rng: np.random.Generator, most: int) -> Iterable[SubNet]:
        fitness = _order(living.points)
        for _ in range(most):
            # Of two drawn at random, the fitter is a parent.
            one, other = (
                living.subnets[min(rng.integers(len(fitness), size=2), key=fitness.__getitem__)] for _ in "12"
            )
            child = self.space.crossover(one, other, rng) if rng.random() < _CROSSED else one
            yield self.space.mutate(child, rng, self.rate)

    def _fittest(self, living: Evaluated) -> Evaluated:
        best = np.argsort(_order(living.points))[: self.population]
        return Evaluated(tuple(living.subnets[index] for index in best.tolist()), living.points[best])


def _order(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the place of each point among all: by front, then by room in its front; 0 is the fittest."""
    rank, room = ranks(points), np.zeros(len(points))
    for number in range(int(rank.max()) + 1):
        members = rank == number
        room[members] = crowding(points[members])
    order = np.empty(len(points), np.int64)
    order[np.lexsort((-room, rank))] = np.arange(len(points))
    return order


def _joined(one: Evaluated, other: Evaluated) -> Evaluated:
    return Evaluated((*one.subnets, *other.subnets), np.concatenate([one.points, other.points]))
