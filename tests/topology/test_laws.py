"""What must be true of topologies whatever they are made of: averages, times, bytes, queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.topology import cases
from tests.topology.programs import (
    Client,
    Gossip,
    Holder,
    Middle,
    Ring,
    RingHolder,
    RingTop,
    Router,
    Server,
    Top,
    hash_of,
)
from topology.deployment import Dataset, Machine
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.tag import Channel, Link, Role, Select, Tag

if TYPE_CHECKING:
    import numpy.typing as npt

    from topology.plan import Plan

SIM = SimEngine(record=True)


def flat_mean(datasets: list[Dataset], length: int) -> npt.NDArray[np.float64]:
    """The weighted mean of what all hold, worked out without any topology."""
    rows = [np.random.default_rng(hash_of(dataset.id)).normal(size=length) for dataset in datasets]
    return np.average(rows, axis=0, weights=[dataset.size for dataset in datasets])


def sized(sizes: list[int], group: str = "default") -> list[Dataset]:
    return [Dataset(f"{group}-{number}", "trainer", group, size) for number, size in enumerate(sizes)]


SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=6)


@settings(max_examples=30)
@given(st.lists(SIZES, min_size=1, max_size=4), st.integers(1, 7))
def test_a_tree_of_aggregators_gives_the_flat_mean(groups: list[list[int]], length: int) -> None:
    names = tuple(f"g{number}" for number in range(len(groups)))
    datasets = [each for name, sizes in zip(names, groups, strict=True) for each in sized(sizes, name)]
    plan = expand(cases.hierarchical(names), datasets)
    programs: dict[str, Any] = {"trainer": lambda: Holder(length), "mid": Middle, "top": lambda: Top(rounds=1)}
    mean = SIM.run(plan, programs).results["top/0"]
    np.testing.assert_allclose(mean, flat_mean(datasets, length), rtol=0, atol=1e-12)


@st.composite
def deep_trees(draw: st.DrawFn) -> tuple[Tag, list[Dataset]]:
    """A tree of any depth, each level of which is a role: the workers of the next one sit where they like."""
    depth = draw(st.integers(1, 4))
    widths = [1, *(draw(st.integers(1, 4)) for _ in range(depth - 1))]  # how many aggregators, from the top down
    roles, channels = [], []
    above: list[int] = []  # the group of each aggregator of a level on the channel to the level above
    for level, width in enumerate(widths):
        below = "trainer" if level == depth - 1 else f"m{level + 1}"
        role = "top" if level == 0 else f"m{level}"
        verbs = {below: cases.FETCH, role: cases.SPREAD}
        channels.append(Channel(f"c{level}", (below, role), tuple(f"g{k}" for k in range(width)), verbs))
        places = [{f"c{level}": f"g{k}"} | ({f"c{level - 1}": f"g{above[k]}"} if level else {}) for k in range(width)]
        roles.append(Role(role, at=tuple(places)))
        following = widths[level + 1] if level + 1 < depth else draw(st.integers(width, 8))
        following = max(following, width)
        if level + 1 < depth:
            widths[level + 1] = following
        above = [*range(width), *(draw(st.integers(0, width - 1)) for _ in range(following - width))]
    roles.append(Role("trainer", data=True))
    datasets = [Dataset(f"d{k}", "trainer", f"g{group}", draw(st.integers(1, 99))) for k, group in enumerate(above)]
    return Tag(tuple(roles), tuple(channels)), datasets


@settings(max_examples=40)
@given(deep_trees())
def test_so_does_a_tree_of_any_depth(tree: tuple[Tag, list[Dataset]]) -> None:
    tag, datasets = tree
    programs: dict[str, Any] = {role.name: Middle for role in tag.roles}
    programs |= {"trainer": Holder, "top": lambda: Top(rounds=1)}
    mean = SIM.run(expand(tag, datasets), programs).results["top/0"]
    np.testing.assert_allclose(mean, flat_mean(datasets, 3), rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(1, 11))
def test_a_ring_gives_the_flat_mean_to_all_to_the_last_bit(sizes: list[int], length: int) -> None:
    plan = expand(cases.distributed(), sized(sizes))
    report = SIM.run(plan, {"trainer": lambda: Ring(length)})
    results = list(report.results.values())
    np.testing.assert_allclose(results[0], flat_mean(sized(sizes), length), rtol=0, atol=1e-12)
    assert all(np.array_equal(results[0], other) for other in results)
    assert report.traffic["ring"].bytes == 2 * (len(sizes) - 1) * (length + 1) * 8


@pytest.mark.parametrize("n", range(2, 9))
def test_the_makespan_of_a_ring_is_its_formula(n: int) -> None:
    """2 (n - 1) steps, each of which sends S / n bytes over a link: 2 (n - 1) (S / (n f) + latency)."""
    length = 1000 * n - 1  # with the weight, n parts of 1000 numbers
    link = Link(latency_ms=3, bandwidth_mbps=8)  # a byte in a microsecond
    tag = Tag((Role("trainer", data=True),), (Channel("ring", ("trainer", "trainer"), link=link),))
    report = SIM.run(expand(tag, sized([1] * n)), {"trainer": lambda: Ring(length)})
    assert report.end_ns == 2 * (n - 1) * (8_000_000 + 3_000_000)


@settings(max_examples=20)
@given(SIZES, SIZES, st.integers(1, 7))
def test_a_hybrid_gives_the_flat_mean_and_uploads_once_a_group(us: list[int], eu: list[int], length: int) -> None:
    datasets = [*sized(us, "us"), *sized(eu, "eu")]
    report = SIM.run(
        expand(cases.hybrid_for_rings(), datasets), {"trainer": lambda: RingHolder(length), "aggregator": RingTop}
    )
    np.testing.assert_allclose(report.results["aggregator/0"], flat_mean(datasets, length), rtol=0, atol=1e-12)
    assert report.traffic["global"].messages == len(datasets) + 2


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 9))
def test_gossip_keeps_the_mean_and_brings_all_nearer(n: int, rounds: int) -> None:
    tag = Tag((Role("trainer", data=True),), (Channel("gossip", ("trainer", "trainer")),))
    plan = expand(tag, sized([1] * n))
    before = np.array([np.random.default_rng(hash_of(f"default-{k}")).normal(size=3) for k in range(n)])
    after = np.array(list(SIM.run(plan, {"trainer": lambda: Gossip(rounds=rounds)}).results.values()))
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), rtol=0, atol=1e-13)
    mixing = sum(np.roll(np.eye(n), shift, axis=0) for shift in ((-1, 0, 1) if n > 2 else range(n))) / min(n, 3)
    second = np.sort(np.abs(np.linalg.eigvalsh(mixing)))[-2] if n > 1 else 0
    spread = [np.linalg.norm(rows - rows.mean(axis=0)) for rows in (before, after)]
    assert spread[1] <= spread[0] * second**rounds + 1e-12


def star(n: int, *, up_mbps: float, own_mbps: float, length: int, work_s: float) -> tuple[Plan, dict[str, Any]]:
    roles = (Role("trainer", data=True), Role("aggregator", compute="hub"))
    tag = Tag(roles, cases.classical().channels)
    datasets = [Dataset(f"d{k}", "trainer", compute=f"edge{k}") for k in range(n)]
    edges = [Machine(f"edge{k}", up_mbps=own_mbps, down_mbps=own_mbps) for k in range(n)]
    plan = expand(tag, datasets, [*edges, Machine("hub", up_mbps=up_mbps, down_mbps=up_mbps)])
    return plan, {"trainer": lambda: Holder(length, work_s), "aggregator": lambda: Top(rounds=1)}


@pytest.mark.parametrize(("hub", "edge"), [(8.0, 8.0), (8.0, 1.0), (80.0, 8.0), (8.0, 80.0)])
def test_a_round_of_a_star_takes_as_long_as_its_narrowest_lines(hub: float, edge: float) -> None:
    """Up: t + max(S / b, n S / B). Down, the hub sends to one after the other: the last gets it at its end."""
    n, length, work_s = 5, 999, 1.0
    report = SIM.run(*star(n, up_mbps=hub, own_mbps=edge, length=length, work_s=work_s))
    first_bits, bits = 8 * 8 * 2, 8 * 8 * (length + 1)  # a mean of one number and a truth value; a vector and a weight
    down_s = max((n - 1) * first_bits / hub + first_bits / edge, n * first_bits / hub) / 1e6
    starts = [first_bits / hub * k + max(first_bits / edge, first_bits / hub) for k in range(n)]
    last_up_s = max(s + max(bits / edge, bits / hub * (n - k)) for k, s in enumerate(starts)) / 1e6
    assert report.end_s == pytest.approx(work_s + last_up_s, abs=1e-8)
    assert last_up_s >= down_s


def serving(law: str, load: float, requests: int, **router: Any) -> Tag:
    config = {"rate": load, "requests": requests}
    select = {"router": Select("power_of_two")} if router.get("servers", 1) > 1 else {}
    return Tag(
        (
            Role("client", config=config),
            Role("router"),
            Role("server", replicas=router.get("servers", 1), config={"mean_s": 1.0, "law": law}),
        ),
        (
            Channel("req", ("client", "router"), verbs={"client": ("ask",), "router": ("ingest",)}),
            Channel("pool", ("router", "server"), verbs={"router": ("dispatch",)}, select=select),
        ),
    )


SERVING: dict[str, Any] = {"client": Client, "router": Router, "server": Server}


@pytest.mark.parametrize("law", ["exponential", "constant"])
def test_a_server_behind_a_router_is_a_queue_to_the_nanosecond(law: str) -> None:
    """Lindley's recursion on the same arrivals and services; and what goes in comes out."""
    report = SimEngine().run(expand(serving(law, 0.7, 2000)), SERVING, seed=3)
    arrived, start, end = report.results["server/0"].T
    assert np.array_equal(start[1:], np.maximum(arrived[1:], end[:-1]))
    assert report.results["client/0"] == len(arrived) == 2000
    if law == "constant":
        assert np.array_equal(end - start, np.full(2000, 1_000_000_000))


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.7])
@pytest.mark.parametrize(("law", "factor"), [("exponential", 1.0), ("constant", 0.5)])
def test_waits_of_a_queue_are_those_of_theory(law: str, factor: float, load: float) -> None:
    """M/M/1: load / (1 - load) services; M/D/1: half of it (Pollaczek and Khinchine)."""
    waits = []
    for seed in range(5):
        report = SimEngine().run(expand(serving(law, load, 200_000)), SERVING, seed=seed)
        arrived, start, _ = report.results["server/0"].T
        waits.append((start - arrived).mean() / 1e9)
    assert np.mean(waits) == pytest.approx(factor * load / (1 - load), rel=0.02)


def test_the_shorter_of_two_queues_is_shorter_than_a_random_one() -> None:
    waits = {}
    for use in ("random", "power_of_two"):
        tag = serving("exponential", 0.9 * 4, 4000, servers=4)
        pool = tag.channel("pool")
        channel = Channel("pool", pool.pair, verbs=pool.verbs, select={"router": Select(use)})
        report = SimEngine().run(expand(Tag(tag.roles, (tag.channel("req"), channel))), SERVING, seed=1)
        rows = np.concatenate([report.results[f"server/{k}"] for k in range(4)])
        assert len(rows) == 4000
        waits[use] = (rows[:, 1] - rows[:, 0]).mean()
    assert waits["power_of_two"] < waits["random"] / 2


def test_the_same_seed_goes_the_same_way_and_another_does_not() -> None:
    tag = serving("exponential", 0.7, 300)
    again = Tag(tag.roles[::-1], tag.channels[::-1])
    one, two, other = (SIM.run(expand(t), SERVING, seed=s) for t, s in ((tag, 5), (again, 5), (tag, 6)))
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


def test_parallel_groups_have_nothing_to_do_with_each_other() -> None:
    programs: dict[str, Any] = {"trainer": Holder, "aggregator": Top}
    both = expand(cases.parallel(("eu", "us")), [*sized([1, 2], "eu"), *sized([3, 4], "us")])
    changed = expand(cases.parallel(("eu", "us")), [*sized([1, 2], "eu"), *sized([30, 4, 5], "us")])
    one, two = SIM.run(both, programs).results, SIM.run(changed, programs).results
    assert np.array_equal(one["aggregator/0"], two["aggregator/0"])
    assert not np.array_equal(one["aggregator/1"], two["aggregator/1"])
