"""Parts of federated training, each against what its paper says."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import federated  # noqa: E402
from federated import algorithms, assignment, compression, partition  # noqa: E402
from federated.algorithms import FedAvg, FedDyn, FedOpt, FedProx, Scaffold  # noqa: E402
from federated.assignment import (  # noqa: E402
    LargestAssignment,
    MaxNet,
    RandomAssignment,
    SandwichAssignment,
    StaticAssignment,
    TrackingSandwichAssignment,
)
from federated.attacks import Attacker  # noqa: E402
from federated.averaging import Update  # noqa: E402
from federated.compression import EightBit, TopK, compress_delta, decompress_update  # noqa: E402
from federated.job import TrainingTask  # noqa: E402
from federated.local import LocalSettings, train  # noqa: E402
from federated.partition import (  # noqa: E402
    Clients,
    Dirichlet,
    DirichletEqual,
    Iid,
    LabelSkew,
    Natural,
    Quantity,
    divided,
)
from federated.privacy import Privacy, add_round  # noqa: E402
from federated.programs import Trainer  # noqa: E402
from federated.ring import Chunk  # noqa: E402
from federated.selection import Oort, PowerOfChoice  # noqa: E402
from federated.state import clip_norm  # noqa: E402
from federated.subnet_shapes import SubnetShapes  # noqa: E402
from sim.base.errors import SpecError, TrainingError  # noqa: E402
from sim.base.streams import stream  # noqa: E402
from ssim.files.plugins import build as build_plugin  # noqa: E402
from supernet.data.source import Examples  # noqa: E402
from supernet.families import CnnSmall, OfaResNetSmall  # noqa: E402
from supernet.family import build  # noqa: E402

tensor = partial(torch.tensor, dtype=torch.float64)
SPACE = OfaResNetSmall(width=8).space
CLIENTS = tuple(f"trainer/{number}" for number in range(6))


def update_of(delta: dict[str, Any], clients: int = 1, eligible: int = 1) -> Update:
    return Update(delta, {"s": 1.0}, clients, eligible)


@pytest.mark.parametrize("module", [algorithms, assignment, compression, partition])
def test_each_class_with_a_short_name_is_exported(module: Any) -> None:
    for target in module.SHORT_NAMES.values():
        path, _, name = target.partition(":")
        assert path == module.__name__
        assert getattr(module, name) is getattr(federated, name)
        assert name in federated.__all__


# ---- algorithms: the server's half


def mask(*seen: int) -> dict[str, Any]:
    return {"w": torch.tensor(seen, dtype=torch.bool)}


@pytest.mark.parametrize("optimizer", ["adam", "yogi", "adagrad"])
def test_fedopt_steps_as_algorithm_2_says(optimizer: Any) -> None:
    beta2 = FedOpt.beta2 if optimizer == "adagrad" else 0.9
    plug = FedOpt(optimizer=optimizer, rate=0.1, beta1=0.8, beta2=beta2, tau=0.01)
    memory: dict[str, Any] = {}
    state, x, m, v = {"w": tensor([1.0])}, 1.0, 0.0, 0.01**2
    for change in (0.5, -0.2, 0.1):
        state = plug.server_step(memory, state, update_of({"w": tensor([change])}), mask(1))
        m = 0.8 * m + 0.2 * change
        v = {
            "adagrad": v + change**2,
            "adam": 0.9 * v + 0.1 * change**2,
            "yogi": v - 0.1 * change**2 * math.copysign(1, v - change**2),
        }[optimizer]
        x += 0.1 * m / (math.sqrt(v) + 0.01)
        assert state["w"].item() == pytest.approx(x, abs=1e-14)


def test_what_nobody_trained_stays_and_so_do_its_moments() -> None:
    memory: dict[str, Any] = {}
    begin = {"w": tensor([1.0, 2.0])}
    once = FedOpt().server_step(memory, begin, update_of({"w": tensor([0.5, 0.5])}), mask(1, 1))
    moments = {kind: memory[kind]["w"].clone() for kind in ("first", "second")}
    twice = FedOpt().server_step(memory, once, update_of({"w": tensor([0.5, 0.0])}), mask(1, 0))
    assert twice["w"][1] == once["w"][1]
    assert twice["w"][0] != once["w"][0]
    assert all(memory[kind]["w"][1] == moments[kind][1] for kind in moments)


def test_scaffold_removes_client_drift() -> None:
    plug, memory, server = Scaffold(), dict[str, Any](), dict[str, Any]()
    sent = {"w": tensor([0.0, 0.0])}
    change = {"w": tensor([-0.3, 0.6])}
    beside = plug.after_training(memory, sent, change, summed_rate=0.3)
    assert memory["control"]["w"].tolist() == [1.0, -2.0]  # option II: c_i - c + (x - y) / (K eta)
    state = plug.server_step(server, {"w": tensor([5.0, 5.0])}, update_of({**change, **beside}, 1, 4), mask(1, 1))
    assert state["w"].tolist() == [4.7, 5.6]
    assert server["control"]["w"].tolist() == [0.25, -0.5]  # one of four took part
    assert plug.gradient_correction(memory, server["control"])["w"].tolist() == [0.25 - 1, -0.5 + 2]


def test_feddyn_tracks_the_gradient_of_each_client() -> None:
    plug, memory = FedDyn(pull=0.5), dict[str, Any]()
    assert plug.gradient_correction(memory, {}) == {}
    plug.after_training(memory, {}, {"w": tensor([2.0])}, 0.1)
    plug.after_training(memory, {}, {"w": tensor([1.0])}, 0.1)
    assert plug.gradient_correction(memory, {})["w"].tolist() == [0.5 * 3.0]


# ---- a client's own training


def toy(examples: int = 12) -> tuple[Any, Any, Any, Examples]:
    network = build(CnnSmall(width=4, hidden=8, classes=3)).double().train()
    chance = torch.Generator().manual_seed(1)
    images = torch.randn((examples, 1, 8, 8), generator=chance, dtype=torch.float64)
    labels = torch.randint(3, (examples,), generator=chance)
    return (
        network,
        SubnetShapes.from_network(network),
        dict(network.model.named_parameters()),
        Examples((images,), labels),
    )


def trained(algorithm: FedAvg, options: LocalSettings, correction: Any = None) -> dict[str, Any]:
    network, shapes, parameters, examples = toy()
    subnet = network.space.largest.id
    own = shapes.of(subnet)
    done = train(
        network, subnet, parameters, own, examples, options, algorithm.proximal_mu, correction or {}, (7, 1, 1)
    )
    return done.delta


def by_torch(options: LocalSettings, proximal_mu: float = 0.0, correction: Any = None) -> dict[str, Any]:
    """The same with torch's own optimizer, and the pull as a part of the loss."""
    network, _, parameters, examples = toy()
    begin = {name: p.detach().clone() for name, p in parameters.items()}
    if options.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters.values(), options.rate, options.momentum, weight_decay=options.decay)
    else:
        owner = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.optimizer]
        optimizer = owner(parameters.values(), options.rate, weight_decay=options.decay)
    for epoch in range(options.epochs):
        order = torch.from_numpy(stream(7, "order", 1, 1, epoch).permutation(len(examples)))
        for at in order.split(options.batch):
            logits = network.model(examples.inputs[0][at])
            loss = torch.nn.functional.cross_entropy(logits, examples.labels[at])
            for name, parameter in parameters.items():
                loss = loss + proximal_mu / 2 * (parameter - begin[name]).square().sum()
                if correction:
                    loss = loss + (parameter * correction[name]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: p.detach() - begin[name] for name, p in parameters.items()}


OPTIONS = [
    LocalSettings(2, 4, 0.1),
    LocalSettings(2, 4, 0.05, 0.9, 0.01),
    LocalSettings(2, 4, 0.01, decay=0.1, optimizer="adam"),
    LocalSettings(2, 4, 0.01, decay=0.1, optimizer="adamw"),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("algorithm", [FedAvg(), FedProx(pull=0.3)])
def test_a_client_trains_as_torch_does(algorithm: FedAvg, options: LocalSettings) -> None:
    expected = by_torch(options, algorithm.proximal_mu)
    for name, part in trained(algorithm, options).items():
        assert (part - expected[name]).abs().max() < 1e-12


def test_an_objective_of_ones_own_is_what_is_trained() -> None:
    """Cross-entropy written out comes to the same; half of it, with twice the rate as well."""

    def own(network: Any, batch: Any) -> Any:
        return -network(*batch.inputs).log_softmax(1)[torch.arange(len(batch)), batch.labels]

    expected = trained(FedAvg(), LocalSettings(2, 4, 0.1))
    halved = LocalSettings(2, 4, 0.2, objective=lambda network, batch: own(network, batch) / 2)
    for options in (LocalSettings(2, 4, 0.1, objective=own), halved):
        for name, part in trained(FedAvg(), options).items():
            assert (part - expected[name]).abs().max() < 1e-12
    with pytest.raises(TrainingError, match="must return the loss of each example"):
        trained(FedAvg(), LocalSettings(2, 4, 0.1, objective=lambda network, batch: own(network, batch).mean()))


def test_an_attacker_that_flips_labels_trains_as_on_flipped_labels() -> None:
    attacker = Attacker(attack="label_flip")
    attacker.flips_labels = True
    network, shapes, parameters, examples = toy()
    subnet = network.space.largest.id
    flipped = Examples(examples.inputs, 2 - examples.labels)
    options = LocalSettings(2, 4, 0.1)
    expected = train(network, subnet, parameters, shapes.of(subnet), flipped, options, 0.0, {}, (7, 1, 1)).delta
    for name, part in trained(FedAvg(), replace(options, objective=attacker.objective)).items():
        assert (part - expected[name]).abs().max() < 1e-12


@given(st.integers(1, 50), st.floats(0.01, 1.0))
@settings(max_examples=20, deadline=None)
def test_a_schedule_begins_at_the_rate_and_falls(rounds: int, decay: float) -> None:
    begin = LocalSettings(rate=0.3)
    for schedule in ("constant", "cosine"):
        rates = [begin.at_round(version, rounds, schedule, decay).rate for version in range(rounds)]
        assert rates[0] == 0.3
        assert all(later <= earlier for earlier, later in pairwise(rates))
        assert min(rates) > 0


@pytest.mark.parametrize("options", [{"momentum": 0.9, "optimizer": "adam"}, {"rate_decay": 0.0}, {"loss": "mse"}])
def test_options_of_a_trainer_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    assert build_plugin(Trainer, options)[1]


def test_the_correction_is_added_to_the_gradient() -> None:
    _, _, parameters, _ = toy()
    correction = {name: torch.full_like(p, 0.01) for name, p in parameters.items()}
    expected = by_torch(LocalSettings(1, 4, 0.1), correction=correction)
    for name, part in trained(FedAvg(), LocalSettings(1, 4, 0.1), correction).items():
        assert (part - expected[name]).abs().max() < 1e-12


def test_a_subnet_is_trained_and_the_rest_stays() -> None:
    network, shapes, parameters, examples = toy()
    subnet = network.space.smallest.id
    own, before = shapes.of(subnet), {name: p.detach().clone() for name, p in parameters.items()}
    done = train(
        network, subnet, {n: parameters[n] for n in own}, own, examples, LocalSettings(2, 4), 0.0, {}, (7, 1, 1)
    )
    for name, p in parameters.items():
        place = tuple(map(slice, own[name]))
        assert torch.allclose(p[place], before[name][place] + done.delta[name])
        left = p.detach() - before[name]
        left[place] = 0
        assert not left.any()


@given(st.floats(0.01, 10), st.lists(st.floats(-5, 5), min_size=2, max_size=6))
def test_clipping_keeps_the_direction_and_bounds_the_length(clip: float, values: list[float]) -> None:
    change = {"a": tensor(values[:1]), "b": tensor(values[1:])}
    found = clip_norm(change, clip)
    long = math.sqrt(sum(value**2 for value in values))
    short = math.sqrt(sum(float(part.square().sum()) for part in found.values()))
    assert short == pytest.approx(min(long, clip), rel=1e-9, abs=1e-12)
    if long > 0:
        assert torch.allclose(found["b"] * long, change["b"] * short, atol=1e-9)


# ---- who trains what


def test_a_sandwich_has_the_largest_the_smallest_and_others() -> None:
    ends = (SPACE.largest.id, SPACE.smallest.id)
    found = SandwichAssignment().assign(CLIENTS, SPACE, {}, stream(1, "sandwich"))
    assert list(found) == list(CLIENTS)
    assert {*ends} <= {*found.values()}
    alone = SandwichAssignment().assign(CLIENTS[:1], SPACE, {}, stream(1, "sandwich"))
    assert list(alone.values()) == [SPACE.largest.id]


def test_the_tracking_sandwich_gives_all_their_turn() -> None:
    memory: dict[str, Any] = {}
    rng = stream(1, "tracking")
    rounds = [TrackingSandwichAssignment().assign(CLIENTS, SPACE, memory, rng) for _ in range(4 * len(CLIENTS))]
    for end, subnet in (("largest", SPACE.largest.id), ("smallest", SPACE.smallest.id)):
        assert sum(memory[end].values()) == len(rounds)
        assert max(memory[end].values()) - min(memory[end].values()) <= 1, end
        assert all(subnet in found.values() for found in rounds)


def test_a_static_rule_never_changes_and_deals_evenly() -> None:
    memory: dict[str, Any] = {}
    rule, rng = StaticAssignment(subnets=3), stream(1, "static")
    first = rule.assign(CLIENTS, SPACE, memory, rng)
    assert first == {**rule.assign(CLIENTS[3:], SPACE, memory, rng), **rule.assign(CLIENTS[:3], SPACE, memory, rng)}
    assert sorted(map([*first.values()].count, set(first.values()))) == [2, 2, 2]


def test_random_and_largest() -> None:
    assert set(LargestAssignment().assign(CLIENTS, SPACE, {}, stream(1, "x")).values()) == {SPACE.largest.id}
    assert len(set(RandomAssignment().assign(CLIENTS, SPACE, {}, stream(1, "x")).values())) == len(CLIENTS)


def test_maxnets_share_falls_along_a_cosine() -> None:
    plug = MaxNet(first=0.8, last=0.2, over=0.5)
    shares = [plug.share(done, 100) for done in range(101)]
    assert shares[0] == 0.8
    assert shares[25] == pytest.approx(0.5)
    assert shares[50:] == [pytest.approx(0.2)] * 51
    assert all(a >= b for a, b in pairwise(shares))
    with pytest.raises(SpecError, match="leaves no weight"):
        MaxNet(first=1.0)


# ---- compression


@pytest.mark.parametrize("plug", [TopK(0.25), EightBit()])
def test_what_is_left_out_comes_later(plug: Any) -> None:
    """What was sent in all, and what is left, are all that there was to send."""
    memory: dict[str, Any] = {}
    chance = torch.Generator().manual_seed(1)
    wanted, sent = torch.zeros(8, 5, dtype=torch.float64), torch.zeros(8, 5, dtype=torch.float64)
    for turn in range(12):
        rows = 8 if turn % 3 else 4  # a smaller subnet now and then
        change = torch.randn((rows, 5), generator=chance, dtype=torch.float64)
        wanted[:rows] += change
        sent[:rows] += decompress_update(update_of(compress_delta({"w": change}, plug, memory))).delta["w"]
    assert (wanted - sent - memory["residual"]["w"]).abs().max() < 1e-12
    assert memory["residual"]["w"].abs().max() < 6  # and it does not pile up


def test_eight_bits_are_off_by_half_a_step_at_most() -> None:
    part = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    packed = EightBit().compress(part)
    assert packed.levels.dtype == torch.int8
    assert (packed.decompress() - part).abs().max() <= part.abs().max() / 127 / 2 * 1.001
    assert not EightBit().compress(torch.zeros(3)).decompress().any()


def test_top_k_sends_what_changed_most() -> None:
    part = tensor([[0.1, -5.0], [3.0, 0.2]])
    packed = TopK(0.5).compress(part)
    assert packed.decompress().tolist() == [[0, -5.0], [3.0, 0]]
    assert (packed.indices.dtype, len(packed.values)) == (torch.int32, 2)


# ---- privacy


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (2.0, 10), (5.0, 100)])
def test_epsilon_without_sampling_is_between_the_exact_one_and_that_of_renyi(noise: float, rounds: int) -> None:
    """T Gaussian mechanisms are one with noise / sqrt(T), whose epsilon is known (Balle and Wang, ICML 2018)."""
    pytest.importorskip("dp_accounting", reason="accounting needs the extra [privacy]")
    from scipy.optimize import brentq
    from scipy.stats import norm

    delta, s = 1e-5, noise / math.sqrt(rounds)

    def left(epsilon: float) -> float:
        below = norm.cdf(0.5 / s - epsilon * s)
        return float(below - math.exp(epsilon) * norm.cdf(-0.5 / s - epsilon * s)) - delta

    exact = brentq(left, 0, 200)
    found = Privacy(noise=noise, delta=delta).epsilon([[1.0, rounds]])
    renyi = 0.5 / s**2 + math.sqrt(2 * math.log(1 / delta)) / s
    assert exact <= found <= renyi * 1.001


def test_sampling_amplifies_and_rounds_add_up() -> None:
    pytest.importorskip("dp_accounting", reason="accounting needs the extra [privacy]")
    plug = Privacy(noise=1.0)
    assert plug.epsilon([[0.01, 100]]) < 0.2 * plug.epsilon([[1.0, 100]])
    assert plug.epsilon([[0.1, 10]]) < plug.epsilon([[0.1, 11]])
    assert Privacy(noise=0.0).epsilon([[1.0, 1]]) == math.inf
    assert add_round(add_round(add_round([], 0.5), 0.5), 1.0) == [[0.5, 2], [1.0, 1]]


def test_noise_is_that_of_the_sum_over_the_weight() -> None:
    plug, shapes = Privacy(clip=2.0, noise=1.5), {"w": (200, 300)}
    mean = Update({"w": torch.zeros(shapes["w"], dtype=torch.float64)}, {"s": 4.0})
    found = plug.add_noise(mean, SubnetShapes(shapes, {"s": shapes}), stream(1, "noise")).delta["w"]
    assert float(found.std()) == pytest.approx(1.5 * 2.0 / 4, rel=0.02)
    assert abs(float(found.mean())) < 0.01


# ---- selection


def test_oort_prefers_who_promises_much_and_is_quick() -> None:
    notes = {peer: {"utility": 1.0, "seconds": 1.0, "round": 1, "loss": 1.0} for peer in CLIENTS}
    notes[CLIENTS[0]]["utility"] = 50.0
    notes[CLIENTS[1]]["seconds"] = 100.0
    plug, rng = Oort(k=2, explore=0.0, least=0.0), stream(1, "oort")
    counts = dict.fromkeys(CLIENTS, 0)
    for _ in range(400):
        chosen = plug.choose(CLIENTS, notes, rng)
        assert len(chosen) == 2
        for peer in chosen:
            counts[peer] += 1
    assert counts[CLIENTS[0]] > 390
    assert counts[CLIENTS[1]] < 5
    assert min(counts[peer] for peer in CLIENTS[2:]) > 50


def test_oort_explores_those_that_are_not_known() -> None:
    notes = {peer: {"utility": 1.0, "seconds": 1.0, "round": 1} for peer in CLIENTS[:4]}
    rng = stream(1, "oort")
    for _ in range(20):
        assert set(CLIENTS[4:]) & set(Oort(k=2, explore=0.5, least=0.5).choose(CLIENTS, notes, rng))
    assert Oort(k=9).choose(CLIENTS, {}, rng) == CLIENTS
    assert len(Oort(k=3).choose(CLIENTS, {}, rng)) == 3


def test_power_of_choice_takes_the_worst_of_some() -> None:
    notes = {peer: {"loss": float(number)} for number, peer in enumerate(CLIENTS)}
    rng = stream(1, "choice")
    assert PowerOfChoice(k=2, among=6).choose(CLIENTS, notes, rng) == CLIENTS[-2:]
    picks = [PowerOfChoice(k=1, among=2).choose(CLIENTS, notes, rng)[0] for _ in range(3000)]
    share = picks.count(CLIENTS[-1]) / len(picks)
    assert share == pytest.approx(2 / 6, abs=0.03)  # it wins whenever it is drawn
    assert CLIENTS[0] not in picks


# ---- partitions

LABELS = np.repeat(np.arange(10), 60)


@given(st.sampled_from([Iid(), Dirichlet(alpha=0.5), LabelSkew(classes=2), Quantity()]), st.integers(5, 12))
@settings(max_examples=40)
def test_each_example_belongs_to_one_client(plug: Any, clients: int) -> None:
    found = plug.split(LABELS, [1] * clients, 7)
    assert sorted(np.concatenate(found)) == list(range(len(LABELS)))
    assert all(len(part) for part in found)
    again = plug.split(LABELS, [1] * clients, 7)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("alpha", [0.01, 0.1, 100.0])
@pytest.mark.parametrize("clients", [3, 7, 40])
def test_equal_dirichlet_gives_all_the_same_number_and_no_example_twice(alpha: float, clients: int) -> None:
    found = DirichletEqual(alpha=alpha).split(LABELS, [1] * clients, 7)
    assert {len(part) for part in found} == {len(LABELS) // clients}
    assert len(np.unique(np.concatenate(found))) == clients * (len(LABELS) // clients)


def test_iid_follows_sizes_and_label_skew_gives_few_classes() -> None:
    assert [len(part) for part in Iid().split(LABELS, [1, 2, 3], 7)] == [100, 200, 300]
    for part in LabelSkew(classes=3).split(LABELS, [1] * 10, 7):
        assert len(np.unique(LABELS[part])) == 3


@given(st.lists(st.sampled_from(["a", "b", "with space", "7"]), min_size=1, max_size=40), st.randoms())
def test_a_natural_partition_gives_each_example_to_its_client(clients: list[str], shuffle: Any) -> None:
    ids = sorted(set(clients))
    shuffle.shuffle(ids)
    found = divided(Natural(), LABELS[: len(clients)], [1] * len(ids), 7, Clients(ids, clients))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(clients)))
    for id_, part in zip(ids, found, strict=True):
        assert {clients[example] for example in part} == {id_}


def test_what_a_natural_client_holds_out_is_no_stretch_of_the_file() -> None:
    """The last rows of a file that is sorted by label are of one class."""
    for part in Natural().split(LABELS[:400], [1, 1], 7, Clients(["a", "b"], ["a", "b"] * 200)):
        assert 100 < np.mean(part[-40:]) < 300
        assert len(np.unique(part[-40:] // 100)) == 4


@pytest.mark.parametrize(
    ("clients", "ids", "says"),
    [
        (None, ["a"], "does not say which client"),
        (["a", "b"], ["a"], r"not in the topology \(b\); datasets: {ROLE: {default: \['a', 'b'\]}}"),
        (["a"], ["a", "b"], r"not in the data \(b\)"),
        ([f"{n:02}" for n in range(30)], ["00"], r"01, .*, 10, ... \(19 more\).*'00', '01'"),
    ],
)
def test_a_natural_partition_of_other_clients_is_refused(clients: Any, ids: list[str], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Natural().split(LABELS[:30], [1] * len(ids), 7, Clients(ids, clients))


@dataclass(frozen=True)
class ByInitial:
    """A partition of one's own that uses the column of clients: each takes those whose name begins as its own."""

    uses_sizes: ClassVar[bool] = False
    uses_clients: ClassVar[bool] = True

    def split(self, labels: Any, sizes: Any, seed: int, clients: Clients) -> list[Any]:
        assert clients.of_examples is not None
        return [np.flatnonzero([name[0] == id_[0] for name in clients.of_examples]) for id_ in clients.ids]


@dataclass(frozen=True)
class Fixed:
    """A partition of one's own as it was before there were clients."""

    parts: Any
    uses_sizes: ClassVar[bool] = False

    def split(self, labels: Any, sizes: Any, seed: int) -> list[Any]:
        return [np.array(part, dtype=int) for part in self.parts]


def test_a_partition_of_ones_own_gets_what_it_asks_for() -> None:
    clients = Clients(["north", "south"], ["n1", "s1", "n2", "s2"])
    found = divided(ByInitial(), LABELS[:4], [1, 1], 7, clients)
    assert [part.tolist() for part in found] == [[0, 2], [1, 3]]
    assert [part.tolist() for part in divided(Fixed([[3], [1, 0]]), LABELS[:4], [1, 1], 7, clients)] == [[3], [1, 0]]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([[0]], r"another number of parts \(1 of Fixed\); 2, one for each client"),
        ([[0], []], "a client gets no examples"),
        ([[0, 1], [1]], r"Fixed gave away an example twice \(example 1\)"),
        ([[0, 0], [1]], r"Fixed gave away an example twice \(example 0\)"),
        ([[0], [4]], r"Fixed gave away an unknown example \(4\); 0 to 3"),
        ([[0], [-1]], r"unknown example \(-1\)"),
    ],
)
def test_a_partition_that_divides_wrongly_is_refused(parts: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        divided(Fixed(parts), LABELS[:4], [1, 1], 7, Clients(["a", "b"], None))


def test_the_smaller_alpha_the_more_clients_differ() -> None:
    def spread(plug: Any) -> float:
        found = plug.split(LABELS, [1] * 8, 7)
        shares = [np.bincount(LABELS[part], minlength=10) / len(part) for part in found]
        return float(np.std(shares))

    assert spread(Dirichlet(alpha=0.1, least=1)) > 2 * spread(Dirichlet(alpha=1, least=1))
    assert spread(Dirichlet(alpha=1, least=1)) > 2 * spread(Dirichlet(alpha=100))
    assert spread(DirichletEqual(alpha=1)) > 2 * spread(DirichletEqual(alpha=1000))


@pytest.mark.parametrize(
    ("plug", "clients", "says"),
    [
        (Dirichlet(alpha=0.01, least=50), 20, "gives each client enough"),
        (LabelSkew(classes=11), 9, "exceeds the classes"),
        (LabelSkew(classes=1), 3, "too small to cover"),
        (Quantity(least=100), 7, "more examples than exist"),
        (Iid(), 700, "a client gets no examples"),
    ],
)
def test_clients_without_examples_are_refused(plug: Any, clients: int, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        plug.split(LABELS, [1] * clients, 7)


def test_no_message_is_pickled_with_what_its_tensors_are_views_of() -> None:
    whole = torch.arange(100_000.0)
    view = {"w": whole[:10], "b": whole[10:12]}
    for message in (TrainingTask(1, "s", view), Update(view, {"s": 1.0}), Chunk(0, 1, whole[:10])):
        content = pickle.dumps(message)
        assert len(content) < 5000
        again = pickle.loads(content)  # noqa: S301 - made here
        assert type(again) is type(message)
        parts = (again.values, whole[:10]) if isinstance(again, Chunk) else (vars_of(again)["w"], view["w"])
        assert torch.equal(*parts)
    odd = Update({"w": "not a tensor"}, {}, 0, 0, base=3)
    empty = pickle.loads(pickle.dumps(odd))  # noqa: S301 - made here
    assert (empty.delta, empty.clients, empty.base) == ({"w": "not a tensor"}, 0, 3)


def vars_of(message: Any) -> Any:
    return message.state if isinstance(message, TrainingTask) else message.delta
