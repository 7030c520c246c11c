"""Examples that are read when they are used are the same as in memory, whoever reads them and in whatever order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from sim.base.errors import DataError, SpecError
from supernet.data.csv_file import CsvFile
from supernet.data.dataset import DatasetSource, ReadingOptions, content_hash
from supernet.data.hugging_face import HuggingFace
from supernet.data.images import Images
from supernet.data.items import ItemFormat
from supernet.data.lazy import LazyExamples
from supernet.data.source import Draw, Examples, ExampleSet
from supernet.data.streamed import StreamedExamples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 20
INPUTS, LABELS = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0)), torch.arange(COUNT) % 4
MEMORY = Examples((INPUTS,), LABELS)
DRAWS = [Draw(torch.tensor([3, 1, 4]), 7), Draw(torch.tensor([15, 9, 2, 6]), 8)]


@pytest.mark.parametrize("kind", [torch.float64, torch.int64])
def test_numbers_that_float32_can_not_tell_apart_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    numbers = torch.arange(COUNT).to(kind)
    for offset, is_lost in ((0, False), (2**20, False), (2**28, True)):
        labels = numbers + offset
        data = LazyExamples.of(TensorDataset(INPUTS, labels), "own", ItemFormat(regression=True))
        (tmp_path / "rows.csv").write_text("\n".join(["a,b", *(f"{n},{label}" for n, label in enumerate(labels))]))
        file = CsvFile(path=str(tmp_path / "rows.csv"), label="b", regression=True)
        if is_lost:
            items = LazyExamples.of(Items(labels.tolist()), "own", ItemFormat(regression=True))
            stream = StreamedExamples(Streamed(labels.tolist()), "own", ItemFormat(regression=True), COUNT)
            reads = [lambda data=data: data.labels for data in (data, items, stream)]
            for read in (*reads, lambda file=file: file.splits(1)):
                with pytest.raises(DataError, match=r"(own|rows.csv): labels are too close .*; subtract an offset"):
                    read()
        else:
            items = LazyExamples.of(Items(labels.tolist()), "own", ItemFormat(regression=True))
            assert (data.labels.to(kind) == labels).all()
            assert (items.labels == data.labels).all()
            assert items.labels.dtype == items.read().labels.dtype == torch.float32
            assert len(file.splits(1).train)


class Items(Dataset[Any]):
    """Its labels are known item by item."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return INPUTS[index], self.numbers[index]


class Streamed(IterableDataset[Any]):
    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return COUNT

    def __iter__(self) -> Any:
        return zip(INPUTS, self.numbers, strict=True)


class Noisy(Dataset[Any]):
    """Adds what it draws from each of the three generators that augmentation draws from."""

    def __init__(self, *, raises_at: int | None = None) -> None:
        self.raises_at = raises_at

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        import random

        if index == self.raises_at:
            raise KeyError("no such thing")
        noise = random.random() + np.random.rand() + float(torch.rand(()))  # noqa: S311, NPY002 - what users write
        return INPUTS[index] + noise, int(LABELS[index])


class Stream(IterableDataset[Any]):
    epoch = 0

    def __init__(self, length: int = COUNT) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        for index in range(COUNT):
            yield INPUTS[index] + self.epoch + torch.rand(()), int(LABELS[index])


def lazy(dataset: Any = None, **changes: Any) -> LazyExamples:
    return replace(LazyExamples.of(dataset or TensorDataset(INPUTS, LABELS), "own", ItemFormat()), **changes)


def equal(first: Examples, second: Examples) -> bool:
    parts = zip(first.inputs, second.inputs, strict=True)
    return torch.equal(first.labels, second.labels) and all(torch.equal(a, b) for a, b in parts)


def test_lazy_examples_are_those_in_memory() -> None:
    order = torch.tensor([5, 0, 17, 2])
    for change in (lambda e: e, lambda e: e.select(order), lambda e: e.first(7), lambda e: e.select(order).first(2)):
        kept: tuple[ExampleSet, ExampleSet] = change(MEMORY), change(lazy())
        memory, read = kept
        assert len(memory) == len(read)
        assert torch.equal(memory.labels, read.labels)
        assert equal(memory.read(), read.read())
        assert all(equal(a, b) for a, b in zip(memory.batches(3), read.batches(3), strict=True))
    assert all(equal(a, b) for a, b in zip(MEMORY.drawn(DRAWS), lazy().drawn(DRAWS), strict=True))


def test_what_is_drawn_depends_on_seed_and_example_alone() -> None:
    before = torch.get_rng_state()
    first = list(lazy(Noisy()).drawn(DRAWS))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(equal(a, b) for a, b in zip(first, lazy(Noisy(), workers=2).drawn(DRAWS), strict=True))
    (resumed,) = lazy(Noisy()).drawn(DRAWS[1:])
    assert equal(resumed, first[1])
    (other,) = lazy(Noisy()).drawn([DRAWS[0]._replace(seed=1)])
    assert not equal(other, first[0])
    noise = first[1].inputs[0] - INPUTS[DRAWS[1].indices]
    assert len(set(noise[:, 0].tolist())) == len(noise)


def test_a_stream_goes_on_at_the_place_of_its_epoch() -> None:
    stream = StreamedExamples.of(Stream(), "own", ItemFormat())
    draws = [Draw(torch.arange(6), 10 + epoch, epoch, place) for epoch in range(2) for place in range(3)]
    whole = list(stream.drawn(draws))
    for start in range(1, len(draws)):
        assert all(equal(a, b) for a, b in zip(whole[start:], stream.drawn(draws[start:]), strict=True))
    assert float((whole[3].inputs[0] - whole[0].inputs[0]).mean()) > 0.5  # the second epoch
    assert equal(Examples((whole[0].labels,), whole[0].labels), Examples((LABELS[:6],), LABELS[:6]))
    assert torch.equal(stream.labels, LABELS)
    with pytest.raises(SpecError, match="can't be divided"):
        stream.select(torch.arange(2))
    with pytest.raises(DataError, match=r"ended too early \(20 of 30\)"):
        list(StreamedExamples.of(Stream(30), "own", ItemFormat()).batches(8))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_example_that_raises_is_named_with_file_and_line(workers: int) -> None:
    told = r"own, example 4: raised KeyError: 'no such thing' \(test_lazy.py:\d+, in __getitem__\)"
    with pytest.raises(DataError, match=told):
        list(lazy(Noisy(raises_at=4), workers=workers).batches(3))


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (
            [(INPUTS[0], 0.5)],
            r"own, example 0: not a whole number \(torch.float32\)",
        ),
        ([INPUTS[0]], "not an input and a label"),
        ([{"a": 1, "b": 2, "label": 0}], "names those that are used"),
        ([{"a": 1, "b": 2}], "has other keys"),
        ([("text", 0)], "not a tensor"),
        ([(INPUTS[0], 0), (INPUTS[0, :2], 0)], r"different shapes \(\(2,\) and \(3,\)\)"),
        ([], "has no examples"),
        (3, "its length raised TypeError"),
    ],
)
def test_items_of_another_form_are_refused(items: Any, told: str) -> None:
    with pytest.raises((SpecError, DataError), match=told):
        LazyExamples.of(items, "own", ItemFormat()).read()


def test_items_are_tuples_or_mappings_of_what_becomes_a_tensor() -> None:
    image = Image.fromarray(np.full((2, 4), 255, np.uint8))
    forms: list[tuple[Any, ItemFormat, list[tuple[int, ...]]]] = [
        ((np.zeros(3), np.int32(1)), ItemFormat(), [(1, 3)]),
        (((torch.zeros(2), torch.zeros(5)), 1), ItemFormat(), [(1, 2), (1, 5)]),
        ((torch.zeros(2), [1, 2], 1), ItemFormat(), [(1, 2), (1, 2)]),
        ({"x": image, "label": 1}, ItemFormat(), [(1, 1, 2, 4)]),
        ({"b": [1], "y": 1, "a": [1, 2]}, ItemFormat(("a", "b"), "y"), [(1, 2), (1, 1)]),
    ]
    for item, form, shapes in forms:
        read = LazyExamples.of([item], "own", form).read()
        assert [tuple(part.shape) for part in read.inputs] == shapes
        assert read.labels.tolist() == [1]
        assert all(part.dtype in {torch.float32, torch.int64} for part in read.inputs)


class Huge(Dataset[Any]):
    """A million images of 600 KB: none is made that is not asked for."""

    read = 0

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Any:
        Huge.read += 1
        return torch.full((3, 224, 224), float(index)), index % 10


def test_labels_are_known_without_reading_where_a_dataset_has_them() -> None:
    known = [TensorDataset(INPUTS, LABELS), Subset(Subset(TensorDataset(INPUTS, LABELS), [9, 3, 5]), [2, 0])]
    for dataset, labels in zip(known, (LABELS, LABELS[[5, 9]]), strict=True):
        found = lazy(dataset).known_labels
        assert found is not None
        assert torch.equal(found, labels)
    assert lazy(Noisy()).known_labels is None
    assert torch.equal(lazy(Noisy()).labels, LABELS)


def test_what_is_larger_than_memory_is_read_only_where_it_is_used() -> None:
    huge = LazyExamples.of(Huge(), "huge", ItemFormat())
    part = huge.select(torch.arange(0, 1_000_000, 2)).first(100_000)
    (batch,) = part.drawn([Draw(torch.tensor([10, 99_999]), 0)])
    assert batch.inputs[0][:, 0, 0, 0].tolist() == [20.0, 199_998.0]
    assert Huge.read == 2
    assert huge.known_labels is None


def own(split: str, count: int = COUNT, path: str = "") -> Any:
    """A data set as a user writes it."""
    del path
    if split == "test":
        return TensorDataset(INPUTS[:count], LABELS[:count])
    return Noisy() if split == "train" else TensorDataset(INPUTS, LABELS)


def fails(split: str) -> Any:
    raise RuntimeError(split)


def test_a_factory_gives_the_dataset_of_each_split(tmp_path: Path) -> None:
    splits = DatasetSource(own, {"count": 5}).splits(1)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [COUNT, COUNT, 5]
    held = DatasetSource(own, (), ReadingOptions(held_out=0.25)).splits(1)
    assert [len(part) for part in (held.train, held.validation)] == [15, 5]
    train, validation = (part.read() for part in (held.train, held.validation))
    assert all(not (row == INPUTS).all(1).any() for row in train.inputs[0])  # with augmentation
    assert all((row == INPUTS).all(1).any() for row in validation.inputs[0])  # without
    (tmp_path / "a.txt").write_text("a")
    source = DatasetSource(own, {"path": "a.txt"}).located(tmp_path)
    before = source.identity()
    (tmp_path / "a.txt").write_text("b")
    assert source.identity() != before
    assert "workers" not in before


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: DatasetSource(own, {"cuont": 1}), "unknown parameter .*did you mean 'count'"),
        (lambda: DatasetSource(lambda split: own(split)), "can't be found by its name"),  # noqa: PLW0108
        (lambda: DatasetSource(TensorDataset), "unknown parameter|needs the parameter"),
        (lambda: DatasetSource(fails).splits(0), r"fails, train: raised RuntimeError: train \(test_lazy.py"),
        (lambda: DatasetSource(own, {"count": 0}).splits(0), "own, test: has no examples"),
        (lambda: DatasetSource(streams, (), ReadingOptions(workers=2)).splits(0), "iterable dataset has no workers"),
        (lambda: DatasetSource(unequal, (), ReadingOptions(held_out=0.5)).splits(0), r"\(20 and 3 examples\)"),
        (lambda: DatasetSource(own, {"path": "gone"}).identity(), "gone: file not found"),
    ],
)
def test_a_factory_that_can_not_be_used_is_refused(make: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        make()


def streams(split: str) -> Any:
    del split
    return Stream()


def unequal(split: str) -> Any:
    return own("test", 3) if split == "validation" else own(split)


def images(folder: Path, layout: str) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / layout.format(name)).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / layout.format(name) / f"{number}.png")
    return folder


def test_folders_of_images_are_read_by_class(tmp_path: Path) -> None:
    whole = images(tmp_path / "whole", "{}")
    source = Images(path="whole", size=6, flip=True, crop=1).located(tmp_path)
    splits = source.splits(1)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [14, 2, 4]
    assert torch.equal(source.splits(2).test.read().inputs[0], splits.test.read().inputs[0])
    batch = splits.test.read()
    assert batch.inputs[0].shape == (4, 3, 6, 6)
    assert batch.inputs[0].min() >= -1
    assert batch.inputs[0].max() <= 1
    (first,), (second,) = (splits.train.drawn([Draw(torch.arange(14), seed)]) for seed in (0, 1))
    assert not torch.equal(first.inputs[0], second.inputs[0])
    assert replace(source, grey=True).splits(1).train.first(1).read().inputs[0].shape == (1, 1, 6, 6)
    before = source.identity()
    (whole / "cat" / "0.png").write_bytes((whole / "dog" / "1.png").read_bytes())
    assert source.identity() != before
    assert content_hash(whole) == content_hash(whole)
    parts = images(images(tmp_path / "parts", "train/{}"), "test/{}")
    divided = Images(path=str(parts), size=4).splits(1)
    assert [len(part) for part in (divided.train, divided.validation, divided.test)] == [18, 2, 20]


def test_folders_of_images_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    def told(match: str, **parameters: Any) -> None:
        with pytest.raises((SpecError, DataError), match=match):
            Images(path=str(tmp_path / "images"), size=4, **parameters).splits(0).test.read()

    told("folder not found")
    images(tmp_path / "images", "train/{}")
    told(r"needs folders `train` and `test` \(train\)")
    (tmp_path / "images" / "test" / "cow").mkdir(parents=True)
    told("cow: class without training images; one of cat, dog")
    (tmp_path / "images" / "test" / "cow").rename(tmp_path / "images" / "test" / "cat")
    told("has no images in folders of classes")
    (tmp_path / "images" / "test" / "cat" / "0.png").write_bytes(b"no image")
    told("0.png: can't be read as an image")
    (tmp_path / "images" / "train" / "eel").mkdir()
    told("eel: class without images")


def test_rows_of_numbers_are_read_from_a_file(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    lines = [f"{row[0]!s},{'yes' if number % 3 else 'no'},{row[1]!s}" for number, row in enumerate(table)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,answer,b", *lines]) + "\n")
    splits = CsvFile(path="rows.csv", label="answer").located(tmp_path).splits(3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [36, 4, 10]
    every = [part.read() for part in (splits.train, splits.validation, splits.test)]
    found = {
        tuple(row): label
        for part in every
        for row, label in zip(part.inputs[0].tolist(), part.labels.tolist(), strict=True)
    }
    assert found == {tuple(row): int(number % 3 > 0) for number, row in enumerate(table.tolist())}


def test_rows_may_name_images(tmp_path: Path) -> None:
    images(tmp_path, "{}")
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)]
    text = "\n".join(["file,class", *(f"{name},{10 if 'cat' in name else 9}" for name in names)])
    (tmp_path / "rows.csv").write_text(text)
    source = CsvFile(path=str(tmp_path / "rows.csv"), label="class", image="file", size=5, flip=True)
    splits = source.splits(0)
    batch = splits.test.read()
    assert batch.inputs[0].shape == (4, 3, 5, 5)
    assert (
        sorted(splits.train.labels.tolist() + splits.validation.labels.tolist() + batch.labels.tolist())
        == [0] * 10 + [1] * 10
    )
    before = source.identity()
    (tmp_path / "cat" / "1.png").write_bytes((tmp_path / "dog" / "1.png").read_bytes())
    assert source.identity() != before


@pytest.mark.parametrize(
    ("text", "parameters", "told"),
    [
        ("", {}, "no header"),
        ("a,a\n1,2\n", {}, "no header of different names"),
        ("a,b\n1,2\n", {}, "no such column"),
        ("a,label\n1,x\n2,\n", {}, r"row 2: no value \(label\)"),
        ("a,label\n1,x\nnine,y\n3,x\n4,y\n", {}, "a column is not numbers .*nine"),
        ("a,label\n1,x\nnan,y\n3,x\n4,y\n", {}, r"row 2: not a finite number \(a\)"),
        ("label\nx\ny\nx\ny\n", {}, "no column but the label"),
        ("a,label\n1,x\n", {}, "too few examples"),
        ("a,label\n1,x\n", {"image": "a"}, "both image and size"),
        ("a,label\n1,x\n", {"flip": True}, "flip and crop are for images"),
        (None, {}, "file not found"),
    ],
)
def test_rows_that_are_not_whole_are_refused(
    tmp_path: Path, text: str | None, parameters: dict[str, Any], told: str
) -> None:
    if text is not None:
        (tmp_path / "rows.csv").write_text(text)
    with pytest.raises((SpecError, DataError), match=told):
        CsvFile(
            path=str(tmp_path / "rows.csv"), label="label", **{"test": 0.5, "validation": 0.5, **parameters}
        ).splits(0)


def test_a_data_set_of_hugging_face_is_read_from_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    content = {"ids": [[n, n + 1] for n in range(20)], "label": [n % 2 for n in range(20)]}
    datasets.Dataset.from_dict(content).save_to_disk(str(tmp_path / "one"))
    splits = HuggingFace(path="one", inputs=("ids",)).located(tmp_path).splits(0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [14, 2, 4]
    batch = splits.test.read()
    assert torch.equal(batch.inputs[0][:, 0] % 2, batch.labels)
    with pytest.raises(SpecError, match="no such column"):
        HuggingFace(path=str(tmp_path / "one"), inputs=("idz",)).splits(0)


def test_without_the_library_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(SpecError, match=r"needs datasets .*pip install datasets"):
        HuggingFace(path="x", inputs=("ids",)).splits(0)
