"""A trace takes whole numbers in any form, keeps what it was given, and says what is wrong with the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.base.arrays import frozen
from sim.base.errors import DataError
from sim.traces.trace import MAX_CLASSES, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
FORMS: list[Callable[[np.ndarray], Any]] = [
    list,
    tuple,
    pd.Series,
    pa.array,
    lambda array: pd.Series(array, dtype="Int64"),
    lambda array: pd.Series(array, index=range(7, 7 + len(array))),
    *(lambda array, kind=kind: array.astype(kind) for kind in INTEGERS),
]


@pytest.mark.parametrize("form", FORMS)
@given(times=st.lists(st.integers(0, 127), min_size=1, max_size=9).map(sorted))
def test_every_form_of_whole_numbers_gives_the_same_trace(form: Callable[[np.ndarray], Any], times: list[int]) -> None:
    values = np.array(times)
    trace = Trace(
        form(values), form(values + 1 - values // 127), 127, class_codes=form(values % 2), class_names=("a", "b")
    )
    assert trace.arrival_ns.dtype == trace.slo_ns.dtype == np.int64
    assert trace.class_codes.dtype == np.uint16
    assert trace.arrival_ns.tolist() == times
    assert np.array_equal(trace.slo_ns, values + 1 - values // 127)
    assert np.array_equal(trace.class_codes, values % 2)


@pytest.mark.parametrize(
    "view", [lambda array: array, lambda array: array[:], pd.Series], ids=["array", "view", "series"]
)
def test_a_later_change_of_what_was_given_changes_nothing(view: Callable[[np.ndarray], Any]) -> None:
    times, slos, codes = np.array([0, 1, 2]), np.array([5, 5, 5]), np.array([0, 0, 1], np.uint16)
    trace = Trace(view(times), view(slos), 3, class_codes=view(codes), class_names=["a", "b"])
    for array in (times, slos, codes):
        array[0] = 9
    assert trace.arrival_ns.tolist() == [0, 1, 2]
    assert trace.slo_ns.tolist() == [5, 5, 5]
    assert trace.class_codes.tolist() == [0, 0, 1]
    assert trace.class_names == ("a", "b")
    for kept in (trace.arrival_ns, trace.slo_ns, trace.class_codes):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1


def test_what_nothing_can_change_is_not_copied() -> None:
    trace = Trace(np.arange(5), 1, 5)
    assert Trace(trace.arrival_ns[1:], 1, 5).arrival_ns.base is trace.arrival_ns
    assert frozen(trace.arrival_ns) is trace.arrival_ns


def test_numbers_of_numpy_are_numbers() -> None:
    times = np.array([0, 3])
    trace = Trace(times, times[-1], times[-1])
    assert (type(trace.slo_ns), type(trace.duration_ns)) == (int, int)
    assert trace.deadline_ns.tolist() == [3, 6]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "arrival_ns: has no arrivals"),
        ([0.0, 1.0], r"arrival_ns: is not an array of whole numbers \(float64, shape \(2,\)\); whole nanoseconds"),
        ([0, None], "arrival_ns: is not an array of whole numbers .object"),
        (["0", "1"], "is not an array of whole numbers"),
        ([False, True], "is not an array of whole numbers .bool"),
        (np.ma.array([0, 1], mask=[0, 1]), "arrival_ns: has masked values"),
        ([[0, 1]], r"arrival_ns: has the wrong shape \(\(1, 2\)\)"),
        ([[0], [1, 2]], "arrival_ns: can't be read as an array"),
        (3, "arrival_ns: has the wrong shape"),
        (
            pd.Series(pd.to_timedelta([0, 1], unit="s")),
            r"is not an array of whole numbers .*astype\('timedelta64\[ns\]'\)",
        ),
        (np.array([0, 2**63], np.uint64), "arrival_ns: is beyond 64 bits .9223372036854775808"),
        ([0, 2**70], "arrival_ns: is not an array of whole numbers"),
        ([-1, 0], r"arrival_ns, row 0: is negative \(-1 ns\)"),
        ([3, 2], r"arrival_ns, row 1: is earlier than the row before \(2 < 3 ns\)"),
    ],
)
def test_other_arrivals_are_refused(times: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Trace(times, 1, 10)


@pytest.mark.parametrize(
    ("codes", "names", "message"),
    [
        (None, ("a",), "class_codes: is missing"),
        ([0, 1], (), r"class_codes of query 0: has no name \(0\); class_names has 0"),
        ([0, 2], ("a", "b"), r"class_codes of query 1: has no name \(2\); class_names has 2"),
        ([0, -1], ("a", "b"), r"class_codes of query 1: has no name \(-1\)"),
        ([0], ("a", "b"), r"class_codes: has the wrong shape \(\(1,\)\); must be \(2,\)"),
        ([0.0, 1.0], ("a", "b"), "class_codes: is not an array of whole numbers"),
        ([0, 1], ("a", "a"), "class_names: has two classes of one name .'a'"),
        ([0, 1], ("a", ""), "class_names: has a class without a name"),
        ([0, 1], ("a", 1), "class_names: has a class without a name .1"),
        ([0, 1], tuple(map(str, range(MAX_CLASSES + 1))), "class_names: has too many classes .501.; at most 500"),
    ],
)
def test_other_classes_are_refused(codes: Any, names: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Trace([0, 1], 1, 10, class_codes=codes, class_names=names)
