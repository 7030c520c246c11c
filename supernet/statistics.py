"""Running statistics of a subnet: computed by passing data through it, or sliced from those of the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import SpecError
from supernet.calls import call_of_batch, check_batches
from supernet.layers import evaluation, is_norm, reset_tracking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supernet.network import Supernet
    from supernet.space import SubnetConfig


def calibrate(supernet: Supernet, subnet: SubnetConfig | str, batches: Iterable[Any]) -> None:
    """Give a subnet its running statistics: the mean over batches of each batch's mean and unbiased variance.

    SuperServe (NSDI 2025), section 3: they are computed beforehand, by passing training data through each subnet.
    Calibrate again when the weights have changed. All modules but the norms are in evaluation mode meanwhile.

    Args:
        supernet: Stores the statistics.
        subnet: A subnet or its id.
        batches: Arguments of the network, two examples or more in each: tensors, tuples or dicts; or lists as a
            `DataLoader` makes them, of which labels behind the arguments are left out.

    Raises:
        SpecError: The subnet is unknown, or there is no batch, or a batch of one example or of other arguments.
        DataError: The statistics are not finite.
    """
    check_batches(batches)
    config, count = supernet.active_config(subnet), 0
    with evaluation(supernet.model):
        network = supernet.assembly.view(supernet.model, config, {})
        norms = [module for module in network.modules() if is_norm(module)]
        for norm in norms:
            reset_tracking(norm, next(supernet.parameters()))
            norm.training, norm.momentum = True, None  # without a momentum, torch takes the mean over batches
        with torch.no_grad():
            for count, batch in enumerate(batches, 1):  # noqa: B007 - the number of batches
                args, kwargs = call_of_batch(supernet.model, batch)
                supernet.check_batch((args, kwargs))
                network(*args, **kwargs)
    if not count:
        raise SpecError(f"calibrating {subnet}", "no batch given", hint="batches of training data")
    if norms:
        moments = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
        supernet.set_statistics(subnet, torch.cat([part for part in moments if part is not None]))


def leading_statistics(supernet: Supernet, subnet: SubnetConfig | str) -> torch.Tensor:
    """Return the largest subnet's running statistics on the channels of a subnet: what it has without SubnetNorm.

    Shape and order are those of `Supernet.statistics_of`.

    Raises:
        SpecError: The subnet is unknown, or the largest has no statistics.
    """
    sizes, largest = supernet.assembly.norm_sizes, supernet.space.largest
    all_sizes, used = sizes(supernet.active_config(largest)), sizes(supernet.active_config(subnet))
    means, variances = supernet.statistics_of(largest).chunk(2)
    return torch.cat(
        [
            part[: used[path]]
            for half in (means, variances)
            for path, part in zip(all_sizes, half.split([*all_sizes.values()]), strict=True)
            if path in used
        ]
    )
