"""Supernets in files: checkpoints, and weights of other tools under their original names.

A checkpoint contains its family and the family's options, so that the supernet can be built from the file alone.
Only tensors and plain values are read from a file; no code in it is run.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.whole_file import whole_file
from supernet.families import FAMILIES
from supernet.family import build
from supernet.network_family import NetworkFamily

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from supernet.family import Family
    from supernet.network import Supernet

SCHEMA = "supernet/1"
"""The format of a checkpoint; the number changes when an old reader would misread a new file."""

_NESTED = ("state_dict", "model", "model_state_dict")
"""The key of the weights in files of other tools that contain more than weights."""


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        supernet: With its weights and running statistics, in evaluation mode, on the CPU.
        family: With its options.
        extra: Further plain values and tensors, by name.
    """

    supernet: Supernet
    family: Family
    extra: dict[str, Any]


def find_family(name: str, options: Mapping[str, Any] | None = None) -> Family:
    """Return a shipped family.

    Args:
        name: Its name.
        options: Its fields.

    Raises:
        SpecError: The family or an option is unknown, or the value of an option is invalid.
    """
    if name not in FAMILIES:
        raise SpecError("family", "unknown name", repr(name), did_you_mean(name, FAMILIES))
    known = [field.name for field in dataclasses.fields(FAMILIES[name])]
    for option in options or {}:
        if option not in known:
            raise SpecError(name, "unknown option", repr(option), did_you_mean(option, known))
    values: dict[str, Any]
    values = {option: tuple(value) if isinstance(value, list) else value for option, value in (options or {}).items()}
    return FAMILIES[name](**values)


def save(path: Path, supernet: Supernet, family: Family, **extra: Any) -> None:
    """Write a checkpoint: whole, or not at all.

    Args:
        path: The file.
        supernet: Its weights and running statistics are written.
        family: The family that it was built from.
        extra: Further plain values and tensors to store.

    Raises:
        StoreError: The file can't be written.
    """
    facts = {"schema": SCHEMA, "family": name_of(family), "options": options_of(family)}
    write(path, {**facts, "state": supernet.state_dict(), "more": extra})


def name_of(family: Family) -> str:
    """Return the name of a family in files: that of a shipped one, or `module:name` of one of your own."""
    if isinstance(family, NetworkFamily):
        return family.name
    owner = type(family)
    own = f"{owner.__module__}:{owner.__qualname__}"
    return next((name for name, shipped in FAMILIES.items() if shipped is owner), own)


def options_of(family: Family) -> dict[str, Any]:
    """Return the options of a family, as a file has them beside its name."""
    if isinstance(family, NetworkFamily):
        return family.parameters
    return {field.name: getattr(family, field.name) for field in dataclasses.fields(family)}


def read_family(path: Path) -> tuple[str, dict[str, Any], list[str]]:
    """Return the name of a checkpoint's family, its options, and the hashes of the user's own code that it is made of.

    Raises:
        DataError: The file is not a checkpoint, or is damaged.
    """
    content = _read_checkpoint(path)
    return content["family"], content["options"], list(content["more"].get("code", ()))


def load(path: Path, family: Family | None = None) -> Checkpoint:
    """Return the content of a checkpoint.

    Args:
        path: The file.
        family: Its family, if it is one of your own: no code that a file names is run.

    Raises:
        DataError: The file is not a checkpoint, is damaged, or has another family.
        SpecError: Its family or an option is unknown.
    """
    content = _read_checkpoint(path)
    if family is None:
        if ":" in content["family"]:
            hint = "load(path, family), with the family that it was saved with"
            raise SpecError(str(path), "is of a family of your own", content["family"], hint)
        family = find_family(content["family"], content["options"])
    elif (name_of(family), options_of(family)) != (content["family"], content["options"]):
        value, hint = f"{content['family']} {content['options']}", f"{name_of(family)} {options_of(family)}"
        raise DataError(str(path), "is of another family", value, hint)
    supernet = build(family)
    load_state(supernet, content["state"], str(path))
    return Checkpoint(supernet.eval(), family, content["more"])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    content = read(path)
    if content.get("schema") != SCHEMA:
        schema = repr(content.get("schema", "no schema"))
        hint = f"{SCHEMA}; `ssim supernet import` reads weights of other tools"
        raise DataError(str(path), "not a checkpoint of a supernet", schema, hint)
    return content


def import_weights(family: Family, path: Path, allow_missing: Collection[str] = (), *, seed: int = 0) -> Supernet:
    """Return a supernet with weights of another tool, under their original names; in evaluation mode.

    Args:
        family: The family of the weights.
        path: A file of torch, or one that ends in .safetensors.
        allow_missing: Prefixes of parameters that may be missing in the file, and keep their random values.
        seed: Of the random values.

    Raises:
        DataError: The file can't be read, or has another layout; names the first parameter that does not fit.
    """
    weights: dict[str, Any] = read_safetensors(path) if path.suffix == ".safetensors" else read(path)
    weights = next((weights[name] for name in _NESTED if isinstance(weights.get(name), dict)), weights)
    supernet = build(family, seed=seed)
    state, used = supernet.model.state_dict(), set[str]()
    for name in state:
        original = next((n for n in (*family.original_names(name), name) if n in weights), None)
        if original is not None:
            state[name] = weights[original]
            used.add(original)
        elif not name.startswith(tuple(allow_missing)):
            hint = f"the layout of {family.space.family}, or --fresh {name.partition('.')[0]} for random values"
            raise DataError(str(path), "missing parameter", name, hint)
    unused = [name for name in weights if name not in used and not name.endswith("position_ids")]
    if unused:
        hint = f"weights of {family.space.family}"
        raise DataError(str(path), f"unexpected parameters, {len(unused)} in all", unused[0], hint)
    load_state(supernet.model, state, str(path))
    return supernet.eval()


def load_state(module: torch.nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Load a state dict after comparing its names and shapes.

    Raises:
        DataError: They do not fit; names the first parameter.
    """
    expected = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    for name, tensor in expected.items():
        loaded = state.get(name)
        if not isinstance(loaded, torch.Tensor):
            raise DataError(where, "missing parameter", name, f"a tensor of shape {tuple(tensor.shape)}")
        if loaded.shape != tensor.shape:
            hint = f"{tuple(tensor.shape)}; or other options of the family"
            raise DataError(f"{where}, {name}", "wrong shape", str(tuple(loaded.shape)), hint)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(where, "does not fit", str(error).partition("\n")[2].strip()) from error


def write(path: Path, content: dict[str, Any]) -> None:
    """Write plain values and tensors in torch's format; equal content gives equal bytes.

    Raises:
        StoreError: The file can't be written.
    """
    with whole_file(path) as unfinished, unfinished.open("wb") as file:  # of a path, torch writes its name inside
        torch.save(content, file)


def read(path: Path) -> dict[str, Any]:
    """Return the content of a file in torch's format.

    Raises:
        DataError: The file is missing or damaged, or contains no dictionary.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(str(path), "file not found") from None
    except Exception as error:  # torch raises a dozen kinds of errors for damage
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(str(path), "can't be read as weights", reason, "a whole file of torch.save") from error
    if not isinstance(content, dict):
        raise DataError(str(path), "contains no weights by name", type(content).__name__, "a state dict")
    return content


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a .safetensors file by name, on the CPU.

    Raises:
        DataError: The file can't be read, or is damaged or of another format.
    """
    try:
        return load_file(path)
    except OSError as error:
        raise DataError(str(path), "can't be read", error.strerror or str(error)) from error
    except SafetensorError as error:
        raise DataError(str(path), "is damaged", str(error), "a whole .safetensors file") from error
