"""The queries and the batches of a result as Arrow tables: the columns of requests.parquet and batches.parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sim.engine.run_metrics import NEVER_NS, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.result import Result
    from sim.engine.scaling import Fleet

_NONE = -1


def queries_table(result: Result) -> pa.Table:
    """Return a row for each query, in the order of the trace; null where it has no batch or no answer."""

    def per_query(column: Any) -> pa.Array:
        values = result.per_query(column)
        return pa.array(values, mask=values == _NONE)

    # Files are what they were before there were queues and live runs: the last outcomes are named where they are met.
    last = max(int(result.outcome.max()), Outcome.REJECTED if result.cluster.queues else Outcome.UNFINISHED)
    outcomes = [outcome.name.lower() for outcome in Outcome if outcome <= last]
    batches = result.batches
    subnet = result.per_query(batches.subnet)
    answer = result.per_query(batches.finish_ns) + result.cluster.network_ns
    return arrow_table(
        "requests/1",
        arrival_ns=(result.trace.arrival_ns, "ns from the start of the run"),
        deadline_ns=(result.trace.deadline_ns, "ns"),
        start_ns=(per_query(batches.start_ns), "dispatch of its batch, ns; null: never"),
        finish_ns=(pa.array(answer, mask=~result.answered), "answer, ns; null: never"),
        worker=(per_query(batches.worker).cast(pa.int32()), "number of the worker; null: none"),
        subnet=(_named(subnet, _subnets(result), mask=subnet == _NONE), "id of the subnet; null: none"),
        batch_size=(per_query(batches.size).cast(pa.int32()), "queries in its batch; null: none"),
        outcome=(
            _named(result.outcome, outcomes),
            f"{', '.join(outcomes[:-1])} or {outcomes[-1]}",
        ),
        **_classes(result),
    )


def _classes(result: Result) -> dict[str, tuple[Any, str]]:
    trace = result.trace
    if trace.class_codes is None:
        return {}
    return {"class": (_named(trace.class_codes, list(trace.class_names)), "class of the query")}


def batches_table(result: Result) -> pa.Table:
    """Return a row for each batch, in the order of their start."""
    batches = result.batches
    more: dict[str, tuple[Any, str]] = {}
    if result.cluster.occupancy < 1:
        more["free_ns"] = (batches.free_ns, "the worker could take its next batch, or failed, ns")
    if result.cluster.has_limited_memory:
        more["load_ns"] = (batches.load_ns, "waited on the worker until its weights were loaded, ns")
    return arrow_table(
        "batches/1",
        start_ns=(batches.start_ns, "dispatch, ns from the start of the run"),
        finish_ns=(batches.finish_ns, "answer, or failure of the worker, ns"),
        worker=(batches.worker.astype(np.int32), "number of the worker"),
        subnet=(_named(batches.subnet, _subnets(result)), "id of the subnet"),
        size=(batches.size.astype(np.int32), "queries"),
        lost=(batches.lost, "the worker failed meanwhile"),
        **more,
    )


def workers_table(fleet: Fleet, kinds: Sequence[str]) -> pa.Table:
    """Return a row for each worker of a run with a planner, in the order of their numbers.

    Args:
        fleet: The workers.
        kinds: The names of their kinds; nothing without kinds.
    """
    never = fleet.gone_ns == NEVER_NS
    return arrow_table(
        "workers/1",
        worker=(np.arange(len(fleet), dtype=np.int32), "number of the worker"),
        kind=(_named(fleet.kind, [*kinds] or [""]), "its kind; empty without kinds"),
        asked_ns=(fleet.asked_ns, "the planner asked for it, ns from the start of the run; 0: there at the start"),
        ready_ns=(fleet.ready_ns, "its start-up ended, or would have, ns"),
        gone_ns=(pa.array(fleet.gone_ns, mask=never), "it had gone, its last batch finished, ns; null: it stayed"),
    )


def arrow_table(schema: str, **columns: tuple[Any, str]) -> pa.Table:
    """Return a table whose columns carry their meaning and which carries its schema."""
    arrays = [pa.array(values) if isinstance(values, np.ndarray) else values for values, _ in columns.values()]
    fields = [
        pa.field(name, array.type, metadata={"meaning": meaning})
        for (name, (_, meaning)), array in zip(columns.items(), arrays, strict=True)
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata={"schema": schema}))


def _subnets(result: Result) -> list[str]:
    return [subnet.id for subnet in result.subnets]


def _named(codes: Any, names: list[str], mask: Any = None) -> pa.Array:
    indices = pa.array(
        np.asarray(codes).astype(np.int8 if len(names) <= np.iinfo(np.int8).max else np.int32), mask=mask
    )
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))
