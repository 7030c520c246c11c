"""Data of its own for each client: `ref` of a dataset names a file, a folder, or a data source."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated.partition import Iid
from sim.base.errors import SsimError
from ssim.files.plugins import Issue, build, find_class
from ssim.jobs.federated.unused import dataset_place
from ssim.jobs.training.parts import is_regression

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssim.files.topology_file import Topology
    from supernet.data.source import Source


def own_sources(
    topology: Topology, description: Mapping[str, Any], source: Any, partition: Any, folder: Path
) -> tuple[dict[str, Source], list[Issue]]:
    """Return the data source of each client that has data of its own, by the id of the dataset; and what is wrong.

    Args:
        topology: The topology.
        description: The content of its file.
        source: The source of `data`, of which `ref` replaces the path.
        partition: Of the examples among clients without data of their own.
        folder: Where files and modules are looked for.
    """
    datasets = [worker.dataset for worker in topology.plan.workers if worker.dataset is not None]
    own: dict[str, Source] = {}
    issues: list[Issue] = []
    for data in datasets if any(data.ref for data in datasets) else ():
        place = (*dataset_place(data, description), "ref")
        if not data.ref:
            issues.append(
                Issue(place[:-1], "has no ref, and others have", repr(data.id), "give all datasets one, or none")
            )
        elif not isinstance(partition, Iid):
            problem = f"not used with partition {type(partition).__name__}, which deals out `data`"
            issues.append(Issue(place, problem, repr(data.ref), "remove ref, or partition"))
        else:
            found, wrong = _source(data.ref, source, folder)
            issues += [replace(issue, place=place) for issue in wrong]
            if found is not None:
                own[data.id] = found
    return own, issues


def _source(ref: str, source: Any, folder: Path) -> tuple[Any, list[Issue]]:
    """Return the data source that a `ref` stands for, or what is wrong with it."""
    try:
        if ":" in ref:
            found, issues = build(find_class(ref, {}, "data source", folder), {})
            return (None, issues) if found is None else (found.located(folder), [])
        if "path" not in {field.name for field in fields(source)}:
            problem = f"not used: the data source {type(source).__name__} has no path"
            return None, [Issue((), problem, repr(ref), "a source that reads a path, or module:Class")]
        found = replace(source, path=ref).located(folder)
    except SsimError as error:
        return None, [Issue((), error.problem, error.value, error.hint, cause=error)]
    problems, hints = [], []  # one issue for both, since of each place one is told
    if not Path(found.path).exists():
        problems.append("file not found")
        hints.append("a path relative to the file of the training")
    shipped_classes = type(source).__module__.startswith("supernet.") and not is_regression(source)
    if shipped_classes and getattr(source, "classes", None) is None:
        problems.append("each file would number its own classes")
        hints.append("csv with classes: its labels in order, a source of your own with a path, or module:Class")
    if problems:
        return None, [Issue((), ", and ".join(problems), repr(ref), "; ".join(hints))]
    return found, []
