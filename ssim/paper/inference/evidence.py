"""What was simulated at one point of the space, in the numbers that statements and claims need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.base.errors import StoreError
from ssim.jobs.experiment.comparison import Side
from ssim.results.reading import Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHOSEN = "slackfit"
"""The label of what the scheduler does at a point, whichever policy it is: claims ask for SlackFit."""

CLIPPERS = ("73.82", "76.69", "77.64", "78.25", "79.44", "80.16")


def clipper(accuracy: str) -> str:
    """Return the label of Clipper+ at an accuracy."""
    return f"clipper(accuracy={accuracy})"


class SearchedRun(NamedTuple):
    """One run.

    Attributes:
        experiment: The name of its experiment.
        at: What is swept, by dotted key.
        policy: Its label.
        seed: Its seed.
        attainment: SLO attainment.
        accuracy: Mean serving accuracy in percent; NaN where no query met its SLO.
        windows: Serving accuracy in windows of 1 s, where it is needed.
    """

    experiment: str
    at: tuple[tuple[str, float], ...]
    policy: str
    seed: int
    attainment: float
    accuracy: float
    windows: tuple[float, ...] = ()


@dataclass(slots=True)
class Evidence:
    """The runs at one point, and the capacities of single subnets.

    Attributes:
        rows: The runs.
        capacity: Queries per second that a single subnet sustains, by the label of its policy.
    """

    rows: Sequence[SearchedRun]
    capacity: dict[str, float]
    _found: dict[tuple[Any, ...], list[SearchedRun]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._found = {}
        for row in self.rows:
            self._found.setdefault((row.experiment, row.policy, row.at), []).append(row)

    def runs(self, experiment: str, policy: str, **at: float) -> list[SearchedRun]:
        """Return the runs of a policy at a point of a sweep, one a seed.

        Args:
            experiment: The experiment.
            policy: The label of the policy.
            at: Parameters of the trace.
        """
        return self._found[experiment, policy, tuple(sorted((f"trace.{key}", value) for key, value in at.items()))]

    def attainment(self, experiment: str, policy: str, **at: float) -> float:
        """Return the mean SLO attainment over seeds; arguments as in `runs`."""
        found = [row.attainment for row in self.runs(experiment, policy, **at)]
        return sum(found) / len(found)

    def accuracy(self, experiment: str, policy: str, **at: float) -> float:
        """Return the mean serving accuracy over seeds; arguments as in `runs`."""
        found = [row.accuracy for row in self.runs(experiment, policy, **at)]
        return sum(found) / len(found)

    def side(self, experiment: str, policy: str, **at: float) -> Side:
        """Return the runs of a policy for a comparison; arguments as in `runs`."""
        runs = self.runs(experiment, policy, **at)
        accuracies = {row.seed: row.accuracy for row in runs if row.accuracy == row.accuracy}
        return Side(policy, {row.seed: row.attainment for row in runs}, accuracies)

    def baselines(self, experiment: str, **at: float) -> list[Side]:
        """Return the six single subnets for a comparison; arguments as in `runs`."""
        return [self.side(experiment, clipper(name), **at) for name in CLIPPERS]


class PointResults(Results):
    """The evidence at a point in the form of stored results, so that the claims' own judges read it."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(Path())
        self._evidence = evidence

    def _frame(self, experiment: str) -> Iterable[dict[str, Any]]:
        found = [row for row in self._evidence.rows if row.experiment == experiment]
        if not found:
            raise StoreError(experiment, "was not simulated", "", "it is not part of the search")
        for row in found:
            known = {"policy": row.policy, "seed": row.seed, "one_model": row.policy.startswith("clipper")}
            numbers = {"slo_attainment": row.attainment, "mean_serving_accuracy": row.accuracy}
            yield {**known, **numbers, **dict(row.at)}
            if row.policy == clipper("73.82"):  # without a threshold INFaaS serves the cheapest subnet, in the same way
                yield {**known, **numbers, **dict(row.at), "policy": "infaas", "one_model": True}

    def summary(self, name: str) -> pd.DataFrame:
        """Return one row a run, as `Results.summary`.

        Raises:
            StoreError: The experiment is not part of the search.
        """
        return pd.DataFrame(self._frame(name))

    def windows(self, name: str, **only: Any) -> pd.DataFrame:
        """Return runs over time, as `Results.windows`.

        Raises:
            StoreError: The experiment is not part of the search.
        """
        rows = [row for row in self._evidence.rows if row.experiment == name and row.policy == only.get("policy")]
        if not any(row.windows for row in rows):
            raise StoreError(name, "was not simulated", "", "it is not part of the search")
        return pd.DataFrame(
            {
                "policy": row.policy,
                "seed": row.seed,
                "start_s": float(second),
                "serving_accuracy": value,
                **dict(row.at),
            }
            for row in rows
            for second, value in enumerate(row.windows)
        )

    def capacities(self, name: str) -> pd.DataFrame:
        """Return the capacities of single subnets, as `Results.capacities`.

        Raises:
            StoreError: They are of another experiment.
        """
        if name != "capacity":
            raise StoreError(name, "was not simulated", "", "it is not part of the search")
        return pd.DataFrame({"policy": policy, "capacity": rate} for policy, rate in self._evidence.capacity.items())
