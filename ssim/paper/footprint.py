"""What it takes to hold and to actuate subnets of OFA-ResNet50, for figures and claims of the paper; needs torch."""

from __future__ import annotations

import statistics
import time
import timeit
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from sim.base.errors import StoreError
from sim.base.streams import stream
from sim.tables.files import load_table
from ssim.extras import require
from ssim.jobs.experiment.summary import write_csv

if TYPE_CHECKING:
    from sim.tables.latency import ProfiledSubnet
    from ssim.results.reading import Results
    from supernet.memory import Footprint
    from supernet.network import Supernet
    from supernet.space import SubnetConfig

TABLE = "ofa-resnet50-rtx2080ti"
"""The table whose subnets SuperServe serves."""

MODELS = 500
"""As many subnets are held: Figure 5a says so."""

_REPEATS, _TIMES = 9, 200


class Own(NamedTuple):
    """A published subnet: accuracy in percent, the bytes of the weights that it uses, and of its own statistics."""

    accuracy: float
    weights_bytes: int
    statistics_bytes: int


class Holding(NamedTuple):
    """What it takes to hold models.

    Attributes:
        tuned: One to four ResNets.
        alone: One to six published subnets, each a model of its own.
        in_one: One to 500 subnets in one supernet, the published ones first.
        subnets: The published subnets.
        shared_bytes: The weights of the supernet.
    """

    tuned: list[Footprint]
    alone: list[Footprint]
    in_one: list[Footprint]
    subnets: list[Own]
    shared_bytes: int


@lru_cache(maxsize=1)
def footprint() -> Holding:
    """Return what it takes to hold subnets of OFA-ResNet50, counted from tensors without memory.

    Raises:
        SpecError: torch is not installed.
    """
    require("torch")
    from supernet.costs import Costs
    from supernet.families import OfaResNet50
    from supernet.family import build
    from supernet.memory import Footprint, extracted, hand_tuned

    family = OfaResNet50()
    net = build(family, device="meta")
    rows, published = zip(*_published(net), strict=True)
    chance = stream(0, "memory")
    sampled = [net.space.sample(chance) for _ in range(MODELS - len(published))]
    costs = Costs(net, tuple(part.to("meta") for part in family.example()))
    subnets = [
        Own(row.accuracy, 4 * costs.parameters(subnet), 4 * costs.statistics(subnet))
        for row, subnet in zip(rows, published, strict=True)
    ]
    # As `supernet.memory.in_place` without a cache, which takes a minute to actuate them all.
    shared = net.memory().weights
    own = (4 * costs.statistics(subnet) for subnet in [*published, *sampled])
    in_one = [Footprint("SubNetAct", models, shared + total) for models, total in enumerate(accumulate(own), 1)]
    return Holding(hand_tuned(), extracted(net, published), in_one, subnets, shared)


def _published(net: Supernet) -> list[tuple[ProfiledSubnet, SubnetConfig]]:
    """Return the subnets of the table, each as it stands there and as one of the supernet's."""
    from ssim.jobs.subnets import subnet_of

    return [(row, subnet_of(row, net.space, TABLE)) for row in load_table(TABLE).subnets]


class Actuation(NamedTuple):
    """A published subnet: accuracy in percent, and the CPU milliseconds to actuate it the first time, and again."""

    accuracy: float
    first_ms: float
    again_ms: float


def actuations() -> list[Actuation]:
    """Return what it takes to actuate each published subnet, measured on this machine.

    Raises:
        SpecError: torch is not installed.
    """
    require("torch")
    from supernet.families import OfaResNet50
    from supernet.family import build

    net = build(OfaResNet50()).eval()
    found = []
    for row, subnet in _published(net):
        channels = sum(net.assembly.norm_sizes(net.active_config(subnet)).values())
        net.set_statistics(subnet, next(net.parameters()).new_zeros(2 * channels))
        began = time.process_time()
        net.actuate(subnet)
        first = time.process_time() - began
        again = timeit.repeat(lambda: net.actuate(subnet), timer=time.process_time, repeat=_REPEATS, number=_TIMES)  # noqa: B023 - at once
        found.append(Actuation(row.accuracy, 1e3 * first, 1e3 * statistics.median(again) / _TIMES))
    return found


def store_actuations(results: Results) -> None:
    """Measure what it takes to actuate the published subnets, and store it, unless it is stored already.

    Raises:
        SpecError: torch is not installed.
        StoreError: It can't be written.
    """
    try:
        results.actuations()
    except StoreError:  # it is not there, or damaged
        rows = [each._asdict() for each in actuations()]
        write_csv(results.actuation_file, rows, Actuation._fields)
