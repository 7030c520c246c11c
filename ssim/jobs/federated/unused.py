"""Keys of a federated training that nothing would use: refused, or, where another engine uses them, said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from federated.assignment import LargestAssignment
from federated.programs import Aggregator
from ssim.files.plugins import Issue
from topology.binding import bind
from topology.tag import Link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ssim.files.topology_file import Topology
    from ssim.jobs.federated.parts import FederatedParts
    from ssim.jobs.federated.spec import FederatedSpec
    from topology.deployment import Dataset
    from topology.program import Program

_NAMED = 20
"""At most this many machines are named."""
_OWN = "federated."
"""The programs of these modules are known; one of a user's own may use what they don't."""


def unused_keys(
    topology: Topology, description: Mapping[str, Any], partition: Any, owners: Mapping[str, type[Program]] | None
) -> list[Issue]:
    """Return the keys of a topology that nobody would use, in whatever engine; places are those of its file.

    Args:
        topology: The topology.
        description: The content of its file.
        partition: Of the examples among the clients; None if it is wrong itself.
        owners: The class of the program of each role; None if one is wrong itself.
    """
    issues = [*_of_datasets(topology, description, partition), *_of_machines(topology, description)]
    return [*issues, *_of_selectors(topology, owners)] if owners is not None else issues


def _of_datasets(topology: Topology, description: Mapping[str, Any], partition: Any) -> Iterator[Issue]:
    for worker in topology.plan.workers:
        data = worker.dataset
        if data is not None and data.size != 1 and not getattr(partition, "uses_sizes", True):
            place = dataset_place(data, description)
            problem = f"not used by partition {type(partition).__name__}"
            yield Issue((*place, "size"), problem, str(data.size), "use iid, or remove sizes")


def _of_selectors(topology: Topology, owners: Mapping[str, type[Program]]) -> Iterator[Issue]:
    bindings = bind(topology.tag, owners)
    for channel in topology.tag.channels:
        for role in channel.select:
            owner = owners[role]
            serves = issubclass(owner, Aggregator) and bindings[role].function_tags["distribute"] == channel.name
            if owner.__module__.startswith(_OWN) and not serves:
                problem = f"not used: {owner.__name__} selects nobody on this channel"
                yield Issue(("channels", channel.name, "select", role), problem, "", "aggregators select clients")


def _of_machines(topology: Topology, description: Mapping[str, Any]) -> Iterator[Issue]:
    used = {worker.compute for worker in topology.plan.workers}
    for name in description.get("computes") or {}:
        if name not in used:
            yield Issue(("computes", name), "not used: no worker runs on this machine", "", "remove it")


def useless_keys(subnets: Any, maxnet: Any) -> list[Issue]:
    """Return the keys of the training's own file that would change nothing."""
    if maxnet is not None and isinstance(subnets, LargestAssignment):
        return [Issue(("maxnet",), "not used: all clients train the largest subnet", "", "set subnets, or remove it")]
    return []


def engine_notes(spec: FederatedSpec, parts: FederatedParts) -> list[str]:
    """Return a line for each part of the description that this engine leaves aside and another one uses."""
    tag, plan = parts.topology.tag, parts.topology.plan
    notes = []
    if spec.engine == "sim":
        notes += [f"roles.{role.name}.resources: used by engine ray only" for role in tag.roles if role.resources]
    else:
        why = f"not used: engine {spec.engine} runs in real time"
        linked = [channel.name for channel in tag.channels if channel.link != Link()]
        notes += [f"channels.{name}.link: {why}" for name in linked]
        numbers = [name for name, machine in sorted(plan.machines.items()) if machine != type(machine)(name)]
        notes += [f"computes.{name}: {why}" for name in numbers[:_NAMED]]
        notes += [f"computes: {len(numbers) - _NAMED} more {why}"] if len(numbers) > _NAMED else []
        if spec.engine == "local":
            notes += [f"roles.{role.name}.resources: used by engine ray only" for role in tag.roles if role.resources]
        if spec.gmacs_per_s != type(spec).model_fields["gmacs_per_s"].default:
            notes.append(f"gmacs_per_s: {why}")
    notes += list(_too_many(parts))
    notes += [f"channels.{c.name}.backend: kept for Flame, used by no engine" for c in tag.channels if c.backend]
    return notes


def _too_many(parts: FederatedParts) -> Iterator[str]:
    """Yield a line for each selector that asks for more peers than there are."""
    plan, bindings = parts.topology.plan, bind(parts.topology.tag, parts.owners)
    for channel in parts.topology.tag.channels:
        for role in channel.select:
            k = getattr(bindings[role].selectors[channel.name], "k", 0)
            most = max(
                len(plan.peers(plan.worker(id_), channel.name))
                for id_ in (f"{role}/{n}" for n in range(len(plan.roles[role])))
            )
            if isinstance(k, int) and k > most:
                yield f"channels.{channel.name}.select.{role}: k is {k}, and there are {most} peers: all are selected"


def dataset_place(data: Dataset, description: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return where a dataset stands in a topology file."""
    body = description["datasets"][data.role][data.group]
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in body] if isinstance(body, list) else []
    return ("datasets", data.role, data.group, *([ids.index(data.id)] if data.id in ids else []))
