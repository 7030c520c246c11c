"""`ssim completion`: what completes commands, options and names in a shell."""

from __future__ import annotations

import click

from ssim.commands.group import example


@click.command(
    epilog=example(
        'eval "$(ssim completion bash)"',
        'eval "$(ssim completion zsh)"',
        "ssim completion fish > ~/.config/fish/completions/ssim.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which a SHELL completes commands, options, and names of what is shipped or stored.

    For bash and zsh, the line below belongs into ~/.bashrc or ~/.zshrc.
    """
    from click.shell_completion import get_completion_class

    from ssim.commands.root import ssim

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(ssim, {}, "ssim", "_SSIM_COMPLETE").source())
