"""Training: the same seed gives the same weights, in one go or in many; and what can't be trained is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from sim.base.errors import DataError, SpecError, TrainingError
from supernet.data.source import Examples
from supernet.families import OfaResNetSmall
from supernet.family import build
from supernet.training.checkpoint import TrainingCheckpoint
from supernet.training.evaluation import SubnetEvaluator, accuracy
from supernet.training.loop import Training
from supernet.training.optimizers import AdamW
from supernet.training.recipe import Phase
from tests.supernet.training.cases import SANDWICH, TWO_PHASES, bert, digits, recipe, resnet, same, texts, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supernet.network import Supernet
    from supernet.training.loop import Step
    from supernet.training.recipe import Recipe

CASES = {
    "sandwich": (resnet, digits, recipe(*SANDWICH)),
    "shrinking": (resnet, digits, recipe(*TWO_PHASES)),
    "transformer": (bert, texts, recipe(*TWO_PHASES, optimizer=AdamW(), clip=1.0)),
}


def train(case: str, seed: int = 3, start: TrainingCheckpoint | None = None) -> tuple[Supernet, list[float]]:
    make, data, asked = CASES[case]
    supernet = make()
    return supernet, Training(supernet, data(), asked, seed, "x").run(lambda _: None, start)


@pytest.mark.parametrize("case", CASES)
def test_the_seed_decides_the_weights_bit_for_bit(case: str) -> None:
    torch.manual_seed(1)
    one, losses = train(case)
    torch.manual_seed(2)
    torch.rand(5)
    other, others = train(case)
    assert losses == others
    assert same(weights(one), weights(other))
    third, _ = train(case, seed=4)
    assert not same(weights(one), weights(third))


@pytest.mark.parametrize("case", CASES)
def test_no_random_numbers_of_others_are_drawn(case: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(case)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_from_any_step_to_the_same_weights(case: str, tmp_path: Path) -> None:
    make, data, asked = CASES[case]
    paths: list[Path] = []

    def keep(step: Step) -> None:
        paths.append(tmp_path / f"{len(paths)}.pt")
        step.checkpoint().write(paths[-1])

    whole = make()
    losses = Training(whole, data(), asked, 3, "x").run(keep)
    for path in paths:
        again, others = train(case, start=TrainingCheckpoint.read(path, "x"))
        assert others == losses, path
        assert same(weights(again), weights(whole)), path


def test_losses_fall_and_small_subnets_learn_too() -> None:
    supernet = resnet()
    examples = digits()
    losses = Training(supernet, examples, recipe(Phase(epochs=12, rate=0.1)), 0).run(lambda _: None)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    evaluator = SubnetEvaluator(supernet, examples, 48)
    rows = {subnet.id: evaluator.evaluate(subnet, examples, 0) for subnet in supernet.space.linspace(2)}
    assert rows[supernet.space.largest.id].accuracy > 90
    assert rows[supernet.space.smallest.id].accuracy > 25


def test_a_subnet_needs_its_own_statistics() -> None:
    """SuperServe, section 3: with others' statistics, accuracy falls to that of guessing."""
    supernet, examples = resnet(), digits()
    Training(supernet, examples, recipe(Phase(epochs=12, rate=0.1)), 0).run(lambda _: None)
    evaluator = SubnetEvaluator(supernet, examples, 48)
    smallest, largest = (evaluator.evaluate(s, examples, 0) for s in (supernet.space.smallest, supernet.space.largest))
    assert largest.accuracy == largest.without
    assert smallest.without is not None
    assert smallest.accuracy > smallest.without + 10
    assert {smallest.subnet, largest.subnet} == set(supernet.calibrated)


def test_a_network_without_norms_has_nothing_to_calibrate() -> None:
    supernet = bert()
    row = SubnetEvaluator(supernet, texts(), 8).evaluate(supernet.space.smallest, texts(), 0)
    assert row.without is None
    assert 0 <= row.accuracy <= 100
    assert row.macs < SubnetEvaluator(supernet, texts(), 8).evaluate(supernet.space.largest, texts(), 0).macs


def test_accuracy_is_the_share_of_right_answers_and_changes_nothing() -> None:
    supernet, examples = bert(), texts()
    supernet.train()
    found = accuracy(supernet, supernet.space.largest, examples)
    assert supernet.training
    supernet.eval()
    logits = supernet(examples.inputs[0], supernet.space.largest, *examples.inputs[1:])
    assert found == pytest.approx(100 * float((logits.argmax(1) == examples.labels).float().mean()))
    with pytest.raises(SpecError, match="accuracy: there are no examples"):
        accuracy(supernet, supernet.space.largest, examples.first(0))


def test_a_loss_that_is_no_number_ends_it_with_its_place() -> None:
    asked = recipe(Phase(epochs=20, rate=1e20, warmup=0.0))
    with pytest.raises(
        TrainingError, match=r"phase 0, step \d+: the loss is not finite \((nan|inf), ofa_resnet_small:"
    ):
        Training(resnet(), digits(), asked, 0).run(lambda _: None)


def changed(make: Callable[[], Supernet], data: Examples, asked: Recipe) -> Training:
    return Training(make(), data, asked, 0)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(SpecError, match=r"batch: has only one example \(shape \(1, 1, 8, 8\)\)"):
        changed(resnet, digits(), recipe(batch=1)).run(lambda _: None)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(SpecError, match=r"batch: larger than the training set \(32\); at most 7"):
        changed(resnet, digits().first(7), recipe()).run(lambda _: None)


def test_data_that_do_not_fit_the_network_are_refused() -> None:
    coloured = Examples((digits().inputs[0].expand(-1, 3, -1, -1),), digits().labels)
    with pytest.raises(SpecError, match=r"data: do not fit the network's input \(shape \(3, 8, 8\)"):
        changed(resnet, coloured, recipe()).run(lambda _: None)
    few = build(OfaResNetSmall(width=8, classes=4))
    with pytest.raises(SpecError, match=r"data: have more classes than the network \(labels up to 9.*; 10 classes"):
        Training(few, digits(), recipe(), 0).run(lambda _: None)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "progress.pt"
    Training(resnet(), digits(), recipe(), 0, "x").run(lambda step: step.checkpoint().write(path))
    return path


def test_progress_of_another_training_is_refused(stored: Path) -> None:
    with pytest.raises(DataError, match=r"progress\.pt: belongs to another training \(x\); y; delete it"):
        TrainingCheckpoint.read(stored, "y")
    progress = TrainingCheckpoint.read(stored, "x")
    with pytest.raises(DataError, match=r"progress.*: wrong shape"):
        Training(build(OfaResNetSmall(width=4)), digits(), recipe(), 0, "x").run(lambda _: None, progress)
    with pytest.raises(DataError, match="progress: step out of range"):
        Training(resnet(), digits(), recipe(Phase(epochs=0.1, rate=1.0)), 0, "x").run(lambda _: None, progress)
    with pytest.raises(DataError, match=r"progress: (missing parameter|does not fit)"):
        Training(bert(), texts(), recipe(Phase(epochs=2, rate=1.0)), 0, "x").run(lambda _: None, progress)


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_truncated_progress_is_told(stored: Path, size: int) -> None:
    content = stored.read_bytes()
    stored.write_bytes(content[:size])
    with pytest.raises(DataError, match=r"progress\.pt: can't be read"):
        TrainingCheckpoint.read(stored, "x")


def test_other_files_are_no_progress(tmp_path: Path) -> None:
    for number, content in enumerate([{"schema": "other"}, {"schema": "training-progress/1", "identity": 3}, [1]]):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(DataError, match=rf"{number}\.pt: "):
            TrainingCheckpoint.read(path, "x")
