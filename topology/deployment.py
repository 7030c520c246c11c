"""The deployment of a topology: datasets, machines, and injected faults. None of it is in the TAG."""

from __future__ import annotations

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

    def __post_init__(self) -> None:
        check_parameters(self)
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
