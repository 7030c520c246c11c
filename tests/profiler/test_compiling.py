"""Cells are compiled whole and each on its own, or it is told that they are not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from profiler.grid import Cell, DeviceState  # noqa: E402
from profiler.schedule import NotCompiledError  # noqa: E402
from profiler.table import STAGE  # noqa: E402 - after torch is known to be there
from profiler.torch_meter import Options, TorchMeter  # noqa: E402
from tests.profiler.test_model_under_test import CPU, RESNET, Given, model_under_test, supernet_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

# Dynamo looks at .grad, and export at what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor", "ignore:.*LeafSpec:FutureWarning")


@torch._dynamo.config.patch(recompile_limit=2)
def test_every_cell_runs_compiled_however_many_subnets_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def counting(module: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        return lambda *inputs: (ran.append(1), module(*inputs))[1]

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    options = Options(compiled=True)
    meter = TorchMeter(model_under_test(options=options), CPU, options, DeviceState)
    subnets = [subnet.id for subnet in supernet_of(RESNET).space.linspace(3)]  # more than the limit
    for cell in (*(Cell(name, 1) for name in subnets), Cell(subnets[0], 2)):
        run = meter.prepare(cell)
        ran.clear()
        run()
        assert len(ran) == 1, cell
    for name in subnets:  # the next round finds them compiled
        ran.clear()
        meter.prepare(Cell(name, 1))
        assert len(ran) == 1


def test_a_network_that_does_not_compile_as_a_whole_is_told() -> None:
    def breaks(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    options = Options(compiled=True)
    with pytest.raises(NotCompiledError, match="one, batch 2: does not compile as a whole"):
        TorchMeter(Given(breaks), CPU, options, DeviceState).prepare(Cell("one", 2))
    stage = f"{STAGE}preprocess"
    TorchMeter(Given(breaks), CPU, options, DeviceState).prepare(Cell(stage, 2))  # a server runs it as it is


AHEAD = Options(compiled=True, compile_mode="ahead-of-time")
SMALLEST = RESNET.space.smallest.id


def test_a_subnet_is_exported_for_the_shape_of_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, files = [], []

    def load(exported: Any) -> Callable[..., Any]:
        network = exported.module()
        return lambda *inputs: (ran.append(inputs[0].shape), network(*inputs))[1]

    def package(exported: Any, package_path: str) -> Any:
        files.append(package_path)
        return exported

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", package)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    meter = TorchMeter(model_under_test(options=AHEAD), CPU, AHEAD, DeviceState)
    run = meter.prepare(Cell(SMALLEST, 3))
    run()
    assert [shape[0] for shape in ran] == [3, 3]
    meter.prepare(Cell(SMALLEST, 3))
    assert len(files) == 1, "the next round finds it compiled"


def test_what_can_not_be_exported_is_told() -> None:
    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(NotCompiledError, match="one, batch 2: does not compile ahead of time"):
        TorchMeter(Given(Branches()), CPU, AHEAD, DeviceState).prepare(Cell("one", 2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Inductor's own
def test_a_subnet_that_was_compiled_ahead_of_time_computes_the_same() -> None:
    model = model_under_test(options=AHEAD)
    meter = TorchMeter(model, CPU, AHEAD, DeviceState)
    cell = Cell(SMALLEST, 2)
    assert meter.prepare(cell)().wall_ns > 0
    inputs = model.inputs(SMALLEST, 2)
    with torch.inference_mode():
        assert torch.allclose(meter._compiled[cell](*inputs), model.network(SMALLEST)(*inputs), atol=1e-5)
