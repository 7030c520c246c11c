"""The bytes of each round in real time, by the rounds of messages: those of virtual time, and of the formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from federated.compression import EightBit, compress_delta  # noqa: E402 - after torch is known to be there
from tests.federated.quadratic import NAMES, SHAPES, job_of, run, shipped  # noqa: E402
from topology.engines.local import LocalEngine  # noqa: E402

if TYPE_CHECKING:
    from federated.state import State
    from topology.report import RunReport

ROUNDS = 3
MODEL = 8 * sum(torch.Size(shape).numel() for shape in SHAPES.values())
NUMBER = 8
DISMISSALS = {"asynchronous": 8, "cyclic": 0, "distributed": 0, "parallel": 9, "swarm": 0}
"""Topologies whose workers end a round at different times, and how many are dismissed."""


def by_round(report: RunReport) -> dict[int, dict[str, tuple[int, int]]]:
    """Messages and bytes of each channel in each round."""
    return {
        number: {name: (traffic.messages, traffic.bytes) for name, traffic in channels.items()}
        for number, channels in report.by_round.items()
    }


def in_real_time(name: str, **more: Any) -> RunReport:
    plan, owners = shipped(name)
    return run(plan, owners, job_of(plan, ROUNDS, **more), LocalEngine(default_timeout_s=30))


def in_virtual_time(name: str) -> dict[int, dict[str, tuple[int, int]]]:
    """The same, of what was sent until the end of a round and not until that of the round before."""
    plan, owners = shipped(name)
    ends: dict[int, dict[str, tuple[int, int]]] = {}

    def watch(report: RunReport) -> None:
        if report.log[-1].kind == "round":
            sent = {name: (traffic.messages, traffic.bytes) for name, traffic in report.traffic.items()}
            ends[report.log[-1].fields["round"]] = sent

    run(plan, owners, job_of(plan, ROUNDS), watch=watch)
    before: dict[str, tuple[int, int]] = {}
    found = {}
    for number, end in sorted(ends.items()):
        found[number] = {
            name: (messages - before.get(name, (0, 0))[0], size - before.get(name, (0, 0))[1])
            for name, (messages, size) in end.items()
        }
        before = end
    return found


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DISMISSALS)))
def test_a_round_sends_what_it_does_in_virtual_time(name: str) -> None:
    """In the topologies whose workers end a round at one time."""
    assert by_round(in_real_time(name)) == in_virtual_time(name)


@pytest.mark.parametrize("name", DISMISSALS)
def test_all_rounds_together_are_all_traffic_but_dismissals(name: str) -> None:
    report = in_real_time(name)
    for channel, total in report.traffic.items():
        sent = [of[channel] for of in report.by_round.values() if channel in of]
        dismissals = total.messages - sum(traffic.messages for traffic in sent)
        assert total.bytes - sum(traffic.bytes for traffic in sent) == NUMBER * dismissals
        assert dismissals == DISMISSALS[name]
    if name == "distributed":  # 2 (n - 1) / n of the model from each of n trainers, and an announcement to each other
        ready = 2 * NUMBER + len("w3x3") + len("cnn_small:")
        for of in by_round(report).values():
            assert of == {"peers": (8 * 7 + 8 * 14, 2 * 7 * MODEL + 8 * 7 * ready)}


def test_a_round_sends_models_and_compressed_updates() -> None:
    """To and from each of eight clients; a task has a number and an id beside its values, an update six numbers."""
    plan, _ = shipped("classical")
    subnet = job_of(plan).context.space.largest.id
    task = MODEL + NUMBER + len(subnet)
    plain = by_round(in_real_time("classical"))
    assert plain == {number: {"param": (16, 8 * (task + MODEL + 6 * NUMBER))} for number in range(1, ROUNDS + 1)}
    clients = [worker.dataset.id for worker in plan.workers if worker.dataset is not None]
    compressed = by_round(in_real_time("classical", broken=dict.fromkeys(clients, compressed_values)))
    values = MODEL // NUMBER + NUMBER * len(SHAPES)  # a byte each, and a scale for each parameter
    assert compressed == {number: {"param": (16, 8 * (task + values + 6 * NUMBER))} for number in range(1, ROUNDS + 1)}


def compressed_values(delta: State) -> Any:
    return compress_delta(delta, EightBit(), {})
