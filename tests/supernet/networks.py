"""Networks written in the usual torch manner, that know nothing of supernets."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int = 1, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, norm=norm), BasicBlock(8, 8, norm=norm))
        self.layer2 = nn.Sequential(*[BasicBlock(8 if n == 0 else 12, 12, 2 if n == 0 else 1, norm) for n in range(3)])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class ConvNormActivation(nn.Sequential):
    def __init__(self, taken: int, given: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        convolution = nn.Conv2d(taken, given, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(given), nn.ReLU6(inplace=True))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * functional.hardsigmoid(self.fc2(functional.relu(self.fc1(self.avgpool(x)))))


class InvertedResidual(nn.Module):
    def __init__(self, taken: int, given: int, stride: int, *, groups: int | None = None) -> None:
        super().__init__()
        hidden = 2 * taken
        self.use_res_connect = stride == 1 and taken == given
        self.conv = nn.Sequential(
            ConvNormActivation(taken, hidden, 1),
            ConvNormActivation(hidden, hidden, 3, stride, hidden if groups is None else groups),
            SqueezeExcitation(hidden),
            nn.Conv2d(hidden, given, 1, bias=False),
            nn.BatchNorm2d(given),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNet(nn.Module):
    """As MobileNetV3; with groups, its middle convolutions are those of a ResNeXt."""

    def __init__(self, groups: int | None = None) -> None:
        super().__init__()
        blocks = [(8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 12, 1)]
        self.features = nn.Sequential(
            ConvNormActivation(3, 8, 3, 2),
            *[InvertedResidual(taken, given, stride, groups=groups) for taken, given, stride in blocks],
            ConvNormActivation(12, 16, 1),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class Chain(nn.Module):
    """No blocks; the features are flattened, so that a channel is 16 inputs of the layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 1))
        self.classifier = nn.Sequential(nn.Linear(6 * 16, 10), nn.Dropout(), nn.ReLU(), nn.Linear(10, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class GroupedAttention(nn.Module):
    """A pre-norm block: four heads of queries share two of keys and values, which are two wide."""

    def __init__(self, hidden: int = 8, heads: int = 4, shared: int = 2) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = heads, shared, hidden // heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.q_proj = nn.Linear(hidden, hidden)
        self.k_proj = nn.Linear(hidden, shared * self.head_dim)
        self.v_proj = nn.Linear(hidden, shared * self.head_dim)
        self.o_proj = nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q = self.q_proj(y).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        k, v = (
            layer(y).unflatten(-1, (self.num_kv_heads, self.head_dim)).transpose(1, 2)
            for layer in (self.k_proj, self.v_proj)
        )
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
        x = x + self.o_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(functional.silu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(GroupedAttention() for _ in range(4))
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Shared(nn.Module):
    """Two blocks have a layer in common, the third is called again behind them, and the fourth has all to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.Sequential(*[BasicBlock(8, 8) for _ in range(4)])
        self.blocks[1].conv2 = self.blocks[0].conv2
        self.again = self.blocks[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.blocks(self.stem(x))).mean((2, 3))


ATTENTION = [f"layers.{n}.self_attn" for n in range(3)]


def encoder() -> nn.Module:
    """The encoder of torch, whose attention keeps its weights in one piece that can't be sliced."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


class FusedAttention(nn.Module):
    """Queries, keys and values of one layer, normalised per head, with a bias, a scale and a temperature per head."""

    def __init__(self, hidden: int = 8, heads: int = 4, shared: int = 4) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = heads, shared, hidden // heads
        self.qkv = nn.Linear(hidden, (heads + 2 * shared) * self.head_dim)
        self.q_norm = nn.LayerNorm(self.head_dim)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(5, 5, heads))
        self.proj = nn.Linear(hidden, hidden)
        self.up, self.gate_scale = nn.Linear(hidden, 6 * hidden), nn.Parameter(torch.zeros(3 * hidden))
        self.down = nn.Linear(3 * hidden, hidden)
        self.gamma = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads, shared = self.num_heads, self.num_kv_heads
        sizes = [count * self.head_dim for count in (heads, shared, shared)]
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in self.qkv(x).split(sizes, -1))
        k, v = (part.repeat_interleave(heads // shared, 1) for part in (k, v))
        bias = self.bias[: x.shape[1], : x.shape[1]].permute(2, 0, 1)
        weights = (self.q_norm(q) @ k.transpose(-2, -1) * self.temperature + bias).softmax(-1)
        x = x + self.gamma * self.proj((weights @ v).transpose(1, 2).flatten(2))
        value, gate = self.up(x).chunk(2, -1)
        return x + self.gamma * self.down(value * functional.silu(gate * self.gate_scale))


def fused() -> nn.Module:
    """Layers that are fused, with as many keys as queries and with fewer, and parameters outside of layers."""
    return nn.Sequential(nn.Linear(8, 8), nn.Sequential(FusedAttention(), FusedAttention(shared=2)), nn.Linear(8, 3))


def parametrized() -> nn.Module:
    """A residual network with layers whose weights are computed."""
    model = ResNet()
    nn.utils.parametrizations.weight_norm(model.layer1[0].conv1)
    nn.utils.parametrizations.spectral_norm(model.layer2[1].conv2)
    return model


class Counted(nn.Module):
    """Its loop uses the number of a block: one of two kinds, and outputs on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Mlp(8) for _ in range(4))
        self.scales = [1.0, 2.0, 3.0, 4.0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x, scale=self.scales[number])
            taps.append(x * number)
        return torch.stack(taps).sum(0)


class Mlp(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return x + scale * self.down(functional.silu(self.up(x)))


def images(batch: int = 2, size: int = 16, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(seed))


def tokens(batch: int = 2, length: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(seed))


def vectors(batch: int = 2, length: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(seed))
