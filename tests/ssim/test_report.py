"""`ssim report`: the page is opened in a real browser, where there is one, and asked what it shows."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("plotly", reason="a report needs the extra [report]")

from ssim.cli import main
from ssim.jobs.experiment.bounds import stored_bounds
from ssim.jobs.experiment.report import collect
from ssim.jobs.experiment.report_runs import MOST_WINDOWS, SHARES, together
from ssim.jobs.experiment.report_tables import COLUMNS
from ssim.results.record import read_windows
from ssim.results.store import INDEX, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")

EXPERIMENT = """\
schema: experiment/1
name: {name}
seed: 7
repeats: {repeats}
trace: {{kind: poisson, mean_qps: 500, duration_s: {seconds}, slo_ms: 36}}
cluster: {{workers: 1}}
latency_table: ofa-resnet50-rtx2080ti
keep: {keep}
policies: [slackfit, {{use: clipper, params: {{accuracy: 80.16}}}}]
sweep: {{trace.mean_qps: {rates}}}
"""

WATCH = "<head><script>window.onerror = (text) => { document.documentElement.dataset.error = text; };</script>"


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def experiment(
    folder: Path,
    name: str,
    repeats: int,
    seconds: int,
    rates: Sequence[int],
    keep: str = "windows",
    swaps: Mapping[str, str] | None = None,
) -> None:
    text = EXPERIMENT.format(name=name, repeats=repeats, seconds=seconds, rates=list(rates), keep=keep)
    for old, new in (swaps or {}).items():
        text = text.replace(old, new)
    (folder / f"{name}.yaml").write_text(text)
    words = ("run", str(folder / f"{name}.yaml"), "--out", str(folder / "results"), "--no-figures", "--jobs", "1")
    assert exit_code(*words) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    experiment(folder, "one", 2, 5, [300, 900], "requests")
    experiment(folder, "two", 1, 2, [400])
    return folder / "results"


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """Results of one's own, to be broken."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def hashes(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def opened(page: Path, then: str = "") -> str:
    """Return what a browser made of a page after it did something there; no script may have failed."""
    text = page.read_text(encoding="utf-8").replace("<head>", WATCH, 1)
    own = page.with_name("opened.html")
    script = f"(function wait() {{ if (!document.body.dataset.ready) return setTimeout(wait, 10); {then} }})();"
    own.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=3000"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'browser'}"]
    assert BROWSER is not None
    ended = subprocess.run(
        [BROWSER, *flags, own.as_uri()], capture_output=True, text=True, timeout=120, check=True, encoding="utf-8"
    )
    assert "data-error" not in ended.stdout[:500], ended.stdout[:500]
    assert 'data-ready="yes"' in ended.stdout
    return ended.stdout


def table_of(dom: str, name: str = "summary") -> str:
    return dom.partition(f'<table class="{name}">')[2].partition("</table>")[0]


def shown(dom: str, id_: str) -> str:
    found = re.search(rf'id="{id_}"[^>]*>(.*?)</(?:output|pre|h2|table|select|ul)>', dom, re.DOTALL)
    assert found is not None, id_
    return found[1]


def test_the_page_needs_nothing_and_changes_nothing(made: Path, tmp_path: Path) -> None:
    before = hashes(made)
    for name in ("a.html", "b.html"):
        assert exit_code("report", str(made / "one"), "-o", str(tmp_path / name)) == 0
    assert hashes(made) == before
    page = (tmp_path / "a.html").read_bytes()
    assert page == (tmp_path / "b.html").read_bytes()
    head = page[: page.index(b'<script id="data"')]
    assert re.findall(rb"(?:src|href)=\S+", head) == [b'href="data:,">']  # it asks for no other file
    assert not re.search(rb"@import|url\(", head)
    assert b"modeBarButtons: BUTTONS" in page  # a list of what is allowed: without a browser nothing more can be seen


@in_browser
def test_the_browser_shows_the_table_the_experiment_and_a_run(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    dom = opened(page)
    assert "<h2>Summary of one</h2>" in dom
    table = table_of(dom)
    assert table.count("<tr") == 1 + 2 * 2
    runs = Store(made / "one").index()["runs"]
    for run in runs:
        assert f'<td class="text">{run["swept"]["trace.mean_qps"]}</td>' in table
    assert "<button>trace.mean_qps</button></th>" in table
    assert "clipper(accuracy=80.16) against slackfit: SLO attainment" in dom
    assert "trace: {kind: poisson" in dom.partition('<pre class="spec"')[2]
    assert json.loads(shown(dom, "manifest"))["schema"] == "manifest/1"
    assert shown(dom, "run").count("<option") == len(runs) == 8
    for chart, points in (("tradeoff", 2), ("dynamics", 0), ("latency", 0)):
        drawn = dom[dom.index(f'id="{chart}"') :]
        assert "<svg" in drawn[: drawn.index("</section>")], chart
        assert drawn[: drawn.index("</section>")].count('class="point"') == points


@in_browser
def test_any_run_is_scrubbed_over_time(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    store = Store(made / "one")
    number, second = 5, 3
    run = store.index()["runs"][number]
    windows = read_windows(store, run["id"]).to_pandas()
    then = f"""
    by("run").value = {number};
    by("run").onchange({{ target: by("run") }});
    by("time").value = {second};
    by("time").oninput({{ target: by("time") }});
    by("point").value = 1;
    by("point").onchange();
    """
    dom = opened(page, then)
    told = shown(dom, "now")
    assert told.startswith(f"{second} to {second + 1} s: ingest {windows['ingest_per_s'][second]:g}, ")
    assert f"batch size {windows['batch_size'][second]:.5g}"[:16] in told
    assert json.loads(shown(dom, "manifest")) == store.manifest(run["id"])
    chosen = re.findall(r'<tr[^>]*class="chosen">(.*?)</tr>', table_of(dom), re.DOTALL)
    assert len(chosen) == 1
    assert run["policy"] in chosen[0]


@in_browser
def test_the_table_is_sorted_and_filtered(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    accuracy = 1 + 1 + [*COLUMNS].index("mean_serving_accuracy")

    def column(then: str, place: int) -> list[str]:
        body = table_of(opened(page, then)).partition("<tbody>")[2]
        visible = re.findall(r"<tr(?![^>]*hidden).*?</tr>", body, re.DOTALL)
        return [re.findall(r"<td[^>]*>(.*?)</td>", row)[place] for row in visible]

    click = f'own("table")[0].tHead.rows[0].cells[{accuracy}].firstChild.click();'
    rising = [float(text.split()[0]) for text in column(click, accuracy)]
    assert rising == sorted(rising)
    assert [float(text.split()[0]) for text in column(click * 2, accuracy)] == rising[::-1]
    only = column('by("filter").value = "CLIP"; by("filter").oninput();' + click, 0)
    assert only == ["clipper(accuracy=80.16)"] * 2


@in_browser
def test_all_policies_are_drawn_over_time_and_nines_are_told_apart(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    then = """
    const { place, axis } = miss_axis([1, 0.9995, 0, null]);
    document.body.dataset.told = JSON.stringify([
      [0, 0.9, 0.999, 1, null].map(place), axis.tickvals, axis.ticktext,
      by("dynamics").data.map((one) => one.legendgroup), by("dynamics").data.map((one) => one.customdata.at(-1)),
    ]);
    """
    found = re.findall(r'data-told="([^"]*)"', opened(page, then))
    places, ticks, texts, policies, last = json.loads(html.unescape(found[0]))
    assert [places[0], places[3], places[4]] == [0, 5, None]
    assert np.allclose(places[1:3], [1, 3])
    assert dict(zip(ticks, texts, strict=True)) == {0: "0", 1: "0.9", 2: "0.99", 3: "0.999", 4: "0.9999", 5: "1"}
    assert (
        policies == ["clipper(accuracy=80.16)"] * 4 + ["slackfit"] * 5
        or policies == ["slackfit"] * 4 + ["clipper(accuracy=80.16)"] * 5
    )
    assert len(last) == 9


@in_browser
def test_nothing_on_the_page_leads_elsewhere(made: Path, tmp_path: Path) -> None:
    """Plotly's own toolbar has a button that uploads the chart, and a logo that is a link."""
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    dom = re.sub(r"<script.*?</script>", "", opened(page), flags=re.DOTALL)
    assert re.findall(r"""(?:href|src|action)=["']?(?:https?:)?//""", dom) == []
    assert "<form" not in dom
    buttons = set(re.findall(r'class="modebar-btn[^"]*"[^>]*data-title="([^"]*)"', dom))
    assert buttons == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Autoscale", "Reset axes"}


@pytest.mark.parametrize("most", [MOST_WINDOWS, 2])
def test_every_curve_reaches_the_end_of_its_last_window(
    made: Path, tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five windows of one second; or two, of three seconds and of the two that are left."""
    monkeypatch.setattr("ssim.jobs.experiment.report.MOST_WINDOWS", most)
    monkeypatch.setattr("ssim.jobs.experiment.report._FEWEST_WINDOWS", 1)
    page = tmp_path / "page.html"
    assert exit_code("report", str(made / "one"), "-o", str(page)) == 0
    then = """
    const { data, layout } = by("dynamics");
    by("time").value = by("time").max;
    by("time").oninput({ target: by("time") });
    document.body.dataset.curves = JSON.stringify([data.map((one) => [one.x, one.y]), layout.xaxis.range]);
    """
    starts = [0, 1, 2, 3, 4] if most > 5 else [0, 3]
    runs = re.findall(r'<script id="run-0-\d+"[^>]*>(.*)</script>', page.read_text(encoding="utf-8"))
    assert len(runs) == 8
    for run in map(json.loads, runs):
        assert (run["windows"]["start_s"], run["windows"]["end_s"]) == (starts, [*starts[1:], 5])
    if BROWSER is None:
        return
    dom = opened(page, then)
    curves, shown_range = json.loads(html.unescape(re.findall(r'data-curves="([^"]*)"', dom)[0]))
    assert shown_range == [0, 5]
    for times, values in curves:
        assert times == [*starts, 5]
        assert values[-1] == values[-2]
    assert shown(dom, "now").startswith(f"{starts[-1]} to 5 s: ")


@in_browser
def test_several_experiments_are_chosen_from(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made), "-o", str(page)) == 0
    dom = opened(page, 'by("experiment").value = 1; by("experiment").onchange({ target: by("experiment") });')
    assert re.findall(r'class="experiment" data-experiment="(\d)"', dom) == ["1", "1"]
    assert dom.count('class="experiment hidden"') == 2
    assert shown(dom, "experiment").count("<option") == 2


@in_browser
def test_a_hundred_runs_open_soon(tmp_path: Path) -> None:
    experiment(tmp_path, "many", 10, 60, [300, 400, 500, 600, 700])
    page = tmp_path / "page.html"
    assert exit_code("report", str(tmp_path / "results" / "many"), "-o", str(page)) == 0
    dom = opened(page, "document.documentElement.dataset.took = performance.now();")
    took = re.search(r'data-took="([\d.]+)"', dom)
    assert took is not None
    assert shown(dom, "run").count("<option") == 100
    assert float(took[1]) < 5000  # half a second on a machine that does nothing else


def test_what_is_missing_is_told_and_the_rest_is_there(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(results / "one")
    gone, other_version, damaged = (run["id"] for run in store.index()["runs"][:3])
    shutil.rmtree(store.folder / gone)
    manifest = store.folder / other_version / "manifest.json"
    manifest.write_text(manifest.read_text().replace("manifest/1", "manifest/9"))
    (store.folder / damaged / "windows.parquet").write_bytes(b"")
    assert exit_code("report", str(results)) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert all(line.startswith("ssim: not in the report: one: ") for line in told)
    assert told[0].endswith("not stored")
    assert "of another version" in told[1]
    assert "windows.parquet: is damaged or missing" in told[2]
    page = (results / "report.html").read_text(encoding="utf-8")
    assert page.partition('class="problems"')[2].partition("</section>")[0].count("<li>") == 3


def test_without_any_run_there_is_no_page(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for manifest in (results / "two").glob("*/manifest.json"):
        manifest.unlink()
    assert exit_code("report", str(results / "two")) == 1
    assert "no run is stored" in capsys.readouterr().err
    assert not (results / "two" / "report.html").exists()
    assert exit_code("report", str(results / "nowhere")) == 1
    assert "folder not found; stored in " in capsys.readouterr().err
    (results / "one" / INDEX).write_text("{")
    assert exit_code("report", str(results / "one")) == 1
    assert "is damaged" in capsys.readouterr().err


@in_browser
def test_names_are_text_and_not_markup(results: Path, tmp_path: Path) -> None:
    index = results / "two" / INDEX
    content = json.loads(index.read_text())
    wicked = "</script><!--<script><img src=x onerror=alert(1)>\"'&amp; $name \N{GRINNING FACE}"
    content["name"] = content["runs"][0]["policy"] = wicked
    index.write_text(json.dumps(content))
    assert exit_code("report", str(results / "two"), "-o", str(tmp_path / "page.html")) == 0
    dom = opened(tmp_path / "page.html")
    assert "<img" not in re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert f"""{html.escape(wicked, quote=False)}</td>""" in table_of(dom)
    assert html.escape(wicked, quote=False) in shown(dom, "run")


def test_a_run_of_which_only_figures_were_kept_is_there(tmp_path: Path) -> None:
    experiment(tmp_path, "short", 1, 2, [400])
    words = ("run", str(tmp_path / "short.yaml"), "--out", str(tmp_path / "brief"), "--set", "keep=summary")
    assert exit_code(*words, "--no-figures", "--jobs", "1") == 0
    page = tmp_path / "page.html"
    assert exit_code("report", str(tmp_path / "brief"), "-o", str(page)) == 0
    if BROWSER is not None:
        assert "only its figures were kept" in opened(page)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**16), st.floats(0.01, 1))
def test_windows_taken_together_stand_for_as_many_queries(windows: int, size: int, seed: int, last: float) -> None:
    rng = np.random.default_rng(seed)
    arrivals = rng.integers(0, 5, windows).astype(float)
    met = np.array([rng.integers(0, n + 1) for n in arrivals.astype(int)], float)
    accuracy = met * rng.uniform(70, 80, windows)
    widths = np.append(np.ones(windows - 1), last)
    with np.errstate(invalid="ignore"):
        columns = {
            "start_s": np.arange(windows, dtype=float),
            "end_s": np.cumsum(widths),
            "ingest_per_s": arrivals / widths,
            "slo_attainment": met / arrivals,
            "serving_accuracy": accuracy / met,
            "batch_size": np.where(arrivals > 0, 2.0, np.nan),
            "workers_busy": rng.uniform(0, 8, windows),
        }
    found = together(columns, size)
    lengths = found["end_s"] - found["start_s"]
    assert len(lengths) == -(-windows // size)
    assert np.isclose(lengths.sum(), widths.sum())
    total = found["ingest_per_s"] * lengths
    assert np.isclose(total.sum(), arrivals.sum())
    assert np.isclose(np.nansum(found["slo_attainment"] * total), met.sum())
    assert np.isclose(
        np.nansum(found["serving_accuracy"] * np.nan_to_num(found["slo_attainment"] * total)), accuracy.sum()
    )
    assert np.isclose((found["workers_busy"] * lengths).sum(), (columns["workers_busy"] * widths).sum())
    assert np.isnan(found["slo_attainment"][total == 0]).all()
    assert MOST_WINDOWS > 1


def test_without_scripts_all_tables_are_there(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert exit_code("report", str(made), "-o", str(page)) == 0
    text = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "Charts need JavaScript" in text
    assert len(re.findall(r'<table class="summary">', text)) == 2
    assert len(re.findall(r"<tr data-row=", text)) == 2 * 2 + 2
    assert "trace: {kind: poisson, mean_qps: 500" in text


def test_latencies_agree_with_the_summary(made: Path) -> None:
    """The curve passes through both quantiles, and at the SLO it is as high as the attainment."""
    for run in collect(made / "one").runs[0]:
        latency, summary = run["latency"], run["manifest"]["summary"]
        at = dict(zip(SHARES, latency["ms"], strict=True))
        assert at[0.5] == pytest.approx(summary["p50_latency_ms"], rel=1e-6)
        assert at[0.99] == pytest.approx(summary["p99_latency_ms"], rel=1e-6)
        assert latency["slo_ms"] == 36
        below = np.interp(36, latency["ms"], SHARES) * latency["answered"]
        assert below == pytest.approx(summary["slo_attainment"], abs=0.01)


def test_spans_of_workers_add_up_to_their_hours(tmp_path: Path) -> None:
    """Workers that come, go and fail: the time that they serve or start is what they are paid for."""
    cluster = "{workers: 2, max_workers: 5, startup_s: 2, drop: expired, faults: [{worker: 0, at_s: 3, recover_s: 6}]}"
    planner = "planner: {use: predictive, period_s: 1, params: {headroom: 0.1, accuracy: 78.25}}"
    experiment(tmp_path, "staff", 1, 20, [400, 2000], swaps={"{workers: 1}": f"{cluster}\n{planner}"})
    states = set()
    for run in collect(tmp_path / "results" / "staff").runs[0]:
        spans, summary = run["workers"]["spans"], run["manifest"]["summary"]
        states |= {state for *_, state in spans}
        assert run["workers"]["left_out"] == 0
        hours = {state: sum(b - a for _, a, b, own in spans if own == state) / 3600 for state in states}
        assert hours.get("starting", 0) == pytest.approx(summary["startup_h"], abs=1e-9)
        assert hours["serving"] == pytest.approx(summary["worker_h"] - summary["startup_h"], rel=0.02)
        for worker in {span[0] for span in spans}:
            own = sorted(span[1:3] for span in spans if span[0] == worker)
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(own))
    assert states == {"serving", "starting", "failed"}


def test_no_policy_is_above_the_stored_bound(
    made: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("optimum", str(made.parent / "one.yaml"), "--out", str(results), "--jobs", "1") == 0
    report = collect(results / "one")
    bounds = stored_bounds(Store(results / "one"))
    for run, manifest in Store(results / "one").runs():
        summary = manifest["summary"]
        assert summary["slo_attainment"] <= bounds[run["id"]].attainment + 1e-12
        weighted = summary["slo_attainment"] * (summary["mean_serving_accuracy"] or 0) / 100
        assert weighted <= bounds[run["id"]].weighted + 1e-12
    assert len(report.experiments[0]["bounds"]) == 2
    assert all(bound is not None for bound in report.experiments[0]["bounds"])
    if BROWSER is not None:
        page = tmp_path / "page.html"
        assert exit_code("report", str(results / "one"), "-o", str(page)) == 0
        assert "bound on any policy" in opened(page).partition('id="tradeoff"')[2]
    capsys.readouterr()
    (results / "one" / "gap.csv").write_text("run,attainment_bound,weighted_bound\nseed7,x,1\n")
    assert exit_code("report", str(results / "one"), "-o", str(tmp_path / "page.html")) == 1
    assert "gap.csv: is damaged" in capsys.readouterr().err


@in_browser
def test_two_swept_keys_are_a_heat_map_and_keys_and_hovering_work(tmp_path: Path) -> None:
    experiment(tmp_path, "grid", 1, 2, [300, 600, 900], swaps={"900]": "900], cluster.workers: [1, 2]"})
    page = tmp_path / "page.html"
    assert exit_code("report", str(tmp_path / "results"), "-o", str(page)) == 0
    then = """
    const map = by("heatmap").data[0], rows = own("table.summary tbody tr");
    rows[3].dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    Plotly.Fx.hover("tradeoff", [{ curveNumber: 0, pointNumber: 0 }]);
    document.body.dataset.told = JSON.stringify([
      map.y, map.x, map.text, rows[3].classList.contains("chosen"), rows[3].cells[0].textContent === run.policy,
      by("tradeoff").querySelector(".hoverlayer").textContent, map.hovertext[2][1],
    ]);
    """
    down, across, texts, is_chosen, is_drawn, hovered, cell = json.loads(
        html.unescape(re.findall(r'data-told="([^"]*)"', opened(page, then))[0])
    )
    assert (down, across) == (["300", "600", "900"], ["1", "2"])
    found = collect(tmp_path / "results").experiments[0]
    first = next(iter(found["policies"]))
    entries = [entry for entry in found["table"] if entry["policy"] == first]
    assert len(entries) == 6
    for entry in entries:
        y, x = found["points"][entry["point"]]
        assert float(texts[down.index(y)][across.index(x)]) == round(entry["values"]["slo_attainment"][0], 6)
    assert (is_chosen, is_drawn) == (True, True)
    assert "SLO attainment" in hovered
    assert cell.startswith("trace.mean_qps = 900, cluster.workers = 2<br>SLO attainment ")
