"""Data sets that may be used but not shipped, fetched once into the user's cache: Azure Functions 2019, Fashion-MNIST.

A transfer that was interrupted goes on where it stopped. What arrived is held against the checksum that was recorded
when the archive was first seen: its publisher states none.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from sim.base.errors import DataError, FetchError, StoreError
from sim.base.whole_file import translate_os_errors
from sim.traces.azure_files import azure2019_folder
from sim.traces.reading import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int | None], None]

AZURE2019_ARCHIVE = "azurefunctions-dataset2019.tar.xz"
AZURE2019_URL = (
    "https://azurepublicdatasettraces.blob.core.windows.net/azurepublicdatasetv2/azurefunctions_dataset2019/"
    + AZURE2019_ARCHIVE
)
"""Where the data set was in 2024 (Azure/AzurePublicDataset, AzureFunctionsDataset2019.md); it has moved before."""

FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""Where the files of Fashion-MNIST are, as its authors say (github.com/zalandoresearch/fashion-mnist)."""

URL_VARIABLE = "SSIM_AZURE2019_URL"
"""The environment variable that names another place."""

_DAY_FILE = re.compile(r"invocations_per_function_md\.anon\.d\d\d\.csv")
_BLOCK_BYTES = 1 << 16
"""As much as an interruption may lose: requests drops a block that it could not fill."""

_TIMEOUT_S = (10, 60)  # to connect, and between two pieces


def fetch_azure2019(url: str | None = None, folder: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Fetch Azure Functions 2019 and return the files of invocations, unpacked.

    Files that are there already are left as they are, and nothing is fetched for them. An archive that is in the folder
    already, put there by hand, is used.

    Args:
        url: Where the archive is; None means $SSIM_AZURE2019_URL or the publisher.
        folder: Where to put the files; None means where the source `azure2019` looks for them.
        progress: Called with the bytes that have arrived and the bytes in all, if known.

    Raises:
        FetchError: The host is out of reach, or the transfer breaks off.
        DataError: The archive is damaged or another than the one seen first.
        StoreError: The files can't be written.
    """
    url = url or os.environ.get(URL_VARIABLE) or AZURE2019_URL
    folder = folder or azure2019_folder()
    complete = folder / ".complete"
    if complete.exists() and (files := sorted(path for path in folder.iterdir() if _DAY_FILE.fullmatch(path.name))):
        return files
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / AZURE2019_ARCHIVE
        if not archive.exists():
            download(url, archive, progress)
        # What can't be unpacked is not recorded as the right archive.
        found = check_sha256(archive)
        files = unpack(archive, folder)
        _record_of(archive).write_text(f"{found}  {archive.name}\n", encoding="ascii")
        complete.touch()
    except OSError as error:
        raise StoreError(str(folder), "can't be written", error.strerror or str(error)) from error
    return files


def fetch_fashion_mnist(
    url: str | None = None, folder: Path | None = None, progress: Progress | None = None
) -> list[Path]:
    """Fetch the four files of Fashion-MNIST and return them; those that are there already are not fetched.

    Args:
        url: The folder that they are in; None for that of the authors.
        folder: Where to put them; None for where the source `fashion_mnist` looks for them.
        progress: As in `fetch_azure2019`, for each file.

    Raises:
        FetchError: The host is out of reach, or the transfer breaks off.
        DataError: A file is damaged or another than the published one.
        StoreError: The files can't be written.
    """
    from supernet.data.fashion_mnist import SHA256, fetched_folder, read_checked

    folder = folder or fetched_folder()
    files = [folder / f"{name}.gz" for name in SHA256]
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not file.exists():
                download((url or FASHION_MNIST_URL).rstrip("/") + f"/{file.name}", file, progress)
            read_checked(folder, file.stem)
    return files


def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """Download a file, going on where an earlier try stopped; the file is there when it is complete.

    What has arrived stays in `NAME.part` beside it. A server that can't go on in the middle sends all again.

    Raises:
        FetchError: The host is out of reach, answers with an error, or the transfer breaks off.
        DataError: The file is another than the one that had begun to arrive.
    """
    part = target.with_name(f"{target.name}.part")
    start = part.stat().st_size if part.exists() else 0
    by_hand = f"run it again to go on, or get {target.name} by hand and put it at {target}"
    try:
        with requests.get(
            url,
            # Packed on the way, the bytes could not be counted.
            headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {}),
            stream=True,
            timeout=_TIMEOUT_S,
        ) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing comes after the part: it is whole, or of another file.
                total = _total_bytes(answer)
                if total != start:
                    part.unlink()
                    raise DataError(url, "differs from the partial download", f"{start} bytes", by_hand)
            else:
                answer.raise_for_status()
                if answer.status_code != requests.codes.partial_content:
                    start = 0
                total = _total_bytes(answer)
                _receive(answer, part, start, total, progress)
    except requests.RequestException as error:
        raise FetchError(url, "can't be fetched", _reason(error), by_hand) from error
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise FetchError(url, "the download broke off", f"{arrived} of {total} bytes", by_hand)
    part.replace(target)


def _receive(answer: requests.Response, part: Path, start: int, total: int | None, progress: Progress | None) -> None:
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        for block in answer.iter_content(_BLOCK_BYTES):
            file.write(block)
            start += len(block)
            if progress is not None:
                progress(start, total)


def _total_bytes(answer: requests.Response) -> int | None:
    """Return the size of the whole file, from `Content-Range: bytes 5-9/10` or `Content-Length: 10`."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
    return int(whole) if whole.isdecimal() else None


def _reason(error: requests.RequestException) -> str:
    """Return what went wrong in a few words; the text of a connection error is a chain of wrapped objects."""
    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    return type(error).__name__


def check_sha256(path: Path) -> str:
    """Return the sha256 of a file, after holding it against the one recorded beside it, if there is one.

    Raises:
        DataError: The file is another than the one seen first.
    """
    record = _record_of(path)
    found = sha256_of(path)
    known = record.read_text(encoding="ascii").split()[0] if record.exists() else found
    if known != found:
        right = f"{known} as when it was first seen; delete {path} to fetch it again, {record} to accept the new one"
        raise DataError(str(path), "SHA-256 mismatch", found, right)
    return found


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack the files of invocations, and nothing else, and return them.

    Raises:
        DataError: The archive is damaged, or has no such file.
    """
    files: list[Path] = []
    try:
        with tarfile.open(archive, "r:*") as members:
            for member in members:
                # Only the bare name is used: a member can't leave the folder.
                name = Path(member.name).name
                content = members.extractfile(member) if member.isfile() and _DAY_FILE.fullmatch(name) else None
                if content is not None:
                    unfinished = folder / f".{name}.part"
                    with content, unfinished.open("wb") as file:
                        shutil.copyfileobj(content, file, _BLOCK_BYTES)
                    files.append(unfinished.replace(folder / name))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(str(archive), "is damaged", str(error), "delete it and fetch it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(str(archive), "is damaged", str(error), "delete it and fetch it again") from error
    if not files:
        raise DataError(str(archive), "contains no invocation files", "", "invocations_per_function_md.anon.dNN.csv")
    return sorted(files)
