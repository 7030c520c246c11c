"""Values put into the content of a file by dotted key: those of `--set`, and those of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, did_you_mean
from ssim.files.model import known_keys
from ssim.files.plugins import Issue
from ssim.files.yaml_file import parse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel


def put_settings(data: Any, settings: Sequence[str], model: type[BaseModel]) -> tuple[str, ...]:
    """Put `key=value` settings into the content of a file of a model; return the keys. `sweep=null` removes the sweep.

    Raises:
        SpecError: A setting has another form, its key has no place in the file, or the key is swept.
    """
    values = parse_settings(settings)
    # The sweep comes first, since it decides on the others.
    for key in sorted(values, key=lambda key: key.partition(".")[0] != "sweep"):
        sweep = data.get("sweep") if isinstance(data, dict) else None
        swept = sweep if isinstance(sweep, dict) else {}
        hidden = [name for name in swept if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")]
        if hidden:
            hint = f"the sweep sets it at every point; give --set sweep.{hidden[0]}=[...], or remove it from `sweep`"
            raise SpecError("--set", "the key is swept", repr(key), hint)
        if key == "sweep" and values[key] is None and isinstance(data, dict):
            data.pop(key, None)
            continue
        issue = put(data, key, values[key], model)
        if issue:
            raise SpecError("--set", issue.problem, repr(key), issue.hint)
    return tuple(values)


def put(data: Any, key: str, value: object, model: type[BaseModel]) -> Issue | None:
    """Set a dotted key (`cluster.workers`, `policies.0.params.buckets`) of a file's content; return what is wrong.

    A section that the file leaves out, and that its model knows, is begun.
    """
    steps = key.split(".")
    if steps[0] == "sweep" and len(steps) > 1:  # its keys have dots themselves
        steps = ["sweep", key.removeprefix("sweep.")]
    place = tuple(int(step) if step.isdigit() else step for step in steps)
    node = data
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        match node:
            case list():
                if not step.isdigit() or int(step) >= len(node):
                    return Issue((), "no such entry", key, f"0 to {len(node) - 1}" if node else "the list is empty")
                if last:
                    node[int(step)] = value
                else:
                    node = node[int(step)]
            case dict():
                if last:
                    node[step] = value
                elif node.get(step) is not None:
                    node = node[step]
                elif step in {"params", *known_keys(model, place[: depth + 1])} or steps[0] == "topology":
                    node[step] = node = {}
                else:
                    return Issue((), "unknown key", key, did_you_mean(step, map(str, node)))
            case _:
                return Issue((), f"{'.'.join(steps[:depth])} has no keys", key)
    return None
