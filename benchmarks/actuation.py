"""What it takes to switch to a subnet of OFA-ResNet50, and what it costs to run on views of the weights.

Three tables, all in CPU time of one thread; ratios are medians of the ratios within a round, in which all ways are
taken in turn, so that whatever else the machine does hits all alike.

1. Actuation (SuperServe, NSDI 2025, Figure 5b): ours, looked up and put together for the first time;
   `set_active_subnet` of the package `ofa`, where it is installed; taking the subnet out as a model of its own; loading
   such a model from a file in memory.
2. The forward pass of the subnets that SuperServe serves: on views, and on cached contiguous slices, against the
   extracted model.
3. Single layers on views against contiguous weights, by kind of layer.

    pip install ofa
    python -m benchmarks.actuation
"""

from __future__ import annotations

import argparse
import copy
import io
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks import ofa_peer
from benchmarks.peers import aligned
from sim import stream
from sim.tables.files import find_table
from supernet.extraction import extract
from supernet.families import OfaResNet50
from supernet.family import build
from supernet.space import SubnetConfig
from supernet.statistics import leading_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supernet.network import Supernet

MIN_S = 0.01
"""What takes less is repeated within its round."""
NS_PER_S = 10**9
PUBLISHED = "ofa-resnet50-rtx2080ti"

LAYERS = {
    # name: channels in all (given, taken), kernel, groups, channels used (given, taken), side of the features
    "1x1, given and taken cut": ((512, 512), 1, 1, (256, 256), 14),
    "1x1, given cut": ((512, 512), 1, 1, (256, 512), 14),
    "3x3, both cut": ((256, 256), 3, 1, (128, 128), 14),
    "3x3 depthwise, cut": ((512, 1), 3, 512, (256, 1), 14),
}
LINEAR = {
    # name: features in all (given, taken), features used
    "linear, given cut": ((3072, 768), (1536, 768)),
    "linear, taken cut": ((768, 3072), (768, 1536)),
    "linear, both cut": ((768, 768), (384, 384)),
}


def cpu_s(run: Callable[..., object], *arguments: object, times: int) -> float:
    """Return the CPU time of a call in seconds, the mean over so many in a row."""
    begin = time.process_time_ns()
    for _ in range(times):
        run(*arguments)
    return (time.process_time_ns() - begin) / times / NS_PER_S


def compared(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return for each way its median in seconds, and its median ratio to the first way in the same round."""
    for way in ways.values():
        way()
    times = max(1, round(MIN_S / cpu_s(next(iter(ways.values())), times=1)))
    spent: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            spent[name].append(cpu_s(ways[name], times=times))
    first = spent[names[0]]
    return {
        name: (statistics.median(times), statistics.median(a / b for a, b in zip(times, first, strict=True)))
        for name, times in spent.items()
    }


def actuation(held: Supernet, subnets: Sequence[SubnetConfig], peer: Any) -> list[list[str]]:
    """Return a row for each way to get to a subnet: median and 99th percentile over subnets, and the ratio to ours."""
    files: dict[str, bytes] = {}
    for subnet in subnets:
        file = io.BytesIO()
        torch.save(extract(held, subnet), file)
        files[subnet.id] = file.getvalue()

    def peer_extract(subnet: SubnetConfig) -> None:
        ofa_peer.activate(peer, subnet)
        peer.get_active_subnet(preserve_weight=True)

    def load(subnet: SubnetConfig) -> None:
        torch.load(io.BytesIO(files[subnet.id]), weights_only=False)  # our own, written above

    forgetful = copy.deepcopy(held)
    forgetful.max_cached = 1
    # Each with how often it is called in a row to be timed.
    ways: dict[str, tuple[Callable[[SubnetConfig], object], int]] = {
        "ours, looked up": (held.actuate, 1000),
        "ours, put together": (forgetful.actuate, 1),
        "ours, extracted as a model": (lambda subnet: extract(held, subnet), 1),
        "a model loaded from memory": (load, 1),
    }
    if peer is not None:
        ways["ofa, set_active_subnet"] = (lambda subnet: ofa_peer.activate(peer, subnet), 1)
        ways["ofa, extracted as a model"] = (peer_extract, 1)
    rows = [["to a subnet of OFA-ResNet50", "median ms", "99th ms", "to looked up"]]
    ours = 0.0
    for name, (way, times) in ways.items():
        for subnet in subnets:
            way(subnet)
        spent = sorted(cpu_s(way, subnet, times=times) for subnet in subnets)
        median, last = statistics.median(spent), spent[int(0.99 * (len(spent) - 1))]
        ours = ours or median
        rows.append([name, f"{1e3 * median:.4f}", f"{1e3 * last:.4f}", f"{median / ours:,.0f}x"])
    return rows


def forward(built: Supernet, subnets: Sequence[SubnetConfig], size: int, batch: int, rounds: int) -> list[list[str]]:
    """Return a row for each subnet and layout: the extracted model's time, and what views and cached slices cost."""
    layouts = {"as torch has it": torch.contiguous_format, "channels last": torch.channels_last}
    rows = [["forward pass", "weights", f"extracted ms, batch {batch}", "on views", "on cached slices"]]
    for layout, memory_format in layouts.items():
        held = built.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's types do not know it
        (images,) = OfaResNet50().example(batch, size)
        images = images.normal_(generator=torch.Generator().manual_seed(0)).contiguous(memory_format=memory_format)
        for subnet in subnets:
            plain: nn.Module = extract(held, subnet).to(memory_format=memory_format)  # type: ignore[call-overload]
            held.cache_bytes = 0
            viewed = held.actuate(subnet)
            held.cache_bytes = 10**9
            held.train().eval()
            cached = held.actuate(subnet)
            ways = {name: _called(model, images) for name, model in (("p", plain), ("v", viewed), ("c", cached))}
            found = compared(ways, rounds)
            median, views, slices = found["p"][0], found["v"][1], found["c"][1]
            gmacs = f"{subnet.id[:24]}..."
            rows.append([gmacs, layout, f"{1e3 * median:.1f}", f"{views:.3f}", f"{slices:.3f}"])
    return rows


def layers(batch: int, rounds: int) -> list[list[str]]:
    """Return a row for each kind of layer: the time on contiguous weights, and what a view costs in two layouts."""
    rows = [["layer on a view", f"contiguous ms, batch {batch}", "view", "channels last", "view, channels last"]]
    for name, (whole, kernel, groups, used, side) in LAYERS.items():
        ways: dict[str, Callable[[], object]] = {}
        for layout in (torch.contiguous_format, torch.channels_last):
            weight = torch.randn(*whole, kernel, kernel).contiguous(memory_format=layout)
            view = weight[: used[0], : used[1]]
            taken = used[0] if groups > 1 else used[1]
            images = torch.randn(batch, taken, side, side).contiguous(memory_format=layout)
            for kind, tensor in (("contiguous", view.contiguous(memory_format=layout)), ("view", view)):
                parts = taken if groups > 1 else 1
                ways[f"{kind} {layout}"] = _convolution(images, tensor, kernel // 2, parts)
        rows.append([name, *_row(compared(ways, rounds))])
    for name, (all_of, used) in LINEAR.items():
        weight = torch.randn(*all_of)
        view, data = weight[: used[0], : used[1]], torch.randn(64 * batch, used[1])
        ways = {kind: _linear(data, tensor) for kind, tensor in (("contiguous", view.contiguous()), ("view", view))}
        rows.append([name, *_row(compared(ways, rounds)), "", ""])
    return rows


def _called(model: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    return lambda: model(images)


def _convolution(images: torch.Tensor, weight: torch.Tensor, padding: int, groups: int) -> Callable[[], object]:
    return lambda: functional.conv2d(images, weight, padding=padding, groups=groups)


def _linear(data: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    return lambda: functional.linear(data, weight)


def _row(found: Mapping[str, tuple[float, float]]) -> list[str]:
    (median, _), *others = found.values()
    return [f"{1e3 * median:.3f}", *(f"{ratio:.3f}" for _, ratio in others)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Actuation of OFA-ResNet50, and the price of views.")
    parser.add_argument("--subnets", type=int, default=40, help="as many random subnets to switch to")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)

    held = build(OfaResNet50()).eval()
    for path in held.assembly.norms:
        norm: Any = held.model.get_submodule(path)
        norm.num_batches_tracked += 1  # as if trained: its own statistics count
    rng = stream(0, "actuation")
    subnets = [held.space.sample(rng) for _ in range(options.subnets)]
    published = [SubnetConfig("ofa_resnet50", row.control) for row in find_table(PUBLISHED).subnets if row.control]
    for subnet in (*subnets, *published):
        held.set_statistics(subnet, leading_statistics(held, subnet))
    peer = ofa_peer.ofa_resnet50(1000) if ofa_peer.is_installed() else None
    with torch.no_grad():
        print(aligned(actuation(held, subnets, peer)), "\n")
        print(aligned(layers(options.batch, options.rounds)), "\n")
        print(aligned(forward(held, published, options.size, options.batch, options.rounds)))
    if peer is None:
        print("without once-for-all: pip install ofa", file=sys.stderr)


if __name__ == "__main__":
    main()
