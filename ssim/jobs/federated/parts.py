"""What the runs of a point of a federated training share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssim.files.topology_file import tables_of
from ssim.jobs.identity import described
from ssim.jobs.training.parts import name_of_metric
from topology.description import described as description_of

if TYPE_CHECKING:
    from federated.aggregation import AggregationRule
    from federated.algorithms import Algorithm
    from federated.assignment import MaxNet, SubnetAssignment
    from federated.compression import Compression
    from federated.partition import Partition
    from federated.privacy import Privacy
    from ssim.files.topology_file import Topology
    from supernet.data.source import Source
    from supernet.family import Family
    from supernet.training.objective import Loss, Metric
    from topology.program import Program


@dataclass(frozen=True)
class FederatedParts:
    """What the runs of a point share.

    Attributes:
        topology: Roles, channels and workers, as the topology file says with what is different here.
        description: The content of that file, with what is different.
        owners: The class of the program of each role.
        source: The data.
        partition: Partition of the examples among the clients.
        family: The family of supernets.
        algorithm: What clients and servers compute.
        assignment: Subnet of each client in a round.
        maxnet: Weight of the largest subnet.
        privacy: Clipping and noise.
        compression: Compression of client updates.
        aggregation: Rule that replaces the mean of the updates.
        own: The data sources of clients with data of their own, by the id of the dataset.
        loss: What clients minimize: the name of a loss, or a function of your own.
        metric: In place of the accuracy; None for that, or for R² in a regression.
    """

    topology: Topology
    description: dict[str, Any]
    owners: dict[str, type[Program]]
    source: Source
    partition: Partition
    family: Family
    algorithm: Algorithm
    assignment: SubnetAssignment
    maxnet: MaxNet | None
    privacy: Privacy | None
    compression: Compression | None
    aggregation: AggregationRule | None
    own: dict[str, Source] = field(default_factory=dict)
    loss: str | Loss = "cross_entropy"
    metric: Metric | None = None

    @property
    def metric_name(self) -> str:
        """What tables call the score of models."""
        return name_of_metric(self.metric, self.source)

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """The topology as plain data: the same, in whatever form a file says it."""
        found = self.topology
        machines = [_given(machine) for _, machine in sorted(found.plan.machines.items())]
        groups = {
            role: {group: _counted(body) for group, body in of_role.items()}
            for role, of_role in self.description.get("datasets", {}).items()
        }
        for role, group, _ in tables_of(self.description):  # what a table says, wherever it is
            groups[role][group] = [_given(data) for data in found.plan.roles[role].datasets if data.group == group]
        faults = sorted((_given(fault) for fault in found.faults), key=lambda fault: str(fault["worker"]))
        return {**description_of(found.tag), "datasets": groups, "computes": machines, "faults": faults}


def described_own(source: Source) -> dict[str, Any]:
    """Return the data source of a client as plain data; a file that is on another machine counts by its path."""
    path = getattr(source, "path", None)
    if path is None or Path(path).exists():
        return described_source(source)
    return described(source)


def described_source(source: Source) -> dict[str, Any]:
    """Return a data source as plain data, with hashes of its files in place of paths."""
    return {**described(source), "params": source.identity()}


def _given(item: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults."""
    return {f.name: getattr(item, f.name) for f in fields(item) if getattr(item, f.name) != f.default}


def _counted(body: Any) -> Any:
    """Return the datasets of a group: a count as a mapping, ids of a list as mappings."""
    if isinstance(body, list):
        return [{"id": entry} if isinstance(entry, str) else entry for entry in body]
    return body if isinstance(body, dict) else {"count": body}
