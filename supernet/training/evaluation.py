"""How accurate subnets are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sim.base.errors import SpecError

if TYPE_CHECKING:
    from supernet.data.source import Examples
    from supernet.network import Supernet
    from supernet.space import SubNet

BATCH = 500
"""Examples at once; the figures do not depend on it."""


def accuracy(supernet: Supernet, subnet: SubNet | str, examples: Examples) -> float:
    """Return the share of examples that a subnet classifies as labelled, in percent.

    Raises:
        SpecError: There are no examples, or no such subnet, or it has no running statistics.
    """
    if not len(examples):
        raise SpecError("accuracy", "there are no examples", "", "one or more")
    right, mode = 0, supernet.training
    supernet.eval()
    try:
        network = supernet.actuate(subnet)
        with torch.no_grad():
            for batch in examples.batches(BATCH):
                right += int((network(*batch.inputs).argmax(1) == batch.labels).sum())
    finally:
        supernet.train(mode)
    return 100 * right / len(examples)
