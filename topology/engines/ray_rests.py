"""Collects from all actors the workers of a run after a number of rounds, and stores the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topology.rests import store_rest

if TYPE_CHECKING:
    from collections.abc import Collection

    from topology.checkpoints import Checkpoints
    from topology.engines.ray_actor import RestedActor
    from topology.report import RunReport
    from topology.rests import RestedWorker


class RestCollector:
    """Collects the workers of a run.

    Args:
        checkpoints: When and where the run is stored; None for never.
        report: The report of the run.
    """

    def __init__(self, checkpoints: Checkpoints | None, report: RunReport) -> None:
        self._checkpoints, self._report = checkpoints, report
        self._rounds = 0  # after which the run is stored next
        self._missing = set[int]()
        self._workers: dict[str, RestedWorker] = {}

    def begin(self, actors: Collection[int]) -> int:
        """Begin if the run is to be stored; return after how many rounds, or 0.

        Args:
            actors: The numbers of those that run.
        """
        if self._checkpoints is None or not self._checkpoints.wanted:
            return 0
        self._rounds, self._checkpoints.wanted = self._checkpoints.wanted, 0
        self._missing, self._workers = set(actors), {}
        return self._rounds

    def take(self, actor: int, answer: RestedActor) -> None:
        """Take the workers of an actor; store the run if they were the last ones."""
        if self._checkpoints is not None and answer.refused:
            self._checkpoints.refused = answer.refused
        elif answer.rounds == self._rounds:
            self._workers |= answer.workers
            self.leave_out(actor)

    def leave_out(self, actor: int) -> None:
        """Wait no longer for an actor; store the run if it was the last one."""
        self._missing.discard(actor)
        if self._checkpoints is not None and self._rounds and not self._missing and self._workers:
            store_rest(self._checkpoints, self._report, self._rounds, self._workers)
            self._rounds = 0
