"""A Ray cluster of several nodes on this machine, for tests of machines that are lost."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
"""How soon Ray misses a machine."""


@contextmanager
def ray_cluster(**head: Any) -> Iterator[Any]:
    """Start a cluster to which this process is connected; further nodes are added by `node`.

    Args:
        head: What its first node has.
    """
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    handler = signal.getsignal(signal.SIGTERM)
    cluster = Cluster()
    try:
        node(cluster, _system_config=QUICK, **head)
        ray.init(cluster.address, log_to_driver=False)
        signal.signal(signal.SIGTERM, handler)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def node(cluster: Any, **given: Any) -> Any:
    """Add a node to a cluster, and return it."""
    return cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20, **given)
