"""The command line: `ssim COMMAND ...`.

Every error that a user can cause ends in one line (one for each fault of a file) and exit code 2 for bad input, 1 for
a failure. Whatever takes time to import is imported where an interruption is already caught.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False  # `typing` itself takes time
if TYPE_CHECKING:
    from typing import NoReturn


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # a polite end is an interruption like Ctrl-C
        code = _run([word for word in words if word != "--debug"], debug=debug)
    except KeyboardInterrupt:
        if debug:
            raise
        _say("interrupted")
        code = 1
    sys.exit(code)


def _run(words: list[str], *, debug: bool) -> int:
    """Run the command line and return its exit code.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """
    from ssim import installation

    if found := installation.intruder():
        _say(found)
        return 1
    if found := installation.other_versions():
        _say(found)

    import click

    from ssim.commands.root import ssim

    try:
        # A command that ends with an exit code comes back with it.
        return ssim.main(words, "ssim", standalone_mode=False, obj=debug) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except (Exception, SystemExit) as error:
        if debug or (isinstance(error, SystemExit) and not _place(error)):  # a user's own code may call exit()
            raise
        if isinstance(error, ModuleNotFoundError):
            from ssim.extras import missing

            error = missing(error.name or "") or error
        _say(str(error) if hasattr(error, "exit_code") else _sentence(error))
        return getattr(error, "exit_code", 1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _sentence(error: BaseException) -> str:
    """Return what is said of an error that no part of the toolkit raised on purpose."""
    place, text = _place(error), " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{what} ({f'{place}; ' if place else ''}--debug shows the traceback)"


def _place(error: BaseException) -> str:
    """Return where an error was raised in a user's own code, or "" if it was not."""
    errors = sys.modules.get("sim.base.errors")  # if it is not there, no code of the user's has run
    return errors.user_frame(error) if errors else ""


def _say(text: str) -> None:
    for line in text.splitlines() or [""]:
        print(f"ssim: {line}", file=sys.stderr)  # noqa: T201 - click may not be there yet
