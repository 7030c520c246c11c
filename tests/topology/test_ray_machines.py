"""What all machines of a Ray cluster must have in common, and a head that no longer answers; without a cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ray", reason="this engine needs the extra [ray]")

from sim.base.errors import SsimError
from topology.engines import ray_cluster, ray_watch
from topology.engines.ray import check_same
from topology.engines.ray_actor import facts
from topology.engines.ray_cluster import ClusterHead
from topology.engines.ray_watch import ActorWatch
from topology.sites import DeploymentSite, PlannedProcess

if TYPE_CHECKING:
    from pathlib import Path

ANYWHERE, AT_EDGE = PlannedProcess(("a/0",), {}), PlannedProcess(("a/1",), {}, DeploymentSite("edge"))


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "rule.py"
    without = facts([path])
    path.write_text("x = 1\n")
    before = facts([path])
    path.write_text("x = 2\n")
    after = facts([path])
    assert without[str(path)] == "missing"
    assert before[str(path)] != after[str(path)]
    assert {name for name in after if after[name] != before[name]} == {str(path)}
    assert {"superserve-sim", "Python", "torch", "numpy"} <= set(after)


@pytest.mark.parametrize("name", ["superserve-sim", "Python", "torch", "numpy", "/own/rule.py"])
def test_what_differs_is_told_with_site_and_machine(name: str) -> None:
    here = {**facts([]), "/own/rule.py": "1234"}
    check_same([ANYWHERE, AT_EDGE], [("one", here), ("two", here)], here)
    with pytest.raises(SsimError, match=rf"^ray, site edge, two: {name} differs \(other\); here .*; install the same"):
        check_same([ANYWHERE, AT_EDGE], [("one", here), ("two", here | {name: "other"})], here)
    with pytest.raises(SsimError, match=rf"^ray, one: not found there \({name}\); install the same on all machines"):
        check_same([ANYWHERE, AT_EDGE], [("one", here | {name: "missing"}), ("two", here)], here)


def test_a_head_that_is_away_for_a_while_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, away = 0.0, False

    def reach(address: str) -> None:
        if away:
            raise ConnectionRefusedError(address)

    monkeypatch.setattr(ray_cluster, "reach", reach)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    head = ClusterHead("head:6379")
    for second in range(976):  # it is restarted again and again
        now, away = float(second), second % 40 > 15
        head.check()
    away = True
    gone = r"^ray, head:6379: the cluster went away \(head:6379\); see `ray status` there"
    for second in range(976, 1004):
        now = float(second)
        head.check()
    now = 1010.0
    with pytest.raises(SsimError, match=gone):
        head.check()


@pytest.mark.parametrize(
    ("difference_s", "expected_s"), [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.0), (5.0, 4.5), (-5.0, -4.5)]
)
def test_clocks_agree_as_far_as_an_answer_takes(
    monkeypatch: pytest.MonkeyPatch, difference_s: float, expected_s: float
) -> None:
    """An answer takes a second, and the other clock is read in the middle."""
    times = iter([100.0, 101.0])
    monkeypatch.setattr(time, "time", lambda: next(times))
    monkeypatch.setattr(ray_watch, "_answer", lambda _: 100.5 + difference_s)
    watch: Any = ActorWatch.__new__(ActorWatch)
    watch._start = 90.0

    class Actor:
        class handle:  # noqa: N801 - as Ray's
            class clock:  # noqa: N801
                remote = staticmethod(lambda: None)

    assert ActorWatch._start_of(watch, Actor()) == pytest.approx(90.0 + expected_s)  # type: ignore[arg-type]  # a stub
