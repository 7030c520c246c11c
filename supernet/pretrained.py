"""Lets the config of an extracted model of transformers agree with the widths of its layers, or refuses to save it.

`save_pretrained` writes weights and a config, from which `from_pretrained` builds the model anew. So a subnet can be
saved that way only if a config describes it, which has one width for all layers.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from sim.base.errors import SpecError
from supernet.patterns import form_of
from supernet.renumbering import compute_the_same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from torch import nn

    from supernet.calls import Call

    Sizes = dict[tuple[str, int], int]

_MOST = 64
"""The configs that are tried."""


def fit_config(model: nn.Module, call: Call | None) -> None:
    """Set the widths in the config of a model of transformers; if none describes it, its `save_pretrained` refuses.

    There is no table of names. Each number of the config is changed, and stays so if that changes only sizes of
    parameters that should change. The model that is built from the config must compute the same with the weights.
    Numbers in configs within the config, and lists of them, are left as they are.

    Args:
        model: Changed in place. Any other model is left unchanged.
        call: Arguments with which both are compared; None if there are none.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "save_pretrained"):
        return
    wanted, whole = _sizes(model), _sizes_of(type(model), config, {})
    if whole == wanted:
        return
    if whole is not None and call is not None:
        for changes in _configs(model, whole, wanted):
            before = dict(vars(config))
            vars(config).update(changes)
            built = _rebuilt(model)
            if built is not None and compute_the_same(model, built, call):
                return
            vars(config).update(before)
    differing = next((place for place in wanted if whole is None or whole.get(place) != wanted[place]), ("", 0))[0]
    shape = tuple(model.state_dict()[differing].shape) if differing else ()
    vars(model)["save_pretrained"] = partial(_refuse, type(model).__name__, f"{differing} of shape {shape}")


def _refuse(name: str, value: str, *_: Any, **__: Any) -> NoReturn:
    hint = "torch.save of the model; or a subnet with one width for all layers, if the config has a name for it"
    raise SpecError(f"{name}.save_pretrained", "no config describes this subnet", value, hint)


def _configs(model: nn.Module, whole: Sizes, wanted: Sizes) -> Iterator[dict[str, int]]:
    """Yield changes of numbers in a config that give all parameters the sizes that are wanted.

    Args:
        model: With the config.
        whole: The sizes of parameters that the config describes.
        wanted: Those of the model.
    """
    config: Any = getattr(model, "config")  # noqa: B009 - of torch's modules, an attribute is a tensor or a module
    if whole.keys() != wanted.keys():
        return
    cut = {place: Fraction(wanted[place], size) for place, size in whole.items() if wanted[place] != size}
    if not _is_uniform(cut, whole):
        return
    ratios, lengths = sorted(set(cut.values())), sorted({wanted[place] for place in cut})
    options: list[list[dict[str, int]]] = []
    for name, value in vars(config).items():
        numbers = [int(value * ratio) for ratio in ratios if type(value) is int and (value * ratio).denominator == 1]
        numbers = lengths if value is None else [number for number in numbers if number > 0]
        if name.startswith("_") or name.endswith("_id"):
            continue
        found = [{name: number} for number in numbers if _changes_only(model, {name: number}, whole, cut)]
        if found:
            options.append([{}, *found])
    combined = ({name: number for one in chosen for name, number in one.items()} for chosen in product(*options))
    tried = [changes for changes, _ in zip(combined, range(_MOST), strict=False)]
    yield from (changes for changes in tried if _sizes_of(type(model), config, changes) == wanted)


def _is_uniform(cut: Mapping[tuple[str, int], Fraction], whole: Sizes) -> bool:
    """Return whether parameters of equal names, but for the number of the layer, are cut alike."""
    ratios: dict[tuple[str, int, int], set[Fraction]] = {}
    for (name, dim), size in whole.items():
        ratios.setdefault((form_of(name), dim, size), set()).add(cut.get((name, dim), Fraction(1)))
    return all(len(alike) == 1 for alike in ratios.values())


def _changes_only(model: Any, changes: Mapping[str, int], whole: Sizes, cut: Collection[tuple[str, int]]) -> bool:
    """Return whether a change of a config changes sizes, and only those that are cut."""
    sizes = _sizes_of(type(model), model.config, changes)
    changed = {place for place, size in whole.items() if sizes is not None and sizes.get(place) != size}
    return bool(changed) and changed <= {*cut}


def _sizes(model: nn.Module) -> Sizes:
    """Return the size of each dimension of the tensors of a model's state."""
    return {(name, dim): size for name, part in model.state_dict().items() for dim, size in enumerate(part.shape)}


def _sizes_of(owner: Any, config: Any, changes: Mapping[str, int]) -> Sizes | None:
    """Return the sizes of a model that is built from a config; None if the config contradicts itself."""
    described = copy.deepcopy(config)
    vars(described).update(changes)
    try:
        with torch.device("meta"):
            return _sizes(owner(described))
    except Exception:  # noqa: BLE001 - any check of the model's code
        return None


def _rebuilt(model: Any) -> nn.Module | None:
    """Return a model that is built from the config of another, with its weights; None if they do not fit."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            built: nn.Module = type(model)(copy.deepcopy(model.config))
        built.load_state_dict(model.state_dict())
    except Exception:  # noqa: BLE001 - any check of the model's code
        return None
    return built.to(next(iter(model.state_dict().values())))
