"""Partitions of the examples of one data set among clients; YAML selects one by `kind`."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - the fields of a named tuple
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Positive, PositiveInt
from sim.base.streams import stream

if TYPE_CHECKING:
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]


class Clients(NamedTuple):
    """The clients, as the topology and the data name them.

    Attributes:
        ids: The ids of their datasets in the topology, in order.
        of_examples: The client that holds each example; None if the data source does not say.
    """

    ids: Sequence[str]
    of_examples: Sequence[str] | None


class Partition(Protocol):
    """A frozen dataclass whose fields are its parameters.

    With a class attribute `uses_clients = True`, `split` takes a fourth argument: the `Clients`. With `uses_labels =
    False` the labels, which may have to be read from all examples, are zeros.

    Attributes:
        uses_sizes: Whether the sizes of the datasets in the topology count; if not, unequal ones are refused.
    """

    uses_sizes: ClassVar[bool]

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return the indices of each client's examples; each example belongs to one client.

        Args:
            labels: Class of each example, int64, shape (examples,).
            sizes: Size of each client as given in the topology; only ratios count.
            seed: Seed of the random choices.

        Raises:
            SpecError: A client would get no examples.
        """
        ...


@dataclass(frozen=True)
class Iid:
    """Random parts of equal size; with unequal `size` in the topology, in proportion to it."""

    uses_sizes: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = False

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts in proportion to the sizes."""
        order = stream(seed, "partition").permutation(len(labels))
        return _check_nonempty(np.split(order, _cuts(np.asarray(sizes, float), len(labels))))


@dataclass(frozen=True)
class Dirichlet(Parameters):
    """Each class is divided by shares drawn from a Dirichlet distribution (Yurochkin et al., ICML 2019).

    Clients have different numbers of examples, too; `dirichlet_equal` gives all the same.

    Attributes:
        alpha: Concentration: at 100 clients are nearly alike, at 0.1 most have nearly one class each.
        least: Minimum number of examples of a client; shares are drawn again, up to a thousand times, until it holds.
    """

    alpha: Positive = 0.5
    least: PositiveInt = 2

    uses_sizes: ClassVar[bool] = False

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts with different mixtures of classes."""
        clients = len(sizes)
        for attempt in range(_ATTEMPTS):
            rng = stream(seed, "partition", attempt)
            parts: list[list[Indices]] = [[] for _ in range(clients)]
            for label in np.unique(labels):
                members = rng.permutation(np.flatnonzero(labels == label))
                shares = rng.dirichlet(np.full(clients, self.alpha))
                for part, piece in zip(parts, np.split(members, _cuts(shares, len(members))), strict=True):
                    part.append(piece)
            shuffled = [rng.permutation(np.concatenate(part)) for part in parts]
            if min(map(len, shuffled)) >= self.least:
                return shuffled
        problem, value = f"no draw of {_ATTEMPTS} gives each client enough", f"alpha {self.alpha:g}, {clients} clients"
        raise SpecError("partition.alpha", problem, value, "use fewer clients, a larger alpha, or a smaller least")


@dataclass(frozen=True)
class DirichletEqual(Parameters):
    """Clients of equal size draw their mixture of classes from a Dirichlet distribution (Hsu et al., arXiv 1909.06335).

    The prior is the mixture of all examples. A client draws its examples one by one, without replacement; once a class
    is used up, the shares of the others are scaled up.

    Attributes:
        alpha: Concentration, shared by all classes: at 100 clients are nearly alike, at 0.1 most have one class each.
    """

    alpha: Positive = 0.5

    uses_sizes: ClassVar[bool] = False

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts of equal size with different mixtures of classes; what can't be dealt evenly is left out."""
        rng, clients = stream(seed, "partition"), len(sizes)
        known, counts = np.unique(labels, return_counts=True)
        members = [rng.permutation(np.flatnonzero(labels == label)) for label in known]
        used = np.zeros(len(known), dtype=np.int64)
        parts: list[Indices] = []
        for _ in range(clients):
            shares, taken = rng.dirichlet(self.alpha * counts / len(labels)), np.zeros_like(used)
            while missing := len(labels) // clients - taken.sum():
                left = counts - used - taken
                weights = np.where(left > 0, shares + np.finfo(float).tiny, 0.0)
                taken += np.minimum(rng.multinomial(missing, weights / weights.sum()), left)
            pieces = [group[begin : begin + n] for group, begin, n in zip(members, used, taken, strict=True)]
            parts.append(rng.permutation(np.concatenate(pieces)))
            used += taken
        return _check_nonempty(parts)


@dataclass(frozen=True)
class LabelSkew(Parameters):
    """Each client has examples of few classes (McMahan et al., AISTATS 2017, section 3, who cut sorted shards).

    Attributes:
        classes: Number of classes of a client.
    """

    classes: PositiveInt = 2

    uses_sizes: ClassVar[bool] = False

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts of few classes; the clients of a class, assigned in turn, share it equally."""
        rng, clients = stream(seed, "partition"), len(sizes)
        known = rng.permutation(np.unique(labels))
        if self.classes > len(known):
            hint = f"must be at most {len(known)}"
            raise SpecError("partition.classes", "exceeds the classes of the data", str(self.classes), hint)
        if self.classes * clients < len(known):
            hint = f"must be at least {-(-len(known) // clients)} for {clients} clients"
            raise SpecError("partition.classes", "too small to cover all classes", str(self.classes), hint)
        owners_of: dict[int, list[int]] = {}
        for slot in range(clients * self.classes):
            owners_of.setdefault(int(known[slot % len(known)]), []).append(slot // self.classes)
        parts: list[list[Indices]] = [[] for _ in range(clients)]
        for label, owners in owners_of.items():
            members = rng.permutation(np.flatnonzero(labels == label))
            for owner, piece in zip(owners, np.array_split(members, len(owners)), strict=True):
                parts[owner].append(piece)
        return _check_nonempty([rng.permutation(np.concatenate(part)) for part in parts])


@dataclass(frozen=True)
class Quantity(Parameters):
    """Quantity skew (Li et al., ICDE 2022): shares of all examples are drawn from a Dirichlet distribution.

    Attributes:
        alpha: Concentration; smaller is more unequal.
        least: Minimum number of examples of a client; the rest is distributed by the drawn shares.
    """

    alpha: Positive = 1.0
    least: PositiveInt = 2

    uses_sizes: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = False

    def split(self, labels: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
        """Return parts of different sizes."""
        rng, clients = stream(seed, "partition"), len(sizes)
        rest = len(labels) - clients * self.least
        if rest < 0:
            value, hint = f"{clients} clients with at least {self.least}", f"the data has {len(labels)} examples"
            raise SpecError("partition.least", "needs more examples than exist", value, hint)
        order, shares = rng.permutation(len(labels)), rng.dirichlet(np.full(clients, self.alpha))
        extra = np.diff(_cuts(shares, rest), prepend=0, append=rest)
        return _check_nonempty(np.split(order, np.cumsum(extra + self.least)[:-1]))


@dataclass(frozen=True)
class Natural:
    """The partition that the data has: each example belongs to the client that the data source names.

    The ids of the datasets in the topology are the names of the clients.
    """

    uses_sizes: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = False
    uses_clients: ClassVar[bool] = True

    def split(self, labels: Indices, sizes: Sequence[int], seed: int, clients: Clients) -> list[Indices]:
        """Return the examples of each client, in random order: what is held out is then a random share.

        Raises:
            SpecError: The data does not say whose an example is, or topology and data have different clients.
        """
        del labels, sizes
        ids, of_examples = clients
        if of_examples is None:
            hint = "csv and huggingface: `client: COLUMN`; a dataset of your own: an attribute `clients`; or iid"
            raise SpecError("partition", "the data does not say which client has which example", "natural", hint)
        held, number_of = np.array(of_examples, dtype=str), {id_: number for number, id_ in enumerate(ids)}
        known = np.unique(held).tolist()
        for problem, names in (
            ("clients of the data are not in the topology", [name for name in known if name not in number_of]),
            ("clients of the topology are not in the data", [name for name in ids if name not in set(known)]),
        ):
            if names:
                hint = f"datasets: {{ROLE: {{default: [{_listed(list(map(repr, known)))}]}}}}"  # a bare 1 is a number
                raise SpecError("partition", problem, _listed(names), hint)
        numbers, rng = np.array([number_of[name] for name in of_examples]), stream(seed, "partition")
        return [rng.permutation(np.flatnonzero(numbers == number)) for number in range(len(ids))]


SHORT_NAMES = {
    "dirichlet": "federated.partition:Dirichlet",
    "dirichlet_equal": "federated.partition:DirichletEqual",
    "iid": "federated.partition:Iid",
    "label_skew": "federated.partition:LabelSkew",
    "natural": "federated.partition:Natural",
    "quantity": "federated.partition:Quantity",
}
"""Short names in YAML."""

_ATTEMPTS = 1000
_NAMED = 10
"""At most this many clients are named."""


def divided(partition: Any, labels: Indices, sizes: Sequence[int], seed: int, clients: Clients) -> list[Indices]:
    """Return the indices of each client's examples: what `split` returns, after checks.

    Raises:
        SpecError: A client gets no examples, or an example goes to two clients or does not exist.
    """
    more = (clients,) if getattr(partition, "uses_clients", False) else ()
    parts = [np.asarray(part, dtype=np.int64) for part in partition.split(labels, sizes, seed, *more)]
    name = type(partition).__name__
    if len(parts) != len(sizes):
        value, hint = f"{len(parts)} of {name}", f"{len(sizes)}, one for each client"
        raise SpecError("partition", "returned another number of parts", value, hint)
    every = np.concatenate(_check_nonempty(parts))
    outside = every[(every < 0) | (every >= len(labels))]
    if len(outside):
        raise SpecError("partition", f"{name} gave away an unknown example", str(outside[0]), f"0 to {len(labels) - 1}")
    twice = np.flatnonzero(np.bincount(every) > 1)
    if len(twice):
        hint = "each example belongs to one client"
        raise SpecError("partition", f"{name} gave away an example twice", f"example {twice[0]}", hint)
    return parts


def divides_classes(partition: Partition) -> bool:
    """Return whether a partition divides classes, so that it needs one class for each example."""
    return isinstance(partition, (Dirichlet, DirichletEqual, LabelSkew))


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", ... ({more} more)" if more > 0 else "")


def _cuts(shares: npt.NDArray[np.float64], count: int) -> Indices:
    """Return the indices at which `count` items are cut into parts of these shares."""
    cuts: Indices = np.rint(np.cumsum(shares)[:-1] / shares.sum() * count).astype(np.int64)
    return cuts


def _check_nonempty(parts: list[Indices]) -> list[Indices]:
    for number, part in enumerate(parts):
        if not len(part):
            hint = "use fewer clients or another partition"
            raise SpecError("partition", "a client gets no examples", f"client {number} of {len(parts)}", hint)
    return parts
