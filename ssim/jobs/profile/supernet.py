"""From what `ssim profile` is asked for to what is measured, and from that to files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.latency import draw_latency
from figures.style import save
from profiler.cells_file import cells_text
from profiler.devices import device_facts, device_name
from profiler.report import report
from profiler.trial_log import write_samples
from sim.base.errors import DataError, SpecError
from sim.base.whole_file import write_text
from sim.tables.accuracies import Accuracies
from sim.tables.files import find_table, shipped_tables, write_table
from sim.traces.reading import sha256_of
from ssim.files.families import code_of_family, find_family, load_checkpoint
from ssim.jobs.subnets import chosen_subnets, subnet_of, subnets_in_csv
from supernet.checkpoint import options_of
from supernet.families import FAMILIES
from supernet.family import build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from profiler.actuation import SwitchCost
    from profiler.grid import Grid
    from profiler.profile import ProfilePlan, ProfileResult
    from profiler.torch_meter import Options
    from sim.tables.latency import ProfiledSubnet
    from supernet.family import Family
    from supernet.network import Supernet
    from supernet.space import SubnetConfig, SubnetSpace

CHECKPOINT = "supernet.pt"
_BESIDE = ("pareto.parquet", "accuracies.parquet")
"""Where the accuracies of a trained supernet are, the better choice first."""


@dataclass(frozen=True, slots=True)
class Named:
    """A supernet that was named on the command line.

    Attributes:
        name: What files are called after it.
        family: Its family.
        supernet: Gives it; one with random weights is built then.
        identity: What it is, to be told from others.
        size: The side of images, or the length of texts, that it was trained on; None where that is not known.
    """

    name: str
    family: Family
    supernet: Callable[[], Supernet]
    identity: Mapping[str, Any]
    size: int | None = None


def find_supernet(what: str, options: Mapping[str, Any], seed: int, folder: Path) -> Named:
    """Return a supernet: a family with random weights, or a trained one.

    Args:
        what: The name of a family, a checkpoint, or the folder of a training run or of a job with one.
        options: Those of the family.
        seed: Of random weights.
        folder: Where the modules of families of your own are looked for first.

    Raises:
        SpecError: There is nothing of this name, or a trained supernet was to get options.
        DataError: The checkpoint is damaged.
    """
    path = Path(what) if what in FAMILIES else trained_folder(what)
    if what in FAMILIES or not path.exists():
        if what not in FAMILIES and ":" not in what and (path.suffix or len(path.parts) > 1):
            raise SpecError(what, "no such file or folder", "", f"a training run, or one of {_listed()}")
        family = find_family(what, options, folder)
        own = code_of_family(family, folder)
        facts = {"family": what, "options": options_of(family), "weights": f"random, seed {seed}"}
        return Named(what, family, lambda: build(family, seed=seed), facts | ({"code": own} if own else {}))
    if options:
        raise SpecError("--set", "a trained supernet has its options already", ", ".join(options), "none")
    checkpoint = path / CHECKPOINT if path.is_dir() else path
    held, family, more = load_checkpoint(checkpoint, folder)
    name = checkpoint.parent.parent.name if path.is_dir() and path.resolve().name.startswith("seed") else path.stem
    facts = {"family": family.space.family, "weights": f"{name}, sha256 {sha256_of(checkpoint)}"}
    return Named(name, family, lambda: held, facts, more.get("size"))


def trained_folder(what: str) -> Path:
    """Return the folder of the only training in the results of a job; any other path as it is.

    Raises:
        SpecError: There are several.
    """
    path = Path(what)
    if not path.is_dir() or (path / CHECKPOINT).exists():
        return path
    found = sorted(checkpoint.parent for checkpoint in path.glob(f"*/{CHECKPOINT}"))
    if len(found) > 1:
        raise SpecError(what, "has several trainings", "", f"one of {', '.join(str(one) for one in found)}")
    return found[0] if found else path


def accuracies_beside(what: str) -> Path:
    """Return the file that has the subnets of a trained supernet.

    Raises:
        SpecError: There is none.
    """
    folder = trained_folder(what) if Path(what).is_dir() else Path(what).parent
    found = next((folder / file for file in _BESIDE if (folder / file).exists()), None)
    if found is None or what in FAMILIES:
        tables = f"a latency table such as {', '.join(shipped_tables())}"
        right = f"{' or '.join(_BESIDE)} of a training, a CSV file with the columns subnet and accuracy, {tables}, "
        right += "or a number of subnets, such as 6, whose accuracies stay unknown"
        raise SpecError("--subnets", "is missing: which ones, and how accurate are they", "", right)
    return found


def _known_beside(what: str, space: SubnetSpace) -> list[ProfiledSubnet]:
    """Return all subnets whose accuracies are beside a supernet, the least accurate first."""
    folder = trained_folder(what) if Path(what).is_dir() else Path(what).parent
    files = [folder / file for file in _BESIDE if (folder / file).exists() and Path(what).exists()]
    rows = {row.id: row for file in files for row in find_subnets(file, space)}
    return sorted(rows.values(), key=lambda row: (row.accuracy, row.id))


def _listed() -> str:
    return f"{', '.join(FAMILIES)}, module:name"


def asked_subnets(source: str, space: SubnetSpace, what: str) -> tuple[ProfiledSubnet | SubnetConfig, ...]:
    """Return the subnets to measure, with their accuracies where they are known.

    Args:
        source: As for `find_subnets`; or a number of subnets, or their ids.
        space: The supernet's.
        what: The supernet, as it was named: accuracies may be beside it.

    Raises:
        SpecError: There is no such file, or a subnet is none of the supernet's.
        DataError: The file is damaged, or a row of a table has no control tuple.
    """
    if source.isdigit() or f"{space.family}:" in source:
        return chosen_subnets(source, space, _known_beside(what, space))
    return find_subnets(source, space)


def find_subnets(source: str | Path, space: SubnetSpace) -> tuple[ProfiledSubnet, ...]:
    """Return the subnets of a file and their accuracies, under the ids of their space.

    Args:
        source: Accuracies of a training or in a CSV file, or a latency table.
        space: The supernet's.

    Raises:
        SpecError: There is no such file, or a subnet is none of the supernet's.
        DataError: The file is damaged, or a row of a table has no control tuple.
    """
    if Path(source).suffix == ".csv" and Path(source).is_file():
        found = subnets_in_csv(Path(source), space)
        if found is not None:
            return found
    # To load a subnet takes as long as on the device of the source, which is another one.
    return tuple(
        dataclasses.replace(row, id=subnet_of(row, space, source).id, loading_ns=None) for row in _rows(source)
    )


def _rows(source: str | Path) -> tuple[ProfiledSubnet, ...]:
    if str(source) not in shipped_tables() and Path(source).suffix == ".parquet":
        try:
            return Accuracies.read(Path(source)).subnets()
        except DataError as error:
            if "holds no accuracies" not in error.problem:
                raise
    return find_table(source).subnets


def identity_of(named: Named, device: torch.device, options: Options, size: int) -> dict[str, Any]:
    """Return all that decides how long a cell takes: visits of one identity may be put together."""
    return {
        **named.identity,
        "size": size,
        "device": {"name": device_name(device), **device_facts(device)},
        "options": dataclasses.asdict(options),
    }


def provenance_of(
    identity: Mapping[str, Any], accuracies: str, actuation: SwitchCost | None = None, stages: str = ""
) -> dict[str, str]:
    """Return what a table says of where its figures come from."""
    device, options = identity["device"], identity["options"]
    chosen = ", ".join(name.replace("_", " ") for name, value in options.items() if value is True)
    if options["compiled"] and options["compile_mode"] != "default":
        chosen += f", compile mode {options['compile_mode']}"
    facts = ", ".join(f"{name} {text}" for name, text in device.items() if name != "name")
    return {
        "source": "measured by ssim profile",
        "supernet": f"{identity['family']}, {identity['weights']}",
        "input": f"size {identity['size']}",
        "device": f"{device['name']} ({facts})",
        "latency": "wall clock from the call to the end of the work on the device, launch overhead included; medians",
        "options": f"{options['precision']}{', ' if chosen else ''}{chosen}",
        "accuracy": accuracies,
        **({"stages": stages} if stages else {}),
        **({} if actuation is None else {"actuation": str(actuation)}),
    }


def write_cells(folder: Path, plan: ProfilePlan, grid: Grid) -> None:
    """Write the estimates of all cells, and their samples.

    Raises:
        StoreError: The disk is full, or the folder can't be written.
    """
    write_samples(grid, folder / "samples.parquet")
    write_text(folder / "cells.csv", cells_text(plan.estimates(grid), grid.use))


def write_profile(folder: Path, plan: ProfilePlan, result: ProfileResult, grid: Grid) -> None:
    """Write the table of a profile, its picture and its report.

    Raises:
        StoreError: The disk is full, or the folder can't be written.
    """
    for name in ("table.parquet", "table.csv"):
        write_table(result.table, folder / name)
    write_table(dataclasses.replace(result.table, samples_ns=None), folder / "superserve.json")
    save(draw_latency(result.table), folder / "latency")
    write_text(folder / "report.md", report(plan, result, grid, "latency.png"))
