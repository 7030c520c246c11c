"""Experiments: what a file is made of, and what its runs share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

import sim.traces
from policies.checks import ask, static_view
from sim.base.errors import PolicyError, SpecError, SsimError, did_you_mean
from sim.base.units import ns_from_s
from sim.compiled.step_policy import ONE_TABLE, StepPolicy
from sim.engine.residence import Residence
from sim.engine.run_metrics import WHOLE_RUN
from sim.engines import simpy_only
from sim.tables.files import load_table, shipped_tables
from sim.tables.floor import accurate_part
from sim.traces.source import TraceSource
from sim.traces.trace import LATEST_NS
from ssim.files.plugins import Issue, Slot
from ssim.jobs.experiment.cluster_spec import TableSpec
from ssim.jobs.experiment.kinds import kind_places, kind_tables, table_issues
from ssim.jobs.experiment.placement import checked_memory
from ssim.jobs.experiment.planners import PLANNER, planner_issues
from ssim.jobs.experiment.planning import table_seen
from ssim.jobs.experiment.policies import POLICY, build_policy
from ssim.jobs.experiment.queues import asked_of, name_issues, policy_issues, queue_places, queues_of, source_of
from ssim.jobs.experiment.run import ExperimentParts, ExperimentRun
from ssim.jobs.experiment.spec import ExperimentSpec
from ssim.jobs.identity import stamp
from ssim.jobs.job import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.engine.run_metrics import Measure
    from sim.tables.latency import LatencyTable
    from ssim.files.yaml_file import YamlFile
    from ssim.jobs.job import Plugs, Point

TRACE = Slot(("trace",), "trace kind", sim.traces.SHORT_NAMES, TraceSource)


class _TableSlot(Slot):
    """The place where a latency table is named."""

    def build(self, value: Mapping[str, Any], folder: Path) -> tuple[Any, list[Issue]]:
        """Return the table: a shipped one, or a file relative to the experiment; or what is wrong."""
        try:
            asked = TableSpec.model_validate(value)
        except ValidationError:
            return None, []  # the model tells
        shipped = asked.use in shipped_tables()
        name = asked.use if shipped or not (folder / asked.use).suffix else folder / asked.use
        changed = stamp(name) if isinstance(name, Path) and name.exists() else (0, 0)
        try:
            where = tuple((column, str(text)) for column, text in asked.where.items())
            return _table(name, asked.max_batch, asked.stages, where, changed), []
        except SsimError as error:
            return None, [Issue((), str(error))]


@lru_cache(maxsize=8)
def _table(
    name: str | Path,
    max_batch: int | None,
    stages: tuple[str, ...] | None,
    where: tuple[tuple[str, str], ...],
    _changed: tuple[int, int],
) -> LatencyTable:
    return load_table(name, max_batch, stages, dict(where))


def assemble(point: Point, plugs: Plugs, _file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what the runs of a point share, and what does not fit although each part is right."""
    spec: ExperimentSpec = point.spec
    labels = [policy.label for policy in spec.policies]
    twice = [i for i, label in enumerate(labels) if label in labels[:i]]
    issues = [Issue(("policies", i), "duplicate policy", labels[i], "list each policy once") for i in twice]
    issues += _reference_issues(spec)
    source, wrong = source_of(spec, plugs)
    issues += wrong
    if source is None:
        return None, issues
    try:
        missing = [path for path in source.inputs() if not path.is_file()]
    except SsimError as error:
        issues.append(Issue(("trace",), str(error)))
    else:
        hint = "a path relative to this file"
        issues += [Issue(("trace",), "file not found", str(path), hint) for path in missing]
    if wrong := table_issues(spec):
        return None, issues + wrong
    table: LatencyTable = plugs[next(iter(spec.named_tables()))]
    cluster, wrong = _cluster(spec, table, plugs)
    issues += wrong
    if cluster is None:
        return None, issues
    issues += name_issues(spec, source, point.folder)
    issues += policy_issues(spec)
    for i in range(len(spec.policies)):
        issues += _policy_issues(point, plugs, i, table, cluster)
    issues += planner_issues(spec, plugs.get(("planner",)), cluster, _policies(point, plugs), table)
    measure = WHOLE_RUN if spec.measure is None else spec.measure.build()
    issues += _measure_issues(measure, source)
    if spec.engine == "compiled" and (only := simpy_only(cluster)):
        issues.append(Issue(("engine",), "the compiled engine can't run this", only, "engine: auto or simpy"))
    return ExperimentParts(source, cluster, table, measure), issues


def _policy_issues(point: Point, plugs: Plugs, number: int, table: LatencyTable, cluster: Cluster) -> Iterator[Issue]:
    """Yield what is wrong with a policy of the file, or with that of a queue in its place."""
    spec: ExperimentSpec = point.spec
    if not spec.queues:
        seen, wrong = _seen(spec, number, [*_common_tables(spec, table, cluster)], cluster)
        yield from wrong
        yield from (issue.under("policies", number) for issue in _tried(plugs["policies", number], seen))
        return
    for place, queue in enumerate(spec.queues):
        own = [(each, plugs[each]) for each in queue_places(spec, place)]
        seen, wrong = _seen(spec, number, own or [*_common_tables(spec, table, cluster)], cluster, place)
        yield from wrong
        at: tuple[str | int, ...] = ("policies", number)
        try:
            policy = build_policy(asked_of(spec, number, place), point.folder)
        except SpecError as error:
            yield Issue(("queues", place, "params"), f"does not fit {spec.policies[number].label}", str(error))
            continue
        if queue.policy is not None or queue.params:
            at = ("queues", place, "params" if queue.policy is None else "policy")
        if queue.floor is not None:
            seen = [accurate_part(each, queue.floor) for each in seen]
        yield from (issue.under(*at) for issue in _tried(policy, seen))


def _policies(point: Point, plugs: Plugs) -> Iterator[list[Policy]]:
    """Yield the policies of all queues for each policy of the file, where they can be built."""
    spec: ExperimentSpec = point.spec
    for number in range(len(spec.policies)):
        if not spec.queues:
            yield [plugs["policies", number]]
            continue
        with suppress(SpecError):  # told of already
            yield [build_policy(asked_of(spec, number, place), point.folder) for place in range(len(spec.queues))]


def _common_tables(
    spec: ExperimentSpec, table: LatencyTable, cluster: Cluster
) -> Iterator[tuple[tuple[str | int, ...], LatencyTable]]:
    """Yield the tables that queues without one of their own have, each with where it is named."""
    for place, one in ((("latency_table",), table), *kind_places(cluster)):
        if one is not None and (place != ("latency_table",) or spec.latency_table is not None):
            yield place, one


def _seen(
    spec: ExperimentSpec,
    number: int,
    tables: Sequence[tuple[tuple[str | int, ...], LatencyTable]],
    cluster: Cluster,
    queue: int | None = None,
) -> tuple[list[LatencyTable], list[Issue]]:
    """Return the tables that a policy sees, and what is wrong with what it plans on."""
    own = spec.policies[number].plan is not None
    seen: list[LatencyTable] = []
    issues: list[Issue] = []
    for place, one in tables:
        try:
            seen.append(table_seen(one, spec.plan_at(place, number, queue), cluster.latency))
        except SsimError as error:
            issues.append(Issue(("policies", number, "plan") if own else (*place, "plan"), str(error)))
    return seen, issues


def _cluster(spec: ExperimentSpec, table: LatencyTable, plugs: Plugs) -> tuple[Cluster | None, list[Issue]]:
    """Return the cluster, or None where nothing can be tried with it, and what is wrong with it.

    Args:
        spec: The file.
        table: The table of the runs.
        plugs: The tables of kinds of workers and of queues, by where they are named.
    """
    try:
        cluster = spec.cluster.build(kind_tables(spec, plugs), queues_of(spec, plugs))
        pools = cluster.pools_by_queue(table)
    except SsimError as error:
        return None, [_cluster_issue(spec, error)]
    checks = {
        "actuation_ms": cluster.actuation_delays,
        "dispatch_per_query_ms": cluster.served,
        "latency": cluster.least_ns,
    }
    issues: list[Issue] = []
    for key, check in checks.items():
        try:
            for pool in (pool for of_queue in pools for pool in of_queue):
                check(pool.table)
        except SsimError as error:
            issues.append(Issue(("cluster", key), str(error)))
    try:
        Residence(checked_memory(spec, cluster, table), pools)
    except SpecError as error:
        issues.append(_cluster_issue(spec, error))
    except SsimError as error:
        issues.append(Issue(("cluster", "memory_gb"), str(error)))
    return (None if any("latency" in issue.place for issue in issues) else cluster), issues


def _cluster_issue(spec: ExperimentSpec, error: SsimError) -> Issue:
    """Return an error about workers or queues at its place in the file."""
    place, _, rest = error.location.partition(",")
    keys = _keys(place.removeprefix("cluster.").replace("_ns", "_ms"))
    named = spec.queues if keys == ["queues"] else spec.cluster.kinds if keys == ["kinds"] else ()
    names = [repr(one.name) for one in named]
    if rest.strip() in names:
        keys.append(names.index(rest.strip()))
    prefix = () if keys[0] == "queues" else ("cluster",)
    return Issue((*prefix, *keys), str(error).removeprefix(place).lstrip(":, "))


def _keys(location: str) -> list[str | int]:
    """Return the place in the file that a location with dots means."""
    return [int(key) if key.isdigit() else key for key in location.split(".")]


def _measure_issues(measure: Measure, source: TraceSource) -> Iterator[Issue]:
    """Yield what is wrong with the part to measure, as far as that is known without the trace."""
    seconds = getattr(source, "duration_s", None)
    duration_ns = ns_from_s(seconds) if isinstance(seconds, int | float) and seconds > 0 else None
    try:
        measure.check(LATEST_NS if duration_ns is None else duration_ns)
    except SpecError as error:
        hint = "" if duration_ns is None else error.hint
        yield Issue(tuple(error.location.split(".")), error.problem, error.value, hint)


def _reference_issues(spec: ExperimentSpec) -> Iterator[Issue]:
    """Yield what is wrong with the policy that the others are compared with."""
    found, labels = spec.references(), [policy.label for policy in spec.policies]
    if not found:
        hint = did_you_mean(str(spec.reference), labels)
        yield Issue(("reference",), "is not a policy of this file", repr(spec.reference), hint)
    elif len(found) > 1:
        yield Issue(("reference",), "means several policies", repr(spec.reference), f"one of: {', '.join(found)}")


def _tried(policy: Policy, tables: Sequence[LatencyTable]) -> Iterator[Issue]:
    """Yield what is wrong with a policy that is asked once for each table."""
    if isinstance(policy, StepPolicy) and len(tables) > 1:
        yield Issue((), ONE_TABLE, "", "give all kinds the same table, or write `decide` in place of `step`")
        return
    for table in tables:
        view = static_view(table, slack_ns=int(table.latency_ns.max()))
        try:
            ask(policy, view)
        except PolicyError as error:
            yield Issue.of(error)
            return


def runs(point: Point, seed: int) -> Iterator[ExperimentRun]:
    """Yield the runs of a point that have a seed, one for each policy: neighbours share a trace.

    Seeds after the first have no run of a policy whose result does not depend on the seed.
    """
    for number in range(len(point.spec.policies)):
        run = ExperimentRun(point, seed, number)
        if seed == point.spec.seed or run.is_random:
            yield run


KIND = Kind(
    model=ExperimentSpec,
    slots=(
        TRACE,
        _TableSlot(("latency_table",), "latency table", {}, None, "use"),
        _TableSlot(("cluster", "kinds", "*", "table"), "latency table", {}, None, "use"),
        _TableSlot(("queues", "*", "latency_table"), "latency table", {}, None, "use"),
        _TableSlot(("queues", "*", "tables", "*", "table"), "latency table", {}, None, "use"),
        POLICY,
        replace(TRACE, place=("queues", "*", "trace")),
        replace(POLICY, place=("queues", "*", "policy")),
        PLANNER,
    ),
    assemble=assemble,
    runs=runs,
    short={
        "latency_table": "use",
        "cluster.latency": "law",
        "cluster.kinds.table": "use",
        "queues.latency_table": "use",
        "queues.tables.table": "use",
    },
    not_swept=frozenset({"engine", "keep", "reference", "capacity", "live"}),
)
