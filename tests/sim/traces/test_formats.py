"""Public formats by name, counts in bins, and what is said of a recording before it is replayed."""

from __future__ import annotations

import dataclasses
import gzip
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.base.errors import DataError, SpecError
from sim.traces import SHORT_NAMES, formats
from sim.traces.counts import Counts, ServeGen
from sim.traces.files import File
from sim.traces.suggestions import SIGNATURES
from sim.traces.synthetic import Bursty, Poisson
from sim.traces.times import TimeColumn
from sim.traces.trace import MAX_CLASSES
from sim.traces.writing import write_trace
from ssim.files.plugins import find_class
from tests.sim.traces.published import ARRIVALS_S, PUBLISHED, SERVEGEN
from tests.sim.traces.sources import joined, recorded

if TYPE_CHECKING:
    from pathlib import Path

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize("kind", sorted(PUBLISHED))
def test_a_public_format_is_read_by_its_name_and_found_by_its_columns(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, PUBLISHED[kind], "published")
    source = find_class(kind, SHORT_NAMES, "trace source")(path=path, slo_ms=36)
    assert joined(source).tolist() == [round(second * 1e9) for second in ARRIVALS_S[kind]]
    with pytest.raises(DataError, match=f"columns: .*kind {kind} reads such a file") as found:
        File(path=path, slo_ms=36).trace(0)
    assert "s|ms|us|ns" in str(found.value) or kind in {"llm", "llmservingsim", "k6"}  # these leave no doubt


def test_each_format_has_the_columns_by_which_it_is_known() -> None:
    for kind, columns in SIGNATURES.items():
        owner = find_class(kind, SHORT_NAMES, "trace source")
        defaults = {field.name: field.default for field in dataclasses.fields(owner)}
        if issubclass(owner, File):
            assert defaults["arrival"].column in columns
    named = {value for value in vars(formats).values() if isinstance(value, type) and issubclass(value, File)}
    assert {owner.kind for owner in named} - {"file"} == set(PUBLISHED) == set(SIGNATURES) - {"azure2019", "azure2021"}


def test_failed_requests_of_burstgpt_are_told(tmp_path: Path) -> None:
    source = formats.BurstGpt(path=written(tmp_path, PUBLISHED["burstgpt"]), slo_ms=36)
    assert source.notes()[-1].startswith("1 of 3 requests failed")


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), speedup=st.sampled_from([1, 2, 0.5]))
@quick
def test_each_bin_has_its_count(tmp_path: Path, counts: list[int], speedup: float) -> None:
    for text, series in (
        ("n\n" + "".join(f"{n}\n" for n in counts), None),
        ("".join(f"{n}.0\n" for n in counts), None),
        ("minute;a;b\n" + "".join(f"{m};{n - n // 3};{n // 3}\n" for m, n in enumerate(counts)), ("a", "b")),
        ("".join(f"{m},{n}\n" for m, n in enumerate(counts)), (2,)),
    ):
        source = Counts(path=written(tmp_path, text), slo_ms=36, bin_s=60, speedup=speedup, series=series)
        bins = np.bincount((joined(source) * speedup).astype(np.int64) // (60 * 10**9), minlength=len(counts))
        assert bins.tolist() == counts
        assert source.duration_ns == source.trace(1).duration_ns == round(len(counts) * 60e9 / speedup)


@pytest.mark.parametrize(
    ("text", "series", "message"),
    [
        (
            "time,a\n0,1\n",
            None,
            r"has several columns, and series is not given; columns: time, a; such as series: \[a\]",
        ),
        ("a\n1\n-2\n", None, r"row 2: invalid count in column a \(-2\)"),
        ("a\n1\n1.5\n", None, r"row 2: invalid count in column a \(1.5\); a whole number"),
        ("a\n1\nnan\n", None, r"row 2: invalid count in column a \(nan\)"),
        ("a\n1\nmany\n", None, r"row 2: invalid a \('many'\); must be a number"),
        ("a\n1\n", ("b",), r"missing column \('b'\)"),
        ("a,b\n1,2\n", ("a", 3), r"missing column \(3\); columns are counted from 1 to 2"),
        ("a\n0\n", None, "has no arrivals"),
    ],
)
def test_other_counts_are_refused(
    tmp_path: Path, text: str, series: tuple[str | int, ...] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Counts(path=written(tmp_path, text), slo_ms=1, bin_s=1, series=series).trace(0)


def test_clients_of_servegen_arrive_together_at_their_rates(tmp_path: Path) -> None:
    for client in range(3):
        written(tmp_path, SERVEGEN, f"chunk-{client}-trace.csv")
    source = ServeGen(path=str(tmp_path / "chunk-*-trace.csv"), slo_ms=36)
    assert np.bincount(joined(source) // (600 * 10**9)).tolist() == [180, 0, 270]
    assert source.duration_ns == 1800 * 10**9
    one = ServeGen(path=str(tmp_path / "chunk-0-trace.csv"), slo_ms=36)
    assert set(joined(one)) < set(joined(source))


def test_the_gaps_of_a_servegen_client_follow_its_law(tmp_path: Path) -> None:
    text = "0,50,8,Gamma,0.0625,1\n600,50,0.5,Gamma,4,1\n1200,50,1,Weibull,1,1\n"
    times = joined(ServeGen(path=written(tmp_path, text), slo_ms=36))
    for window, cv in enumerate((4, 0.5, 1)):  # 1 / sqrt(shape); a Weibull law of shape 1 is exponential
        gaps = np.diff(times[times // (600 * 10**9) == window])
        assert len(gaps) == 29_999
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n", "is not a client of ServeGen .2 columns"),
        ("0,1,1,Pareto,1,1\n600,0,0,,0,0\n", "row 1: is not a window .rate 1, law 'Pareto'"),
        ("0,1,1,Gamma,1,1\n600,0,0,,0,0\n900,0,0,,0,0\n", "windows are not of one length"),
    ],
)
def test_other_clients_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ServeGen(path=written(tmp_path, text), slo_ms=1).trace(0)


COARSE = "arrival_s\n" + "".join(f"{3 * (n // 10)}\n" for n in range(200))


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("arrival_s\n1\n2\n4\n", []),
        (
            "arrival_s\n1700000000.5\n1700000001\n",
            ["at 1700000000.5 s, 2023-11-14 22:13:20.5 UTC: shifted"],
        ),
        ("arrival_ms\n50000\n50001\n", ["the first arrival is at 50000 ms: shifted to 0"]),
        (
            "arrival_us\n1700000000000\n1700000000500\n",
            ["(`origin: zero` leaves times as they are); in ms it would be"],
        ),
        (COARSE, ["20 distinct times among 200 arrivals, a clock of 3 s: `spread: true` places them within a step"]),
        (
            "arrival_s\n" + "".join(f"{n // 400}\n" for n in range(2000)),
            ["5 distinct times among 2,000 arrivals, a clock of 1 s"],
        ),
        (
            "arrival_s\n" + "".join(f"{day * 86400 + n * 864}\n" for day in (0, 3) for n in range(100)),
            ["no arrivals for 2.01 days, beginning 0.99 days after the first"],
        ),
    ],
)
def test_what_looks_wrong_is_said(tmp_path: Path, text: str, notes: list[str]) -> None:
    source = File(path=written(tmp_path, text), slo_ms=36)
    found = [note.replace("23.8 h", "0.99 days") for note in source.notes()]
    assert len(found) == len(notes), found
    assert all(wanted in note for wanted, note in zip(notes, found, strict=True)), found


@pytest.mark.parametrize(
    "source",
    [
        Poisson(slo_ms=1, mean_qps=500, duration_s=20),
        Bursty(slo_ms=1, base_qps=200, variant_qps=500, cv2=8, duration_s=20),
    ],
)
def test_nothing_is_said_of_a_generated_trace(tmp_path: Path, source: Any) -> None:
    write_trace(tmp_path / "t.parquet", source.chunks(0))
    assert File(path=str(tmp_path / "t.parquet"), slo_ms=1).notes() == source.notes() == ()


def test_spread_arrivals_stay_within_their_step(tmp_path: Path) -> None:
    source = File(path=written(tmp_path, COARSE), slo_ms=36, spread=True)
    assert source.notes() == ()
    ticks = 3 * 10**9
    for seed in range(3):
        assert (joined(source, seed) // ticks).tolist() == [n // 10 for n in range(200)]
    assert len(np.unique(joined(source))) == 200
    assert not np.array_equal(joined(source), joined(source, 1))
    assert source.duration_ns == source.trace(5).duration_ns == 20 * ticks


@pytest.mark.data
def test_mooncake_has_1180_times() -> None:
    source = formats.Mooncake(path=recorded("llm/mooncake_conversation.csv.gz"), arrival=TimeColumn("timestamp_ms"))
    (note,) = source.notes()
    assert note.startswith("1,180 distinct times among 12,031 arrivals, a clock of 3 s")


BAD = gzip.compress(b"arrival_s\n" + b"".join(b"%d\n" % n for n in range(50_000)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv: is empty"),
        (b"\n\n", "t.csv: is empty"),
        (BAD[:-9], r"is damaged or incomplete \(Truncated"),
        (BAD[:40] + b"xx" + BAD[42:], "is damaged or incomplete"),
        (b"\x1f\x8b", "is damaged or incomplete"),
        ("arrival_s\n1\n".encode("utf-16"), "is UTF-16 text; convert it: iconv"),
        (b"PK\x03\x04....", "is a zip archive; unpack it first"),
        (b"PAR1 nothing", "is not a readable parquet or feather file"),
        (b"\x00\x01\x02\x03" * 9, "is neither text nor a known binary format"),
        (b'[{"arrival_s": 1}]', "is one JSON array; write one object per line"),
        (b'{"arrival_s": 1}\n{"arrival_s": true}\n', r"row 2: invalid arrival_s \(True\); must be a number"),
        (b'{"arrival_s": 1}\n{"arrival_s": "soon"}\n', r"row 2: invalid arrival_s \('soon'\)"),
        (b'{"arrival_s": 1}\n{"other": 2}\n', "row 2: arrival_s is empty"),
        (b'{"arrival_s": 1}\n{"arrival_s": 2\n', r"row 2: is not JSON \({"),
        (b'{"arrival_s": 1}\n' * 70_000 + b"[]\n", "row 70001: is not a JSON object"),
        (b"arrival_s\n4_0\n", r"row 1: invalid arrival_s \('4_0'\)"),
        (b"arrival_s\n0x10\n", r"row 1: invalid arrival_s \('0x10'\)"),
        (b"arrival_s\ntrue\n", r"row 1: invalid arrival_s \('true'\)"),
        (b"arrival_s,arrival_s\n1,2\n", r"has a column twice \('arrival_s'\); give its number, 1 or 2"),
        (b"arrival_s,arrival_ns\n1,2\n", r"has several columns of arrivals \(arrival_ns, arrival_s\); name one"),
        (b"1,2\n3,4\n", r"has no header.*first row: 1, 2; name columns by number"),
        (b"arrival_ms;slo_s\n1;2\n2;x\n", r"missing column \('slo_ms'\); columns: arrival_ms, slo_s"),
        (
            b"when\n2024-05-10 00:00:00\n2024-05-10 00:00:01Z\n",
            r"row 2: invalid when \('2024-05-10 00:00:01Z'\); must be a time",
        ),
    ],
)
def test_bad_files_are_refused_with_the_place_and_a_way_out(tmp_path: Path, content: bytes, message: str) -> None:
    arrival = TimeColumn("when") if content.startswith(b"when") else None
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as found:
        File(path=path, arrival=arrival, slo_ms=None if b"slo" in content else 36).trace(0)
    assert found.value.location.startswith(path)


@pytest.mark.parametrize(
    ("header", "values", "hint"),
    [
        ("Timestamp", ["5", "45"], "unit: s|ms|us|ns"),
        ("when", ["1700000000", "1700000001"], "unit: s} or .*looks like Unix time"),
        ("when", ["1700000000123", "1700000000124"], "unit: ms} or .*looks like Unix time"),
        ("when", ["2024-05-10 00:00:00", "2024-05-10 00:00:01"], "unit: iso}"),
        ("sent_us", ["5", "45"], "unit: us}"),
    ],
)
def test_no_hint_is_a_thousand_times_off(tmp_path: Path, header: str, values: list[str], hint: str) -> None:
    path = written(tmp_path, "\n".join([header, *values]))
    with pytest.raises(
        DataError, match=f"{header}' may be the arrival.*{re.escape(hint.partition(' or ')[0])}"
    ) as found:
        File(path=path, slo_ms=1).trace(0)
    assert re.search(hint.replace("|", r"\|"), str(found.value))
    if "|" in hint:
        with pytest.raises(DataError, match=r"the unit of a column is not known \('Timestamp'\); first values: 5, 45"):
            File(path=path, slo_ms=1, arrival=TimeColumn(header)).trace(0)


def test_many_classes_are_refused(tmp_path: Path) -> None:
    text = "arrival_s,user\n" + "".join(f"{n},u{n}\n" for n in range(10_000))
    source = File(path=written(tmp_path, text), slo_ms=1, class_=formats.TimeColumn("user"))
    with pytest.raises(
        DataError, match=f"column user: has too many classes .over {MAX_CLASSES}.; at most {MAX_CLASSES}"
    ):
        source.trace(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slo": TimeColumn("x", "ms"), "slo_ms": 3}, "cannot be combined with slo_ms"),
        ({"slo": TimeColumn("x", "iso")}, "is a length of time"),
        ({"separator": "dash"}, "unknown separator .'dash'.; one character, or one of tab"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        File(path="t.csv", **options)
