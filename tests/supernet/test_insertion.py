from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sim.base.errors import SpecError
from sim.base.streams import stream
from supernet.extraction import extract
from supernet.insertion import insert
from tests.supernet.networks import (
    ATTENTION,
    BasicBlock,
    Chain,
    ConvNormActivation,
    Decoder,
    MobileNet,
    ResNet,
    Shared,
    encoder,
    images,
    tokens,
    vectors,
)


def bert(**changes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="the encoder is that of transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    return transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=20, **changes))


def test_a_resnet_becomes_a_supernet() -> None:
    supernet = insert(ResNet(), images())
    assert supernet.space.smallest.id == "inserted:d1,0:e0.25x5"
    assert supernet.space.size == 2 * 3 * 4**5
    assert supernet(images(), supernet.space.largest).shape == (2, 5)
    network = supernet.actuate("inserted:d1,0:e0.25x5")
    assert isinstance(network, ResNet)
    assert [isinstance(block, nn.Identity) for block in network.layer2] == [False, True, True]
    assert (network.layer1[0].conv1.out_channels, network.layer1[0].conv2.in_channels) == (2, 2)
    assert network.layer2[0].downsample[0].out_channels == 12


def test_channels_between_blocks_are_cut_where_asked() -> None:
    supernet = insert(ResNet(), images(), widths=(0.5, 1.0), name="net")
    assert supernet.space.smallest.id == "net:d1,0:e0.25x5:w0,0"
    network = supernet.actuate(supernet.space.smallest)
    assert (network.conv1.out_channels, network.fc.in_features, network.fc.out_features) == (4, 6, 5)


@pytest.mark.parametrize("groups", [None, 4])
def test_mobilenets_and_grouped_convolutions(groups: int | None) -> None:
    supernet = insert(MobileNet(groups), images(), widths=(0.5, 1.0))
    network = supernet.actuate(supernet.space.smallest)
    middle = network.features[2].conv[1][0]
    assert (middle.in_channels, middle.groups) == ((4, 4) if groups is None else (4, 1))
    assert supernet(images(), supernet.space.sample(stream(0, "test"))).shape == (2, 5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_bert_encoder_of_transformers(attention: str) -> None:
    supernet = insert(bert(attn_implementation=attention), tokens(), depths=[(2, 3, 4)], uniform=True, name="bert")
    assert [subnet.id for subnet in supernet.space.enumerate()][::5] == [
        "bert:d2:e0.25",
        "bert:d3:e0.5",
        "bert:d4:e0.75",
    ]
    network = supernet.actuate("bert:d2:e0.25")
    running = [n for n, layer in enumerate(network.encoder.layer) if any(True for _ in layer.parameters())]
    assert running == [0, 2], "every other one"
    assert network.encoder.layer[0].attention.self.query.out_features == 6
    assert network.encoder.layer[0].attention.self.num_attention_heads == 1
    assert network.encoder.layer[0].attention.self.attention_head_size == 6
    mask = torch.ones(2, 5)
    assert supernet(tokens(), "bert:d2:e0.25", attention_mask=mask).last_hidden_state.shape == (2, 5, 24)


def test_heads_that_share_keys_and_tied_weights() -> None:
    supernet = insert(Decoder(), tokens())
    network = supernet.actuate(supernet.space.smallest)
    layer = network.layers[0]
    assert (layer.num_kv_heads, layer.k_proj.out_features, layer.q_proj.out_features) == (1, 2, 4)
    assert layer.head_dim == 2, "though it has the value of the number of heads that share"
    assert network.head.weight is network.embed.weight


def test_a_chain_without_blocks_is_cut_by_widths_alone() -> None:
    supernet = insert(Chain(), images(size=8), widths=(0.5, 1.0))
    network = supernet.actuate(supernet.space.smallest)
    assert (network.features[3].out_channels, network.classifier[0].in_features) == (3, 48)


def test_the_model_is_left_as_it_is() -> None:
    model = ResNet()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    supernet = insert(model, images())
    loss = supernet(images(), supernet.space.smallest).sum()
    loss.backward()
    torch.optim.SGD(supernet.parameters(), 0.1).step()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in supernet.parameters()}


@pytest.mark.parametrize("mode", ["train", "eval", "frozen norms"])
def test_the_supernet_is_in_the_mode_of_the_model(mode: str) -> None:
    model = ResNet().train(mode != "eval")
    if mode == "frozen norms":
        model.layer1.eval()
    supernet = insert(model, images())
    assert supernet.training == model.training
    modes = {path: module.training for path, module in model.named_modules()}
    assert {path: module.training for path, module in supernet.model.named_modules()} == modes
    assert {module.training for module in supernet.train().actuate(supernet.space.smallest).modules()} == {True}


def test_the_supernet_has_all_else_of_the_model_too() -> None:
    model = ResNet().double().to(memory_format=torch.channels_last)
    model.bn1.requires_grad_(requires_grad=False)
    model.layer1[0].conv1.register_forward_hook(lambda _, __, result: seen.append(result.dtype))
    seen: list[torch.dtype] = []
    chance = torch.random.get_rng_state()
    supernet = insert(model, images().double())
    assert torch.equal(torch.random.get_rng_state(), chance)
    for (path, given), (same, taken) in zip(model.named_parameters(), supernet.model.named_parameters(), strict=True):
        assert (path, given.requires_grad, given.dtype, given.stride()) == (
            same,
            taken.requires_grad,
            taken.dtype,
            taken.stride(),
        )
        assert torch.equal(given, taken)
    for given, taken in zip(model.buffers(), supernet.model.buffers(), strict=True):
        assert torch.equal(given, taken)
        assert given.data_ptr() != taken.data_ptr()
    hooks = {path: (len(m._forward_hooks), len(m._forward_pre_hooks)) for path, m in supernet.model.named_modules()}
    assert {path: counts for path, counts in hooks.items() if any(counts)} == {"layer1.0.conv1": (1, 0)}
    seen.clear()
    supernet(images().double(), supernet.space.smallest)
    assert seen == [torch.double]


def test_a_module_with_two_places_stays_one() -> None:
    supernet = insert(Shared(), images(), expands=(0.5, 1.0), widths=(0.5, 1.0), uniform=True)
    assert len(supernet.space.depths) == 2, "the first and the third are needed elsewhere"
    subnet = "inserted:d1,1:e0.5:w0"
    for network in (supernet.actuate(subnet), extract(supernet.train(), subnet)):
        assert network.again is network.blocks[2]
        assert network.blocks[1].conv2 is network.blocks[0].conv2
        assert network.again.conv1.out_channels == network.blocks[1].conv2.in_channels == 4
    smallest = supernet.actuate(supernet.space.smallest).blocks
    assert [isinstance(block, nn.Identity) for block in smallest] == [False, True, False, True]


class Counting(nn.Module):
    """Divides by a number of channels that is written down, as normalisations made by hand do."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(x)
        return x + self.down(y / y.shape[1])


class Reshaping(nn.Module):
    """Reshapes to a size that is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).view(-1, 4, 16).relu())


class Spread(nn.Module):
    """Mixes its channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(-1)


def sequence(block: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), block, nn.Identity())


@pytest.mark.parametrize(
    ("model", "x", "says"),
    [
        (
            ResNet(norm=lambda planes: nn.GroupNorm(1, planes)),
            images(),
            r"layer1.0.conv1: can't be sliced \(it goes through layer1.0.bn1 .*and 4 more\); keep=\['layer\*.\*.conv1'",
        ),
        (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=Spread()),
                2,
                enable_nested_tensor=False,
            ),
            torch.randn(2, 3, 8),
            r"layers.0.linear1: can't be sliced \(it is mixed or reordered before layers.0.linear2 .* and 1 more",
        ),
        (sequence(Reshaping()), torch.randn(2, 4, 8), r"inserted, 1: can't be sliced \(it fails in .*Error: shape"),
        (
            sequence(Counting()),
            images(channels=8),
            r"inserted, 1.down: can't be sliced \(it gets wrong values, since code before it depends on",
        ),
        (Chain(), images(size=8), r"inserted: the network has only one subnet \(blocks: 0, stages: 0, groups: 3\)"),
        (nn.Linear(4, 4), torch.randn(2, 4), "the network has only one subnet"),
    ],
)
def test_what_cannot_be_inserted_is_named(model: nn.Module, x: torch.Tensor, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        insert(model, x)


def test_what_is_kept_is_left_whole() -> None:
    supernet = insert(encoder(), vectors(), keep=ATTENTION)
    layer = supernet.actuate(supernet.space.smallest).layers[0]
    assert (layer.linear1.out_features, layer.self_attn.out_proj.out_features) == (4, 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"expands": (0.5,)}, r"inserted, expands: not valid ratios \(\[0.5\]\); ratios above 0, the largest 1"),
        ({"expands": (0.0, 1.0)}, "expands: not valid ratios"),
        ({"widths": (0.5, 1.5)}, "widths: not valid ratios"),
        (
            {"widths": (0.5, 1.0), "keep": ["conv1", "layer2.0"]},
            r"widths: no channels outside blocks can be sliced \(\[0.5, 1.0\]\); leave",
        ),
        ({"depths": [(1, 2)]}, r"depths: one list per stage is needed \(1\); 2"),
        ({"depths": [(1, 2), (0, 3)]}, r"depths\[1\]: do not fit the stage \(\[0, 3\]\); numbers up to 2"),
        ({"expands": (1.0, 0.5)}, r"expands\[0\]: choices are not in order"),
    ],
)
def test_choices_that_do_not_fit_are_told(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        insert(ResNet(), images(), **options)


def test_hooks_of_the_model_stay_with_its_subnets() -> None:
    model = nn.Sequential(ConvNormActivation(3, 8, 3), BasicBlock(8, 8), BasicBlock(8, 8))
    seen: list[tuple[int, ...]] = []
    supernet = insert(model, images())
    supernet.model[1].conv1.register_forward_hook(lambda _, __, result: seen.append(tuple(result.shape)))
    supernet(images(), supernet.space.smallest)
    assert seen == [(2, 2, 16, 16)]
