"""Who waits for whom: the waits of a run, each ended by the message that came last, or by nobody."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from figures.waits import MAX_WORKERS, draw
from sim.base.errors import DataError
from tests.figures.test_timeline import recorded
from tests.topology import cases
from tests.topology.programs import Holder, Middle, Top
from topology.deployment import InjectedFault
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.waits import NOBODY, EndedWait, ended_waits


def frame(waits: list[EndedWait]) -> pd.DataFrame:
    return pd.DataFrame(waits, columns=list(EndedWait._fields))


def test_no_wait_is_lost_and_each_was_ended_by_a_message() -> None:
    _, report = recorded(3)
    waits = ended_waits(report.spans, [report.end_s / 2, report.end_s])
    spans = [span for span in report.spans if span.kind == "wait"]
    assert sum(wait.seconds for wait in waits) == pytest.approx(sum(s.end_ns - s.start_ns for s in spans) / 1e9)
    assert len(waits) == len(spans)
    assert {wait.round for wait in waits} == {1, 2}
    assert NOBODY not in {wait.awaited for wait in waits}
    sent = {(span.peer, span.worker) for span in report.spans if span.kind == "message"}
    assert {(wait.worker, wait.awaited) for wait in waits} <= sent
    assert ended_waits(report.spans, []) == []


def test_the_slowest_is_whom_the_others_wait_for() -> None:
    plan = expand(cases.hierarchical(("eu", "na")), cases.data(eu=3, na=1))
    programs: dict[str, Any] = {"trainer": Holder, "mid": Middle, "top": Top}
    report = SimEngine(record=True).run(plan, programs, faults=[InjectedFault("trainer/1", slow=50)])
    seconds = frame(ended_waits(report.spans, [report.end_s])).groupby(["worker", "awaited"])["seconds"].sum()
    assert seconds["mid/0"].idxmax() == "trainer/1"
    assert seconds["top/0"].idxmax() == "mid/0"


def test_the_picture_has_each_worker_or_each_role() -> None:
    few = frame(ended_waits(recorded(3)[1].spans, [1e9]))
    who, *_ = draw(few).axes
    assert [label.get_text() for label in who.get_yticklabels()] == [
        *(f"mid/{n}" for n in range(2)),
        "top/0",
        *(f"trainer/{n}" for n in range(4)),
    ]
    assert float(who.images[0].get_array().sum()) == pytest.approx(few["seconds"].sum())
    many = frame(ended_waits(recorded(MAX_WORKERS)[1].spans, [1e9]))
    who, *_ = draw(many).axes
    assert [label.get_text() for label in who.get_yticklabels()] == ["mid", "top", "trainer"]
    assert draw(few[:0]).texts[0].get_text() == "no runs"
    with pytest.raises(DataError, match="awaited"):
        draw(few.drop(columns="awaited"))
