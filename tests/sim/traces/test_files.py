"""Files of arrivals: what is written is read back exactly, and what is wrong with a file is said with its row."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.base.errors import DataError, SpecError, StoreError
from sim.traces.files import File
from sim.traces.formats import Llm
from sim.traces.source import CHUNK
from sim.traces.synthetic import Gamma
from sim.traces.writing import SUFFIXES, write_trace
from tests.sim.traces.sources import joined

FOURTEEN_DAYS_NS = 14 * 86400 * 10**9


def written(folder: Path, text: str, name: str = "trace.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(
    times=st.lists(st.tuples(st.integers(0, FOURTEEN_DAYS_NS), st.integers(1, 10**12)), min_size=1, max_size=20),
    slo=st.sampled_from(["none", "one", "each"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_what_is_written_is_read_back_exactly(
    tmp_path: Path, suffix: str, times: list[tuple[int, int]], slo: str
) -> None:
    arrival_ns = np.array(sorted(time for time, _ in times))
    slos = {"none": None, "one": times[0][1], "each": np.array([each for _, each in times])}[slo]
    path = tmp_path / f"trace{suffix}"
    assert write_trace(
        path, np.array_split(arrival_ns, 3)[:1] + [p for p in np.array_split(arrival_ns, 3)[1:] if len(p)], slos
    ) == len(times)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    trace = File(path=str(path), slo_ms=36 if slos is None else None, origin="zero").trace(0)
    assert np.array_equal(trace.arrival_ns, arrival_ns)
    assert np.array_equal(
        np.broadcast_to(trace.slo_ns, len(times)), np.broadcast_to(36_000_000 if slos is None else slos, len(times))
    )
    assert trace.provenance["sha256"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    path.unlink()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_long_traces_are_read_in_chunks_and_written_alike_twice(tmp_path: Path, suffix: str) -> None:
    source = Gamma(slo_ms=36, mean_qps=20_000, cv2=4, duration_s=10)
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        write_trace(path, source.chunks(0), 36_000_000)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    chunks = list(File(path=str(paths[0])).chunks(0))
    assert max(map(len, chunks)) == CHUNK
    assert np.array_equal(np.concatenate(chunks), joined(source))


@pytest.mark.parametrize("column", ["arrival_s", "arrival_ns"])
def test_speed_up_cut_and_place(tmp_path: Path, column: str) -> None:
    times = [0, 10, 20, 30] if column == "arrival_s" else [0, 10**10, 2 * 10**10, 3 * 10**10]
    written(tmp_path, "\n".join([column, *map(str, times)]))
    source = File(path="trace.csv", slo_ms=36, speedup=10, duration_s=2.5).located(tmp_path)
    assert source.path == str(tmp_path / "trace.csv")
    assert source.inputs() == (tmp_path / "trace.csv",)
    assert joined(source).tolist() == [0, 10**9, 2 * 10**9]
    assert source.duration_ns == source.trace(0).duration_ns == 2_500_000_000
    assert source.name == "trace"
    whole = File(path=source.path, slo_ms=36)
    assert whole.duration_ns == whole.trace(0).duration_ns == 3 * 10**10


def test_each_query_keeps_its_slo_when_the_trace_is_cut(tmp_path: Path) -> None:
    path = written(tmp_path, "arrival_s,slo_ms\n0,10\n1,20.5\n2,30\n")
    assert File(path=path, duration_s=1.5).trace(0).slo_ns.tolist() == [10_000_000, 20_500_000]
    assert File(path=path, slo_ms=7).trace(0).slo_ns == 7_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace.csv: is empty; needs a header"),
        ("arrival_s\n", "has no arrivals"),
        ("arrivals\n1\n", "has no column arrival_s.*; columns: arrivals; 'arrivals' may be the arrival"),
        ("0.1,GET /\n0.2,GET /\n", "has no header, so no column of arrivals is known; first row: 0.1, GET /"),
        ("1700000000,GET /\n1700000001,GET /\n", "has no header"),
        ("interarrival_ms,n\n5,1\n5,1\n", "name the column.*'interarrival_ms' may be the times between arrivals"),
        ("arrival_s\n1e300\n", r"row 1: is not a time \(1e\+300\); seconds, finite"),
        ("arrival_s\n1\nnan\n", r"trace.csv, row 2: is not a time \(nan\); seconds, finite"),
        ("arrival_s\n1\ninf\n", r"row 2: is not a time \(inf\)"),
        ("arrival_s\n-1\n", r"trace.csv, row 1: is negative \(-1 s\)"),
        ("arrival_s\n2\n1\n", r"trace.csv, row 2: is earlier than the row before \(1 s < 2 s\); sort"),
        ("arrival_s\n1\nsoon\n", r"trace.csv, row 2: invalid arrival_s \('soon'\); must be a number"),
        ("arrival_s,x\n1,2\n,3\n", r"row 2: invalid arrival_s \(''\); must be a number"),
        ("arrival_s,x\n1,2\n2\n", "row 2: has 1 cells; the header has 2 columns"),
        ("arrival_ns\n1\n1.5\n", r"row 2: invalid arrival_ns \('1.5'\); must be a whole number"),
        ("arrival_ns\n1\n99999999999999999999\n", r"row 2: invalid arrival_ns \(99999999999999999999\)"),
        ("arrival_s,slo_ms\n1,2\n2,0\n", r"row 2: invalid slo_ms \(0 ms\); must be above 0"),
        ("arrival_s,slo_ms\n1,nan\n", r"row 1: is not a time \(nan\); milliseconds"),
    ],
)
@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_a_bad_csv_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(DataError, match=message.replace("trace.csv", name)):
        File(path=path, slo_ms=None if "slo_ms" in text else 36).trace(0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"arrival_s": [0.0, 2.0, 1.0]}, "row 3: is earlier"),
        ({"arrival_s": [0.0, None]}, "row 2: arrival_s is empty; each row needs a value"),
        ({"arrival_s": [0.0, float("nan")]}, "row 2: is not a time"),
        ({"arrival_s": ["a"]}, "arrival_s can't be read in unit s"),
        ({"arrival_ns": [0.5]}, "row 1: invalid arrival_ns .0.5.; must be a whole number"),
        ({"arrival_ns": pa.array([], pa.int64())}, "has no arrivals"),
        ({"time": [0]}, "has no column arrival_s"),
        ({"arrival_s": [0.0], "slo_ms": [-1.0]}, "row 1: invalid slo_ms"),
    ],
)
def test_a_bad_parquet_file_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=f"trace.parquet.*{message}"):
        File(path=str(path), slo_ms=None if "slo_ms" in columns else 36).trace(0)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_of_any_type_are_the_same_times(tmp_path: Path, dtype: str, unit: str) -> None:
    path = tmp_path / "trace.parquet"
    values, factor = np.array([0, 3, 127], dtype), {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[unit]
    pq.write_table(pa.table({f"arrival_{unit}": values}), path)
    assert File(path=str(path), slo_ms=36).trace(0).arrival_ns.tolist() == [0, 3 * factor, 127 * factor]
    if dtype == "uint64" or (dtype == "int64" and unit != "ns"):
        pq.write_table(pa.table({f"arrival_{unit}": np.array([0, np.iinfo(dtype).max], dtype)}), path)
        with pytest.raises(DataError, match="row 2: is not a time"):
            File(path=str(path), slo_ms=36).trace(0)


@pytest.mark.parametrize("name", ["no.csv", "no.csv.gz", "no.parquet"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: file not found"):
        File(path=str(tmp_path / name), slo_ms=36).trace(0)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        File(path=str(tmp_path), slo_ms=36).trace(0)


def test_a_truncated_gz_is_refused(tmp_path: Path) -> None:
    path = Path(
        written(tmp_path, "arrival_s\n" + "".join(f"{n}.{n * 7919 % 1000}\n" for n in range(100_000)), "t.csv.gz")
    )
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"t\.csv\.gz: is damaged or incomplete"):
        File(path=str(path), slo_ms=36).trace(0)


def test_without_an_slo_anywhere_there_is_no_trace_but_there_are_arrivals(tmp_path: Path) -> None:
    source = File(path=written(tmp_path, "arrival_s\n1\n"))
    assert joined(source).tolist() == [0]
    with pytest.raises(DataError, match=r"missing column \('slo_ms'\)"):
        source.trace(0)


def test_llm_times_are_exact_to_100_ns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "TIMESTAMP\n2023-11-16 23:59:59.9999999\n2023-11-17 00:00:00.0000001\n2023-11-17 00:00:01\n",
    )
    assert joined(Llm(slo_ms=36, path=path)).tolist() == [0, 200, 1_000_000_100]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TIMESTAMP\nyesterday\n", r"row 1: invalid TIMESTAMP \('yesterday'\); must be a time like"),
        (
            "TIMESTAMP\n2023-11-17 00:00:01\n2023-11-17 00:00:00\n",
            r"row 2: is earlier than the row before \(2023-11-17 00:00:00 <",
        ),
        ("time\n1\n", r"missing column \('TIMESTAMP'\)"),
        ("TIMESTAMP\n", "has no arrivals"),
    ],
)
def test_a_bad_llm_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    source = Llm(slo_ms=36, path=written(tmp_path, text))
    for read in (lambda: source.trace(0), lambda: source.duration_ns):
        with pytest.raises(DataError, match=message):
            read()


def test_what_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    chunk = np.array([1, 2])
    with pytest.raises(SpecError, match=r"unknown trace format \(.txt\); one of .parquet"):
        write_trace(tmp_path / "t.txt", [chunk])
    with pytest.raises(DataError, match="has no arrivals"):
        write_trace(tmp_path / "t.csv", [])
    for slos in (np.array([1]), np.array([1, 2, 3])):
        with pytest.raises(DataError, match="slo_ns: "):
            write_trace(tmp_path / "t.parquet", [chunk], slos)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written"):
        write_trace(tmp_path / "file" / "t.csv", [chunk])


def test_files_that_each_begin_at_0_are_refused(tmp_path: Path) -> None:
    paths = tuple(
        written(tmp_path, text, name) for name, text in (("a.csv", "arrival_s\n0\n2\n"), ("b.csv", "arrival_s\n0\n1\n"))
    )
    with pytest.raises(
        DataError, match=r"b.csv, row 1: is earlier than the end of .*a.csv \(0 s < 2 s\); times of all"
    ):
        File(path=paths, slo_ms=1).trace(0)
