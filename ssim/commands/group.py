"""What the groups of commands have in common, and how a command's help shows an example."""

from __future__ import annotations

import click


class CommandGroup(click.Group):
    """Commands in the order of their definition; `help` is a command, and a mistyped one is answered by a near one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with the first sentence of their help, however long."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=500)) for name, one in self.commands.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `help COMMAND` as `COMMAND --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the command and its arguments.

        Raises:
            click.UsageError: There is no such command.
        """
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            from difflib import get_close_matches

            similar = get_close_matches(name, known, n=1)
            hint = f"Did you mean {similar[0]!r}?" if similar else f"Commands: {', '.join(known)}."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


def print_version(context: click.Context, _: click.Parameter, on: bool) -> None:
    """Print the version with its commit and end, if an option asks for it."""
    if on:
        from sim.base.version import VERSION
        from ssim.results.environment import commit

        made_from = commit()
        click.echo(f"ssim {VERSION}{f' (commit {made_from})' if made_from else ''}")
        context.exit()


def example(*lines: str) -> str:
    """Return the end of a command's help: lines to be typed as they are."""
    heading = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(("\b", heading, *(f"  {line}" for line in lines)))
