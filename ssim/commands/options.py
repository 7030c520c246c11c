"""Options that several commands have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from click.shell_completion import CompletionItem

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def completed(known: Callable[[], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """Return what completes a name in a shell: those that begin as what was typed, or else files.

    Args:
        known: Returns the names.
    """

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name) for name in known() if name.startswith(typed)]
        return found or [CompletionItem(typed, type="file")]

    return complete


def policy_names() -> Iterable[str]:
    """Return the names of the shipped policies."""
    from policies import SHORT_NAMES

    return SHORT_NAMES


def planner_names() -> Iterable[str]:
    """Return the names of the shipped planners."""
    from policies.planners import SHORT_NAMES

    return SHORT_NAMES


def table_names() -> Iterable[str]:
    """Return the names of the shipped latency tables."""
    from sim.tables.files import shipped_tables

    return shipped_tables()


def trace_kinds() -> Iterable[str]:
    """Return the names of the kinds of trace sources."""
    from sim.traces import SHORT_NAMES

    return SHORT_NAMES


def family_names() -> Iterable[str]:
    """Return the names of the shipped families; none without torch."""
    try:
        from supernet.families import FAMILIES
    except ModuleNotFoundError:
        return ()
    return FAMILIES


def stored_jobs() -> Iterable[str]:
    """Return the names of the jobs that have results in `results`."""
    from ssim.results.stored import stored_names

    return stored_names(Path("results"))


class ShippedFile(click.ParamType[Path]):
    """A file that is named by its path, or by the short name of one that comes with the toolkit."""

    name = "file"

    def __init__(self, *kinds: str) -> None:
        """Take short names of some kinds: `experiments`, `topologies`, or both."""
        self.kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        del param, ctx
        from ssim.files.shipped import find_file, names

        if isinstance(value, Path):
            return value
        kind = next((kind for kind in self.kinds if value in names(kind)), self.kinds[0])
        return find_file(kind, value, lambda line: click.echo(line, err=True))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the short names that begin as what was typed, and leave files to the shell."""
        from ssim.files.shipped import names

        return completed(lambda: [name for kind in self.kinds for name in names(kind)])(ctx, param, incomplete)


def cores() -> int:
    """Return how many cores this process may use."""
    from sim.base.cores import usable_cores

    return usable_cores()


out_option = click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of results; each job has a folder of its name in it.",
)
results_option = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
"""For commands that read results; `-o` is what they write."""
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the file, such as trace.mean_qps=4000 or seed=8. Repeatable.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def jobs_option(default: Callable[[], int] | int = cores, text: str = "Number of runs at once.") -> Decorator:
    """Return the option `--jobs` with a default and a help text."""
    shown = "cores" if callable(default) else True
    return click.option("-j", "--jobs", type=click.IntRange(1), default=default, show_default=shown, help=text)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument FILE and the options `--out` and `--set`."""
    file = click.argument("file", metavar="FILE", type=ShippedFile("experiments"))
    return file(out_option(set_option(command)))


def job_options(jobs: Callable[[], int] | int = cores) -> Decorator:
    """Return a decorator that adds `file_options`, and `--jobs` with a default."""
    return lambda command: file_options(jobs_option(jobs)(command))


def names_option(option: str, destination: str, metavar: str, text: str, known: Collection[str] = ()) -> Decorator:
    """Return an option that takes several names: it may be repeated, and each time name several, with commas between.

    A comma in parentheses belongs to a name, as in `clipper(accuracy=78.25,margin_ms=1)`.

    Args:
        option: The option as it is typed, such as `--policies`.
        destination: The parameter of the command, which gets a tuple of names.
        metavar: What a name is called in the help.
        text: The help.
        known: All names that there may be; any name if empty.
    """

    def split(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        from sim.base.errors import SpecError, did_you_mean

        names: list[str] = []
        for value in values:
            found = [name.strip() for name in re.findall(r"(?:[^,(]|\([^)]*\)?)+", value) if name.strip()]
            if not found:
                raise SpecError(option, "no name given", repr(value), "one, or several with commas between them")
            names += found
        for name in names:
            if known and name not in known:
                raise SpecError(option, "unknown name", repr(name), did_you_mean(name, known))
        return tuple(dict.fromkeys(names))

    help_ = f"{text} Repeatable, or several with commas."
    return click.option(option, destination, multiple=True, metavar=f"{metavar},...", callback=split, help=help_)


family_option = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the family. Repeatable."
)


where_option = click.option(
    "--where",
    "choices",
    multiple=True,
    metavar="COLUMN=TEXT",
    help="Use only these rows of a .csv table: a text or pattern in a column, as device=pascal. Repeatable.",
)


def parse_where(choices: Sequence[str]) -> dict[str, str]:
    """Return what `--where` asks for, by column.

    Raises:
        SpecError: A choice is not COLUMN=TEXT, or a column is given twice.
    """
    from sim.base.errors import SpecError

    found: dict[str, str] = {}
    for choice in choices:
        column, sign, text = choice.partition("=")
        if not sign or not column.strip() or not text.strip():
            raise SpecError("--where", "must be COLUMN=TEXT", repr(choice), "such as device=pascal")
        if column.strip() in found:
            raise SpecError("--where", "names a column twice", repr(choice), "use a pattern for several texts: bert-*")
        found[column.strip()] = text.strip()
    return found


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where a training computes."""
    device = click.option(
        "--device", default="cpu", show_default=True, help="Device of trainings: cpu, cuda, cuda:1, ..."
    )
    threads = click.option(
        "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each training."
    )
    return threads(device(command))
