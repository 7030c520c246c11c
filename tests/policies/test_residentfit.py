"""ResidentFit: SlackFit where all is resident; and it loads nothing that comes too late."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policies.residentfit import ResidentFit
from policies.slackfit import SlackFit
from sim import Cluster, Dispatch, View, simulate
from sim.engine.residence import Memory
from sim.tables.files import load_table
from sim.traces.synthetic import Bursty
from tests.laws.test_queues import same

TABLE = load_table("ofa-resnet50-rtx2080ti")
TRACE = Bursty(base_qps=1500, variant_qps=2000, cv2=4, duration_s=1, slo_ms=36).trace(seed=3)


@pytest.mark.parametrize("memory", [None, Memory(200_000_000, 12.2e9)])
def test_with_a_supernet_it_is_slackfit(memory: Memory | None) -> None:
    cluster = Cluster(8, memory=memory)
    assert same(simulate(TRACE, cluster, TABLE, ResidentFit()), simulate(TRACE, cluster, TABLE, SlackFit()))


@dataclasses.dataclass(frozen=True)
class Watched:
    """Notes the decisions that load."""

    loads: list[tuple[View, Dispatch, int]] = dataclasses.field(default_factory=list)

    def decide(self, view: View) -> Dispatch:
        found = ResidentFit().decide(view)
        if load_ns := view.system.loading_ns(found.subnet, found.worker):
            self.loads.append((view, found, load_ns))
        return found


@pytest.mark.parametrize("bytes_per_s", [1e9, 12.2e9])
def test_what_it_loads_is_in_time(bytes_per_s: float) -> None:
    policy = Watched()
    cluster = Cluster(4, memory=Memory(200_000_000, bytes_per_s), weights="separate")
    result = simulate(TRACE, cluster, TABLE, policy)
    assert len(policy.loads) == np.count_nonzero(result.batches.load_ns)
    assert policy.loads or bytes_per_s == 1e9
    for view, found, load_ns in policy.loads:
        assert load_ns + view.table.latency(found.subnet, found.batch_size) <= view.slack_ns
