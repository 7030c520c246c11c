"""The workers of a live run: what the file asks for, what their processes are told, and what they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.processes import PACED, WorkerProgram
from sim.base.cores import usable_cores
from sim.base.errors import SpecError
from ssim.jobs.experiment.live_spec import LiveSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sim.tables.latency import LatencyTable
    from ssim.jobs.experiment.spec import ExperimentSpec

TORCH = "ssim.execution.torch_worker"
"""The program of torch workers."""

_OF_ALL = {"workers", "queue", "remote"}
"""Keys of `live` that any kind of workers takes."""


def check_workers(spec: ExperimentSpec) -> None:
    """Check that the keys of `live` and `cluster` fit the kind of workers.

    Raises:
        SpecError: They do not.
    """
    live = spec.live
    if live.workers == "torch":
        if live.supernet is None:
            hint = "the folder of a training, a checkpoint, a family, or module:name of your own"
            raise SpecError("live.supernet", "is missing: what torch workers run", "", hint)
        if spec.cluster.latency != type(spec.cluster).model_fields["latency"].default:
            hint = "leave it out, or use paced workers"
            raise SpecError("cluster.latency", "can't be used with torch workers: latencies are real", "", hint)
        _check_one_model(spec)
        return
    for name in LiveSpec.model_fields:
        if name not in _OF_ALL and name in live.model_fields_set:
            raise SpecError(f"live.{name}", "needs torch workers", "", "workers: torch, or leave it out")


def _check_one_model(spec: ExperimentSpec) -> None:
    """Check that all workers and queues have one table: torch workers run one supernet on one kind of device.

    Raises:
        SpecError: They do not.
    """
    kinds = spec.cluster.kinds
    if len(kinds) > 1:
        names = ", ".join(kind.name for kind in kinds)
        hint = "one kind, or paced workers"
        raise SpecError("cluster.kinds", "torch workers of a live run are all alike", names, hint)
    if others := list(spec.named_tables())[1:]:
        place = ".".join(map(str, others[0]))
        raise SpecError(
            place, "torch workers serve one model, with one table", "", "leave it out, or use paced workers"
        )


def worker_program(
    live: LiveSpec, workers: int, table: LatencyTable, seed: int, folder: Path, *, is_asked: bool = False
) -> WorkerProgram:
    """Return what worker processes run.

    Args:
        live: What the file says of live runs.
        workers: How many there are on this machine.
        table: The table that is served.
        seed: Of random weights.
        folder: That of the file.
        is_asked: Whether somebody reads the answers, so that they have to be right.
    """
    if live.workers == "paced":
        return PACED
    beside = folder / (live.supernet or "")
    is_padded = table.between == "pad"
    settings = {
        "supernet": str(beside.resolve()) if beside.exists() else live.supernet,
        "options": live.options,
        "device": live.device,
        "threads": live.threads,
        "most_threads": max(1, (usable_cores() - 1) // workers),  # one core is for router and load generator
        "size": live.size,
        "dtype": live.dtype,
        "seed": seed,
        "is_asked": is_asked,
        "folder": str(folder.resolve()),
        "subnets": [subnet.id for subnet in table.subnets],
        "sizes": list(map(int, table.batch_sizes)) if is_padded else list(range(1, table.max_batch + 1)),
    }
    return WorkerProgram(TORCH, settings)


def differences(table: LatencyTable, serves: Mapping[str, Any]) -> list[str]:
    """Return in what a latency table and what workers serve differ, a sentence each; none for paced workers.

    Of a supernet, its family and the hash of its weights count: neither where they were stored nor the seed of random
    ones.
    """
    measured = {**table.provenance, "device": table.device}
    found = []
    for name, served in serves.items():
        before = measured.get(name, "unknown")
        if before != served and not (name == "supernet" and _essence(before) == _essence(served)):
            found.append(f"The latency table and the workers differ in {name}: {before} and {served}.")
    return found


def _essence(supernet: str) -> tuple[str, str]:
    weights = "random" if ", random, " in supernet else supernet.rpartition(", ")[2]
    return supernet.partition(", ")[0], weights
