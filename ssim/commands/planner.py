"""`ssim planner`: which planners there are, and whether one obeys the planner interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.options import completed, json_option, planner_names, policy_names
from ssim.commands.policy import parameters, print_plug_ins, table_option

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.group(cls=CommandGroup)
def planner() -> None:
    """Planners, which change the number of workers in a run: which there are, and whether they obey the interface.

    NAME is a short name (see `ssim planner list`), module:Class, or FILE.py:Class for a planner of your own.
    """


@planner.command("list", epilog=example("ssim planner list"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the shipped planners, with their parameters and defaults."""
    from policies.planners import SHORT_NAMES

    print_plug_ins(SHORT_NAMES, "planner", as_json=as_json)


@planner.command(epilog=example("ssim planner check threshold --set up=0.8", "ssim planner check my_planner.py:Mine"))
@click.argument("name", shell_complete=completed(planner_names))
@table_option
@click.option(
    "--policy",
    "policy_name",
    default="slackfit",
    show_default=True,
    shell_complete=completed(policy_names),
    help="The policy whose parameters it may change.",
)
@parameters
def check(name: str, table_name: str, policy_name: str, settings: Iterable[str]) -> None:
    """Check that a planner obeys the planner interface.

    It is asked through a load that comes and goes, with workers of one kind and of two: light and heavy load, late and
    dropped queries, failed workers and none at all. Its plans must be possible.
    """
    from policies.planners import check_planner
    from sim.engines import SIMPY_ONLY
    from sim.tables.files import load_table
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.experiment.planners import build_planner
    from ssim.jobs.experiment.policies import build_policy
    from ssim.jobs.experiment.spec import PlannerSpec, PolicySpec

    built = build_planner(PlannerSpec(use=name, params=parse_settings(settings)), Path.cwd())
    policy = build_policy(PolicySpec(use=policy_name), Path.cwd())
    several = check_planner(built, load_table(table_name), policy)
    workers = "one or several kinds of workers" if several else "workers of one kind, since it plans one number"
    click.echo(f"{name}: obeys the planner interface, for {workers}")
    click.echo(f"{name}: runs in both engines where its policy does; needs SimPy with: {'; '.join(SIMPY_ONLY)}")
