"""Tables in files: what is written comes back, and what is broken is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from sim.base.errors import BatchSizeError, DataError, SpecError, SsimError, StoreError
from sim.base.parquet import read_parquet
from sim.tables.csv_file import csv_text, parse_csv
from sim.tables.files import find_table, load_table, read_table, shipped_tables, write_table
from sim.tables.json_file import parse_profile, profile_text
from sim.tables.latency import LatencyTable, ProfiledSubnet
from sim.tables.parquet_file import parquet_bytes, parse_parquet
from tests.strategies import assert_same, latency_tables

TABLE = LatencyTable(
    "gpu",
    (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0)),
    (1, 4),
    np.array([[4_400_001, 10**12], [50_000, 60_000]]),
)


@settings(deadline=None)  # the first call loads pyarrow's compiled parts
@given(latency_tables())
def test_parquet_holds_everything(table: LatencyTable) -> None:
    assert_same(parse_parquet(parquet_bytes(table), "t.parquet"), table)


@given(latency_tables())
def test_json_holds_everything(table: LatencyTable) -> None:
    assert_same(parse_profile(profile_text(table), "t.json"), table)


@given(latency_tables())
def test_csv_holds_latencies_and_loading_times_to_the_nanosecond(table: LatencyTable) -> None:
    back = parse_csv(csv_text(table), "folder/t.csv")
    bare = [replace(subnet, control=None, gmacs=None, params=None) for subnet in table.subnets]
    dropped = ("device", "stages", "between", "default_max_batch", "provenance", "samples_ns", "dense_ns")
    intervals = ("low_ns", "high_ns", "p99_low_ns", "p99_high_ns")
    assert_same(back, replace(table, subnets=bare), *dropped, *intervals)
    assert back.device == "t"
    assert back.provenance == {"source": "t.csv"}


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".csv"])
def test_the_suffix_is_the_format(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"gpu{suffix}"
    write_table(TABLE, file)
    assert_same(read_table(file), TABLE, "provenance")
    assert_same(load_table(str(file), max_batch=1), TABLE.up_to(1), "provenance")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_csv_reads_as_people_write_it() -> None:
    text = "\ufeffaccuracy,subnet,latency_ms,batch_size,p99_ms\r\n80,l,7.7,1,8\r\n73.82,s,4.4,1,5\r\n".removeprefix(
        "\ufeff"
    )
    table = parse_csv(text, "t.csv")
    assert [subnet.id for subnet in table.subnets] == ["s", "l"]
    assert table.latency_ns.tolist() == [[4_400_000], [7_700_000]]
    assert table.p99_ns is not None
    assert table.p99_ns.tolist() == [[5_000_000], [8_000_000]]
    assert "70.0,1,4.400001\n" in csv_text(TABLE)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    file = tmp_path / "excel.csv"
    file.write_bytes(b"\xef\xbb\xbfsubnet,accuracy,batch_size,latency_ms\ns,70,1,4.4\n")
    assert read_table(file).smallest_ns == 4_400_000


def original_profile() -> dict[str, Any]:
    """A cut of the authors' A40 file, with the keys that it has and the values of its first cells."""

    def row(size: int, total: float, p99: float, decode: float, forward: float) -> dict[str, Any]:
        stages = {
            "deserialize": {"mean": decode, "std": 328310.93, "p99": 2065609.19, "profiled": True, "source": "a.json"},
            "forward": {"mean": forward, "std": 383982.9, "profiled": True, "includes_cuda_synchronize": True},
        }
        return {"batch_size": size, "mean": total, "std": 505273.5, "stages": stages, "p99": p99}

    model = {
        "id": 0,
        "accuracy": 73.822,
        "constraint_mflop": 0,
        "filename": "ofa_resnet50_d=0+1+2_e=0.2+0.25+0.35_w=0.65+0.8+1.0.pt",
        "loading_time_ns": -1,
        "subnet_dimension": {"depth_values": [0] * 5, "elasticity_ratio": [0.2] * 18, "width_multiplier": [0] * 6},
        "predicted_accuracy": -1,
        "predicted_mflops": -1,
        "latency_and_batch_ns": [
            row(1, 5109208.55, 6943029.076598865, 1154820.112, 3826070.631),
            row(2, 6398038.873000001, 8252368.875627085, 2283090.328, 3985351.1040000003),
        ],
    }
    return {"models": [model], "_stage_profile_metadata": {"augmented": True}}


def test_the_authors_own_layout_is_read() -> None:
    table = parse_profile(json.dumps(original_profile(), indent=4), "expts/a40.json")
    shipped = find_table("ofa-resnet50-a40")
    assert table.device == "a40"
    assert table.provenance == {"source": "a40.json", "statistic": "mean"}
    assert table.latency_ns.tolist() == shipped.latency_ns[:1, :2].tolist()
    assert table.p99_ns is not None
    assert table.p99_ns.tolist() == [[6943029, 8252369]]
    assert table.stages["forward"].tolist() == shipped.stages["forward"][:1, :2].tolist()
    assert table.subnets[0].control == shipped.subnets[0].control
    assert table.subnets[0].id == "0"
    assert table.subnets[0].loading_ns is None


def test_a_reader_of_the_authors_layout_finds_its_keys() -> None:
    profile = json.loads(profile_text(find_table("ofa-resnet50-a40")))
    for model in profile["models"]:
        assert isinstance(model["id"], int)
        assert model["loading_time_ns"] == -1
        assert {len(part) for part in model["subnet_dimension"].values()} == {5, 18, 6}
        assert all({"batch_size", "mean", "p99", "stages"} == set(row) for row in model["latency_and_batch_ns"])


def test_the_papers_table() -> None:
    table = load_table("ofa-resnet50-rtx2080ti")
    assert table.batch_sizes == (1, 2, 4, 8, 16)
    assert (table.latency_ns[0] / 1e6).tolist() == [4.4, 4.7, 5.2, 6.1, 8.8]
    assert (table.latency_ns[5] / 1e6).tolist() == [7.7, 8, 11, 20, 34]
    assert find_table("ofa-resnet50-rtx2080ti").latency(5, 32) == 62_000_000
    assert table.pareto == tuple(range(6))


def test_the_authors_a40_profile() -> None:
    table = find_table("ofa-resnet50-a40")
    # The stages are rounded one by one, their sum is not.
    assert np.abs(table.latency_ns - sum(table.stages.values())).max() <= 1
    for name, grid in table.stages.items():
        assert name == "forward" or (grid[:, -1] == grid[:, -2]).all()
    assert load_table("ofa-resnet50-a40", stages=["forward"]).latency(5, 16) == 20_163_471


def test_shipped_tables_agree_on_the_subnets() -> None:
    assert shipped_tables() == ["dynabert-predicted", "ofa-resnet50-a40", "ofa-resnet50-rtx2080ti"]
    a40, rtx = map(find_table, shipped_tables()[1:])
    assert a40.subnets == rtx.subnets
    assert {"source", "device", "supernet"} <= a40.provenance.keys() & rtx.provenance.keys()
    # What the authors' search predicted for four of the six, in MFLOPs.
    predicted = {"1": 1487.887936, "2": 1799.703552, "3": 1987.505728, "4": 3999.52288}
    assert {s.id: s.gmacs for s in rtx.subnets if s.id in predicted} == {
        name: round(mflops / 1000, 3) for name, mflops in predicted.items()
    }


def test_what_is_predicted_for_a_transformer_is_what_its_provenance_says() -> None:
    pytest.importorskip("torch", reason="operations are counted from the supernet")
    from supernet.costs import Costs
    from supernet.families import DynaBert
    from supernet.family import build

    cnn, table = find_table("ofa-resnet50-rtx2080ti").up_to(16), find_table("dynabert-predicted")
    largest = cnn.subnets[-1]
    assert largest.gmacs is not None
    a_layer_ms, per_ms = cnn.latency_ns[-1, 0] / 1e6 / 18, largest.gmacs * 16 / (cnn.latency_ns[-1, -1] / 1e6)
    family = DynaBert()
    costs = Costs(build(family, device="meta"), tuple(part.to("meta") for part in family.example(1, 128)))
    for row, subnet in enumerate(table.subnets):
        assert subnet.control is not None
        gmacs = round(costs.macs(subnet.id) / 1e9, 3)
        assert (subnet.gmacs, subnet.params) == (gmacs, round(costs.parameters(subnet.id), -4))
        for column, batch in enumerate(table.batch_sizes):
            ms = max(a_layer_ms * subnet.control.depths[0], gmacs * batch / per_ms)
            assert table.latency_ns[row, column] == round(100 * ms) * 10_000
    assert "PREDICTED" in table.device


def test_a_shipped_file_is_as_our_writer_writes_it() -> None:
    for name in shipped_tables():
        table = find_table(name)
        assert_same(parse_profile(profile_text(table), name), table)
        assert max(map(len, profile_text(table).splitlines())) < 400


HEADER = "subnet,accuracy,batch_size,latency_ms"
BAD_CSV = [
    ("", r"line 1: column subnet is missing \(the file is empty\)"),
    (f"{HEADER}\n", r"t.csv: has no rows; one per cell"),
    ("subnet,accuracy,batch_size\ns,70,1\n", r"line 1: column latency_ms is missing \(subnet, accuracy, batch_size\)"),
    (f"{HEADER},subnet\ns,70,1,4,5\n", r"line 1: duplicate column"),
    (f"{HEADER}\ns,70,1\n", r"line 2: wrong number of values; 4 columns"),
    (f"{HEADER}\ns,70,1,4,5\n", r"line 2: wrong number of values; 4 columns"),
    (f"{HEADER}\ns,70,1,4\ns,70,1,5\n", r"t.csv: duplicate cell \(subnet s, batch 1: 2 rows\); one row per cell"),
    (f"{HEADER}\ns,70,1,4\ns,71,2,5\n", r"line 3: subnet s has two accuracies \(70 and 71\); one per subnet"),
    (f"{HEADER}\ns,101,1,4\n", r"line 2: accuracy is out of range \(101\); percent: above 0, at most 100"),
    (f"{HEADER}\ns,nan,1,4\n", r"line 2: accuracy is not a number \(nan\)"),
    (f"{HEADER}\ns,good,1,4\n", r"line 2: accuracy is not a number \(good\); percent, such as 73.82"),
    (f"{HEADER}\ns,70,0,4\n", r"line 2: batch_size is not a positive integer \(0\); such as 16"),
    (f"{HEADER}\ns,70,1.5,4\n", r"line 2: batch_size is not a positive integer \(1.5\)"),
    (f'{HEADER}\ns,70,1,"4\n', r"line 2: is not valid CSV \(.*\); quotes must be closed"),
    (f"{HEADER}\ns,70,1,4\ns,70,2,5\nl,80,2,5\n", r"t.csv: missing cell of latency \(subnet l, batch 1\)"),
] + [
    (
        f"{HEADER}\ns,70,1,{value}\n",
        rf"line 2: latency_ms is not a positive number \({value or 'nothing'}\); milliseconds above 0",
    )
    for value in ("0", "-1", "nan", "inf", "1e30", "0.0000001", "fast", "")
]


@pytest.mark.parametrize(("text", "message"), BAD_CSV)
def test_a_csv_that_breaks_the_rules(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        parse_csv(text, "t.csv")
    assert raised.value.location.startswith("t.csv")


def set_at(*path: Any) -> Any:
    """Return what sets the last of `path` at the place that the rest of it leads to, or removes it for `...`."""

    def change(document: Any) -> None:
        *steps, key, value = path
        for step in steps:
            document = document[step]
        if value is ...:
            del document[key]
        else:
            document[key] = value

    return change


CELL = ("models", 0, "latency_and_batch_ns", 1)
BAD_JSON = [
    (set_at("models", ...), r"t.json: missing key \(models\)"),
    (set_at("models", {}), r"t.json, models: is not a list \(\{\}\)"),
    (set_at("models", []), r"t.json, table of t: is empty \(0 subnets, 0 batch sizes\)"),
    (set_at("models", 0, 5), r"models\[0\]: is not an object \(5\)"),
    (set_at("models", 0, "id", ...), r"models\[0\]: missing key \(id\)"),
    (set_at("models", 0, "id", 1.5), r"models\[0\].id: is not an integer \(1.5\)"),
    (set_at("models", 0, "accuracy", "high"), r'models\[0\].accuracy: is not a number \("high"\)'),
    (set_at("models", 0, "accuracy", 0.0), r"t.json, subnet '0': accuracy is out of range \(0\)"),
    (set_at("models", 0, "loading_time_ns", -2), r"t.json, subnet '0': loading_ns is out of range \(-2\)"),
    (set_at("models", 0, "subnet_dimension", "width_multiplier", ...), r"subnet_dimension: missing key"),
    (set_at(*CELL, "mean", ...), r"models\[0\].latency_and_batch_ns\[1\]: missing key \(mean\)"),
    (set_at(*CELL, "mean", 0), r"latency_and_batch_ns\[1\].mean: is not positive \(0\); 1 ns or more"),
    (set_at(*CELL, "mean", -5), r"mean: is not positive \(-5\)"),
    (set_at(*CELL, "mean", float("nan")), r"mean: is not a number \(NaN\)"),
    (set_at(*CELL, "mean", bool(1)), r"mean: is not a number \(true\)"),
    (set_at(*CELL, "mean", 10**400), r"mean: is not a number \(int\)"),
    (set_at(*CELL, "mean", 5.11), r"mean: can hardly be in nanoseconds \(5.11\); is it in milliseconds\?"),
    (set_at(*CELL, "samples", [1, 2]), r"t.json: missing cell of samples \(subnet 0, batch 1\)"),
    (
        set_at("models", 0, "accuracy", 0.738),
        r"t.json: no accuracy is above 1 \(0.738\); percent: are these shares of 1\?",
    ),
    (set_at(*CELL, "p99", 5_000_000), r"the 99th percentile is below the latency \(subnet 0, batch 2: 5 ms < 6.39"),
    (set_at(*CELL, "mean", 2**64), r"mean: is not positive .*as an int64"),
    (set_at(*CELL, "batch_size", 1), r"latency_and_batch_ns\[1\].batch_size: duplicate batch size \(1\)"),
    (set_at(*CELL, "p99", ...), r"t.json: missing cell of p99 \(subnet 0, batch 2\)"),
    (set_at(*CELL, "stages", "forward", ...), r"t.json: missing cell of stage forward \(subnet 0, batch 2\)"),
    (set_at(*CELL, "stages", "forward", "mean", -1), r"stages.forward.mean: is negative \(-1\); 0 ns or more"),
    (set_at("between", "guess"), r"t.json, table of t: unknown value of between \('guess'\)"),
    (set_at("device", 7), r"device: is not a string \(7\); must be a string"),
    (set_at("default_max_batch", 64), r"table of t: default_max_batch is out of range \(64\); 1 to 2"),
    (lambda document: document["models"].append(document["models"][0]), r"models\[1\].id: duplicate subnet \(0\)"),
]


@pytest.mark.parametrize(("change", "message"), BAD_JSON)
def test_a_profile_that_breaks_the_rules(tmp_path: Path, change: Any, message: str) -> None:
    document = original_profile()
    change(document)
    file = tmp_path / "t.json"
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as raised:
        read_table(file)
    assert raised.value.location.startswith(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t.json, line 1: is not valid JSON: Expecting value \(the file is empty\)"),
        ('{\n "models": [\n  {"id": 0,,}\n ]\n}', r't.json, line 3: is not valid JSON: .* \(\{"id": 0,,\}\)'),
        ('{"models": [],\n "models": []}', r"t.json: duplicate key \(models\)"),
        ("[]", r"t.json: is not an object \(\[\]\)"),
    ],
)
def test_a_profile_that_is_no_json(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_profile(text, "t.json")


def test_a_parquet_file_that_is_damaged(tmp_path: Path) -> None:
    whole = parquet_bytes(TABLE)
    for content in (whole[:-20], whole[: len(whole) // 2], b"", b"text"):
        with pytest.raises(DataError, match=r"t.parquet: is not a valid parquet file \(.+\); write the file again"):
            parse_parquet(content, "t.parquet")
    stranger = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1]}), stranger)
    with pytest.raises(DataError, match="is not a latency table; a parquet file with schema latency-table/1"):
        read_table(stranger)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.drop_columns("latency_ns"),
            r"column latency_ns: has the wrong type or gaps \(missing\); int64",
        ),
        (
            lambda rows: rows.set_column(3, "latency_ns", pa.array([1.0] * 4)),
            r"column latency_ns: has the wrong type or gaps \(double\); int64",
        ),
        (
            lambda rows: rows.set_column(3, "latency_ns", pa.array([1, 2, 3, None])),
            "column latency_ns: has the wrong type or gaps",
        ),
        (lambda rows: pa.concat_tables([rows, rows]), "duplicate cell; one row per cell"),
        (lambda rows: rows.slice(1), r"missing cell of latency \(subnet s, batch 1\)"),
        (lambda rows: rows.slice(2), r"a subnet has no rows \(s\); one row per cell"),
    ],
)
def test_a_parquet_file_that_was_changed(tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "t.parquet"
    write_table(TABLE, file)
    rows = read_parquet(file)
    changed = change(rows)
    pq.write_table(changed.replace_schema_metadata(rows.schema.metadata), file)
    with pytest.raises(DataError, match=message):
        read_table(file)


def test_parquet_columns_tell_their_units() -> None:
    schema = pq.read_schema(pa.BufferReader(parquet_bytes(find_table("ofa-resnet50-a40"))))
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    assert units["accuracy"] == "percent"
    assert units["batch_size"] == "queries"
    assert {units[name] for name in units if name.endswith("_ns")} == {"ns"}
    assert "stage_forward_ns" in units


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ofa-resnet50-a4", SpecError, r"latency table: unknown table \('ofa-resnet50-a4'\); did you mean"),
        ("nowhere.csv", SpecError, r"nowhere.csv: can't be read \(No such file or directory\)"),
        ("folder/table.txt", SpecError, r"unknown format of latency tables \(.txt\); .parquet, .csv, .json"),
        ("folder/table", SpecError, r"unknown format of latency tables \(no suffix\)"),
    ],
)
def test_a_table_that_is_not_there(name: str, kind: type[SsimError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        load_table(name)
    assert raised.value.exit_code == 2


def test_a_table_is_restricted_as_asked() -> None:
    assert load_table("ofa-resnet50-a40", max_batch=32, stages=["forward"]).max_batch == 32
    with pytest.raises(BatchSizeError, match="no batch size up to"):
        load_table("ofa-resnet50-a40", max_batch=64)
    with pytest.raises(DataError, match=r"unknown stage \(forwards\); did you mean 'forward'"):
        load_table("ofa-resnet50-a40", stages=["forwards"])


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"subnet,accuracy\n\xff\xfe")
    with pytest.raises(DataError, match=r"t.csv: is not UTF-8 text \(byte 16\); save it as UTF-8"):
        read_table(file)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.csv"
    write_table(TABLE, file)
    before = file.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"t.csv: disk full \(No space left on device\)"):
        write_table(TABLE.up_to(1), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "new" / "t.csv")
    assert (tmp_path / "new" / "t.csv").exists()
