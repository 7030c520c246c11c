"""A dense table of the paper's supernet, PREDICTED: subnets between the six that are published.

The paper's policy chooses from about a thousand subnets; six have published latencies and accuracies. Between each two
of these that follow each other, control tuples are changed entry by entry from one to the other. Their operations are
counted. Their latencies are those of a roofline fitted to the six, times what it is off by at the two neighbours; their
accuracies are interpolated. Both corrections go linearly with the logarithm of the operations, so that the six are as
published. A NAS would find better subnets at the same operations: accuracies are cautious.

    python -m ssim.paper.dense experiments/ofa-resnet50-dense-predicted.json

writes the table that `experiments/dense.yaml` uses.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.tables.files import load_table, write_table
from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet

if TYPE_CHECKING:
    import numpy.typing as npt

    from profiler.roofline import Roofline
    from supernet.family import Family
    from supernet.network import Supernet

PUBLISHED = "ofa-resnet50-rtx2080ti"
STEPS = 12
"""Subnets between two published ones, at most: fewer where operations do not grow along the way."""


class _Row(NamedTuple):
    control: ControlTuple
    gmacs: float
    roofline_ns: npt.NDArray[np.float64]


def dense_table() -> LatencyTable:
    """Return the table; takes a minute."""
    from profiler.data_sheets import DATA_SHEETS
    from profiler.roofline import fit, works_of
    from supernet.families.ofa import OfaResNet50
    from supernet.family import build

    published, family = load_table(PUBLISHED), OfaResNet50()
    roofline = fit(published, works_of(published, family), DATA_SHEETS["rtx2080ti"]).roofline
    supernet = build(family, device="meta")
    controls = [subnet.control for subnet in published.subnets if subnet.control is not None]
    known = [_row(control, supernet, family, published.batch_sizes, roofline) for control in controls]
    subnets, rows = [published.subnets[0]], [published.latency_ns[0]]
    for low in range(len(known) - 1):
        ends, most = (known[low], known[low + 1]), known[low].gmacs
        for control in _between(ends[0].control, ends[1].control):
            row = _row(control, supernet, family, published.batch_sizes, roofline)
            if most < row.gmacs < ends[1].gmacs:
                most = row.gmacs
                subnet, latency_ns = _predicted(row, ends, published, low)
                subnets.append(subnet)
                rows.append(latency_ns)
        subnets.append(published.subnets[low + 1])
        rows.append(published.latency_ns[low + 1])
    provenance = {
        "source": f"PREDICTED, not measured, but for the six subnets of {PUBLISHED}",
        "latency": "a roofline fitted to the six; its errors there interpolated by the logarithm of the operations",
        "accuracy": "interpolated by the logarithm of the operations",
        "made by": "python -m ssim.paper.dense",
    }
    return LatencyTable(
        f"{published.device} (predicted between the published subnets)",
        tuple(subnets),
        published.batch_sizes,
        np.array(rows),
        provenance=provenance,
    )


def _row(
    control: ControlTuple, supernet: Supernet, family: Family, batch_sizes: tuple[int, ...], roofline: Roofline
) -> _Row:
    from profiler.roofline import work_of
    from supernet.space import SubnetConfig

    name = family.space.find(SubnetConfig(family.space.family, control)).id
    works = [work_of(supernet, family, name, size) for size in batch_sizes]
    gmacs = float(works[0].flops.sum()) / 2e9 / batch_sizes[0]
    return _Row(control, gmacs, np.array([roofline.time_ns(work) for work in works]))


def _between(low: ControlTuple, high: ControlTuple) -> list[ControlTuple]:
    """Return control tuples on the way from one to another, whose entries change in their order, some at a time."""
    ours, theirs = ([*each.depths, *each.expands, *each.widths] for each in (low, high))
    differ = [place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    depths, expands = len(low.depths), len(low.expands)
    found = []
    for count in np.unique(np.linspace(0, len(differ), STEPS + 2).astype(int))[1:-1].tolist():
        entries = list(ours)
        for place in differ[:count]:
            entries[place] = theirs[place]
        parts = entries[:depths], entries[depths : depths + expands], entries[depths + expands :]
        found.append(ControlTuple(tuple(map(int, parts[0])), tuple(map(float, parts[1])), tuple(map(int, parts[2]))))
    return found


def _predicted(
    row: _Row, ends: tuple[_Row, _Row], published: LatencyTable, low: int
) -> tuple[ProfiledSubnet, npt.NDArray[np.int64]]:
    """Return a subnet between two published ones, the lower of which is number `low`, and its latencies."""
    span = np.log([ends[0].gmacs, ends[1].gmacs])
    share = float((np.log(row.gmacs) - span[0]) / (span[1] - span[0]))
    accuracy = (1 - share) * published.subnets[low].accuracy + share * published.subnets[low + 1].accuracy
    off = [np.log(published.latency_ns[low + each] / ends[each].roofline_ns) for each in (0, 1)]
    latency_ns = np.rint(row.roofline_ns * np.exp((1 - share) * off[0] + share * off[1])).astype(np.int64)
    subnet = ProfiledSubnet(f"{accuracy:.3f}", round(accuracy, 3), row.control, round(row.gmacs, 4))
    return subnet, latency_ns


if __name__ == "__main__":
    write_table(dense_table(), Path(sys.argv[1]))
