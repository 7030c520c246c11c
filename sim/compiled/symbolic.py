"""Symbolic values for the inputs of a policy: they record the interval on which its decision stays the same.

Tracing is concolic: a symbolic number has a concrete value that answers each comparison. As long as a policy only
compares it with constants and adds, multiplies or divides by them, the result is monotonic in the input, and bisection
finds the input at which a comparison changes. Any other operation ends the trace, even if the policy catches that.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_STEPS = 1_000_000
"""Limit on evaluations of a policy's arithmetic during a trace: a second or two."""

MAX_DEPTH = 32
"""Limit on consecutive operations on one number."""

FAR = 2**61
"""Above every slack and queue length."""


class Untraceable(BaseException):
    """A policy can't be traced. Not an `Exception`: a policy that catches those must not catch this."""


class TraceContext:
    """The state of one trace: the work so far, and the reason of a failure, even if the policy catches it."""

    def __init__(self) -> None:
        self.reason = ""
        self.steps = 0

    def stop(self, reason: str) -> NoReturn:
        """Fail the trace."""
        self.reason = self.reason or reason
        raise Untraceable(self.reason)

    def check(self) -> None:
        """Raise again if the trace failed before and the policy caught that."""
        if self.reason:
            raise Untraceable(self.reason)

    def step(self) -> None:
        """Count one evaluation of the policy's arithmetic."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.stop(f"needs more than {MAX_STEPS} steps to trace its comparisons")


class OpaqueValue:
    """A value that a decision table does not depend on: any use of it fails the trace."""

    __slots__ = ("_context", "_name")

    def __init__(self, name: str, context: TraceContext) -> None:
        self._name, self._context = name, context

    def _stop(self, *_: object) -> NoReturn:
        self._context.stop(f"depends on {self._name}")

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


class OpaqueSystem:
    """The system behind a view during a trace: only what stays the same during a run is known.

    Attributes:
        used: What of it was looked up.
    """

    def __init__(self, constants: Mapping[str, int], context: TraceContext) -> None:
        self._constants, self._context = constants, context
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> int:
        if name not in self._constants:
            self._context.stop(f"depends on system.{name}")
        self.used.add(name)
        return self._constants[name]


class ValidityInterval:
    """An interval of one input, from its concrete value to the largest one with the same path through the policy."""

    __slots__ = ("context", "number", "upper")

    def __init__(self, number: int, context: TraceContext) -> None:
        self.number = number
        self.upper = FAR
        self.context = context

    def narrow(self, holds: Callable[[int], bool]) -> None:
        """Shorten the interval to where a condition holds: true at its start and, once false, false from there on."""

        def evaluate(number: int) -> bool:
            self.context.step()
            try:
                return holds(number)
            except Exception:  # noqa: BLE001 - the condition is defined at the concrete value only
                self.context.stop("does arithmetic that fails for some slack or queue length")

        low, high = self.number, self.upper
        if evaluate(high):
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if evaluate(middle) else (low, middle)
        self.upper = low


def symbolic_number(interval: ValidityInterval) -> Any:
    """Return a symbolic number for an input."""
    return SymbolicNumber(interval, lambda number: number, 0)


class SymbolicNumber:  # noqa: PLW1641 - hashing one fails the trace
    """A monotonic function of an input, computed by the policy's own arithmetic."""

    __slots__ = ("_depth", "_interval", "_of")

    def __init__(self, interval: ValidityInterval, of: Callable[[int], Any], depth: int) -> None:
        self._interval, self._of, self._depth = interval, of, depth

    def _then(self, step: Callable[[Any], Any]) -> SymbolicNumber:
        if self._depth >= MAX_DEPTH:
            self._interval.context.stop(f"applies more than {MAX_DEPTH} operations to one number")
        of = self._of
        return SymbolicNumber(self._interval, lambda number: step(of(number)), self._depth + 1)

    def _constant(self, other: object) -> Any:
        """Return the other operand if it is a plain number; fail the trace if not."""
        kind = type(other)
        if kind in {SymbolicNumber, OpaqueValue}:
            self._interval.context.stop("combines slack and queue length, or one of them twice, in one expression")
        if kind is np.int64:
            return int(cast("int", other))  # 64 bits would overflow at the far end of an interval
        if kind is np.float64:
            other, kind = float(cast("float", other)), float
        if kind not in {int, float, bool} or other != other:  # noqa: PLR0124 - true of nan alone
            self._interval.context.stop(f"compares or combines a number with {other!r}")
        return other

    def _pinned(self, as_kind: Callable[[Any], Any]) -> Any:
        of = self._of
        value = as_kind(of(self._interval.number))
        self._interval.narrow(lambda number: bool(as_kind(of(number)) == value))
        return value

    def _against(self, other: object) -> int:
        """Return -1, 0 or 1 for less, equal or greater than a constant; shorten the interval to that result."""
        constant, of, context = self._constant(other), self._of, self._interval.context

        def side(number: int) -> int:
            value = of(number)
            if value != value:  # noqa: PLR0124 - true of nan alone
                context.stop("computes nan")
            return int(value > constant) - int(value < constant)

        here = side(self._interval.number)
        self._interval.narrow(lambda number: side(number) == here)
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

    def __add__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: value + constant)

    __radd__ = __add__

    def __sub__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: value - constant)

    def __rsub__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: constant - value)

    def __mul__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: value * constant)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: value / constant)

    def __floordiv__(self, other: object) -> SymbolicNumber:
        constant = self._constant(other)
        return self._then(lambda value: value // constant)

    def __neg__(self) -> SymbolicNumber:
        return self._then(operator.neg)

    def __pos__(self) -> SymbolicNumber:
        return self

    def __round__(self, digits: SupportsIndex | None = None) -> SymbolicNumber:
        return self._then(lambda value: round(value, digits) if digits is not None else round(value))

    def __floor__(self) -> SymbolicNumber:
        return self._then(math.floor)

    def __ceil__(self) -> SymbolicNumber:
        return self._then(math.ceil)

    def __trunc__(self) -> SymbolicNumber:
        return self._then(math.trunc)

    def _odd(self, *_: object) -> NoReturn:
        self._interval.context.stop("applies non-monotonic arithmetic to slack or queue length")

    __mod__ = __rmod__ = __rfloordiv__ = __rtruediv__ = __pow__ = __rpow__ = __abs__ = __divmod__ = _odd
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = __invert__ = _odd

    def _stop(self, *_: object) -> NoReturn:
        self._interval.context.stop("uses slack or queue length as text, key, copy or type, which can't be traced")

    __hash__ = __repr__ = __str__ = __format__ = __copy__ = __deepcopy__ = __reduce_ex__ = _stop
    __class__ = property(_stop)  # pyright: ignore[reportIncompatibleMethodOverride] - isinstance looks here

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # NumPy asks whether this is an array
            raise AttributeError(name)
        self._stop()
