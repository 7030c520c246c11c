"""Clients from a table: the same federation as one that is written out, or a message with the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from sim.base.errors import SpecError
from ssim.files.topology_file import read_topology
from ssim.files.yaml_file import FaultsError
from ssim.jobs.reading import read_job
from topology.deployment import Dataset, InjectedFault, Machine

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = """
schema: topology/1
name: clients
roles: {trainer: {data: true}, aggregator: {}}
channels: {param: {pair: [trainer, aggregator]}}
datasets: {trainer: {default: {table: clients.csv}}}
"""
CLIENTS = "id,size,speed,up_mbps,leave_s,slow\nb,30,0.5,10,,\na,,2,,,\nc,7,,5,1.5,3\n"


def read(folder: Path, table: str = CLIENTS, topology: str = TOPOLOGY) -> Any:
    (folder / "clients.csv").write_text(table)
    (folder / "topology.yaml").write_text(topology)
    return read_topology(folder / "topology.yaml")


def test_a_table_says_what_a_file_may_say(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert [worker.dataset for worker in found.plan.workers if worker.dataset] == [
        Dataset("a", "trainer", compute="a"),
        Dataset("b", "trainer", size=30, compute="b"),
        Dataset("c", "trainer", size=7, compute="c"),
    ]
    assert found.plan.machines["b"] == Machine("b", speed=0.5, up_mbps=10)
    assert found.plan.machines["a"] == Machine("a", speed=2)
    assert found.faults == (InjectedFault("trainer/2", leave_s=1.5, slow=3),)


def test_sessions_are_pairs_of_seconds(tmp_path: Path) -> None:
    found = read(tmp_path, "id,sessions,every_s\na,0-3600 7200-9000.5,86400\nb,,\n")
    assert found.faults == (InjectedFault("trainer/0", sessions=((0, 3600), (7200, 9000.5)), every_s=86400),)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("0-3600 7200", "row 1, sessions: must list begins and ends in seconds"),
        ("5-3", "row 1, sessions: not in order .*5 to 3"),
        ("0-3 2-9", "row 1, sessions: not in order .*2 to 9"),
    ],
)
def test_sessions_that_make_no_sense_name_the_row(tmp_path: Path, cell: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        read(tmp_path, f"id,sessions\na,{cell}\n")


def test_csv_and_parquet_are_the_same(tmp_path: Path) -> None:
    from_csv = read(tmp_path)
    pd.read_csv(tmp_path / "clients.csv").to_parquet(tmp_path / "clients.parquet")
    from_parquet = read(tmp_path, topology=TOPOLOGY.replace("clients.csv", "clients.parquet"))
    assert list(from_parquet.plan.workers) == list(from_csv.plan.workers)
    assert (from_parquet.plan.machines, from_parquet.faults) == (from_csv.plan.machines, from_csv.faults)


@pytest.mark.parametrize("kind", ["float64", "Int64"])
def test_whole_numbers_are_ids_without_a_point(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"id": pd.array([1, 2], dtype=kind), "compute": pd.array([None, 3], dtype=kind)})
    frame.to_parquet(tmp_path / "clients.parquet")
    topology = TOPOLOGY.replace("clients.csv", "clients.parquet") + 'computes: {"3": {}}\n'
    plan = read(tmp_path, topology=topology).plan
    assert [worker.dataset.id for worker in plan.workers if worker.dataset] == ["1", "2"]
    assert "3" in plan.machines


@pytest.mark.parametrize("wrong", [1.5, 2.0**53, float("inf")])
def test_other_numbers_are_no_ids(tmp_path: Path, wrong: float) -> None:
    pd.DataFrame({"id": [wrong, 2.0]}).to_parquet(tmp_path / "clients.parquet")
    with pytest.raises(FaultsError, match="row 1, id: must be text or a whole number"):
        read(tmp_path, topology=TOPOLOGY.replace("clients.csv", "clients.parquet"))


def test_ten_thousand_clients_have_a_machine_each(tmp_path: Path) -> None:
    rows = "".join(f"c{number:05},{1 + number % 9}\n" for number in range(10_000))
    plan = read(tmp_path, "id,speed\n" + rows).plan
    assert len(plan.roles["trainer"]) == 10_000
    assert plan.machines[plan.worker("trainer/4321").compute].speed == 1 + 4321 % 9


def test_what_a_table_says_is_part_of_a_training_and_where_it_is_is_not(tmp_path: Path) -> None:
    training = """
schema: federated/1
name: clients
seed: 1
topology: {use: classical, datasets: {trainer: {default: {table: clients.csv}}}}
data: digits
family: cnn_small
rounds: 1
"""
    (tmp_path / "elsewhere").mkdir()
    ids = {}
    for name, table in (("", CLIENTS), ("elsewhere", CLIENTS), ("speed", CLIENTS.replace("0.5", "0.6"))):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "clients.csv").write_text(table)
        (folder / "training.yaml").write_text(training)
        run = read_job(folder / "training.yaml", ()).runs[0]
        ids[name] = run.id
        assert folder / "clients.csv" in run.files()
    assert ids[""] == ids["elsewhere"] != ids["speed"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (CLIENTS.replace("0.5", "fast"), "clients.csv, row 1, speed: must be a number ('fast')"),
        (CLIENTS.replace("0.5", "-1"), "row 1, speed: is out of range (-1.0)"),
        (CLIENTS.replace("30", "1.5"), "row 1, size: must be a whole number ('1.5')"),
        (CLIENTS.replace("30", "-4"), "row 1, size: must be at least 0 (-4)"),
        (CLIENTS.replace("\na", "\nb"), "row 2, id: already in row 1 ('b')"),
        (CLIENTS.replace("\na", "\n"), "row 2, id: must be a non-empty name"),
        (CLIENTS.replace("speed", "sped"), "unknown column ('sped'); did you mean 'speed'?"),
        (CLIENTS.replace("id,", "name,"), "has no column id"),
        (CLIENTS.replace("size", "compute"), "names machines in compute and describes others"),
        ("id,speed\n", "has no rows"),
        ("id,speed\na,1,\nb,2,\n", "row 1: 3 cells, 2 columns"),
        ("id,speed\na,1\n\nb\n", "row 2: 1 cells, 2 columns"),
        (CLIENTS.replace("\na", "\n a"), "row 2, id: has blanks around it (' a')"),
        ("", "can't be read"),
        ('id\n"a', "can't be read"),
    ],
)
def test_a_wrong_table_is_told_by_row(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(FaultsError) as caught:
        read(tmp_path, table)
    assert says in str(caught.value)
    assert "6:" in str(caught.value)  # the line of the topology file


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("clients.csv", "nothing.csv", "nothing.csv, file not found"),
        ("clients.csv}", "clients.csv, size: 3}", "not used with table"),
        ("datasets:", "computes: {b: {speed: 3}}\ndatasets:", "the table has such a machine, too"),
        ("datasets:", "faults: [{worker: trainer/2, slow: 2}]\ndatasets:", "the table has faults of it, too"),
    ],
)
def test_what_contradicts_a_table_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, topology=TOPOLOGY.replace(old, new))
    assert says in str(caught.value)
