"""`ssim policy`: what a policy decides, whether it keeps the rules, and which engine runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sim.latency import LatencyTable
    from sim.policy import Policy

_name = click.argument("name")
_table = click.option(
    "--table", "table_name", default="ofa-resnet50-rtx2080ti", show_default=True, help="Name or file."
)
_params = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the policy.")


@click.group()
def policy() -> None:
    """Policies: list, check, plot. NAME is a short name, module:Class, or FILE.py:Class."""


@policy.command("list")
def list_() -> None:
    """List the policies that come with the toolkit, with their parameters."""
    import dataclasses

    from policies import SHORT_NAMES
    from ssim.plugins import find_class

    for name in sorted(SHORT_NAMES):
        owner = find_class(name, SHORT_NAMES, "policy")
        fields = (field for field in dataclasses.fields(owner) if field.init)
        given = (f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}" for f in fields)
        click.echo(f"{name}: {(owner.__doc__ or '').splitlines()[0]}\n    {', '.join(given) or 'no parameters'}")


@policy.command()
@_name
@_table
@_params
def check(name: str, table_name: str, settings: tuple[str, ...]) -> None:
    """Say whether a policy keeps the rules, and which engine runs it, and why."""
    from policies.checks import check_policy
    from sim.engines import numba_is_installed
    from sim.tabulate import NotTabulableError, tabulate

    built, table = _built(name, table_name, settings)
    check_policy(built, table)
    click.echo(f"{name}: keeps the rules")
    try:
        found = tabulate(built, table)
    except NotTabulableError as reason:
        click.echo(f"{name}: runs in SimPy alone ({reason})")
        return
    rows, lengths = found.subnets.shape
    stretches, queues = f"stretch{'es' if rows > 1 else ''}", f"queue length{'s' if lengths > 1 else ''}"
    said = f"a table of {rows} {stretches} of slack by {lengths} {queues}"
    here = "" if numba_is_installed() else "; numba is not installed here, so it runs in SimPy"
    click.echo(f"{name}: runs in the compiled engine as {said}{here}")


@policy.command()
@_name
@_table
@_params
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .pdf, .svg or .png file.")
def plot(name: str, table_name: str, settings: tuple[str, ...], output: Path) -> None:
    """Draw what a policy decides over slack and queue length."""
    import numpy as np

    from figures.decisions import draw_decisions
    from figures.style import save_as
    from policies.checks import still_view
    from sim.policy import Dispatch

    built, table = _built(name, table_name, settings)
    slowest_ms = float(table.latency_ns.max()) / 1e6
    edges = np.linspace(-0.1 * slowest_ms, 1.2 * slowest_ms, 521)
    lengths = np.arange(1, 2 * table.max_batch + 1)
    shape = (len(lengths), len(edges) - 1)
    accuracy, size = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, length in enumerate(lengths.tolist()):
        for column, middle_ms in enumerate((edges[:-1] + edges[1:]) / 2):
            decision = built.decide(still_view(table, slack_ns=round(middle_ms * 1e6), queue_length=length))
            if isinstance(decision, Dispatch):
                accuracy[row, column] = table.subnets[decision.subnet].accuracy
                size[row, column] = decision.batch_size
    label = ", ".join((name, *settings))
    save_as(draw_decisions(edges, lengths, accuracy, size, f"{label} on {table.device}"), output)
    click.echo(f"what {name} decides: {output}")


def _built(name: str, table_name: str, settings: tuple[str, ...]) -> tuple[Policy, LatencyTable]:
    """Return the policy and the table that a command names.

    Raises:
        SsimError: There is no such policy, parameter or table.
    """
    from sim.errors import SpecError
    from sim.table_files import load_table
    from ssim.run import policy_of
    from ssim.spec import PolicySpec
    from ssim.yaml_file import parse_settings

    file, _, owner = name.rpartition(":")
    folder = Path.cwd()
    if file.endswith(".py"):
        folder, name = Path(file).resolve().parent, f"{Path(file).stem}:{owner}"
    built, faults = policy_of(PolicySpec(use=name, params=parse_settings(settings)), folder)
    if faults:
        raise SpecError(name, "; ".join(map(str, faults)))
    found: Policy = built
    return found, load_table(table_name)
