"""Fashion-MNIST: small files in the same format, and, where they are, the real ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from sim.base.errors import DataError, SpecError
from supernet.data import fashion_mnist
from supernet.data.fashion_mnist import DEBIAN_FOLDER, FOLDER_VARIABLE, FashionMnist, fetched_folder

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {"train": 60, "t10k": 20}


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {}
    for part, count in COUNTS.items():
        found[f"{part}-images-idx3-ubyte"] = idx(rng.integers(256, size=(count, 28, 28)))
        found[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(10, size=count))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", hashes)
    return found


@pytest.fixture
def folder(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    for number, (name, content) in enumerate(contents.items()):
        if number % 2:
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path


def test_images_and_labels_are_those_of_the_files(folder: Path, contents: dict[str, bytes]) -> None:
    splits = FashionMnist(path=str(folder), validation=10).splits(seed=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [50, 10, 20]
    pixels = np.frombuffer(contents["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(20, 1, 28, 28)
    expected = (pixels / 255 - 0.2860) / 0.3530
    np.testing.assert_allclose(splits.test.inputs[0].numpy(), expected, atol=1e-6)
    assert splits.test.labels.tolist() == list(contents["t10k-labels-idx1-ubyte"][8:])


def test_a_folder_is_looked_for_in_turn(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    assert len(FashionMnist(validation=10).splits(0).test) == 20
    with pytest.raises(SpecError, match="elsewhere: file not found"):
        FashionMnist(path=str(tmp_path / "elsewhere"), validation=10).splits(0)


def test_missing_files_are_told_with_what_gets_them(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"file not found \(train-images.*`ssim supernet fetch fashion_mnist` downloads it"
    ):
        FashionMnist(path=str(tmp_path)).splits(0)


def test_another_file_is_refused(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"something else")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: not the published file"):
        FashionMnist(path=str(folder), validation=10).splits(0)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged"):
        FashionMnist(path=str(folder), validation=10).splits(0)


def test_only_what_decides_the_examples_is_its_identity(folder: Path) -> None:
    assert FashionMnist(path=str(folder)).identity() == FashionMnist().identity() == {"validation": 5000, "train": None}


@pytest.mark.data
def test_the_published_files() -> None:
    places = [os.environ.get(FOLDER_VARIABLE), fetched_folder(), DEBIAN_FOLDER]
    if not any(place and os.path.isdir(place) for place in places):  # noqa: PTH112 - one may be None
        pytest.skip(f"Fashion-MNIST is not here: ${FOLDER_VARIABLE} names its folder")
    splits = FashionMnist().splits(0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [55000, 5000, 10000]
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    assert abs(float(splits.train.inputs[0].mean())) < 0.01
