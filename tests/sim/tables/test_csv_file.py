"""CSV files as people have them: other names, units and separators, several devices, repeated measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import DataError, SpecError
from sim.base.errors import BatchSizeError
from sim.tables.csv_file import csv_text, parse_csv
from sim.tables.files import find_table, load_table
from tests.strategies import assert_same

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "subnet,accuracy,batch_size,latency_ms\ns,70,1,4\ns,70,16,5\nl,80,1,7\nl,80,16,9.5\n"
TABLE = parse_csv(PLAIN, "t.csv")
FRAME = pd.DataFrame({"subnet": list("ssll"), "accuracy": [70, 70, 80, 80], "batch_size": [1, 16] * 2})
NS = np.array([4.0, 5, 7, 9.5]) * 1e6

SAME = {
    "pandas' index": FRAME.assign(latency_ms=NS / 1e6).to_csv(),
    "an index that was read back": FRAME.assign(latency_ms=NS / 1e6).to_csv().replace(",", "Unnamed: 0,", 1),
    "batch sizes as floats": FRAME.assign(latency_ms=NS / 1e6, batch_size=[1.0, 16.0] * 2).to_csv(index=False),
    "blanks around numbers": PLAIN.replace(",1,", ", 1 ,").replace(",70,", ", 70,"),
    "seconds": FRAME.assign(latency_s=NS / 1e9).to_csv(index=False),
    "microseconds": FRAME.assign(latency_us=NS / 1e3).to_csv(index=False),
    "nanoseconds": FRAME.assign(latency_ns=NS).to_csv(index=False),
    "a unit in brackets": PLAIN.replace("latency_ms", "Latency (ms)"),
    "other names": PLAIN.replace("subnet,accuracy,batch_size,latency", "Model,Accuracy,batchsize,p50"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs and CRLF": PLAIN.replace(",", "\t").replace("\n", "\r\n"),
    "scientific numbers": PLAIN.replace(",9.5", ",9.5e+00").replace(",16,", ",1.6E1,"),
    "statistics that are not read": FRAME.assign(median_ms=NS / 1e6, mean_ms=1, std_ms=2, p95_ms=3, samples=4).to_csv(),
}


@pytest.mark.parametrize("name", SAME)
def test_these_are_the_same_table(name: str) -> None:
    assert_same(parse_csv(SAME[name], "t.csv"), TABLE, "provenance")


def test_what_is_not_read_is_in_the_provenance() -> None:
    table = parse_csv(SAME["statistics that are not read"], "t.csv")
    assert table.provenance == {
        "source": "t.csv",
        "latency": "median_ms",
        "not read": "mean_ms, std_ms, p95_ms, samples",
    }


def test_loading_times_of_each_subnet() -> None:
    head, *lines = PLAIN.splitlines()
    table = parse_csv(
        "\n".join([f"{head},loading_ms", *(f"{x},{120.5 if x[0] == 's' else ''}" for x in lines)]), "t.csv"
    )
    assert [subnet.loading_ns for subnet in table.subnets] == [120_500_000, None]
    assert_same(parse_csv(csv_text(table), "t.csv"), table)


# The columns of the public file, with two rows per device and model.
PROTEUS = """Model,Accel,Trials,batchsize,50th_pct,90th_pct,avg_latency(ms),Min,Max,Accuracy,Normalized_Accuracy
bert-base,onnxruntime_gpu_pascal,1000,1,9.75,10.0,9.8,9.1,14.3,93.5,96.5
bert-base,onnxruntime_gpu_pascal,1000,2,10.25,10.6,10.3,9.5,14.2,93.5,96.5
bert-large,onnxruntime_gpu_pascal,1000,1,19.1,19.4,19.2,18.2,25.1,94.9,98.0
bert-large,onnxruntime_gpu_pascal,,2,20.2,,20.3,19.1,25.9,94.9,98.0
gpt2,onnxruntime_gpu_pascal,1000,1,130.5,131,131,120,140,20.0,50.0
bert-base,onnxruntime_cpu,100,1,50.5,52.7,50.8,46.8,76.0,93.5,96.5
bert-base,onnxruntime_cpu,100,2,46.5,53.1,47.4,39.6,61.0,93.5,96.5
bert-large,onnxruntime_cpu,100,1,100.5,104,101.8,98.1,138.9,94.9,98.0
bert-large,onnxruntime_cpu,100,2,112.2,117,112.7,104.1,153.2,94.9,98.0
"""


def test_a_profile_of_proteus_with_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "aggregate_profiled.csv"
    file.write_text(PROTEUS)
    table = load_table(file, where={"device": "pascal", "model": "bert-*"})
    assert table.device == "onnxruntime_gpu_pascal"
    assert [(subnet.id, subnet.accuracy) for subnet in table.subnets] == [("bert-base", 93.5), ("bert-large", 94.9)]
    assert table.latency_ns.tolist() == [[9_750_000, 10_250_000], [19_100_000, 20_200_000]]
    assert table.provenance["rows"] == "Accel = pascal, Model = bert-*"
    assert table.provenance["latency"] == "50th_pct"
    cpu = load_table(file, where={"Accel": "onnxruntime_cpu"}, max_batch=1)
    assert cpu.latency_ns.tolist() == [[50_500_000], [100_500_000]]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (
            {},
            r"holds several devices \(onnxruntime_gpu_pascal, onnxruntime_cpu\); choose one: --where device=o.*re: {",
        ),
        (
            {"device": "onnx"},
            r"several values have this Accel \(onnx\); choose from onnxruntime_gpu_pascal, onnxruntime_cpu",
        ),
        (
            {"device": "ampere"},
            r"no row has this Accel \(ampere\); choose from onnxruntime_gpu_pascal, onnxruntime_cpu",
        ),
        ({"devise": "cpu"}, r"line 1: no such column to choose rows by \(devise\); known: 50th_pct"),
        ({"device": "*"}, r"holds several devices"),
        (
            {"device": "pascal"},
            r"missing cell of latency \(subnet gpt2, batch 2\); the grid must be full: all .* have 1",
        ),
    ],
)
def test_a_choice_of_rows_that_is_none(where: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_csv(PROTEUS, "p.csv", where)


def test_a_column_with_one_chosen_value_may_be_any_column() -> None:
    text = PLAIN.replace("\n", ",fp16\n").replace("ms,fp16", "ms,precision") + PLAIN.partition("\n")[2].replace(
        "\n", ",fp32\n"
    )
    with pytest.raises(DataError, match=r"unknown column \(precision\); .*remove it, or choose one of its values"):
        parse_csv(text, "t.csv")
    assert_same(parse_csv(text, "t.csv", {"precision": "fp16"}), TABLE, "provenance")


def test_only_a_csv_has_rows_to_choose_from(tmp_path: Path) -> None:
    for name in ("ofa-resnet50-a40", tmp_path / "t.parquet"):
        if isinstance(name, type(tmp_path)):
            name.write_bytes(b"")
        with pytest.raises(SpecError, match=r"has no rows to choose from \(device=a\)"):
            find_table(name, {"device": "a"})


@st.composite
def measurements(draw: st.DrawFn) -> dict[tuple[str, int], list[int]]:
    cells = [(subnet, size) for subnet in ("s", "l") for size in (1, 4)]
    times = st.lists(st.integers(50_000, 10**9), min_size=3, max_size=12)
    return {cell: draw(times) for cell in cells}


@settings(max_examples=30)
@given(measurements(), st.booleans(), st.randoms(use_true_random=False))
def test_repeated_measurements_give_median_percentile_and_samples(
    cells: dict[tuple[str, int], list[int]], numbered: bool, random: np.random.Generator
) -> None:
    accuracy = {"s": 70, "l": 80}
    rows = [
        f"{subnet},{accuracy[subnet]},{size},{ns}" + (f",{number}" if numbered else "")
        for (subnet, size), times in cells.items()
        for number, ns in enumerate(times)
    ]
    random.shuffle(rows)
    header = "subnet,accuracy,batch_size,latency_ns" + (",repetition" if numbered else "")
    table = parse_csv("\n".join([header, *rows]), "t.csv")
    assert table.samples_ns is not None
    assert table.p99_ns is not None
    for row, subnet in enumerate(("s", "l")):
        for column, size in enumerate((1, 4)):
            times = cells[subnet, size]
            assert table.samples_ns[row][column].tolist() == sorted(times)
            assert abs(table.latency_ns[row, column] - np.median(times)) <= 0.5
            assert abs(table.p99_ns[row, column] - np.quantile(times, 0.99)) <= 0.5


HEADER = "subnet,accuracy,batch_size,latency_ms"


def file_of(*latencies: object, header: str = HEADER, accuracy: object = 70, more: str = "") -> str:
    lines = [f"s,{accuracy},{2**i},{latency}{more}" for i, latency in enumerate(latencies)]
    return "\n".join([header, *lines])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            file_of(0.0044, 0.0088),
            r"latency_ms can hardly be in ms \(the smallest is 0.0044\); are they in s\? Then name",
        ),
        (file_of(0.0044), r"the column latency_s; if not, give them as latency_us"),
        (file_of(44_000, 88_000), r"latency_ms can hardly be in ms \(the smallest is 44000\); are they in us\?"),
        (file_of(4.4e7, header=HEADER[:-2] + "us"), r"latency_us can hardly be in us .*; are they in ns\?"),
        (
            file_of(4.4, header=HEADER[:-2] + "ns"),
            r"line 2: latency_ns can hardly be in nanoseconds \(4.4\); is it in milliseconds",
        ),
        (
            file_of(4.4, accuracy=0.738),
            r"no accuracy is above 1 \(s: 0.738\); percent, such as 73.82: are these shares",
        ),
        (
            file_of(4.4, 5, header=f"{HEADER},p99_ms", more=",4.5"),
            r"99th percentile is below the latency \(subnet s, b",
        ),
        (
            file_of(4.4, header=f"{HEADER},p99_ms", more=",4500"),
            r"every p99_ms is far above latency_ms \(.*: 1022.73 tim",
        ),
        (file_of("4_0"), r"line 2: latency_ms is not a positive number \(4_0\); milliseconds above 0"),
        (file_of("True"), r"line 2: latency_ms is not a positive number \(True\)"),
        (file_of("0x10"), r"line 2: latency_ms is not a positive number \(0x10\)"),
        (file_of("٤"), r"line 2: latency_ms is not a positive number"),
        (
            file_of("4,4").replace(",70,1,", ";70;1;").replace(HEADER, HEADER.replace(",", ";")),
            r"number of values|positive",
        ),
        (file_of(4, accuracy="7_0"), r"line 2: accuracy is not a number \(7_0\)"),
        (file_of(4, accuracy="70%"), r"line 2: accuracy is not a number \(70%\)"),
        (file_of(4).replace(",1,", ",1_6,"), r"line 2: batch_size is not a positive integer \(1_6\)"),
        (file_of(4).replace(",1,", ",1e9,"), r"batch_size is not a positive integer \(1e9\)"),
        (file_of(4).replace(",1,", ",2e6,"), r"batch size is too large \(2000000\); at most 1,000,000 queries"),
        (file_of(4, header=f"{HEADER},loading_ms", more=",-1"), r"line 2: loading_ms is not a number from 0 on \(-1\)"),
        (
            file_of(4, header=f"{HEADER},p99", more=",5"),
            r"unknown column \(p99\); in which unit is 'p99'\? Name it p99_s, p",
        ),
        (
            file_of(4, header=HEADER[:-3]),
            r"column latency_ms is missing .*; in which unit is 'latency'\? Name it latency_s",
        ),
        (
            file_of(4, header=HEADER.replace("latency", "mean")),
            r"name 'mean_ms' latency_ms .* if simulations are to use",
        ),
        (
            file_of(4, header=f"{HEADER},p50_ms", more=",5"),
            r"several columns could be the latency \(latency_ms, p50_ms\)",
        ),
        (
            file_of(4, header=f"{HEADER},batch_siz", more=",5"),
            r"unknown column \(batch_siz\); did you mean 'batch_size'",
        ),
        (
            f"{HEADER}\ns,70,1,4\ns,70,1,4\ns,70,1,4\ns,70,2,5",
            r"duplicate cell \(subnet s, batch 1: 3 rows\); one row p",
        ),
        (
            f"{HEADER},rep\ns,70,1,4,0\ns,70,1,5,0",
            r"line 3: duplicate repetition \(subnet s, batch 1, rep 0\); one row",
        ),
        (
            f"{HEADER},p99_ms\n" + "s,70,1,4,5\n" * 3,
            r"repetitions with a percentile of their own \(p99_ms\); remove it",
        ),
        (f"{HEADER},loading_ms\ns,70,1,4,5\ns,70,2,4,6", r"line 3: subnet s has two loading times; one per subnet"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_csv(text, "t.csv")


RAGGED = "model,accuracy,batch_size,latency_ms\na,70,1,2\na,70,2,3\na,70,4,5\nb,75,1,4\nb,75,2,6\n"


def test_larger_batch_sizes_that_some_subnets_lack_are_left_out_by_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "ragged.csv"
    file.write_text(RAGGED)
    with pytest.raises(
        DataError, match=r"subnet b, batch 4.*all subnets have 1, 2; max_batch 2 leaves out larger ones"
    ):
        load_table(file)
    with pytest.raises(DataError, match="batch 4"):
        load_table(file, 4)
    full = tmp_path / "full.csv"
    full.write_text(RAGGED + "b,75,4,10\n")
    for limit in (1, 2, 3):
        assert load_table(file, limit).batch_sizes == load_table(full).up_to(limit).batch_sizes
        assert load_table(file, limit).latency_ns.tolist() == load_table(full).up_to(limit).latency_ns.tolist()
    with pytest.raises(BatchSizeError, match="measured: 1, 2, 4"):
        load_table(full, 5)
