"""Supernets in files: our own checkpoints, and the weights of others under their original names.

A checkpoint says which family it is of, with what options, so that nothing else is needed to build the supernet again.
Of a file, only tensors and plain values are read; nothing in it is run.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.whole_file import whole_file
from supernet.families import FAMILIES
from supernet.family import build
from supernet.safetensors import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from supernet.family import Family
    from supernet.network import Supernet

SCHEMA = "supernet/1"
"""What a checkpoint says that it is; the number changes when an old reader would misread a new file."""

_NESTED = ("state_dict", "model", "model_state_dict")
"""Under which name the weights of others lie, where a file holds more than weights."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        supernet: With its weights and running statistics, in evaluation mode, on the CPU.
        family: With its options.
        more: Whatever else was saved: plain values and tensors, by name.
    """

    supernet: Supernet
    family: Family
    more: dict[str, Any]


def family_named(name: str, options: Mapping[str, Any] | None = None) -> Family:
    """Return a family that comes with the toolkit.

    Args:
        name: What it is called.
        options: Its fields.

    Raises:
        SpecError: There is no such family or option, or an option can't have its value.
    """
    if name not in FAMILIES:
        raise SpecError("family", "there is none of this name", repr(name), did_you_mean(name, FAMILIES))
    known = [field.name for field in dataclasses.fields(FAMILIES[name])]
    for option in options or {}:
        if option not in known:
            raise SpecError(name, "has no such option", repr(option), did_you_mean(option, known))
    given: dict[str, Any]
    given = {option: tuple(value) if isinstance(value, list) else value for option, value in (options or {}).items()}
    return FAMILIES[name](**given)


def save(path: Path, supernet: Supernet, family: Family, **more: Any) -> None:
    """Write a checkpoint: whole, or not at all.

    Args:
        path: Where to.
        supernet: Its weights and running statistics are written.
        family: What it was built from, one of those that come with the toolkit.
        more: Plain values and tensors that are to be kept with it.

    Raises:
        StoreError: It can't be written.
    """
    options = {field.name: getattr(family, field.name) for field in dataclasses.fields(family)}
    content = {"schema": SCHEMA, "family": family.space.family, "options": options, "state": supernet.state_dict()}
    write(path, {**content, "more": more})


def load(path: Path, family: Family | None = None) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: The checkpoint.
        family: The family that it is of, where the toolkit does not know it by name.

    Raises:
        DataError: The file is none of ours, or is damaged.
        SpecError: It is of a family or an option that there is not.
    """
    content = read(path)
    if content.get("schema") != SCHEMA:
        said = repr(content.get("schema", "no schema"))
        raise DataError(
            str(path), "is no checkpoint of a supernet", said, f"{SCHEMA}; `ssim supernet import` reads others"
        )
    if family is None:
        family = family_named(content["family"], content["options"])
    elif family.space.family != content["family"]:
        raise DataError(str(path), "holds another family", content["family"], family.space.family)
    supernet = build(family)
    take(supernet, content["state"], str(path))
    return Checkpoint(supernet.eval(), family, content["more"])


def import_weights(family: Family, path: Path, fresh: Collection[str] = (), *, seed: int = 0) -> Supernet:
    """Return a supernet with the weights of others, under their original names; in evaluation mode.

    Args:
        family: What they are weights of.
        path: A file of torch, or one that ends in .safetensors.
        fresh: Beginnings of names of parameters that need not be in the file, and stay as they are at random.
        seed: Of what stays at random.

    Raises:
        DataError: The file can't be read, or is of another layout; names the first parameter at which it shows.
    """
    found: dict[str, Any] = read_safetensors(path) if path.suffix == ".safetensors" else read(path)
    found = next((found[name] for name in _NESTED if isinstance(found.get(name), dict)), found)
    supernet = build(family, seed=seed)
    state, used = supernet.model.state_dict(), set[str]()
    for name in state:
        original = next((n for n in (*family.original_names(name), name) if n in found), None)
        if original is not None:
            state[name] = found[original]
            used.add(original)
        elif not name.startswith(tuple(fresh)):
            right = f"the layout of {family.space.family}, or --fresh {name.partition('.')[0]} to leave it at random"
            raise DataError(str(path), "has no", name, right)
    left = [name for name in found if name not in used and not name.endswith("position_ids")]
    if left:
        right = f"is it {family.space.family}?"
        raise DataError(str(path), f"holds what there is no place for, {len(left)} in all", left[0], right)
    take(supernet.model, state, str(path))
    return supernet.eval()


def take(module: torch.nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Load a state dict whose names may not fit, or whose shapes.

    Raises:
        DataError: They do not; names the first.
    """
    expected = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    for name, tensor in expected.items():
        given = state.get(name)
        if not isinstance(given, torch.Tensor):
            raise DataError(where, "has no", name, f"a tensor of shape {tuple(tensor.shape)}")
        if given.shape != tensor.shape:
            right = f"{tuple(tensor.shape)}; or other options of the family"
            raise DataError(f"{where}, {name}", "has the wrong shape", str(tuple(given.shape)), right)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(where, "does not fit", str(error).partition("\n")[2].strip()) from error


def write(path: Path, content: dict[str, Any]) -> None:
    """Let torch save plain values and tensors; equal content gives equal bytes.

    Raises:
        StoreError: The file can't be written.
    """
    with whole_file(path) as unfinished, unfinished.open("wb") as file:  # of a path, torch writes its name inside
        torch.save(content, file)


def read(path: Path) -> dict[str, Any]:
    """Return what torch saved.

    Raises:
        DataError: There is no such file, or torch can't read it, or it holds no names.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(str(path), "there is no such file") from None
    except Exception as error:  # torch tells damage by a dozen kinds of errors
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(str(path), "can't be read as weights", reason, "a whole file that torch.save wrote") from error
    if not isinstance(content, dict):
        raise DataError(str(path), "holds no weights by name", type(content).__name__, "a state dict")
    return content
