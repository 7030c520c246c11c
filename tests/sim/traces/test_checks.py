"""All shipped sources obey the contract of trace sources, and broken ones are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from sim.base.errors import DataError
from sim.traces import SHORT_NAMES, check_trace_source
from sim.traces.azure import Azure
from sim.traces.azure_files import DAY_FILE, Azure2019, Azure2021
from sim.traces.classes import ClassColumn
from sim.traces.counts import Counts, ServeGen
from sim.traces.files import File
from sim.traces.formats import K6, BurstGpt, Llm, LlmServingSim, Mooncake, Splitwise, Vidur
from sim.traces.source import TraceSource
from sim.traces.times import TimeColumn
from tests.sim.traces.published import PUBLISHED, SERVEGEN
from tests.sim.traces.sources import GENERATORS
from tests.sim.traces.test_azure_files import day_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> list[TraceSource]:
    """Return a small source of each kind that reads a file."""
    folder = tmp_path_factory.mktemp("traces")

    def path(name: str, text: str) -> str:
        (folder / name).write_text(text)
        return str(folder / name)

    day = path(DAY_FILE.format(1), day_text(["a", "a", "b"], np.full((3, 480), 400), range(1, 481)))
    slos = path("slos.csv", "arrival_ns,slo_ms\n0,20\n0,30\n7,25\n")
    return [
        File(slo_ms=36, path=slos, speedup=2),
        File(path=slos),
        Llm(slo_ms=36, path=path("llm.csv", "TIMESTAMP\n2023-11-16 23:59:59.9999999\n2023-11-17 00:00:01\n")),
        Azure2019(slo_ms=36, path=day, functions=2),
        Azure2021(
            slo_ms=36, path=path("2021.csv", "app,func,end_timestamp,duration\na,f,5,1\na,f,3,2\n"), duration_s=9
        ),
        File(slo_ms=36, path=path("coarse.csv", "arrival_s\n0\n0\n3\n3\n6\n"), spread=True, speedup=2),
        File(
            path=path("late.csv", "when,limit,who\n900,1,a\n901,1,b\n905,2,a\n"),
            arrival=TimeColumn("when", "s"),
            slo=TimeColumn("limit", "s"),
            class_=ClassColumn("who"),
        ),
        Counts(slo_ms=36, path=path("counts.csv", "count\n3\n0\n5\n"), bin_s=60, speedup=60),
        ServeGen(slo_ms=36, path=path("chunk-0-trace.csv", SERVEGEN), duration_s=900),
        *(
            owner(slo_ms=36, path=path(f"{owner.kind}.csv", PUBLISHED[owner.kind]))
            for owner in (BurstGpt, K6, LlmServingSim, Mooncake, Splitwise, Vidur)
        ),
    ]


def test_all_shipped_sources_obey_the_contract(replayed: list[TraceSource]) -> None:
    short = [Azure(slo_ms=36, duration_s=3), *(source for source in GENERATORS if not isinstance(source, Azure))]
    assert {source.kind for source in [*short, *replayed]} == set(SHORT_NAMES)
    for source in [*short, *replayed]:
        check_trace_source(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks(TraceSource):
    """Obeys the contract, unless it is told not to."""

    fault: str = ""

    kind: ClassVar[str] = "ticks"
    calls: ClassVar[list[int]] = []

    @property
    def duration_ns(self) -> int:
        return {"short": 5, "negative length": -1}.get(self.fault, 100)

    @property
    def is_random(self) -> bool:
        return self.fault != "hides its seed"

    @property
    def has_one_slo(self) -> bool:
        return self.fault != "slos"

    def window_ns(self, last_ns: int) -> int:
        return 99 if self.fault == "window" else self.duration_ns

    def inputs(self) -> tuple[Path, ...]:
        return (Path("nowhere.csv"),) if self.fault == "input" else ()

    def chunks(self, seed: int) -> Iterator[npt.NDArray[Any]]:
        if self.fault == "raises":
            raise KeyError("ticks")
        self.calls.append(seed)
        first = np.arange(10, dtype=np.int64) + (0 if self.fault == "ignores its seed" else seed % 7)
        if self.fault == "negative":
            first -= 20
        if self.fault == "forgetful":
            first += len(self.calls) % 2
        if self.fault == "empty":
            yield first[:0]
        yield first.astype(np.float64) if self.fault == "type" else first
        yield first if self.fault == "order" else first + 40
        if self.fault == "grows" and len(self.calls) % 2:
            yield first + 60


def test_a_source_of_ones_own_that_obeys_the_contract() -> None:
    check_trace_source(Ticks(slo_ms=1))
    check_trace_source(Ticks(slo_ms=1), seed=5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("input", r"ticks: input file not found \(nowhere.csv\)"),
        ("type", r"ticks: has the wrong type or shape \(float64, shape \(10,\)\)"),
        ("empty", "ticks: has no arrivals"),
        ("negative", "ticks, row 0: is negative"),
        ("order", "ticks, row 10: is earlier than the row before"),
        ("short", "duration_ns: ends before the last arrival"),
        ("negative length", "duration_ns: invalid duration"),
        ("window", r"ticks: window_ns differs from duration_ns \(99 and 100 ns\)"),
        ("slos", "ticks: has_one_slo does not match its trace"),
        ("forgetful", "ticks: gives other arrivals for the same seed"),
        ("grows", "ticks: gives other arrivals for the same seed"),
        ("ignores its seed", "ticks: is random, but another seed gives the same arrivals"),
        ("hides its seed", "ticks: is not random, but another seed gives other arrivals"),
        ("raises", r"ticks: raised KeyError: 'ticks' \(test_checks.py:\d+, in \w+\)"),
    ],
)
def test_a_broken_source_is_found(fault: str, message: str) -> None:
    Ticks.calls.clear()
    with pytest.raises(DataError, match=message):
        check_trace_source(Ticks(slo_ms=1, fault=fault))
