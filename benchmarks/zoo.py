"""Networks that nobody wrote for this toolkit: which of them `insert` makes supernets of, and with how many hints.

Networks of torchvision, timm and transformers with random weights, small where their sizes can be chosen. Those that
`benchmarks/zoo_networks.py` calls picked were added afterwards, and nothing was changed for them.

    python -m benchmarks.zoo [--out docs/zoo.md] [NAME]...
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.zoo_networks import ZOO
from sim.base.errors import SpecError
from sim.base.streams import stream
from supernet import Costs, extract, insert
from supernet.calls import call_of
from supernet.layers import composed_attention, tensors
from supernet.statistics import leading_statistics
from supernet.verification import masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.zoo_networks import Entry
    from supernet import Supernet

_TRIES = 4
_SAMPLES = 2
_TOLERANCE = 1e-3
"""Of the largest value: sums in other orders, over a hundred layers in 32 bits."""
_WIDTHS = (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes of a network.

    Attributes:
        supernet: None if it is refused.
        x: The example input.
        keep: The entries of `keep` that messages asked for.
        widths: Whether channels outside of blocks are sliced, since there are no others.
        refusal: The last message.
    """

    supernet: Supernet | None
    x: Any
    keep: tuple[str, ...]
    widths: bool
    refusal: str


def attempt(entry: Entry) -> Outcome:
    """Insert operators into a network; where a message lists modules to keep, do as it says."""
    torch.manual_seed(0)
    model, x = entry.make()
    keep: list[str] = []
    widths, refusal = False, ""
    for _ in range(_TRIES):
        try:
            shares = _WIDTHS if widths else (1.0,)
            return Outcome(insert(model.eval(), x, keep=keep, widths=shares), x, tuple(keep), widths, "")
        except SpecError as error:
            refusal = str(error)
            listed = re.search(r"keep=(\['.*?\]) leaves", refusal)
            if listed:
                keep += ast.literal_eval(listed[1])
            elif "only one subnet" in refusal and not widths:
                widths = True
            else:
                break
    return Outcome(None, x, tuple(keep), widths, refusal)


def differences(outcome: Outcome) -> Iterator[str]:
    """Yield what is wrong with the subnets of a supernet: the smallest, the largest and some others.

    Each must compute what it computes when it is extracted, and what the whole network computes without other parts.
    """
    supernet, call = outcome.supernet, call_of(outcome.x)
    if supernet is None:
        return
    space, rng = supernet.space, stream(0, "zoo")
    for subnet in (space.smallest, space.largest, *(space.sample(rng) for _ in range(_SAMPLES))):
        config = supernet.active_config(subnet)
        if supernet.assembly.norms:
            _give_statistics(supernet, subnet)
        with torch.no_grad(), composed_attention():
            sliced = _floats(supernet.eval().actuate(subnet)(*call.args, **call.kwargs))
            extracted = _floats(extract(supernet, subnet)(*call.args, **call.kwargs))
            with masked(supernet, config):
                whole = _floats(supernet.model(*call.args, **call.kwargs))
        for kind, other in (("extracted", extracted), ("masked", whole)):
            if not all(map(_is_close, sliced, other)) or len(sliced) != len(other):
                yield f"{subnet.id}: not what the {kind} network computes"


def _give_statistics(supernet: Supernet, subnet: Any) -> None:
    """Give a subnet the whole network's statistics, with which it can be compared."""
    if not supernet.calibrated:
        for module in supernet.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.num_batches_tracked is not None:  # noqa: SLF001 - the base of all
                module.num_batches_tracked += 1
    supernet.set_statistics(subnet, leading_statistics(supernet, subnet))


def _floats(result: Any) -> list[torch.Tensor]:
    return [tensor for tensor in tensors(result) if tensor.is_floating_point()]


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = float(one.abs().max()) if one.numel() else 0.0
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)


def page(rows: list[str], summary: str) -> str:
    """Return the page of the zoo."""
    about = __doc__.split("\n\n")[1]
    head = "| network | library | subnets | depth | width | `keep` | MMACs | |\n|---|---|---|---|---|---|---|---|"
    made = (
        "Made by `python -m benchmarks.zoo --out docs/zoo.md`. `keep` is the number of entries that messages asked for."
    )
    return "\n".join((f"# Networks of others\n\n{about}\n\n{made}\n\n{summary}\n", head, *rows, ""))


def row(name: str, entry: Entry, outcome: Outcome, wrong: list[str]) -> str:
    """Return the line of a network."""
    supernet = outcome.supernet
    if supernet is None:
        return f"| {name} | {entry.library} | refused | | | {len(outcome.keep)} | | {outcome.refusal[:200]} |"
    space, costs = supernet.space, Costs(supernet, outcome.x)
    macs = " to ".join(f"{costs.macs(subnet) / 1e6:.3g}" for subnet in (space.smallest, space.largest))
    depth, width = (
        "yes" if any(len(choices) > 1 for choices in part) else "no"
        for part in (space.depths, space.expands + space.widths)
    )
    cells = (name, entry.library, f"{space.size:.3g}", depth, width, str(len(outcome.keep)), macs, "; ".join(wrong))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Insert operators into all networks of the libraries that are there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[str] = []
    inserted = wrong_ones = 0
    for name in options.names or ZOO:
        entry = ZOO[name]
        if find_spec(entry.library) is None:
            continue
        outcome = attempt(entry)
        wrong = list(differences(outcome))
        inserted, wrong_ones = inserted + (outcome.supernet is not None), wrong_ones + bool(wrong)
        rows.append(row(name, entry, outcome, wrong))
        sys.stdout.write(rows[-1] + "\n")
        sys.stdout.flush()
    run = f"{len(rows)} of {len(ZOO)} networks were run."
    summary = f"{run} {inserted} are supernets, of which {wrong_ones} have a wrong subnet."
    sys.stdout.write(summary + "\n")
    if options.out:
        options.out.write_text(page(rows, summary), encoding="utf-8")


if __name__ == "__main__":
    main()
