"""Read a whole parquet file: the one place that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def read_parquet(source: Path | pa.BufferReader) -> pa.Table:
    """Return what is in a parquet file.

    pyarrow's own `read_table` hands back the table while its threads still tidy up; one process in a hundred that ends
    right after it is aborted ("terminate called without an active exception", apache/arrow issues 34314, 39862). A
    `ParquetFile` is done when it says so.

    Raises:
        pyarrow.ArrowException: It is damaged, or no parquet file.
        OSError: It can't be read.
    """
    with pq.ParquetFile(source) as file:
        return file.read()
