"""Queues in an experiment file: their traces, their tables, their policies, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, SsimError, did_you_mean
from sim.base.units import ns_from_ms
from sim.engine.service_queue import ServiceQueue
from sim.tables.latency import LatencyTable
from sim.traces.merged import Merged
from ssim.files.plugins import Issue
from ssim.jobs.experiment.arrivals import trace_key_of, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sim.engine.cluster import Cluster
    from sim.traces.source import TraceSource
    from ssim.jobs.experiment.cluster_spec import Plan
    from ssim.jobs.experiment.spec import ExperimentSpec, PolicySpec

    Place = tuple[str | int, ...]


def source_of(spec: ExperimentSpec, plugs: Mapping[Place, Any]) -> tuple[TraceSource | None, list[Issue]]:
    """Return the source of the arrivals, that of the file or those of its queues, and what is wrong with its place."""
    issues: list[Issue] = []
    if spec.trace is not None or all(queue.trace is None for queue in spec.queues):
        if spec.trace is None:
            hint = "a trace of the file, or of each queue" if spec.queues else ""
            return None, [Issue(("trace",), "is missing", "", hint)]
        both = [number for number, queue in enumerate(spec.queues) if queue.trace is not None]
        problem, hint = "is given beside that of the file", "leave one out"
        issues += [Issue(("queues", number, "trace"), problem, "", hint) for number in both]
        return plugs["trace",], issues
    for number, queue in enumerate(spec.queues):
        if queue.trace is None:
            issues.append(Issue(("queues", number, "trace"), "is missing", queue.name, "other queues have their own"))
        elif queue.slo_ms is not None:
            place, given = ("queues", number, "slo_ms"), f"{queue.slo_ms:g}"
            issues.append(Issue(place, "is given beside that of the queue's trace", given, "leave it out"))
    if issues:
        return None, issues
    return Merged(parts=tuple((queue.name, plugs["queues", i, "trace"]) for i, queue in enumerate(spec.queues))), []


def parts_of(source: TraceSource) -> list[TraceSource]:
    """Return the sources that a source is made of."""
    return [part for _, part in source.parts] if isinstance(source, Merged) else [source]


def name_issues(spec: ExperimentSpec, source: TraceSource, folder: Path) -> Iterator[Issue]:
    """Yield what is wrong with the names of queues in a trace of the file; reads it if it has a column of classes."""
    if not spec.queues or spec.trace is None:
        return
    names = [queue.name for queue in spec.queues]
    if not source.has_classes:
        if len(names) > 1:
            hint = "a trace for each queue, or class: {column: ...} with a column that names the queue"
            yield Issue(("trace",), "does not say to which queue a query belongs", "", hint)
        return
    try:
        trace = trace_of(trace_key_of(spec, source, spec.seed, folder), source, spec.seed, None)
    except (SsimError, OSError):
        return  # the run tells
    for name in trace.class_names:
        if name not in names:
            yield Issue(("trace", "class"), "names an unknown queue", repr(name), did_you_mean(name, names))


def queues_of(spec: ExperimentSpec, plugs: Mapping[Place, Any]) -> tuple[ServiceQueue, ...]:
    """Return the queues, with the tables that were measured.

    Raises:
        SpecError: A queue has two tables for a kind of workers.
    """
    found = []
    for number, queue in enumerate(spec.queues):
        table: LatencyTable | dict[str, LatencyTable] | None = plugs.get(("queues", number, "latency_table"))
        if queue.tables:
            place, kinds = f"queues, {queue.name!r}", [one.kind for one in queue.tables]
            if table is not None:
                raise SpecError(place, "has both latency_table and tables", "", "leave one out")
            if twice := [kind for at, kind in enumerate(kinds) if kind in kinds[:at]]:
                raise SpecError(place, "has two tables for a kind of workers", repr(twice[0]), "leave one out")
            table = {kind: plugs["queues", number, "tables", at, "table"] for at, kind in enumerate(kinds)}
        slo_ns = None if queue.slo_ms is None else ns_from_ms(queue.slo_ms)
        numbers = (queue.weight, queue.priority, queue.floor, queue.bound)
        found.append(ServiceQueue(queue.name, slo_ns, *numbers, table, queue.own_weights))
    return tuple(found)


def policy_issues(spec: ExperimentSpec) -> Iterator[Issue]:
    """Yield which policies and parameters of the file would not be used."""
    own = [queue.policy is not None for queue in spec.queues]
    for number, queue in enumerate(spec.queues):
        if own[number] and queue.params:
            problem = "is not used: the queue has its own policy"
            yield Issue(("queues", number, "params"), problem, ", ".join(queue.params), "give it to that policy")
    if own and all(own):
        hint = "leave out the policy of a queue, which then has those of the file"
        yield Issue(("policies",), "is not used: every queue has its own policy", "", hint)


def asked_of(spec: ExperimentSpec, number: int, place: int) -> PolicySpec:
    """Return the policy of a queue in a run: its own, or that of the run with the parameters of the queue."""
    queue = spec.queues[place]
    if queue.policy is not None:
        return queue.policy
    asked = spec.policies[number]
    return asked.model_copy(update={"params": asked.params | queue.params})


def queue_places(spec: ExperimentSpec, place: int) -> list[Place]:
    """Return where the tables of a queue are named."""
    queue = spec.queues[place]
    if queue.latency_table is not None:
        return [("queues", place, "latency_table")]
    return [("queues", place, "tables", number, "table") for number in range(len(queue.tables))]


def queue_plans(spec: ExperimentSpec, number: int, common: list[Place]) -> list[list[Plan | None]]:
    """Return what the policies of all queues plan on, in the runs of a policy of the file.

    Args:
        spec: The file.
        number: The policy of the file.
        common: Where the tables of queues without their own are named.
    """
    places = [queue_places(spec, place) or common for place in range(len(spec.queues))]
    return [[spec.plan_at(one, number, place) for one in named] for place, named in enumerate(places)]


def queues_seen(
    spec: ExperimentSpec,
    cluster: Cluster,
    table: LatencyTable,
    seen: Callable[[Place, LatencyTable, int], LatencyTable],
) -> Cluster:
    """Return a cluster whose queues have the tables that their policies see.

    Args:
        spec: The file.
        cluster: The cluster with the tables that were measured.
        table: The table of the run, likewise.
        seen: Returns the table that the policy of a queue sees, from where it is named, the table and the queue.
    """
    found = []
    for place, queue in enumerate(cluster.queues):
        own = queue.table
        if isinstance(own, LatencyTable):
            own = seen(("queues", place, "latency_table"), own, place)
        elif own is not None:
            places = dict(zip([one.kind for one in spec.queues[place].tables], queue_places(spec, place), strict=True))
            own = {kind: seen(places[kind], each, place) for kind, each in own.items()}
        elif spec.queues[place].policy is not None:  # it may plan on another figure than the policy of the run
            own = seen(("latency_table",), table, place)
            if cluster.kinds:
                own = {
                    kind.name: seen(("cluster", "kinds", number, "table"), kind.table, place) if kind.table else own
                    for number, kind in enumerate(cluster.kinds)
                }
        found.append(replace(queue, table=own))
    return replace(cluster, queues=tuple(found))


def queues_identity(cluster: Cluster, hashed: Callable[[LatencyTable], str]) -> dict[str, Any]:
    """Return all of the queues that decides a result, but for their policies; empty without queues.

    Args:
        cluster: The cluster with the tables that were measured.
        hashed: Returns the hash of a table.
    """
    if not cluster.queues:
        return {}
    found = []
    for queue in cluster.queues:
        tables: Any = queue.table
        if tables is not None:
            one = isinstance(tables, LatencyTable)
            tables = hashed(tables) if one else {kind: hashed(each) for kind, each in tables.items()}
        found.append({**asdict(replace(queue, table=None)), "table": tables})
        if not queue.own_weights:
            del found[-1]["own_weights"]
    return {"queues": {"order": cluster.order, "of": found}}
