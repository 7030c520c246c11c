"""Residual networks for images, as ordinary modules.

Names and layout are those of the static networks of once-for-all (Cai et al., ICLR 2020;
github.com/mit-han-lab/once-for-all, `ofa/imagenet_classification/networks/resnets.py`), to exchange weights with them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class ResNet(nn.Module):
    """A stem, residual blocks, and a linear classifier.

    Takes images, shape (batch, channels, height, width), and gives logits, shape (batch, classes).

    Args:
        stem: The layers before the pooling.
        pooling: Reduces the size of the features before the blocks.
        blocks: Of all stages, in order.
        features: The output channels of the last block.
        classes: The classes.
    """

    def __init__(
        self, stem: Sequence[nn.Module], pooling: nn.Module, blocks: Sequence[nn.Module], features: int, classes: int
    ) -> None:
        super().__init__()
        self.input_stem = nn.ModuleList(stem)
        self.max_pooling = pooling
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(features, classes)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images."""
        x = images
        for layer in self.input_stem:
            x = layer(x)
        x = self.max_pooling(x)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


class StemBlock(nn.Module):
    """The residual block in the stem of a ResNet-D: features of equal shape in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_norm(channels, channels, kernel=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features plus those of one convolution."""
        added: torch.Tensor = self.conv(x)
        return added + x


class Block(nn.Module):
    """A residual block of two or three convolutions; where the shape changes, the residual is pooled and projected.

    Args:
        convolutions: From the block's input to its output.
        in_channels: The channels of its input.
        out_channels: The channels of its output.
        stride: The factor by which it reduces the size of the features.
    """

    def __init__(self, convolutions: Sequence[nn.Module], in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2, *third = convolutions
        self.conv3 = third[0] if third else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True)
            projection = conv_norm(in_channels, out_channels, kernel=1, act=False).named_children()
            self.downsample = nn.Sequential(OrderedDict([("avg_pool", pool), *projection]))
        self.final_act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of shape (batch, out_channels, height / stride, width / stride)."""
        added = self.conv3(self.conv2(self.conv1(x)))
        result: torch.Tensor = self.final_act(added + self.downsample(x))
        return result


def plain_resnet(layers: int, classes: int = 1000) -> ResNet:
    """Return a hand-tuned ResNet (He et al., CVPR 2016) by its number of layers: 18, 34, 50 or 101."""
    kind, blocks = _PLAIN[layers]
    in_channels, stages = 64, list[Block]()
    for width, count, stride in zip((64, 128, 256, 512), blocks, (1, 2, 2, 2), strict=True):
        for number in range(count):
            out_channels = width if kind is basic else 4 * width
            stages.append(kind(in_channels, width, out_channels, stride if number == 0 else 1))
            in_channels = out_channels
    stem = conv_norm(3, 64, kernel=7, stride=2)
    return ResNet([stem], nn.MaxPool2d(3, 2, padding=1), stages, in_channels, classes)


def bottleneck(in_channels: int, mid_channels: int, out_channels: int, stride: int) -> Block:
    """Return a block that works on fewer channels in the middle: kernels of 1, 3 and 1."""
    first = conv_norm(in_channels, mid_channels, kernel=1)
    second = conv_norm(mid_channels, mid_channels, kernel=3, stride=stride)
    third = conv_norm(mid_channels, out_channels, kernel=1, act=False)
    return Block((first, second, third), in_channels, out_channels, stride)


def basic(in_channels: int, mid_channels: int, out_channels: int, stride: int) -> Block:
    """Return a block of two convolutions with kernels of 3."""
    first = conv_norm(in_channels, mid_channels, kernel=3, stride=stride)
    second = conv_norm(mid_channels, out_channels, kernel=3, act=False)
    return Block((first, second), in_channels, out_channels, stride)


def conv_norm(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    """Return a convolution with padding, its norm, and an optional activation."""
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        "bn": nn.BatchNorm2d(out_channels),
    }
    return nn.Sequential(OrderedDict(layers | ({"act": nn.ReLU(inplace=True)} if act else {})))


_PLAIN = {
    18: (basic, (2, 2, 2, 2)),
    34: (basic, (3, 4, 6, 3)),
    50: (bottleneck, (3, 4, 6, 3)),
    101: (bottleneck, (3, 4, 23, 3)),
}
"""For each number of layers: the kind of block, and the blocks of each stage."""
