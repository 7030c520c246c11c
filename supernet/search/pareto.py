"""Pareto dominance in two objectives. Points are (cost, error), both to be minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def front(points: npt.NDArray[np.float64]) -> list[int]:
    """Return the points (indices) of the Pareto front, by cost; of equal ones, the first.

    Args:
        points: Shape (points, 2).

    Examples:
        >>> front(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [1.0, 2.0]]))
        [1, 0]
    """
    indices: list[int] = []
    best_error = np.inf
    for index in np.lexsort((points[:, 1], points[:, 0])).tolist():
        if points[index, 1] < best_error:
            indices.append(index)
            best_error = points[index, 1]
    return indices


def nondomination_ranks(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the front of each point: 0 if none dominates it, 1 if only points of front 0 do, ...

    Examples:
        >>> nondomination_ranks(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [3.0, 3.0]])).tolist()
        [0, 0, 1, 2]
    """
    fronts = np.zeros(len(points), np.int64)
    last: list[float] = []  # the least error in each front so far, by rising cost
    previous, place = None, 0
    for index in np.lexsort((points[:, 1], points[:, 0])).tolist():
        error = float(points[index, 1])
        if previous is None or (points[index] != points[previous]).any():
            place = next((n for n, lowest in enumerate(last) if error < lowest), len(last))
            last[place : place + 1] = [error]
        fronts[index], previous = place, index
    return fronts


def crowding_distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the crowding distance of each point of one front: the normalised distances of its neighbours, summed.

    Deb et al., IEEE Transactions on Evolutionary Computation 6 (2002), section III.B. Infinite at the ends.
    """
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        width = column[order[-1]] - column[order[0]] or 1.0
        distances[order[[0, -1]]] = np.inf
        distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / width
    return distances


def hypervolume(points: npt.NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Return the area dominated by points, up to a reference point that is worse in both objectives.

    Examples:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0], [9.0, 0.0]]), (3.0, 3.0))
        3.0
    """
    inside = points[(points < reference).all(axis=1)]
    best = inside[front(inside)]
    ends = np.append(best[1:, 0], reference[0])
    return float(((ends - best[:, 0]) * (reference[1] - best[:, 1])).sum())


def evenly_spaced(points: npt.NDArray[np.float64], count: int) -> list[int]:
    """Return points (indices) of a front, evenly spaced along it from end to end; all, if there are fewer.

    Args:
        points: A front, by cost.
        count: The number of points, 2 or more.
    """
    if len(points) <= count:
        return list(range(len(points)))
    width = np.ptp(points, axis=0)
    steps = np.hypot(*(np.diff(points, axis=0) / np.where(width > 0, width, 1)).T)
    place = np.concatenate([[0], steps.cumsum()])
    chosen: list[int] = []
    for number, target in enumerate(np.linspace(0, place[-1], count).tolist()):
        free = range(chosen[-1] + 1 if chosen else 0, len(points) - (count - number) + 1)
        chosen.append(min(free, key=lambda index: abs(place[index] - target)))
    return chosen
