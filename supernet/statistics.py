"""Running statistics for a subnet: taken by passing data through it, or cut from those of the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import SpecError
from supernet.layers import evaluation, is_norm, track_anew

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supernet.network import Supernet
    from supernet.space import SubNet


def calibrate(supernet: Supernet, subnet: SubNet | str, batches: Iterable[Any]) -> None:
    """Give a subnet its running statistics: the mean over batches of each batch's mean and unbiased variance.

    SuperServe (NSDI 2025), section 3: they are computed beforehand, by passing training data through each subnet. To
    be done again when the weights have changed. All but the norms is in evaluation mode meanwhile.

    Args:
        supernet: Keeps the statistics.
        subnet: Itself or its id.
        batches: What the network is called with: tensors, or tuples of arguments; each of two examples or more.

    Raises:
        SpecError: There is no such subnet, or no batch, or a batch of one.
        DataError: The statistics come out as no finite numbers.
    """
    choice, count = supernet.choice(subnet), 0
    with evaluation(supernet.model):
        network = supernet.assembly.view(supernet.model, choice, {})
        norms = [module for module in network.modules() if is_norm(module)]
        for norm in norms:
            track_anew(norm, next(supernet.parameters()))
            norm.training, norm.momentum = True, None  # without a momentum, torch takes the mean over batches
        with torch.no_grad():
            for count, batch in enumerate(batches, 1):  # noqa: B007 - how many there were
                supernet.check_batch(batch)
                network(*(batch if isinstance(batch, tuple) else (batch,)))
    if not count:
        raise SpecError(f"calibrating {subnet}", "was given no batch", hint="some batches of training data")
    if norms:
        taken = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
        supernet.set_statistics(subnet, torch.cat([part for part in taken if part is not None]))


def leading_statistics(supernet: Supernet, subnet: SubNet | str) -> torch.Tensor:
    """Return the largest subnet's running statistics on the channels that a subnet uses.

    With these a network runs that has no SubnetNorm. Shape and order are those of `Supernet.statistics_of`.

    Raises:
        SpecError: There is no such subnet, or the largest has no statistics.
    """
    sizes, largest = supernet.assembly.norm_sizes, supernet.space.largest
    all_sizes, used = sizes(supernet.choice(largest)), sizes(supernet.choice(subnet))
    means, variances = supernet.statistics_of(largest).chunk(2)
    return torch.cat(
        [
            part[: used[path]]
            for half in (means, variances)
            for path, part in zip(all_sizes, half.split([*all_sizes.values()]), strict=True)
            if path in used
        ]
    )
