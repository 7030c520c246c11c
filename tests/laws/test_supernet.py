"""What holds for every subnet of every supernet."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sim.base.streams import stream
from supernet.extraction import extract
from supernet.insertion import insert
from supernet.layers import composed_attention, is_norm
from supernet.statistics import calibrate, leading_statistics
from supernet.verification import masked
from tests.supernet.built import pictures, small, texts, tiny_bert
from tests.supernet.networks import (
    Chain,
    Counted,
    Decoder,
    MobileNet,
    ResNet,
    encoder,
    fused,
    images,
    parametrized,
    tokens,
    vectors,
)

if TYPE_CHECKING:
    from supernet.network import Supernet

EXAMPLES = settings(max_examples=12)
ULPS = 64 * torch.finfo(torch.double).eps
"""Of the largest value: sums of a few hundred products, in whatever order."""


def _lively(supernet: Supernet) -> Supernet:
    """Norms as training leaves them: no statistic, scale or shift has its first value."""
    generator = torch.Generator().manual_seed(2)
    for module in supernet.double().model.modules():
        if is_norm(module) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(std=0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.bias.data.normal_(generator=generator)
            module.num_batches_tracked += 1
    return supernet


@cache
def network(kind: str) -> tuple[Supernet, torch.Tensor]:
    x = images(3).double()
    inserted = {
        "resnet": lambda: (insert(ResNet(), images(), widths=(0.25, 0.5, 1.0)), x),
        "mobilenet": lambda: (insert(MobileNet(), images(), widths=(0.5, 0.75, 1.0)), x),
        "resnext": lambda: (insert(MobileNet(groups=4), images(), widths=(0.5, 1.0)), x),
        "chain": lambda: (insert(Chain(), images(size=8), widths=(0.3, 0.6, 1.0)), images(3, size=8).double()),
        "decoder": lambda: (insert(Decoder(), tokens()), tokens(3)),
        "encoder": lambda: (insert(encoder(), vectors(2)), vectors(3).double()),
        "fused": lambda: (insert(fused(), vectors(2)), vectors(3).double()),
        "groupnorm": lambda: (insert(ResNet(norm=lambda planes: nn.GroupNorm(4, planes)), images()), x),
        "parametrized": lambda: (insert(parametrized(), images()), x),
        "counted": lambda: (insert(Counted(), vectors(2)), vectors(3).double()),
    }
    families: dict[str, Any] = {"small": lambda: (small(), pictures()), "bert": lambda: (tiny_bert(), texts())}
    supernet, x = (inserted | families)[kind]()
    return _lively(supernet), x


KINDS = ["small", "bert", "resnet", "mobilenet", "resnext", "chain", "decoder", "encoder"]
KINDS += ["fused", "groupnorm", "parametrized", "counted"]
LEADING = [kind for kind in KINDS if kind not in {"encoder", "fused", "parametrized"}]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = max(float(one.detach().abs().max()), 1.0)
    return one.shape == other.shape and bool((one - other).abs().max() <= ULPS * scale)


def drawn(supernet: Supernet, seed: int) -> str:
    return supernet.space.sample(stream(seed, "law")).id


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_a_subnet_computes_what_it_computes_on_its_own(kind: str, seed: int) -> None:
    supernet, x = network(kind)
    subnet = drawn(supernet, seed)
    supernet.eval()
    calibrate(supernet, subnet, [x])
    assert close(supernet(x, subnet), extract(supernet, subnet)(x))


@pytest.mark.parametrize("kind", LEADING)
@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_a_subnet_learns_what_it_learns_on_its_own(kind: str, seed: int) -> None:
    """Gradients are the same where the subnet has weights, and there are none elsewhere."""
    supernet, x = network(kind)
    for module in supernet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if kind == "bert":
        supernet.eval()  # its attention drops out by itself in training mode
    else:
        supernet.train()
    subnet = drawn(supernet, seed)
    plain, config = extract(supernet, subnet), supernet.active_config(subnet)
    supernet.zero_grad()
    for model in (lambda x: supernet(x, subnet), plain):
        model(x).square().mean().backward()
    own = [p.grad for p in plain.parameters() if p.grad is not None]
    used = [
        parameter.grad
        for name, parameter in supernet.model.named_parameters()
        if parameter.grad is not None and supernet.assembly.is_active(name.rpartition(".")[0], config)
    ]
    assert len(used) == len(own) > 0
    for shared, grad in zip(used, own, strict=True):
        part = shared[tuple(slice(0, size) for size in grad.shape)]
        assert close(part, grad)
        assert shared.count_nonzero() == part.count_nonzero()


@pytest.mark.parametrize("kind", ["encoder", "fused"])
@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_fused_layers_learn_as_much_as_on_their_own(kind: str, seed: int) -> None:
    """Their slices are not leading parts of the shared weights, but gradients are the same all together."""
    supernet, x = network(kind)
    supernet.eval()
    subnet = drawn(supernet, seed)
    plain = extract(supernet, subnet)
    supernet.zero_grad()
    for model in (lambda x: supernet(x, subnet), plain):
        model(x).square().mean().backward()

    def squares(model: nn.Module) -> torch.Tensor:
        return torch.stack([p.grad.square().sum() for p in model.parameters() if p.grad is not None]).sum()

    assert close(squares(supernet), squares(plain))
    assert float(squares(plain)) > 0


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_a_slice_is_the_whole_with_all_else_at_zero(kind: str, seed: int) -> None:
    """The whole network runs as it is, with blocks replaced by the identity and unused channels at zero."""
    supernet, x = network(kind)
    supernet.eval()
    subnet = drawn(supernet, seed)
    config = supernet.active_config(subnet)
    if supernet.assembly.norms:
        supernet.set_statistics(subnet, leading_statistics(supernet, subnet))
    with torch.no_grad(), composed_attention(), masked(supernet, config):
        expected = supernet.model(x)
    assert close(supernet(x, subnet), expected)
