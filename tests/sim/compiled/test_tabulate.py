"""Policies as tables: exact on every shipped policy that can be, and refused with the reason where it can't."""

from __future__ import annotations

import copy
import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.checks import static_view
from policies.clipper import Clipper
from policies.coarse import Coarse
from policies.infaas import Infaas
from policies.maxacc import MaxAcc
from policies.maxbatch import MaxBatch
from policies.slackfit import SlackFit
from sim import Decision, Dispatch, Drop, Hold, LatencyTable, Policy, View, Wait
from sim.compiled.tabulate import NotTabulableError, tabulate
from sim.tables.files import load_table
from tests.policies.test_policies import tables

RTX = load_table("ofa-resnet50-rtx2080ti")
MS = 1_000_000

PURE: list[Policy] = [
    SlackFit(),
    SlackFit(buckets=96),
    SlackFit(queue_aware=True),
    MaxAcc(),
    MaxBatch(),
    Infaas(),
    *(Clipper(subnet.accuracy) for subnet in RTX.subnets),
]


@dataclass(frozen=True)
class Headroom:
    """Compares with what is in no table, in floats."""

    def decide(self, view: View) -> Dispatch:
        budget_ms = view.slack_ns / 1e6 * 0.9 - 0.35
        fitting = [i for i, subnet in enumerate(view.table.dense_ns[:, 4]) if subnet / 1e6 <= budget_ms]
        return Dispatch(max(fitting, default=0), 4)


@dataclass(frozen=True)
class QueueSwitch:
    """Tells queue lengths apart and rounds."""

    def decide(self, view: View) -> Dispatch:
        size = min(view.queue_length, view.table.max_batch)
        rank = bisect_right((0, 10, 20, 30), round(view.slack_ns / MS))
        if view.queue_length > 40 and view.slack_ns > 5 * MS:
            return Dispatch(0, view.table.max_batch)
        return Dispatch(rank, size)


@dataclass(frozen=True)
class Arrays:
    """Does its comparisons in NumPy."""

    def decide(self, view: View) -> Dispatch:
        fits = view.table.latency_ns[:, -1] <= view.slack_ns
        return Dispatch(
            int(np.flatnonzero(fits)[-1]) if fits.any() else 0, min(math.floor(view.queue_length / 2) // 100 + 1, 16)
        )


@dataclass(frozen=True)
class Drops:
    def decide(self, view: View) -> Decision:
        return Drop(1) if view.slack_ns < 0 else Dispatch(0, 1)


@dataclass(frozen=True)
class HoldsAndDrops:
    """Waits for four queries until the largest batch is due, and drops who can't make it."""

    def decide(self, view: View) -> Decision:
        table = view.table
        if view.slack_ns < table.latency(0, 1):
            return Drop(1)
        due_ns = table.latency(0, 4)
        if view.queue_length < 4 and view.slack_ns > due_ns:
            return Hold(due_ns)
        return Dispatch(0, 4)


def disagreements(policy: Policy, table: LatencyTable, slacks: range | list[int], lengths: list[int]) -> list[object]:
    found = tabulate(policy, table)
    return [
        (slack, length)
        for slack, length in itertools.product(slacks, lengths)
        if policy.decide(static_view(table, slack_ns=slack, queue_length=length)) != found.at(slack, length)
    ]


@pytest.mark.parametrize("policy", [*PURE, Headroom(), QueueSwitch(), Drops(), HoldsAndDrops()], ids=str)
def test_a_table_agrees_with_its_policy_at_every_edge_and_between(policy: Policy) -> None:
    found = tabulate(policy, RTX)
    edges = [int(edge) + step for edge in found.from_ns for step in (-2, -1, 0, 1, 2)]
    grid = [*range(-40 * MS, 60 * MS, 777_777), -(10**15), 10**15]
    assert disagreements(policy, RTX, edges + grid, [1, 2, 3, 15, 16, 17, 39, 40, 41, 500]) == []


@settings(max_examples=60, deadline=None)
@given(
    tables(),
    st.sampled_from([SlackFit(4), SlackFit(4, queue_aware=True), MaxAcc(), MaxBatch(), Clipper(50.0), Infaas()]),
)
def test_on_small_tables_every_single_slack_agrees(table: LatencyTable, policy: Policy) -> None:
    assert disagreements(policy, table, range(-3, 34), [1, 2, 3, 4, 8, 16, 17, 99]) == []


def test_numpy_comparisons_are_followed() -> None:
    assert disagreements(Arrays(), RTX, list(range(8 * MS, 35 * MS, 555_555)), [1, 199, 200, 201, 399, 400]) == []


def test_a_table_is_as_small_as_the_policy_is_simple() -> None:
    assert tabulate(Clipper(78.25), RTX).subnets.shape == (6, 1)
    assert tabulate(SlackFit(), RTX).subnets.shape[1] == 1
    assert tabulate(QueueSwitch(), RTX).subnets.shape[1] == 41


@dataclass(frozen=True)
class Clock:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, 1 + (view.now_ns // 1000) % 2)


@dataclass(frozen=True)
class Crowd:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, len(view.system.free_workers()))


@dataclass(frozen=True)
class Bits:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, 1 + int(view.slack_ns) % 2)


@dataclass(frozen=True)
class Odd:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(view.slack_ns % 2, 1)


@dataclass(frozen=True)
class Mixed:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, 1 if view.slack_ns > view.queue_length * MS else 16)


@dataclass(frozen=True)
class Square:
    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, 1 if view.slack_ns * view.slack_ns > 100 else 2)


@dataclass(frozen=True)
class Waits:
    def decide(self, view: View) -> Decision:
        return Wait(5) if view.slack_ns > 0 else Dispatch(0, 1)


@dataclass(frozen=True)
class HoldsForEver:
    def decide(self, view: View) -> Decision:
        return Hold(5) if view.queue_length < 3 else Dispatch(0, 1)


@dataclass(frozen=True)
class HoldsLate:
    def decide(self, view: View) -> Decision:
        return Hold(1_000) if view.slack_ns > 500 else Dispatch(0, 1)


@dataclass(frozen=True)
class HoldsByTheNanosecond:
    def decide(self, view: View) -> Decision:
        return Hold(view.slack_ns - 1) if view.slack_ns > 0 else Dispatch(0, 1)


@dataclass(frozen=True)
class Picks:
    def decide(self, _: View) -> Decision:
        return Dispatch(0, 1, worker=0)


@dataclass(frozen=True)
class Swallows:
    """Catches whatever goes wrong: the attempt must end all the same."""

    def decide(self, view: View) -> Dispatch:
        try:
            return Dispatch(0, 1 if view.system.workers_alive > 3 else 2)
        except Exception:  # noqa: BLE001 - that is the point
            return Dispatch(0, 1)


@dataclass
class Remembers:
    asked: int = 0

    def decide(self, _: View) -> Dispatch:
        self.asked += 1
        return Dispatch(0, 1 + self.asked % 2)


_dice = np.random.default_rng(1)
_calls = itertools.count()


@dataclass(frozen=True)
class Dice:
    def decide(self, _: View) -> Dispatch:
        return Dispatch(int(_dice.integers(2)), 1)


@dataclass(frozen=True)
class Rare:
    """Lies once in a while."""

    def decide(self, _: View) -> Dispatch:
        return Dispatch(int(next(_calls) % 500 == 499), 1)


@dataclass(frozen=True)
class Fails:
    def decide(self, _: View) -> Dispatch:
        raise KeyError("nothing")


@dataclass(frozen=True)
class Does:
    """Does one thing that tracing once got wrong."""

    what: str

    def decide(self, view: View) -> Decision:  # noqa: C901, PLR0911, PLR0912 - one case a line
        slack, queue = view.slack_ns, view.queue_length
        match self.what:
            case "swallow":
                try:
                    free = len(view.system.free_workers())
                except:  # noqa: E722 - the point
                    free = 1
                return Dispatch(min(free, 5), 1)
            case "text":
                return Dispatch(0 if len(str(queue)) == 3 else 3, 16)
            case "kind":
                return Dispatch(0 if queue > 100 and isinstance(queue, int) else 3, 16)
            case "clock text":
                return Dispatch(0 if len(f"{view.now_ns}") > 12 else 1, 1)
            case "clock kind":
                return Dispatch(1 if isinstance(view.now_ns, int) else 0, 1)
            case "nan":
                return Dispatch(0 if queue > 100 and slack != math.nan else 3, 16)  # noqa: PLW0177 - the point
            case "unsigned":
                return Dispatch(0 if queue - np.uint64(200) > 50 else 1, 16)
            case "copy":
                return Dispatch(0 if copy.deepcopy(slack) > 200 * MS else 5, 1)
            case "hash":
                return Dispatch(0, {1: 1, 2: 2}.get(queue, 16))
            case "truth":
                return Dispatch(slack > 10 * MS, 1)
            case "overflow":
                try:
                    return Dispatch(1 if math.exp(queue * 1e-3) > 5 else 0, 1)
                except OverflowError:
                    return Dispatch(0, 1)
            case "range":
                return Dispatch(0 if slack in range(5 * MS) else 1, 1)
            case "loop":
                steps = 0
                while slack > 0 and steps < 900:
                    slack, steps = slack - MS, steps + 1
                return Dispatch(0, 1 + steps % 2)
            case "exit":
                raise SystemExit(0)
            case _:
                return Dispatch(0, 1)


TRAPS = ["swallow", "text", "kind", "clock text", "clock kind", "nan", "unsigned", "copy", "hash", "truth", "overflow"]


@pytest.mark.parametrize("what", [*TRAPS, "range", "loop", "exit"])
def test_what_can_not_be_followed_is_never_guessed(what: str) -> None:
    with pytest.raises(NotTabulableError):
        tabulate(Does(what), RTX)


@dataclass(frozen=True)
class Backlog:
    """Multiplies with a number of NumPy, the natural way."""

    limit_ns: int

    def decide(self, view: View) -> Dispatch:
        late = view.queue_length * view.table.latency_ns[0, 0] > self.limit_ns
        return Dispatch(0 if late else 5, 16)


def test_numbers_of_numpy_do_not_overflow_far_away() -> None:
    assert disagreements(Backlog(10**9), RTX, [-5, 5 * MS], list(range(220, 235))) == []


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Clock(), "depends on the clock"),
        (Crowd(), "depends on system.free_workers"),
        (Coarse(), "depends on"),
        (Bits(), "steps to trace its comparisons"),
        (Odd(), "non-monotonic arithmetic"),
        (Mixed(), "in one expression"),
        (Square(), "in one expression"),
        (Waits(), "returns Wait"),
        (HoldsForEver(), "would hold for ever"),
        (HoldsLate(), "holds until a slack that can't come"),
        (HoldsByTheNanosecond(), "needs more than"),
        (Picks(), "picks its worker"),
        (Swallows(), "depends on system.workers_alive"),
        (Remembers(), "may have state; only frozen dataclasses are known to be stateless"),
        (Dice(), "deviates from its decision table"),
        (Rare(), "deviates from its decision table"),
        (Fails(), "raised KeyError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_not_be_a_table_is_refused_with_the_reason(policy: Policy, says: str) -> None:
    with pytest.raises(NotTabulableError) as caught:
        tabulate(policy, RTX)
    assert says in str(caught.value)
