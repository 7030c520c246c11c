"""The deployment of a topology: datasets, machines, and injected faults. None of it is in the TAG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, NonNegativeInt, Parameters, Positive, PositiveInt, check_parameters
from topology.tag import DEFAULT


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of one party: the role that consumes it has a worker for it.

    Attributes:
        id: Unique among all datasets.
        role: The role that consumes it.
        group: One of the groups in the role's `at`; decides the worker's place.
        size: The number of examples, for weights.
        compute: The machine that holds it and runs its worker.
        ref: Where a program finds it: a path, an address, the number of a partition.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    id: str
    role: str
    group: str = DEFAULT
    size: NonNegativeInt = 1
    compute: str = DEFAULT
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Machine(Parameters):
    """A machine of a party, and its network interface. Only virtual time uses the numbers.

    Attributes:
        id: Unique.
        speed: A step that costs s seconds takes s / speed here.
        slots: How many workers compute at once, the others queue; None for no limit.
        up_mbps: Bandwidth out of the machine in megabits per second, over all its workers and channels; None for no
            limit.
        down_mbps: The same into the machine.
    """

    id: str
    speed: Positive = 1.0
    slots: PositiveInt | None = None
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """Faults injected into one worker. Times are in seconds since the run began.

    Attributes:
        worker: Its id, such as `trainer/3`.
        sessions: When it is there, as pairs of a begin and an end in order, in place of `join_s` and `leave_s`: it
            leaves at each end, and comes back at the next begin.
        every_s: The sessions repeat after this time; None for no repetition.
        join_s: It joins late; messages sent to it before are lost.
        leave_s: It drops out, and its peers are notified.
        die_s: It crashes, and nobody is notified: only timeouts help.
        slow: Its computations take this many times as long (a straggler) ...
        slow_from_s: ... from this time ...
        slow_until_s: ... until this time; None for the end of the run.

    Raises:
        SpecError: A number is out of range or has no effect, or the worker ends before it joins.
    """

    worker: str
    join_s: NonNegative = 0.0
    leave_s: NonNegative | None = None
    die_s: NonNegative | None = None
    slow: Positive = 1.0
    slow_from_s: NonNegative = 0.0
    slow_until_s: NonNegative | None = None
    sessions: tuple[tuple[NonNegative, Positive], ...] = ()
    every_s: Positive | None = None

    def __post_init__(self) -> None:
        check_parameters(self)
        self._check_sessions()
        if self.slow == 1 and (self.slow_from_s or self.slow_until_s is not None):
            name = "slow_from_s" if self.slow_from_s else "slow_until_s"
            raise SpecError(f"InjectedFault.{name}", "not used without slow", f"{getattr(self, name):g}", "set slow")
        if self.slow_until_s is not None and self.slow_until_s <= self.slow_from_s:
            hint = f"must be above slow_from_s, {self.slow_from_s:g}"
            raise SpecError("InjectedFault.slow_until_s", "ends before it begins", f"{self.slow_until_s:g}", hint)
        for name in ("leave_s", "die_s"):
            end = getattr(self, name)
            if end is not None and end < self.join_s:
                hint = f"must be at least join_s, {self.join_s:g}"
                raise SpecError(f"InjectedFault.{name}", "is before the worker joins", f"{end:g}", hint)

    def _check_sessions(self) -> None:
        if not self.sessions:
            if self.every_s is not None:
                raise SpecError("InjectedFault.every_s", "not used without sessions", f"{self.every_s:g}", "remove it")
            return
        if self.join_s or self.leave_s is not None:
            name = "join_s" if self.join_s else "leave_s"
            raise SpecError(f"InjectedFault.{name}", "not used with sessions", f"{getattr(self, name):g}", "remove it")
        before_s = -math.inf
        for begin_s, end_s in self.sessions:
            if not 0 <= begin_s < end_s < math.inf or begin_s <= before_s:
                hint = "each begins after the end of the one before, and ends after its begin"
                raise SpecError("InjectedFault.sessions", "not in order", f"{begin_s:g} to {end_s:g}", hint)
            before_s = end_s
        if self.every_s is None:
            return
        least_s = before_s - self.sessions[0][0]
        if self.every_s < least_s or (self.every_s == least_s and len(self.sessions) == 1):
            hint = f"above {least_s:g}, from the first begin to the last end"
            raise SpecError("InjectedFault.every_s", "sessions overlap when they repeat", f"{self.every_s:g}", hint)

    def session(self, number: int) -> tuple[float, float] | None:
        """Return when a session begins and ends; None if there are not so many.

        The last session of a repetition and the first of the next are one if they touch.

        Args:
            number: From 0.
        """
        if not self.sessions:
            return None if number else (self.join_s, math.inf if self.leave_s is None else self.leave_s)
        count, every_s = len(self.sessions), self.every_s
        if every_s is None:
            return self.sessions[number] if number < count else None
        (first_s, first_end_s), last_end_s = self.sessions[0], self.sessions[-1][1]
        if last_end_s < first_s + every_s:
            repetition, place = divmod(number, count)
            begin_s, end_s = self.sessions[place]
        elif number:
            repetition, place = divmod(number - 1, count - 1)
            begin_s, end_s = self.sessions[place + 1]
            end_s = end_s if place + 1 < count - 1 else first_end_s + every_s
        else:
            repetition, begin_s, end_s = 0, first_s, first_end_s
        return begin_s + repetition * every_s, end_s + repetition * every_s
