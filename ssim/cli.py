"""The command line: `ssim COMMAND ...`.

Commands are imported when they are called, so that `ssim --help` is quick. Every error that a user can cause ends in
one line (one for each fault of a file) and exit code 2 for bad input, 1 for a failure.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import NoReturn

import click

COMMANDS = {
    "run": "Run an experiment file, print its table and draw its figures.",
    "capacity": "Find the highest rate at which policies hold an SLO attainment.",
    "reproduce": "Run the paper's experiments, draw its figures, judge its claims.",
    "optimum": "Hold stored runs against what any policy could have reached.",
    "sweep": "Stored experiments: status, ls.",
    "figures": "Draw the figures of stored results again.",
    "report": "Make one page of stored results, for a browser.",
    "policy": "Policies: list, check, plot.",
    "table": "Latency tables: list, show, plot, check, diff, convert.",
    "profile": "Measure the subnets of a supernet on a device: a latency table.",
    "trace": "Traces: list, make, describe, plot, fetch.",
    "supernet": "Supernets (SubNetAct): list, show, memory, import.",
    "train": "Train a model or a supernet over the parties of a topology.",
    "topology": "Topologies of roles and channels: check, expand, draw, diff, import.",
    "schema": "Print the JSON Schema of experiment, training or topology files, for editors.",
}
"""Each command and what it is for; the command itself is `ssim.commands.<name>:<name>`."""


class _Commands(click.Group):
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


def _version(context: click.Context, _: click.Parameter, on: bool) -> None:
    if on:
        from sim.base.version import VERSION

        click.echo(f"ssim {VERSION}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error. May stand anywhere on the line.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def ssim(*, debug: bool) -> None:
    """Simulate the serving of weight-shared supernets under bursty load."""
    del debug  # main has read it


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    signal.signal(signal.SIGTERM, _interrupt)  # a polite end is an interruption like Ctrl-C
    try:
        code = ssim.main([word for word in words if word != "--debug"], "ssim", standalone_mode=False, obj=debug)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        if debug:
            raise
        _say("interrupted")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _say(str(error) if _is_ours(error) else _sentence(error))
        sys.exit(getattr(error, "exit_code", 1))
    sys.exit(code or 0)  # a command that ends with an exit code comes back with it


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _sentence(error: Exception) -> str:
    from sim.base.errors import user_frame

    place = user_frame(error)
    return f"{type(error).__name__}: {error} ({f'{place}; ' if place else ''}--debug shows the traceback)"


def _is_ours(error: Exception) -> bool:
    return hasattr(error, "exit_code")


def _say(text: str) -> None:
    for line in text.splitlines() or [""]:
        click.echo(f"ssim: {line}", err=True)
