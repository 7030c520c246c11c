"""Runs without other files than their manifests: lines of one file, whatever happens to who writes them."""

from __future__ import annotations

import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from sim.base.errors import StoreError
from ssim.results.store import MANIFEST, MANIFESTS, Store, manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def manifest(number: int) -> bytes:
    return manifest_of({"seed": number}, {"queries": number}, {}, {"wall_s": 0.0}, note=f'a "quote" {number}')


def read(store: Store, run_id: str) -> Any:
    found = store.manifest(run_id)
    return None if found is None else found["summary"]["queries"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "job")


def test_what_was_added_is_read_and_of_two_the_last_one_counts(store: Store) -> None:
    for number in range(4):
        store.add(f"seed{number % 3}", manifest(number))
    assert [read(store, f"seed{seed}") for seed in range(4)] == [3, 1, 2, None]
    assert [path.name for path in store.folder.iterdir()] == [MANIFESTS]


def test_threads_lose_nothing(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.add(f"run{number}", manifest(number)), range(200)))
    assert [read(store, f"run{number}") for number in range(200)] == list(range(200))


def test_a_writer_killed_at_any_byte_costs_its_own_run_alone(store: Store) -> None:
    store.add("first", manifest(1))
    begin = (store.folder / MANIFESTS).stat().st_size
    store.add("second", manifest(2))
    whole = (store.folder / MANIFESTS).read_bytes()
    for end in range(begin, len(whole), 7):
        (store.folder / MANIFESTS).write_bytes(whole[:end])
        assert (read(store, "first"), read(store, "second")) == (1, None), end
        store.add("third", manifest(3))
        assert (read(store, "first"), read(store, "third")) == (1, 3), end
        assert not store.has("second")
        store.add("second", manifest(2))
        assert [read(store, name) for name in ("first", "second", "third")] == [1, 2, 3], end


def test_a_damaged_line_is_reported_with_its_run_until_it_is_added_again(store: Store) -> None:
    for number, name in enumerate(("first", "second", "third")):
        store.add(name, manifest(number))
    path = store.folder / MANIFESTS
    path.write_bytes(path.read_bytes().replace(b'{"queries":1}', b'{"queries":1'))
    with pytest.raises(StoreError, match="run second: is damaged"):
        store.manifest("second")
    assert [store.has(name) for name in ("first", "second", "third")] == [True, False, True]
    store.add("second", manifest(1))
    assert read(store, "second") == 1


def test_a_folder_replaces_a_line_and_a_line_a_folder(store: Store) -> None:
    store.add("run", manifest(1))
    store.take("run", {MANIFEST: manifest(2), "windows.parquet": b""})
    assert read(store, "run") == 2
    store.add("run", manifest(3))
    assert read(store, "run") == 3
    assert not (store.folder / "run").exists()


def test_a_run_taken_from_another_store_is_the_same(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.add("line", manifest(1))
    other.take("folder", {MANIFEST: manifest(2), "windows.parquet": b"1"})
    for run_id in ("line", "folder"):
        store.take(run_id, other.files(run_id))
        assert store.manifest(run_id) == other.manifest(run_id)
        assert store.files(run_id) == other.files(run_id)


@pytest.mark.parametrize("lists", [(["lost"], []), ([], ["lost"])])
def test_a_run_that_lacks_a_file_is_not_complete(store: Store, lists: tuple[list[str], list[str]]) -> None:
    (store.folder / "run").mkdir(parents=True)
    with pytest.raises(StoreError, match="lost"):
        store.finish("run", {}, {}, *lists, {"wall_s": 0.0})
    assert not store.has("run")


@pytest.fixture
def little_space() -> Iterator[None]:
    """A disk on which no file becomes longer than 1,000 bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("little_space")
def test_a_full_disk_leaves_whole_lines_alone(store: Store) -> None:
    ids = iter(range(100))

    def fill() -> None:
        for number in ids:
            store.add(f"run{number}", manifest(number))

    with pytest.raises(StoreError, match="disk full"):
        fill()
    failed = next(ids) - 1
    assert failed > 0
    assert [read(store, f"run{number}") for number in range(failed + 1)] == [*range(failed), None]
    assert (store.folder / MANIFESTS).read_bytes().endswith(b"\n")
