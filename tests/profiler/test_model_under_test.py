"""A supernet as what is measured: batches as networks expect them, stages, precision, and a device that fails."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from profiler.devices import device_facts, device_name, device_state_reader, find_device  # noqa: E402
from profiler.grid import Cell, DeviceState, DeviceUse  # noqa: E402
from profiler.model_under_test import SupernetUnderTest  # noqa: E402
from profiler.schedule import DeviceError, NotANumberError, OutOfMemoryError  # noqa: E402
from profiler.stages import PHOTO, ServerStages  # noqa: E402
from profiler.table import STAGE  # noqa: E402 - after torch is known to be there
from profiler.torch_meter import Options, TorchMeter  # noqa: E402
from sim.base.errors import DataError  # noqa: E402
from supernet.families import DynaBertSmall, OfaResNetSmall  # noqa: E402
from supernet.family import build  # noqa: E402
from supernet.layers import is_dense  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supernet.network import Supernet

CPU = torch.device("cpu")
RESNET = OfaResNetSmall(width=4)
BERT = DynaBertSmall(layers=2, hidden=24, heads=4, ffn=48, vocabulary=50, positions=16, depths=(1, 2))


@cache
def supernet_of(family: Any) -> Supernet:
    return build(family)


def model_under_test(family: Any = RESNET, options: Options | None = None, size: int = 8) -> SupernetUnderTest:
    return SupernetUnderTest(supernet_of(family), family, CPU, options or Options(), size)


@pytest.mark.parametrize("family", [RESNET, BERT])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_subnet_runs_on_its_batch(family: Any, batch: int) -> None:
    model = model_under_test(family)
    for subnet in (family.space.smallest, family.space.largest):
        with torch.inference_mode():
            result = model.network(subnet.id)(*model.inputs(subnet.id, batch))
        assert result.shape == (batch, family.classes)


def test_stages_lead_from_a_jpeg_to_an_answer() -> None:
    model = model_under_test()
    run = model.stages.run
    assert list(run) == ["decode", "preprocess", "postprocess"], "nothing is copied on a CPU"
    files = model.inputs(f"{STAGE}decode", 4)[0]
    assert Image.open(io.BytesIO(files[0])).size == PHOTO
    raw = run["decode"](files)
    assert (raw.shape, raw.dtype) == ((4, RESNET.channels, 8, 8), torch.uint8)
    (images,) = run["preprocess"](raw)
    assert -1 <= images.min() < images.max() <= 1
    smallest = RESNET.space.smallest.id
    with torch.inference_mode():
        logits = model.network(smallest)(images)
    share, likeliest = run["postprocess"](logits)
    assert (likeliest == logits.argmax(1)).all()
    assert ((share > 0.1) & (share <= 1)).all()
    (given,) = model.inputs(f"{STAGE}preprocess", 4)
    assert model.inputs(smallest, 4)[0].equal(run["preprocess"](given)[0]), "what is measured is what stages give"
    assert "JPEG of 500 x 375 pixels" in str(model.stages)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_decoded_image_is_the_image_that_was_encoded(channels: int) -> None:
    stages = ServerStages(lambda n: (torch.zeros(n, channels, 30, 40),), CPU, torch.float32, torch.contiguous_format)
    file = io.BytesIO()
    gradient = np.linspace(0, 250, PHOTO[0], dtype=np.uint8)[None, :, None].repeat(PHOTO[1], 0).repeat(channels, 2)
    Image.fromarray(gradient.squeeze()).save(file, "JPEG")
    decoded = stages.run["decode"]([file.getvalue()])
    assert decoded.shape == (1, channels, 30, 40)
    assert np.allclose(decoded[0, :, 15].float(), np.linspace(0, 250, 40), atol=6)


def test_texts_become_token_ids() -> None:
    pytest.importorskip("tokenizers")
    model = model_under_test(BERT)
    assert list(model.stages.run) == ["tokenize", "postprocess"]
    (texts,) = model.inputs(f"{STAGE}tokenize", 3)
    ids = model.stages.run["tokenize"](texts)
    assert (ids.shape, ids.dtype) == ((3, model.size), torch.int64)
    assert (ids > 1).all(), "no word is unknown, none is padding"
    assert ids[0].equal(ids[1])
    assert (model.stages.run["tokenize"](["word1 nowhere"])[0, :3] == torch.tensor([3, 0, 1])).all()


def test_inputs_of_other_kinds_are_copied_as_they_are() -> None:
    ids, mask = torch.arange(5)[None], torch.ones(1, 5)
    mixed = ServerStages(lambda n: (ids.expand(n, 5), mask.expand(n, 5)), CPU, torch.bfloat16, torch.contiguous_format)
    assert "preprocess" not in mixed.run
    first, second = mixed.preprocess(*mixed.raw(3))
    assert first.equal(ids.expand(3, 5)), "the example's ids are kept: any others may be out of range"
    assert (second.dtype, second.shape) == (torch.bfloat16, (3, 5))
    sound = ServerStages(lambda n: (torch.zeros(n, 100),), CPU, torch.float32, torch.contiguous_format)
    assert list(sound.run) == ["postprocess"]
    assert sound.raw(2)[0].abs().max() <= 1


def test_a_stage_without_its_library_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.stages.find_spec", lambda _name: None)
    assert list(model_under_test().stages.run) == ["preprocess", "postprocess"]
    assert "no decode (it needs Pillow" in str(model_under_test().stages)
    assert "no tokenizer (pip install tokenizers)" in str(model_under_test(BERT).stages)


def test_a_device_of_its_own_memory_gets_bytes_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, pinned = [], []
    cuda = torch.device("cuda", 0)
    stages = ServerStages(lambda n: (torch.zeros(n, 3, 8, 8),), cuda, torch.float16, torch.contiguous_format)
    assert list(stages.run) == ["decode", "h2d_copy", "preprocess", "postprocess", "d2h_copy"]
    assert "; copies: uint8 from pinned memory, non-blocking; " in str(stages)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (pinned.append(self), self)[1])
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: (copied.append((where, how)), self)[1])
    batch = stages.inputs("h2d_copy", 2, lambda _size: None)[0]
    assert batch.dtype == torch.uint8
    assert len(pinned) == 1
    stages.run["h2d_copy"](batch)
    assert copied == [((cuda,), {"non_blocking": True})]
    mps = torch.device("mps")
    pageable = ServerStages(lambda n: (torch.zeros(n, 3, 8, 8),), mps, torch.float16, torch.contiguous_format)
    assert "; copies: uint8 from pageable memory; " in str(pageable), "no call that Apple's lacks"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_options_change_what_runs(precision: Any, dtype: Any) -> None:
    supernet = build(RESNET)
    model = SupernetUnderTest(supernet, RESNET, CPU, Options(precision, channels_last=True), 8)
    (images,) = model.inputs(RESNET.space.largest.id, 2)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert model.network(RESNET.space.largest.id)(images).dtype == dtype


def test_autocast_keeps_weights_and_inputs_in_fp32() -> None:
    options = Options("bf16", autocast=True)
    model = SupernetUnderTest(build(RESNET), RESNET, CPU, options, 8)
    seen = []
    largest = model.network(RESNET.space.largest.id)
    largest.register_forward_hook(lambda _module, inputs, result: seen.append((inputs[0].dtype, result.dtype)))
    assert next(model._supernet.parameters()).dtype == torch.float32
    TorchMeter(model, CPU, options, DeviceState).prepare(Cell(RESNET.space.largest.id, 2))
    assert seen == [(torch.float32, torch.bfloat16)]


@pytest.mark.parametrize("layout", [False, True])
def test_contiguous_weights_are_copies_that_compute_the_same(layout: bool) -> None:
    smallest = RESNET.space.smallest.id
    results, dense = [], []
    for contiguous in (False, True):
        torch.manual_seed(0)
        model = SupernetUnderTest(
            build(RESNET, seed=0), RESNET, CPU, Options(channels_last=layout, contiguous=contiguous), 8
        )
        network = model.network(smallest)
        dense.append(all(is_dense(part) for part in network.buffers()))
        with torch.inference_mode():
            results.append(network(*model.inputs(smallest, 2)))
        assert model.network(smallest) is network, "assembled once"
    assert dense == [False, True]
    assert torch.allclose(*results, atol=1e-6)


def test_a_supernet_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    supernet = build(RESNET)
    monkeypatch.setattr(type(supernet), "to", full)
    with pytest.raises(OutOfMemoryError, match=r"supernet: does not fit into the memory of cpu \(\d.* GiB in fp32\)"):
        SupernetUnderTest(supernet, RESNET, CPU, Options(), 8)


def test_results_of_any_form_are_postprocessed() -> None:
    stages = model_under_test().stages
    logits = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
    for result in (logits, (logits,), {"logits": logits, "hidden": (logits,)}, logits[:, None]):
        assert stages.postprocess(result)[1].flatten().tolist() == [1, 0]


@pytest.mark.parametrize("place", ["weight", "statistics"])
def test_what_overflows_in_fp16_is_told(place: str) -> None:
    supernet = build(RESNET)
    largest = RESNET.space.largest
    if place == "weight":
        with torch.no_grad():
            next(supernet.parameters()).view(-1)[0] = 1e6
    else:
        count = 2 * sum(supernet.assembly.norm_sizes(supernet.active_config(largest)).values())
        supernet.set_statistics(largest, torch.full((count,), 1e6))
    with pytest.raises(
        DataError, match=rf"{place}.*: overflows in float16 \(\d+ of \d+ values are above 65504\); bf16"
    ):
        SupernetUnderTest(supernet, RESNET, CPU, Options("fp16"), 8)
    SupernetUnderTest(supernet, RESNET, CPU, Options("bf16"), 8)


def test_an_overflow_in_fp16_is_told_as_such() -> None:
    meter = TorchMeter(Given(lambda x: (x + 6e4).half() * 2), CPU, Options("fp16"), DeviceState)
    with pytest.raises(NotANumberError, match="the result contains NaN or infinity; fp16 ends at 65504: bf16 or fp32"):
        meter.prepare(Cell("one", 2))


@dataclass
class Given:
    """What a test wants to be measured."""

    call: Callable[..., Any]
    batch: Callable[[int], tuple[torch.Tensor, ...]] = lambda size: (torch.zeros(size, 2),)

    def network(self, _name: str) -> Callable[..., Any]:
        return self.call

    def inputs(self, _name: str, size: int) -> tuple[torch.Tensor, ...]:
        return self.batch(size)


def prepare(given: Given) -> Callable[[], Any]:
    return TorchMeter(given, CPU, Options(), DeviceState).prepare(Cell("one", 2))


def test_a_batch_that_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemoryError, match="one, batch 2: does not fit into the memory of the device"):
        prepare(Given(lambda x: x, lambda _: (torch.empty(2**60, dtype=torch.uint8),)))


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        "HIP out of memory",
    ],
)
@pytest.mark.parametrize("run", [0, 1, 4])
def test_out_of_memory_is_told_in_every_form_and_at_any_run(said: str, run: int) -> None:
    calls = []

    def fails(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if len(calls) > run:
            raise RuntimeError(said)
        return x

    def work() -> None:
        go = prepare(Given(fails))
        for _ in range(5):
            go()

    with pytest.raises(OutOfMemoryError, match="one, batch 2: does not fit into the memory of the device"):
        work()


def test_the_device_that_is_measured_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current, seen = [0], []

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        current.append(which.index)
        yield
        current.pop()

    class Event:
        def __init__(self, *_: object, **__: object) -> None:
            seen.append(current[-1])

        def record(self) -> None:
            seen.append(current[-1])

        def elapsed_time(self, _end: Event) -> float:
            return 1.0

    monkeypatch.setattr(torch, "get_device_module", lambda _kind: SimpleNamespace(device=device))
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _device: seen.append(current[-1]))
    given = Given(lambda x: (seen.append(current[-1]), x)[1])
    run = TorchMeter(given, torch.device("cuda", 1), Options(), DeviceState).prepare(Cell("one", 2))
    assert run().device_ns == 1_000_000
    assert set(seen) == {1}
    assert current == [0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", [lambda x: x, lambda x: {"logits": (x,)}])
def test_a_result_that_is_no_number_is_told(wrong: float, form: Callable[[Any], Any]) -> None:
    with pytest.raises(NotANumberError, match="one, batch 2: the result contains NaN or infinity"):
        prepare(Given(lambda x: form(x + wrong)))


def test_a_device_that_fails_later_is_lost() -> None:
    calls = []

    def fails_the_third_time(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if len(calls) == 3:
            what = "CUDA error: device-side assert triggered\nand more"
            raise RuntimeError(what)
        return x

    run = prepare(Given(fails_the_third_time))
    assert run().wall_ns > 0
    with pytest.raises(
        DeviceError, match=r"^cpu: failed at one, batch 2 \(CUDA error: device-side assert triggered\)$"
    ):
        run()


def test_the_wall_clock_is_that_of_the_call() -> None:
    import time

    run = prepare(Given(lambda x: time.sleep(0.02) or x))
    sample = run()
    assert 20e6 <= sample.wall_ns < 200e6
    assert sample.device_ns is None, "a CPU has no events"


class Queue:
    """A simulated device with a queue: launches take time on the host, and work is done in order, later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = self.device = 0.0
        queue = self

        class Event:
            def __init__(self, *_: object, **__: object) -> None:
                self.at = 0.0

            def record(self) -> None:
                queue.work(0)
                self.at = queue.device

            def query(self) -> bool:
                return queue.host >= self.at

            def elapsed_time(self, end: Event) -> float:
                return end.at - self.at

        def synchronize(_device: object) -> None:
            self.host = max(self.host, self.device)

        monkeypatch.setattr(torch, "get_device_module", lambda _kind: SimpleNamespace())
        monkeypatch.setattr(torch, "ones", lambda *_, **__: None)
        monkeypatch.setattr(torch, "mm", lambda *_: self.work(0.05))
        monkeypatch.setattr(torch, "Event", Event)
        monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)

    def work(self, ms: float, launch_ms: float = 0.01) -> None:
        self.host += launch_ms
        self.device = max(self.device, self.host) + ms


def test_launch_gaps_are_told_from_device_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(monkeypatch)

    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(100):
            queue.work(0.004)  # faster than it is launched
        return x

    energy = [0.0]
    meter = TorchMeter(Given(forward), torch.device("cuda", 0), Options(), DeviceState, lambda: energy[0])
    monkeypatch.setattr(meter, "now_ns", lambda: round(1e6 * queue.host))
    run = meter.prepare(Cell("one", 2))
    assert run().device_ns == pytest.approx(1.0e6, rel=0.05), "the time of 100 launches"
    use = meter.device_use(Cell("one", 2))
    assert use == DeviceUse(pytest.approx(0.4e6, rel=0.01), None)


def test_a_switch_looks_its_subnet_up_in_each_run() -> None:
    looked = []

    class Named(Given):
        def network(self, name: str) -> Callable[..., Any]:
            looked.append(name)
            return self.call

    meter = TorchMeter(Named(lambda x: x), CPU, Options(), DeviceState)
    one, two = (meter.prepare_switch(Cell(name, 2)) for name in ("one", "two"))
    looked.clear()
    for run in (one, two, one, one):
        assert run().wall_ns > 0
    assert looked == ["one", "two", "one", "one"]
    assert meter.device_use(Cell("two", 2)) == DeviceUse(), "a CPU tells nothing"


def test_the_cpu_is_there_and_says_what_it_is() -> None:
    assert find_device(None) == CPU
    assert device_name(CPU).startswith("CPU ")
    assert device_facts(CPU)["threads"] == str(torch.get_num_threads())
    assert device_state_reader(CPU)() == DeviceState()
