"""`ssim supernet`: families of supernets, what their subnets cost, and what it takes to hold them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands import training
from ssim.commands.group import CommandGroup, example
from ssim.commands.options import completed, family_names, family_option, json_option, names_option
from ssim.commands.printing import console, print_json, spinning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supernet.memory import Footprint
    from supernet.network import Supernet
    from supernet.space import SubnetConfig, SubnetSpace

PUBLISHED = "ofa-resnet50-rtx2080ti"
"""The latency table of the subnets of OFA-ResNet50 that SuperServe serves."""

_PARTS = ("depths", "expands", "widths")
"""Where a family's subnets differ."""

_ALONE = 100
"""The number of subnets that are extracted and counted: they take fifty times as much memory as the supernet."""

_family = click.argument("name", metavar="FAMILY", shell_complete=completed(family_names))


@click.group(cls=CommandGroup)
def supernet() -> None:
    """Weight-shared supernets (SubNetAct): their subnets, costs and memory, and how they are trained and searched.

    Needs the extra `torch`.
    """
    from ssim.extras import require

    require("torch")


@supernet.command("list", epilog=example("ssim supernet list"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the shipped families, with the size of their spaces, their options and defaults."""
    import dataclasses

    from supernet.families import FAMILIES

    families = []
    for name, owner in FAMILIES.items():
        about, size = (owner.__doc__ or "").splitlines()[0], owner().space.size
        options = {field.name: field.default for field in dataclasses.fields(owner)}
        families.append({"name": name, "about": about, "subnets": size, "options": options})
        if not as_json:
            click.echo(f"{name}: {about}")
            click.echo(f"    {size:.4g} subnets; {', '.join(f'{key}={value}' for key, value in options.items())}")
    if as_json:
        print_json(families)


@supernet.command(epilog=example("ssim supernet show ofa_resnet50 --table ofa-resnet50-a40"))
@_family
@click.argument("subnets", nargs=-1, metavar="[SUBNET]...")
@click.option("--table", "table_name", metavar="NAME|FILE", help="Show the subnets of this latency table.")
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Input size for MACs: side of an image in pixels, or length of a text in tokens.  [default: the family's]",
)
@json_option
@family_option
def show(
    name: str,
    subnets: tuple[str, ...],
    table_name: str | None,
    size: int | None,
    settings: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Print the space of a FAMILY, and MACs, parameters and statistics of subnets.

    FAMILY is a shipped one, or module:name of a class or function that returns a network (docs/own_network.md).
    SUBNETs are ids; without any, the smallest and the largest subnet are shown. Layers that are not sliced are listed
    with the reason.
    """
    from rich.table import Table

    from sim.base.numbers import format_decimals
    from ssim.files.families import find_family
    from ssim.files.yaml_file import parse_settings
    from supernet.costs import Costs
    from supernet.family import build
    from supernet.patterns import left_whole

    family = find_family(name, parse_settings(settings), Path.cwd())
    with spinning(f"{name}: finding the structure of the network, counting MACs"):
        space = family.space
        shown = [space.find(text) for text in subnets] + (_rows_of(table_name, space) if table_name else [])
        built = build(family, device="meta")
        costs = Costs(built, tuple(part.to("meta") for part in family.example(size=size or family.default_size)))
    shown = shown or [space.smallest, space.largest]
    whole = left_whole(built.structure.unsliceable)
    if as_json:
        rows_of = [
            {
                "subnet": subnet.id,
                "macs": costs.macs(subnet),
                "params": costs.parameters(subnet),
                "statistics_bytes": 4 * costs.statistics(subnet),
            }
            for subnet in shown
        ]
        choices = {part: [list(entry) for entry in getattr(space, part)] for part in _PARTS}
        known = {"name": name, "subnets": space.size, "size": size or family.default_size, **choices}
        print_json({**known, "left_whole": whole, "costs": rows_of})
        return
    click.echo(f"{name}: {space.size:.4g} subnets")
    for part in _PARTS:
        choices = getattr(space, part)
        for entry in sorted(set(choices), key=choices.index):
            of = [str(index) for index, other in enumerate(choices) if other == entry]
            click.echo(f"  {part}[{of[0]}{f'..{of[-1]}' if len(of) > 1 else ''}]: {', '.join(map(str, entry))}")
    for path, reason in whole.items():
        click.echo(f"  left whole: {path} {reason}")
    rows = Table("subnet", box=None, pad_edge=False)
    for column in (f"GMACs at {size or family.default_size}", "params M", "statistics KB"):
        rows.add_column(column, justify="right", no_wrap=True)
    for subnet in shown:
        gmacs, million = costs.macs(subnet) / 1e9, costs.parameters(subnet) / 1e6
        cells = (gmacs, 4), (million, 2), (4 * costs.statistics(subnet) / 1e3, 0)
        rows.add_row(subnet.id, *(format_decimals(value, decimals) for value, decimals in cells))
    console().print(rows)


@supernet.command(epilog=example("ssim supernet memory --models 100 --out figures"))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the pictures: memory.* and statistics.*.")
@click.option(
    "--models", type=click.IntRange(min=6), default=500, show_default=True, help="Number of subnets to be served."
)
@click.option(
    "--cache-mb",
    type=click.FloatRange(min=0),
    default=256,
    show_default=True,
    help="Cache of contiguous weight slices, in MB; 0 for none.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the subnets that are sampled after the six published ones.",
)
@json_option
def memory(out: Path | None, models: int, cache_mb: float, seed: int, *, as_json: bool) -> None:
    """Compare the memory of subnets of OFA-ResNet50, extracted one by one and served from one supernet.

    After SuperServe (NSDI 2025), Figures 5a and 4, but over the number of subnets.
    """
    from rich.table import Table

    from sim.base.streams import stream
    from supernet.families import OfaResNet50
    from supernet.family import build
    from supernet.memory import BYTES_PER_MB, extracted, hand_tuned, in_place

    net = build(OfaResNet50())
    published = _rows_of(PUBLISHED, net.space)
    rng = stream(seed, "memory")
    subnets = published + [net.space.sample(rng) for _ in range(models - len(published))]
    cached = build(OfaResNet50(), device="meta", cache_bytes=round(cache_mb * BYTES_PER_MB))
    systems = [hand_tuned(), extracted(net, subnets[:_ALONE]), in_place(net, subnets)]
    systems += [in_place(cached, subnets)] if cache_mb else []
    pictures = [] if out is None else _draw(out, systems, net, published)
    if as_json:
        found = [{"system": rows[0].system, "bytes": [row.bytes for row in rows]} for rows in systems]
        print_json({"models": models, "seed": seed, "systems": found, "pictures": [str(path) for path in pictures]})
        return
    rows = Table("MB for this number of models", box=None, pad_edge=False)
    counts = [count for count in (1, 2, 3, 4, 6, 10, 20, 50, 100, 200, 500, 1000) if count <= models]
    for count in counts:
        rows.add_column(str(count), justify="right", no_wrap=True)
    for system in systems:
        megabytes = {row.models: f"{row.bytes / BYTES_PER_MB:.0f}" for row in system}
        rows.add_row(system[0].system, *(megabytes.get(count, "-") for count in counts))
    console().print(rows)
    for sentence in _crossings(systems[:3], len(published)):
        click.echo(sentence)
    for path in pictures:
        click.echo(path)


@supernet.command("import", epilog=example("ssim supernet import ofa.pth --family ofa_resnet50 -o ofa.safetensors"))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--family", "name", required=True, help="The supernet family of the weights (`ssim supernet list`).")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The checkpoint to write.")
@names_option(
    "--fresh", "fresh", "NAME", "Parts of the network that FILE has no weights for; they keep their random ones."
)
@family_option
def import_(file: Path, name: str, output: Path, fresh: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Convert weights under their original names to a checkpoint: of once-for-all, of DynaBERT, of your own network."""
    from ssim.files.families import code_of_family, find_family
    from ssim.files.yaml_file import parse_settings
    from supernet.checkpoint import import_weights, save

    family = find_family(name, parse_settings(settings), Path.cwd())
    imported = import_weights(family, file, fresh)
    own = code_of_family(family, Path.cwd())
    save(output, imported, family, **({"code": own} if own else {}))
    parameters = sum(parameter.numel() for parameter in imported.parameters())
    click.echo(f"imported {file}: {output} ({name}, {parameters / 1e6:.2f} M parameters)")


for command in (training.train, training.calibrate, training.search, training.fetch):
    supernet.add_command(command)


def _rows_of(table_name: str, space: SubnetSpace) -> list[SubnetConfig]:
    """Return the subnets of a latency table.

    Raises:
        SsimError: There is no such table, or a row has no control tuple, or one that does not fit the supernet.
    """
    from sim.tables.files import find_table
    from ssim.jobs.subnets import subnet_of

    return [subnet_of(row, space, table_name) for row in find_table(table_name).subnets]


def _crossings(systems: Sequence[Sequence[Footprint]], zoo: int) -> list[str]:
    """Return from how many models on SubNetAct takes less, and how its hold on many compares with a few others."""
    from supernet.memory import BYTES_PER_MB

    tuned, alone, in_one = systems
    sentences: list[str] = []
    for other in (tuned, alone):
        taken = {row.models: row.bytes for row in in_one}
        first = next((row.models for row in other if row.bytes > taken[row.models]), None)
        where = f"from {first} on" if first else f"for none up to {len(other)}"
        sentences.append(f"SubNetAct takes less than {other[0].system}: {where}.")
    most, six = in_one[-1], alone[zoo - 1].bytes
    claim = 2.6
    up_to = max((row.models for row in in_one if six >= claim * row.bytes), default=0)
    sentences.append(
        f"{most.models} subnets in SubNetAct take {most.bytes / BYTES_PER_MB:.0f} MB, {six / most.bytes:.2f} times "
        f"less than the {zoo} published ones apart ({six / BYTES_PER_MB:.0f} MB), {tuned[-1].bytes / most.bytes:.2f} "
        f"times less than {len(tuned)} ResNets; {claim} times, as the paper says for 500, holds up to {up_to}."
    )
    return sentences


def _draw(
    out: Path, systems: Sequence[Sequence[Footprint]], net: Supernet, published: Sequence[SubnetConfig]
) -> list[Path]:
    """Draw bytes over models, and for each published subnet its weights against its statistics; return the files."""
    import pandas as pd

    from figures.memory import draw_memory
    from figures.statistics import draw_statistics
    from figures.style import save
    from sim.tables.files import find_table
    from supernet.costs import Costs
    from supernet.families import OfaResNet50

    costs = Costs(net, OfaResNet50().example())
    per_subnet = pd.DataFrame(
        {
            "accuracy": row.accuracy,
            "weights_bytes": 4 * costs.parameters(subnet),
            "statistics_bytes": 4 * costs.statistics(subnet),
        }
        for row, subnet in zip(find_table(PUBLISHED).subnets, published, strict=True)
    )
    over_models = pd.DataFrame([row for system in systems for row in system])
    figures = {"memory": draw_memory(over_models), "statistics": draw_statistics(per_subnet, net.memory().weights)}
    return [path for name, figure in figures.items() for path in save(figure, out / name)]
