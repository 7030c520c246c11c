"""`ssim topology`: look at topologies of roles and channels before anything runs on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.options import ShippedFile
from ssim.commands.printing import console

if TYPE_CHECKING:
    from ssim.files.topology_file import Topology
    from topology.plan import Plan, Worker

_SHOWN = 20
"""The number of workers that are printed; a file gets all of them."""

_file = click.argument("file", metavar="FILE", type=ShippedFile("topologies"))


@click.group(cls=CommandGroup)
def topology() -> None:
    """Topologies of roles and channels, as in Flame: check, expand to workers, and draw before anything runs.

    FILE is a YAML file, or the short name of a shipped topology (`ssim examples`).
    """


@topology.command(epilog=example("ssim topology check hybrid"))
@_file
def check(file: Path) -> None:
    """Check a topology and its programs, and print its roles, channels and numbers of workers."""
    from ssim.files.topology_file import programs_of, read_topology
    from topology.variants import variant_counts

    found = read_topology(file)
    tag = found.tag
    roles, channels = _count(len(tag.roles), "role"), _count(len(tag.channels), "channel")
    click.echo(f"{found.name}: {roles}, {channels}, {_count(len(found.plan), 'worker')}")
    for role in tag.roles:
        size = _count(len(found.plan.roles[role.name]), "worker")
        click.echo(f"    {role.name}: {size}; {_channels(role.name, found) or 'no channel'}")
        for name, count in variant_counts(found.plan.roles[role.name]).items():
            click.echo(f"        {name}: {count} of them")
    without = [use.key for use in tag.programs if not use.program]
    if without:
        click.echo(f"without a program: {', '.join(without)}; only the description was checked")
        return
    programs_of(file, found)
    click.echo("the programs fit")


@topology.command(epilog=example("ssim topology expand hybrid -o workers.csv"))
@_file
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write all workers to this .csv file instead.")
def expand(file: Path, output: Path | None) -> None:
    """Print the workers of a topology: their groups, datasets and computes."""
    from sim.base.errors import SpecError
    from sim.base.whole_file import whole_file
    from ssim.files.topology_file import read_topology

    found = read_topology(file)
    header = ["id", "role", "at", "dataset", "size", "compute"]
    if output is None:
        _print_workers(found.plan, header)
        return
    if output.suffix != ".csv":
        raise SpecError(str(output), "workers are written as .csv", output.suffix or "no suffix")
    with whole_file(output) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text)
        rows.writerow(header)
        rows.writerows(map(_row, found.plan.workers))
    click.echo(f"{_count(len(found.plan), 'worker')} of {found.name}: {output}")


@topology.command(epilog=example("ssim topology draw hybrid --workers -o hybrid.svg"))
@_file
@click.option("--workers", is_flag=True, help="Draw workers instead of roles; large groups are summarised.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The picture: a .pdf, .svg or .png file; or .mmd for Mermaid text.",
)
def draw(file: Path, output: Path, *, workers: bool) -> None:
    """Draw the roles and channels of a topology, or its workers."""
    from sim.base.whole_file import write_text
    from ssim.files.topology_file import read_topology
    from topology.diagram import diagram_of_plan, diagram_of_tag
    from topology.mermaid import mermaid

    found = read_topology(file)
    picture = diagram_of_plan(found.plan, found.name) if workers else diagram_of_tag(found.tag, found.name)
    if output.suffix == ".mmd":
        write_text(output, mermaid(picture) + "\n")
    else:
        from figures.style import save_as
        from figures.topology import draw as draw_picture

        save_as(draw_picture(picture), output)
    click.echo(f"{'workers' if workers else 'roles and channels'} of {found.name}: {output}")


@topology.command(epilog=example("ssim topology diff classical hierarchical"))
@click.argument("first", type=ShippedFile("topologies"))
@click.argument("second", type=ShippedFile("topologies"))
def diff(first: Path, second: Path) -> None:
    """Print the differences between two topologies, one line for each added or removed fact."""
    from ssim.files.topology_file import read_topology
    from topology.description import diff as difference

    old, new = read_topology(first), read_topology(second)
    found = difference(old.tag, new.tag)
    if found.added or found.dropped:
        click.echo(str(found))
    click.echo(f"from {old.name} to {new.name}: +{len(found.added)} -{len(found.dropped)} lines")


@topology.command(epilog=example("ssim topology deploy hybrid sites.yaml --check --address auto"))
@click.argument("file", metavar="FILE", type=ShippedFile("topologies", "experiments"))
@click.argument("deployment", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Compare it with a Ray cluster, and say what is missing there.")
@click.option("--address", help="Address of that cluster.  [default: that of RAY_ADDRESS, or this machine]")
def deploy(file: Path, deployment: Path, address: str | None, *, check: bool) -> None:
    """Print which workers of FILE run at which site of DEPLOYMENT, and what their processes need there.

    FILE is a topology, or a federated training. `ssim train --engine ray --deployment DEPLOYMENT` runs it.
    """
    from sim.base.errors import SpecError
    from ssim.commands.present.deployment import print_deployment, print_machines
    from ssim.files.deployment_file import read_deployment
    from ssim.files.schemas import schema_of
    from ssim.files.topology_file import read_topology
    from ssim.jobs.reading import read_job

    if address is not None and not check:
        raise SpecError("--address", "not used without --check", address, "add --check, or remove it")
    if schema_of(file) == "federated/1":
        found = read_job(file, (), "federated/1").runs[0].parts.topology
    else:
        found = read_topology(file)
    _, processes = read_deployment(deployment, found.plan)
    print_deployment(processes)
    count = "1 process" if len(processes) == 1 else f"{len(processes)} processes"
    click.echo(f"{_count(len(found.plan), 'worker')} of {found.name} in {count}")
    if check:
        print_machines(processes, address)


@topology.command("import", epilog=example("ssim topology import schema.json --data dataSpec.json -o mine.yaml"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_spec",
    type=click.Path(path_type=Path),
    help="Flame's data specification (JSON): how many datasets each role has.",
)
@click.option(
    "--model",
    "model_spec",
    type=click.Path(path_type=Path),
    help="Flame's model specification (JSON): a file for `ssim train` is written beside the topology.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The topology file to write.")
def import_(file: Path, data_spec: Path | None, model_spec: Path | None, output: Path) -> None:
    """Convert FILE, a schema of Flame (JSON), to a topology file; print what was left out or filled in."""
    from ssim.files.flame_file import read_flame

    made = read_flame(file, data_spec, model_spec)
    _write(output, made.data)
    for name in made.left_out:
        click.echo(f"left out: {name}")
    for name in made.made_up:
        click.echo(f"filled in: {name}")
    click.echo(f"{_count(len(made.topology.plan), 'worker')} of {file}: {output}")
    if made.training is not None:
        training = output.with_name(f"{output.stem}-train.yaml")
        _write(training, {**made.training, "name": output.stem, "topology": {"use": output.name}})
        click.echo(f"a training on it: {training}")


@topology.command(epilog=example("ssim topology clients client_device_capacity --count 1000 -o phones.csv"))
@click.argument("devices", type=click.Path(path_type=Path))
@click.option("--availability", type=click.Path(path_type=Path), help="FedScale's trace of sessions.")
@click.option("--count", type=click.IntRange(1), help="Number of devices to draw.  [default: all]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The .csv or .parquet file to write."
)
def clients(devices: Path, availability: Path | None, count: int | None, seed: int, output: Path) -> None:
    """Make a table of clients from DEVICES, FedScale's trace of devices (a pickle of plain values).

    Speed 1 is that of the median device. Each client has the sessions of a client that is drawn from the other trace.
    """
    import pandas as pd

    from sim.base.errors import SpecError
    from sim.base.whole_file import whole_file
    from ssim.files.fedscale import read_fedscale

    if output.suffix not in {".csv", ".parquet"}:
        raise SpecError(str(output), "clients are written as .csv or .parquet", output.suffix or "no suffix")
    found = read_fedscale(devices, availability, count, seed)
    frame = pd.DataFrame(found.rows)
    with whole_file(output) as unfinished:
        if output.suffix == ".csv":
            frame.to_csv(unfinished, index=False)
        else:
            frame.to_parquet(unfinished)
    click.echo(f"{_count(len(found.rows), 'client')}: {output}; speed 1 takes {found.example_ms:g} ms for an example")
    if availability is not None:
        click.echo(f"{found.always} of them are always there; {found.never} of the trace never are, and were left out")


def _write(path: Path, data: dict[str, Any]) -> None:
    from ruamel.yaml import YAML

    from sim.base.whole_file import whole_file

    writer: Any = YAML()
    writer.default_flow_style = None  # small mappings on one line
    writer.width = 120
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as text:
        writer.dump(data, text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _channels(role: str, found: Topology) -> str:
    named = []
    for channel in found.tag.channels_of(role):
        groups = "" if len(channel.groups) == 1 else f" in {_count(len(channel.groups), 'group')}"
        named.append(f"{channel.name} with {channel.peer_of(role)}{groups}")
    return "; ".join(named)


def _row(worker: Worker) -> list[str | int]:
    groups = " ".join(f"{channel}={group}" for channel, group in worker.at.items())
    data = worker.dataset
    return [worker.id, worker.role, groups, data.id if data else "", data.size if data else "", worker.compute]


def _print_workers(plan: Plan, header: list[str]) -> None:
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for name, staff in plan.roles.items():
        few = len(staff) if len(plan) <= _SHOWN else _SHOWN // len(plan.roles) + 1
        for number in range(min(few, len(staff))):
            id_, role, _, *rest = _row(staff.worker(number))
            apart = (f"{channel}={group}" for channel, group in staff.worker(number).at.items() if group != "default")
            table.add_row(*map(str, (id_, role, " ".join(apart), *rest)))
        if few < len(staff):
            table.add_row(f"... {len(staff) - few} more of {name}")
    console().print(table)
