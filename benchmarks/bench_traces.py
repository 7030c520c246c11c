"""Recordings read from files, beside what pyarrow itself needs for the same column."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from benchmarks.jobs import QUICK, rounds
from sim.traces.files import File
from sim.traces.synthetic import Poisson
from sim.traces.writing import write_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARRIVALS = 100_000 if QUICK else 10_000_000
FORMS = ("csv", "parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same arrivals in each form."""
    found = tmp_path_factory.mktemp("traces")
    source = Poisson(slo_ms=36, mean_qps=1000, duration_s=ARRIVALS / 1000)
    for form in FORMS:
        write_trace(found / f"t.{form}", source.chunks(0))
    return found


def _by_pyarrow(path: Path) -> Any:
    if path.suffix == ".csv":
        return pa_csv.read_csv(path).column(0)
    return pq.ParquetFile(path).read().column(0)


def _by_file(path: Path) -> Any:
    return File(path=str(path), slo_ms=36).arrivals(0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("read", [_by_pyarrow, _by_file], ids=["pyarrow", "kind file"])
def bench_read(benchmark: Any, folder: Path, form: str, read: Callable[[Path], Any]) -> None:
    """All arrivals of a file are read."""
    what = "pyarrow" if read is _by_pyarrow else "kind: file"
    found = benchmark.pedantic(read, (folder / f"t.{form}",), rounds=rounds(7), warmup_rounds=1)
    benchmark.extra_info |= {"what": f"{form}, {what}", "unit": "arrivals", "count": len(found)}


@pytest.mark.parametrize("form", FORMS)
def bench_memory(benchmark: Any, folder: Path, form: str) -> None:
    """The memory of reading stays below three times the column; pyarrow's own pool is counted, too."""
    path = folder / f"t.{form}"
    column = 8 * len(_by_file(path))

    def peak() -> float:
        tracemalloc.start()
        pool = pa.default_memory_pool()
        before = pool.bytes_allocated()
        chunks, most = [], 0
        for chunk in File(path=str(path), slo_ms=36).chunks(0):
            chunks.append(chunk)
            most = max(most, pool.bytes_allocated() - before)
        np.concatenate(chunks)
        _, own = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (own + most) / column

    times = benchmark.pedantic(peak, rounds=1)
    benchmark.extra_info |= {"what": f"{form}, peak of {times:.2f} columns", "unit": "arrivals", "count": column // 8}
    assert QUICK or times < 3  # noqa: PLR2004 - columns
