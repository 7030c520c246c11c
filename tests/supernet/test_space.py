from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.base.errors import SpecError
from sim.base.streams import stream
from sim.tables.latency import ControlTuple
from supernet.space import MAX_ENUMERATED, SubnetConfig, SubnetSpace
from tests.supernet.strategies import subnet_spaces

SPACE = SubnetSpace("net", depths=((0, 2), (0, 1, 2)), expands=((0.2, 0.35),) * 3, widths=((0, 1),))


@given(
    st.lists(st.integers(0, 20), max_size=6),
    st.lists(st.floats(1e-9, 4) | st.sampled_from([0.2, 0.25, 1]), max_size=20),
    st.lists(st.integers(0, 3), max_size=6),
)
def test_an_id_reads_back(depths: list[int], expands: list[float], widths: list[int]) -> None:
    assume(depths or expands or widths)
    subnet = SubnetConfig("net", ControlTuple(tuple(depths), tuple(expands), tuple(widths)))
    assert SubnetConfig.parse(subnet.id) == subnet
    assert SubnetConfig.parse(subnet.id).id == subnet.id


def test_equal_numbers_make_one_id() -> None:
    one = SubnetConfig("net", ControlTuple((2,), (1,), (0,)))
    assert one == SubnetConfig("net", ControlTuple((2,), (1.0,), (0,)))
    assert hash(one) == hash(SubnetConfig.parse(one.id))
    assert one.id == "net:d2:e1.0:w0"


@pytest.mark.parametrize(
    "text", ["", "3", "net", "net:", "net:d1,", "net:d1:e0.2x0", "net:e1:d2", "net:da", "net:d1 :e1", "net:e0.2x99999"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"subnet: invalid subnet id .*; an id such as ofa_resnet50:"):
        SPACE.find(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("other:d0,0", r"subnet other:d0,0: belongs to another family \(other\); net"),
        ("net:d0:e0.2x3:w0", r"net, depths: wrong length \(1: 0\); 2 entries"),
        ("net:d0,0:w0", r"net, expands: wrong length \(0: none\); 3 entries"),
        ("net:d0,3:e0.2x3:w0", r"net, depths\[1\]: not a choice \(3\); one of 0, 1, 2"),
        ("net:d0,0:e0.2,0.3,0.2:w0", r"net, expands\[1\]: not a choice \(0.3\); one of 0.2, 0.35"),
        ("net:d0,0:e0.2x3:w-1", r"net, widths\[0\]: not a choice \(-1\); one of 0, 1"),
    ],
)
def test_what_is_not_of_the_space_is_told_by_place_and_value(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        SPACE.find(text)
    assert SubnetConfig.parse(text) not in SPACE


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(SpecError, match=r"net, depths: invalid values \(\(1.5,\)\)"):
        SubnetConfig("net", ControlTuple((1.5,), (), ()))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="expands: invalid values"):
        SubnetConfig("net", ControlTuple((), ("wide",), ()))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="net, control tuple: is empty"):
        SubnetConfig("net", ControlTuple((), (), ()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depths": ((),)}, r"net, depths\[0\]: choices are not in order"),
        ({"expands": ((0.5, 0.5),)}, r"expands\[0\]: choices are not in order"),
        ({"widths": ((1, 0),)}, r"widths\[0\]: choices are not in order"),
        ({"depths": ()}, "net: no entries"),
        ({"family": "my net"}, "invalid family name"),
        ({"family": "a:b"}, "invalid family name"),
    ],
)
def test_a_space_that_is_none_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        SubnetSpace(**({"family": "net", "depths": ((1,),), "expands": (), "widths": ()} | change))  # type: ignore[arg-type]


def test_all_subnets_come_once() -> None:
    every = list(SPACE.enumerate())
    assert len(every) == len(set(every)) == SPACE.size == 2 * 3 * 2**3 * 2
    assert (every[0], every[-1]) == (SPACE.smallest, SPACE.largest)
    assert all(subnet in SPACE for subnet in every)


def test_too_many_to_enumerate_is_told() -> None:
    space = SubnetSpace("net", (), ((0.2, 0.35),) * 30, ())
    assert space.size > MAX_ENUMERATED
    with pytest.raises(SpecError, match=r"too many subnets to enumerate \(1.07e\+09\)"):
        space.enumerate()


@given(subnet_spaces(), st.integers(0, 99))
def test_what_is_drawn_is_of_the_space(space: SubnetSpace, seed: int) -> None:
    rng = stream(seed, "test")
    one, other = space.sample(rng), space.sample(rng)
    changed, child = space.mutate(one, rng, rate=0.1), space.crossover(one, other, rng)
    assert all(subnet in space for subnet in (one, other, changed, child))
    assert (changed == one) == (space.size == 1)
    parents = zip(_entries(one), _entries(other), _entries(child), strict=True)
    assert all(value in {a, b} for a, b, value in parents)


def test_draws_depend_on_the_seed_alone() -> None:
    draws = [[SPACE.sample(stream(7, "test")).id for _ in range(3)] for _ in range(2)]
    assert draws[0] == draws[1]


def test_every_subnet_is_drawn_and_every_entry_mutates() -> None:
    rng = stream(1, "test")
    assert {SPACE.sample(rng) for _ in range(3000)} == set(SPACE.enumerate())
    redrawn = SPACE.mutate(SPACE.smallest, rng, rate=1.0)
    assert all(a != b for a, b in zip(_entries(redrawn), _entries(SPACE.smallest), strict=True))


def _entries(subnet: SubnetConfig) -> tuple[object, ...]:
    return (*subnet.control.depths, *subnet.control.expands, *subnet.control.widths)
