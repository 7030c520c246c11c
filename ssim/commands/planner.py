"""`ssim planner`: which planners there are, and whether one obeys the planner interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    shell_complete=completed(policy_names),
    help="The policy whose parameters it may change; one that serves one model gets the most accurate.  "
    "[default: the one that it plans for, or slackfit]",
)
@parameters
def check(name: str, table_name: str, policy_name: str | None, settings: Iterable[str]) -> None:
    """Check that a planner obeys the planner interface.

    It is asked through a load that comes and goes, with workers of one kind and of two: light and heavy load, late and
    dropped queries, failed workers and none at all; and it plans runs whose load rises and falls. Its plans must be
    possible.
    """
    from policies import SHORT_NAMES
    from policies.one_model import OneModel
    from policies.planners import check_planner
    from sim.engines import LIMITED_MEMORY
    from sim.tables.files import load_table
    from ssim.files.plugins import find_class
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.experiment.planners import build_planner
    from ssim.jobs.experiment.policies import build_policy
    from ssim.jobs.experiment.spec import PlannerSpec, PolicySpec

    folder = Path.cwd()
    built = build_planner(PlannerSpec(use=name, params=parse_settings(settings)), folder)
    of = policy_name or str(getattr(built, "plans_for", "slackfit"))
    table, of_policy = load_table(table_name), dict[str, Any]()
    if issubclass(find_class(of, SHORT_NAMES, "policy", folder), OneModel):
        of_policy = {"subnet": table.subnets[-1].id}
    done = check_planner(built, table, build_policy(PolicySpec(use=of, params=of_policy), folder))
    workers = "one or several kinds of workers" if done.several else "workers of one kind, since it plans one number"
    click.echo(f"{name}: obeys the planner interface, for {workers}, with the policy {of}")
    fewest, most = done.workers
    numbers = f"{fewest} to {most}" if fewest < most else f"{most}"
    click.echo(f"{name}: on a load that rises, falls and returns, {numbers} workers, attainment {done.attainment:.3f}")
    click.echo(f"{name}: runs in both engines where its policy does; needs SimPy with: {LIMITED_MEMORY}")
