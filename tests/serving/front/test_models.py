"""The models of a server with queues: names, priorities, SLOs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import requests

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

from policies.slackfit import SlackFit
from serving.front.inference import RequestError, Tensor
from serving.front.models import ServedQueue, served_models
from sim.engine.cluster import Cluster
from sim.engine.run_metrics import Outcome
from sim.engine.service_queue import ServiceQueue
from tests.serving.front.serving import TABLE, Server, question
from tests.serving.front.test_rest import check_laws

QUEUES = (ServiceQueue("gold", priority=1, floor=79), ServiceQueue("bronze", priority=3, bound=4))
SERVED = [ServedQueue(0, 40_000_000), ServedQueue(1, 90_000_000, is_default=False)]
ROW = [Tensor("input", "FP32", [1, 1], [0.0])]


def asked(cluster: Cluster, model: str, **parameters: int) -> tuple[int, int]:
    """Return the queue and the SLO of a request."""
    found = served_models("both", cluster, SERVED, 100).find(model).parse("", parameters, ROW, [])
    return found.queue, found.slo_ns


def test_a_queue_is_a_model_and_priorities_choose_among_queues() -> None:
    cluster = Cluster(1, queues=QUEUES, order="priority")
    assert served_models("both", cluster, SERVED, 100).names == ["gold", "bronze", "both"]
    assert asked(cluster, "gold") == asked(cluster, "both", priority=1) == (0, 40_000_000)
    assert asked(cluster, "bronze", timeout=5) == asked(cluster, "both", priority=3, timeout=5) == (1, 5000)
    assert asked(cluster, "both", timeout=5) == asked(cluster, "both", priority=0, timeout=5) == (1, 5000)


@pytest.mark.parametrize(
    ("model", "parameters", "problem"),
    [
        ("gold", {"priority": 1}, "there are no levels"),
        ("both", {"priority": 2}, "must be 1 or 3"),
        ("both", {"priority": -1}, "must be 1 or 3"),
        ("both", {"priority": True}, "must be a whole number"),
        ("both", {}, "timeout: is missing"),
        ("bronze", {}, "timeout: is missing"),
        ("silver", {}, "'gold', 'bronze', 'both' are"),
    ],
)
def test_what_no_queue_is_meant_by_is_refused(model: str, parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        asked(Cluster(1, queues=QUEUES, order="priority"), model, **parameters)


@pytest.mark.parametrize(
    ("queues", "order"),
    [
        (QUEUES, "edf"),
        ((*QUEUES, ServiceQueue("silver", priority=QUEUES[0].priority)), "priority"),
        ((QUEUES[0], ServiceQueue("both", priority=2)), "priority"),
    ],
)
def test_there_are_no_levels_without_an_order_of_distinct_priorities(
    queues: tuple[ServiceQueue, ...], order: Any
) -> None:
    served = [ServedQueue(place, 40_000_000) for place in range(len(queues))]
    found = served_models("both", Cluster(1, queues=queues, order=order), served, 100)
    assert found.names == [queue.name for queue in queues]


def test_queues_are_served_with_their_own_floors_bounds_and_metrics() -> None:
    cluster = Cluster(1, queues=QUEUES, order="priority", drop="expired")
    with Server(SlackFit(), cluster, queues=[ServedQueue(0, 40_000_000), ServedQueue(1, 90_000_000)]) as server:

        def ask(model: str, rows: int, **parameters: int) -> requests.Response:
            content = question(rows, parameters=parameters)
            return requests.post(f"{server.address}/v2/models/{model}/infer", json=content, timeout=20)

        gold = ask("gold", 3).json()
        assert all(accuracy >= 79 for accuracy in gold["outputs"][1]["data"])
        assert ask("test", 2, priority=3).status_code == 200
        assert "at most 4 rows" in ask("bronze", 5).json()["error"]
        found = ask("test", 5)
        assert (found.status_code, "the queue was full" in found.json()["error"]) == (503, True)
        metrics = server.metrics()
        run = server.stop()
    check_laws(run, cluster, SlackFit())
    assert run.log.queue == [0, 0, 0, *[1] * 7]
    assert run.result.trace.class_names == ("gold", "bronze")
    assert run.result.count(Outcome.REJECTED) == 5
    for place, queue in enumerate(QUEUES):
        mine = np.array(run.log.queue) == place
        assert metrics[f'ssim_queue_received_total{{queue="{queue.name}"}}'] == np.count_nonzero(mine)
        met = np.count_nonzero(run.result.outcome[mine] == Outcome.MET)
        assert metrics[f'ssim_queue_in_time_total{{queue="{queue.name}"}}'] == met
    assert TABLE.subnets[0].accuracy < 79
