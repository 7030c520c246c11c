"""Who takes part and under what conditions: data, machines, and what befalls workers. None of it is in the TAG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, NonNegativeInt, Parameters, Positive, PositiveInt, check_parameters
from topology.tag import DEFAULT


@dataclass(frozen=True, slots=True)
class Dataset:
    """Some data of one party: the role that consumes it gets a worker for it.

    Attributes:
        id: Unique among all datasets.
        role: Who consumes it.
        group: One of the groups in the role's `at`; decides where the worker sits.
        size: How many examples it has, for weights.
        compute: Where it lies; its worker runs there.
        ref: Where a program finds it: a path, an address, a number of a part.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    id: str
    role: str
    group: str = DEFAULT
    size: NonNegativeInt = 1
    compute: str = DEFAULT
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Compute(Parameters):
    """A party's machine, and its line to the rest of the world. Only virtual time makes use of the numbers.

    Attributes:
        id: Unique.
        speed: A step that takes s seconds takes s / speed here.
        slots: How many workers compute here at once, the others queue; None is without limit.
        up_mbps: Megabits a second that leave this machine, over all its workers and channels; None is without limit.
        down_mbps: The same of what comes in.
    """

    id: str
    speed: Positive = 1.0
    slots: PositiveInt | None = None
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one worker. Times are in seconds since the run began.

    Attributes:
        worker: Its id, such as `trainer/3`.
        join_s: It takes part from then on; what was sent to it before is lost.
        leave_s: It drops out, and its peers are told.
        die_s: It falls silent for good, and nobody is told: only deadlines help.
        slow: Its steps take this many times as long (a straggler) ...
        slow_from_s: ... from then on ...
        slow_until_s: ... and until then; None is to the end.

    Raises:
        SpecError: A number is out of range, or it leaves before it joins.
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
        for name in ("leave_s", "die_s"):
            end = getattr(self, name)
            if end is not None and end < self.join_s:
                raise SpecError(f"Fault.{name}", "comes before the worker joins", str(end), f"above {self.join_s}")
