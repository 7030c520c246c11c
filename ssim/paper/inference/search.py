"""The search: every setting is simulated on the traces that the statements need, and stored under what decided it.

A stored setting is read again; one of older code, other experiment files or other lengths has another name and is
computed anew. So a search that was interrupted goes on. The compiled engine is called directly: a policy is tabulated
once for a setting, and arrivals are drawn once for all.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from threading import Lock
from typing import TYPE_CHECKING, Any

from policies.clipper import Clipper
from policies.maxacc import MaxAcc
from policies.maxbatch import MaxBatch
from sim.base.errors import SpecError
from sim.base.units import NS_PER_S, ns_from_ms
from sim.base.whole_file import write_text
from sim.compiled.tabulate import tabulate
from sim.engine import metrics
from sim.engine.cluster import Cluster
from sim.engines import NO_NUMBA, numba_is_installed
from sim.tables.files import load_table, shipped_tables
from sim.tables.law import planned
from sim.traces.synthetic import Constant
from ssim.jobs.identity import code_of, hash_of, own_hash
from ssim.jobs.reading import read_job
from ssim.paper.inference.evidence import CHOSEN, CLIPPERS, Evidence, SearchedRun, clipper
from ssim.paper.inference.region import Searched, SearchPoint
from ssim.paper.inference.statements import STATEMENTS
from ssim.paper.inference.variants import AllThatWait, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from sim.compiled.tabulate import DecisionTable
    from sim.engine.policy import Policy
    from sim.engine.run_metrics import RunMetrics
    from sim.tables.latency import LatencyTable
    from sim.traces.source import TraceSource
    from sim.traces.trace import Trace
    from ssim.paper.inference.space import Choices

FULL: dict[str, tuple[str, ...]] = {
    "azure_ideal": (),
    "bursty": (),
    "time_varying": (),
    "faults": (),
    "fixed_subnets": (),
    "dynamics_bursty": (),
    "dynamics_time_varying": (),
}
"""The experiments that are simulated, as their files are: of what is reported."""

SHORT = FULL | {
    "bursty": ("trace.duration_s=20",),
    "time_varying": ("trace.duration_s=60", "trace.ramp_start_s=30"),
    "fixed_subnets": ("trace.duration_s=60",),
    "dynamics_bursty": ("trace.duration_s=30",),
    "dynamics_time_varying": ("trace.duration_s=60", "trace.ramp_start_s=30"),
}
"""Of the search: where the paper does not state the length of a run, it is shorter."""

QUICK = SHORT | {
    "azure_ideal": ("trace.duration_s=20",),
    "bursty": ("trace.duration_s=8",),
    "time_varying": ("trace.duration_s=24", "trace.ramp_start_s=12"),
    "fixed_subnets": ("trace.duration_s=20",),
    "dynamics_bursty": ("trace.duration_s=8",),
    "dynamics_time_varying": ("trace.duration_s=40", "trace.ramp_start_s=20"),
}
"""Of the coarse search."""

_CAPACITY_S, _CAPACITY_PRECISION, _CAPACITY_TARGET = 5.0, 0.005, 0.999


@dataclass(frozen=True)
class SearchTrace:
    """One trace of an experiment."""

    experiment: str
    at: tuple[tuple[str, float], ...]
    seed: int
    source: TraceSource
    cluster: Cluster

    def baselines(self, setting: Choices) -> dict[str, Policy]:
        """Return the policies that statements compare with on this trace, by label."""
        kind = AllThatWait if setting.clipper == "all" else Clipper
        single: dict[str, Policy] = {clipper(name): kind(float(name)) for name in CLIPPERS}
        at = dict(self.at)
        if self.experiment == "time_varying":
            asked = at["trace.end_qps"] == 6800 or at["trace.acceleration_qps2"] == 250  # noqa: PLR2004 - Figure 10
            return {clipper("79.44"): single[clipper("79.44")]} if asked else {}
        if self.experiment == "bursty" and at["trace.variant_qps"] == 5550:  # noqa: PLR2004 - Figure 11c
            return single | {"maxbatch": MaxBatch(), "maxacc": MaxAcc()}
        return single if self.experiment in {"azure_ideal", "fixed_subnets", "bursty"} else {}


def trials(experiments: Path, lengths: Mapping[str, tuple[str, ...]], repeats: int) -> list[SearchTrace]:
    """Return the traces of all experiments, seed by seed.

    Raises:
        SpecError: An experiment file is missing or wrong.
    """
    found: dict[tuple[Any, ...], SearchTrace] = {}
    for name, overrides in lengths.items():
        for run in read_job(experiments / f"{name}.yaml", (f"repeats={repeats}", *overrides), "experiment/1").runs:
            at = tuple(sorted(run.swept.items()))
            found.setdefault((name, at, run.seed), SearchTrace(name, at, run.seed, run.parts.source, run.parts.cluster))
    return sorted(found.values(), key=lambda trial: trial.seed)


@dataclass(slots=True)
class Search:
    """Simulates settings and stores what came out.

    Attributes:
        folder: Where it is stored.
        trials: The traces.
        experiments: The folder of experiment files, where tables are looked for.
        jobs: How many settings at once.
    """

    folder: Path
    trials: Sequence[SearchTrace]
    experiments: Path
    jobs: int = 1
    _traces: dict[Any, Trace] = field(default_factory=dict[Any, "Trace"], repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        if not numba_is_installed():
            raise SpecError("the search", "needs the compiled engine", NO_NUMBA, "pip install 'superserve-sim[fast]'")

    def run(
        self, wanted: Mapping[Choices, Iterable[str]], on_done: Callable[[int, int], None] = lambda _done, _all: None
    ) -> None:
        """Simulate what is not stored of some settings, seed by seed.

        Args:
            wanted: The settings, each with the labels of what the scheduler does in it.
            on_done: Told after each how many are done, and of how many.
        """
        seeds = list(dict.fromkeys(trial.seed for trial in self.trials))
        total, done = len(seeds) * len(wanted), 0
        for seed in seeds:
            self._traces.clear()
            with ThreadPoolExecutor(self.jobs) as pool:
                for _ in pool.map(self._store, wanted, map(tuple, wanted.values()), repeat(seed)):
                    done += 1
                    on_done(done, total)

    def evidence(self, point: SearchPoint) -> Evidence:
        """Return what came out at a point, over all seeds; it has been simulated."""
        rows: list[SearchedRun] = []
        capacity: dict[str, float] = {}
        for seed in dict.fromkeys(trial.seed for trial in self.trials):
            stored = json.loads(self._path(point.setting, seed, point.scheduler).read_text(encoding="utf-8"))
            capacity = stored["capacity"]
            rows += [_row(each) for each in stored["rows"]]
        return Evidence(rows, capacity)

    def searched(self, point: SearchPoint) -> Searched:
        """Return the statements at a point, which has been simulated."""
        evidence = self.evidence(point)
        values, distances = zip(*(statement.measure(evidence) for statement in STATEMENTS), strict=True)
        return Searched(point, values, distances)

    def _path(self, setting: Choices, seed: int, scheduler: str) -> Path:
        """Return the file of a point and a seed: its name is the hash of all that decided it."""
        code = own_hash((*code_of("sim", "policies"), *_own_files()))
        traces = [[trial.experiment, trial.at, repr(trial.source), repr(trial.cluster)] for trial in self.trials]
        return self.folder / f"{hash_of([code, traces, asdict(setting), seed, scheduler])[:20]}.json"

    def _store(self, setting: Choices, schedulers: Sequence[str], seed: int) -> None:
        missing = [label for label in schedulers if not self._path(setting, seed, label).is_file()]
        if not missing:
            return
        table = load_table(setting.table if setting.table in shipped_tables() else self.experiments / setting.table)
        chosen = {label: policy for label, policy in setting.schedulers().items() if label in missing}
        simulated = _Simulated(setting, table, self._trace)
        common: list[SearchedRun] = []
        rows: dict[str, list[SearchedRun]] = {label: [] for label in missing}
        for trial in (trial for trial in self.trials if trial.seed == seed):
            common += [simulated.row(trial, label, policy) for label, policy in trial.baselines(setting).items()]
            if trial.experiment != "fixed_subnets":
                for label, policy in chosen.items():
                    rows[label].append(simulated.row(trial, label, policy)._replace(policy=CHOSEN))
        capacity = {clipper(name): simulated.capacity(name) for name in ("73.82", "80.16")}
        for label in missing:
            text = json.dumps({"setting": asdict(setting), "scheduler": label, "seed": seed, "capacity": capacity})
            packed = json.dumps([_packed(row) for row in (*common, *rows[label])])
            write_text(self._path(setting, seed, label), f'{text[:-1]}, "rows": {packed}}}\n')

    def _trace(self, trial: SearchTrace, setting: Choices) -> Trace:
        source = source_of(trial.source, setting, trial.experiment)
        key = repr(source)
        with self._lock:
            if key not in self._traces:
                self._traces[key] = source.trace(trial.seed)
            return self._traces[key]


class _Simulated:
    """The runs of one setting; a policy is tabulated once for all traces that it can be used on."""

    def __init__(self, setting: Choices, table: LatencyTable, trace: Callable[[SearchTrace, Choices], Trace]) -> None:
        self._setting, self._trace = setting, trace
        self._table = planned(table, setting.plan, setting.latency)
        self._rules: dict[Any, DecisionTable] = {}

    def row(self, trial: SearchTrace, label: str, policy: Policy) -> SearchedRun:
        """Return one run."""
        trace = self._trace(trial, self._setting)
        run = self._counted(trace, trial.cluster, label, policy, trial.seed)
        numbers = metrics.slo_attainment(run), metrics.mean_serving_accuracy(run)
        windows = metrics.windows(run)["serving_accuracy"].tolist() if trial.experiment.startswith("dynamics") else ()
        return SearchedRun(trial.experiment, trial.at, label, trial.seed, *numbers, tuple(windows))

    def capacity(self, accuracy: str) -> float:
        """Return the highest rate of evenly spaced arrivals that a subnet sustains on eight workers; 0 for none."""
        label, policy = clipper(accuracy), Clipper(float(accuracy))
        cluster = Cluster(8)

        def holds(step: int) -> bool:
            rate = 100 * (1 + _CAPACITY_PRECISION) ** step
            trace = Constant(mean_qps=rate, duration_s=_CAPACITY_S, slo_ms=36).trace(0)
            return metrics.slo_attainment(self._counted(trace, cluster, label, policy, 0)) >= _CAPACITY_TARGET

        low, high = -1, math.ceil(math.log(400) / math.log1p(_CAPACITY_PRECISION))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return 100 * (1 + _CAPACITY_PRECISION) ** low if low >= 0 else 0.0

    def _counted(self, trace: Trace, base: Cluster, label: str, policy: Policy, seed: int) -> RunMetrics:
        from sim.compiled.replay import replay_counted

        setting = self._setting
        cluster = replace(
            base,
            dispatch_ns=ns_from_ms(setting.dispatch_ms),
            dispatch_per_query_ns=ns_from_ms(setting.per_query_ms),
            network_ns=ns_from_ms(setting.network_ms),
            drop=setting.drop,
            latency=setting.latency,
        )
        slo_ns = int(trace.slo_ns) - cluster.network_ns
        # Where workers fail, a policy that counts them is told of all: its decision table can't change under way.
        key = (label, cluster.workers, slo_ns) if label.startswith("queuefit") else label
        if key not in self._rules:
            served = cluster.served(self._table)
            self._rules[key] = tabulate(policy, served, cluster.dispatch_ns, cluster.workers, slo_ns)
        return replay_counted(trace, cluster, self._table, self._rules[key], NS_PER_S, seed=seed)


def _own_files() -> tuple[Path, ...]:
    """Return the files of this package that decide what is stored."""
    return tuple(path for path in code_of("ssim") if path.parent.name == "inference" and path.stem in _DECIDING)


_DECIDING = {"space", "search", "variants"}


def _packed(row: SearchedRun) -> list[Any]:
    numbers = [None if math.isnan(value) else value for value in (row.attainment, row.accuracy)]
    windows = [None if math.isnan(value) else round(value, 4) for value in row.windows]
    return [row.experiment, dict(row.at), row.policy, row.seed, *numbers, windows]


def _row(packed: Sequence[Any]) -> SearchedRun:
    experiment, at, policy, seed, *numbers, windows = packed
    attainment, accuracy = (math.nan if value is None else value for value in numbers)
    seen = tuple(math.nan if value is None else value for value in windows)
    return SearchedRun(experiment, tuple(sorted(at.items())), policy, seed, attainment, accuracy, seen)
