"""Stored results: `<results>/<job>/<run id>/` with the files of a run and its manifest, and the index `job.json`.

The manifest is written last of all: a run with a manifest is complete. A short run is written to a sibling folder,
which is then renamed; a training writes step by step into the folder of the run, so that it can be resumed. A run
that has no file but its manifest is a line of `manifests.jsonl`: a folder for each takes longer than a short run. One
process at a time writes to a job's folder; the system lifts that lock however the process ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from sim.base.errors import SsimError, StoreError
from sim.base.whole_file import append_line, translate_os_errors, whole_file, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence
    from pathlib import Path

FAILED = "failed"
"""The folder with a file for each run that failed, and why."""

INDEX = "job.json"

MANIFEST = "manifest.json"
MANIFESTS = "manifests.jsonl"
"""A line for each run that has no file but its manifest; of several lines of one run the last one counts."""

_PARTS = ("identity", "summary", "outputs", "circumstances")
"""The sections of a manifest, each a mapping."""

_BEGIN, _AFTER_ID = b'{"run":"', b'",'
"""What stands around the id at the begin of a line, which is the manifest with one more key."""

RUN_AGAIN = "run it again: damaged results are computed again"


@dataclass(frozen=True, slots=True)
class Store:
    """The stored results of one job.

    Attributes:
        folder: `<results>/<job>`.
    """

    folder: Path

    @contextmanager
    def writing(self) -> Generator[None]:
        """Hold the folder for writing.

        Raises:
            StoreError: Another process holds it, or it can't be made.
        """
        with translate_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("a+")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = f"process {lock.read().strip() or '?'}"
                right = "wait for it to end, or give another folder with --out"
                raise StoreError(str(self.folder), "another run is writing here", holder, right) from error
            with translate_os_errors(self.folder):
                lock.truncate(0)
                os.write(lock.fileno(), str(os.getpid()).encode())  # not kept back to fail again when it is closed
            try:
                self._clear()  # files of a killed process
                yield
            finally:
                self._clear()  # files of an interrupted run
                lock.truncate(0)

    def writer(self) -> int | None:
        """Return the process that writes here, or None."""
        process = None
        try:
            with (self.folder / ".lock").open(encoding="ascii") as lock:
                process = int(lock.read())  # where nothing stands, no lock is tried that somebody may be about to take
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return process
        except (OSError, ValueError):
            pass
        return None  # the number is that of a process that was killed

    def _clear(self) -> None:
        for left in [*self.folder.glob(".*.tmp"), *self.folder.glob("seed*/.*.tmp")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return the manifest of a complete run, or None where there is none.

        Raises:
            StoreError: The manifest is damaged, or a file that it names is not there as it was written.
        """
        path = self.folder / run_id / MANIFEST
        if path.exists():
            found = _read_json(path, "manifest/1", _PARTS)
        elif line := _find_line(self.folder / MANIFESTS, run_id):
            path = self.folder / MANIFESTS
            found = _json_object(line, f"{path}, run {run_id}", "manifest/1", _PARTS)
        else:
            return None
        for part in _PARTS:
            if not isinstance(found[part], dict) or (part == "circumstances" and "wall_s" not in found[part]):
                raise StoreError(str(path), "is damaged", part, RUN_AGAIN)
        for name, facts in found["outputs"].items():
            file = path.with_name(name)
            if not file.is_file() or file.stat().st_size != facts.get("bytes", file.stat().st_size):
                raise StoreError(str(file), "is damaged or missing", "", RUN_AGAIN)
        return found

    def runs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the rows of the index whose runs are complete, each with the manifest of its run.

        Raises:
            StoreError: Nothing is stored, or a result is damaged.
        """
        found = ((row, self.manifest(row["id"])) for row in self.index()["runs"])
        return [(row, manifest) for row, manifest in found if manifest is not None]

    def has(self, run_id: str, outputs: Collection[str] = ()) -> bool:
        """Return whether a run is complete and undamaged, with at least these outputs."""
        try:
            manifest = self.manifest(run_id)
        except StoreError:
            return False  # it is computed again, and replaced
        return manifest is not None and all(name in manifest["outputs"] for name in outputs)

    def finish(
        self,
        run_id: str,
        identity: dict[str, Any],
        summary: dict[str, Any],
        fixed: Sequence[str],
        growing: Sequence[str],
        circumstances: dict[str, Any],
    ) -> None:
        """Make a run complete that wrote its files, step by step, into its folder.

        Args:
            run_id: Its id.
            identity: All that decided the result.
            summary: The figures of the run.
            fixed: Its files that nothing changes any more.
            growing: Its files that later commands add to: their sizes are not held against the manifest.
            circumstances: Time, versions, machine.

        Raises:
            StoreError: A file is missing, the disk is full, or the folder can't be written.
        """
        folder = self.folder / run_id
        for name in (*fixed, *growing):
            if not (folder / name).is_file():
                raise StoreError(str(folder / name), "is missing", "", RUN_AGAIN)
        outputs: dict[str, Any] = {name: {"bytes": (folder / name).stat().st_size} for name in fixed}
        outputs |= {name: {} for name in growing}
        with whole_file(folder / MANIFEST) as path:
            path.write_bytes(manifest_of(identity, summary, outputs, circumstances, indent=1))
        (self.folder / FAILED / f"{run_id}.json").unlink(missing_ok=True)

    def add(self, run_id: str, manifest: bytes) -> None:
        """Store a run that has no file but its manifest; several threads or processes may do so at once.

        A run that is there already is replaced.

        Args:
            run_id: Its id.
            manifest: What `manifest_of` returns.

        Raises:
            StoreError: The disk is full, or the file can't be written; nothing half written stays.
        """
        line = _BEGIN + run_id.encode() + _AFTER_ID + manifest.removeprefix(b"{")
        append_line(self.folder / MANIFESTS, line)
        target = self.folder / run_id
        with translate_os_errors(target):
            if target.exists():
                replaced = target.with_name(f".{run_id}.replaced.tmp")
                target.rename(replaced)
                shutil.rmtree(replaced, ignore_errors=True)
        (self.folder / FAILED / f"{run_id}.json").unlink(missing_ok=True)

    def forget(self, run_id: str) -> None:
        """Delete all files of a run, complete or not.

        Raises:
            StoreError: A file can't be deleted.
        """
        with translate_os_errors(self.folder / run_id):
            if (self.folder / run_id).exists():
                shutil.rmtree(self.folder / run_id)

    def files(self, run_id: str) -> dict[str, bytes]:
        """Return the files of a complete run by name, its manifest among them."""
        if line := _find_line(self.folder / MANIFESTS, run_id):
            return {MANIFEST: line}
        return {path.name: path.read_bytes() for path in (self.folder / run_id).iterdir()}

    def take(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Store a run as `files` of another store, on another machine, returned it.

        Raises:
            StoreError: The disk is full, or the folder can't be written; nothing half written stays.
        """
        if set(files) == {MANIFEST}:
            self.add(run_id, files[MANIFEST])
            return
        with self.replacing(run_id) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)

    @contextmanager
    def replacing(self, run_id: str) -> Generator[Path]:
        """Give a folder that becomes that of a run, whole or not at all.

        Raises:
            StoreError: The disk is full, or the folder can't be written; nothing half written stays.
        """
        target = self.folder / run_id
        temporary = self.folder / f".{run_id}.{os.getpid()}.tmp"
        with translate_os_errors(target):
            try:
                temporary.mkdir(parents=True)
                yield temporary
                _replace_folder(temporary, target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            (self.folder / FAILED / f"{run_id}.json").unlink(missing_ok=True)

    def put_failure(self, run_id: str, error: SsimError) -> None:
        """Note why a run failed, until it succeeds.

        Raises:
            StoreError: The disk is full, or the folder can't be written.
        """
        write_text(
            self.folder / FAILED / f"{run_id}.json", json.dumps({"schema": "failure/1", "error": str(error)}) + "\n"
        )

    def failure(self, run_id: str) -> str | None:
        """Return why a run failed when it was last tried, or None.

        Raises:
            StoreError: The note is damaged.
        """
        path = self.folder / FAILED / f"{run_id}.json"
        return str(_read_json(path, "failure/1", ("error",))["error"]) if path.exists() else None

    @contextmanager
    def shared(self) -> Generator[Path]:
        """Give a folder for files that concurrent runs share."""
        path = self.folder / ".shared.tmp"
        with translate_os_errors(path):
            path.mkdir(exist_ok=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def write_index(self, index: dict[str, Any]) -> None:
        """Note which runs make up the job now; failures of other runs are forgotten.

        Raises:
            StoreError: The disk is full, or the folder can't be written.
        """
        with whole_file(self.folder / INDEX) as path:
            path.write_bytes(to_json(index, indent=1, fallback=str) + b"\n")
        ids = {run["id"] for run in index["runs"]}
        for path in (self.folder / FAILED).glob("*.json"):
            if path.stem not in ids:
                path.unlink(missing_ok=True)

    def index(self) -> dict[str, Any]:
        """Return which runs make up the job.

        Raises:
            StoreError: Nothing is stored here.
        """
        path = self.folder / INDEX
        if not path.exists():
            inner = [other.parent.name for other in self.folder.glob(f"*/{INDEX}")]
            right = f"run `ssim run` first (looked for {path})"
            if (self.folder / "experiment.json").exists():
                right = "an earlier version of the toolkit stored them: run again, or give another folder with --out"
            if inner:
                right = f"there is {', '.join(f'{self.folder.name}/{name}' for name in inner)}"
            raise StoreError(str(self.folder), "no results are stored here", "", right)
        return _read_json(path, "index/1", ("name", "job", "swept", "runs"))


@dataclass(frozen=True, slots=True)
class Snapshot(Store):
    """Stored results of which each manifest is read once, however often it is asked for."""

    manifests: dict[str, dict[str, Any] | None] = field(default_factory=dict[str, Any], compare=False)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return the manifest of a run as it was when it was first asked for; errors are those of `Store.manifest`."""
        if run_id not in self.manifests:
            self.manifests[run_id] = Store.manifest(self, run_id)
        return self.manifests[run_id]


def _replace_folder(fresh: Path, target: Path) -> None:
    """Give a folder the name of another, which is moved away, not emptied: at no time is there half a run."""
    try:
        fresh.rename(target)
    except OSError:
        if not target.exists():
            raise
        replaced = fresh.with_suffix(".replaced.tmp")
        target.rename(replaced)
        fresh.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)


def _find_line(path: Path, run_id: str) -> bytes | None:
    """Return the manifest of a run in a file of lines; None where there is none, or no such file."""
    try:
        found = path.stat()
        return _lines_of(path, found.st_mtime_ns, found.st_size).get(run_id.encode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(str(path), "can't be read", str(error)) from error


@lru_cache(maxsize=4)
def _lines_of(path: Path, _changed_ns: int, _size: int) -> dict[bytes, bytes]:
    """Return the manifests in a file of lines by run, as they are since its last change."""
    found: dict[bytes, bytes] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was not written to its end
        run_id, _, manifest = line.removeprefix(_BEGIN).partition(_AFTER_ID)
        found[run_id] = b"{" + manifest
    return found


def _read_json(path: Path, schema: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StoreError(str(path), "is damaged", str(error), RUN_AGAIN) from error
    return _json_object(text, str(path), schema, keys)


def _json_object(text: bytes, location: str, schema: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise StoreError(location, "is damaged", str(error), RUN_AGAIN) from error
    if not isinstance(found, dict) or found.get("schema") != schema or not all(key in found for key in keys):
        raise StoreError(location, "is damaged, or of another version", "", RUN_AGAIN)
    return found


def manifest_of(
    identity: dict[str, Any],
    summary: dict[str, Any],
    outputs: dict[str, Any],
    circumstances: dict[str, Any],
    *,
    indent: int | None = None,
    **more: Any,
) -> bytes:
    """Return the manifest of a run as JSON.

    Args:
        identity: All that decided the result.
        summary: The figures of the run.
        outputs: Facts about each file of the run: at least its size in bytes.
        circumstances: Time, versions, machine.
        indent: Spaces by which a level is indented; None for a single line.
        more: Further entries of the kind of run.
    """
    parts = {"identity": identity, "summary": summary, "outputs": outputs, "circumstances": circumstances}
    # json's own takes ten times as long.
    text = to_json({"schema": "manifest/1", **parts, **more}, indent=indent, fallback=str)
    return text if indent is None else text + b"\n"
