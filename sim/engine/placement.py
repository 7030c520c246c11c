"""Placement: which queues each worker serves, whose memory may hold the models of some queues only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from sim.engine.cluster import Cluster

Placement: TypeAlias = Mapping[str, Sequence[int]]
"""The numbers of the workers that serve each queue, by the name of the queue. They hold the weights of its model. The
queries of a queue without a worker are rejected."""

NO_PLANNER = "can't be combined with a planner", "", "leave out the planner, or placement"
"""Problem, value and hint where there are both."""


def check_placement(placement: Placement | None, queues: Sequence[str], workers: int) -> None:
    """Check that a placement names the queues and the workers of a cluster.

    Raises:
        SpecError: It leaves out a queue, or names an unknown queue or worker, or a worker twice.
    """
    given: Any = placement
    if given is None:
        return
    if not queues:
        raise SpecError("cluster.placement", "has no meaning without queues", "", "give queues, or leave it out")
    if not isinstance(given, Mapping):
        raise SpecError("cluster.placement", "is not a mapping of queues to workers", repr(given), "such as {a: [0]}")
    for name in given:
        if name not in queues:
            raise SpecError("cluster.placement", "names an unknown queue", repr(name), did_you_mean(str(name), queues))
    if missing := [name for name in queues if name not in given]:
        hint = f"the workers that serve it, such as {missing[0]}: [0]"
        raise SpecError("cluster.placement", "leaves out a queue", repr(missing[0]), hint)
    for name, numbers in given.items():
        _check_workers(f"cluster.placement.{name}", numbers, workers)


def _check_workers(place: str, numbers: Any, workers: int) -> None:
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise SpecError(place, "is not a list of workers", repr(numbers), "such as [0, 1]")
    for number in numbers:
        if type(number) is not int or not 0 <= number < workers:
            raise SpecError(place, "unknown worker", repr(number), f"0 to {workers - 1}")
        if list(numbers).count(number) > 1:
            raise SpecError(place, "names a worker twice", str(number), "leave one out")


def equal_workers(cluster: Cluster, workers: Sequence[int]) -> list[tuple[list[int], tuple[int, ...]]]:
    """Return the workers that serve the same queues, and these queues as indices, in the order of offers.

    The workers with the fewest queues come first, so that the others stay free for the queues that nobody else serves;
    then those with the first queues. So nothing depends on which of equal workers has which number.

    Args:
        cluster: The cluster; without a placement, all workers are together.
        workers: The numbers of the workers of a kind.
    """
    if cluster.placement is None:
        return [([*workers], tuple(range(max(1, len(cluster.queues)))))]
    found: dict[tuple[int, ...], list[int]] = {}
    for worker in workers:
        found.setdefault(queues_on(cluster, worker), []).append(worker)
    return [(found[queues], queues) for queues in sorted(found, key=lambda queues: (len(queues), queues))]


def queues_on(cluster: Cluster, worker: int) -> tuple[int, ...]:
    """Return the queues that a worker serves, as indices; all without a placement."""
    names = [queue.name for queue in cluster.queues] or [""]
    return tuple(
        place for place, name in enumerate(names) if cluster.placement is None or worker in cluster.placement[name]
    )
