"""Stand-ins for numbers that a policy decides by: they answer its comparisons and keep how far the answers hold.

A stand-in that is only compared with constants, and added to, multiplied by or divided by them, grows or falls with
the number that it stands for; so where a comparison turns can be found by bisection. Whatever else a policy does with
one ends the attempt to follow it, even if the policy catches that.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_STEPS = 1_000_000
"""As many evaluations of a policy's arithmetic as are spent on following it: a second or two."""

DEEPEST = 32
"""As many operations on one number, one after the other, as are followed."""

FAR = 2**61
"""Beyond every slack and queue length."""


class Untraceable(BaseException):
    """What a policy does can't be followed. No `Exception`: a policy that catches those must not catch this."""


class Trail:
    """What was met while a policy was followed: whether it must be given up, even if the policy swallows that."""

    def __init__(self) -> None:
        self.reason = ""
        self.steps = 0

    def stop(self, reason: str) -> NoReturn:
        """Give up."""
        self.reason = self.reason or reason
        raise Untraceable(self.reason)

    def check(self) -> None:
        """Give up if that was decided before and swallowed since."""
        if self.reason:
            raise Untraceable(self.reason)

    def step(self) -> None:
        """Count one evaluation of the policy's arithmetic."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            self.stop(f"compares so often that following it takes more than {MOST_STEPS} steps")


class Unseen:
    """Something that a table knows nothing of; whoever looks at it is not tabulable."""

    __slots__ = ("_name", "_trail")

    def __init__(self, name: str, trail: Trail) -> None:
        self._name, self._trail = name, trail

    def _stop(self, *_: object) -> NoReturn:
        self._trail.stop(f"looks at {self._name}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _stop
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __pow__ = __neg__ = __abs__ = _stop
    __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __invert__ = __pos__ = _stop
    __int__ = __float__ = __index__ = __bool__ = __round__ = __floor__ = __ceil__ = __trunc__ = _stop
    __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __repr__ = __str__ = __format__ = __reduce_ex__ = _stop
    __eq__ = __ne__ = _stop
    __class__ = property(_stop)  # pyright: ignore[reportIncompatibleMethodOverride] - isinstance looks here

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # NumPy asks whether this is an array
            raise AttributeError(name)
        self._stop()


class NoSystem:
    """The system behind a view, of which a table knows the overhead alone."""

    def __init__(self, dispatch_ns: int, trail: Trail) -> None:
        self.dispatch_ns = dispatch_ns
        self._trail = trail

    def __getattr__(self, name: str) -> NoReturn:
        self._trail.stop(f"looks at system.{name}")


class Reach:
    """A number, and the largest one up to which everything found out about it stays true."""

    __slots__ = ("number", "trail", "up_to")

    def __init__(self, number: int, trail: Trail) -> None:
        self.number = number
        self.up_to = FAR
        self.trail = trail

    def keep(self, holds: Callable[[int], bool]) -> None:
        """Shorten the reach to where a statement holds that is true of the number and, once false, stays false."""

        def counted(number: int) -> bool:
            self.trail.step()
            try:
                return holds(number)
            except Exception:  # noqa: BLE001 - it holds where the policy is, and can't be told elsewhere
                self.trail.stop("does arithmetic that fails for some slack or queue length")

        low, high = self.number, self.up_to
        if counted(high):
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if counted(middle) else (low, middle)
        self.up_to = low


def standing_for(reach: Reach) -> Any:
    """Return a stand-in for the number of a reach."""
    return StandIn(reach, lambda number: number, 0)


class StandIn:  # noqa: PLW1641 - hashing one is what ends the attempt
    """Stands for a number that grows or falls with the number of a reach, through the policy's own arithmetic."""

    __slots__ = ("_depth", "_of", "_reach")

    def __init__(self, reach: Reach, of: Callable[[int], Any], depth: int) -> None:
        self._reach, self._of, self._depth = reach, of, depth

    def _then(self, step: Callable[[Any], Any]) -> StandIn:
        if self._depth >= DEEPEST:
            self._reach.trail.stop(f"does more than {DEEPEST} operations on one number")
        of = self._of
        return StandIn(self._reach, lambda number: step(of(number)), self._depth + 1)

    def _constant(self, other: object) -> Any:
        """Return the other side of a comparison or an operation, if it is a plain number."""
        kind = type(other)
        if kind in {StandIn, Unseen}:
            self._reach.trail.stop("brings slack and queue length, or one of them twice, into one expression")
        if kind is np.int64:
            return int(cast("int", other))  # 64 bits would overflow far away, where no policy goes
        if kind is np.float64:
            other, kind = float(cast("float", other)), float
        if kind not in {int, float, bool} or other != other:  # noqa: PLR0124 - true of nan alone
            self._reach.trail.stop(f"compares or combines a number with {other!r}")
        return other

    def _pinned(self, as_kind: Callable[[Any], Any]) -> Any:
        of = self._of
        value = as_kind(of(self._reach.number))
        self._reach.keep(lambda number: bool(as_kind(of(number)) == value))
        return value

    def _against(self, other: object) -> int:
        """Return -1, 0 or 1: how the number compares with a constant; shortens the reach to where that stays."""
        constant, of, trail = self._constant(other), self._of, self._reach.trail

        def side(number: int) -> int:
            value = of(number)
            if value != value:  # noqa: PLR0124 - true of nan alone
                trail.stop("computes a number that is none (nan)")
            return int(value > constant) - int(value < constant)

        here = side(self._reach.number)
        self._reach.keep(lambda number: side(number) == here)
        return here

    def __lt__(self, other: object) -> bool:
        return self._against(other) < 0

    def __le__(self, other: object) -> bool:
        return self._against(other) <= 0

    def __gt__(self, other: object) -> bool:
        return self._against(other) > 0

    def __ge__(self, other: object) -> bool:
        return self._against(other) >= 0

    def __eq__(self, other: object) -> bool:
        return self._against(other) == 0

    def __ne__(self, other: object) -> bool:
        return self._against(other) != 0

    def __bool__(self) -> bool:
        return self._against(0) != 0

    def __index__(self) -> int:
        return int(self._pinned(operator.index))

    def __int__(self) -> int:
        return int(self._pinned(int))

    def __float__(self) -> float:
        return float(self._pinned(float))

    def __add__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: value + constant)

    __radd__ = __add__

    def __sub__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: value - constant)

    def __rsub__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: constant - value)

    def __mul__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: value * constant)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: value / constant)

    def __floordiv__(self, other: object) -> StandIn:
        constant = self._constant(other)
        return self._then(lambda value: value // constant)

    def __neg__(self) -> StandIn:
        return self._then(operator.neg)

    def __pos__(self) -> StandIn:
        return self

    def __round__(self, digits: SupportsIndex | None = None) -> StandIn:
        return self._then(lambda value: round(value, digits) if digits is not None else round(value))

    def __floor__(self) -> StandIn:
        return self._then(math.floor)

    def __ceil__(self) -> StandIn:
        return self._then(math.ceil)

    def __trunc__(self) -> StandIn:
        return self._then(math.trunc)

    def _odd(self, *_: object) -> NoReturn:
        self._reach.trail.stop("does arithmetic on slack or queue length that neither only grows nor only falls")

    __mod__ = __rmod__ = __rfloordiv__ = __rtruediv__ = __pow__ = __rpow__ = __abs__ = __divmod__ = _odd
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = __invert__ = _odd

    def _stop(self, *_: object) -> NoReturn:
        self._reach.trail.stop("does with slack or queue length what can't be followed (text, look-up, copy, kind)")

    __hash__ = __repr__ = __str__ = __format__ = __copy__ = __deepcopy__ = __reduce_ex__ = _stop
    __class__ = property(_stop)  # pyright: ignore[reportIncompatibleMethodOverride] - isinstance looks here

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # NumPy asks whether this is an array
            raise AttributeError(name)
        self._stop()
