"""The same arrivals are the same trace in whatever form, unit, separator and packing they are written."""

from __future__ import annotations

import bz2
import gzip
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather

from sim.traces.classes import ClassColumn
from sim.traces.files import File
from sim.traces.times import NS_PER, TimeColumn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.traces.trace import Trace

UNITS = ["iso", "s", "ms", "us", "ns"]
EPOCH_NS = 1_700_000_000 * 10**9
"""Offsets at which a double has no nanoseconds left."""


def text_of(time_ns: int, unit: str) -> str:
    if unit == "iso":
        return str(np.datetime64(time_ns, "ns"))
    return f"{Decimal(time_ns) / NS_PER[unit]:f}"


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "zst": _zstd}

Row = tuple[int, int, str]


def csv_text(rows: list[Row], unit: str, separator: str, *, header: bool = True) -> bytes:
    blank = separator == " "
    lines = ["when,limit,who,prompt".replace(",", separator)] if header else []
    for time_ns, slo_ms, who in rows:
        prompt = "p" if blank else '"a\nb' + separator + '"'
        time = f'"{text_of(time_ns, unit)}"' if blank else text_of(time_ns, unit)
        lines.append(separator.join([time, str(slo_ms), who, prompt]))
    return ("\r\n" if separator == ";" else "\n").join(lines).encode() + b"\n"


def json_text(rows: list[Row], unit: str) -> bytes:
    def line(time_ns: int, slo_ms: int, who: str) -> str:
        time = f'"{text_of(time_ns, unit)}"' if unit == "iso" else text_of(time_ns, unit)
        return f'{{"prompt": {json.dumps(["a", {"b": 1}])}, "when": {time}, "who": "{who}", "limit": {slo_ms}}}'

    return "\n".join(line(*row) for row in rows).encode()


def table_of(rows: list[Row], kind: pa.DataType) -> pa.Table:
    times = pa.array([time for time, _, _ in rows], pa.int64())
    return pa.table(
        {"when": times.cast(kind), "limit": [slo for _, slo, _ in rows], "who": [who for _, _, who in rows]}
    )


def read(path: Path, unit: str | None, **options: Any) -> Trace:
    return File(
        path=str(path),
        arrival=TimeColumn("when", unit),
        slo=TimeColumn("limit", "ms"),
        class_=ClassColumn("who"),
        **{"origin": "first", **options},
    ).trace(0)


def assert_same(found: Trace, wanted: Trace) -> None:
    assert np.array_equal(found.arrival_ns, wanted.arrival_ns)
    assert np.array_equal(found.slo_ns, wanted.slo_ns)
    assert np.array_equal(found.class_codes, wanted.class_codes)
    assert found.class_names == wanted.class_names
    assert found.duration_ns == wanted.duration_ns


rows_at = st.lists(
    st.tuples(st.integers(0, 10**11), st.integers(1, 10**6), st.sampled_from(["paid", "free", "10", "9"])),
    min_size=1,
    max_size=12,
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)


@pytest.mark.parametrize("offset_ns", [0, EPOCH_NS])
@given(rows=rows_at, packing=st.sampled_from(list(PACKINGS)))
@quick
def test_every_form_gives_the_same_trace(tmp_path: Path, offset_ns: int, rows: list[Row], packing: str) -> None:
    rows = sorted((time + offset_ns, slo, who) for time, slo, who in rows)
    pq.write_table(table_of(rows, pa.int64()), tmp_path / "wanted.parquet")
    wanted = read(tmp_path / "wanted.parquet", "ns")
    assert wanted.arrival_ns.tolist() == [time - rows[0][0] for time, _, _ in rows]
    assert [wanted.class_names[code] for code in wanted.class_codes] == [who for _, _, who in rows]
    path = tmp_path / "trace"  # no suffix helps
    for unit in UNITS:
        texts = [csv_text(rows, unit, separator) for separator in ",;\t| "] + [json_text(rows, unit)]
        for text in texts:
            path.write_bytes(PACKINGS[packing](text))
            assert_same(read(path, unit), wanted)
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "Europe/Vienna"), pa.duration("ns"), pa.decimal128(38, 3)):
        pq.write_table(table_of(rows, kind), path)
        assert_same(read(path, "ns" if pa.types.is_decimal(kind) else None), wanted)
        feather.write_feather(table_of(rows, kind), str(path))
        assert_same(read(path, "ns" if pa.types.is_decimal(kind) else None), wanted)


@pytest.mark.parametrize("kind", [pa.duration, pa.timestamp])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_types_with_a_unit_are_converted_whatever_the_name_says(tmp_path: Path, kind: Any, unit: str) -> None:
    times = pa.array([0, 5, 10], pa.int64()).cast(kind(unit))
    pq.write_table(pa.table({"arrival_ns": times}), tmp_path / "t.parquet")
    assert File(path=str(tmp_path / "t.parquet"), slo_ms=1).trace(0).duration_ns == 10 * NS_PER[unit]


def test_zones_are_taken_into_account(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("when\n2024-03-31T01:59:59+01:00\n2024-03-31T03:00:00+02:00\n2024-03-31T01:00:01.5Z\n")
    source = File(path=str(path), slo_ms=1, arrival=TimeColumn("when"))
    assert source.trace(0).arrival_ns.tolist() == [0, 10**9, 2_500_000_000]


@pytest.mark.parametrize("separator", [",", " ", "\t"])
def test_a_file_without_a_header_has_columns_by_number(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "wiki"
    lines = [(892, "1194892620.001"), (893, "1194892620.002"), (894, "1194892621.5")]
    path.write_text("".join(f"{n}{separator}{t}{separator}http://a/b{separator}-\n" for n, t in lines))
    for separators in (None, separator):
        source = File(path=str(path), slo_ms=1, arrival=TimeColumn(2, "s"), separator=separators)
        assert source.trace(0).arrival_ns.tolist() == [0, 1_000_000, 1_499_000_000]
    path.write_text("n  when\n" + "".join(f"   {n}   {t}  \n" for n, t in lines))
    assert len(File(path=str(path), slo_ms=1, arrival=TimeColumn("when", "s")).trace(0)) == 3
    assert len(File(path=str(path), slo_ms=1, arrival=TimeColumn(2, "s")).trace(0)) == 3


@given(rows=rows_at, shift=st.integers(0, 10**18), data=st.data())
@quick
def test_neither_the_origin_nor_the_order_of_rows_matters(
    tmp_path: Path, rows: list[Row], shift: int, data: st.DataObject
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table_of(sorted(rows), pa.int64()), path)
    wanted = read(path, "ns", sort=True)
    moved = [(time + shift, slo, who) for time, slo, who in data.draw(st.permutations(rows))]
    pq.write_table(table_of(moved, pa.int64()), path)
    assert_same(read(path, "ns", sort=True), wanted)
    cut = data.draw(st.integers(0, len(moved)))
    for name, part in (("a", moved[:cut]), ("b", moved[cut:])):
        pq.write_table(table_of(part, pa.int64()), tmp_path / f"{name}.part")
    for paths in (str(tmp_path / "*.part"), (str(tmp_path / "b.part"), str(tmp_path / "a.part"))):
        source = File(path=paths, arrival=TimeColumn("when", "ns"), slo_ms=1, sort=True, origin="first")
        assert np.array_equal(source.trace(0).arrival_ns, wanted.arrival_ns)


@given(times=st.lists(st.integers(0, 10**12), min_size=1, max_size=9).map(sorted))
@quick
def test_without_an_origin_times_stand_if_the_first_is_near_zero(tmp_path: Path, times: list[int]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_ns\n" + "".join(f"{time}\n" for time in times))
    source = File(path=str(path), slo_ms=1)
    near = times[0] < times[-1] - times[0] or times[0] == 0
    assert source.trace(0).arrival_ns[0] == (times[0] if near else 0)
    assert any("shifted to 0" in note for note in source.notes()) != near
    assert File(path=str(path), slo_ms=1, origin="zero").trace(0).arrival_ns.tolist() == times


def test_cells_of_any_length_and_rows_beyond_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f'{n},"{"x" * (3_000_000 if n in {1, 700} else 2000)}\n""q"""' for n in range(1500)]
    path.write_text("arrival_s,prompt\n" + "\n".join(rows))
    assert File(path=str(path), slo_ms=1).trace(0).arrival_ns.tolist() == [n * 10**9 for n in range(1500)]
    path.write_text("".join(json.dumps({"p": "x" * 3_000_000, "arrival_s": n}) + "\n" for n in range(3)))
    assert len(File(path=str(path), slo_ms=1).trace(0)) == 3
