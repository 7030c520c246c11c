"""Removes the places of blocks that are left out from a model of transformers, so that its config describes it.

Such a model is saved as a config and weights, and built anew from the config: its lists can have no identities in them.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from supernet.layers import evaluation, tensors
from supernet.operators import is_left_out

if TYPE_CHECKING:
    from supernet.calls import Call

_INDICES = ("layer_idx", "layer_id", "layer_index")
"""Attributes in which modules keep the number of their layer."""


def renumber(model: nn.Module, call: Call | None) -> nn.Module:
    """Return a model of transformers without the places of blocks that are left out, and with a config of its layers.

    Numbers of layers and lists with an entry for each layer follow in the config; `supernet.pretrained` sets widths.
    Any other model is returned as it is, and so is one whose config can't describe it, or that computes
    something else without the places.

    Args:
        model: Owned by the caller.
        call: Arguments with which both are compared; None if there are none.
    """
    config = getattr(model, "config", None)
    lists = [path for path, m in model.named_modules() if isinstance(m, nn.ModuleList) and any(map(is_left_out, m))]
    if config is None or not hasattr(model, "save_pretrained") or call is None or not lists:
        return model
    compact = copy.deepcopy(model)
    lengths = [_remove_places(compact, compact.get_submodule(path)) for path in lists]
    names = [[name for name, value in vars(config).items() if value == old and "layer" in name] for old, _ in lengths]
    for chosen in product(*names):
        described = copy.deepcopy(compact.config)
        for name, (_, new) in zip(chosen, lengths, strict=True):
            setattr(described, name, new)
        if _describes(described, compact) and compute_the_same(model, compact, call):
            for name, (_, new) in zip(chosen, lengths, strict=True):
                setattr(compact.config, name, new)
            return compact
    return model


def _remove_places(model: nn.Module, blocks: nn.Module) -> tuple[int, int]:
    """Remove the places of blocks from a list of a model; return its length before and after."""
    children = list(blocks.children())
    running = [number for number, block in enumerate(children) if not is_left_out(block)]
    for part in model.modules():
        if hasattr(part, "config"):
            _select_entries(part.config, len(children), running)
    vars(blocks)["_modules"] = {str(new): children[old] for new, old in enumerate(running)}
    for new, old in enumerate(running):
        for part in children[old].modules():
            vars(part).update({name: new for name in _INDICES if vars(part).get(name) == old})
    return len(children), len(running)


def _select_entries(config: Any, layers: int, running: list[int]) -> None:
    """Keep the entries of the layers that run in lists that have one for each layer."""
    for name, value in vars(config).items():
        if type(value) in {list, tuple} and len(value) == layers and "layer" in name:
            setattr(config, name, type(value)(value[number] for number in running))


def _describes(config: Any, model: nn.Module) -> bool:
    """Return whether a model that is built from a config has the parameters of this one."""
    try:
        with torch.device("meta"):
            built = type(model)(config)
    except Exception:  # noqa: BLE001 - a config that contradicts itself
        return False
    return set(built.state_dict()) == set(model.state_dict())


def compute_the_same(one: nn.Module, other: nn.Module, call: Call) -> bool:
    """Return whether two models give the same results in evaluation mode."""
    results: list[list[torch.Tensor]] = []
    try:
        for model in (one, other):
            with evaluation(model), torch.no_grad():
                results.append([t for t in tensors(model(*call.args, **call.kwargs)) if t.is_floating_point()])
    except Exception:  # noqa: BLE001 - such as inputs on another device
        return False
    first, second = results
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )
