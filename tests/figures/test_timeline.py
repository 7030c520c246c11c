"""The time line of a run shows what the report holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.collections import LineCollection

from figures.style import save_as
from figures.timeline import MAX_ROWS, draw
from tests.topology import cases
from tests.topology.programs import Holder, Middle, Top
from topology.engines.sim import SimEngine
from topology.expansion import expand

if TYPE_CHECKING:
    from pathlib import Path

    from topology.plan import Plan
    from topology.report import RunReport


def recorded(trainers: int) -> tuple[Plan, RunReport]:
    plan = expand(cases.hierarchical(("eu", "na")), cases.data(eu=trainers, na=1))
    programs: dict[str, Any] = {"trainer": Holder, "mid": Middle, "top": Top}
    return plan, SimEngine(record=True).run(plan, programs)


def test_each_message_is_a_line_and_each_worker_a_row(tmp_path: Path) -> None:
    plan, report = recorded(3)
    figure = draw(report.spans, [worker.id for worker in plan.workers], "two rounds")
    (axes,) = figure.axes
    lines = [collection for collection in axes.collections if isinstance(collection, LineCollection)]
    assert sum(len(each.get_segments()) for each in lines) == sum(each.messages for each in report.traffic.values())
    assert [label.get_text() for label in axes.get_yticklabels()] == [worker.id for worker in plan.workers]
    once = save_as(figure, tmp_path / "once.svg").read_bytes()
    assert (
        once == save_as(draw(report.spans, [w.id for w in plan.workers], "two rounds"), tmp_path / "b.svg").read_bytes()
    )


def test_many_workers_are_cut_and_none_are_told() -> None:
    plan, report = recorded(MAX_ROWS)
    (axes,) = draw(report.spans, [worker.id for worker in plan.workers]).axes
    assert len(axes.get_yticks()) == MAX_ROWS
    assert axes.get_title() == "(4 more workers are not shown)"
    assert draw([], []).texts[0].get_text() == "no runs"
