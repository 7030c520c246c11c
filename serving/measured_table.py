"""A latency table from what the batches of a live run took."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from serving.comparison import MeasuredBatches
    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import LatencyTable

MOST_SAMPLES = 200
"""Samples that are kept for a cell: evenly spaced order statistics where there are more."""


def measured_tables(
    batches: MeasuredBatches, cluster: Cluster, table: LatencyTable, source: str
) -> dict[tuple[str, str], tuple[LatencyTable, int]]:
    """Return a measured table for each latency table of a run that met a batch, as `measured_table` does.

    Args:
        batches: What was measured, one batch or more; without actuation delays.
        cluster: Kinds of workers and queues.
        table: The table of those without one of their own.
        source: Where the batches come from, for the provenance.

    Returns:
        By the names of the queue and of the kind of workers whose own table it is; "" for that of all.

    Raises:
        DataError: A batch is larger than its table's largest.
    """
    whole = replace(cluster, queues=tuple(replace(queue, floor=None) for queue in cluster.queues))
    parts: dict[tuple[str, str], tuple[WorkerPool, npt.NDArray[np.bool_]]] = {}
    for place, pools in enumerate(whole.pools_by_queue(table)):
        queue = cluster.queues[place] if cluster.queues else None
        for number, pool in enumerate(pools):
            here = (batches.queue == place) & (batches.pool == number)
            name = queue.name if queue and queue.own_table(pool.kind) else "", pool.kind
            _, before = parts.get(name, (pool, np.zeros_like(here)))
            parts[name] = pool, before | here
    found = {}
    for name, (pool, mine) in parts.items():
        if mine.any():
            number_of = {row: number for number, row in enumerate(pool.rows)}
            numbers = np.array([number_of[row] for row in batches.subnet[mine].tolist()], dtype=np.int64)
            found[name] = measured_table(replace(batches.only(mine), subnet=numbers), pool.table, source)
    return found


def measured_table(batches: MeasuredBatches, table: LatencyTable, source: str) -> tuple[LatencyTable, int]:
    """Return the table that a live run measured, with samples, and the number of its cells that met a batch.

    A batch counts for the smallest measured batch size that holds it, by the ratio of its time to that of the table.
    A cell without a batch has the ratios of its subnet; those of all subnets if that has none.

    Args:
        batches: What was measured, one batch or more; without actuation delays, and with subnets of this table.
        table: The table that the run was served with.
        source: Where the batches come from, for the provenance.

    Raises:
        DataError: A batch is larger than the table's largest.
    """
    if batches.size.max() > table.max_batch:
        raise DataError(source, "a batch is larger than the table's largest", str(batches.size.max()))
    ratio = batches.forward_ns / table.dense_ns[batches.subnet, batches.size]
    column = np.searchsorted(table.batch_sizes, batches.size)
    samples: list[list[npt.NDArray[np.int64]]] = []
    met = 0
    for subnet in range(len(table.subnets)):
        own = batches.subnet == subnet
        samples.append([])
        for place, latency_ns in enumerate(table.latency_ns[subnet].tolist()):
            here = own & (column == place)
            met += bool(here.any())
            found = ratio[here] if here.any() else ratio[own] if own.any() else ratio
            samples[-1].append(_thinned(np.maximum(1, np.rint(found * latency_ns).astype(np.int64))))
    medians = np.array([[np.median(cell) for cell in row] for row in samples])
    high = np.array([[np.quantile(cell, 0.99) for cell in row] for row in samples])
    cells = medians.size
    note = f"{source}: {len(ratio)} batches, {met} of {cells} cells; the others have the ratios of their subnet"
    made = replace(
        table,
        latency_ns=np.rint(medians).astype(np.int64),
        p99_ns=np.maximum(np.rint(high), np.rint(medians)).astype(np.int64),
        low_ns=None,
        high_ns=None,
        p99_low_ns=None,
        p99_high_ns=None,
        samples_ns=tuple(map(tuple, samples)),
        stages={},
        provenance={**table.provenance, "live run": note},
    )
    return made, met


def _thinned(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    ordered = np.sort(values)
    if len(ordered) <= MOST_SAMPLES:
        return ordered
    places = np.linspace(0, len(ordered) - 1, MOST_SAMPLES).round().astype(np.int64)
    return np.take(ordered, places)
