"""FedScale's traces as a table of clients: the durations and sessions that FedScale would give, or a message."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.ssim.in_process import ssim
from topology.deployment import InjectedFault

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = {
    1: {"computation": 100.0, "communication": 1000.0},
    2: {"computation": 25.0, "communication": 5648.1},
    3: {"computation": 200, "communication": 300},
}
TIMES = {
    1: {"active": [0, 50], "inactive": [20, 70], "finish_time": 100, "duration": 40, "model": "x"},
    2: {"active": [0], "inactive": [100], "finish_time": 100},
    3: {"active": [30, 5], "inactive": [60, 1], "finish_time": 100},
    4: {"active": [5], "inactive": [1], "finish_time": 100},
}


def read(folder: Path, *more: str, devices: Any = DEVICES, times: Any = TIMES) -> Any:
    (folder / "devices").write_bytes(pickle.dumps(devices))
    (folder / "times").write_bytes(pickle.dumps(times))
    return ssim(folder, "topology", "clients", "devices", "-o", "clients.csv", *more)


def active(entry: dict[str, Any], at_s: float) -> bool:
    """Whether FedScale takes a client for active."""
    now = at_s % entry["finish_time"]
    return any(begin <= now <= end for begin, end in zip(entry["active"], entry["inactive"], strict=True))


def test_devices_keep_their_ratios(tmp_path: Path) -> None:
    ended = read(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "3 clients: clients.csv; speed 1 takes 100 ms for an example\n"
    frame = pd.read_csv(tmp_path / "clients.csv", dtype={"id": str}).set_index("id")
    for id_, device in DEVICES.items():
        assert 100 / frame["speed"][str(id_)] == pytest.approx(device["computation"])
        assert frame["up_mbps"][str(id_)] == frame["down_mbps"][str(id_)]
        assert frame["up_mbps"][str(id_)] == pytest.approx(device["communication"] * 1024 / 1e6, rel=1e-5)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    """A trace that was made with NumPy may hold its numbers."""
    read(tmp_path)
    plain = (tmp_path / "clients.csv").read_text()
    devices = {
        np.int64(id_): {name: np.float64(value) for name, value in device.items()} for id_, device in DEVICES.items()
    }
    assert read(tmp_path, devices=devices).returncode == 0
    assert (tmp_path / "clients.csv").read_text() == plain
    ended = read(tmp_path, devices={1: {"computation": np.str_("5"), "communication": 1}})
    assert ended.returncode == 2
    assert "can't be read" in ended.stderr


def test_sessions_are_when_fedscale_takes_a_client_for_active(tmp_path: Path) -> None:
    ended = read(tmp_path, "--availability", "times")
    assert ended.returncode == 0, ended.stderr
    assert "1 of them are always there; 1 of the trace never are" in ended.stdout
    frame = pd.read_csv(tmp_path / "clients.csv", dtype=str, keep_default_na=False)
    assert sorted(frame["sessions"]) == ["", "0-20 50-70", "30-60"]
    for sessions, every in zip(frame["sessions"], frame["every_s"], strict=True):
        if sessions:
            pairs = tuple(tuple(map(float, part.split("-"))) for part in sessions.split())
            fault = InjectedFault("trainer/0", sessions=pairs, every_s=float(every))  # type: ignore[arg-type]  # pairs
            entry = TIMES[1] if len(pairs) > 1 else TIMES[3]
            whole = [fault.session(n) for n in range(8)]
            for at_s in range(3, 200, 7):
                assert any(s is not None and s[0] <= at_s <= s[1] for s in whole) == active(entry, at_s)


def test_the_table_is_read_as_clients(tmp_path: Path) -> None:
    read(tmp_path, "--availability", "times", "--count", "2", "--seed", "3")
    (tmp_path / "topology.yaml").write_text(
        "schema: topology/1\nroles: {trainer: {data: true}, aggregator: {}}\n"
        "channels: {param: {pair: [trainer, aggregator]}}\ndatasets: {trainer: {default: {table: clients.csv}}}\n"
    )
    ended = ssim(tmp_path, "topology", "check", "topology.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "trainer: 2 workers" in ended.stdout
    first = (tmp_path / "clients.csv").read_bytes()
    read(tmp_path, "--availability", "times", "--count", "2", "--seed", "3")
    assert (tmp_path / "clients.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"devices": {1: {"computation": 1.0}}}, "client 1: lacks a key (communication)"),
        ({"devices": {1: {"computation": 0, "communication": 1}}}, "computation: must be a number above 0 (0)"),
        ({"devices": {1: {"computation": 1, "communication": "1"}}}, "must be a number above 0 ('1')"),
        ({"devices": {1: {"computation": True, "communication": 1}}}, "computation: must be a number above 0 (True)"),
        (
            {"times": {1: {"active": [True], "inactive": [2], "finish_time": 9}}},
            "client 1: active and inactive must be",
        ),
        ({"devices": [1, 2]}, "must be a dictionary of clients (list)"),
        ({"devices": OrderedDict(DEVICES)}, "it names collections.OrderedDict; only plain values are read"),
        ({"times": {1: {"active": [1], "inactive": [], "finish_time": 9}}}, "client 1: active and inactive must be"),
        ({"times": {4: TIMES[4]}}, "no client is ever active"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    ended = read(tmp_path, "--availability", "times", **given)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert not (tmp_path / "clients.csv").exists()


def test_too_many_and_another_format_are_told(tmp_path: Path) -> None:
    ended = read(tmp_path, "--count", "4")
    assert (ended.returncode, "has fewer than 4 devices (3)" in ended.stderr) == (2, True)
    ended = ssim(tmp_path, "topology", "clients", "devices", "-o", "clients.txt")
    assert (ended.returncode, "written as .csv or .parquet" in ended.stderr) == (2, True)
    ended = ssim(tmp_path, "topology", "clients", "nix", "-o", "clients.csv")
    assert (ended.returncode, "ssim: nix: " in ended.stderr) == (2, True)
