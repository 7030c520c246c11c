"""The pages of reference that are made from the code: keys of files, commands, policies, schemas.

`python -m tests.reference_pages` writes them; a test holds that they say what the code says.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import policies
from policies import planners
from ssim.commands.root import ssim
from ssim.jobs.schema import deployment_schema, job_schema, topology_schema

Schema = Mapping[str, Any]

DOCS = Path(__file__).parents[1] / "docs"
KINDS = {
    "experiment": "An experiment replays traces against policies: `ssim run FILE`.",
    "training": "A training trains a supernet: `ssim supernet train FILE`.",
    "federated": "A federated training trains a network over the clients of a topology: `ssim train FILE`.",
    "profile": "A profile measures the subnets of a supernet on a device: `ssim profile`, or `ssim run FILE`.",
    "topology": "A topology describes roles and channels: `ssim topology check FILE`.",
    "deployment": "A deployment says where the workers of a topology run: `ssim topology deploy TOPOLOGY FILE`.",
}


def _schema(kind: str) -> Schema:
    others = {"topology": topology_schema, "deployment": deployment_schema}
    return others[kind]() if kind in others else job_schema(f"{kind}/1")


def pages() -> dict[str, str]:
    """Return the text of each page by its path in docs/."""
    made = {"reference/commands.md": _commands(), "api/policies.md": _policies()}
    for kind in KINDS:
        schema = _schema(kind)
        made[f"reference/{kind}.md"] = "".join(_keys(kind, schema))
        made[f"reference/{kind}.json"] = json.dumps(schema, indent=1) + "\n"
    return made


class _Reader:
    """Follows the references of a schema, and says what a value of it is."""

    def __init__(self, root: Schema) -> None:
        self._definitions = root.get("$defs", {})

    def followed(self, schema: Schema) -> Schema:
        name = schema.get("$ref", "").rpartition("/")[2]
        return {**self._definitions[name], **{k: v for k, v in schema.items() if k != "$ref"}} if name else schema

    def alternatives(self, schema: Schema) -> list[Schema]:
        schema = self.followed(schema)
        if "properties" in schema or "anyOf" not in schema or schema.get("type") == "string":
            return [schema]
        return [one for part in schema["anyOf"] for one in self.alternatives(part)]

    def objects(self, schema: Schema) -> Iterator[Schema]:
        """Yield the objects with keys of their own that a value, or an item of it, may be."""
        for one in self.alternatives(schema):
            if one.get("properties"):
                yield one
            elif "items" in one:
                yield from self.objects(one["items"])
            elif isinstance(one.get("additionalProperties"), Mapping):
                yield from self.objects(one["additionalProperties"])

    def text(self, schema: Schema) -> str:
        """Say in words what a value may be."""
        found: dict[str, None] = {}
        for one in self.alternatives(schema):
            found[self._one(one)] = None
        return " or ".join(found)

    def _one(self, schema: Schema) -> str:
        if "const" in schema:
            return f"`{schema['const']}`"
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        if schema.get("type") == "string" and "anyOf" in schema:
            return "a name, or `module:Class`"
        if schema.get("type") == "array":
            item = self.text(schema["items"]) if schema.get("items") else "anything"
            return f"list of {item}"
        if schema.get("type") == "object":
            inner = schema.get("additionalProperties")
            return f"mapping to {self.text(inner)}" if isinstance(inner, Mapping) and inner else "mapping"
        words = {"integer": "whole number", "null": "`null`", "boolean": "`true`, `false`", "string": "text"}
        return words.get(schema.get("type", ""), schema.get("type", "anything")) + _range(schema)


def _range(schema: Schema) -> str:
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {_number(schema[key])}" for key, sign in limits.items() if key in schema]
    return f" {', '.join(found)}" if found else ""


def _number(value: float) -> str:
    return f"2^{value.bit_length() - 1}" if isinstance(value, int) and value > 2**60 else f"{value:,}"


def _keys(kind: str, schema: Schema) -> Iterator[str]:
    yield f"# Keys of {'an' if kind == 'experiment' else 'a'} {kind} file\n\n{KINDS[kind]}\n\n"
    yield f"This page is made from the schema of these files: [{kind}.json]({kind}.json), or `ssim schema {kind}`.\n"
    yield "An editor with a YAML language server completes and checks a file that begins with\n"
    yield f"`# yaml-language-server: $schema={kind}.json`.\n\n"
    yield from _Keys(_Reader(schema)).section(schema, "", 2)


class _Keys:
    """Writes the tables of keys; an object that several keys share has its table once."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._written: set[str] = set()

    def section(self, schema: Schema, path: str, level: int) -> Iterator[str]:
        """Yield the table of an object's keys, and then those of the objects in it."""
        yield "| Key | Value | Default | Meaning |\n| --- | --- | --- | --- |\n"
        nested: list[tuple[str, str, Schema]] = []
        for key, declared in schema["properties"].items():
            value = self._reader.followed(declared)
            objects = [_of_parameters(one) for one in self._reader.objects(value)]
            nested += [(key, _choice(one), _without_choice(one)) for one in objects]
            meaning = _one_line(value.get("description", ""))
            cells = (f"`{key}`", self._reader.text(value), _default(schema, key, value), meaning)
            yield "| " + " | ".join(map(_cell, cells)) + " |\n"
        yield "\n"
        for key, choice, one in nested:
            name = f"{path}{key}"
            if (written := f"{choice or name}{json.dumps(one)}") in self._written:
                continue
            self._written.add(written)
            yield f"{'#' * min(level, 4)} `{name}`{choice}\n\n"
            if said := _one_line(one.get("description", "").partition("\n\n")[0]):
                yield f"{said}\n\n"
            if one["properties"]:
                yield from self.section(one, f"{name}.", level + 1)


def _default(schema: Schema, key: str, value: Schema) -> str:
    if key in schema.get("required", ()):
        return "required"
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def _of_parameters(schema: Schema) -> Schema:
    """Return the parameters of one of several classes, where a mapping holds its name and these."""
    properties = schema["properties"]
    if "const" not in properties.get("use", ()):
        return schema
    chosen, parameters = properties["use"], properties.get("params", {"properties": {}})
    kept = {"use": chosen, **parameters["properties"]}
    return {**parameters, "description": chosen.get("description", ""), "properties": kept}


def _choice(schema: Schema) -> str:
    """Return by which key and value an alternative is chosen, such as `kind: azure`."""
    return next((f": `{k}: {v['const']}`" for k, v in schema["properties"].items() if "const" in v), "")


def _without_choice(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema["properties"].items() if "const" not in value}
    return {**schema, "properties": kept}


def _cell(text: str) -> str:
    """Return a text for a cell of a table, in which Markdown reads nothing but code."""
    escaped = {"[": "\\[", "*": "\\*", "<": "&lt;"}
    text = re.sub(r"`[^`]*`|[\[*<]", lambda found: escaped.get(found[0], found[0]), _one_line(text))
    return text.replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _policies() -> str:
    text = "# `policies`\n\nThe policies and planners that come with the toolkit, and the checks of one's own.\n\n"
    for package, names in (("policies", policies.SHORT_NAMES), ("policies.planners", planners.SHORT_NAMES)):
        modules = sorted({target.partition(":")[0] for target in names.values()})
        text += f"::: {package}\n\n"
        for module in modules:
            text += f"## {module.rpartition('.')[2]}\n\n::: {module}\n    options: {{heading_level: 3}}\n\n"
    return text


def _commands() -> str:
    lines = [
        "# Commands\n\n",
        "This page is made from the help of the commands: `ssim COMMAND --help` prints the same in a terminal.\n\n",
    ]
    context = click.Context(ssim, info_name="ssim")
    for name in ssim.list_commands(context):
        lines += _command(ssim.get_command(context, name), f"ssim {name}", context, 2)
    return "".join(lines)


def _command(command: click.Command | None, path: str, parent: click.Context, level: int) -> Iterator[str]:
    if command is None or command.hidden:
        return
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"{'#' * level} `{path}`\n\n"
    if not isinstance(command, click.Group):
        yield f"```text\n{path} {usage}\n```\n\n"
    yield _prose(command.help or "") + "\n\n"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options and not isinstance(command, click.Group):
        yield "| Option | Meaning |\n| --- | --- |\n"
        for option in options:
            record = option.get_help_record(context)
            if record is not None:
                yield f"| {_cell(f'`{record[0]}`')} | {_cell(record[1])} |\n"
        yield "\n"
    if command.epilog and "Example" in command.epilog:
        yield f"```console\n{_example(command.epilog)}\n```\n\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _command(command.get_command(context, name), f"{path} {name}", context, level + 1)


def _prose(text: str) -> str:
    return re.sub(r"(?m)^\x08$\n?", "", inspect.cleandoc(text))


def _example(epilog: str) -> str:
    lines = [line.strip() for line in epilog.splitlines()]
    return "\n".join(f"$ {line}" for line in lines if line.startswith("ssim "))


if __name__ == "__main__":
    for page, text in pages().items():
        (DOCS / page).write_text(text, encoding="utf-8")
