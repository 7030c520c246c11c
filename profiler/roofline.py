"""Predicts the latencies of another device: a roofline over the kernels of each subnet, with launch overhead.

After Williams et al., "Roofline" (CACM 2009): a kernel takes as long as its arithmetic, its memory traffic or its
launch, whichever is longest. The three rates are fitted to a measured table, and scaled to another device by the two
data sheets.
"""

from __future__ import annotations

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

    from profiler.data_sheets import DataSheet
    from supernet.family import Family
    from supernet.network import Supernet


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
    """The rates of a device.

    Attributes:
        launch_ns: The least time of a kernel.
        flops_per_ns: Operations in a nanosecond.
        bytes_per_ns: Bytes in a nanosecond.
    """

    launch_ns: float
    flops_per_ns: float
    bytes_per_ns: float

    def time_ns(self, work: Work) -> float:
        """Return the time of a forward pass."""
        busy = np.maximum(work.flops / self.flops_per_ns, work.bytes / self.bytes_per_ns)
        return float(np.maximum(busy, self.launch_ns).sum())

    def scaled(self, source: DataSheet, target: DataSheet) -> Roofline:
        """Return the roofline of another device: rates scaled by the data sheets, the same launch overhead."""
        flops, traffic = target.tflops / source.tflops, target.gb_per_s / source.gb_per_s
        return replace(self, flops_per_ns=self.flops_per_ns * flops, bytes_per_ns=self.bytes_per_ns * traffic)


class _Kernels(TorchDispatchMode):
    """Records the operations and bytes of each kernel; views are not kernels."""

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
        supernet: On the device "meta", so that nothing is computed.
        family: Its family.
        subnet: The id.
        batch_size: The number of examples.
        size: The side of images or the length of texts; None for the family's default.
    """
    sizes = supernet.assembly.norm_sizes(supernet.active_config(subnet))
    if sizes:
        supernet.set_statistics(subnet, torch.empty(2 * sum(sizes.values()), device="meta"))
    inputs = tuple(part.to("meta") for part in family.example(batch_size, size or family.default_size))
    with torch.no_grad(), _Kernels() as kernels:
        supernet.eval().actuate(subnet)(*inputs)
    flops, traffic = np.array(kernels.rows, dtype=np.float64).T
    return Work(flops, traffic)


class Fit(NamedTuple):
    """A fitted roofline.

    Attributes:
        roofline: The rates.
        errors: The relative error of each cell: 0.05 is five percent too slow.
    """

    roofline: Roofline
    errors: npt.NDArray[np.float64]


Works = dict[tuple[int, int], Work]
"""The work of each cell of a table, by row and column."""


def works_of(table: LatencyTable, family: Family, size: int | None = None) -> Works:
    """Return the work of every cell of a table.

    Raises:
        DataError: A subnet has no control tuple.
        SpecError: A subnet does not belong to the family.
    """
    supernet, works = build(family, device="meta"), Works()
    for row, subnet in enumerate(table.subnets):
        if subnet.control is None:
            raise DataError(
                f"table of {table.device}, subnet {subnet.id}",
                "has no control tuple",
                "",
                "a control tuple for each subnet",
            )
        name = family.space.find(SubnetConfig(family.space.family, subnet.control)).id
        for column, batch_size in enumerate(table.batch_sizes):
            works[row, column] = work_of(supernet, family, name, batch_size, size)
    return works


def errors_of(roofline: Roofline, table: LatencyTable, works: Works) -> npt.NDArray[np.float64]:
    """Return the relative error of a roofline in each cell of a table."""
    return np.array([roofline.time_ns(work) / table.latency_ns[cell] - 1 for cell, work in works.items()])


def fit(table: LatencyTable, works: Works, sheet: DataSheet) -> Fit:
    """Return the least-squares fit to the logarithms of a table, with rates at most those of the data sheet."""
    peak = np.log([np.inf, sheet.tflops * 1e3, sheet.gb_per_s])
    start = np.log([1e4, sheet.tflops * 1e3 * _START, sheet.gb_per_s * _START])

    def distance(logarithms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.log1p(errors_of(Roofline(*np.exp(logarithms)), table, works))

    solution = least_squares(distance, start, bounds=(-np.inf, peak))
    roofline = Roofline(*(float(rate) for rate in np.exp(solution.x)))
    return Fit(roofline, errors_of(roofline, table, works))


_START = 0.5
"""The share of a data sheet's rates at which a fit starts."""


def predict(table: LatencyTable, works: Works, source: DataSheet, target: DataSheet) -> tuple[LatencyTable, Fit]:
    """Return the predicted table of another device, and the fit to the measured table.

    Args:
        table: Measured latencies of the forward pass.
        works: The work of its cells.
        source: The data sheet of the measured device.
        target: The data sheet of the other device.
    """
    fitted = fit(table, works, source)
    roofline = fitted.roofline.scaled(source, target)
    latency_ns = np.empty_like(table.latency_ns)
    for cell, work in works.items():
        latency_ns[cell] = max(1, round(roofline.time_ns(work)))
    rates = (roofline.launch_ns / 1e3, roofline.flops_per_ns / 1e3, roofline.bytes_per_ns)
    provenance = {
        "source": f"PREDICTED, not measured: a roofline fitted to the table of {table.device}",
        "fit": f"relative error: median {np.median(abs(fitted.errors)):.1%}, largest {abs(fitted.errors).max():.1%}",
        "roofline": "{:.1f} us a kernel at least, {:.2f} TFLOPS, {:.0f} GB/s".format(*rates),
        "carried over": f"by data sheets ({target.tflops:g} / {source.tflops:g} TFLOPS, {target.gb_per_s:g} / "
        f"{source.gb_per_s:g} GB/s); launches, which go by CPU and software, as they are",
        "data sheets": f"{source.name}: {source.source}; {target.name}: {target.source}",
    }
    predicted = LatencyTable(
        f"{target.name} (predicted)",
        table.subnets,
        table.batch_sizes,
        latency_ns,
        between=table.between,
        default_max_batch=table.default_max_batch,
        provenance=provenance,
    )
    return predicted, fitted
