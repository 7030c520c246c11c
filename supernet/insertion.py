"""Makes a supernet of an ordinary network: automatic operator insertion (SuperServe, NSDI 2025, Algorithm 1)."""

from __future__ import annotations

import copy
import difflib
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sim.base.errors import SpecError, user_frame
from supernet.calls import call_of
from supernet.discovery import find_structure
from supernet.network import Supernet
from supernet.patterns import form_of, pattern_list, pattern_of
from supernet.ratios import RatioDecoder, orders
from supernet.structure import Unsliceable
from supernet.verification import difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supernet.calls import Call
    from supernet.structure import Structure
    from supernet.verification import Mismatch


def insert(
    model: nn.Module,
    inputs: Any,
    *,
    name: str = "inserted",
    depths: Sequence[Sequence[int]] | None = None,
    expands: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    widths: Sequence[float] = (1.0,),
    uniform: bool = False,
    keep: str | Sequence[str] = (),
) -> Supernet:
    """Return a supernet of an ordinary network, which is left unchanged.

    The network runs on the inputs to find its structure (`supernet.discovery`), and two subnets to check that each
    computes what the whole network computes without the blocks and channels that it does not use
    (`supernet.verification`). Hooks of the network run, too. Layers that are left whole are listed with the reason in
    `structure.unsliceable`.

    The supernet has the weights of the network, and its device, dtype, hooks, frozen parameters, and mode of each
    module: in evaluation mode if the network is.

    Args:
        model: Any module. Blocks with a residual connection can be left out if they are members of an `nn.Sequential`
            or `nn.ModuleList`. `Conv1d` to `Conv3d` and `Linear` layers can be sliced, their parametrizations and
            subclasses if these allow it, also `nn.MultiheadAttention`, `nn.GroupNorm` and GPT-2's `Conv1D`.
        inputs: The arguments of a call: a tensor; a tuple or list of several; or a mapping of arguments by name, such
            as a `BatchEncoding`. Only shapes matter.
        name: The family name that ids of subnets begin with.
        depths: For each stage (a run of neighbouring blocks that can be left out), the allowed numbers of active
            blocks. By default any number; at least one if the stage is its whole list.
        expands: The allowed ratios of active channels inside a block.
        widths: The allowed ratios of channels that are in no single block, such as a residual stream.
        uniform: Whether one ratio holds for all blocks; else each block has its own.
        keep: Paths of modules that are not sliced, including everything inside them, or patterns such as
            "layers.*.attention". Their blocks can still be left out.

    Raises:
        SpecError: The network is compiled or scripted, fails, or gives other results each time; or a path in `keep`
            is unknown; or layers inside a block can't be sliced (names all of them); or the space is empty, or ratios
            or depths do not fit.
    """
    _check_plain(model, name)
    call, model = call_of(inputs), copy.deepcopy(model, _detached(model))
    kept = _kept(model, name, [keep] if isinstance(keep, str) else keep)
    refused: list[Unsliceable] = []
    supernet: Supernet | None = None
    while True:
        structure = _structure(model, name, call, kept)
        found = [one for one in structure.unsliceable if not one.is_accepted]
        refused += found
        if found:
            kept |= {one.path for one in found}
            continue
        if depths is None:
            _check_chained(structure, name)
        decoder = RatioDecoder(structure, orders(model, structure), uniform, tuple(widths))
        try:
            space = decoder.space(name, depths, expands)
        except SpecError:
            if refused:
                break
            raise
        structure = structure if len(widths) > 1 else _with_widths_listed(structure)
        supernet = Supernet(model, structure, space, decoder)
        supernet.example = call
        wrong = difference(supernet, call)
        if wrong is None:
            break
        refused += _blamed(supernet, wrong, kept)
        kept |= {one.path for one in refused}
    if refused or supernet is None:
        raise _refusal(name, refused, model)
    return supernet


def _structure(model: nn.Module, name: str, call: Call, kept: set[str]) -> Structure:
    """Return the structure of a network.

    Raises:
        SpecError: The network fails.
    """
    try:
        return find_structure(model, call.args, kept, call.kwargs)
    except SpecError as error:
        raise SpecError(f"{name}, {error.location}", error.problem, error.value, error.hint) from error
    except Exception as error:
        value = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        value = "; ".join(filter(None, (value, user_frame(error))))
        raise SpecError(name, "the network fails on these inputs", value, "arguments of a call that works") from error


def _with_widths_listed(structure: Structure) -> Structure:
    """Return a structure that lists the channels which could be sliced by `widths`."""
    reason = "is outside of a single block: widths=(0.5, 1.0) slices it"
    outside = (member for group in structure.groups if group.block is None for member in group.members)
    listed = tuple(Unsliceable(path, reason, is_accepted=True) for path, side, *_ in outside if side == "out")
    return replace(structure, unsliceable=structure.unsliceable + listed)


def _check_chained(structure: Structure, name: str) -> None:
    """Check that nothing is computed between the blocks of a stage: it is not left out with them.

    Raises:
        SpecError: A block is given something else than the result of the block before.
    """
    for index, stage in enumerate(structure.stages):
        for before, block in pairwise(structure.blocks[number] for number in stage):
            if not structure.calls[block].is_chained:
                free = [[*range(1, len(each) + 1)] for each in structure.stages]
                whole = [*free[:index], [len(stage)], *free[index + 1 :]]
                hint = f"depths={whole} leaves no block out; depths={free} leaves blocks out, but not that code"
                raise SpecError(f"{name}, {block}", f"code between {before} and this block changes its input", "", hint)


def _check_plain(model: nn.Module, name: str) -> None:
    """Check that a model is a module whose code can be followed.

    Raises:
        SpecError: It is compiled or scripted, or not a module.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user may err
        raise SpecError(name, "not a module", type(model).__name__, "a torch.nn.Module")
    for path, module in model.named_modules():
        where = f"{name}, {path}" if path else name
        if isinstance(module, torch.jit.ScriptModule):
            raise SpecError(where, "a scripted module can't be sliced", "", "the module that was given to torch.jit")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            hint = "the module before torch.compile; compile subnets: torch.compile(supernet.actuate(subnet))"
            raise SpecError(where, "a compiled module can't be sliced", "", hint)


def _detached(model: nn.Module) -> dict[int, Any]:
    """Return copies of tensors that are neither parameters nor buffers, such as weights computed before each call."""
    others = (value for module in model.modules() for value in vars(module).values())
    return {id(t): t.detach().clone() for t in others if isinstance(t, torch.Tensor) and not t.is_leaf}


def _kept(model: nn.Module, name: str, keep: Iterable[str]) -> set[str]:
    """Return the paths of modules that patterns match.

    Raises:
        SpecError: A pattern matches none.
    """
    paths, kept = [path for path, _ in model.named_modules() if path], set[str]()
    for pattern in keep:
        matched = [path for path in paths if fnmatchcase(path, pattern)]
        if not matched:
            close = difflib.get_close_matches(pattern, paths, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "a path of model.named_modules(), or a pattern"
            raise SpecError(f"{name}, keep", "matches no module", repr(pattern), hint)
        kept |= {*matched}
    return kept


def _blamed(supernet: Supernet, wrong: Mismatch, kept: set[str]) -> list[Unsliceable]:
    """Return the modules that can't be sliced because of a difference: that in which it is, and others like it.

    Raises:
        SpecError: No module is to blame that is not kept already.
    """
    name, reason = supernet.space.family, f"{wrong.problem} ({wrong.value})"
    modules = dict(supernet.model.named_modules())
    sliced = {member.path for group in supernet.structure.groups for member in group.members}
    path = wrong.path
    while path and not any(one == path or one.startswith(f"{path}.") for one in sliced):
        path = path.rpartition(".")[0]
    if not path or path in kept or wrong.is_depth:
        whole = [[len(stage)] for stage in supernet.structure.stages]
        hint = f"depths={whole} leaves no block out" if wrong.is_depth else "keep=[...] leaves a module whole"
        raise SpecError(f"{name}, {wrong.path or 'its result'}", wrong.problem, wrong.value, hint)
    alike = [p for p, m in modules.items() if type(m) is type(modules[path]) and pattern_of(p) == pattern_of(path)]
    return [Unsliceable(p, reason) for p in alike if any(one == p or one.startswith(f"{p}.") for one in sliced)]


def _refusal(name: str, refused: list[Unsliceable], model: nn.Module) -> SpecError:
    """Return the error that names all modules that can't be sliced, with a list for `keep`."""
    reasons: dict[str, list[str]] = {}
    for one in refused:
        reasons.setdefault(form_of(one.reason), []).append(one.path)
    first = {key: next(one.reason for one in refused if form_of(one.reason) == key) for key in reasons}
    texts = [
        f"it {first[key]}" if n == 0 else f"{paths[0]} {first[key]}" for n, (key, paths) in enumerate(reasons.items())
    ]
    more = len(refused) - len(texts)
    value = "; ".join(texts) + (f"; and {more} more" if more else "")
    keep = pattern_list([one.path for one in refused], [path for path, _ in model.named_modules()])
    hint = f"keep={keep} leaves {'it' if len(refused) == 1 else 'them'} whole"
    return SpecError(f"{name}, {refused[0].path}", "can't be sliced", value, hint)
