"""Fetching against a real server on this machine: with and without ranges, cut off, changed, and out of reach."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sim.base.errors import DataError, FetchError, StoreError
from sim.traces.azure_files import Azure2019
from ssim.files.fetch import AZURE2019_ARCHIVE, download, fetch_azure2019

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_1 = "invocations_per_function_md.anon.d01.csv"
DAY_2 = "invocations_per_function_md.anon.d02.csv"
HEAD = "HashOwner,HashApp,HashFunction,Trigger,1,2\n"


def archive(invocations: int = 3) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        noise = np.random.default_rng(invocations).bytes(300_000)
        for name, content in {
            f"../../{DAY_1}": f"{HEAD}o,a,f,http,1,{invocations}\n".encode(),
            f"data/{DAY_2}": HEAD.encode(),
            "app_memory_percentiles.anon.d01.csv": noise,
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file; a test sets what the file is, whether ranges are known, and where the line is cut."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.with_ranges, self.cut_after, self.ranges = archive(), True, None, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{AZURE2019_ARCHIVE}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        size = len(server.content)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.with_ranges else 0
        if self.path != f"/{AZURE2019_ARCHIVE}":
            self.send_error(404)
            return
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.cut_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_only_the_invocations_are_unpacked_and_a_second_call_fetches_nothing(server: Server, tmp_path: Path) -> None:
    seen = []
    folder = tmp_path / "deep" / "data"
    files = fetch_azure2019(server.url, folder, lambda done, total: seen.append((done, total)))
    assert files == [folder / DAY_1, folder / DAY_2]
    assert seen[-1] == (len(server.content), len(server.content))
    assert {path.name for path in folder.iterdir()} == {
        DAY_1, DAY_2, AZURE2019_ARCHIVE, f"{AZURE2019_ARCHIVE}.sha256", ".complete",
    }  # fmt: skip
    assert fetch_azure2019(server.url, folder) == files
    assert len(server.ranges) == 1
    assert Azure2019(slo_ms=36, path=str(folder)).minute_counts(0).tolist() == [1, 3]


@pytest.mark.parametrize("with_ranges", [True, False])
def test_a_transfer_that_broke_off_goes_on_where_it_stopped_if_the_server_can(
    server: Server, tmp_path: Path, with_ranges: bool
) -> None:
    server.cut_after, server.with_ranges = 150_000, with_ranges
    with pytest.raises(FetchError, match=r"run it again to go on, or get .* by hand"):
        fetch_azure2019(server.url, tmp_path)
    part = tmp_path / f"{AZURE2019_ARCHIVE}.part"
    arrived = part.stat().st_size
    assert part.read_bytes() == server.content[:arrived]
    assert 150_000 - (1 << 16) <= arrived <= 150_000
    server.cut_after = None
    assert len(fetch_azure2019(server.url, tmp_path)) == 2
    assert server.ranges == [None, f"bytes={arrived}-"]
    assert (tmp_path / AZURE2019_ARCHIVE).read_bytes() == server.content
    assert not part.exists()


def test_a_part_that_is_whole_is_taken_and_one_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(server.content)
    download(server.url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.content
    part.write_bytes(server.content + b"x")
    with pytest.raises(DataError, match="differs from the partial download"):
        download(server.url, tmp_path / "a")
    assert not part.exists()


def test_another_archive_than_the_first_is_refused(server: Server, tmp_path: Path) -> None:
    fetch_azure2019(server.url, tmp_path)
    for name in (AZURE2019_ARCHIVE, ".complete"):
        (tmp_path / name).unlink()
    server.content = archive(invocations=4)
    with pytest.raises(DataError, match=r"SHA-256 mismatch .*as when it was first seen; delete .*accept the new one"):
        fetch_azure2019(server.url, tmp_path)
    (tmp_path / f"{AZURE2019_ARCHIVE}.sha256").unlink()
    fetch_azure2019(server.url, tmp_path)
    assert Azure2019(slo_ms=36, path=str(tmp_path)).minute_counts(0).tolist() == [1, 4]


def test_a_damaged_archive_is_refused_and_not_recorded(tmp_path: Path) -> None:
    for content, message in (
        (archive()[:100_000], "is damaged"),
        (b"no archive", "is damaged"),
        (b"", "is damaged"),
    ):
        (tmp_path / AZURE2019_ARCHIVE).write_bytes(content)
        with pytest.raises(DataError, match=message):
            fetch_azure2019("http://unused", tmp_path)
        assert not (tmp_path / f"{AZURE2019_ARCHIVE}.sha256").exists()


def test_an_archive_with_something_else_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / AZURE2019_ARCHIVE, "w:xz") as tar:
        tar.addfile(tarfile.TarInfo("README"))
    with pytest.raises(DataError, match="contains no invocation files"):
        fetch_azure2019("http://unused", tmp_path)


def test_an_archive_put_there_by_hand_is_used(tmp_path: Path) -> None:
    (tmp_path / AZURE2019_ARCHIVE).write_bytes(archive())
    assert len(fetch_azure2019("http://unused", tmp_path)) == 2


def test_a_host_out_of_reach_and_a_wrong_address_are_said_plainly(server: Server, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    by_hand = f"get {AZURE2019_ARCHIVE} by hand and put it at {tmp_path / AZURE2019_ARCHIVE}"
    with pytest.raises(FetchError, match=r"can't be fetched \(ConnectionError\)") as unreachable:
        fetch_azure2019(f"http://127.0.0.1:{port}/x", tmp_path)
    assert str(unreachable.value).endswith(by_hand)
    with pytest.raises(FetchError, match=r"can't be fetched \(HTTP 404 Not Found\)"):
        fetch_azure2019(f"{server.url}x", tmp_path)


def test_address_and_folder_have_defaults(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSIM_AZURE2019_URL", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = fetch_azure2019()
    assert files[0] == tmp_path / "ssim" / "azure2019" / DAY_1 == Azure2019(slo_ms=36).inputs()[0]


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written"):
        fetch_azure2019("http://unused", tmp_path / "file")
