"""What the commands that run an experiment have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the argument FILE and the options `--out`, `--set` and `--jobs`."""
    parameters = (
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=Path("results"),
            show_default=True,
            help="Folder of results.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override a key, such as trace.mean_qps=4000.",
        ),
        click.option("--jobs", type=click.IntRange(1), default=cores, show_default="cores", help="Runs at once."),
    )
    for parameter in reversed(parameters):
        command = parameter(command)
    return command


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
