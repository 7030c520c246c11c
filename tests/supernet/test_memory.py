from __future__ import annotations

import copy

from sim.base.streams import stream
from supernet.extraction import extract
from supernet.families import OfaResNet50
from supernet.memory import extracted, hand_tuned, in_place, model_bytes
from supernet.statistics import leading_statistics
from tests.supernet.built import ofa_on_meta, small


def test_weights_statistics_and_cache_are_counted_from_tensors() -> None:
    held = small().eval()
    subnet = held.space.smallest
    before = held.memory()
    largest = held.statistics_of(held.space.largest)
    assert before.weights == model_bytes(held.model) - largest.nbytes
    assert before.statistics == largest.nbytes
    statistics = leading_statistics(held, subnet)
    held.set_statistics(subnet, statistics)
    assert held.memory() == before._replace(statistics=before.statistics + statistics.nbytes)


def test_what_is_extracted_takes_its_own_tensors() -> None:
    held = small()
    subnets = [held.space.sample(stream(0, "test")) for _ in range(3)]
    real = [model_bytes(extract(held, subnet)) for subnet in subnets]
    assert [row.bytes for row in extracted(held, subnets)] == [sum(real[:n]) for n in (1, 2, 3)]
    assert held.calibrated


def test_one_supernet_takes_its_weights_once() -> None:
    held = small()
    rng = stream(0, "test")
    subnets = [held.space.sample(rng) for _ in range(5)]
    rows = in_place(held, subnets)
    assert [row.models for row in rows] == [1, 2, 3, 4, 5]
    sizes = [8 * 2 * sum(held.assembly.norm_sizes(held.choice(subnet)).values()) for subnet in subnets]
    weights = held.memory().weights
    assert [row.bytes for row in rows] == [weights + sum(sizes[:n]) for n in (1, 2, 3, 4, 5)]


def test_tensors_without_memory_have_the_same_sizes() -> None:
    held = small(cache_bytes=10**6)
    without = copy.deepcopy(held).to("meta")
    rng = stream(0, "test")
    subnets = [held.space.sample(rng) for _ in range(4)]
    assert in_place(without, subnets) == in_place(held, subnets)


def test_the_published_figures() -> None:
    """Four ResNets take 395 MiB, the whole supernet 184: both close to what the paper's Figure 5a shows."""
    assert [row.models for row in hand_tuned()] == [1, 2, 3, 4]
    assert round(hand_tuned()[-1].bytes / 2**20) == 396  # of which 395 are parameters
    assert round(ofa_on_meta().memory().weights / 2**20) == 184
    assert OfaResNet50().space.family == "ofa_resnet50"
