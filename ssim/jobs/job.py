"""Jobs: an experiment, a training, a federated training and a profile are one thing.

A file has a schema, which names its `Kind`. Its content becomes *points*, one for each combination of the values that
it sweeps, and each point becomes *runs*, one for each seed (and, in an experiment, each policy). A run is a frozen
value: it has an identity, its id is a hash of the identity, and it stores its result under this id.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from sim.base.errors import SpecError, SsimError, raised
from ssim.files.plugins import sections
from ssim.jobs.identity import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ssim.files.model import JobSpec
    from ssim.files.plugins import Issue, Slot
    from ssim.files.yaml_file import YamlFile
    from ssim.results.store import Store

    AnyRun: TypeAlias = "Run[Any, Any]"
    Plugs = dict[tuple[str | int, ...], Any]
    Watch = Callable[[Any, Any], None]

Spec = TypeVar("Spec")
Parts = TypeVar("Parts")

KINDS = {
    "experiment/1": "ssim.jobs.experiment.kind",
    "training/1": "ssim.jobs.training.kind",
    "federated/1": "ssim.jobs.federated.kind",
    "profile/1": "ssim.jobs.profile.kind",
}
"""The module that holds the `KIND` of files of a schema."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The traits of a kind of file.

    Attributes:
        model: The model of the whole file.
        slots: Where plug-ins are named.
        short: Sections that may be a string, by dotted key, and the key that the string then stands for.
        filled_in: Defaults of keys that a file leaves out.
        not_swept: Keys that no sweep may set, beyond those of every file.
        assemble: Returns the shared parts of a point's runs, from the plug-ins at their places, and issues where these
            do not fit each other.
        runs: Returns the runs of a point that have a seed.
        check_others: Returns what is wrong with other files that a point names, where other faults prevent `assemble`.
    """

    model: type[JobSpec]
    slots: tuple[Slot, ...]
    assemble: Callable[[Point, Plugs, YamlFile | None], tuple[Any, list[Issue]]]
    runs: Callable[[Point, int], Iterable[AnyRun]]
    short: Mapping[str, str] = field(default_factory=dict[str, str])
    filled_in: Mapping[str, Any] = field(default_factory=dict[str, Any])
    not_swept: frozenset[str] = frozenset()
    check_others: Callable[[Point, Plugs, YamlFile | None], list[Issue]] = field(
        default=lambda _point, _plugs, _file: []
    )

    def written_out(self, content: Any) -> Any:
        """Return a file's content with its short forms written out: `slackfit` is `{use: slackfit}`."""
        if not isinstance(content, dict):
            return content
        full = {**copy.deepcopy(dict(self.filled_in)), **content}  # who gets it may put something in
        for key, inner in self.short.items():
            full = _written_out(full, key, inner)
        for slot in self.slots:
            if not slot.names:
                continue
            if slot.place[-1] == "*":
                first = slot.place[0]
                if isinstance(full.get(first), list):
                    full[first] = [{slot.key: item} if isinstance(item, str) else item for item in full[first]]
            elif "*" in slot.place:
                first, _, key = slot.place
                if isinstance(full.get(first), list):
                    full[first] = [_written_out(item, key, slot.key) for item in full[first]]
            else:
                full = _written_out(full, slot.place[0], slot.key)
        return full


def _written_out(section: Any, key: str, inner: str) -> Any:
    """Return a section, or a list of sections, in which a text at a dotted key stands below another key."""
    if isinstance(section, list):
        return [_written_out(item, key, inner) for item in section]
    first, _, rest = key.partition(".")
    if rest and isinstance(section, dict):
        return {**section, first: _written_out(section[first], rest, inner)} if first in section else section
    if isinstance(section, dict) and isinstance(section.get(key), str):
        return {**section, key: {inner: section[key]}}
    return section


def kind_of(schema: str) -> Kind:
    """Return the kind of files of a schema; its module is imported now, with all that the kind needs."""
    kind: Kind = import_module(KINDS[schema]).KIND
    return kind


@dataclass(frozen=True)
class Point:
    """One point of a sweep: the content of the file there.

    What is built from the content is built once for all runs of the point, and again where a point arrives that was
    sent to another process or machine: there, modules and data may lie elsewhere.

    Attributes:
        schema: The schema of the file.
        content: The content of the file at this point, its short forms written out.
        folder: The folder of the file, where modules and data are looked for.
        swept: The values of this point, by dotted key.
    """

    schema: str
    content: dict[str, Any]
    folder: Path
    swept: dict[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def kind(self) -> Kind:
        """The kind of the file."""
        return kind_of(self.schema)

    @cached_property
    def spec(self) -> Any:
        """The content, by the model of its kind."""
        return self.kind.model.model_validate_json(json.dumps(self.content, default=str), strict=True)

    @cached_property
    def parts(self) -> Any:
        """What the runs of this point share, as `Kind.assemble` built it.

        Raises:
            SpecError: Something does not fit.
        """
        plugs, issues = plugged_in(self)
        if not issues:
            parts, issues = self.kind.assemble(self, plugs, None)
            if not issues:
                return parts
        place = ".".join(map(str, issues[0].place))
        raise SpecError(place, issues[0].problem, issues[0].value, issues[0].hint)

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def plugged_in(point: Point) -> tuple[Plugs, list[Issue]]:
    """Return the plug-ins of a point by their places, and their issues; the model reports missing keys."""
    plugs: Plugs = {}
    issues: list[Issue] = []
    for slot in point.kind.slots:
        for place, section in sections(point.content, slot.place):
            if isinstance(section, dict):
                plugs[place], wrong = slot.build(section, point.folder)
                issues += [issue.under(*place) for issue in wrong]
    return plugs, issues


@dataclass(frozen=True)
class Run(ABC, Generic[Spec, Parts]):
    """One run of a job: of a kind whose files have a model `Spec`, and whose points are built into `Parts`.

    Attributes:
        point: The point that it belongs to.
        seed: Its seed.
    """

    point: Point
    seed: int

    @cached_property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the result, inputs and own code by their hashes: equal for equal runs, on any machine."""

    @cached_property
    def id(self) -> str:
        """The seed, and the first 12 hex digits of the SHA-256 of the identity: the folder of the result."""
        return f"seed{self.seed}-{hash_of(self.identity)[:12]}"

    @property
    @abstractmethod
    def label(self) -> str:
        """What tables and messages call it, apart from seed and swept values."""

    @property
    def spec(self) -> Spec:
        """The file at its point."""
        found: Spec = self.point.spec
        return found

    @property
    def parts(self) -> Parts:
        """What the runs of its point share."""
        found: Parts = self.point.parts
        return found

    @property
    def swept(self) -> dict[str, Any]:
        """The values of its point of the sweep, by dotted key."""
        return self.point.swept

    @property
    def name(self) -> str:
        """The name of the job."""
        return str(self.point.content["name"])

    def row(self) -> dict[str, Any]:
        """Return the run's row in the index of the job."""
        return {"id": self.id, "label": self.label, "seed": self.seed, "swept": self.swept}

    def __getstate__(self) -> dict[str, Any]:
        known = {item.name for item in dataclasses.fields(self)} | {"identity", "id"}
        return {name: value for name, value in self.__dict__.items() if name in known}  # the rest is made where it runs

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __str__(self) -> str:
        values = "".join(f", {key} = {value}" for key, value in self.swept.items())
        return f"{self.label}, seed {self.seed}{values}"

    @abstractmethod
    def files(self) -> set[Path]:
        """Return the files it is made from that travel to another machine: below its folder, or relative to it."""

    def is_stored(self, store: Store) -> bool:
        """Return whether its result is stored, complete and undamaged, with all that the file asks to be kept."""
        return store.has(self.id)

    def forget(self, store: Store) -> None:
        """Delete the files of the run if it would be resumed from them; a run that is replaced as a whole keeps them.

        Raises:
            StoreError: A file can't be deleted.
        """
        del store

    def is_worth_a_process(self) -> bool:
        """Return whether it takes longer than a process takes to start."""
        return True

    @classmethod
    def tasks(
        cls, runs: Sequence[AnyRun], options: ExecutionOptions, *, ahead: int, shared: Path | None
    ) -> Iterator[Task | RunOutcome]:
        """Yield runs of this class as tasks, or the outcome of one that can't be done.

        Args:
            runs: The runs.
            options: How they are done.
            ahead: In how many calls as many runs are to come: what is slow to start may pay for all.
            shared: A folder for what runs in several processes share; None where one process does all.
        """
        del ahead, shared
        yield from (Task(run, how=options) for run in runs)

    @abstractmethod
    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Do the run and store its result.

        Args:
            store: Where the result goes.
            how: What decides nothing but how the run is done; `Task.how`.
            watch: Called with the run and each of its steps, where somebody watches.

        Raises:
            SsimError: The run failed.
        """

    def failed(self, error: BaseException) -> SsimError:
        """Return the error for an exception of a user's own code."""
        return SsimError(self.point.schema.partition("/")[0], *raised(error))


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """How runs are done. The duration depends on it; of results, no more than the rounding of trainings.

    Attributes:
        device: Where torch computes: `cpu`, `cuda`, `cuda:1`, ...
        threads: Threads of the CPU for each run; torch's choice if None.
        every_s: Seconds between two checkpoints of a training.
        processes: How many clients of a federated training in virtual time train at once.
        address: The Ray cluster of federated trainings with `engine: ray`; None for that of RAY_ADDRESS, or a new one.
        deployment: The file that says at which site of that cluster each worker runs; None for anywhere.
    """

    device: str = "cpu"
    threads: int | None = 1
    every_s: float = 30.0
    address: str | None = None
    deployment: Path | None = None
    processes: int = 1


DEFAULT_OPTIONS = ExecutionOptions()
"""On one thread of the CPU."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a run that has ended reports of itself.

    Attributes:
        queries: How many queries were replayed.
        note: A remark for the user, such as why this engine ran.
        warning: What went wrong on the way, though the run ended.
    """

    queries: int = 0
    note: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A run that is to be done.

    Attributes:
        run: The run.
        releases_lock: Whether it lets go of Python's lock for most of its time, so that threads are enough.
        how: What `Run.execute` takes.
    """

    run: AnyRun
    releases_lock: bool = False
    how: Any = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run that has ended, failed or not.

    Attributes:
        run: The run.
        completion: Its own report.
        error: Why it failed, or None.
        traceback: Where it failed, as text: an exception loses that on its way between processes.
    """

    run: AnyRun
    completion: Completion = field(default_factory=Completion)
    error: SsimError | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """The runs that a file asks for, checked and ready.

    Attributes:
        schema: The schema of the file.
        name: Its name, and that of its folder in the results.
        runs: Its runs: by point of the sweep, then by seed, so that neighbours share what they need.
        swept: The dotted keys that are swept.
        overrides: `key=value` as they were given.
        spec: The file by the model of its kind, at its first point.
        content: The file's content with overrides, for the record.
    """

    schema: str
    name: str
    runs: tuple[Any, ...]
    swept: tuple[str, ...]
    overrides: tuple[str, ...]
    spec: Any
    content: dict[str, Any]
