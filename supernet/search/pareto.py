"""What it means to be better in two respects at once. Points are (cost, error), both the smaller the better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def front(points: npt.NDArray[np.float64]) -> list[int]:
    """Return the points (indices) that no other dominates, by cost; of equal ones, the first.

    Args:
        points: Shape (points, 2).

    Example:
        >>> front(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [1.0, 2.0]]))
        [1, 0]
    """
    found: list[int] = []
    least = np.inf
    for index in np.lexsort((points[:, 1], points[:, 0])).tolist():
        if points[index, 1] < least:
            found.append(index)
            least = points[index, 1]
    return found


def ranks(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the front that each point is in: 0 for those that none dominates, 1 for those that only they do, ...

    Example:
        >>> ranks(np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [3.0, 3.0]])).tolist()
        [0, 0, 1, 2]
    """
    found = np.zeros(len(points), np.int64)
    last: list[float] = []  # the least error in each front so far, going from cheap to dear
    previous, place = None, 0
    for index in np.lexsort((points[:, 1], points[:, 0])).tolist():
        error = float(points[index, 1])
        if previous is None or (points[index] != points[previous]).any():
            place = next((n for n, least in enumerate(last) if error < least), len(last))
            last[place : place + 1] = [error]
        found[index], previous = place, index
    return found


def crowding(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much room each point of one front has: the summed distance of its neighbours, in shares of the whole.

    Deb et al., IEEE Transactions on Evolutionary Computation 6 (2002), section III.B. The ends have any room.
    """
    room = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        width = column[order[-1]] - column[order[0]] or 1.0
        room[order[[0, -1]]] = np.inf
        room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / width
    return room


def hypervolume(points: npt.NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Return the area that points dominate, up to a reference point that is worse in both respects.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0], [9.0, 0.0]]), (3.0, 3.0))
        3.0
    """
    inside = points[(points < reference).all(axis=1)]
    best = inside[front(inside)]
    ends = np.append(best[1:, 0], reference[0])
    return float(((ends - best[:, 0]) * (reference[1] - best[:, 1])).sum())


def spread(points: npt.NDArray[np.float64], count: int) -> list[int]:
    """Return so many points (indices) of a front, from end to end and evenly spaced along it; all, if there are fewer.

    Args:
        points: A front, by cost.
        count: How many, 2 or more.
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
