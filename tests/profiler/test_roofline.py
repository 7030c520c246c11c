"""A roofline finds the rates that it was made with, counts the work of subnets, and says how far it is off."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from profiler.data_sheets import DATA_SHEETS, DataSheet, find_data_sheet  # noqa: E402
from profiler.roofline import (  # noqa: E402 - after torch is known to be there
    Roofline,
    Work,
    fit,
    predict,
    work_of,
    works_of,
)
from sim.tables.files import find_table  # noqa: E402
from sim.tables.latency import LatencyTable, ProfiledSubnet  # noqa: E402
from supernet.costs import Costs  # noqa: E402
from supernet.families import DynaBertSmall, OfaResNet50  # noqa: E402
from supernet.family import build  # noqa: E402

RTX, A40 = find_table("ofa-resnet50-rtx2080ti"), find_table("ofa-resnet50-a40").with_stages(["forward"])


@pytest.mark.parametrize(
    "family", [OfaResNet50(), DynaBertSmall(layers=2, hidden=24, heads=4, ffn=48, vocabulary=50, depths=(1, 2))]
)
def test_work_is_the_costs_of_subnets(family: OfaResNet50 | DynaBertSmall) -> None:
    held = build(family, device="meta")
    size = 64
    costs = Costs(held, tuple(part.to("meta") for part in family.example(size=size)))
    for subnet in (family.space.smallest, family.space.largest):
        one, four = (work_of(held, family, subnet.id, batch, size) for batch in (1, 4))
        macs = costs.macs(subnet)
        assert four.flops.sum() == 4 * one.flops.sum()
        assert one.flops.sum() == pytest.approx(2 * macs, rel=0.05)  # attention is counted by its shape
        if isinstance(family, OfaResNet50):
            assert one.flops.sum() == 2 * macs
            assert one.bytes.sum() < four.bytes.sum() < 4 * one.bytes.sum(), "weights are read once a batch"


def planted(rates: Roofline, sheet: DataSheet) -> tuple[LatencyTable, dict[tuple[int, int], Work]]:
    rng = np.random.default_rng(0)
    works = {}
    for row in range(4):
        flops, traffic = rng.uniform(1e6, 4e8, 60) * (1 + row), rng.uniform(1e5, 1e7, 60) * (1 + row)
        works |= {(row, column): Work(flops * size, traffic * size) for column, size in enumerate((1, 4, 16))}
    latency = np.zeros((4, 3), np.int64)
    for cell, work in works.items():
        latency[cell] = round(rates.time_ns(work))
    return LatencyTable(
        sheet.name, tuple(ProfiledSubnet(str(n), 60.0 + n) for n in range(4)), (1, 4, 16), latency
    ), works


def test_planted_rates_are_found() -> None:
    sheet = DATA_SHEETS["v100"]
    rates = Roofline(12_000, 9_000, 500)
    table, works = planted(rates, sheet)
    found = fit(table, works, sheet)
    assert found.roofline.launch_ns == pytest.approx(rates.launch_ns, rel=0.01)
    assert found.roofline.flops_per_ns == pytest.approx(rates.flops_per_ns, rel=0.01)
    assert found.roofline.bytes_per_ns == pytest.approx(rates.bytes_per_ns, rel=0.01)
    assert abs(found.errors).max() < 0.01


def test_another_device_is_what_its_data_sheet_says() -> None:
    here, there = DataSheet("here", 10, 500), DataSheet("there", 20, 2000)
    table, works = planted(Roofline(1e-3, 9_000, 400), here)
    other, _ = predict(table, works, here, there)
    exact, _ = planted(Roofline(1e-3, 18_000, 1600), there)
    assert other.latency_ns == pytest.approx(exact.latency_ns, rel=0.01)
    assert other.device == "there (predicted)"
    assert other.provenance["source"].startswith("PREDICTED, not measured")


@pytest.mark.parametrize(
    ("measured", "held_out", "median", "large_batches"), [(RTX, A40, 0.35, 0.12), (A40, RTX, 0.15, 0.08)]
)
def test_the_published_tables_predict_each_other(
    measured: LatencyTable, held_out: LatencyTable, median: float, large_batches: float
) -> None:
    here, there = find_data_sheet(measured.device), find_data_sheet(held_out.device)
    predicted, fitted = predict(measured, works_of(measured, OfaResNet50()), here, there)
    assert np.median(abs(fitted.errors)) < 0.06
    errors = abs(predicted.latency_ns / held_out.latency_ns - 1)
    assert np.median(errors) < median
    assert np.median(errors[:, -2:]) < large_batches, "where launches do not matter"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", "NVIDIA RTX 2080 Ti"),
        ("Tesla T4", "NVIDIA T4"),
        ("NVIDIA A10", "NVIDIA A10"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM4 80 GB"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM5"),
        ("NVIDIA H20", "NVIDIA H20 96 GB"),
        ("NVIDIA H200", "NVIDIA H200 SXM"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 96 GB"),
        ("NVIDIA B200", "NVIDIA B200"),
        ("NVIDIA A30", "NVIDIA A30"),
        ("NVIDIA RTX A6000", "NVIDIA RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada"),
        ("NVIDIA GeForce RTX 5090", "NVIDIA RTX 5090"),
        ("AMD Instinct MI300X", "AMD Instinct MI300X"),
        ("NVIDIA A40 48 GB", "NVIDIA A40"),
    ],
)
def test_devices_are_known_by_what_torch_calls_them(said: str, name: str) -> None:
    assert find_data_sheet(said).name == name
    assert find_data_sheet("CPU AMD EPYC, 2 threads") is None


@pytest.mark.parametrize(
    "said",
    [
        "NVIDIA L40",
        "NVIDIA RTX A4000",
        "NVIDIA RTX A3000 Laptop GPU",
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA H100 PCIe",
        "NVIDIA H200 NVL",
        "NVIDIA GB200",
        "NVIDIA GH200 144G HBM3e",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 2080",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "Quadro RTX 6000",
        "AMD Instinct MI300A",
        "",
    ],
)
def test_a_relative_of_a_device_has_not_its_data_sheet(said: str) -> None:
    assert find_data_sheet(said) is None


def test_data_sheets_are_found_by_their_own_names_and_say_where_they_are_from() -> None:
    for name, sheet in DATA_SHEETS.items():
        assert find_data_sheet(name) == find_data_sheet(sheet.name) == sheet
        assert sheet.source
        assert 1 < sheet.gb_per_s / sheet.tflops < 200
