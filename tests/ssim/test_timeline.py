"""Time lines hold what the run did: laws on random runs, and the files as a user gets them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings

from sim import simulate
from sim.engine.arrow import batches_table, queries_table
from sim.engine.instant import Scheduler
from sim.engine.run_metrics import Outcome
from ssim.results.timeline import moments, serving_events
from tests.laws.cases import Case, cases
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

    from sim import Result, View
    from sim.engine.policy import Decision

    Event = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Recording:
    """A policy that notes the slack it sees first at each instant."""

    inner: Any
    slack_ns: dict[int, int]

    def decide(self, view: View) -> Decision:
        self.slack_ns.setdefault(view.now_ns, view.slack_ns)
        return self.inner.decide(view)


def recorded(case: Case) -> tuple[Result, dict[int, int], dict[int, int]]:
    """Return the result, and the queue length and the first slack at each instant, as the scheduler has them."""
    lengths: dict[int, int] = {}
    policy = Recording(case.policy, {})
    settle = Scheduler.settle

    def noting(self: Scheduler, now_ns: int, *arguments: Any) -> Any:
        answer = settle(self, now_ns, *arguments)
        lengths[now_ns] = self._queue.length
        return answer

    with mock.patch.object(Scheduler, "settle", noting):
        result = simulate(case.trace, case.cluster, case.table, policy)
    return result, lengths, policy.slack_ns


@settings(max_examples=50, deadline=None)
@given(cases())
def test_queue_length_and_slack_are_those_of_the_engine(case: Case) -> None:
    case = dataclasses.replace(case, policy=dataclasses.replace(case.policy, waits=False))
    result, lengths, slack_ns = recorded(case)
    cluster = dataclasses.asdict(case.cluster)
    found = {one.at_ns: one for one in moments(cluster, batches_table(result), queries_table(result))}
    assert {now: found[now].length for now in lengths if now in found} == {
        now: length for now, length in lengths.items() if now in found
    }
    if not case.policy.drops:
        assert {now: found[now].slack_ns for now in slack_ns} == slack_ns
    dropped = [query for one in found.values() for query, _ in one.drops]
    never_started = (result.outcome == Outcome.DROPPED) & (result.batch < 0)
    assert sorted(dropped) == never_started.nonzero()[0].tolist()
    assert not any(is_latest for one in found.values() for _, is_latest in one.drops)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_a_drop_at_its_latest_possible_time_is_never_shown_before_it_happened(case: Case) -> None:
    result, lengths, _ = recorded(case)
    found = {
        one.at_ns: one
        for one in moments(dataclasses.asdict(case.cluster), batches_table(result), queries_table(result))
    }
    if any(is_latest for one in found.values() for _, is_latest in one.drops):
        assert all(found[now].length >= length for now, length in lengths.items() if now in found)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_slices_of_a_worker_never_overlap_and_add_up_to_its_busy_time(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    events = list(serving_events(dataclasses.asdict(case.cluster), batches_table(result), queries_table(result)))
    check_tracks(events)
    batches = [event for event in events if event.get("cat") == "batch"]
    assert round(sum(event["dur"] for event in batches) * 1000) == result.busy_ns
    assert sum(event["args"]["size"] for event in batches) == result.batches.size.sum()


def check_tracks(events: list[Event]) -> None:
    """Pass if slices of a track do not overlap, and each track of a slice has a name."""
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin = round(event["ts"] * 1000)
            tracks[event["pid"], event["tid"]].append((begin, begin + round(event["dur"] * 1000)))
    for slices in tracks.values():
        slices.sort()
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(slices))
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert set(tracks) <= named


FILE = """\
schema: experiment/1
name: short
seed: 7
trace: {kind: gamma, mean_qps: 3000, cv2: 4, duration_s: 0.3, slo_ms: 36}
cluster: {workers: 2, drop: expired, faults: [{worker: 1, at_s: 0.1, recover_s: 0.2}]}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit, maxacc]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "short.yaml").write_text(FILE)
    return tmp_path


def read(path: Path) -> list[Event]:
    events: list[Event] = json.loads(path.read_text())["traceEvents"]
    return events


def test_a_run_of_an_experiment_is_written(folder: Path) -> None:
    assert ssim(folder, "run", "short.yaml", "--no-figures").returncode == 0
    ended = ssim(folder, "results", "trace", "short/slackfit", "-o", "run.json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "run.json\n", "")
    events = read(folder / "run.json")
    check_tracks(events)
    assert {event["ph"] for event in events} == {"M", "X", "C", "i"}
    assert {event["name"] for event in events if event["ph"] == "C"} == {"queue length", "slack of the head (ms)"}
    run = next(path.name for path in (folder / "results/short").glob("seed7-*"))
    assert ssim(folder, "results", "trace", f"short/{run[:9]}", "-o", "same.json").returncode == 0


def test_what_can_not_be_shown_is_refused_with_the_way_out(folder: Path) -> None:
    assert ssim(folder, "run", "short.yaml", "--no-figures").returncode == 0
    several = ssim(folder, "results", "trace", "short", "-o", "run.json")
    assert several.returncode == 1
    assert "names 2 runs ('short'); one of short/seed7-" in several.stderr
    assert "no run of this name" in ssim(folder, "results", "trace", "short/nope", "-o", "run.json").stderr
    assert "stored in results: short" in ssim(folder, "results", "trace", "nope", "-o", "run.json").stderr
    assert ssim(folder, "run", "short.yaml", "--no-figures", "--set", "keep=batches", "--force").returncode == 0
    partly = ssim(folder, "results", "trace", "short/maxacc", "-o", "partly.json")
    assert "keep: requests" in partly.stderr
    assert {event["ph"] for event in read(folder / "partly.json")} == {"M", "X", "i"}
    for keep in ("summary", "windows"):
        assert ssim(folder, "run", "short.yaml", "--no-figures", "--set", f"keep={keep}", "--force").returncode == 0
        refused = ssim(folder, "results", "trace", "short/slackfit", "-o", "run.json")
        assert refused.returncode == 1
        assert "run the experiment with keep: batches or keep: requests" in refused.stderr
    assert not (folder / "run.json").exists()
