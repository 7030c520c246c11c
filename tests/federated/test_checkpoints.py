"""A training that is stored in mid-flight, at any round, and goes on from there is the same training."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there

from federated.aggregation import ClippedMean, Median, QFedAvg  # noqa: E402
from federated.algorithms import FedAvg, FedDyn, FedNova, FedOpt, FedProx, Scaffold  # noqa: E402
from federated.assignment import RandomAssignment  # noqa: E402
from federated.compression import EightBit, TopK  # noqa: E402
from federated.context import TrainingContext  # noqa: E402
from federated.costs import CostModel  # noqa: E402
from federated.job import FederatedJob  # noqa: E402
from federated.partition import Iid  # noqa: E402
from federated.privacy import Privacy  # noqa: E402
from sim.base.errors import SpecError, SsimError  # noqa: E402
from supernet.data.digits import Digits  # noqa: E402
from supernet.families import CnnSmall  # noqa: E402
from tests.federated.quadratic import NAMES, far, job_of, run, shipped  # noqa: E402
from topology.checkpoints import Checkpoints  # noqa: E402
from topology.deployment import InjectedFault, Machine  # noqa: E402
from topology.engines.local import LocalEngine  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Select, Tag  # noqa: E402

if TYPE_CHECKING:
    from topology.report import RunReport
    from topology.rests import Rest

ROUNDS = 7
WITH_SERVER = [FedAvg(), Scaffold(), FedDyn(pull=1.0), FedOpt(), FedProx(), FedNova()]
RULES = [Median(), ClippedMean(norm=0.5), QFedAvg()]
SELECTING = {"asynchronous", "classical", "hierarchical", "parallel"}


def drawn(name: str, number: int) -> tuple[Any, dict[str, Any], Any, list[InjectedFault]]:
    """A plan, its programs, a job and faults, drawn at random: selection, machines, algorithm, stragglers, ends."""
    chance = np.random.default_rng([NAMES.index(name), number])
    plan, owners = shipped(name)
    channels, roles = [], []
    for channel in plan.tag.channels:
        selects = name in SELECTING and "trainer" in channel.pair and chance.random() < 0.7
        use = str(chance.choice(["random", "federated.selection:Oort", "federated.selection:PowerOfChoice"]))
        select = {channel.peer_of("trainer"): Select(use, {"k": int(chance.integers(1, 4))})} if selects else {}
        loss = 0.02 if name == "classical" and chance.random() < 0.3 else 0.0
        channels.append(replace(channel, select=select, link=replace(channel.link, loss=loss)))
    for role in plan.tag.roles:
        timed = "timeout_s" in owners[role.name].__dataclass_fields__ and role.name not in {"middle", "coordinator"}
        config: dict[str, Any] = {"timeout_s": 0.3 if role.name == "aggregator" else 0.05} if timed else {}
        if name == "classical" and role.name == "aggregator" and channels[0].select:
            k = channels[0].select["aggregator"].params["k"]
            config |= {
                "overcommit": float(chance.choice([1.0, 1.3, 2.0])),
                "min_updates": int(chance.integers(1, k + 1)),
            }
            config |= {"if_fewer": str(chance.choice(["skip", "wait"])) if config["min_updates"] > 1 else "skip"}
        roles.append(replace(role, config={**role.config, **config}))
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    machine = Machine("default", up_mbps=50, down_mbps=50, slots=3)
    machines = [machine] if chance.random() < 0.5 else []
    plan = expand(Tag(tuple(roles), tuple(channels)), datasets, machines)
    aggregates = "aggregator" in owners and name != "asynchronous"
    algorithm = WITH_SERVER[int(chance.integers(len(WITH_SERVER)))] if aggregates else FedAvg()
    is_ring = name == "hybrid"
    if is_ring and (algorithm.uses_control_variates or algorithm.normalizes_steps):
        algorithm = FedAvg()
    has_rule = aggregates and not algorithm.uses_control_variates and chance.random() < 0.4
    rule = RULES[int(chance.integers(len(RULES) - is_ring))] if has_rule else None  # the last one needs losses
    trainers = [worker.id for worker in plan.workers if worker.dataset is not None]
    slow, *gone = map(str, chance.choice(trainers, 1 + int(chance.integers(3)), replace=False))
    faults = [InjectedFault(slow, slow=float(chance.choice([2.0, 20.0, 300.0])))]
    ways = ["join_s", "leave_s"] + ["die_s"] * aggregates + ["sessions"] * bool(owners["trainer"].receives_first)
    for worker in gone:
        how, (first_s, second_s) = str(chance.choice(ways)), sorted((0.3 * chance.random(2)).tolist())
        at: dict[str, Any] = {"sessions": ((0.0, first_s), (second_s, second_s + 0.1))}
        faults.append(InjectedFault(worker, **(at if how == "sessions" else {how: first_s})))
    return plan, owners, job_of(plan, ROUNDS, algorithm=algorithm, aggregation=rule), faults


def outcome(
    plan: Any, owners: Any, job: Any, faults: Any, checkpoints: Checkpoints | None = None, every: int = 1
) -> Any:
    """What comes of a run: all that happened and all models; or the error."""

    def watch(report: Any) -> None:
        entry = report.log[-1]
        if checkpoints is not None and entry.kind == "round" and entry.fields["round"] % every == 0:
            checkpoints.due = True

    try:
        report = run(plan, owners, job, SimEngine(record=True), faults=faults, watch=watch, checkpoints=checkpoints)
    except SsimError as error:
        return str(error), {}
    return report.fingerprint(), report.results


def checked(name: str, number: int, rests: tuple[int, ...] = (1, 5), draw: Any = drawn) -> int:
    """Check one draw; return from how many places it was resumed."""
    plan, owners, job, faults = draw(name, number)
    whole = outcome(plan, owners, job, faults)
    resumed = 0
    for every in rests:
        stored: list[bytes] = []
        checkpoints = job.checkpoints(stored.append)
        again = outcome(plan, owners, job, faults, checkpoints, every)
        assert not checkpoints.refused
        places = [again]
        for content in stored if every == 5 else stored[number % len(stored) :][:1] if stored else []:
            plan, owners, job, faults = draw(name, number)  # as in another process
            later: list[bytes] = []
            places.append(outcome(plan, owners, job, faults, job.checkpoints(later.append, content), every))
            resumed += 1
        for fingerprint, results in places:
            assert fingerprint == whole[0]
            for id_, memory in whole[1].items():
                if "state" in memory:
                    assert far(memory["state"], results[id_]["state"]) == 0
                assert memory.get("trained") == results[id_].get("trained")
    return resumed


@pytest.mark.parametrize("name", NAMES)
def test_nothing_depends_on_when_a_training_is_stored(name: str) -> None:
    assert checked(name, 0, rests=(1,)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_depends_on_when_a_training_is_stored_at_length(name: str) -> None:
    assert sum(checked(name, number) for number in range(1, 200)) > 200


def real(name: str, number: int) -> tuple[Any, dict[str, Any], Any, list[InjectedFault]]:
    """A draw that trains a network, some of them with subnets, compression, privacy or personal parameters."""
    plan, owners, plain, faults = drawn(name, number)
    chance = np.random.default_rng([NAMES.index(name), number, 1])
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    has_server, has_rule = "aggregator" in owners, plain.aggregation is not None
    is_mean = not has_rule and not plain.algorithm.uses_control_variates and name != "asynchronous"
    personal = ("classifier.*",) if has_server and chance.random() < 0.3 else ()
    context = TrainingContext(
        Digits(train=200), Iid(), CnnSmall(width=4, hidden=16), datasets, 7, held_out=0.2, personal=personal
    )
    more: dict[str, Any] = {"algorithm": plain.algorithm, "aggregation": plain.aggregation}
    kind = str(chance.choice(["plain", "compression", "subnets", "privacy"]))
    if kind == "compression" and has_server and name != "hybrid":
        more["compression"] = (EightBit(), TopK(share=0.3))[int(chance.integers(2))]
    if kind == "subnets" and has_server and not has_rule:
        more["assignment"] = RandomAssignment()
    if kind == "privacy" and has_server and is_mean:
        more["privacy"] = Privacy(clip=1.0, noise=0.5)
    return plan, owners, FederatedJob(context, CostModel(context), ROUNDS, **more), faults


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nor_does_that_of_a_network(name: str) -> None:
    torch.set_num_threads(1)
    assert sum(checked(name, number, rests=(5,), draw=real) for number in range(10)) >= 5


def test_a_client_may_leave_while_its_server_waits() -> None:
    assert checked("parallel", 120) > 0


def test_messages_under_way_share_the_links_of_machines() -> None:
    torch.set_num_threads(1)
    assert checked("hybrid", 7, rests=(5,), draw=real) > 0


WITHOUT_CONTROLS = {"distributed", "gossip", "hybrid", "swarm"}


@pytest.mark.parametrize("name", ["asynchronous", "cyclic"])
def test_real_time_is_refused_where_a_round_does_not_end_for_all(name: str) -> None:
    plan, owners = shipped(name)
    with pytest.raises(SpecError, match=r"can't be stored in real time: .* has messages under way when a round ends"):
        run(plan, owners, job_of(plan), LocalEngine(), checkpoints=Checkpoints(print))


def test_real_time_is_refused_with_injected_faults() -> None:
    plan, owners = shipped("classical")
    faults = [InjectedFault("trainer/0", slow=2.0)]
    with pytest.raises(SpecError, match="can't be stored in real time: faults are injected"):
        run(plan, owners, job_of(plan), LocalEngine(), checkpoints=Checkpoints(print), faults=faults)


def rest_of(content: bytes) -> Rest:
    rest: Rest = pickle.loads(content)  # noqa: S301 - written here
    return rest


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"asynchronous", "cyclic"}))
def test_real_time_goes_on_after_any_round(name: str) -> None:
    """With what clients keep (control variates), random selections, events and traffic."""
    plan, owners = shipped(name)
    job = job_of(plan, rounds=4, algorithm=FedAvg() if name in WITHOUT_CONTROLS else Scaffold())

    def trained(store: Any = None, resume: bytes | None = None) -> RunReport:
        checkpoints = job.checkpoints(store or (lambda _: None), resume)

        def watch(report: RunReport) -> None:
            if report.log[-1].kind == "round":
                checkpoints.wanted = report.log[-1].fields["round"]

        return run(plan, owners, job, LocalEngine(default_timeout_s=30), checkpoints=checkpoints, watch=watch)

    stored: dict[int, bytes] = {}
    whole = trained(lambda content: stored.setdefault(rest_of(content).rounds, content))
    assert {1, 2, 3} <= set(stored)
    for rounds in (1, 3):
        again = trained(resume=stored[rounds])
        assert again.by_round == whole.by_round
        assert again.end_ns > rest_of(stored[rounds]).at_ns
        events = [sorted((e.worker, e.kind, str(e.fields.get("round"))) for e in one.log) for one in (whole, again)]
        assert events[0] == events[1]
        for id_, memory in whole.results.items():
            assert memory.get("trained") == again.results[id_].get("trained")
            if "state" in memory:
                assert far(memory["state"], again.results[id_]["state"]) == 0
