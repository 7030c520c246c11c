from __future__ import annotations

import copy
import io
import pickle
import threading
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from sim.base.errors import DataError, SpecError
from sim.base.streams import stream
from sim.tables.latency import ControlTuple
from supernet.space import SubNet
from supernet.statistics import calibrate, leading_statistics
from tests.supernet.built import pictures, small, texts, tiny_bert

if TYPE_CHECKING:
    from supernet.network import Supernet

SMALLEST, MIDDLE = "ofa_resnet_small:d0x3:e0.5x9:w0x3", "ofa_resnet_small:d1,0,2:e0.75x9:w1,2,3"


def calibrated(*subnets: str, **options: int) -> Supernet:
    held = small(**options).eval()
    for subnet in subnets:
        held.set_statistics(subnet, leading_statistics(held, subnet))
    return held


def storage_of(held: Supernet) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in (*held.model.parameters(), *held.model.buffers())}


def test_a_second_actuation_is_a_look_up() -> None:
    held = calibrated(SMALLEST)
    first = held.actuate(SMALLEST)
    assert held.actuate(SMALLEST) is first
    assert held.actuate(SubNet.parse(SMALLEST)) is first


def test_actuation_copies_no_weight() -> None:
    held = calibrated(SMALLEST, MIDDLE)
    own = storage_of(held) | {held._statistics[subnet].untyped_storage().data_ptr() for subnet in held._statistics}
    for subnet in (SMALLEST, MIDDLE, held.space.largest):
        network = held.actuate(subnet)
        held_by = [*network.parameters(), *network.buffers()]
        assert len(held_by) > 30
        assert {tensor.untyped_storage().data_ptr() for tensor in held_by} <= own


def test_a_subnet_sees_changes_of_the_shared_weights() -> None:
    held = calibrated(SMALLEST)
    network, before = held.actuate(SMALLEST), held(pictures(), SMALLEST)
    with torch.no_grad():
        held.model.classifier.linear.bias += 1.0
    assert torch.allclose(network(pictures()), before + 1.0)


def test_subnets_do_not_disturb_each_other() -> None:
    held = calibrated(SMALLEST, MIDDLE)
    alone = {subnet: held(pictures(), subnet) for subnet in (SMALLEST, MIDDLE, held.space.largest.id)}
    rng = stream(0, "test")
    for _ in range(5):
        for subnet in rng.permutation(list(alone)):
            assert torch.equal(held(pictures(), str(subnet)), alone[subnet])


def test_threads_run_different_subnets_at_once() -> None:
    held = calibrated(SMALLEST, MIDDLE, held=2)
    subnets = [SMALLEST, MIDDLE, held.space.largest.id]
    alone = {subnet: held(pictures(), subnet) for subnet in subnets}
    wrong: list[str] = []
    start = threading.Barrier(len(subnets))

    def work(subnet: str) -> None:
        start.wait()
        with torch.no_grad():
            wrong.extend(subnet for _ in range(40) if not torch.equal(held(pictures(), subnet), alone[subnet]))

    threads = [threading.Thread(target=work, args=(subnet,)) for subnet in subnets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("options", [{"held": 0}, {"cache_bytes": -1}])
def test_bounds_that_are_none_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"ofa_resnet_small, held and cache_bytes: are out of range"):
        small(**options)


def test_of_more_subnets_than_are_held_the_least_used_goes() -> None:
    held = calibrated(SMALLEST, MIDDLE, held=2)
    first, second = held.actuate(SMALLEST), held.actuate(MIDDLE)
    held.actuate(SMALLEST)
    held.actuate(held.space.largest)
    assert held.actuate(SMALLEST) is first
    assert held.actuate(MIDDLE) is not second


def test_a_subnet_without_statistics_is_refused() -> None:
    held = small().eval()
    says = rf"subnet {SMALLEST}: has no running statistics; calibrate it"
    with pytest.raises(SpecError, match=says):
        held(pictures(), SMALLEST)
    with pytest.raises(SpecError, match=says):
        held.statistics_of(SMALLEST)
    held.train()(pictures(), SMALLEST)


def test_the_networks_own_statistics_are_those_of_the_largest() -> None:
    held = small().eval()
    assert held.calibrated == (held.space.largest.id,)
    assert torch.equal(held(pictures(), held.space.largest), held.model(pictures()))
    held.forget_statistics()
    assert held.calibrated == ()
    with pytest.raises(SpecError, match="has no running statistics"):
        held(pictures(), held.space.largest)


def test_a_network_without_norms_needs_no_statistics() -> None:
    held = tiny_bert().eval()
    assert held(texts(), held.space.smallest).shape == (3, 2)
    assert held.calibrated == ()


@pytest.mark.parametrize(
    ("subnet", "says"),
    [
        ("ofa_resnet_small:d0x3:e0.5x9", r"ofa_resnet_small, widths: has the wrong length \(0: none\); 3 entries"),
        ("ofa_resnet_small:d0,0,3:e0.5x9:w0x3", r"depths\[2\]: is no choice \(3\); one of 0, 1, 2"),
        ("ofa_resnet50:d0x5:e0.2x18:w0x6", r"is of another supernet \(ofa_resnet50\); ofa_resnet_small"),
        ("2", r"subnet: is no id \('2'\)"),
        (SubNet("ofa_resnet_small", ControlTuple((0,), (), ())), "depths: has the wrong length"),
    ],
)
def test_a_subnet_that_there_is_not_is_refused(subnet: str | SubNet, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        small().actuate(subnet)


def test_a_batch_of_one_is_not_trained_on() -> None:
    held = small()
    with pytest.raises(SpecError, match=r"batch: has one example only \(shape \(1, 1, 8, 8\)\); two or more"):
        held(pictures(1), SMALLEST)
    assert held.eval()(pictures(1), held.space.largest).shape == (1, 10)
    assert tiny_bert()(texts(1), "dynabert_small:d1:e0.25").shape == (1, 2)


def test_training_changes_no_statistics() -> None:
    held = small()
    before = held.statistics_of(held.space.largest)
    for subnet in (SMALLEST, held.space.largest):
        held(pictures(), subnet)
    assert torch.equal(held.statistics_of(held.space.largest), before)


def test_a_training_step_changes_what_every_subnet_shares() -> None:
    held = small()
    optimizer = torch.optim.SGD(held.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = sum(held(pictures(), subnet).square().mean() for subnet in (SMALLEST, MIDDLE, held.space.largest))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_mode_counts_when_a_subnet_is_asked_for() -> None:
    held = calibrated(SMALLEST)
    served = held.actuate(SMALLEST)
    held.train()
    trained = held.actuate(SMALLEST)
    assert served is not trained
    assert (trained.training, held.model.training) == (True, True)
    held.eval()
    assert torch.equal(held(pictures(), SMALLEST), served(pictures()))


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.full((2 * 44,), float("nan"), dtype=torch.double)])
def test_statistics_that_do_not_fit_are_refused(wrong: torch.Tensor) -> None:
    says = r"have the wrong shape \(\(3,\)\); \(\d+,\)" if len(wrong) == 3 else r"are not all finite \(\d+ are not\)"
    held = small()
    size = len(leading_statistics(held, SMALLEST))
    given = wrong if len(wrong) == 3 else wrong[:1].expand(size)
    with pytest.raises(DataError, match=rf"statistics of {SMALLEST}: {says}"):
        held.set_statistics(SMALLEST, given)


def test_new_statistics_are_used_at_once() -> None:
    held = calibrated(SMALLEST)
    before = held(pictures(), SMALLEST)
    held.set_statistics(SMALLEST, leading_statistics(held, SMALLEST) + 0.5)
    assert not torch.allclose(held(pictures(), SMALLEST), before)


def test_a_state_dict_holds_weights_under_their_names_and_all_statistics() -> None:
    held, other = calibrated(SMALLEST), small().eval()
    state = held.state_dict()
    assert "model.blocks.0.conv1.conv.weight" in state
    other.load_state_dict(state)
    assert other.calibrated == held.calibrated
    assert torch.equal(other(pictures(), SMALLEST), held(pictures(), SMALLEST))


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_copies_are_whole_and_apart(way: str) -> None:
    held = calibrated(SMALLEST)
    expected = held(pictures(), SMALLEST)
    if way == "deepcopy":
        twin = copy.deepcopy(held)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(held))  # noqa: S301 - our own bytes
    else:
        file = io.BytesIO()
        torch.save(held, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    assert torch.equal(twin(pictures(), SMALLEST), expected)
    assert not storage_of(twin) & storage_of(held)


def test_a_change_of_dtype_takes_statistics_along() -> None:
    held = calibrated(SMALLEST)
    expected = held(pictures(), SMALLEST)
    found = held.float()(pictures().float(), SMALLEST)
    assert found.dtype == torch.float
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_inference_mode_leaves_a_subnet_fit_for_training() -> None:
    held = calibrated(SMALLEST)
    with torch.inference_mode():
        held(pictures(), SMALLEST)
    held(pictures(), SMALLEST).sum().backward()
    assert held.model.classifier.linear.weight.grad is not None


def copies_of(held: Supernet, subnet: str) -> int:
    shared = {parameter.untyped_storage().data_ptr() for parameter in held.parameters()}
    weights = [b for name, b in held.actuate(subnet).named_buffers() if name.endswith("weight")]
    return sum(weight.nbytes for weight in weights if weight.untyped_storage().data_ptr() not in shared)


def test_a_cache_holds_contiguous_slices_and_is_counted() -> None:
    plain, held = calibrated(MIDDLE), calibrated(MIDDLE, cache_bytes=10**6)
    assert held.memory().cache == 0
    assert torch.equal(held(pictures(), MIDDLE), plain(pictures(), MIDDLE))
    assert all(buffer.is_contiguous() for buffer in held.actuate(MIDDLE).buffers())
    assert held.memory().cache == copies_of(held, MIDDLE) > 0
    assert plain.memory().cache == copies_of(plain, MIDDLE) == 0
    assert held.memory()[:2] == plain.memory()[:2]


def test_a_cache_keeps_to_its_bound() -> None:
    needed = {subnet: copies_of(calibrated(subnet, cache_bytes=10**6), subnet) for subnet in (SMALLEST, MIDDLE)}
    held = calibrated(SMALLEST, MIDDLE, cache_bytes=needed[MIDDLE])
    for subnet in (SMALLEST, MIDDLE, SMALLEST):
        held.actuate(subnet)
        assert held.memory().cache == needed[subnet], "the other had to go"
    tight = calibrated(MIDDLE, cache_bytes=needed[MIDDLE] - 1)
    assert copies_of(tight, MIDDLE) == tight.memory().cache == 0


def test_a_cache_is_never_behind_the_weights() -> None:
    held = calibrated(MIDDLE, cache_bytes=10**6)
    before = held(pictures(), MIDDLE)
    with torch.no_grad():
        held.model.blocks[0].conv2.conv.weight.mul_(2.0)
    after = held(pictures(), MIDDLE)
    assert not torch.allclose(after, before)
    held.cache_bytes = 0
    held.train().eval()
    assert torch.equal(held(pictures(), MIDDLE), after)


def test_gradients_pass_through_cached_slices() -> None:
    grads = []
    for cache_bytes in (0, 10**6):
        held = calibrated(MIDDLE, cache_bytes=cache_bytes)
        held(pictures(), MIDDLE).square().sum().backward()
        grads.append([parameter.grad for parameter in held.parameters() if parameter.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 10
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_a_cache_keeps_channels_last() -> None:
    held = calibrated(MIDDLE, cache_bytes=10**6).to(memory_format=torch.channels_last)
    weight = held.actuate(MIDDLE).blocks[1].conv2.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_equal_networks_have_equal_choices() -> None:
    """With the last block of a stage left out, its expand ratio is of no account."""
    held = small()
    one, other = (f"ofa_resnet_small:d1x3:e0.5,0.5,{e},0.5x6:w0x3" for e in (0.5, 1.0))
    assert held.choice(one) == held.choice(other)
    assert held.choice(one) != held.choice(SMALLEST)


def test_calibrating_takes_the_supernet_back_to_its_mode() -> None:
    held = small()
    calibrate(held, SMALLEST, [pictures()])
    assert held.training
    assert all(module.training for module in held.modules())
    assert isinstance(held.model, nn.Module)
