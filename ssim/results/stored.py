"""Which jobs and runs are stored in a folder of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.base.errors import StoreError
from ssim.results.store import INDEX, Store

if TYPE_CHECKING:
    from pathlib import Path


def stored_names(folder: Path) -> list[str]:
    """Return the names of the jobs that are stored in a folder of results, in order."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(INDEX))


def listed(folder: Path) -> str:
    """Return the names of the stored jobs as text, for a message."""
    names = ", ".join(stored_names(folder))
    return f"stored in {folder}: {names}" if names else f"nothing is stored in {folder}; `ssim run FILE` stores results"


def stored(folder: Path, name: str) -> Store:
    """Return the stored results of an experiment.

    Raises:
        StoreError: Nothing is stored under this name; lists the stored jobs.
    """
    if not (folder / name).is_dir():
        raise StoreError(str(folder), "no stored results of this name", repr(name), listed(folder))
    return Store(folder / name)


def stored_run(folder: Path, name: str) -> tuple[Store, str]:
    """Return the stored results of a job, and the id of one of its runs.

    Args:
        folder: The folder of results.
        name: A job that has one run; or `JOB/RUN`, RUN being an id, its beginning, a policy's name, or POLICY@SEED.

    Raises:
        StoreError: There is no such run, or several; says which there are.
    """
    is_job = (folder / name / INDEX).is_file()
    job, _, wanted = (name, "", "") if is_job else name.rpartition("/")
    store = stored(folder, job or name)
    runs = store.index()["runs"]
    found = [run for run in runs if run["id"].startswith(wanted) or wanted in _names(run)]
    if len(found) == 1:
        return store, found[0]["id"]
    shown = [f"{job}/{run['id']} ({run['label']})" for run in (found or runs)]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    what = f"names {len(found)} runs" if found else "no run of this name"
    raise StoreError(str(folder), what, repr(name), f"one of {', '.join(shown[:_SHOWN])}{more}")


def _names(run: dict[str, Any]) -> set[str]:
    """Return what names a run: the label of its policy, with its parameters and without, and either with its seed."""
    labels = {run["label"], run["label"].partition("(")[0]}
    return labels | {f"{label}@{run['seed']}" for label in labels}


_SHOWN = 8
