"""A deployment of a topology is shown: who runs where, and whether a cluster has what that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sim.base.errors import SpecError
from ssim.commands.printing import console
from ssim.extras import require
from topology.pending import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from topology.sites import DeploymentSite, PlannedProcess


def print_deployment(processes: Sequence[PlannedProcess]) -> None:
    """Print a line for each process: its site, its machine, what it reserves, and its workers."""
    from rich.table import Table

    table = Table("site", "machine", "reserves", "workers", box=None, pad_edge=False)
    for process in processes:
        site = process.site
        reserves = ", ".join(_amount(name, amount) for name, amount in process.needs.items())
        count = f"{len(process.workers)}: " if len(process.workers) > 1 else ""
        table.add_row(site.name if site else "", _machine(site), reserves or "-", count + listed(process.workers))
    console().print(table)


def _machine(site: DeploymentSite | None) -> str:
    if site is None:
        return "any"
    return site.node or ", ".join(f"{name}={value}" for name, value in site.labels.items()) or "any"


def _amount(name: str, amount: float) -> str:
    return f"{amount / 1e9:g} GB" if name == "memory" else f"{amount:g} {name}"


def print_machines(processes: Sequence[PlannedProcess], address: str | None, files: Sequence[Path]) -> None:
    """Print on which machines of a Ray cluster each site may be, after starting the processes there for a moment.

    Args:
        processes: The processes.
        address: The address of the cluster; None for that of RAY_ADDRESS, or this machine.
        files: What must be the same on all machines, beyond the toolkit.

    Raises:
        SsimError: The cluster does not answer, or something differs there.
        SpecError: It lacks something; lists all.
    """
    require("ray")
    from topology.engines.ray import end, started
    from topology.engines.ray_cluster import cluster, lacking, nodes

    with cluster(address, None):
        there = nodes()
        missing = lacking(processes, there)
        if not missing:
            end(started(processes, files))
    for site in {process.site.name: process.site for process in processes if process.site is not None}.values():
        fitting = [node.names[0] for node in there if node.fits(site)]
        click.echo(f"{site.name}: {', '.join(fitting) or 'no machine'}")
    if missing:
        raise SpecError("deployment", "the cluster lacks what it needs", "; ".join(missing), "see `ray status` there")
    click.echo("the cluster has what each process needs; the toolkit and your files are the same there")
