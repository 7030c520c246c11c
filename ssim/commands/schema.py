"""`ssim schema`: the JSON Schema of experiment files."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for `# yaml-language-server: $schema=...`."""
    import json

    from ssim.schema import experiment_schema

    click.echo(json.dumps(experiment_schema(), indent=2))
