"""An actuated subnet is an ordinary module: what works on those works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from supernet.statistics import leading_statistics
from tests.supernet.built import pictures, small, texts, tiny_bert

if TYPE_CHECKING:
    from supernet.network import Supernet

# torch looks at the .grad of all that enters a graph, and warns of its own look at that of a view.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

MIDDLE = "ofa_resnet_small:d1,0,2:e0.75x9:w1,2,3"


def held_and_input(kind: str) -> tuple[Supernet, str, torch.Tensor]:
    if kind == "bert":
        return tiny_bert().eval(), "dynabert_small:d2:e0.5", texts()
    supernet = small().eval()
    supernet.set_statistics(MIDDLE, leading_statistics(supernet, MIDDLE))
    return supernet, MIDDLE, pictures()


@pytest.mark.parametrize("kind", ["resnet", "bert"])
def test_an_actuated_subnet_compiles_in_one_graph(kind: str) -> None:
    """Traced and differentiated ahead of time; the kernels are left to torch, which makes this a matter of seconds."""
    supernet, subnet, x = held_and_input(kind)
    network = supernet.actuate(subnet)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    grads = []
    for run in (network, compiled):
        supernet.zero_grad()
        run(x).square().sum().backward()
        grads.append([p.grad.clone() for p in supernet.parameters() if p.grad is not None])
    assert torch.allclose(compiled(x), network(x), rtol=1e-12)
    assert len(grads[0]) == len(grads[1]) > 10
    assert all(torch.allclose(one, other, rtol=1e-9, atol=1e-12) for one, other in zip(*grads, strict=True))


@pytest.mark.filterwarnings("error")
def test_a_frozen_supernet_compiles_without_a_warning() -> None:
    supernet, subnet, x = held_and_input("resnet")
    supernet.requires_grad_(requires_grad=False)
    supernet.train().eval()
    compiled = torch.compile(supernet.actuate(subnet), backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), supernet(x, subnet), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's kernels import what torch itself calls deprecated
def test_an_actuated_subnet_compiles_to_kernels() -> None:
    supernet, subnet, x = held_and_input("resnet")
    compiled = torch.compile(supernet.actuate(subnet), fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x), supernet(x, subnet), rtol=1e-9)
        supernet.model.classifier.linear.bias += 1.0
        assert torch.allclose(compiled(x), supernet(x, subnet), rtol=1e-9), "it follows the shared weights"


@pytest.mark.parametrize("kind", ["resnet", "bert"])
def test_an_actuated_subnet_is_exported(kind: str) -> None:
    supernet, subnet, x = held_and_input(kind)
    exported = torch.export.export(
        supernet.actuate(subnet), (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)
    )
    for batch in (x, torch.cat([x, x])):
        assert torch.allclose(exported.module()(batch), supernet(batch, subnet), rtol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_an_actuated_subnet_is_captured_in_a_cuda_graph() -> None:
    supernet, subnet, x = held_and_input("resnet")
    network, x = supernet.cuda().actuate(subnet), x.cuda()
    with torch.no_grad():
        captured = torch.cuda.make_graphed_callables(network, (x,))
        assert torch.allclose(captured(x), supernet(x, subnet), rtol=1e-9)


def test_an_actuated_subnet_is_captured_without_a_look_at_data() -> None:
    """What a CUDA graph needs: no result depends on a value that Python has read."""
    supernet, subnet, x = held_and_input("resnet")
    graph = torch.fx.experimental.proxy_tensor.make_fx(
        supernet.actuate(subnet), tracing_mode="fake", _allow_non_fake_inputs=True
    )(x)
    assert torch.allclose(graph(x), supernet(x, subnet), rtol=1e-12)
