"""The energy of batches, where the latency tables have that of each subnet and batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.tables.grids import dense
from sim.tables.law import actual_table

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.result import Batches
    from sim.tables.latency import LatencyTable


def has_energy(cluster: Cluster, table: LatencyTable, kind: str) -> bool:
    """Return whether the energy of all batches on a kind of workers is known, and that of its idle workers."""
    known = next((one for one in cluster.kinds if one.name == kind), None)
    pools = (pool for of_queue in cluster.pools_by_queue(table) for pool in of_queue if pool.kind == kind)
    return (
        known is not None
        and known.idle_w is not None
        and all(actual_table(pool.table).energy_uj is not None for pool in pools)
    )


def batch_energy_j(
    cluster: Cluster,
    table: LatencyTable,
    batches: Batches,
    kind_of: npt.NDArray[np.int64],
    queue_of: npt.NDArray[np.int64],
    part: tuple[int, int],
) -> npt.NDArray[np.float64]:
    """Return the energy that batches took in a part of a run, by kind of workers.

    A batch takes the energy of its cell evenly over the latency in the table. What it keeps its worker beyond that
    (overheads, drawn latencies) is at the power of an idle worker; a batch that is lost takes its part.

    Args:
        cluster: The workers.
        table: The table of the run.
        batches: Its batches.
        kind_of: The kind of each, int64, shape (batches,).
        queue_of: The queue of each, likewise.
        part: The start and the end of the part in nanoseconds.

    Returns:
        Joules, float64, shape (kinds,); NaN for a kind without measured energy.
    """
    names = [kind.name for kind in cluster.kinds] or [""]
    found = np.full(len(names), np.nan)
    for place, name in enumerate(names):
        if has_energy(cluster, table, name):
            found[place] = 0.0
    for queue, pools in enumerate(cluster.pools_by_queue(table)):
        for pool in pools:
            place = names.index(pool.kind)
            own = actual_table(pool.table)  # not what policies plan on
            if np.isnan(found[place]) or own.energy_uj is None:
                continue
            mine = np.flatnonzero((kind_of == place) & (queue_of == queue))
            grid = dense(own.batch_sizes, own.energy_uj, own.between)
            ids = [subnet.id for subnet in own.subnets]
            row_of = {row: ids.index(seen.id) for row, seen in zip(pool.rows, pool.table.subnets, strict=True)}
            subnet = np.array([row_of[row] for row in batches.subnet[mine].tolist()], np.int64)
            size, start = batches.size[mine], batches.start_ns[mine]
            planned = own.dense_ns[subnet, size]
            power_w = grid[subnet, size] * 1e3 / planned  # microjoules in nanoseconds
            runs_ns = np.minimum(batches.finish_ns[mine] - start, planned)

            def within(end_ns: npt.NDArray[np.int64], start: npt.NDArray[np.int64] = start) -> npt.NDArray[np.int64]:
                inside: npt.NDArray[np.int64] = np.minimum(end_ns, part[1]) - np.maximum(start, part[0])
                return np.maximum(inside, 0)

            run_ns, busy_ns = within(start + runs_ns), within(batches.free_ns[mine])
            idle_w = cluster.kinds[place].idle_w or 0.0
            found[place] += float((power_w * run_ns + idle_w * np.maximum(busy_ns - run_ns, 0)).sum()) / 1e9
    return found
