"""The public check that any family must pass, including one's own: `check_family(family)`."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sim.base.errors import SpecError, raised
from sim.base.streams import stream
from supernet.family import TRACED_WIDTH_DIVISOR, build
from supernet.layers import tensors
from supernet.space import SubnetSpace
from supernet.structure import ActiveConfig

if TYPE_CHECKING:
    from collections.abc import Generator

    from supernet.family import Family
    from supernet.network import Supernet
    from supernet.space import SubnetConfig

_SAMPLES = 8
_BATCH = 2


def check_family(family: Family) -> None:
    """Check that a family implements `supernet.family.Family`.

    The narrow network runs once; the smallest, the largest and some random subnets run on the device "meta", which
    computes shapes only.

    Args:
        family: An instance, with its options.

    Raises:
        SpecError: Names the method or attribute of the family, and the subnet.
    """
    name = type(family).__name__
    _check_options(family, name)
    _check_network(family, name)
    with _errors(f"{name}.decoder", "building the supernet"):
        supernet = build(family, device="meta")
    space, rng = supernet.space, stream(0, "check")
    shapes = {
        subnet: _check_subnet(supernet, subnet, family, name)
        for subnet in (space.smallest, space.largest, *(space.sample(rng) for _ in range(_SAMPLES)))
    }
    for subnet, shape in shapes.items():
        if shape != shapes[space.largest] or shape[:1] != (_BATCH,):
            hint = f"{shapes[space.largest]} as of the largest subnet, the batch of {_BATCH} first"
            raise SpecError(f"{name}.network, subnet {subnet.id}", "wrong shape of the result", str(shape), hint)


def _check_options(family: Family, name: str) -> None:
    parameters = getattr(family, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise SpecError(name, "not a frozen dataclass", "", "@dataclass(frozen=True), with the options as fields")
    with _errors(name, "hashing it"):
        is_hashable = hash(family) == hash(dataclasses.replace(family)) and family == dataclasses.replace(family)
    if not is_hashable:
        raise SpecError(name, "equal options give unequal families", "", "the __eq__ and __hash__ of the dataclass")
    size: Any = family.default_size
    if not isinstance(size, int) or size < 1:
        raise SpecError(f"{name}.default_size", "not a size", repr(size), "a whole number, 1 or more")
    with _errors(f"{name}.space", "reading it"):
        space: Any = family.space
    if not isinstance(space, SubnetSpace):
        raise SpecError(f"{name}.space", "not a space of subnets", repr(space), "a SubnetSpace")


def _check_network(family: Family, name: str) -> None:
    with _errors(f"{name}.network", "building it"), torch.device("meta"):
        network = family.network()
    with _errors(f"{name}.network", f"building it with width_divisor={TRACED_WIDTH_DIVISOR}"):
        narrow = family.network(width_divisor=TRACED_WIDTH_DIVISOR)
    if not isinstance(network, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's method may err
        raise SpecError(f"{name}.network", "not a module", type(network).__name__, "a torch.nn.Module")
    layout, narrow_layout = ({path: type(m) for path, m in net.named_modules()} for net in (network, narrow))
    if layout != narrow_layout:
        path = next(iter(layout.keys() ^ narrow_layout.keys()), "types of modules")
        hint = "the same modules for each width_divisor"
        raise SpecError(f"{name}.network", "the modules depend on width_divisor", path, hint)
    with _errors(f"{name}.example", "calling it"):
        example: Any = family.example(_BATCH)
    if not isinstance(example, tuple) or any(t.shape[:1] != (_BATCH,) for t in tensors(example)):
        value = f"shapes {[tuple(t.shape) for t in tensors(example)]} for a batch of {_BATCH}"
        raise SpecError(f"{name}.example", "not arguments of the network", value, "a tuple, the batch first")
    with _errors(f"{name}.network", "running it on its example"), torch.no_grad():
        narrow.eval()(*example)
    for parameter in network.state_dict():
        with _errors(f"{name}.original_names", f"for {parameter!r}"):
            names: Any = family.original_names(parameter)
        if not isinstance(names, tuple) or not all(isinstance(original, str) for original in names):
            value, hint = f"{names!r} for {parameter!r}", "a tuple of strings, which may be empty"
            raise SpecError(f"{name}.original_names", "not names", value, hint)


def _check_subnet(supernet: Supernet, subnet: SubnetConfig, family: Family, name: str) -> tuple[int, ...]:
    """Check the configuration of a subnet, and return the shape of its first result."""
    where, structure = f"{name}.decoder, subnet {subnet.id}", supernet.structure
    with _errors(where, "decoding it"):
        config: Any = supernet.active_config(subnet)
    if not isinstance(config, ActiveConfig):
        raise SpecError(where, "not a configuration", type(config).__name__, "structure.config(...)")
    lengths = len(config.active_blocks), len(config.active_units)
    if lengths != (len(structure.blocks), len(structure.groups)):
        hint = f"{len(structure.blocks)} blocks, {len(structure.groups)} groups"
        raise SpecError(where, "wrong length", f"{lengths[0]} blocks, {lengths[1]} groups", hint)
    for number, (group, units) in enumerate(zip(structure.groups, config.active_units, strict=True)):
        is_active = group.block is None or config.active_blocks[group.block]
        if not (1 <= units <= group.units if is_active else units == 0):
            hint = f"1 to {group.units}" if is_active else "0, since its block is not active"
            raise SpecError(f"{where}, group {number}", "active units out of range", str(units), hint)
    if subnet == supernet.space.largest and config != structure.config(
        [True] * len(structure.blocks), [group.units for group in structure.groups]
    ):
        raise SpecError(where, "the largest subnet is not the whole network", "", "all blocks and units active")
    example = tuple(part.to("meta") for part in family.example(_BATCH, family.default_size))
    with _errors(f"{name}.network, subnet {subnet.id}", "running it"), torch.no_grad():
        result = supernet.train().actuate(subnet)(*example)
    return tuple(next(tensors(result), torch.empty(())).shape)


@contextmanager
def _errors(where: str, step: str) -> Generator[None]:
    """Turn any error in the family's code into one that names the place."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        problem, place = raised(error)
        raise SpecError(where, f"{step} {problem}", place) from error
