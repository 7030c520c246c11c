"""Each selection with each server: used as meant, or refused where the file is read."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from federated.asynchronous import AsyncAggregator  # noqa: E402 - after torch is known to be there
from federated.programs import Aggregator  # noqa: E402
from sim.base.errors import SpecError  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from tests.federated.quadratic import NAMES, clients, job_of, run, shipped  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Select  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

OORT, POWER = "federated.selection:Oort", "federated.selection:PowerOfChoice"
SELECTIONS = [
    Select("random", {"k": 2}),
    Select(OORT, {"k": 2, "explore": 0.5}),
    Select(POWER, {"k": 2, "among": 3}),
    Select("power_of_two"),
]
SERVED = [name for name in NAMES if any(issubclass(owner, Aggregator) for owner in shipped(name)[1].values())]
SELECTING = [name for name in SERVED if name != "coordinated"]
K = {"power_of_two": 1}


def selected(name: str, select: Select) -> tuple[Any, dict[str, Any]]:
    """A shipped topology in which each server of clients selects some."""
    plan, owners = shipped(name)
    holders = {worker.role for worker in plan.workers if worker.dataset is not None}
    channels = []
    for channel in plan.tag.channels:
        for role in channel.pair:
            if issubclass(owners[role], Aggregator) and channel.peer_of(role) in holders:
                channel = replace(channel, select={role: select})  # noqa: PLW2901
        channels.append(channel)
    held = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    datasets = [replace(dataset, size=2 + number % 3) for number, dataset in enumerate(held)]
    return expand(replace(plan.tag, channels=tuple(channels)), datasets), owners


@pytest.mark.parametrize(("name", "select"), list(product(SELECTING, SELECTIONS)))
def test_each_selection_selects_so_many_for_each_server(name: str, select: Select) -> None:
    plan, owners = selected(name, select)
    faults = [InjectedFault("trainer/0", slow=5.0), InjectedFault("trainer/1", leave_s=0.2, join_s=0.05)]
    report = run(plan, owners, job_of(plan, rounds=6), SimEngine(record=True), faults=faults)
    assert max(entry.fields["round"] for entry in report.log if entry.kind == "round") == 6
    servers = {id_ for id_ in report.results if issubclass(owners[id_.rpartition("/")[0]], Aggregator)}
    trained = [span for span in report.spans if span.kind == "compute" and span.worker not in servers]
    if AsyncAggregator in owners.values():
        edges = [edge for span in trained for edge in ((span.start_ns, 1), (span.end_ns, -1))]
        assert np.cumsum([change for _, change in sorted(edges)]).max() == K.get(select.use, 2)
    for entry in report.log:
        if entry.kind == "selected" and entry.fields["peers"][0].startswith("trainer"):
            assert len(entry.fields["peers"]) <= K.get(select.use, 2)
    assert len({span.worker for span in trained}) > K.get(select.use, 2)  # not always the same ones


def test_seconds_of_an_asynchronous_client_are_those_from_the_model_to_its_update() -> None:
    plan, owners = selected("asynchronous", Select(OORT, {"k": 2, "explore": 0.5}))
    plan = expand(plan.tag, clients(2, 2, 2, 2, 2, 2))
    found: dict[str, Any] = {}

    class Noting(AsyncAggregator):
        def add_to_buffer(self, io: Any, message: Any) -> None:
            super().add_to_buffer(io, message)
            stats = io["distribute"].peer_stats[message.sender]
            found.setdefault(message.sender, []).append((message.arrived_ns / 1e9, stats["seconds"]))

    faults = [InjectedFault("trainer/5", slow=30.0)]
    job = job_of(plan, rounds=40)
    report = run(plan, {**owners, "aggregator": Noting}, job, SimEngine(record=True), faults=faults)
    computed = {}
    for span in report.spans:
        if span.kind == "compute" and span.worker.startswith("trainer"):
            computed.setdefault(span.worker, []).append((span.end_ns - span.start_ns) / 1e9)
    for sender, notes in found.items():
        for (_, seconds), duration in zip(notes, computed[sender], strict=False):
            assert duration < seconds < duration + 0.2  # and the way there and back
    assert found.keys() == {f"trainer/{number}" for number in range(6)}


@pytest.mark.parametrize("use", [OORT, POWER, "power_of_two", "random"])
@pytest.mark.parametrize(
    ("name", "role", "says"),
    [
        ("hybrid", "aggregator", "needs the update of each client; HybridAggregator has one of each ring"),
        ("coordinated", "middle", "CoordinatedIntermediateAggregator selects nobody"),
    ],
)
def test_a_selection_that_a_server_can_not_use_is_refused(
    name: str, role: str, says: str, use: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema: federated/1\nname: own\nseed: 1\n"
        f"topology:\n  use: {name}\n  channels: {{param: {{select: {{{role}: '{use}'}}}}}}\n"
        "data: digits\npartition: iid\nfamily: cnn_small\nalgorithm: fedavg\nsubnets: largest\nrounds: 1\n"
    )
    if (name, use) == ("hybrid", "random"):
        read_job(path)
    else:
        with pytest.raises(SpecError, match=rf"own.yaml:6:.*{says}"):
            read_job(path)
