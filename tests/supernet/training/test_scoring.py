"""Logits against labels, of examples and of tokens; and trainings on examples that are read when they are used."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from sim.base.errors import DataError, SpecError
from sim.tables.accuracies import Accuracies
from supernet import NetworkFamily, Supernet, build
from supernet.data.items import ItemFormat
from supernet.data.lazy import LazyExamples
from supernet.data.source import Examples, ExampleSet
from supernet.training.checkpoint import TrainingCheckpoint
from supernet.training.evaluation import SubnetEvaluator, accuracy, score
from supernet.training.loop import Step, Training
from supernet.training.scoring import IGNORED, flat
from tests.supernet.training.cases import SANDWICH, digits, recipe, resnet, same, weights

TOKENS = torch.randint(0, 7, (12, 5), generator=torch.Generator().manual_seed(0))


class NextToken(nn.Module):
    """Predicts the next token from the present one, by residual blocks."""

    example = torch.zeros(1, 5, dtype=torch.long)

    def __init__(self, vocabulary: int = 7) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.blocks = nn.Sequential(*[_Residual() for _ in range(2)])
        self.head = nn.Linear(8, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.blocks(self.embedding(tokens)))
        return logits


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.inner(x)
        return result


FAMILY = NetworkFamily(NextToken)
TEXTS = Examples((TOKENS,), (TOKENS + 1) % 7)


def test_the_accuracy_of_tokens_is_the_share_of_right_ones_and_the_perplexity_that_of_torch() -> None:
    supernet = build(FAMILY).eval()
    found = score(supernet, supernet.space.smallest, TEXTS)
    logits = supernet(TOKENS, supernet.space.smallest).detach()
    assert found.accuracy == 100 * float((logits.argmax(2) == TEXTS.labels).double().mean())
    mean = functional.cross_entropy(logits.flatten(0, 1), TEXTS.labels.flatten())
    assert found.perplexity is not None
    assert math.isclose(found.perplexity, math.exp(float(mean)), rel_tol=1e-5)
    nn.init.zeros_(supernet.model.get_submodule("head").weight)
    nn.init.zeros_(supernet.model.get_submodule("head").bias)
    even = score(supernet, supernet.space.largest, TEXTS)
    assert even.perplexity is not None
    assert math.isclose(even.perplexity, 7, rel_tol=1e-5)


def test_tokens_are_learned_and_ignored_ones_do_not_count() -> None:
    supernet = build(FAMILY)
    padded = Examples((TOKENS,), TEXTS.labels.clone())
    padded.labels[:, 3:] = IGNORED
    Training(supernet, padded, recipe(replace(SANDWICH[0], epochs=40.0, rate=0.1), batch=4), 1).run(lambda _: None)
    assert accuracy(supernet, supernet.space.largest, padded) == 100
    wrong = Examples((TOKENS,), (TEXTS.labels + 3) % 7)
    wrong.labels[:, :3] = padded.labels[:, :3]
    wrong.labels[:, 3:] = IGNORED
    assert accuracy(supernet, supernet.space.largest, wrong) == 100
    with pytest.raises(SpecError, match="all labels are ignored"):
        score(supernet, supernet.space.largest, Examples((TOKENS,), torch.full_like(TOKENS, IGNORED)))


def test_perplexities_are_stored_where_there_are_any(tmp_path: Any) -> None:
    supernet = build(FAMILY)
    row = SubnetEvaluator(supernet, TEXTS, 4).evaluate(supernet.space.largest, TEXTS, 1)
    Accuracies((row,), {}).write(tmp_path / "a.parquet")
    assert Accuracies.read(tmp_path / "a.parquet").rows == (row,)
    plain = replace(row, perplexity=None)
    Accuracies((plain,), {}).write(tmp_path / "b.parquet")
    assert Accuracies.read(tmp_path / "b.parquet").rows == (plain,)
    assert b"perplexity" not in (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("logits", "labels", "told"),
    [
        ((2, 3), [0, 3], r"label out of range \(3\); 0 to 2"),
        ((2, 3), [0, -1], r"label out of range \(-1\); 0 to 2"),
        ((2, 3), [0, IGNORED], r"label out of range \(-100\)"),
        ((2, 3, 4), [0, 1], r"labels of shape \(2,\), logits of shape \(2, 3, 4\)"),
        ((2, 1, 4), [[0], [4]], r"label out of range \(4\); 0 to 3"),
    ],
)
def test_labels_that_the_network_has_no_logits_for_are_refused(
    logits: tuple[int, ...], labels: list[Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        flat(torch.zeros(logits), torch.tensor(labels))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.zeros(12, 5, dtype=torch.long), "all training examples have one class"),
        (TOKENS + 5, "more classes than the network"),
        (TOKENS - 3, r"label out of range \(-3\)"),
        (TOKENS[:, 0], "more classes than the network"),
    ],
)
def test_labels_are_checked_before_training(labels: torch.Tensor, told: str) -> None:
    steps: list[Any] = []
    with pytest.raises(SpecError, match=told):
        Training(build(FAMILY), Examples((TOKENS,), labels), recipe(*SANDWICH, batch=4), 1).run(steps.append)
    assert not steps


class Augmented(Dataset[Any]):
    """Digits that are shifted at random when they are read."""

    def __len__(self) -> int:
        return len(digits())

    def __getitem__(self, index: int) -> Any:
        image = digits().inputs[0][index]
        return image.roll(int(torch.randint(0, 3, ())), 2), int(digits().labels[index])


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupted_training_goes_on_with_the_same_augmentation(at: int) -> None:
    asked, stored = recipe(*SANDWICH), list[TrainingCheckpoint]()
    lazy = LazyExamples.of(Augmented(), "digits", ItemFormat())

    def on_step(step: Step) -> None:
        if step.number + 1 == at:
            stored.append(copy.deepcopy(step.checkpoint()))

    whole, resumed = resnet(), resnet()
    losses = Training(whole, lazy, asked, 3).run(on_step)
    assert Training(resumed, lazy, asked, 3).run(lambda _: None, stored[0]) == losses
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize("workers", [0, 1])
def test_examples_that_are_read_when_they_are_used_train_to_the_same_weights(workers: int) -> None:
    memory, asked = digits(), recipe(*SANDWICH)
    lazy = LazyExamples.of(TensorDataset(*memory.inputs, memory.labels), "digits", ItemFormat(), workers)
    one, other = resnet(), resnet()
    losses = Training(one, memory, asked, 3).run(lambda _: None)
    assert Training(other, lazy, asked, 3).run(lambda _: None) == losses
    assert same(weights(one), weights(other))
    pairs: list[tuple[Supernet, ExampleSet]] = [(one, memory), (other, lazy)]
    found = [SubnetEvaluator(net, examples, 32).evaluate(net.space.largest, examples, 1) for net, examples in pairs]
    assert found[0] == found[1]
