"""Networks that people bring: what hides a block or a channel, and what must not be computed differently."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sim.base.errors import SpecError
from supernet.costs import Costs
from supernet.extraction import extract
from supernet.families import OfaResNetSmall
from supernet.family import build
from supernet.insertion import insert
from supernet.layers import composed_attention
from supernet.statistics import calibrate
from tests.supernet.networks import FusedAttention, Mlp, ResNet, encoder, fused, images, parametrized, vectors


def stack(*blocks: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Sequential(*blocks), nn.Linear(width, 2))


def depth_of(supernet: Any, depth: int) -> Any:
    return next(s for s in supernet.space.enumerate() if s.control.depths == (depth,) and {*s.control.expands} <= {1.0})


class Scaled(nn.Module):
    """A loop that scales what it gives to each block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Mlp(8) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self.blocks, 1):
            x = block(x * number)
        return x


def test_code_between_blocks_is_told_and_can_be_accepted() -> None:
    with pytest.raises(SpecError, match=r"blocks.1: code between blocks.0 and this block changes its input; depths=\["):
        insert(Scaled(), vectors())
    assert insert(Scaled(), vectors(), depths=[[4]]).space.smallest.control.depths == (4,)
    model = Scaled()
    supernet = insert(model, vectors(), depths=[[2, 4]]).eval()
    running = supernet.active_config(depth_of(supernet, 2)).active_blocks
    x = vectors()
    for number, block in enumerate(model.blocks, 1):
        x = block(x * number) if running[number - 1] else x * number
    torch.testing.assert_close(supernet(vectors(), depth_of(supernet, 2)), x)


def test_a_block_keeps_the_kind_of_its_place() -> None:
    transformers = pytest.importorskip("transformers", reason="the decoder is that of transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2}
    window = {"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 2}
    config = transformers.Qwen2Config(
        **sizes, **window, intermediate_size=32, vocab_size=50, pad_token_id=0, attn_implementation="eager"
    )
    ids = torch.arange(1, 11)[None]
    supernet = insert(transformers.Qwen2ForCausalLM(config).eval(), {"input_ids": ids})
    seen: dict[int, int] = {}

    def note(module: nn.Module, _: Any, kwargs: dict[str, Any]) -> None:
        last = kwargs["attention_mask"][0, 0, -1]
        seen[module.layer_idx] = int((last if last.dtype == torch.bool else last == 0).sum())  # type: ignore[index]

    for layer in supernet.model.model.layers:  # type: ignore[union-attr]
        layer.self_attn.register_forward_pre_hook(note, with_kwargs=True)
    supernet(ids, depth_of(supernet, 2))
    assert seen == {0: 10, 2: 2}


def test_a_model_of_transformers_is_saved_and_read_again(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers", reason="the decoder is that of transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.Qwen2Config(
        **sizes, use_sliding_window=True, sliding_window=2, max_window_layers=2, intermediate_size=32, vocab_size=50
    )
    ids = torch.arange(1, 11)[None]
    supernet = insert(transformers.Qwen2ForCausalLM(config).eval(), ids)
    subnet = depth_of(supernet, 2)
    plain = extract(supernet, subnet)
    assert (plain.config.num_hidden_layers, plain.config.layer_types) == (2, ["full_attention", "sliding_attention"])
    assert supernet.model.config.num_hidden_layers == 4
    plain.save_pretrained(tmp_path)
    read = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(read(ids).logits, supernet(ids, subnet).logits, rtol=1e-4, atol=1e-5)


class NormAct(nn.GroupNorm):
    """A norm with its activation inside."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(x))


class Gated(nn.Module):
    """A block whose own gates start at zero, so that it computes nothing yet."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.middle, self.out = middle, nn.Conv2d(16, 8, 3, padding=1)
        self.scale, self.gate = nn.Parameter(torch.zeros(16, 1, 1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gate * self.out(self.middle(x) * self.scale)


@pytest.mark.parametrize(
    "norm",
    [
        lambda: NormAct(4, 16),
        lambda: nn.GroupNorm(4, 16, affine=False),
        lambda: nn.PReLU(16),
        lambda: nn.InstanceNorm2d(16),
        lambda: nn.InstanceNorm2d(16, affine=True, track_running_stats=True),
    ],
)
def test_what_lies_between_two_layers_is_sliced_with_them(norm: Any) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Sequential(*[Gated(nn.Sequential(nn.Conv2d(8, 16, 1), norm())) for _ in range(2)])
    )
    supernet = insert(model, images(), expands=(0.5, 1.0))
    block = supernet.actuate(supernet.space.smallest)[1][0]
    assert (block.middle[0].out_channels, block.scale.shape, block.out.in_channels) == (8, (8, 1, 1), 8)


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm", "old weight_norm", "old spectral_norm"])
def test_layers_with_computed_weights(wrap: str) -> None:
    wrappers: dict[str, Any] = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "old spectral_norm": nn.utils.spectral_norm,
    }
    model = stack(Mlp(8), Mlp(8))
    if wrap == "old weight_norm":
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(model[0])
    else:
        wrappers[wrap](model[0])
    supernet = insert(model.eval(), vectors())
    assert supernet.space.size == 2 * 4**2
    torch.testing.assert_close(supernet(vectors(), supernet.space.largest), model(vectors()))


@pytest.mark.parametrize("make", [fused, encoder, parametrized, lambda: stack(FusedAttention(), Mlp(8))])
def test_costs_are_those_of_what_is_extracted(make: Any) -> None:
    model = make()
    x = images(1) if isinstance(model, ResNet) else vectors(1)
    supernet = insert(model, x)
    costs = Costs(supernet, x)
    for subnet in (supernet.space.smallest, supernet.space.largest):
        plain = extract(supernet.train(), subnet).eval()
        assert costs.parameters(subnet) == sum(parameter.numel() for parameter in plain.parameters())
        plain.requires_grad_(requires_grad=False)
        with composed_attention(), FlopCounterMode(display=False) as counted:
            plain(x)
        assert costs.macs(subnet) == counted.get_total_flops() // 2


class Queries(nn.Module):
    """Gives a layer a parameter, as learned queries are."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.queries, self.p = Mlp(8), nn.Parameter(torch.randn(5, 8)), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x) + self.p(self.queries[0:5].unsqueeze(0))


def test_a_parameter_as_an_input_is_counted_once() -> None:
    supernet = insert(stack(Queries(), Queries()), vectors(2), keep="*.p")
    assert Costs(supernet, vectors(2)).macs(supernet.space.largest) == 5 * (8 * 8 + 2 * (2 * 8 * 16 + 8 * 8) + 8 * 2)


def test_blocks_of_two_parts_count_as_one() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = Mlp(8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.mlp(x), None

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.ModuleList([Half(), Mlp(8)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer[-1](self.layer[0](x)[0])

    supernet = insert(stack(Both(), Both(), Both()), vectors())
    assert supernet.space.depths == ((1, 2, 3),)
    assert supernet.structure.blocks == ("1.0", "1.1", "1.2")


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (["1.0.upp"], r"keep: matches no module \('1.0.upp'\); did you mean '1.0.up'\?"),
        ("block0", r"keep: matches no module \('block0'\)"),
    ],
)
def test_a_path_to_keep_must_be_known(keep: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        insert(stack(Mlp(8), Mlp(8)), vectors(), keep=keep)


def test_what_is_kept_is_listed_and_a_string_is_one_pattern() -> None:
    supernet = insert(stack(Mlp(8), Mlp(8)), vectors(), keep="1.0")
    assert len(supernet.space.expands) == 1
    reasons = {one.path: one.reason for one in supernet.structure.unsliceable}
    assert reasons["1.0.up"] == "is in keep"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.jit.script(nn.Linear(2, 2)), "a scripted module can't be sliced"),
        (lambda: torch.compile(stack(Mlp(8))), "a compiled module can't be sliced; the module before torch.compile"),
        (lambda: nn.Linear, "not a module"),
        (lambda: nn.Sequential(nn.Dropout(), Random()), "the network gives other results each time"),
        (lambda: stack(Mlp(7)), r"the network fails on these inputs \(RuntimeError"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_not_an_ordinary_network_is_told_in_a_line(make: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says) as raised:
        insert(make(), vectors())
    assert "\n" not in str(raised.value)


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Mlp(8), Mlp(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x + torch.randn_like(x))


def test_batches_may_come_from_a_loader() -> None:
    supernet, x = build(OfaResNetSmall(width=8)).eval(), torch.randn(8, 1, 16, 16)
    smallest = supernet.space.smallest
    found = []
    for batches in (
        [x[:4], x[4:]],
        DataLoader(TensorDataset(x), 4),
        DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.long)), 4),
        [{"images": x[:4]}, {"images": x[4:]}],
    ):
        calibrate(supernet, smallest, batches)
        found.append(supernet.statistics_of(smallest))
    assert all(torch.equal(statistics, found[0]) for statistics in found)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        (torch.zeros(8, 1, 16, 16), r"batches: a single batch \(Tensor\)"),
        ([{"pixel_values": torch.zeros(8, 1, 16, 16)}], "unknown argument of the network"),
    ],
)
def test_other_batches_are_refused(batches: Any, says: str) -> None:
    supernet = build(OfaResNetSmall(width=8)).eval()
    with pytest.raises(SpecError, match=says):
        calibrate(supernet, supernet.space.smallest, batches)


def test_a_list_that_does_not_say_what_is_an_argument_is_refused() -> None:
    supernet = insert(Optional(), vectors())
    with pytest.raises(SpecError, match="which parts are arguments of the network is ambiguous"):
        calibrate(supernet, supernet.space.smallest, [[vectors(), vectors()]])


class Optional(Random):
    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.blocks(x if y is None else x + y)


def test_statistics_of_a_checkpoint_count_whatever_its_counter_says() -> None:
    model = ResNet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.full_like(module.weight.data, 0.1)
    supernet = insert(model.eval(), images())
    assert supernet.calibrated == (supernet.space.largest.id,)
    torch.testing.assert_close(supernet(images(), supernet.space.largest), model(images()))


class Residual(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.inside(x)
        return result


class Biased(nn.Module):
    """A bias of each channel, whose shape is written down."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shape, self.table = (1, channels, 1, 1), nn.Parameter(torch.rand(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table.view(self.shape)


def test_what_fails_on_fewer_channels_is_named_and_keep_leaves_it_whole() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 16, 1), Biased(16), nn.Conv2d(16, 8, 1))

    model = nn.Sequential(nn.Conv2d(3, 8, 1), *[Residual(block()) for _ in range(2)], nn.Conv2d(8, 2, 1))
    with pytest.raises(SpecError, match=r"keep=\['\*.inside.1'\]") as error:
        insert(model, torch.rand(1, 3, 4, 4))
    assert "invalid for input of size" in str(error.value)
    supernet = insert(model, torch.rand(1, 3, 4, 4), keep=["*.inside.1"]).eval()
    assert (supernet.space.depths, supernet.space.expands) == (((1, 2),), ())


def test_a_network_whose_result_is_nan_is_refused_for_that() -> None:
    class Overflows(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x + 70000).half().float())

    model = nn.Sequential(*[Overflows(nn.Conv2d(3, 3, 1)) for _ in range(2)])
    with pytest.raises(SpecError, match="inserted, inputs: the network's result has NaN in it"):
        insert(model, torch.rand(1, 3, 4, 4))
