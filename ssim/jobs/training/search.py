"""Searches a trained supernet for the subnets that are worth serving, and measures them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.base.streams import stream
from sim.base.units import ms_from_ns
from sim.tables.accuracies import Accuracies
from sim.tables.files import load_table
from ssim.jobs.subnets import subnet_of
from supernet.search.nsga2 import Evaluated, Nsga2
from supernet.search.pareto import evenly_spaced
from supernet.search.predictor import MIN_SUBNETS, Predictor, PredictorScore, encode, score_predictor
from supernet.training.evaluation import accuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from ssim.jobs.job import ExecutionOptions
    from ssim.jobs.training.run import OnSubnet, TrainingRun
    from ssim.jobs.training.spec import LatencySpec
    from ssim.results.store import Store
    from supernet.data.source import Splits
    from supernet.network import Supernet
    from supernet.space import SubnetConfig, SubnetSpace
    from supernet.structure import ActiveConfig
    from supernet.training.evaluation import SubnetEvaluator

    Points = npt.NDArray[np.float64]
    Cost = Callable[[Sequence[SubnetConfig]], npt.NDArray[np.float64]]

_WHOLE = 100.0  # percent

_LISTED = 10_000
"""The control tuples whose networks are counted, which takes less than a second."""


@dataclass(frozen=True, slots=True)
class SubnetSearch:
    """What a search has found.

    Attributes:
        found: The accuracies of the subnets that are worth serving, on the test examples, by cost.
        measured: How many subnets were measured on the validation examples.
        trust: How well the accuracy was foreseen of measured subnets; None where nothing was foreseen.
    """

    found: Accuracies
    measured: int
    trust: PredictorScore | None


def search(run: TrainingRun, store: Store, options: ExecutionOptions, on_subnet: OnSubnet) -> SubnetSearch:
    """Search as the training file says, and store what is found. The caller holds the store.

    What is chosen is chosen by accuracies on the validation examples; those on the test examples are only reported.

    Args:
        run: Has been trained.
        store: The results of the job.
        options: Where it is computed.
        on_subnet: Called after each subnet that was measured.

    Raises:
        SsimError: It has not been trained, or something of it is damaged; or the costs can't be told.
    """
    asked, splits = run.spec.search, run.splits_on(options.device)
    trained = run.load(store).to(options.device)
    measuring = run.measuring(trained, splits)
    searcher = _Searcher(run, splits, measuring, _cost(run, measuring), on_subnet)
    if asked.predict and not _has_at_most(trained, asked.measured):
        known, how_well = searcher.with_predictor()
    else:
        population = min(asked.population, asked.measured)
        known, how_well = searcher.nsga2(searcher.measured, population).search(asked.measured, run.seed), None
    worth = known.front
    chosen = [worth.subnets[index] for index in evenly_spaced(worth.points, asked.subnets)]
    kept = run.load(store).to(options.device)  # without the running statistics of those that are not worth it
    rows = run.measured(kept, splits, chosen, on_subnet)
    found = Accuracies(tuple(rows), run.provenance | {"search": asked.model_dump_json()})
    run.save_found(store, kept, splits, found)
    return SubnetSearch(found, len(known.subnets), how_well)


@dataclass(frozen=True, slots=True, eq=False)
class _Searcher:
    run: TrainingRun
    splits: Splits
    measuring: SubnetEvaluator
    cost: Cost
    on_subnet: OnSubnet

    def measured(self, subnets: Sequence[SubnetConfig]) -> Points:
        """Return cost and error of subnets, calibrated, on the validation examples."""
        errors, measuring = list[float](), self.measuring
        for subnet in subnets:
            measuring.calibrate(subnet)
            errors.append(_WHOLE - accuracy(measuring.supernet, subnet, self.splits.validation, measuring.metric))
            self.on_subnet()
        return np.column_stack([self.cost(subnets), errors])

    def nsga2(self, evaluate: Callable[[Sequence[SubnetConfig]], Points], population: int) -> Nsga2:
        """Return the search of the supernet's space."""
        trained = self.measuring.supernet
        return Nsga2(trained.space, trained.active_config, evaluate, population)

    def with_predictor(self) -> tuple[Evaluated, PredictorScore]:
        """Return the subnets that were measured: a sample, then those that are foreseen from it to be the best."""
        asked, seed, trained = self.run.spec.search, self.run.seed, self.measuring.supernet
        rng = stream(seed, "sample")
        drawn = (
            self.space.smallest,
            self.space.largest,
            *(self.space.sample_stratified(rng) for _ in range(asked.measured - 2)),
        )
        sample = {trained.active_config(subnet): subnet for subnet in drawn}
        while len(sample) < MIN_SUBNETS:  # of a few networks, which have many control tuples, there are enough
            subnet = self.space.sample(rng)
            sample[trained.active_config(subnet)] = subnet
        subnets = list(sample.values())
        points, codes = self.measured(subnets), encode(trained, subnets)
        predictor = Predictor.fit(codes, points[:, 1])

        def foreseen(subnets: Sequence[SubnetConfig]) -> Points:
            return np.column_stack([self.cost(subnets), predictor.predict(encode(trained, subnets))])

        best = self.nsga2(foreseen, asked.population).search(asked.evaluations, seed).front
        chosen = (best.subnets[index] for index in evenly_spaced(best.points, asked.subnets))
        new = [subnet for subnet in chosen if trained.active_config(subnet) not in sample]
        if new:
            subnets, points = [*subnets, *new], np.concatenate([points, self.measured(new)])
        return Evaluated(tuple(subnets), points), score_predictor(codes, points[: len(codes), 1], seed)

    @property
    def space(self) -> SubnetSpace:
        """The subnets."""
        return self.measuring.supernet.space


def _has_at_most(trained: Supernet, count: int) -> bool:
    """Return whether a supernet has at most this many networks; several control tuples may stand for one."""
    space = trained.space
    if space.size <= count:
        return True
    return space.size <= _LISTED and len({trained.active_config(subnet) for subnet in space.enumerate()}) <= count


def _cost(run: TrainingRun, measuring: SubnetEvaluator) -> Cost:
    asked, costs = run.spec.search.latency, measuring.costs
    if asked is not None:
        return _Latency.of(asked, run, measuring.supernet)
    return lambda subnets: np.array([float(costs.macs(subnet)) for subnet in subnets])


@dataclass(frozen=True, slots=True, eq=False)
class _Latency:
    """The latency of subnets in ms: that of a table, and for subnets that are not in it, what it lets foresee."""

    trained: Supernet
    rows: dict[ActiveConfig, float]
    predictor: Predictor | None

    @classmethod
    def of(cls, asked: LatencySpec, run: TrainingRun, trained: Supernet) -> _Latency:
        """Return that of the table that a file names.

        Raises:
            SsimError: There is no such table, it ends below the batch size, or is of another supernet.
            DataError: A subnet of it has no control tuple.
        """
        path, space = run.point.folder / asked.table, trained.space
        table = load_table(path if path.suffix else asked.table)
        known: dict[ActiveConfig, tuple[SubnetConfig, float]] = {}
        for index, row in enumerate(table.subnets):
            subnet = subnet_of(row, space, asked.table)
            known[trained.active_config(subnet)] = subnet, ms_from_ns(table.latency(index, asked.batch))
        subnets, latencies = zip(*known.values(), strict=True)
        predictor = Predictor.fit(encode(trained, subnets), np.array(latencies)) if len(known) >= MIN_SUBNETS else None
        return cls(trained, dict(zip(known, latencies, strict=True)), predictor)

    def __call__(self, subnets: Sequence[SubnetConfig]) -> npt.NDArray[np.float64]:
        """Return the latencies of subnets.

        Raises:
            SpecError: One is not in the table, which has too few to foresee it.
        """
        found = np.array([self.rows.get(self.trained.active_config(subnet), np.nan) for subnet in subnets])
        unknown = np.flatnonzero(np.isnan(found)).tolist()
        if unknown and self.predictor is None:
            right = f"{MIN_SUBNETS} or more, or all that there are"
            raise SpecError(
                "search.latency", "too few subnets in the table to predict others", f"{len(self.rows)}", right
            )
        if unknown and self.predictor is not None:
            found[unknown] = self.predictor.predict(encode(self.trained, [subnets[index] for index in unknown]))
        return found
