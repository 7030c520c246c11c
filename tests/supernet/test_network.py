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
from supernet.space import SubnetConfig
from supernet.statistics import calibrate, leading_statistics
from tests.supernet.built import pictures, small, texts, tiny_bert

if TYPE_CHECKING:
    from supernet.network import Supernet

SMALLEST, MIDDLE = "ofa_resnet_small:d0x3:e0.5x9:w0x3", "ofa_resnet_small:d1,0,2:e0.75x9:w1,2,3"


def calibrated(*subnets: str, **options: int) -> Supernet:
    supernet = small(**options).eval()
    for subnet in subnets:
        supernet.set_statistics(subnet, leading_statistics(supernet, subnet))
    return supernet


def storage_of(supernet: Supernet) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in (*supernet.model.parameters(), *supernet.model.buffers())}


def test_a_second_actuation_is_a_look_up() -> None:
    supernet = calibrated(SMALLEST)
    first = supernet.actuate(SMALLEST)
    assert supernet.actuate(SMALLEST) is first
    assert supernet.actuate(SubnetConfig.parse(SMALLEST)) is first


def test_actuation_copies_no_weight() -> None:
    supernet = calibrated(SMALLEST, MIDDLE)
    own = storage_of(supernet) | {
        supernet._statistics[subnet].untyped_storage().data_ptr() for subnet in supernet._statistics
    }
    for subnet in (SMALLEST, MIDDLE, supernet.space.largest):
        network = supernet.actuate(subnet)
        held_by = [*network.parameters(), *network.buffers()]
        assert len(held_by) > 30
        assert {tensor.untyped_storage().data_ptr() for tensor in held_by} <= own


def test_a_subnet_sees_changes_of_the_shared_weights() -> None:
    supernet = calibrated(SMALLEST)
    network, before = supernet.actuate(SMALLEST), supernet(pictures(), SMALLEST)
    with torch.no_grad():
        supernet.model.classifier.linear.bias += 1.0
    assert torch.allclose(network(pictures()), before + 1.0)


def test_subnets_do_not_disturb_each_other() -> None:
    supernet = calibrated(SMALLEST, MIDDLE)
    alone = {subnet: supernet(pictures(), subnet) for subnet in (SMALLEST, MIDDLE, supernet.space.largest.id)}
    rng = stream(0, "test")
    for _ in range(5):
        for subnet in rng.permutation(list(alone)):
            assert torch.equal(supernet(pictures(), str(subnet)), alone[subnet])


def test_threads_run_different_subnets_at_once() -> None:
    supernet = calibrated(SMALLEST, MIDDLE, max_cached=2)
    subnets = [SMALLEST, MIDDLE, supernet.space.largest.id]
    alone = {subnet: supernet(pictures(), subnet) for subnet in subnets}
    wrong: list[str] = []
    start = threading.Barrier(len(subnets))

    def work(subnet: str) -> None:
        start.wait()
        with torch.no_grad():
            wrong.extend(subnet for _ in range(40) if not torch.equal(supernet(pictures(), subnet), alone[subnet]))

    threads = [threading.Thread(target=work, args=(subnet,)) for subnet in subnets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("options", [{"max_cached": 0}, {"cache_bytes": -1}])
def test_bounds_that_are_none_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"ofa_resnet_small, max_cached and cache_bytes: out of range"):
        small(**options)


def test_of_more_subnets_than_are_held_the_least_used_goes() -> None:
    supernet = calibrated(SMALLEST, MIDDLE, max_cached=2)
    first, second = supernet.actuate(SMALLEST), supernet.actuate(MIDDLE)
    supernet.actuate(SMALLEST)
    supernet.actuate(supernet.space.largest)
    assert supernet.actuate(SMALLEST) is first
    assert supernet.actuate(MIDDLE) is not second


def test_a_subnet_without_statistics_is_refused() -> None:
    supernet = small().eval()
    says = rf"subnet {SMALLEST}: has no running statistics; calibrate it"
    with pytest.raises(SpecError, match=says):
        supernet(pictures(), SMALLEST)
    with pytest.raises(SpecError, match=says):
        supernet.statistics_of(SMALLEST)
    supernet.train()(pictures(), SMALLEST)


def test_the_networks_own_statistics_are_those_of_the_largest() -> None:
    supernet = small().eval()
    assert supernet.calibrated == (supernet.space.largest.id,)
    assert torch.equal(supernet(pictures(), supernet.space.largest), supernet.model(pictures()))
    supernet.forget_statistics()
    assert supernet.calibrated == ()
    with pytest.raises(SpecError, match="has no running statistics"):
        supernet(pictures(), supernet.space.largest)


def test_a_network_without_norms_needs_no_statistics() -> None:
    supernet = tiny_bert().eval()
    assert supernet(texts(), supernet.space.smallest).shape == (3, 2)
    assert supernet.calibrated == ()


@pytest.mark.parametrize(
    ("subnet", "says"),
    [
        ("ofa_resnet_small:d0x3:e0.5x9", r"ofa_resnet_small, widths: wrong length \(0: none\); 3 entries"),
        ("ofa_resnet_small:d0,0,3:e0.5x9:w0x3", r"depths\[2\]: not a choice \(3\); one of 0, 1, 2"),
        ("ofa_resnet50:d0x5:e0.2x18:w0x6", r"belongs to another family \(ofa_resnet50\); ofa_resnet_small"),
        ("2", r"subnet: invalid subnet id \('2'\)"),
        (SubnetConfig("ofa_resnet_small", ControlTuple((0,), (), ())), "depths: wrong length"),
    ],
)
def test_a_subnet_that_there_is_not_is_refused(subnet: str | SubnetConfig, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        small().actuate(subnet)


def test_a_batch_of_one_is_not_trained_on() -> None:
    supernet = small()
    with pytest.raises(SpecError, match=r"batch: has only one example \(shape \(1, 1, 8, 8\)\); two or more"):
        supernet(pictures(1), SMALLEST)
    assert supernet.eval()(pictures(1), supernet.space.largest).shape == (1, 10)
    assert tiny_bert()(texts(1), "dynabert_small:d1:e0.25").shape == (1, 2)


def test_training_changes_no_statistics() -> None:
    supernet = small()
    before = supernet.statistics_of(supernet.space.largest)
    for subnet in (SMALLEST, supernet.space.largest):
        supernet(pictures(), subnet)
    assert torch.equal(supernet.statistics_of(supernet.space.largest), before)


def test_a_training_step_changes_what_every_subnet_shares() -> None:
    supernet = small()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = sum(
            supernet(pictures(), subnet).square().mean() for subnet in (SMALLEST, MIDDLE, supernet.space.largest)
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_mode_counts_when_a_subnet_is_asked_for() -> None:
    supernet = calibrated(SMALLEST)
    served = supernet.actuate(SMALLEST)
    supernet.train()
    trained = supernet.actuate(SMALLEST)
    assert served is not trained
    assert (trained.training, supernet.model.training) == (True, True)
    supernet.eval()
    assert torch.equal(supernet(pictures(), SMALLEST), served(pictures()))


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.full((2 * 44,), float("nan"), dtype=torch.double)])
def test_statistics_that_do_not_fit_are_refused(wrong: torch.Tensor) -> None:
    says = r"wrong shape \(\(3,\)\); \(\d+,\)" if len(wrong) == 3 else r"not all finite \(\d+ of \d+ are not\)"
    supernet = small()
    size = len(leading_statistics(supernet, SMALLEST))
    given = wrong if len(wrong) == 3 else wrong[:1].expand(size)
    with pytest.raises(DataError, match=rf"statistics of {SMALLEST}: {says}"):
        supernet.set_statistics(SMALLEST, given)


def test_new_statistics_are_used_at_once() -> None:
    supernet = calibrated(SMALLEST)
    before = supernet(pictures(), SMALLEST)
    supernet.set_statistics(SMALLEST, leading_statistics(supernet, SMALLEST) + 0.5)
    assert not torch.allclose(supernet(pictures(), SMALLEST), before)


def test_a_state_dict_holds_weights_under_their_names_and_all_statistics() -> None:
    supernet, other = calibrated(SMALLEST), small().eval()
    state = supernet.state_dict()
    assert "model.blocks.0.conv1.conv.weight" in state
    other.load_state_dict(state)
    assert other.calibrated == supernet.calibrated
    assert torch.equal(other(pictures(), SMALLEST), supernet(pictures(), SMALLEST))


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_copies_are_whole_and_apart(way: str) -> None:
    supernet = calibrated(SMALLEST)
    expected = supernet(pictures(), SMALLEST)
    if way == "deepcopy":
        twin = copy.deepcopy(supernet)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(supernet))  # noqa: S301 - our own bytes
    else:
        file = io.BytesIO()
        torch.save(supernet, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    assert torch.equal(twin(pictures(), SMALLEST), expected)
    assert not storage_of(twin) & storage_of(supernet)


def test_a_change_of_dtype_takes_statistics_along() -> None:
    supernet = calibrated(SMALLEST)
    expected = supernet(pictures(), SMALLEST)
    found = supernet.float()(pictures().float(), SMALLEST)
    assert found.dtype == torch.float
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_inference_mode_leaves_a_subnet_fit_for_training() -> None:
    supernet = calibrated(SMALLEST)
    with torch.inference_mode():
        supernet(pictures(), SMALLEST)
    supernet(pictures(), SMALLEST).sum().backward()
    assert supernet.model.classifier.linear.weight.grad is not None


def copies_of(supernet: Supernet, subnet: str) -> int:
    shared = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
    weights = [b for name, b in supernet.actuate(subnet).named_buffers() if name.endswith("weight")]
    return sum(weight.nbytes for weight in weights if weight.untyped_storage().data_ptr() not in shared)


def test_a_cache_holds_contiguous_slices_and_is_counted() -> None:
    plain, supernet = calibrated(MIDDLE), calibrated(MIDDLE, cache_bytes=10**6)
    assert supernet.memory().cache == 0
    assert torch.equal(supernet(pictures(), MIDDLE), plain(pictures(), MIDDLE))
    assert all(buffer.is_contiguous() for buffer in supernet.actuate(MIDDLE).buffers())
    assert supernet.memory().cache == copies_of(supernet, MIDDLE) > 0
    assert plain.memory().cache == copies_of(plain, MIDDLE) == 0
    assert supernet.memory()[:2] == plain.memory()[:2]


def test_a_cache_keeps_to_its_bound() -> None:
    needed = {subnet: copies_of(calibrated(subnet, cache_bytes=10**6), subnet) for subnet in (SMALLEST, MIDDLE)}
    supernet = calibrated(SMALLEST, MIDDLE, cache_bytes=needed[MIDDLE])
    for subnet in (SMALLEST, MIDDLE, SMALLEST):
        supernet.actuate(subnet)
        assert supernet.memory().cache == needed[subnet], "the other had to go"
    tight = calibrated(MIDDLE, cache_bytes=needed[MIDDLE] - 1)
    assert copies_of(tight, MIDDLE) == tight.memory().cache == 0


def test_a_cache_is_never_behind_the_weights() -> None:
    supernet = calibrated(MIDDLE, cache_bytes=10**6)
    before = supernet(pictures(), MIDDLE)
    with torch.no_grad():
        supernet.model.blocks[0].conv2.conv.weight.mul_(2.0)
    after = supernet(pictures(), MIDDLE)
    assert not torch.allclose(after, before)
    supernet.cache_bytes = 0
    supernet.train().eval()
    assert torch.equal(supernet(pictures(), MIDDLE), after)


def test_gradients_pass_through_cached_slices() -> None:
    grads = []
    for cache_bytes in (0, 10**6):
        supernet = calibrated(MIDDLE, cache_bytes=cache_bytes)
        supernet(pictures(), MIDDLE).square().sum().backward()
        grads.append([parameter.grad for parameter in supernet.parameters() if parameter.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 10
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_a_cache_keeps_channels_last() -> None:
    supernet = calibrated(MIDDLE, cache_bytes=10**6).to(memory_format=torch.channels_last)
    weight = supernet.actuate(MIDDLE).blocks[1].conv2.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_equal_networks_have_equal_choices() -> None:
    """With the last block of a stage left out, its expand ratio is of no account."""
    supernet = small()
    one, other = (f"ofa_resnet_small:d1x3:e0.5,0.5,{e},0.5x6:w0x3" for e in (0.5, 1.0))
    assert supernet.active_config(one) == supernet.active_config(other)
    assert supernet.active_config(one) != supernet.active_config(SMALLEST)


def test_calibrating_takes_the_supernet_back_to_its_mode() -> None:
    supernet = small()
    calibrate(supernet, SMALLEST, [pictures()])
    assert supernet.training
    assert all(module.training for module in supernet.modules())
    assert isinstance(supernet.model, nn.Module)
