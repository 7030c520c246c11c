"""The command `ssim`. Commands are imported when they are called, so that `ssim --help` is quick."""

from __future__ import annotations

import importlib

import click

from ssim.commands.group import CommandGroup, print_version
from ssim.commands.printing import spinning
from ssim.commands.silence import told
from ssim.files.waiting import WAITING

COMMANDS = {
    "run": "Run an experiment, a training or a profile; print its table and draw its figures.",
    "serve": "Serve requests over the network in real time (Open Inference Protocol).",
    "worker": "Join the router of a live run on another machine, as one of its workers.",
    "load": "Send the queries of a trace to a server, and measure what it answers.",
    "capacity": "Find the highest rate that meets an SLO attainment, or the workers for a rate.",
    "optimum": "Compare stored runs with an upper bound on what any policy can reach.",
    "reproduce": "Run the paper's experiments, draw its figures, judge its claims.",
    "results": "Stored results: status, ls, trace.",
    "compare": "Compare stored policies with a reference; a table for a terminal, Markdown, LaTeX or CSV.",
    "figures": "Draw the figures of a stored experiment again, or those of the paper.",
    "report": "Make one HTML page of stored results.",
    "policy": "Scheduling policies: list, check, plot.",
    "planner": "Planners, which change the number of workers in a run: list, check.",
    "trace": "Traces of arrivals: list, make, describe, plot, fetch.",
    "table": "Latency tables: list, show, plot, check, diff, predict, convert, from-run.",
    "profile": "Measure the subnets of a supernet on a device and write a latency table.",
    "supernet": "Supernets (SubNetAct): list, show, memory, import, train, calibrate, search, fetch.",
    "train": "Train a model or a supernet over the clients of a topology (federated learning).",
    "topology": "Topologies of roles and channels: check, expand, draw, diff, deploy, import, clients.",
    "schema": "Print the JSON Schema of a kind of file, for editors.",
    "completion": "Print what completes commands and names in a shell.",
    "examples": "List the shipped experiments, trainings and topologies.",
    "init": "Write a small commented file to begin with.",
}
"""Each command and what it is for; the command itself is `ssim.commands.<name>:<name>`."""


_LASTING = {"serve"}
"""Commands that are silent because nothing happens."""


class _Root(CommandGroup):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"ssim.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`ssim help COMMAND` and `ssim COMMAND --help` describe a command and show an example.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere in the command line.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version and exit.",
)
@click.pass_context
def ssim(context: click.Context, *, debug: bool) -> None:
    """Simulate serving with weight-shared supernets under bursty load, profile supernets on devices, and train them.

    Simulation needs no torch; supernets, profiles and training need the extra `torch`.
    """
    del debug  # main has read it
    WAITING.set(spinning)
    if context.invoked_subcommand not in _LASTING:
        context.with_resource(told(f"ssim {context.invoked_subcommand}"))
