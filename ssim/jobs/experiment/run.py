"""One run: a trace, a cluster, a table, a policy and a seed, as data that can be hashed, sent and built."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import policies
import sim
import sim.traces
from sim.base.errors import SpecError
from sim.base.units import ns_from_ms
from sim.engine.driver import simulate
from sim.engines import choose
from sim.tables.files import load_table, shipped_tables
from sim.traces.reading import sha256_of
from ssim.files.plugins import Fault, build, find_class, own_sources
from ssim.jobs.experiment.arrivals import stream_of, trace_of

if TYPE_CHECKING:
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.engine.run_metrics import RunMetrics
    from sim.engines import Engine, EngineChoice
    from sim.tables.latency import LatencyTable
    from sim.traces.source import TraceSource
    from sim.traces.trace import Trace
    from ssim.jobs.experiment.spec import ClusterSpec, PolicySpec, TableSpec
    from ssim.results.store import Keep


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        experiment: The experiment's name.
        seed: The seed of this repeat.
        trace: The trace as the file has it: `kind` and parameters.
        cluster: The cluster.
        table: The latency table.
        engine: The engine that was asked for; it decides nothing but the time that the run takes.
        keep: How much of it is stored.
        policy: The policy.
        folder: The folder of the experiment file, where files and modules are looked for.
        swept: The values of this point of the sweep, by dotted key.
    """

    experiment: str
    seed: int
    trace: dict[str, Any]
    cluster: ClusterSpec
    table: TableSpec
    engine: Engine
    keep: Keep
    policy: PolicySpec
    folder: Path
    swept: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """The policy's name for tables and figures."""
        return self.policy.label

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, inputs and code by their hashes: equal for equal runs, on any machine."""
        source, policy = self.build_source(), self.build_policy()
        inputs = [_sha256(path) for path in source.inputs()]
        trace = {name: value for name, value in _parameters(source).items() if not (inputs and name == "path")}
        return {
            "schema": "run/1",
            "seed": self.seed,
            "trace": {"kind": self.trace["kind"], **trace, "inputs": inputs},
            "cluster": self.cluster.model_dump(mode="json"),
            "latency_table": _table_hash(self.build_table()),
            "policy": {"use": self.policy.use, "params": _parameters(policy)},
            "code": {"toolkit": _toolkit_hash(), "own": sorted(_sha256(path) for path in self._own(source, policy))},
        }

    def files(self) -> set[Path]:
        """Return the files that the run is made from and that are named relative to its folder, or lie below it."""
        source = self.build_source()
        relative = not Path(self.trace.get("path") or self.folder).is_absolute()
        named = {Path(os.path.normpath(path)) for path in source.inputs()}
        found = {path for path in named if relative or path.is_relative_to(self.folder)}
        table = self.folder / self.table.use
        if not Path(self.table.use).is_absolute() and table.is_file():
            found.add(Path(os.path.normpath(table)))
        return found | self._own(source, self.build_policy())

    def _own(self, source: TraceSource, policy: Policy) -> set[Path]:
        """Return the files of one's own plug-ins; those of the toolkit are none, even if they lie below the folder."""
        own = own_sources(type(source), self.folder) | own_sources(type(policy), self.folder)
        return own.difference(toolkit_files())

    def build_cluster(self) -> Cluster:
        """Return the cluster."""
        return self.cluster.build()

    def build_table(self) -> LatencyTable:
        """Return the latency table."""
        return table_of(self.table, self.folder)

    def build_source(self) -> TraceSource:
        """Return the trace source."""
        source: TraceSource
        source, faults = source_of(self.trace, self.folder)
        _raise_first(faults)
        return source

    def build_trace(self, shared: Path | None = None) -> Trace:
        """Return the trace of this seed.

        Args:
            shared: A folder in which processes that need this trace find it, made by the first of them.

        Raises:
            TooLongError: It is too long to be held.
        """
        return trace_of(self.trace_key, self.build_source(), self.seed, shared)

    @cached_property
    def engine_key(self) -> str:
        """What runs of one experiment have in common that the same engine runs in the same way."""
        return _sha256_of([self.engine, self.policy.model_dump(), self.table.model_dump(), self.cluster.dispatch_ms])

    @cached_property
    def trace_key(self) -> str:
        """What runs have in common that meet the same arrivals; holds for this machine and until a file changes."""
        stamps = [_stamp(path) for path in self.build_source().inputs()]
        return _sha256_of([self.trace, self.seed, str(self.folder), stamps])

    def build_policy(self) -> Policy:
        """Return a new policy object."""
        policy: Policy
        policy, faults = policy_of(self.policy, self.folder)
        _raise_first(faults)
        return policy

    def choose(self, queries: int) -> EngineChoice:
        """Return the engine for this run, where so many queries are to be replayed in all.

        Raises:
            SpecError: The compiled engine was asked for and can't run this.
        """
        return choose(queries, self.build_cluster(), self.build_table(), self.build_policy(), self.engine)

    def execute(self, choice: EngineChoice, shared: Path | None = None) -> RunMetrics:
        """Return what came out of the simulation: counts where no more is kept and the engine can, else every query.

        Args:
            choice: The engine.
            shared: As in `build_trace`.
        """
        cluster, table = self.build_cluster(), self.build_table()
        if choice.rule is None:
            return simulate(self.build_trace(shared), cluster, table, self.build_policy(), seed=self.seed)
        from sim.compiled.replay import replay_compiled, replay_stream

        source = self.build_source()
        if self.keep in {"summary", "windows"} and source.has_one_slo:
            duration_ns, chunks = stream_of(self.trace_key, source, self.seed)
            return replay_stream(chunks, ns_from_ms(source.slo_ms), duration_ns, cluster, table, choice.rule)
        return replay_compiled(self.build_trace(shared), cluster, table, choice.rule)


def source_of(trace: dict[str, Any], folder: Path) -> tuple[Any, list[Fault]]:
    """Return the trace source that `kind` and parameters describe, or None and what is wrong with them."""
    kind = trace.get("kind")
    if not isinstance(kind, str):
        return None, [Fault(("kind",) if "kind" in trace else (), "a trace needs a kind", "", "such as kind: azure")]
    try:
        owner = find_class(kind, sim.traces.SHORT_NAMES, "trace kind", folder)
    except SpecError as error:
        return None, [Fault(("kind",), error.problem, error.value, error.hint)]
    source, faults = build(owner, {name: value for name, value in trace.items() if name != "kind"})
    return (source.located(folder) if source is not None else None), faults


def policy_of(policy: PolicySpec, folder: Path) -> tuple[Any, list[Fault]]:
    """Return the policy that a name and parameters describe, or None and what is wrong with them."""
    try:
        owner = find_class(policy.use, policies.SHORT_NAMES, "policy", folder)
    except SpecError as error:
        return None, [Fault(("use",), error.problem, error.value, error.hint)]
    built, faults = build(owner, policy.params)
    if built is not None and not callable(getattr(built, "decide", None)):
        return None, [
            Fault(("use",), f"{owner.__name__} has no method decide(view)", "", "see sim.engine.policy.Policy")
        ]
    return built, [fault.under("params") for fault in faults]


def table_of(table: TableSpec, folder: Path) -> LatencyTable:
    """Return a latency table: a shipped one, or a file relative to the experiment.

    Raises:
        SsimError: There is no such table, or the file breaks its rules.
    """
    shipped = table.use in shipped_tables()
    name = table.use if shipped or not (folder / table.use).suffix else folder / table.use
    stamp = _stamp(name) if isinstance(name, Path) and name.exists() else (0, 0)
    return _table(name, table.max_batch, table.stages, stamp)


@lru_cache(maxsize=8)
def _table(
    name: str | Path, max_batch: int | None, stages: tuple[str, ...] | None, _stamp: tuple[int, int]
) -> LatencyTable:
    return load_table(name, max_batch=max_batch, stages=stages)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells a changed file from an unchanged one, for what is kept in memory."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _raise_first(faults: list[Fault]) -> None:
    if faults:
        raise SpecError(".".join(map(str, faults[0].place)), faults[0].what, faults[0].value, faults[0].right)


def _parameters(plug: object) -> dict[str, Any]:
    """Return the parameters of a plug-in, defaults included."""
    given = (item for item in dataclasses.fields(plug) if item.init)  # type: ignore[arg-type]
    return {item.name: json.loads(json.dumps(getattr(plug, item.name), default=str)) for item in given}


@lru_cache(maxsize=1)
def toolkit_files() -> tuple[Path, ...]:
    """Return the simulator's and the policies' own code: a change of any of it may change a result."""
    rooms = [Path(room.__file__ or "").resolve().parent for room in (sim, policies)]
    bounds = rooms[0] / "bounds"  # no result is made of it
    return tuple(sorted(path for room in rooms for path in room.rglob("*.py") if not path.is_relative_to(bounds)))


@lru_cache(maxsize=1)
def _toolkit_hash() -> str:
    return _sha256_of([(path.parent.name, path.name, _sha256(path)) for path in toolkit_files()])


def _sha256(path: Path) -> str:
    return _sha256_of_stamped(path, _stamp(path))


@lru_cache(maxsize=256)
def _sha256_of_stamped(path: Path, _stamp: tuple[int, int]) -> str:
    return sha256_of(path)


def _sha256_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=8)
def _table_hash(table: LatencyTable) -> str:
    """Return the hash of all that a policy can see of a table."""
    grids = {"latency": table.dense_ns, "p99": table.p99_ns, **table.stages}
    numbers = {name: None if grid is None else grid.tolist() for name, grid in grids.items()}
    subnets = [dataclasses.asdict(subnet) for subnet in table.subnets]
    return _sha256_of([table.device, subnets, table.batch_sizes, table.latency_ns.tolist(), numbers])
