"""Workers of a live run that Ray places: on two nodes of this machine, one of which is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("grpc", reason="workers of other machines need the extra [serve]")
pytest.importorskip("ray", reason="placement by Ray needs the extra [ray]")

import ray

from policies.slackfit import SlackFit
from serving.session import serve_trace
from sim.base.errors import ServingError, SpecError
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from sim.traces.trace import Trace
from ssim.jobs.experiment.live_spec import LiveSpec, RemoteSpec
from ssim.jobs.experiment.remote_workers import worker_source
from tests.ray_nodes import node, ray_cluster
from tests.serving.laws import TABLE, check_laws, trace
from tests.serving.test_session import Counting
from tests.ssim.in_process import assert_refused, ssim
from tests.ssim.test_remote_workers import FILE
from topology.engines.ray_cluster import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.workers import LiveWorker, WorkerSource


@pytest.mark.parametrize(
    ("raised", "seen"), [(Exception("timed out"), RuntimeError), (KeyError("timed out"), KeyError)]
)
def test_a_cluster_that_does_not_start_in_time_can_be_told_apart(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, seen: type[Exception]
) -> None:
    """Ray raises `Exception` itself then, which callers would have to take for any error of a run."""

    def init(*_args: object, **_options: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(seen, match="timed out"):
        connect(None, 1)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("live.remote={address: auto}", "live.remote.address: has no effect on workers that are started by hand"),
        (
            "live.remote={placement: ray, listen: '0.0.0.0:1', insecure: true}",
            "live.remote.listen: is not an address that workers on Ray can go to",
        ),
        ("live.remote={placement: slurm}", "live.remote.placement"),
    ],
)
def test_a_placement_that_can_t_be_is_refused(tmp_path: Path, override: str, problem: str) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    assert_refused(ssim(tmp_path, "run", "quick.yaml", "--live", "--set", override), problem)
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster with two nodes, to which this process is connected."""
    with ray_cluster() as cluster:
        yield cluster


def on_ray(told: list[str], number: int, **live: Any) -> WorkerSource:
    found = LiveSpec(remote=RemoteSpec(listen="127.0.0.1:0", placement="ray"), **live)
    return worker_source(found, number, TABLE, 0, Path(), told.append)


@pytest.mark.slow
def test_a_lost_node_costs_its_batch_and_its_worker_comes_back_elsewhere(machines: Any) -> None:
    second = node(machines)
    there: list[LiveWorker] = []
    told, policy = list[str](), Counting(SlackFit())
    sent, cluster = trace(120, 100), Cluster(2)
    since = 0

    def is_used_again() -> bool:
        nonlocal since
        if sum("joined" in sentence for sentence in told) == 2 and policy.decisions > 20 and not since:
            machines.remove_node(second, allow_graceful=False)
            since = -1
        if since < 0 and sum("joined" in sentence for sentence in told) == 3 and all(one.is_up for one in there):
            since = policy.decisions
        return since > 0 and policy.decisions > since + 40

    run = serve_trace(
        sent,
        cluster,
        TABLE,
        policy,
        program=on_ray(told, 2),
        on_start=there.extend,
        is_interrupted=is_used_again,
    )
    received = Trace(sent.arrival_ns[: len(run.log.arrival_ns)], sent.slo_ns, sent.duration_ns)
    check_laws(run, received, cluster, SlackFit())
    (failed,) = [one for one in run.log.instants if one.failed]
    (recovered,) = [one for one in run.log.instants if one.recovered]
    assert failed.failed == recovered.recovered
    assert any(one.start.worker in recovered.recovered and one.start_ns >= recovered.at_ns for one in run.log.batches)
    assert run.log.faults == [f"worker {failed.failed[0]} lost its connection"]
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)


@pytest.mark.slow
def test_a_cluster_that_is_too_small_is_refused(machines: Any) -> None:
    assert machines
    with pytest.raises(SpecError, match=r"cluster.workers: the Ray cluster has \d cpu, and 9 workers need 9"):
        serve_trace(trace(0.1, 100), Cluster(9), TABLE, SlackFit(), program=on_ray([], 9))


@pytest.mark.slow
def test_the_error_of_a_worker_on_ray_ends_a_run_before_its_start(machines: Any) -> None:
    assert machines
    pytest.importorskip("torch", reason="torch workers need the extra [torch]")
    source = on_ray([], 1, workers="torch", supernet="no_such_family")
    with pytest.raises((SpecError, ServingError), match=r"live.supernet"):
        serve_trace(trace(0.1, 100), Cluster(1), TABLE, SlackFit(), program=source)
