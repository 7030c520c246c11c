"""`ssim capacity --rate`: the least number of workers, against every number tried one by one."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest

from ssim.execution.capacity import Trials, find_capacities
from ssim.execution.workers import Needed, WorkersSearch, find_workers
from ssim.jobs.reading import read_job
from ssim.results.store import Store
from tests.ssim.in_process import ssim
from tests.ssim.stored import manifests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = """\
schema: experiment/1
name: many
seed: 3
trace: {kind: gamma, mean_qps: 100, cv2: 3, duration_s: 4, slo_ms: 60}
cluster: {workers: 1}
latency_table: two.csv
keep: summary
policies: [slackfit, {use: clipper, params: {accuracy: 80}}]
capacity: {target: 0.95, precision: 0.1}
"""
TABLE = "subnet,accuracy,batch_size,latency_ms\nsmall,70,1,10\nsmall,70,4,22\nlarge,80,1,20\nlarge,80,4,45\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "many.yaml").write_text(FILE)
    (tmp_path / "two.csv").write_text(TABLE)
    return tmp_path


def needed(folder: Path, rate: float, *settings: str) -> list[Needed]:
    experiment = read_job(folder / "many.yaml", settings, "experiment/1")
    store = Store(folder / "results/many/capacity")
    with store.writing():
        return find_workers(Trials(experiment, store, 1), rate)


def attainment(folder: Path, policy: int, seed: int, *settings: str) -> float:
    experiment = read_job(folder / "many.yaml", settings, "experiment/1")
    run = next(run for run in experiment.runs if (run.number, run.seed) == (policy, seed))
    store = Store(folder / "others")
    run.execute(store, (run.choose(1), None), None)
    manifest = store.manifest(run.id)
    assert manifest is not None
    return float(manifest["summary"]["slo_attainment"])


def test_the_answer_is_that_of_trying_every_number(folder: Path) -> None:
    rate, seeds = 240.0, (3, 4)
    for number, one in enumerate(needed(folder, rate, "repeats=2")):
        means: dict[int, float] = {}
        for workers in range(1, 12):
            settings = (f"cluster.workers={workers}", f"trace.mean_qps={rate}", "repeats=2")
            means[workers] = sum(attainment(folder, number, seed, *settings) for seed in seeds) / len(seeds)
        least = min(workers for workers, mean in means.items() if mean >= 0.95)
        row = one.row()
        assert row["workers"] == least > 1
        assert row["attainment"] == pytest.approx(means[least], abs=1e-12)
        assert row["attainment_one_less"] == pytest.approx(means[least - 1], abs=1e-12)
        assert row["workers_any_policy"] <= least
        assert row["workers_from"] <= least <= row["workers_to"] + 1
        assert {s["workers"]: s["slo_attainment"] for s in one.tried_rows() if s["seed"] == 3}.keys() <= means.keys()


def test_headroom_is_what_the_rate_can_grow_by(folder: Path) -> None:
    for number, one in enumerate(needed(folder, 150.0)):
        workers, (headroom,) = one.search.least, one.headroom
        assert headroom >= 0
        within = [f"cluster.workers={workers}", f"trace.mean_qps={150 * (1 + headroom) / 1.2}"]
        beyond = [f"cluster.workers={workers}", f"trace.mean_qps={150 * (1 + headroom) * 1.5}"]
        assert attainment(folder, number, 3, *within) >= 0.93
        assert attainment(folder, number, 3, *beyond) < 0.95


TRACES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "bursty": (
        "{kind: bursty, base_qps: 30, variant_qps: 10, cv2: 2, duration_s: 4, slo_ms: 60}",
        lambda trace: trace["base_qps"] + trace["variant_qps"],
    ),
    "poisson": ("{kind: poisson, mean_qps: 30, duration_s: 4, slo_ms: 60}", lambda trace: trace["mean_qps"]),
}


@pytest.mark.parametrize("name", TRACES)
def test_every_run_has_the_mean_rate(folder: Path, name: str) -> None:
    trace, mean_qps = TRACES[name]
    for one in needed(folder, 90.0, f"trace={trace}"):
        content = one.at(2, lambda run, _: run)[0].point.content  # the trace as it is
        assert content["cluster"]["workers"] == 2
    index = Store(folder / "results/many/capacity").index()
    identities = [Store(folder / "results/many/capacity").manifest(run["id"]) for run in index["runs"]]
    rates = {mean_qps(found["identity"]["trace"]["params"]) for found in identities if found}
    assert min(abs(rate - 90) for rate in rates) < 1e-9


def test_a_swept_point_has_its_own_answer_and_a_policy_its_picture(folder: Path) -> None:
    done = ssim(folder, "capacity", "many.yaml", "--rate", "150", "--set", "sweep={trace.slo_ms: [40, 90]}")
    assert done.returncode == 0, done.stderr
    with (folder / "results/many/capacity/workers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["trace.slo_ms"], row["policy"]) for row in rows] == [
        (slo, policy) for slo in ("40", "90") for policy in ("slackfit", "clipper(accuracy=80)")
    ]
    assert int(rows[1]["workers"]) > int(rows[3]["workers"]), "a longer SLO needs fewer"
    assert (folder / "results/many/capacity/figures/workers.png").exists()
    assert "nan" not in done.stdout
    again = ssim(folder, "capacity", "many.yaml", "--rate", "150", "--set", "sweep={trace.slo_ms: [40, 90]}")
    assert again.stdout == done.stdout
    assert " runs for " not in again.stderr


def test_a_part_of_a_run_has_no_bound(folder: Path) -> None:
    done = ssim(folder, "capacity", "many.yaml", "--rate", "100", "--set", "measure={from_s: 1}")
    assert done.returncode == 0, done.stderr
    assert "with `measure`: the bound counts every query" in done.stdout
    with (folder / "results/many/capacity/workers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["workers"] and not row["workers_any_policy"] for row in rows)


def test_a_target_beyond_a_policy_is_told(folder: Path) -> None:
    done = ssim(folder, "capacity", "many.yaml", "--rate", "50", "--set", "trace.slo_ms=15", "--target", "0.9")
    assert done.returncode == 0, done.stderr
    assert "clipper(accuracy=80): no number of workers meets the target. Attainment is 0.000000 with" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--set", "trace.slo_ms=9"),
            "no number of workers meets it: the fastest batch takes 10 ms, overhead included, and 0 % of queries have",
        ),
        (("--set", "sweep={cluster.workers: [1, 2]}"), "--rate: cluster.workers is swept; sweep another key"),
        (("--set", "sweep={trace.mean_qps: [1, 2]}"), "--rate: trace.mean_qps is swept; sweep another key"),
        (("--target", "1.5"), "1.5 is not in the range"),
        (("--target", "nan"), "capacity.target: must be a number ('nan')"),
        (("--rate", "nan"), "--rate: must be a finite number (nan)"),
        (("--rate", "inf"), "--rate: must be a finite number (inf)"),
    ],
)
def test_what_can_not_be_answered_is_bad_input(folder: Path, words: tuple[str, ...], said: str) -> None:
    ended = ssim(folder, "capacity", "many.yaml", "--rate", "100", *words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not manifests(folder)


def test_a_recording_is_sped_up_or_refused(folder: Path) -> None:
    times = [0.02 * n + 0.003 * (n % 5) for n in range(1000)]
    (folder / "recorded.csv").write_text("arrival_s\n" + "\n".join(map(str, times)) + "\n")
    trace = "trace={kind: file, path: recorded.csv, slo_ms: 60, duration_s: 2}"
    for one in needed(folder, 300.0, trace):
        (run,) = one.runs
        assert one.search.least is not None
        index = Store(folder / "results/many/capacity").index()
        manifests = [Store(folder / "results/many/capacity").manifest(each["id"]) for each in index["runs"]]
        queries = [found["summary"]["queries"] for found in manifests if found]
        assert min(abs(count - 600) for count in queries) <= 1, run
    ended = ssim(folder, "capacity", "many.yaml", "--rate", "600", "--set", trace)
    assert ended.returncode == 2
    assert "has too few queries for 2 s at 600 queries per second (1000 of 1200)" in ended.stderr


def search(attained: Callable[[int], float], first: int = 1) -> WorkersSearch:
    found = WorkersSearch(first, 0.9, most=500)
    while wanted := found.wanted():
        assert not set(wanted) & set(found.attained)
        found.attained |= {workers: (attained(workers),) for workers in wanted}
    return found


@pytest.mark.parametrize("least", [1, 2, 3, 17, 400])
@pytest.mark.parametrize("first", [1, 3])
def test_a_threshold_is_found(least: int, first: int) -> None:
    least = max(least, first)
    found = search(lambda workers: 1.0 if workers >= least else 0.5 + workers / 1e4, first)
    assert (found.least, found.uncertain) == (least, None)
    assert (least - 1 in found.attained) == (least > 1)


def test_an_attainment_that_crosses_the_target_twice_is_told() -> None:
    found = search(lambda workers: 0.95 if workers in {7, 8} or workers >= 10 else 0.5 + workers / 1e4)
    assert (found.least, found.uncertain) == (7, (7, 9))


def test_a_single_query_needs_no_second_worker() -> None:
    found = WorkersSearch(1, 0.9, most=1)
    found.attained[1] = (0.0,)
    assert found.wanted() == []
    assert found.least is None


def test_a_search_ends_where_more_workers_change_nothing() -> None:
    found = search(lambda workers: min(workers, 20) / 100)
    assert found.least is None
    assert max(found.attained) == 64


QUEUES = """
queues: [{name: gold, weight: 3, trace: {kind: gamma, mean_qps: 30, cv2: 3, duration_s: 4, slo_ms: 60}},
  {name: rest, trace: {kind: bursty, base_qps: 50, variant_qps: 40, cv2: 2, duration_s: 2, slo_ms: 90}}]
"""


def test_every_queue_meets_the_target_at_the_rate_of_all_together(folder: Path) -> None:
    """The queues' traces are scaled in proportion, and the answer is that of every number tried one by one."""
    (folder / "many.yaml").write_text(FILE.replace(FILE.splitlines()[3], QUEUES))
    rate = 300.0
    for number, one in enumerate(needed(folder, rate, "policies=[slackfit]")):
        now_qps = 30 + 90 / 2  # the second trace is half as long
        scaled = [
            f"queues.0.trace.mean_qps={30 * rate / now_qps!r}",
            f"queues.1.trace.base_qps={50 * rate / now_qps!r}",
            f"queues.1.trace.variant_qps={40 * rate / now_qps!r}",
        ]

        def lowest(workers: int, number: int = number, scaled: list[str] = scaled) -> float:
            job = read_job(folder / "many.yaml", [*scaled, f"cluster.workers={workers}"], "experiment/1")
            run = next(run for run in job.runs if run.number == number)
            store = Store(folder / "others")
            run.execute(store, (run.choose(1), None), None)
            queues = store.manifest(run.id)["queues"]
            return min(queue["slo_attainment"] for queue in queues.values())

        least = one.search.least
        assert least is not None
        assert one.search.attained[least] == (lowest(least),)
        assert lowest(least) >= 0.95
        assert all(lowest(workers) < 0.95 for workers in range(1, least))
        assert one.any_policy is not None
        assert one.any_policy <= least


def test_the_rate_of_all_queues_is_found_in_the_mix_of_the_file(folder: Path) -> None:
    """Each run of the search is that of the file with its rates in proportion; the queue with the lowest decides."""
    (folder / "many.yaml").write_text(FILE.replace(FILE.splitlines()[3], QUEUES))
    settings = ["policies=[slackfit]", "cluster.workers=3", "capacity.precision=0.2"]
    experiment, store = (
        read_job(folder / "many.yaml", settings, "experiment/1"),
        Store(folder / "results/many/capacity"),
    )
    with store.writing():
        (found,) = find_capacities(Trials(experiment, store, 1))
    assert found.capacity is not None

    def lowest(rate: float) -> float:
        share = rate / (30 + 90 / 2)  # the second trace is half as long
        changed = {"0.trace.mean_qps": 30, "1.trace.base_qps": 50, "1.trace.variant_qps": 40}
        scaled = [f"queues.{name}={value * share!r}" for name, value in changed.items()]
        (run,) = read_job(folder / "many.yaml", [*settings, *scaled], "experiment/1").runs
        run.execute(store, (run.choose(1), None), None)
        return min(queue["slo_attainment"] for queue in store.manifest(run.id)["queues"].values())

    search = found.search
    for step in (search.holds, search.misses):
        assert lowest(search.rate(step)) == search.attained[step]
    assert search.attained[search.holds] >= 0.95 > search.attained[search.misses]


def test_rates_and_targets_that_queues_can_not_have_are_refused(folder: Path) -> None:
    (folder / "many.yaml").write_text(FILE.replace(FILE.splitlines()[3], QUEUES))
    refused = {
        "capacity.rate=base_qps": "capacity.rate: is not common to the traces of queues ('base_qps'); mean_qps, the",
        "sweep={queues.0.trace.mean_qps: [20, 30]}": "--rate: queues.0.trace.mean_qps is swept",
        "queues.1.trace.slo_ms=9": "capacity.target: no number of workers meets it: the fastest batch takes 10 ms, "
        "overhead included, and 0 % of queries of queue 'rest' have an SLO",
    }
    for setting, told in refused.items():
        words = () if setting.startswith("capacity") else ("--rate", "300")
        ended = ssim(folder, "capacity", "many.yaml", "--jobs", "1", "--set", setting, *words)
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.returncode == 2
