"""Where a topology runs for real: sites, each with what the processes of its workers need. None of it is in the TAG."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sim.base.errors import SpecError, did_you_mean
from sim.base.parameters import NonNegative, Parameters, Positive, PositiveInt
from topology.flaws import Flaw, TagError
from topology.pending import listed
from topology.tag import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from topology.plan import Plan, Worker

_SEARCHED = 1000
"""Among at most this many datasets a hint looks for the name that was meant."""
_STANDARD = ("cpu", "gpu", "memory")


@dataclass(frozen=True, slots=True)
class DeploymentSite(Parameters):
    """A place where some of the workers run, and what each of their processes needs there.

    A worker runs at the site that names its dataset, or else one of its groups, or else its role.

    Attributes:
        name: Unique.
        roles: Names of roles.
        groups: Names of groups, of any channel.
        datasets: Ids of datasets, or patterns such as `clinic-*`.
        node: Name or address of the machine; "" for any.
        labels: Labels that Ray gives to the machine.
        cpus: Cores that a process reserves.
        gpus: GPUs that a process reserves; a share is possible.
        memory_gb: Memory that a process reserves, in gigabytes (10^9 bytes).
        resources: Further resources of Ray that a process reserves, by name.
        processes: How many processes the workers share.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    node: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    cpus: NonNegative = 0.0
    gpus: NonNegative = 0.0
    memory_gb: NonNegative = 0.0
    resources: dict[str, Positive] = field(default_factory=dict)
    processes: PositiveInt = 1

    def __post_init__(self) -> None:
        Parameters.__post_init__(self)
        if self.node and self.labels:
            raise SpecError("DeploymentSite.labels", "not used with node", ", ".join(self.labels), "keep one of both")
        for name in _STANDARD:
            if name in map(str.lower, self.resources):
                key = {"cpu": "cpus", "gpu": "gpus", "memory": "memory_gb"}[name]
                raise SpecError("DeploymentSite.resources", "has a key of its own", name, f"use {key}")

    def needs(self) -> dict[str, float]:
        """Return what a process reserves, by Ray's lower-case names; memory in bytes."""
        own = {"cpu": self.cpus, "gpu": self.gpus, "memory": self.memory_gb * 1e9}
        return {name: amount for name, amount in (own | self.resources).items() if amount}


@dataclass(frozen=True, slots=True)
class PlannedProcess:
    """A process that runs some workers.

    Attributes:
        workers: Their ids.
        needs: What it reserves, by Ray's lower-case names; memory in bytes.
        site: Where it is; None for anywhere.
    """

    workers: tuple[str, ...]
    needs: dict[str, float]
    site: DeploymentSite | None = None


def processes_at(plan: Plan, sites: Sequence[DeploymentSite]) -> list[PlannedProcess]:
    """Return the processes of a plan at its sites.

    Raises:
        TagError: A worker has no site, or several; a site has no worker, or names what there is not; workers of a
            machine are at several sites. Lists all flaws, by place.
    """
    flaws: list[Flaw] = []
    found = site_of_workers(plan, sites, flaws)
    if flaws:
        raise TagError("deployment", flaws)
    processes = []
    for site in sites:
        own = [worker for worker in plan.workers if found[worker.id] is site]
        processes += spread(plan, own, site.processes, site)
    return processes


def spread(
    plan: Plan, workers: Sequence[Worker], count: int, site: DeploymentSite | None = None
) -> list[PlannedProcess]:
    """Return the processes of some workers: whole machines, largest first, to the least loaded process."""
    units: dict[str, list[str]] = {}
    for worker in workers:
        units.setdefault(worker.id if worker.compute == DEFAULT else f"@{worker.compute}", []).append(worker.id)
    members: list[list[str]] = [[] for _ in range(min(count, len(units)))]
    for _, unit in sorted(units.items(), key=lambda unit: -len(unit[1])):
        min(members, key=len).extend(unit)
    return [PlannedProcess(tuple(ids), _needs(plan, ids, site), site) for ids in members]


def _needs(plan: Plan, ids: Sequence[str], site: DeploymentSite | None) -> dict[str, float]:
    needs = {} if site is None else site.needs()
    for id_ in ids:
        for name, amount in plan.tag.role(id_.rpartition("/")[0]).resources.items():
            key = name.lower() if name.lower() in _STANDARD else name
            needs[key] = needs.get(key, 0.0) + amount
    return needs


def site_of_workers(plan: Plan, sites: Sequence[DeploymentSite], flaws: list[Flaw]) -> dict[str, DeploymentSite]:
    """Return the site of each worker, by id; add what is wrong to the flaws."""
    flaws += _unknown_names(plan, sites)
    found: dict[str, DeploymentSite] = {}
    uncovered = []
    for worker in plan.workers:
        claims = _claims(worker, sites)
        if not claims:
            uncovered.append(worker.id)
        elif len(claims) > 1:
            told = ", ".join(site.name for site in claims)
            flaws.append(Flaw(("sites", claims[1].name), f"{worker.id} would run at several sites", told, _HINT))
        else:
            found[worker.id] = claims[0]
    if uncovered:
        hint = "add their role, group or dataset to a site"
        flaws.append(Flaw(("sites",), f"no site for {len(uncovered)} of {len(plan)} workers", listed(uncovered), hint))
    if not flaws:
        flaws += _unused_sites(sites, found)
        flaws += _split_machines(plan, found)
    return found


_HINT = "a dataset counts more than a group, and a group more than a role: name it more closely at one of them"


def _claims(worker: Worker, sites: Sequence[DeploymentSite]) -> list[DeploymentSite]:
    """Return the sites that name a worker most closely."""
    data, groups = worker.dataset, set(worker.at.values())
    closest = (
        [site for site in sites if data is not None and data.id in site.datasets],
        [site for site in sites if data is not None and any(fnmatch.fnmatchcase(data.id, p) for p in site.datasets)],
        [site for site in sites if not groups.isdisjoint(site.groups)],
        [site for site in sites if worker.role in site.roles],
    )
    return next(filter(None, closest), [])


def _unknown_names(plan: Plan, sites: Sequence[DeploymentSite]) -> Iterator[Flaw]:
    workers = plan.workers
    roles = [role.name for role in plan.tag.roles]
    groups = sorted({group for channel in plan.tag.channels for group in channel.groups})
    ids = [worker.dataset.id for worker in workers if worker.dataset is not None]
    for site in sites:
        for key, names, known in (("roles", site.roles, roles), ("groups", site.groups, groups)):
            for number, name in enumerate(names):
                if name not in known:
                    place = ("sites", site.name, key, number)
                    yield Flaw(place, f"unknown {key[:-1]}", repr(name), did_you_mean(name, known))
        for number, pattern in enumerate(site.datasets):
            if not fnmatch.filter(ids, pattern):
                place = ("sites", site.name, "datasets", number)
                yield Flaw(
                    place, "matches no dataset of the topology", repr(pattern), did_you_mean(pattern, ids[:1000])
                )


def _unused_sites(sites: Sequence[DeploymentSite], found: dict[str, DeploymentSite]) -> Iterator[Flaw]:
    used = {site.name for site in found.values()}
    for site in sites:
        if site.name not in used:
            hint = "remove it, or name roles, groups or datasets that no other site names more closely"
            yield Flaw(("sites", site.name), "no worker runs here", "", hint)


def _split_machines(plan: Plan, found: dict[str, DeploymentSite]) -> Iterator[Flaw]:
    sites_of: dict[str, dict[str, DeploymentSite]] = {}
    for worker in plan.workers:
        if worker.compute != DEFAULT:
            sites_of.setdefault(worker.compute, {})[found[worker.id].name] = found[worker.id]
    for machine, at in sites_of.items():
        if len(at) > 1:
            problem = f"workers of the machine {machine!r} would run at several sites"
            yield Flaw(("sites", list(at)[1]), problem, ", ".join(at), "a machine is at one site")
