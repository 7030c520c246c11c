"""What it takes to hold and to actuate subnets of OFA-ResNet50, for figures and claims of the paper; needs torch."""

from __future__ import annotations

import time
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from sim.errors import SpecError
from sim.streams import stream
from sim.table_files import load_table

if TYPE_CHECKING:
    from supernet.memory import Held

TABLE = "ofa-resnet50-rtx2080ti"
"""The table whose subnets SuperServe serves."""

MODELS = 500
"""As many subnets are held: Figure 5a says so."""

_TIMES = 1000


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

    tuned: list[Held]
    alone: list[Held]
    in_one: list[Held]
    subnets: list[Own]
    shared_bytes: int


def needs_torch() -> None:
    """Pass if torch is there.

    Raises:
        SpecError: It is not.
    """
    if find_spec("torch") is None:
        raise SpecError("the supernet", "torch is not installed", right="pip install -e '.[torch]'")


@lru_cache(maxsize=1)
def holding() -> Holding:
    """Return what it takes to hold subnets of OFA-ResNet50, counted from tensors without memory.

    Raises:
        SpecError: torch is not installed.
    """
    needs_torch()
    from supernet.costs import Costs
    from supernet.families import OfaResNet50
    from supernet.family import build
    from supernet.memory import Held, extracted, hand_tuned
    from supernet.space import SubNet

    family = OfaResNet50()
    net = build(family, device="meta")
    rows = [row for row in load_table(TABLE).subnets if row.control is not None]
    published = [net.space.find(SubNet(net.space.family, row.control)) for row in rows if row.control is not None]
    chance = stream(0, "memory")
    sampled = [net.space.sample(chance) for _ in range(MODELS - len(published))]
    costs = Costs(net, tuple(part.to("meta") for part in family.example()))
    subnets = [
        Own(row.accuracy, 4 * costs.parameters(subnet), 4 * costs.statistics(subnet))
        for row, subnet in zip(rows, published, strict=True)
    ]
    # As `supernet.memory.in_place` without a cache, which takes a minute to actuate them all.
    shared = net.memory().weights
    own = (4 * costs.statistics(subnet) for subnet in published + sampled)
    in_one = [Held("SubNetAct", models, shared + total) for models, total in enumerate(accumulate(own), 1)]
    return Holding(hand_tuned(), extracted(net, published), in_one, subnets, shared)


@lru_cache(maxsize=1)
def actuation_s() -> tuple[float, float]:
    """Return the CPU seconds that it takes to actuate the largest published subnet: for the first time, and again.

    A process measures it once.

    Raises:
        SpecError: torch is not installed.
    """
    needs_torch()
    from supernet.families import OfaResNet50
    from supernet.family import build

    net = build(OfaResNet50()).eval()
    largest = net.space.largest
    channels = sum(net.assembly.norm_sizes(net.choice(largest)).values())
    net.set_statistics(largest, next(net.parameters()).new_zeros(2 * channels))
    begin = time.process_time()
    net.actuate(largest)
    first = time.process_time() - begin
    begin = time.process_time()
    for _ in range(_TIMES):
        net.actuate(largest)
    return first, (time.process_time() - begin) / _TIMES
