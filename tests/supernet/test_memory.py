from __future__ import annotations

import copy

from sim.base.streams import stream
from supernet.extraction import extract
from supernet.families import OfaResNet50
from supernet.memory import extracted, hand_tuned, in_place, model_bytes
from supernet.statistics import leading_statistics
from tests.supernet.built import ofa_on_meta, small


def test_weights_statistics_and_cache_are_counted_from_tensors() -> None:
    supernet = small().eval()
    subnet = supernet.space.smallest
    before = supernet.memory()
    largest = supernet.statistics_of(supernet.space.largest)
    assert before.weights == model_bytes(supernet.model) - largest.nbytes
    assert before.statistics == largest.nbytes
    statistics = leading_statistics(supernet, subnet)
    supernet.set_statistics(subnet, statistics)
    assert supernet.memory() == before._replace(statistics=before.statistics + statistics.nbytes)


def test_what_is_extracted_takes_its_own_tensors() -> None:
    supernet = small()
    subnets = [supernet.space.sample(stream(0, "test")) for _ in range(3)]
    real = [model_bytes(extract(supernet, subnet)) for subnet in subnets]
    assert [row.bytes for row in extracted(supernet, subnets)] == [sum(real[:n]) for n in (1, 2, 3)]
    assert supernet.calibrated


def test_one_supernet_takes_its_weights_once() -> None:
    supernet = small()
    rng = stream(0, "test")
    subnets = [supernet.space.sample(rng) for _ in range(5)]
    rows = in_place(supernet, subnets)
    assert [row.models for row in rows] == [1, 2, 3, 4, 5]
    sizes = [8 * 2 * sum(supernet.assembly.norm_sizes(supernet.active_config(subnet)).values()) for subnet in subnets]
    weights = supernet.memory().weights
    assert [row.bytes for row in rows] == [weights + sum(sizes[:n]) for n in (1, 2, 3, 4, 5)]


def test_tensors_without_memory_have_the_same_sizes() -> None:
    supernet = small(cache_bytes=10**6)
    without = copy.deepcopy(supernet).to("meta")
    rng = stream(0, "test")
    subnets = [supernet.space.sample(rng) for _ in range(4)]
    assert in_place(without, subnets) == in_place(supernet, subnets)


def test_the_published_figures() -> None:
    """Four ResNets take 395 MiB, the whole supernet 184: both close to what the paper's Figure 5a shows."""
    assert [row.models for row in hand_tuned()] == [1, 2, 3, 4]
    assert round(hand_tuned()[-1].bytes / 2**20) == 396  # of which 395 are parameters
    assert round(ofa_on_meta().memory().weights / 2**20) == 184
    assert OfaResNet50().space.family == "ofa_resnet50"
