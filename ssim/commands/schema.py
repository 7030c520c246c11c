"""`ssim schema`: the JSON Schemas of the files that are read."""

from __future__ import annotations

import click

from ssim.commands.group import example

_KINDS = ("experiment", "training", "federated", "profile", "topology", "deployment")


@click.command(epilog=example("ssim schema federated > federated.json"))
@click.argument("kind", type=click.Choice(_KINDS), default="experiment")
def schema(kind: str) -> None:
    """Print the JSON Schema of a KIND of file: every key with its meaning, type and default.

    An editor with a YAML language server completes and checks a file that begins with
    `# yaml-language-server: $schema=federated.json`.
    """
    import json

    from ssim.jobs.schema import deployment_schema, job_schema, topology_schema

    others = {"topology": topology_schema, "deployment": deployment_schema}
    found = others[kind]() if kind in others else job_schema(f"{kind}/1")
    click.echo(json.dumps(found, indent=2))
