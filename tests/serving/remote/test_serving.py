"""A server whose workers join over the network: without any it says so, and with the next one it serves again."""

from __future__ import annotations

import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")
pytest.importorskip("grpc", reason="a server needs the extra [serve]")

from serving.facts import facts
from serving.log import replay_log
from serving.remote.places import Place
from sim.engine.cluster import Cluster
from tests.serving.front.serving import TABLE, Server, wait_for
from tests.serving.remote.joiners import Joiners


@pytest.mark.slow
def test_a_server_without_workers_is_not_ready_until_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "patience_ns", 100_000_000)
    with Joiners() as joiners, Server(cluster=Cluster(1), program=joiners.source()) as server:
        assert server.ask().status_code == 200
        joiners.processes[0].kill()
        wait_for(lambda: server.get("/v2/health/ready").status_code == 503)
        refused = server.ask()
        assert (refused.status_code, "no worker is left" in refused.text) == (503, True)
        assert server.get("/v2/health/live").status_code == 200
        assert server.metrics()["ssim_workers_alive"] == 0
        joiners.start()
        wait_for(lambda: server.get("/v2/health/ready").status_code == 200)
        assert server.ask().status_code == 200
        assert server.metrics()["ssim_workers_alive"] == 1
        run = server.stop()
    assert facts(run)["received"] == 2
    assert facts(run)["lost"] == facts(run)["unfinished"] == 0
    decisions, _ = replay_log(
        run.log.instants, run.log.admitted, run.log.slo_ns, server.cluster, TABLE, server.policy, 0
    )
    assert decisions == [(one.start_ns, one.start) for one in run.log.batches]
