"""`ssim schema`: the JSON Schemas of the files that are read."""

from __future__ import annotations

import click

from ssim.commands.group import example


@click.command(epilog=example("ssim schema experiment > experiment.schema.json"))
@click.argument("what", type=click.Choice(["experiment", "training", "topology"]), default="experiment")
def schema(what: str) -> None:
    """Print the JSON Schema of experiment, training or topology files.

    It names every key with its type. An editor with a YAML language server completes and checks a file that begins with
    `# yaml-language-server: $schema=experiment.schema.json`.
    """
    import json

    from ssim.jobs.schema import experiment_schema, topology_schema, training_schema

    made = {"experiment": experiment_schema, "training": training_schema, "topology": topology_schema}
    click.echo(json.dumps(made[what](), indent=2))
