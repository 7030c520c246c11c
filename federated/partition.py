"""How the examples of one data set are dealt out to parties. One class, one way; YAML names it by `kind`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Positive, PositiveInt
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]


class Partition(Protocol):
    """A frozen dataclass whose fields are its parameters."""

    def deal(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return the examples (indices) of each party; each example goes to one party.

        Args:
            labels: The class of each example, int64, shape (examples,).
            sizes: What the topology says of each party's size; only ratios count, and only for those who ask.
            seed: Decides who gets what.

        Raises:
            SpecError: A party would get nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Iid:
    """Equal parts at random; with unequal `size` in the topology, parts in their ratio."""

    def deal(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts in the ratio of sizes."""
        order = stream(seed, "partition").permutation(len(labels))
        return _checked(np.split(order, _ends(np.asarray(sizes, float), len(labels))))


@dataclass(frozen=True, slots=True)
class Dirichlet(Parameters):
    """Each class is dealt out in shares drawn from a Dirichlet distribution (Hsu, Qi and Brown, arXiv 1909.06335).

    Attributes:
        alpha: The smaller, the fewer classes a party has: 100 is nearly alike, 0.1 nearly one class each.
        least: Drawn again, up to a thousand times, until each party has so many examples.
    """

    alpha: Positive = 0.5
    least: PositiveInt = 2

    def deal(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts whose mixtures of classes differ."""
        parties = len(sizes)
        for attempt in range(_ATTEMPTS):
            rng = stream(seed, "partition", attempt)
            parts: list[list[Indices]] = [[] for _ in range(parties)]
            for label in np.unique(labels):
                members = rng.permutation(np.flatnonzero(labels == label))
                shares = rng.dirichlet(np.full(parties, self.alpha))
                for part, piece in zip(parts, np.split(members, _ends(shares, len(members))), strict=True):
                    part.append(piece)
            found = [rng.permutation(np.concatenate(part)) for part in parts]
            if min(map(len, found)) >= self.least:
                return found
        right = "fewer parties, a larger alpha, or a smaller least"
        what = "some party gets too little, however often it is drawn"
        raise SpecError("partition.alpha", what, f"alpha {self.alpha:g}, {parties} parties", right)


@dataclass(frozen=True, slots=True)
class LabelSkew(Parameters):
    """Each party has examples of so many classes (McMahan et al., AISTATS 2017, section 3, who cut sorted shards).

    Attributes:
        classes: How many classes a party has.
    """

    classes: PositiveInt = 2

    def deal(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts of few classes; each class is shared equally by those who have it, in turn round the circle."""
        rng, parties = stream(seed, "partition"), len(sizes)
        known = rng.permutation(np.unique(labels))
        if self.classes > len(known):
            raise SpecError("partition.classes", "are more than there are", str(self.classes), f"at most {len(known)}")
        if self.classes * parties < len(known):
            right = f"at least {-(-len(known) // parties)}, or some classes would be nobody's"
            raise SpecError("partition.classes", "are too few for so few parties", str(self.classes), right)
        holders: dict[int, list[int]] = {}
        for place in range(parties * self.classes):
            holders.setdefault(int(known[place % len(known)]), []).append(place // self.classes)
        parts: list[list[Indices]] = [[] for _ in range(parties)]
        for label, owners in holders.items():
            members = rng.permutation(np.flatnonzero(labels == label))
            for owner, piece in zip(owners, np.array_split(members, len(owners)), strict=True):
                parts[owner].append(piece)
        return _checked([rng.permutation(np.concatenate(part)) for part in parts])


@dataclass(frozen=True, slots=True)
class Quantity(Parameters):
    """Classes alike, amounts not: shares of all examples are drawn from a Dirichlet distribution.

    After Li et al. (ICDE 2022), who call it quantity skew.

    Attributes:
        alpha: The smaller, the more unequal.
        least: The fewest examples of a party; what is drawn is what goes beyond.
    """

    alpha: Positive = 1.0
    least: PositiveInt = 2

    def deal(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts of different size."""
        rng, parties = stream(seed, "partition"), len(sizes)
        left = len(labels) - parties * self.least
        if left < 0:
            value = f"{parties} parties of {self.least} or more"
            raise SpecError("partition.least", "there are too few examples", value, f"{len(labels)} in all")
        order, shares = rng.permutation(len(labels)), rng.dirichlet(np.full(parties, self.alpha))
        extra = np.diff(_ends(shares, left), prepend=0, append=left)
        return _checked(np.split(order, np.cumsum(extra + self.least)[:-1]))


SHORT_NAMES = {
    "dirichlet": "federated.partition:Dirichlet",
    "iid": "federated.partition:Iid",
    "label_skew": "federated.partition:LabelSkew",
    "quantity": "federated.partition:Quantity",
}
"""What short names in YAML stand for."""

_ATTEMPTS = 1000


def _ends(shares: npt.NDArray[np.float64], count: int) -> Indices:
    """Return where to cut so many things into parts of these shares."""
    ends: Indices = np.rint(np.cumsum(shares)[:-1] / shares.sum() * count).astype(np.int64)
    return ends


def _checked(parts: list[Indices]) -> list[Indices]:
    for number, part in enumerate(parts):
        if not len(part):
            right = "fewer parties, or another partition"
            raise SpecError("partition", "a party gets no examples", f"number {number} of {len(parts)}", right)
    return parts
