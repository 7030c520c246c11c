"""Topologies that several tests look at."""

from __future__ import annotations

from topology.deployment import Dataset
from topology.tag import Channel, Role, Tag, Variant

FETCH = ("fetch", "upload")
SPREAD = ("distribute", "aggregate")


def classical(*variants: Variant) -> Tag:
    verbs = {"trainer": FETCH, "aggregator": SPREAD}
    named = dict(zip(("other", "third"), variants, strict=False))
    return Tag(
        (Role("trainer", data=True, variants=named), Role("aggregator")),
        (Channel("param", ("trainer", "aggregator"), verbs=verbs),),
    )


def hierarchical(groups: tuple[str, ...], replicas: int = 1) -> Tag:
    roles = (
        Role("trainer", data=True, at=tuple({"param": group} for group in groups)),
        Role("mid", at=tuple({"param": group, "global": "default"} for group in groups), replicas=replicas),
        Role("top"),
    )
    channels = (
        Channel("param", ("trainer", "mid"), groups, {"trainer": FETCH, "mid": SPREAD}),
        Channel("global", ("mid", "top"), verbs={"mid": FETCH, "top": SPREAD}),
    )
    return Tag(roles, channels)


def distributed() -> Tag:
    return Tag((Role("trainer", data=True),), (Channel("ring", ("trainer", "trainer")),))


def hybrid() -> Tag:
    places = ({"ring": "us", "global": "default"}, {"ring": "eu", "global": "default"})
    verbs = {"trainer": FETCH, "aggregator": SPREAD}
    return Tag(
        (Role("trainer", data=True, at=places), Role("aggregator")),
        (
            Channel("ring", ("trainer", "trainer"), ("us", "eu"), {"trainer": ("ring_allreduce",)}, backend="p2p"),
            Channel("global", ("trainer", "aggregator"), verbs=verbs, backend="mqtt"),
        ),
    )


def hybrid_for_rings() -> Tag:
    tag = hybrid()
    ring = tag.channel("ring")
    return Tag(tag.roles, (Channel("ring", ring.pair, ring.groups, {"trainer": ("ring",)}), tag.channel("global")))


def diagonal() -> Tag:
    """A role that sits in two of the four places there are."""
    places = ({"one": "a", "two": "x"}, {"one": "b", "two": "y"})
    return Tag(
        (Role("middle", at=places), Role("left"), Role("right")),
        (Channel("one", ("middle", "left"), ("a", "b")), Channel("two", ("middle", "right"), ("x", "y"))),
    )


def parallel(groups: tuple[str, ...]) -> Tag:
    places = tuple({"param": group} for group in groups)
    return Tag(
        (Role("trainer", data=True, at=places), Role("aggregator", at=places)),
        (Channel("param", ("trainer", "aggregator"), groups),),
    )


def data(**groups: int) -> list[Dataset]:
    """As many datasets of trainers as are said, by group."""
    return [Dataset(f"{group}-{n}", "trainer", group) for group, count in groups.items() for n in range(count)]
