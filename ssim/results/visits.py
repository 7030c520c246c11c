"""Where a run has been on the decision surface of its policy: slack and queue length at each batch's start."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.errors import StoreError
from sim.base.units import NS_PER_MS, NS_PER_S
from ssim.results.record import BATCHES, REQUESTS, read_output

if TYPE_CHECKING:
    import numpy.typing as npt

    from ssim.results.store import Store

_ASKED = "keep: requests"


class Visits(NamedTuple):
    """The batches of a run in the order of their starts, each as its policy saw it; arrays of shape (batches,).

    Attributes:
        at_s: Its start.
        slack_ms: The slack of its most urgent query, as policies see it: after overheads and the network.
        queue_length: The queries that waited, its own included.
        subnet: The id of its subnet.
        arrival_s: All arrivals of the run, shape (queries,).
    """

    at_s: npt.NDArray[np.float64]
    slack_ms: npt.NDArray[np.float64]
    queue_length: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.str_]
    arrival_s: npt.NDArray[np.float64]


def visits(store: Store, run_id: str) -> Visits:
    """Return where a stored run has been.

    Raises:
        StoreError: The run has several decision surfaces, or one that changes; or it isn't stored with every query; or
            queries were dropped or lost: when, is not stored.
    """
    manifest = store.manifest(run_id)
    folder = str(store.folder / run_id)
    if manifest is None:
        raise StoreError(folder, "is not stored", "", "`ssim results status` says what is")
    identity = manifest["identity"]
    for where, key, what in (
        (identity, "queues", "several queues"),
        (identity["cluster"], "routing", "a queue for each worker"),
        (identity["cluster"], "kinds", "several kinds of workers"),
        (identity, "planner", "a planner, which may change the policy"),
    ):
        if key in where:
            raise StoreError(
                folder, "has no single decision surface", what, "take a run of one queue and equal workers"
            )
    if REQUESTS not in manifest["outputs"]:
        raise StoreError(folder, "is stored without its queries", "", f"run the experiment with {_ASKED}")
    requests, batches = (read_output(store, run_id, name).to_pandas() for name in (REQUESTS, BATCHES))
    if requests["start_ns"].isna().any() or batches["lost"].any():
        raise StoreError(folder, "has queries that were dropped or lost, and does not say when", "", "take another run")
    order = batches["start_ns"].argsort(kind="stable")
    start = batches["start_ns"].to_numpy()[order]
    before = np.concatenate([[0], batches["size"].to_numpy()[order].cumsum()[:-1]])
    arrival = np.sort(requests["arrival_ns"].to_numpy())
    head = requests.groupby(["start_ns", "worker"])["deadline_ns"].min()
    keys = list(zip(start, batches["worker"].to_numpy()[order], strict=True))
    cluster = identity["cluster"]
    overhead_ns = cluster["dispatch_ns"] + cluster["network_ns"]
    return Visits(
        at_s=start / NS_PER_S,
        slack_ms=(head.loc[keys].to_numpy() - start - overhead_ns) / NS_PER_MS,
        queue_length=np.searchsorted(arrival, start, side="right") - before,
        subnet=batches["subnet"].to_numpy()[order].astype(str),
        arrival_s=arrival / NS_PER_S,
    )
