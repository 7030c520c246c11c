from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sim.base.streams import stream
from sim.tables.files import find_table
from supernet.costs import Costs
from supernet.extraction import extract
from supernet.families import OfaResNet50
from supernet.insertion import insert
from supernet.space import SubnetConfig
from tests.supernet.built import SMALL, TINY_BERT, dynabert_on_meta, ofa_on_meta, small, tiny_bert
from tests.supernet.networks import Decoder, MobileNet, images, tokens

if TYPE_CHECKING:
    from supernet.network import Supernet

TABLE = find_table("ofa-resnet50-a40")


def ofa_costs(size: int = 224) -> Costs:
    with torch.device("meta"):
        return Costs(ofa_on_meta(), OfaResNet50().example(size=size))


# GMACs at 224 x 224, parameters and channels of norms as OFA's own definitions give them; the four in the middle are
# the predicted_mflops of the authors' profile (dhruvsgarg/once-for-all, latency_curves_supernet_resnet_A40...json).
PUBLISHED = [
    ("0.962", "6.54", 11408),
    ("1.4879", "13.39", 15792),
    ("1.7997", "15.36", 17416),
    ("1.9875", "18.77", 20808),
    ("3.9995", "35.16", 29120),
    ("7.492", "48.11", 33568),
]


@pytest.mark.parametrize(("row", "published"), list(enumerate(PUBLISHED)))
def test_the_published_subnets_cost_what_is_published(row: int, published: tuple[str, str, int]) -> None:
    control = TABLE.subnets[row].control
    assert control is not None
    subnet, costs = SubnetConfig("ofa_resnet50", control), ofa_costs()
    gmacs, parameters, channels = published
    assert f"{costs.macs(subnet) / 1e9:.{len(gmacs) - 2}f}" == gmacs
    assert f"{costs.parameters(subnet) / 1e6:.2f}" == parameters
    assert costs.statistics(subnet) == 2 * channels


def test_dynabert_costs_what_its_layers_do() -> None:
    """By hand: projections 4 h^2, feed-forward 2 h f, attention 2 n^2 h; all but n^2 for each of 128 tokens."""
    supernet, costs = dynabert_on_meta(), None
    with torch.device("meta"):
        costs = Costs(supernet, (torch.zeros(1, 128, dtype=torch.long),))
    found = {subnet.id: costs.macs(subnet) for subnet in supernet.space.enumerate()}
    head = 768 * 768 + 768 * 3
    for depth in (6, 9, 12):
        for width in (0.25, 0.5, 0.75, 1.0):
            layer = width * (128 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 128**2 * 768)
            assert found[f"dynabert:d{depth}:e{width}"] == depth * layer + head
    assert round(found["dynabert:d12:e1.0"] / 1e9, 2) == 11.17


def counted(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[int, int]:
    """MACs counted by torch as the model runs, and its parameters; those with two names once."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        model(*inputs)
    return flops.get_total_flops() // 2, sum(parameter.numel() for parameter in model.parameters())


def hooked(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    """MACs of convolutions and linear layers, counted by hooks on the modules that run."""
    macs = 0

    def count(layer: nn.Module, _: Any, result: torch.Tensor) -> None:
        nonlocal macs
        macs += result.numel() * layer.weight[0].numel()  # type: ignore[index, operator]

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(*inputs)
    return macs


NETWORKS: dict[str, Any] = {
    "small": lambda: (small(), SMALL.example(size=8)),
    "bert": lambda: (tiny_bert(), TINY_BERT.example(size=6)),
    "mobilenet": lambda: (insert(MobileNet(), images(), widths=(0.5, 1.0)), (images(1, size=24),)),
    "resnext": lambda: (insert(MobileNet(groups=4), images(), widths=(0.5, 1.0)), (images(1),)),
    "decoder": lambda: (insert(Decoder(), tokens()), (tokens(1),)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_arithmetic_agrees_with_counting(name: str) -> None:
    supernet, inputs = NETWORKS[name]()
    rng = stream(3, "test")
    costs = Costs(supernet, tuple(x.double() if name == "small" else x for x in inputs))
    for subnet in (supernet.space.smallest, supernet.space.largest, *(supernet.space.sample(rng) for _ in range(3))):
        plain = extract(supernet.train(), subnet).eval()
        arguments = tuple(x.double() if name == "small" else x for x in inputs)
        assert counted(plain, arguments) == (costs.macs(subnet), costs.parameters(subnet))
        if name in {"small", "mobilenet", "resnext"}:
            assert hooked(plain, arguments) == costs.macs(subnet)


def test_counts_are_for_one_example() -> None:
    supernet = small()
    one, many = (Costs(supernet, (SMALL.example(batch, 8)[0].double(),)) for batch in (1, 5))
    assert one.macs(supernet.space.smallest) == many.macs(supernet.space.smallest)


def test_counting_leaves_the_supernet_alone() -> None:
    supernet: Supernet = small()
    before = supernet.statistics_of(supernet.space.largest)
    Costs(supernet, (SMALL.example(2, 8)[0].double(),))
    assert supernet.training
    assert all(module.training for module in supernet.modules())
    assert torch.equal(supernet.statistics_of(supernet.space.largest), before)


def test_statistics_are_counted_as_they_are_held() -> None:
    supernet = small()
    costs = Costs(supernet, (SMALL.example(1, 8)[0].double(),))
    largest = supernet.space.largest
    assert costs.statistics(largest) == len(supernet.statistics_of(largest))
