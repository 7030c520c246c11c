"""Where a client trains makes no difference: in this process, in others, or in others of which one is killed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from federated.algorithms import FedNova, Scaffold  # noqa: E402 - after torch is known to be there
from federated.attacks import Attacker  # noqa: E402
from federated.compression import TopK  # noqa: E402
from federated.context import TrainingContext  # noqa: E402
from federated.costs import CostModel  # noqa: E402
from federated.job import FederatedJob  # noqa: E402
from federated.partition import Dirichlet  # noqa: E402
from federated.pool import TrainingPool, TrainingProcess, serve  # noqa: E402
from federated.programs import Aggregator, Trainer  # noqa: E402
from sim.base.errors import TrainingError  # noqa: E402
from supernet.data.digits import Digits  # noqa: E402
from supernet.families import CnnSmall  # noqa: E402
from tests.federated.quadratic import NAMES, clients, run  # noqa: E402
from tests.federated.test_checkpoints import checked, drawn, outcome  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.expansion import expand  # noqa: E402

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from supernet.data.source import Examples


class InThread(TrainingProcess):
    """A process that is a thread of this one, so that only what is sent there and back is tried.

    Args:
        job: The training, pickled.
        killed_at: The number of the training at which it is killed.
    """

    def __init__(self, job: bytes, killed_at: int) -> None:
        super().__init__(job)
        self.begun, self.killed_at, self.models = 0, killed_at, list[Any]()

    def start(self, pipe: Connection, job: bytes) -> None:
        Thread(target=serve, args=(pipe, job), daemon=True).start()  # it ends when this end of the pipe is collected

    def send(self, begun: Any, model: Any, content: bytes) -> None:
        self.begun += 1
        if self.begun == self.killed_at:
            raise BrokenPipeError
        if model.key != self._key:
            self.models.append(model)
        super().send(begun, model, content)

    def end(self) -> None:
        self.pipe.close()


class InThreads(TrainingPool):
    """A pool with one process, a thread: random numbers of torch are global to the process."""

    def __init__(self, job: FederatedJob, killed_at: int = 0) -> None:
        self.killed_at = killed_at
        super().__init__(job, 1)
        self.wait()

    def start(self, job: bytes) -> InThread:
        self.process = InThread(job, self.killed_at)
        return self.process


def with_pool(name: str, number: int) -> Any:
    plan, owners, job, faults = drawn(name, number)
    return plan, owners, replace(job, pool=InThreads(job)), faults


def check(name: str, number: int) -> None:
    plan, owners, job, faults = drawn(name, number)
    alone = outcome(plan, owners, job, faults)
    for killed_at in (0, 1 + number % 9):
        pool = InThreads(job, killed_at)
        fingerprint, results = outcome(plan, owners, replace(job, pool=pool), faults)
        assert pool.process.begun
        assert pool.is_broken == (0 < killed_at <= pool.process.begun)
        assert fingerprint == alone[0]
        assert plain(results) == plain(alone[1])


def plain(value: Any) -> str:
    """Return all numbers of a value as text: NaN is equal to itself."""
    return json.dumps(value, default=lambda part: part.tolist() if isinstance(part, torch.Tensor) else repr(part))


@pytest.mark.parametrize("name", NAMES)
def test_where_clients_train_makes_no_difference(name: str) -> None:
    check(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_where_clients_train_makes_no_difference_at_length(name: str) -> None:
    for number in range(1, 15):
        check(name, number)
        checked(name, number, draw=with_pool)


@dataclass(eq=False)
class Counting(Trainer):
    """A trainer whose loss changes with the number of batches that it has seen, and has noise in it."""

    batches: int = 0

    def objective(self, network: torch.nn.Module, batch: Examples) -> torch.Tensor:
        self.batches += 1
        self.memory["batches"] = self.batches
        return super().objective(network, batch) * (1 + 0.1 * torch.rand(()) + 0.01 * self.batches)


@dataclass(eq=False)
class Holding(Counting):
    """A trainer that can't be sent anywhere, since it holds on to its world."""

    def load(self, io: Any) -> None:
        super().load(io)
        self.io = io


@dataclass(eq=False)
class Failing(Trainer):
    """A trainer that fails in its second round."""

    def objective(self, network: torch.nn.Module, batch: Examples) -> torch.Tensor:
        losses = super().objective(network, batch)
        return losses.mean() if self.memory["trained"] == 2 else losses


def real(trainer: type[Trainer], hidden: int = 16, **more: Any) -> tuple[Any, FederatedJob, dict[str, Any]]:
    """A training of a small network with dropout; its data are made anew by each process."""
    plan = expand(cases.classical(), clients(1, 1, 1, 1))
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    context = TrainingContext(Digits(train=200), Dirichlet(0.5), CnnSmall(width=4, hidden=hidden), datasets, 7)
    owners = {"trainer": trainer, "aggregator": Aggregator}
    return plan, FederatedJob(context, CostModel(context), 3, **more), owners


@pytest.mark.parametrize("trainer", [Trainer, Attacker, Counting, Holding])
@pytest.mark.parametrize("more", [{"algorithm": Scaffold()}, {"algorithm": FedNova(), "compression": TopK(0.1)}])
def test_a_loss_of_ones_own_and_what_clients_remember(trainer: type[Trainer], more: dict[str, Any]) -> None:
    plan, job, owners = real(trainer, **more)
    pool = InThreads(job)
    alone, apart = run(plan, owners, job), run(plan, owners, replace(job, pool=pool))
    assert (pool.process.begun > 0) == (trainer is not Holding)
    assert alone.fingerprint() == apart.fingerprint()
    assert plain(alone.results) == plain(apart.results)


def test_the_model_of_a_round_is_sent_once_and_nobody_waits_for_the_other_to_read() -> None:
    plan, job, owners = real(Trainer, hidden=4096)  # more than a pipe holds
    pool = InThreads(job)
    report = run(plan, owners, replace(job, pool=pool))
    assert [model.task.version for model in pool.process.models] == [0, 1, 2]
    assert min(len(model.content) for model in pool.process.models) > 1 << 20
    assert report.fingerprint() == run(plan, owners, job).fingerprint()


def test_what_fails_elsewhere_fails_as_it_does_here() -> None:
    plan, job, owners = real(Failing)
    for pool in (None, InThreads(job)):
        with pytest.raises(TrainingError, match="must return the loss of each example"):
            run(plan, owners, replace(job, pool=pool))


def test_processes_train_and_one_is_killed() -> None:
    plan, job, owners = real(Trainer, algorithm=Scaffold())
    alone = run(plan, owners, job)
    with TrainingPool(job, 2) as pool:
        pool.wait()
        first = run(plan, owners, replace(job, pool=pool))
        assert not pool.is_broken
        killed: list[Any] = []

        def watch(report: Any) -> None:
            if report.log[-1].kind == "round" and not killed:
                process = pool._processes[0]._process
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)
                process.join()

        second = run(plan, owners, replace(job, pool=pool), watch=watch)
        assert pool.is_broken
    for report in (first, second):
        assert report.fingerprint() == alone.fingerprint()
        assert plain(report.results) == plain(alone.results)
