"""What only a GPU can show: its clock, graphs, launches, energy, and what does not fit. `make gpu` runs these first.

They need pytest and what `benchmarks.gpu_check` names, so that they run on a machine where ssim is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from profiler.actuation import measure_actuation  # noqa: E402
from profiler.devices import (  # noqa: E402
    device_energy_reader,
    device_facts,
    device_state_reader,
    find_device,
)
from profiler.grid import Cell, DeviceState  # noqa: E402
from profiler.model_under_test import SupernetUnderTest  # noqa: E402
from profiler.schedule import NotANumberError, OutOfMemoryError  # noqa: E402
from profiler.table import STAGE  # noqa: E402
from profiler.torch_meter import Options, TorchMeter  # noqa: E402
from supernet.families import OfaResNetSmall  # noqa: E402
from supernet.family import build  # noqa: E402 - after torch is known to be there

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

FAMILY = OfaResNetSmall(width=16)
LARGEST, SMALLEST = FAMILY.space.largest.id, FAMILY.space.smallest.id


def model_on(gpu: int, options: Options) -> SupernetUnderTest:
    return SupernetUnderTest(build(FAMILY, seed=0), FAMILY, find_device(gpu), options, 28)


def meter_on(gpu: int, options: Options = Options()) -> TorchMeter:  # noqa: B008 - frozen
    device = find_device(gpu)
    return TorchMeter(
        model_on(gpu, options), device, options, device_state_reader(device), device_energy_reader(device)
    )


class Given:
    """A network given by a test."""

    def __init__(self, call: Callable[..., Any], batch: Callable[[int], tuple[torch.Tensor, ...]]) -> None:
        self.call, self.inputs = call, lambda _name, size: batch(size)

    def network(self, _name: str) -> Callable[..., Any]:
        return self.call


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(cuda_graph=True),
        Options("fp16", channels_last=True),
        Options("bf16", autocast=True),
        Options("fp16", channels_last=True, cuda_graph=True, contiguous=True),
    ],
)
def test_a_gpu_has_a_clock_of_its_own_and_a_state(options: Options) -> None:
    meter = meter_on(0, options)
    for size in (1, 8):
        sample = meter.prepare(Cell(LARGEST, size))()
        assert 0 < sample.device_ns <= 2 * sample.wall_ns
    if find_spec("pynvml"):
        assert meter.device_state().clock_mhz > 0


def test_every_stage_runs_on_a_gpu() -> None:
    model = model_on(0, Options())
    assert {"h2d_copy", "d2h_copy", "preprocess", "postprocess"} <= set(model.stages.run)
    meter = TorchMeter(model, find_device(0), Options(), DeviceState)
    for stage in model.stages.run:
        assert meter.prepare(Cell(STAGE + stage, 4))().wall_ns > 0


def test_copies_are_from_and_to_pinned_memory() -> None:
    stages = model_on(0, Options()).stages
    (batch,) = stages.inputs("h2d_copy", 4, lambda _size: None)
    assert batch.is_pinned()
    assert batch.dtype == torch.uint8
    logits = torch.randn(4, 10, device=find_device(0))
    copied = stages.run["d2h_copy"](*stages.postprocess(logits))
    torch.cuda.synchronize()
    assert all(part.is_pinned() for part in copied)
    assert (copied[1] == logits.argmax(1).cpu()).all()


def test_a_graph_has_no_launch_gaps_and_is_no_slower() -> None:
    def median(options: Options) -> float:
        run = meter_on(0, options).prepare(Cell(LARGEST, 1))
        return sorted(run().wall_ns for _ in range(50))[25]

    assert median(Options(cuda_graph=True)) < median(Options())


def test_the_device_is_busy_for_less_than_the_time_between_events() -> None:
    meter = meter_on(0)
    run = meter.prepare(Cell(LARGEST, 1))
    device_ns = sorted(run().device_ns for _ in range(50))[25]
    busy_ns = meter.device_use(Cell(LARGEST, 1)).busy_ns
    assert busy_ns is not None
    assert 0 < busy_ns < 1.1 * device_ns


def test_energy_is_within_what_the_board_can_draw() -> None:
    device = find_device(0)
    if device_energy_reader(device)() is None:
        pytest.skip("this GPU does not count energy, or nvidia-ml-py is not installed")
    meter = meter_on(0)
    run = meter.prepare(Cell(LARGEST, 64))
    wall_s = sorted(run().wall_ns for _ in range(50))[25] / 1e9
    energy_mj = meter.device_use(Cell(LARGEST, 64)).energy_mj
    assert 1 < energy_mj / 1000 / wall_s < 2000, "watts"


@pytest.mark.parametrize("options", [Options(), Options(channels_last=True)])
def test_contiguous_weights_compute_what_views_do(options: Options) -> None:
    results = []
    for contiguous in (False, True):
        model = model_on(0, Options(channels_last=options.channels_last, contiguous=contiguous))
        with torch.inference_mode():
            results.append(model.network(SMALLEST)(*model.inputs(SMALLEST, 2)).float())
    assert torch.allclose(*results, rtol=1e-2, atol=1e-2)


def test_switches_are_measured() -> None:
    found = measure_actuation(meter_on(0), [SMALLEST, LARGEST], 1)
    assert abs(found.cost.median) < 10e6


def test_facts_name_driver_and_arithmetic() -> None:
    facts = device_facts(find_device(0))
    assert {"cuda", "cudnn", "memory", "tf32", "cudnn.benchmark", "driver"} <= facts.keys()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("options", [Options(), Options(cuda_graph=True)])
def test_the_second_gpu_is_timed_by_its_own_clock(options: Options) -> None:
    sample = meter_on(1, options).prepare(Cell(LARGEST, 256))()
    assert sample.device_ns > 0.3 * sample.wall_ns, "not the time of the launches on the first"


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_a_cell_is_compiled() -> None:
    sample = meter_on(0, Options(compiled=True)).prepare(Cell(SMALLEST, 2))()
    assert sample.device_ns > 0


def test_a_batch_too_large_for_a_gpu_is_one_cell_and_the_next_goes_on() -> None:
    device = find_device(0)
    large = Given(lambda x: x, lambda n: (torch.empty(n * 2**40, device=device),))
    with pytest.raises(OutOfMemoryError):
        TorchMeter(large, device, Options(), DeviceState).prepare(Cell("one", 2))
    fits = Given(lambda x: x + 1, lambda n: (torch.zeros(n, device=device),))
    assert TorchMeter(fits, device, Options(), DeviceState).prepare(Cell("one", 1))().wall_ns > 0


def test_an_overflow_in_fp16_is_told() -> None:
    device = find_device(0)
    given = Given(lambda x: (x + 6e4) * 2, lambda n: (torch.ones(n, dtype=torch.float16, device=device),))
    with pytest.raises(NotANumberError, match="fp16 ends at 65504"):
        TorchMeter(given, device, Options("fp16"), DeviceState).prepare(Cell("one", 2))
