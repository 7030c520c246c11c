"""Latencies of a device that one does not have: a roofline over the kernels of each subnet, with launch overhead.

After Williams et al., "Roofline" (CACM 2009): a kernel takes as long as its arithmetic, its memory traffic or its
launch, whichever is longest. The three rates are fitted to a measured table, and carried over to another device by
what the two devices' data sheets say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import least_squares
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sim.base.errors import DataError
from sim.tables.latency import LatencyTable
from supernet.family import build
from supernet.layers import tensors
from supernet.space import SubnetConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from supernet.family import Family
    from supernet.network import Supernet


class DataSheet(NamedTuple):
    """What the data sheet of a device says.

    Attributes:
        name: What tables call it.
        tflops: Single precision, without tensor cores, in 1e12 operations a second.
        gb_per_s: Of its memory, in 1e9 bytes a second.
    """

    name: str
    tflops: float
    gb_per_s: float


DATA_SHEETS = {
    "rtx2080ti": DataSheet("NVIDIA RTX 2080 Ti", 13.45, 616),
    "rtx3090": DataSheet("NVIDIA RTX 3090", 35.6, 936),
    "rtx4090": DataSheet("NVIDIA RTX 4090", 82.6, 1008),
    "t4": DataSheet("NVIDIA T4", 8.1, 320),
    "v100": DataSheet("NVIDIA V100 SXM2", 15.7, 900),
    "a10": DataSheet("NVIDIA A10", 31.2, 600),
    "a40": DataSheet("NVIDIA A40", 37.4, 696),
    "a100": DataSheet("NVIDIA A100 SXM4 80 GB", 19.5, 2039),
    "l4": DataSheet("NVIDIA L4", 30.3, 300),
    "l40s": DataSheet("NVIDIA L40S", 91.6, 864),
    "h100": DataSheet("NVIDIA H100 SXM5", 66.9, 3350),
    "h200": DataSheet("NVIDIA H200 SXM", 66.9, 4800),
}
"""NVIDIA's data sheets, by the names that `--device` takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The kernels of a forward pass for one batch size: two arrays of shape (kernels,).

    Attributes:
        flops: Floating-point operations.
        bytes: Read and written.
    """

    flops: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Roofline:
    """How fast a device is.

    Attributes:
        launch_ns: What a kernel takes at least.
        flops_per_ns: Operations in a nanosecond.
        bytes_per_ns: Bytes in a nanosecond.
    """

    launch_ns: float
    flops_per_ns: float
    bytes_per_ns: float

    def time_ns(self, work: Work) -> float:
        """Return how long a forward pass takes."""
        busy = np.maximum(work.flops / self.flops_per_ns, work.bytes / self.bytes_per_ns)
        return float(np.maximum(busy, self.launch_ns).sum())

    def carried(self, here: DataSheet, there: DataSheet) -> Roofline:
        """Return the roofline of another device: each rate by its data sheet, launches as they are."""
        flops, traffic = there.tflops / here.tflops, there.gb_per_s / here.gb_per_s
        return replace(self, flops_per_ns=self.flops_per_ns * flops, bytes_per_ns=self.bytes_per_ns * traffic)


class _Kernels(TorchDispatchMode):
    """Notes what each operation reads, writes and computes; views are no operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's has no annotations
        self.rows: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [returned.alias_info for returned in func._schema.returns]  # noqa: SLF001 - it has no public name
        if not any(alias is not None and not alias.is_write for alias in aliases):
            count = flop_registry.get(func.overloadpacket)
            flops = count(*args, **(kwargs or {}), out_val=result) if count else 0
            self.rows.append((flops, sum(t.nbytes for t in (*tensors(args), *tensors(result)))))
        return result


def work_of(supernet: Supernet, family: Family, subnet: str, batch_size: int, size: int | None = None) -> Work:
    """Return the kernels of a subnet.

    Args:
        supernet: On the device "meta": nothing is computed.
        family: Its family.
        subnet: The id.
        batch_size: The examples.
        size: The side of images or the length of texts; None for the family's usual one.
    """
    sizes = supernet.assembly.norm_sizes(supernet.choice(subnet))
    if sizes:
        supernet.set_statistics(subnet, torch.empty(2 * sum(sizes.values()), device="meta"))
    inputs = tuple(part.to("meta") for part in family.example(batch_size, size or family.default_size))
    with torch.no_grad(), _Kernels() as kernels:
        supernet.eval().actuate(subnet)(*inputs)
    flops, traffic = np.array(kernels.rows, dtype=np.float64).T
    return Work(flops, traffic)


class Fit(NamedTuple):
    """A roofline and how well it fits.

    Attributes:
        roofline: Fitted.
        errors: What it says of each cell against what was measured, relative: 0.05 is five percent too slow.
    """

    roofline: Roofline
    errors: npt.NDArray[np.float64]


Works = dict[tuple[int, int], Work]
"""The work of each cell of a table, by row and column."""


def works_of(table: LatencyTable, family: Family, size: int | None = None) -> Works:
    """Return the work of every cell of a table.

    Raises:
        DataError: A subnet has no control tuple.
        SpecError: A subnet is none of the family.
    """
    net, found = build(family, device="meta"), Works()
    for row, subnet in enumerate(table.subnets):
        if subnet.control is None:
            raise DataError(f"table of {table.device}, subnet {subnet.id}", "has no control tuple", "", "one for each")
        name = family.space.find(SubnetConfig(family.space.family, subnet.control)).id
        for column, batch_size in enumerate(table.batch_sizes):
            found[row, column] = work_of(net, family, name, batch_size, size)
    return found


def errors_of(roofline: Roofline, table: LatencyTable, works: Works) -> npt.NDArray[np.float64]:
    """Return what a roofline says of each cell of a table against what the table says, relative."""
    return np.array([roofline.time_ns(work) / table.latency_ns[cell] - 1 for cell, work in works.items()])


def fit(table: LatencyTable, works: Works, sheet: DataSheet) -> Fit:
    """Return the roofline nearest to a table in its logarithms, with no rate above that of the data sheet."""
    peak = np.log([np.inf, sheet.tflops * 1e3, sheet.gb_per_s])
    start = np.log([1e4, sheet.tflops * 1e3 * _USUAL, sheet.gb_per_s * _USUAL])

    def distance(logarithms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.log1p(errors_of(Roofline(*np.exp(logarithms)), table, works))

    found = least_squares(distance, start, bounds=(-np.inf, peak))
    roofline = Roofline(*(float(rate) for rate in np.exp(found.x)))
    return Fit(roofline, errors_of(roofline, table, works))


_USUAL = 0.5
"""The share of a data sheet's rates at which a fit begins."""


def predict(table: LatencyTable, works: Works, here: DataSheet, there: DataSheet) -> tuple[LatencyTable, Fit]:
    """Return the table of another device, and how well the roofline behind it fits the table that it comes from.

    Args:
        table: CellEstimate, of the forward pass.
        works: Those of its cells.
        here: The data sheet of the device that it was measured on.
        there: That of the other device.
    """
    found = fit(table, works, here)
    other = found.roofline.carried(here, there)
    latency_ns = np.empty_like(table.latency_ns)
    for cell, work in works.items():
        latency_ns[cell] = max(1, round(other.time_ns(work)))
    rates = (other.launch_ns / 1e3, other.flops_per_ns / 1e3, other.bytes_per_ns)
    provenance = {
        "source": f"PREDICTED, not measured: a roofline fitted to the table of {table.device}",
        "fit": f"relative error: median {np.median(abs(found.errors)):.1%}, largest {abs(found.errors).max():.1%}",
        "roofline": "{:.1f} us a kernel at least, {:.2f} TFLOPS, {:.0f} GB/s".format(*rates),
        "carried over": f"by data sheets ({there.tflops:g} / {here.tflops:g} TFLOPS, {there.gb_per_s:g} / "
        f"{here.gb_per_s:g} GB/s); launches, which go by CPU and software, as they are",
    }
    predicted = LatencyTable(
        f"{there.name} (predicted)",
        table.subnets,
        table.batch_sizes,
        latency_ns,
        between=table.between,
        default_max_batch=table.default_max_batch,
        provenance=provenance,
    )
    return predicted, found


def find_data_sheet(device: str) -> DataSheet | None:
    """Return the data sheet of a device by what torch or a table calls it, or None.

    Example:
        >>> find_data_sheet("NVIDIA A100-SXM4-80GB").name
        'NVIDIA A100 SXM4 80 GB'
    """
    plain = re.sub(r"[^a-z0-9]", "", device.lower())
    named = [name for name in DATA_SHEETS if name in plain]
    return DATA_SHEETS[max(named, key=len)] if named else None
