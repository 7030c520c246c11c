"""Latency tables from single cells: what files of all formats hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from sim.base.errors import DataError
from sim.tables.latency import LatencyTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sim.tables.latency import Between, ProfiledSubnet

Cells = Mapping[tuple[str, int], int]
"""Nanoseconds by subnet id and batch size."""


def table_from_cells(
    device: str,
    subnets: Iterable[ProfiledSubnet],
    cells: Cells,
    uncertainty: Mapping[str, Cells] | None = None,
    stages: Mapping[str, Cells] | None = None,
    samples: Mapping[tuple[str, int], Sequence[int]] | None = None,
    *,
    energy: Mapping[tuple[str, int], int] | None = None,
    location: str = "table",
    between: Between = "pad",
    default_max_batch: int | None = None,
    provenance: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Return the table of measured cells, given in any order.

    Args:
        device: Name of the device that was profiled.
        subnets: In any order; the table sorts them by accuracy.
        cells: Latencies.
        uncertainty: Percentiles and interval bounds by the names in `UNCERTAINTY_GRIDS`, each by the same keys.
        stages: Parts of the latency by name, each by the same keys.
        samples: The repetitions that the latencies are medians of, by the same keys.
        energy: Microjoules of a batch, by the same keys.
        location: Name of the table in messages.
        between: As in `LatencyTable`.
        default_max_batch: As in `LatencyTable`.
        provenance: As in `LatencyTable`.

    Raises:
        DataError: A cell is missing, or the table breaks a rule of `LatencyTable`.
    """
    ordered = tuple(sorted(subnets, key=lambda subnet: subnet.accuracy))
    sizes = tuple(sorted({size for _, size in cells}))

    def grid(values: Mapping[tuple[str, int], Any], column: str) -> Any:
        missing = [(s.id, size) for s in ordered for size in sizes if (s.id, size) not in values]
        if missing:
            subnet, size = missing[0]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            problem, value = f"missing cell of {column}", f"subnet {subnet}, batch {size}{more}"
            full = [size for size in sizes if all((s.id, size) in values for s in ordered)]
            shared = list(takewhile(lambda size: size in full, sizes))
            hint = f"all subnets have {', '.join(map(str, full))}" if full else "no batch size is there for all subnets"
            way = f"; max_batch {shared[-1]} leaves out larger ones" if shared else ""
            raise DataError(location, problem, value, f"the grid must be full: {hint}{way}")
        return [[values[s.id, size] for size in sizes] for s in ordered]

    return LatencyTable(
        device,
        ordered,
        sizes,
        grid(cells, "latency"),
        **{name: grid(values, name.removesuffix("_ns")) for name, values in (uncertainty or {}).items()},
        stages={name: grid(values, f"stage {name}") for name, values in (stages or {}).items()},
        samples_ns=None if samples is None else grid(samples, "samples"),
        energy_uj=None if energy is None else grid(energy, "energy"),
        between=between,
        default_max_batch=default_max_batch,
        provenance=provenance or {},
    )
