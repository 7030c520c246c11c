"""The Azure files: which functions are chosen, what the shrink keeps, and which files are refused."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.base.errors import DataError, SpecError
from sim.traces.azure_files import DAY_FILE, Azure2019, Azure2021
from sim.traces.content import content_of
from sim.traces.statistics import describe, window_counts
from tests.sim.traces.sources import joined
from tests.sim.traces.test_files import written

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "HashOwner,HashApp,HashFunction,Trigger"
MINUTES = 1440


def day_text(apps: list[str], counts: Any, minutes: range = range(1, MINUTES + 1), form: str = "{}") -> str:
    """Return the text of a day file: the app and the invocations of each function in each minute."""
    lines = [",".join([HEAD, *(form.format(minute) for minute in minutes)])]
    lines += [
        f"o,{app},f{n},http,{','.join(map(str, row))}" for n, (app, row) in enumerate(zip(apps, counts, strict=True))
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, npt.NDArray[np.int64]]:
    path = tmp_path_factory.mktemp("azure2019")
    counts = np.random.default_rng(0).poisson(3, (40, MINUTES))
    written(path, day_text([f"a{n // 4}" for n in range(40)], counts), DAY_FILE.format(1))
    written(path, day_text(["a", "b"], np.ones((2, MINUTES), int)), DAY_FILE.format(14) + ".gz")
    return path, counts


def test_all_functions_at_their_real_rate_keep_one_arrival_in_720(folder: tuple[Path, npt.NDArray[np.int64]]) -> None:
    path, counts = folder
    source = Azure2019(slo_ms=36, path=str(path))
    assert np.array_equal(source.minute_counts(0), counts.sum(axis=0))
    expected = counts.sum() / 720
    assert abs(len(joined(source)) - expected) < 4.5 * np.sqrt(expected)
    assert source.duration_ns == 120 * 10**9
    assert source.trace(0).name == "azure2019"
    assert Azure2019(slo_ms=36, path=str(source.inputs()[0])).name == "invocations_per_function_md.anon.d01"


def test_in_real_time_no_invocation_is_left_out_and_none_added(folder: tuple[Path, npt.NDArray[np.int64]]) -> None:
    path, counts = folder
    source = Azure2019(slo_ms=36, path=str(path), duration_s=MINUTES * 60)
    assert np.array_equal(window_counts(source.chunks(0), (60, 1)), counts.sum(axis=0))


def test_mean_qps_scales_and_a_day_is_chosen_by_its_number(folder: tuple[Path, npt.NDArray[np.int64]]) -> None:
    source = Azure2019(slo_ms=36, path=str(folder[0]), day=14, mean_qps=1000, duration_s=60)
    assert source.inputs()[0].name == DAY_FILE.format(14) + ".gz"
    assert describe(source.chunks(1), source.duration_ns).mean_qps == pytest.approx(
        1000, abs=4.5 * np.sqrt(60_000) / 60
    )


@given(functions=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_functions_are_drawn_by_whole_apps_but_the_last(
    folder: tuple[Path, npt.NDArray[np.int64]], functions: int, seed: int
) -> None:
    path, counts = folder
    source = Azure2019(slo_ms=36, path=str(path), functions=functions)
    chosen = source._chosen(content_of(source.inputs()[0]), seed)
    by_app = chosen.reshape(10, 4).sum(axis=1)
    assert chosen.sum() == functions
    assert ((by_app == 0) | (by_app == 4)).sum() >= 9
    assert np.array_equal(source.minute_counts(seed), counts[chosen].sum(axis=0))
    assert np.array_equal(
        Azure2019(slo_ms=36, path=str(path), share=functions / 40)._chosen(content_of(source.inputs()[0]), seed), chosen
    )


def test_every_app_has_the_same_chance(folder: tuple[Path, npt.NDArray[np.int64]]) -> None:
    source = Azure2019(slo_ms=36, path=str(folder[0]), functions=4)
    content = content_of(source.inputs()[0])
    drawn = sum(source._chosen(content, seed).reshape(10, 4)[:, 0].astype(int) for seed in range(300))
    assert ((drawn - 30) ** 2 / 30).sum() < 27.9  # chi square, 9 degrees of freedom, one in a thousand


@pytest.mark.parametrize(("minutes", "form"), [(range(480, 960), "{}"), (range(1, 1441), "{}_minute")])
def test_parts_of_a_day_and_other_names_of_minutes_are_read(tmp_path: Path, minutes: range, form: str) -> None:
    path = written(tmp_path, day_text(["a"], [list(minutes)], minutes, form))
    assert Azure2019(slo_ms=36, path=path).minute_counts(0).tolist() == list(minutes)


def test_a_file_as_large_as_the_real_one_is_read_in_little_memory(tmp_path: Path) -> None:
    row = "o,a,f,http" + ",0" * MINUTES
    path = tmp_path / "day.csv"
    with path.open("w") as file:
        file.write(day_text([], []))
        file.writelines(f"{row}\n" for _ in range(8_000))
    tracemalloc.start()
    Azure2019(slo_ms=36, path=str(path), share=0.5).minute_counts(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6 < 8_000 * MINUTES * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\n", "has no minute columns; columns named 1 to 1440"),
        (f"{HEAD},1,3\no,a,f,http,1,1\n", r"missing minute, or minutes out of order \(3\); must be 2"),
        (",".join([HEAD, *map(str, range(1, 2881))]) + "\n", r"has more minutes than a day \(2,880\); one file"),
        (f"{HEAD},1,2\no,a,f,http,1,x\n", r"row 1: invalid column 2 \('x'\); must be a whole number"),
        (f"{HEAD},1,2\no,a,f,http,1,1\no,a,f,http,1,-4\n", r"row 2: minute 2 is negative \(-4\)"),
        (f"{HEAD},1,2\no,a,f,http,0,0\n", "the chosen functions were never invoked"),
        (f"{HEAD},1,2\n", "the chosen functions were never invoked"),
        (f"{HEAD},1,2\no,a,f,http,1\n", "row 1: has 5 cells; the header has 6 columns"),
    ],
)
def test_a_bad_day_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Azure2019(slo_ms=36, path=written(tmp_path, text)).trace(0)


def test_what_can_not_be_chosen_is_refused(folder: tuple[Path, npt.NDArray[np.int64]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has fewer functions than requested \(41\); at most 40"):
        Azure2019(slo_ms=36, path=str(folder[0]), functions=41).trace(0)
    with pytest.raises(SpecError, match="cannot be combined with functions"):
        Azure2019(slo_ms=36, functions=1, share=0.5)
    with pytest.raises(SpecError, match=r"Azure2019.day: is out of range \(15\)"):
        Azure2019(slo_ms=36, day=15)
    with pytest.raises(
        DataError, match=r"missing file of the data set \(invocations_per_function_md.anon.d02.csv\[.gz\]\)"
    ):
        Azure2019(slo_ms=36, path=str(folder[0]), day=2).trace(0)
    with pytest.raises(DataError, match="file not found"):
        Azure2019(slo_ms=36, path=str(tmp_path / "no.csv")).trace(0)


def test_without_a_path_the_cache_is_read(
    folder: tuple[Path, npt.NDArray[np.int64]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = Azure2019(slo_ms=36).located(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="ssim trace fetch azure2019"):
        source.inputs()
    (tmp_path / "ssim").mkdir()
    (tmp_path / "ssim" / "azure2019").symlink_to(folder[0])
    assert np.array_equal(source.minute_counts(0), folder[1].sum(axis=0))
    assert source.name == "azure2019"


def test_2021_arrivals_are_ends_minus_durations_sorted_from_zero(tmp_path: Path) -> None:
    path = written(tmp_path, "app,func,end_timestamp,duration\na,f,10,1\na,g,11,5\nb,f,10.5,0.25\n")
    assert joined(Azure2021(slo_ms=36, path=path)).tolist() == [0, 3 * 10**9, 4_250_000_000]
    assert joined(Azure2021(slo_ms=36, path=path, speedup=2, duration_s=2)).tolist() == [0, 1_500_000_000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("end_timestamp,duration\n1,x\n", r"row 1: invalid duration \('x'\); must be a number"),
        ("end_timestamp,duration\n2,1\n1,-1\n", r"row 2: duration is negative \(-1.0\)"),
        ("end_timestamp,duration\n2,1\nnan,1\n", "row 2: is not a time"),
        ("end_timestamp,time\n2,1\n", r"missing column \('duration'\)"),
        ("end_timestamp,duration\n", "has no arrivals"),
    ],
)
def test_a_bad_2021_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Azure2021(slo_ms=36, path=written(tmp_path, text)).trace(0)
