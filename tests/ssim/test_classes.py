"""Results by class of query: stored, printed, drawn and reported."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from sim.base.parquet import read_parquet
from ssim.files.own_modules import forget_modules
from ssim.jobs.experiment.drawing import draw_classes
from ssim.results.store import Store
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """\
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim import Trace, stream
from sim.traces.source import TraceSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants(TraceSource):
    queries: int = 1500
    kind: ClassVar[str] = "tenants"
    duration_ns: ClassVar[int] = 2_000_000_000
    has_classes: ClassVar[bool] = True

    def chunks(self, seed):
        yield np.sort(stream(seed, "when").integers(0, self.duration_ns, self.queries))

    def trace_of(self, arrival_ns, seed):
        codes = (stream(seed, "who").random(len(arrival_ns)) < 0.3).astype(np.uint16)
        slo_ns = np.where(codes == 1, 14_000_000, 60_000_000)
        names = ("free", "paid_<b>")
        return Trace(arrival_ns, slo_ns, self.duration_ns, "tenants", class_codes=codes, class_names=names)
"""
EXPERIMENT = """\
schema: experiment/1
name: by_tenant
seed: 1
repeats: 2
trace: {kind: "tenants_of:Tenants", slo_ms: 36}
cluster: {workers: 1}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit, infaas]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "by_tenant.yaml").write_text(EXPERIMENT)
    (tmp_path / "tenants_of.py").write_text(SOURCE)
    forget_modules()  # of the same name, in the folders of other tests
    return tmp_path


def run(folder: Path, *overrides: str, out: str = "results") -> str:
    given = [word for setting in overrides for word in ("--set", setting)]
    ended = ssim(folder, "run", "by_tenant.yaml", "--jobs", "1", "--out", out, "--no-figures", *given)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def classes(folder: Path, out: str = "results") -> pd.DataFrame:
    return pd.read_csv(folder / out / "by_tenant/classes.csv")


def test_the_table_by_class_is_what_the_queries_say(folder: Path) -> None:
    said = run(folder, "measure={from_s: 0.5}")
    frame = classes(folder)
    assert len(frame) == 2 * 2 * 2
    for row in frame.itertuples():
        path = folder / "results/by_tenant" / row.run / "requests.parquet"
        requests = read_parquet(path).to_pandas()
        own = requests[(requests["class"] == row[4]) & (requests.arrival_ns >= 0.5e9)]
        assert row.queries == len(own)
        assert row.slo_attainment == (own.outcome == "met").mean()
        latency_ms = (own.finish_ns - own.arrival_ns) / 1e6
        assert row.p50_latency_ms == pytest.approx(latency_ms.quantile(0.5))
        assert row.p99_latency_ms == pytest.approx(latency_ms.quantile(0.99))
        counts = own.outcome.value_counts()
        assert (row.late, row.dropped, row.unfinished) == (counts["late"], counts["dropped"], counts["unfinished"])
    whole = pd.read_csv(folder / "results/by_tenant/summary.csv").set_index("run").sort_index()
    for name in ("queries", "late", "dropped", "unfinished"):
        assert (frame.groupby("run")[name].sum() == whole[name]).all()
    means = frame.groupby(["class", "policy"]).slo_attainment.mean()
    for (name, policy), mean in means.items():
        assert re.search(rf"^ {re.escape(name)} +{policy} +{mean:.6f} ±", said, re.MULTILINE), (name, policy)


def test_what_is_kept_and_the_engine_decide_nothing(folder: Path) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    run(folder)
    exact = classes(folder)
    rough = [name for name in exact.columns if name.endswith("latency_ms")]
    for number, engine in enumerate(("simpy", "compiled")):
        run(folder, f"engine={engine}", "keep=summary", out=str(number))
        found = classes(folder, str(number))
        pd.testing.assert_frame_equal(found.drop(columns=rough), exact.drop(columns=rough))
        np.testing.assert_allclose(found[rough], exact[rough], rtol=0.0021)


def test_slos_are_classes_and_without_any_there_is_no_table(folder: Path) -> None:
    lines = [f"{0.004 * number:.3f},{(14, 60, 60)[number % 3]}" for number in range(300)]
    (folder / "log.csv").write_text("\n".join(["arrival_s,slo_ms", *lines, ""]))
    said = run(folder, "trace={kind: file, path: log.csv}")
    assert set(classes(folder)["class"]) == {"SLO 14 ms", "SLO 60 ms"}
    assert "By class of queries" in said
    said = run(folder, "trace={kind: file, path: log.csv, slo_ms: 30}", "repeats=1")
    assert "class" not in said
    assert not (folder / "results/by_tenant/classes.csv").exists()
    for path in (folder / "results/by_tenant").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert ("classes" in manifest) == (manifest["identity"]["trace"]["params"]["slo_ms"] is None)


def test_a_sweep_has_its_columns_and_a_figure_of_its_first_point(folder: Path) -> None:
    said = run(folder, "sweep={cluster.workers: [1, 2]}", "repeats=1", "keep=summary")
    assert re.search(r"^ 2 +free +slackfit ", said, re.MULTILINE)
    assert set(classes(folder)["cluster.workers"]) == {1, 2}
    figure = draw_classes(Store(folder / "results/by_tenant"))
    assert figure is not None
    assert figure.get_suptitle() == "workers = 1"
    poisson = "trace={kind: poisson, mean_qps: 100, duration_s: 1, slo_ms: 36}"
    run(folder, poisson, "repeats=1", "keep=summary")
    assert draw_classes(Store(folder / "results/by_tenant")) is None


def test_the_report_has_the_classes(folder: Path) -> None:
    pytest.importorskip("plotly", reason="a report needs the extra [report]")
    run(folder, "keep=summary")
    assert ssim(folder, "report", "results/by_tenant", "-o", "page.html").returncode == 0
    text = (folder / "page.html").read_text(encoding="utf-8")
    shown = re.findall(r'<td class="text">([^<]*)</td><td class="text">([^<]*)</td><td>([\d.]+)', text)
    found = {(policy, html.unescape(name)): value for name, policy, value in shown}
    for key, mean in classes(folder).groupby(["policy", "class"]).slo_attainment.mean().items():
        assert found[key] == f"{mean:.6f}"
