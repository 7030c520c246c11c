"""`ssim schema`: the JSON Schemas of the files that are read."""

from __future__ import annotations

import click


@click.command()
@click.argument("what", type=click.Choice(["experiment", "training"]), default="experiment")
def schema(what: str) -> None:
    """Print the JSON Schema of experiment or training files, for `# yaml-language-server: $schema=...`."""
    import json

    from ssim.schema import experiment_schema, training_schema

    click.echo(json.dumps(training_schema() if what == "training" else experiment_schema(), indent=2))
