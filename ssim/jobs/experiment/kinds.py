"""Kinds of workers in an experiment file: which table each has, and what policies see of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ssim.files.plugins import Issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.spec import ExperimentSpec

    Place = tuple[str | int, ...]


def kind_tables(spec: ExperimentSpec, plugs: Mapping[Place, Any]) -> list[LatencyTable | None]:
    """Return the table of each kind of workers; None for one without a table of its own."""
    return [plugs.get(("cluster", "kinds", number, "table")) for number in range(len(spec.cluster.kinds))]


def table_issues(spec: ExperimentSpec) -> list[Issue]:
    """Return what is wrong with where latency tables are named."""
    kinds = spec.cluster.kinds
    without = [number for number, kind in enumerate(kinds) if kind.table is None]
    if spec.queues and all(queue.latency_table is not None or queue.tables for queue in spec.queues):
        places: list[Place] = [("latency_table",)] if spec.latency_table is not None else []
        places += [("cluster", "kinds", number, "table") for number, kind in enumerate(kinds) if kind.table is not None]
        return [Issue(place, "is not used: every queue has a table", "", "leave it out") for place in places]
    if spec.latency_table is None:
        if not kinds:
            return [Issue(("latency_table",), "is missing")]
        hint = "a table of its own, or a latency_table of the file"
        return [
            Issue(("cluster", "kinds", number), "has no latency table", kinds[number].name, hint) for number in without
        ]
    if kinds and not without:
        return [Issue(("latency_table",), "is not used: every kind of workers has a table", "", "leave it out")]
    return []


def kind_places(cluster: Cluster) -> Iterator[tuple[Place, LatencyTable | None]]:
    """Yield where the table of each kind is named, and the table."""
    for number, kind in enumerate(cluster.kinds):
        yield ("cluster", "kinds", number, "table"), kind.table


def cluster_seen(cluster: Cluster, seen: Callable[[Place, LatencyTable], LatencyTable]) -> Cluster:
    """Return a cluster whose kinds have the tables that a policy sees.

    Args:
        cluster: The cluster with the tables that were measured.
        seen: Returns the table that the policy sees, from the place where it is named and the table.
    """
    if not cluster.kinds:
        return cluster
    tables = [table and seen(place, table) for place, table in kind_places(cluster)]
    kinds = (replace(kind, table=table) for kind, table in zip(cluster.kinds, tables, strict=True))
    return replace(cluster, kinds=tuple(kinds))


def cluster_identity(cluster: Cluster, hashed: Callable[[LatencyTable], str]) -> dict[str, Any]:
    """Return all of a cluster that decides a result.

    Args:
        cluster: The cluster with the tables that were measured.
        hashed: Returns the hash of a table.
    """
    found = asdict(replace(cluster, kinds=(), offer="kind", currency=None, queues=(), order="edf", placement=None))
    for name in ("kinds", "offer", "currency", "queues", "order", *_unlimited(found)):
        del found[name]
    if not cluster.has_limited_memory:
        del found["weights"], found["bytes_per_weight"]
    if not cluster.is_routed:
        del found["routing"]
    del found["placement"]
    if cluster.placement is not None:
        found["placement"] = {name: [*workers] for name, workers in cluster.placement.items()}
    if cluster.kinds:
        own = [{} if kind.table is None else {"table": hashed(kind.table)} for kind in cluster.kinds]
        kinds = [asdict(replace(kind, table=None)) for kind in cluster.kinds]
        for kind in kinds:
            for name in _unlimited(kind):
                del kind[name]
        found["kinds"] = [{**kind, **table} for kind, table in zip(kinds, own, strict=True)]
        found |= {"offer": cluster.offer, "currency": cluster.currency}
    return found


def _unlimited(found: Mapping[str, Any]) -> list[str]:
    """Return the keys that decide nothing: the number of workers never changes, or their memory holds all."""
    return [name for name in ("scaling", "memory") if not found[name]]
