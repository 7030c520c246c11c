"""Every policy that comes with the toolkit passes the public check; broken ones do not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

import policies
from policies.checks import check_policy
from sim import Decision, Dispatch, PolicyError, ProfiledSubnet, View, Wait, table_from_cells
from ssim.files.plugins import find_class
from tests.policies.required import required
from tests.policies.test_policies import PAPER


@pytest.mark.parametrize("name", sorted(policies.SHORT_NAMES))
def test_every_policy_conforms(name: str) -> None:
    policy = find_class(name, policies.SHORT_NAMES, "policy")(**required(name))
    check_policy(policy, PAPER)
    odd = table_from_cells("odd", [ProfiledSubnet("b", 60.0), ProfiledSubnet("a", 78.25)], {("a", 3): 5, ("b", 3): 9})
    check_policy(policy, odd)


@dataclass(frozen=True)
class Raises:
    def decide(self, view: View) -> Decision:
        raise KeyError(view.queue_length)


@dataclass(frozen=True)
class TooLarge:
    def decide(self, view: View) -> Decision:
        return Dispatch(0, view.queue_length)


@dataclass(frozen=True)
class PastWaiter:
    def decide(self, view: View) -> Decision:
        return Wait(view.now_ns)


@dataclass(frozen=True)
class Vandal:
    def decide(self, view: View) -> Decision:
        object.__setattr__(view.table, "dense_ns", view.table.dense_ns + 1)
        return Dispatch(0, 1)


_calls = itertools.count()


@dataclass(frozen=True)
class Forgetful:
    def decide(self, _: View) -> Decision:
        return Dispatch(next(_calls) % 2, 1)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Raises(), "Raises(): raised KeyError: 1 (test_checks.py:29, in decide; slack -340 ms, queue 1)"),
        (TooLarge(), "invalid batch size (17; test_checks.py:34, in decide; slack -340 ms, queue 17)"),
        (PastWaiter(), "waits for a time that is not in the future"),
        (Vandal(), "changed the latency table"),
        (Forgetful(), "is frozen, but decides differently on the same view"),
    ],
)
def test_a_policy_that_breaks_the_rules_is_found(policy: object, says: str) -> None:
    table = table_from_cells(
        "mine",
        PAPER.subnets,
        {(s.id, b): PAPER.latency(i, b) for i, s in enumerate(PAPER.subnets) for b in PAPER.batch_sizes},
    )
    with pytest.raises(PolicyError) as caught:
        check_policy(policy, table)
    assert says in str(caught.value)


def test_a_policy_that_remembers_and_says_so_passes() -> None:
    @dataclass
    class Remembers:
        asked: int = field(init=False, default=0)

        def decide(self, _: View) -> Decision:
            self.asked += 1
            return Dispatch(self.asked % 2, 1)

    check_policy(Remembers(), PAPER)


def test_a_policy_that_draws_from_the_view_s_stream_is_no_liar() -> None:
    @dataclass(frozen=True)
    class Draws:
        def decide(self, view: View) -> Decision:
            return Dispatch(int(view.system.rng.integers(len(view.table.subnets))), 1)

    check_policy(Draws(), PAPER)
