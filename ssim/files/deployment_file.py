"""Deployment files: at which site each worker of a topology runs; all that is wrong is reported by line and column."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from sim.base.errors import did_you_mean
from ssim.files.model import Closed
from ssim.files.plugins import Issue, issues_of
from ssim.files.schemas import check_schema
from ssim.files.topology_file import Name
from ssim.files.yaml_file import read_yaml
from topology.flaws import TagError
from topology.sites import DeploymentSite, PlannedProcess, processes_at

if TYPE_CHECKING:
    from pathlib import Path

    from topology.plan import Plan

SCHEMA = "deployment/1"


class DeploymentModel(Closed):
    """Where the workers of a topology run."""

    schema_: Literal["deployment/1"] = Field(alias="schema")
    """The kind of file."""
    name: str = ""
    """The name of the deployment."""
    sites: dict[Name, DeploymentSite] = Field(min_length=1)
    """Sites by name: whose workers run there, on which machines, and what each of their processes needs."""


def read_deployment(path: Path, plan: Plan) -> tuple[tuple[DeploymentSite, ...], list[PlannedProcess]]:
    """Return the sites of a deployment file, and the processes of a plan at them.

    Raises:
        SpecError: The file is invalid, or does not fit the plan; lists all issues, by line and column.
    """
    check_schema(path, SCHEMA)
    file = read_yaml(path)
    if not isinstance(file.data, dict):
        raise file.error([Issue((), "must be a mapping, key: value", "", f"schema: {SCHEMA}, sites")])
    content, issues = _with_names(file.data)
    try:
        model = DeploymentModel.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise file.error([*issues, *map(_with_hint, issues_of(error, content, DeploymentModel))]) from error
    if issues:
        raise file.error(issues)
    sites = tuple(model.sites.values())
    try:
        return sites, processes_at(plan, sites)
    except TagError as error:
        raise file.error([Issue(*flaw) for flaw in error.flaws]) from error


def _with_names(data: dict[Any, Any]) -> tuple[dict[Any, Any], list[Issue]]:
    """Return a file's content with the name of each site as a field of it."""
    sites, issues = data.get("sites"), []
    if not isinstance(sites, dict):
        return data, []
    written = {}
    for name, body in sites.items():
        if isinstance(body, dict) and "name" in body:
            issues.append(Issue(("sites", name, "name"), "already given", repr(body["name"]), "remove it", at_key=True))
        known = {} if body is None else body
        written[name] = {**known, "name": name} if isinstance(known, dict) else known
    return {**data, "sites": written}, issues


def _with_hint(issue: Issue) -> Issue:
    if issue.at_key and len(issue.place) > 1:
        known = [field.name for field in fields(DeploymentSite) if field.name != "name"]
        return replace(issue, hint=did_you_mean(str(issue.place[-1]), known))
    if issue.place == ("schema",):
        return replace(issue, hint=f"schema: {SCHEMA}")
    return issue
