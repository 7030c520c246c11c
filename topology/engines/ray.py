"""Many machines: actors of Ray, each with the runtime of some workers. Ray delivers; the programs are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - fields are checked by their annotations
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from sim.base.errors import SpecError, SsimError
from sim.base.parameters import Positive, PositiveInt  # noqa: TC001 - fields are checked by their annotations
from topology.binding import bind
from topology.engine import Engine, RunSpec
from topology.engines.ray_actor import RunSettings, RuntimeActor, facts
from topology.engines.ray_cluster import ClusterHead, cluster, crash_reporter, lacking, nodes, options_of
from topology.engines.ray_watch import ActorWatch
from topology.sites import DeploymentSite, PlannedProcess, processes_at, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.plan import Plan
    from topology.report import RunReport

_START_TIMEOUT_S = 180.0
"""How long actors may take to start, in seconds."""
_CRASH = "ssim: ray: the cluster went away, and Ray ended this process; see `ray status`"
_RESTARTS = 3
"""How often Ray restarts the actor of a process that is lost."""


@dataclass(frozen=True, slots=True)
class RayEngine(Engine):
    """Runs plans on the Ray cluster that this process is connected to, on that of an address, or on one of its own.

    Workers of one machine share an actor; those of `default` are spread. Between actors messages are pickled by Ray,
    and arrays arrive read-only; within an actor messages are references.

    A process that is lost, with its machine or alone, ends its workers: the others go on without them. Ray restarts it,
    where its site allows. Workers whose program waits for work before it sends (`receives_first`) join again then.

    Attributes:
        actors: How many processes; None for one for each core of the cluster, at most one for each worker.
        default_timeout_s: How long a wait without a timeout of its own may take, in seconds.
        record: Whether the report holds spans.
        address: The cluster; None for that of RAY_ADDRESS, or else one that is started here.
        sites: Where the workers run; without any, they are spread over the cluster.
        files: What programs read or import from this machine's files, and find at the same place on all machines.
        count_pickled: Whether the report holds the bytes of messages between processes as they are pickled; for that
            they are pickled twice.
    """

    actors: PositiveInt | None = None
    default_timeout_s: Positive = 60.0
    record: bool = False
    address: str | None = None
    sites: tuple[DeploymentSite, ...] = ()
    files: tuple[Path, ...] = ()
    count_pickled: bool = False

    def __post_init__(self) -> None:
        Engine.__post_init__(self)
        if self.sites and self.actors is not None:
            raise SpecError("RayEngine.actors", "not used with sites", str(self.actors), "set processes of each site")

    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report.

        Raises:
            TagError: A program does not fit its role, or a worker has no site.
            SpecError: The cluster lacks what the processes need.
            SsimError: A program failed or waited too long, or the cluster can't be used.
        """
        bindings = bind(run.plan.tag, run.programs)  # errors are reported here rather than in an actor
        if self.sites:
            processes_at(run.plan, self.sites)
        with cluster(self.address, self.actors) as head, crash_reporter(_CRASH):
            processes = self.processes(run.plan)
            plain = None if run.checkpoints is None else replace(run.checkpoints, store=_nowhere, resume=None)
            spec = replace(run, programs=dict(run.programs), watch=None, checkpoints=plain)
            handles = started(processes, self.files)
            terms = (self.default_timeout_s, self.record, self.count_pickled)
            settings = ray.put(RunSettings(spec, processes, *terms))
            reactive = {role for role, binding in bindings.items() if binding.idle_channels}
            watch = ActorWatch(
                run.plan,
                settings,
                processes,
                handles,
                reactive,
                run.watch,
                self.files,
                ClusterHead(head),
                run.checkpoints,
                record=self.record,
            )
            try:
                report = watch.outcome()
            finally:
                end(handles)
        results = report.results
        report.results = {worker.id: results[worker.id] for worker in run.plan.workers if worker.id in results}
        return report

    def processes(self, plan: Plan) -> list[PlannedProcess]:
        """Return the processes of a plan on the cluster that this process is connected to."""
        if self.sites:
            return processes_at(plan, self.sites)
        cores = sum(node.resources.get("cpu", 0.0) for node in nodes())
        return spread(plan, plan.workers, max(1, self.actors or int(cores)))


def _nowhere(run: bytes) -> None:
    """Stand for where a run is stored, in other processes."""


def started(processes: Sequence[PlannedProcess], files: Sequence[Path]) -> list[Any]:
    """Start the actors; return their handles when all are running.

    Args:
        processes: A process for each.
        files: What must be the same on all machines, beyond the toolkit.

    Raises:
        SpecError: The cluster lacks what they need.
        SsimError: They do not start, or find another version of something.
    """
    there = nodes()
    missing = lacking(processes, there)
    if missing:
        raise SpecError("ray", "the cluster lacks what the workers need", "; ".join(missing), "see `ray status`")
    remote: Any = ray.remote(RuntimeActor)
    handles = [
        remote.options(**options_of(process, number, there), max_restarts=_RESTARTS).remote(number)
        for number, process in enumerate(processes)
    ]
    try:
        found = ray.get([handle.facts.remote(files) for handle in handles], timeout=_START_TIMEOUT_S)
        check_same(processes, found, facts(files))
    except RayError as error:
        end(handles)
        raise SsimError("ray", "the actors do not start", *_cause(error)) from error
    except BaseException:
        end(handles)
        raise
    return handles


def _cause(error: Exception) -> tuple[str, str]:
    """Return why actors do not start, and a hint."""
    lines = str(error).strip().splitlines()
    if lines and lines[-1].startswith(("ModuleNotFoundError: ", "AttributeError: ")):
        return lines[-1], "the same toolkit must be installed on all machines"
    return lines[0] if lines else type(error).__name__, "other runs may use what they need: see `ray status`"


def check_same(
    processes: Sequence[PlannedProcess], found: Sequence[tuple[str, dict[str, str]]], here: dict[str, str]
) -> None:
    """Pass if all processes find what is here.

    Raises:
        SsimError: One does not.
    """
    for process, (machine, there) in zip(processes, found, strict=True):
        for name in (name for name in here if here[name] != there[name]):
            place = f"ray, {machine}" if process.site is None else f"ray, site {process.site.name}, {machine}"
            hint = "install the same on all machines, and start Ray there again"
            if there[name] == "missing":
                raise SsimError(place, "not found there", name, hint)
            raise SsimError(place, f"{name} differs", there[name], f"here {here[name]}; {hint}")


def end(handles: Sequence[Any]) -> None:
    """End actors."""
    for handle in handles:
        ray.kill(handle)
