"""Progress of runs, and a report of failed ones."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich import progress

from sim.base.errors import SsimError
from sim.engines import BROKEN_NUMBA, NO_NUMBA
from ssim.extras import install

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.console import Console

    from ssim.jobs.job import RunOutcome


def report_failures(failed: Sequence[RunOutcome], of: int, noun: str = "runs") -> None:
    """Print why runs failed, each reason once, and end with the exit code of the worst; pass if none did."""
    if not failed:
        return
    reasons: dict[str, list[RunOutcome]] = {}
    for finished in failed:
        reasons.setdefault(str(finished.error), []).append(finished)
    for reason, alike in reasons.items():
        first = alike[0].run
        more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        click.echo(f"ssim: {first}{more}: {reason}", err=True)
        if click.get_current_context().obj:
            click.echo(alike[0].traceback, err=True)
    click.echo(f"ssim: {len(failed)} of {of} {noun} failed", err=True)
    raise click.exceptions.Exit(max(finished.error.exit_code for finished in failed if finished.error))


@contextmanager
def interruptible(kept: str) -> Generator[None]:
    """Turn Ctrl-C or SIGTERM into an error that names the work that is kept, or why none is.

    Raises:
        SsimError: The context was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise SsimError("interrupted", str(error) or kept) from error
    except RuntimeError as error:  # it came while somebody else's lock was being taken, and that was not held when left
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise SsimError("interrupted", kept) from error


class Progress:
    """Progress: a bar with rate and remaining time on a terminal, elsewhere lines: one a run if `each`."""

    def __init__(self, console: Console, *, each: bool = True, bar: bool = True) -> None:
        self._each = each
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
        )
        self._console = console
        self._bar = progress.Progress(
            *columns, console=console, transient=True, disable=not (bar and console.is_terminal)
        )
        self._begin = time.perf_counter()
        self._task = self._bar.add_task("runs", total=None, rate="")
        self._queries = 0
        self._has_noted_numba = False
        self.done = 0
        self.todo = 0

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, todo: int, stored: int) -> None:
        """Begin: so many runs are to do, and so many are stored."""
        self.todo = todo
        self._begin = time.perf_counter()
        self._bar.update(self._task, total=todo)
        if stored:
            self._console.print(f"{stored} of {stored + todo} runs are stored already")

    def more(self, todo: int, searches: int) -> None:
        """Go on: so many runs more, for so many searches."""
        self.todo += todo
        self._bar.update(self._task, total=self.todo, description=f"{searches} searches")
        if todo and not self._console.is_terminal:
            what = f"{todo} run{'s' * (todo != 1)} for {searches} search{'es' * (searches != 1)}"
            self._console.print(what, highlight=False)

    def finished(self, one: RunOutcome) -> None:
        """Count a run that ended."""
        if one.completion.note.startswith((NO_NUMBA, BROKEN_NUMBA)) and not self._has_noted_numba:
            self._has_noted_numba = True
            way_out = f"{install('fast')} brings the compiled engine"
            text = f"{one.completion.note}: SimPy runs, more slowly; {way_out}"
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)
        if one.completion.warning:
            self._console.print(f"{one.run}: {one.completion.warning}", soft_wrap=True, highlight=False, markup=False)
        self.done += 1
        queries = one.completion.queries
        self._queries += queries
        rate = self._queries / max(1e-9, time.perf_counter() - self._begin)
        self._bar.update(self._task, advance=1, rate=f"{rate / 1e6:.2f} M queries/s" if self._queries else "")
        if self._each and not self._console.is_terminal:
            outcome = "failed" if one.error else f"{queries} queries" if queries else "done"
            click.echo(f"[{self.done}/{self.todo}] {one.run}: {outcome}", err=True)  # rich takes a millisecond
