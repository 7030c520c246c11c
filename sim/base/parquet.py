"""Reading of whole parquet files, in one place for a workaround."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def read_parquet(source: Path | pa.BufferReader) -> pa.Table:
    """Return the content of a parquet file.

    Reads on the calling thread: a process that exits soon after pyarrow's threads have read, above all one that has
    loaded torch, is often aborted ("terminate called without an active exception", apache/arrow issues 34314, 39862).

    Raises:
        pyarrow.ArrowException: It is damaged, or not a parquet file.
        OSError: It can't be read.
    """
    with pq.ParquetFile(source) as file:
        return file.read(use_threads=False)
