"""Runs of an experiment: a trace, a cluster, a latency table, a policy and a seed."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.base.errors import SsimError, raised, user_function
from sim.base.units import ns_from_ms
from sim.engine.run_metrics import WHOLE_RUN
from sim.engines import NO_NUMBA, WORTH_COMPILING, EngineChoice, choose, numba_is_installed, simpy_only
from sim.tables.law import FIXED
from sim.traces.merged import Merged
from ssim.jobs.experiment.arrivals import queries_ahead, trace_key_of, trace_of
from ssim.jobs.experiment.kinds import cluster_identity, cluster_seen, kind_places
from ssim.jobs.experiment.placement import search_identity
from ssim.jobs.experiment.planners import build_planner, planner_identity
from ssim.jobs.experiment.planning import table_hash, table_seen
from ssim.jobs.experiment.policies import build_policy, may_draw
from ssim.jobs.experiment.queues import asked_of, parts_of, queue_plans, queues_identity, queues_seen
from ssim.jobs.experiment.simulation import simulated
from ssim.jobs.experiment.spec import ExperimentSpec
from ssim.jobs.identity import described, hash_of, own_code, sha256, toolkit_hash
from ssim.jobs.job import Completion, Run, RunOutcome, Task
from ssim.results.environment import Stopwatch
from ssim.results.record import KEPT, put_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.run_metrics import Measure
    from sim.tables.latency import LatencyTable
    from sim.tables.law import PlanName
    from sim.traces.source import TraceSource
    from sim.traces.trace import Trace
    from ssim.jobs.experiment.spec import PolicySpec
    from ssim.jobs.job import AnyRun, ExecutionOptions, Point, Watch
    from ssim.results.store import Store


@dataclass(frozen=True)
class ExperimentParts:
    """What the runs of a point share; the table is that of the latencies that were measured."""

    source: TraceSource
    cluster: Cluster
    table: LatencyTable
    measure: Measure
    setups: dict[int, PolicySetup] = field(default_factory=dict[int, "PolicySetup"], compare=False)

    @property
    def slo_ns(self) -> int | None:
        """The SLO of all queries less the network's delay; None where there are several."""
        return ns_from_ms(self.source.slo_ms) - self.cluster.network_ns if self.source.has_one_slo else None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that decides a result."""
        cluster = cluster_identity(self.cluster, table_hash)
        if self.cluster.latency == FIXED:
            del cluster["latency"]
        else:
            cluster["latency"]["of"] = self.table.holds
        for name, default in (("dispatch_p99_over_median", None), ("occupancy", 1)):
            if cluster[name] == default:
                del cluster[name]
        source = self.source
        parts = source.parts if isinstance(source, Merged) else ()
        trace = {"merged": {name: described(part) for name, part in parts}} if parts else described(source)
        found = {"trace": trace, "cluster": cluster, "latency_table": table_hash(self.table)}
        found |= queues_identity(self.cluster, table_hash)
        return found if self.measure == WHOLE_RUN else {**found, "measure": asdict(self.measure)}


@dataclass(frozen=True)
class PolicySetup:
    """A policy of the file at a point of its sweep: what its runs share, whatever their seed.

    Attributes:
        point: The point.
        number: Which policy of the file it is.
    """

    point: Point
    number: int

    @property
    def spec(self) -> ExperimentSpec:
        """The file at its point."""
        found: ExperimentSpec = self.point.spec
        return found

    @property
    def parts(self) -> ExperimentParts:
        """What all runs of its point share."""
        found: ExperimentParts = self.point.parts
        return found

    @property
    def asked(self) -> PolicySpec:
        """The policy as the file names it."""
        return self.spec.policies[self.number]

    @cached_property
    def plan(self) -> PlanName | float | None:
        """The latencies that it plans on."""
        return self.spec.plan_at(("latency_table",), self.number)

    @cached_property
    def table(self) -> LatencyTable:
        """The table that it sees.

        Raises:
            DataError: The table that was measured lacks what it plans on.
        """
        return table_seen(self.parts.table, self.plan, self.parts.cluster.latency)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster with the tables that its policies see of each kind of workers and each queue.

        Raises:
            DataError: A table that was measured lacks what the policy plans on.
        """

        def seen(place: tuple[str | int, ...], table: LatencyTable, queue: int | None = None) -> LatencyTable:
            return table_seen(table, self.spec.plan_at(place, self.number, queue), self.parts.cluster.latency)

        return queues_seen(self.spec, cluster_seen(self.parts.cluster, seen), self.parts.table, seen)

    def policy(self) -> Policy:
        """Return a new policy object: one that remembers must begin with nothing."""
        return build_policy(self.asked, self.point.folder)

    def policies(self) -> Policy | dict[str, Policy]:
        """Return new policy objects, one for each queue by name; a single one without queues."""
        if not self.spec.queues:
            return self.policy()
        asked = {queue.name: asked_of(self.spec, self.number, place) for place, queue in enumerate(self.spec.queues)}
        return {name: build_policy(one, self.point.folder) for name, one in asked.items()}

    def planner(self) -> Planner | None:
        """Return a new planner object; None if the number of workers does not change."""
        asked = self.spec.planner
        return None if asked is None else build_planner(asked, self.point.folder)

    @cached_property
    def _policy(self) -> Policy:
        """A policy object that is looked at, and decides nothing."""
        return self.policy()

    @cached_property
    def _policies(self) -> list[Policy]:
        """The policies of all queues, likewise."""
        found = self.policies() if self.spec.queues else self._policy
        return list(found.values()) if isinstance(found, dict) else [found]

    @cached_property
    def _planner(self) -> Planner | None:
        """The planner, likewise."""
        return self.planner()

    @property
    def serves_one_model(self) -> bool:
        """Whether the policy is a system that serves one model whatever the load."""
        return bool(getattr(self._policy, "serves_one_model", False))

    @cached_property
    def is_random(self) -> bool:
        """Whether results may depend on the seed: by the trace, drawn latencies or the policy."""
        drawn = self.parts.source.is_random or self.parts.cluster.is_random
        own: tuple[Policy | Planner | None, ...] = (*self._policies, self._planner)
        return drawn or any(may_draw(one, self.point.folder) for one in own if one is not None)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides a result, but for the seed; inputs and code by their hashes."""
        return {
            **self.parts.identity,
            "policy": described(self._policy),
            **({} if self.plan is None else {"plan": self.plan}),
            **({"kind_plans": plans} if any(plans := self.kind_plans()) else {}),
            **self._queue_policies(),
            **planner_identity(self.spec.planner, self._planner),
            **search_identity(self.spec),
            "code": {"toolkit": toolkit_hash(), "own": sorted(sha256(path) for path in self.own_code())},
        }

    def own_code(self) -> set[Path]:
        """Return the files of a user's own code that its runs use."""
        own = (*parts_of(self.parts.source), self._policy, *self._policies, self._planner)
        return own_code(own, self.point.folder)

    def kind_plans(self) -> list[PlanName | float | None]:
        """Return what the policy plans on by kind of workers; None for the table's latencies."""
        return [self.spec.plan_at(place, self.number) for place in self._kind_places()]

    def _queue_policies(self) -> dict[str, Any]:
        """Return what decides the decisions in each queue; empty without queues."""
        if not self.spec.queues:
            return {}
        plans = queue_plans(self.spec, self.number, [("latency_table",), *self._kind_places()])
        return {"queue_policies": [described(policy) for policy in self._policies], "queue_plans": plans}

    def _kind_places(self) -> list[tuple[str | int, ...]]:
        return [place for place, _ in kind_places(self.parts.cluster)]


@dataclass(frozen=True)
class ExperimentRun(Run[ExperimentSpec, ExperimentParts]):
    """One run of an experiment.

    Attributes:
        number: Which policy of the file it is.
    """

    number: int

    @cached_property
    def setup(self) -> PolicySetup:
        """What the runs of its policy share at its point."""
        return self.parts.setups.setdefault(self.number, PolicySetup(self.point, self.number))

    @property
    def label(self) -> str:
        """The policy's name for tables and figures."""
        return self.setup.asked.label

    @property
    def is_random(self) -> bool:
        """Whether the result may depend on the seed."""
        return self.setup.is_random

    def row(self) -> dict[str, Any]:
        """Return the run's row in the index of the experiment."""
        more = {"policy": self.label, "trace": self.spec.trace_kind, "one_model": self.setup.serves_one_model}
        return {**super().row(), **more, "random": self.is_random, "reference": self.spec.references()[0]}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, inputs and code by their hashes: equal for equal runs, on any machine."""
        return {"schema": "run/1", "seed": self.seed, **self.setup.identity}

    def files(self) -> set[Path]:
        """Return the files that the run is made from and that are named relative to its folder, or lie below it."""
        folder = self.point.folder
        found = set[Path]()
        for trace, source in zip(self.spec.traces(), parts_of(self.parts.source), strict=True):
            given = trace.get("path") or ()
            paths = [given] if isinstance(given, str) else given
            absolute = [Path(each).expanduser().is_absolute() for each in paths]
            relative = bool(absolute) and not any(absolute)
            named = {Path(os.path.normpath(path)) for path in source.inputs()}
            found |= {path for path in named if relative or path.is_relative_to(folder)}
        for use in (table.use for table in self.spec.named_tables().values()):
            if not Path(use).is_absolute() and (folder / use).is_file():
                found.add(Path(os.path.normpath(folder / use)))
        return found | self.setup.own_code()

    def is_stored(self, store: Store) -> bool:
        """Return whether the run is stored, with as much of it as the file asks for."""
        return store.has(self.id, KEPT[self.spec.keep])

    @cached_property
    def trace_key(self) -> str:
        """What runs have in common that meet the same arrivals; holds for this machine and until a file changes."""
        return trace_key_of(self.spec, self.parts.source, self.seed, self.point.folder)

    def trace(self) -> Trace:
        """Return the trace of this seed.

        Raises:
            TooLongError: It is too long to be held.
        """
        return trace_of(self.trace_key, self.parts.source, self.seed, None)

    def choose(self, queries: int) -> EngineChoice:
        """Return the engine for this run, where so many queries are to be replayed in all.

        Raises:
            SpecError: The compiled engine was asked for and can't run this.
        """
        setup, slo_ns = self.setup, self.parts.slo_ns
        return choose(queries, setup.cluster, setup.table, setup.policies(), self.spec.engine, slo_ns)

    def decides_by(self) -> tuple[str, str]:
        """Return what decides the engine's choice and the form of the policy: all of it, and the least that can."""
        spec, parts, setup = self.spec, self.parts, self.setup
        cluster = spec.cluster.model_dump(include={"dispatch_ms", "dispatch_per_query_ms", "latency"})
        kinds = [[kind["name"], kind.get("table")] for kind in parts.identity["cluster"].get("kinds", ())]
        seen = [parts.identity["latency_table"], setup.plan, kinds, setup.kind_plans()]
        least = [spec.engine, setup.asked.model_dump(), seen, cluster, bool(spec.queues), spec.cluster.routing]
        least += [bool(parts.cluster.faults), parts.cluster.is_scaled, bool(simpy_only(parts.cluster))]
        if spec.queues:  # each may have a table, a policy and an SLO of its own
            least.append(setup.identity)
        return hash_of([*least, parts.cluster.workers, parts.slo_ns]), hash_of(least)

    @classmethod
    def tasks(
        cls, runs: Sequence[AnyRun], options: ExecutionOptions, *, ahead: int, shared: Path | None
    ) -> Iterator[Task | RunOutcome]:
        """Yield the runs with their engines; a policy is tabulated once for all runs that use it in the same way.

        Args:
            runs: The runs.
            options: Decides nothing here.
            ahead: In how many calls as many runs are to come: what is slow to start may pay for all.
            shared: A folder for traces that several processes need.
        """
        del options  # an engine takes neither a device nor threads
        own = [run for run in runs if isinstance(run, cls)]
        users = Counter(run.trace_key for run in own)
        turn = {key: number for number, key in enumerate(users)}
        queries = ahead * queries_ahead(own)
        known: dict[str, EngineChoice] = {}
        for run in sorted(own, key=lambda run: turn[run.trace_key]):  # points may have the same arrivals
            # Most policies decide alike whatever the number of workers and the SLO, some do not.
            wide, narrow = run.decides_by()
            choice = known.get(narrow) or known.get(wide)
            try:
                if choice is None:
                    choice = run.choose(queries)
                    known[narrow if choice.is_general else wide] = choice
            except SsimError as error:
                yield RunOutcome(run, error=error)
            else:
                compiled = choice.rule is not None
                yield Task(run, compiled, (choice, shared if not compiled and users[run.trace_key] > 1 else None))

    def is_worth_a_process(self) -> bool:
        """Return whether the run is so long that a process pays."""
        return queries_ahead([self]) >= WORTH_COMPILING

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Simulate the run and store its result.

        Args:
            store: Where the result goes.
            how: Its engine, and the folder of shared traces.
            watch: Not called: a run has no steps.

        Raises:
            SsimError: The run failed.
        """
        choice, shared = how
        if self.spec.engine == "auto" and choice.rule is not None and not numba_is_installed():
            choice = EngineChoice("simpy", NO_NUMBA)  # on another machine
        stopwatch = Stopwatch()
        measured, choice = simulated(self, choice, shared)
        circumstances = {"engine": choice.engine, "engine_reason": choice.reason, **stopwatch.circumstances()}
        put_run(store, self.id, measured, self.identity, circumstances, self.spec.keep)
        return Completion(measured.queries, choice.reason)

    def failed(self, error: BaseException) -> SsimError:
        """Return the error that tells an exception of a user's own code."""
        problem, place = raised(error)
        begin = user_function(getattr(type(parts_of(self.parts.source)[0]), "chunks", None))  # it may yield nonsense
        return SsimError(f"trace {self.spec.trace_kind}", problem, place or begin)
