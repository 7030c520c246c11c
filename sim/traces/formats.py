"""Public traces by name: each is a `File` with the column, unit and origin of its format for defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from sim.traces.content import content_of
from sim.traces.files import File
from sim.traces.reading import numbers_of
from sim.traces.rows import Where
from sim.traces.times import TimeColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm(File):
    """Azure LLM inference, 2023 (Patel et al., ISCA 2024) and 2024: TIMESTAMP as ISO text, the first arrival at 0."""

    arrival: TimeColumn | None = TimeColumn("TIMESTAMP", "iso")
    origin: Literal["first", "zero"] | None = "first"

    kind: ClassVar[str] = "llm"


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstGpt(File):
    """BurstGPT (Wang et al., KDD 2025): Timestamp in seconds since the first midnight; failed requests are kept."""

    arrival: TimeColumn | None = TimeColumn("Timestamp", "s")
    origin: Literal["first", "zero"] | None = "first"

    kind: ClassVar[str] = "burstgpt"

    def notes(self) -> tuple[str, ...]:
        """Return what is unusual, and how many requests failed: those without a token in their response.

        Raises:
            DataError: A file can't be read or breaks the rules; names the row.
        """
        failed = total = 0
        for path in self.inputs():
            for _, (tokens,) in numbers_of(content_of(path), {"Response tokens": pa.float64()}):
                failed += int(np.count_nonzero(tokens == 0))
                total += len(tokens)
        said = f"{failed:,} of {total:,} requests failed (Response tokens 0): they are replayed like all others"
        return (*File.notes(self), *((said,) if failed else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mooncake(File):
    """Mooncake (Qin et al., FAST 2025), JSON lines: timestamp in milliseconds, in steps of 3 s (see `spread`)."""

    arrival: TimeColumn | None = TimeColumn("timestamp", "ms")
    origin: Literal["first", "zero"] | None = "zero"

    kind: ClassVar[str] = "mooncake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splitwise(File):
    """Traces of splitwise-sim (Patel et al., ISCA 2024): arrival_timestamp in seconds."""

    arrival: TimeColumn | None = TimeColumn("arrival_timestamp", "s")
    origin: Literal["first", "zero"] | None = "zero"

    kind: ClassVar[str] = "splitwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vidur(File):
    """Processed traces of Vidur (Agrawal et al., MLSys 2024): arrived_at in seconds."""

    arrival: TimeColumn | None = TimeColumn("arrived_at", "s")
    origin: Literal["first", "zero"] | None = "zero"

    kind: ClassVar[str] = "vidur"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmServingSim(File):
    """Traces of LLMServingSim (Cho et al., IISWC 2024), TSV or JSON lines: arrival_time_ns."""

    arrival: TimeColumn | None = TimeColumn("arrival_time_ns", "ns")
    origin: Literal["first", "zero"] | None = "zero"

    kind: ClassVar[str] = "llmservingsim"


@dataclass(frozen=True, slots=True, kw_only=True)
class K6(File):
    """Results of Grafana k6 as CSV: the rows of http_reqs, timestamp in Unix seconds (k6's timeFormat: unix)."""

    arrival: TimeColumn | None = TimeColumn("timestamp", "s")
    origin: Literal["first", "zero"] | None = "first"
    where: Where | None = Where("metric_name", "http_reqs")
    sort: bool = True

    kind: ClassVar[str] = "k6"
