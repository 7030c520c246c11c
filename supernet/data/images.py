"""Images in folders, one for each class, which are read when they are used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sim.base.errors import DataError, SpecError
from sim.base.parameters import NonNegativeInt, Parameters, PositiveInt, Share
from supernet.data.dataset import SPLITS, content_hash, hold_out
from supernet.data.items import ItemFormat
from supernet.data.lazy import LazyExamples
from supernet.data.source import Splits, located

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_HALF = 127.5
"""Half of the largest value of a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images(Parameters):
    """Images in folders of classes: PATH/train/CLASS/*.png, PATH/test/CLASS/*.png; or PATH/CLASS/*.png.

    They are read when they are used, resized, and scaled to values from -1 to 1: float32, shape (channels, size, size).
    Classes are numbered in the order of their names.

    Attributes:
        path: The folder.
        size: The side of the images in pixels.
        grey: Whether they have one channel in place of three.
        flip: Whether half of the training images are mirrored, at random.
        crop: The pixels by which training images are shifted at most, at random.
        validation: The share of the training images that is used for validation, if there is no PATH/validation.
        test: The share of all images that is used for the test, if there is no PATH/train.
        workers: Worker processes that read images; 0 for the training's own.
    """

    path: str
    size: PositiveInt
    grey: bool = False
    flip: bool = False
    crop: NonNegativeInt = 0
    validation: Share = 0.1
    test: Share = 0.2
    workers: NonNegativeInt = 0

    def located(self, folder: Path) -> Self:
        """Return the source with its path relative to a folder."""
        return replace(self, path=located(folder, self.path))

    def identity(self) -> dict[str, Any]:
        """Return its parameters, and a hash of all files in place of the path."""
        known = {name: value for name, value in asdict(self).items() if name not in {"path", "workers"}}
        return known | {"files": content_hash(Path(self.path))}

    def splits(self, seed: int) -> Splits:
        """Return the images.

        Raises:
            SpecError: There is no such folder, or no image in it, or too few images; or Pillow is not installed.
        """
        if find_spec("PIL") is None:
            raise SpecError("images", "needs Pillow", "", "pip install pillow")
        found = _found(Path(self.path))
        if "train" not in found:
            rest, drawn = hold_out(len(found["all"]), self.test, None, self.path)
            found = {"train": _selected(found["all"], rest), "test": _selected(found["all"], drawn)}
        if "validation" not in found:
            rest, drawn = hold_out(len(found["train"]), self.validation, seed, self.path)
            train = found["train"]
            found |= {"train": _selected(train, rest), "validation": _selected(train, drawn)}
        return Splits(*(self._examples(found[split], split) for split in SPLITS))

    def _examples(self, files: Sequence[tuple[Path, int]], split: str) -> LazyExamples:
        is_train = split == "train"
        mode, flip, crop = "L" if self.grey else "RGB", self.flip and is_train, self.crop if is_train else 0
        dataset = ImageFiles(files, self.size, mode, flip=flip, crop=crop)
        return LazyExamples.of(dataset, f"{self.path}, {split}", ItemFormat(), self.workers)


class ImageFiles:
    """A map-style dataset of image files.

    Args:
        files: Each with the number of its class.
        size: The side in pixels.
        mode: Of PIL: "L" or "RGB".
        flip: Whether to mirror half of the images.
        crop: The pixels by which images are shifted at most.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], size: int, mode: str, *, flip: bool, crop: int) -> None:
        self.files, self.size, self.mode, self.flip, self.crop = (
            [str(file) for file, _ in files],
            size,
            mode,
            flip,
            crop,
        )
        self.targets = np.array([label for _, label in files], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image, float32 of shape (channels, size, size), and the number of its class.

        Raises:
            DataError: The file is damaged or gone.
        """
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - an optional dependency

        try:
            with Image.open(self.files[index]) as opened:
                image = opened.convert(self.mode).resize((self.size, self.size), Image.Resampling.BILINEAR)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).replace(repr(self.files[index]), "it")
            raise DataError(self.files[index], "can't be read as an image", reason, "a whole image file") from error
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / np.float32(_HALF) - 1)
        tensor = pixels[None] if pixels.dim() == len(("height", "width")) else pixels.permute(2, 0, 1)
        if self.crop:
            padded = torch.nn.functional.pad(tensor, (self.crop,) * 4)
            top, left = torch.randint(0, 2 * self.crop + 1, (2,)).tolist()
            tensor = padded[:, top : top + self.size, left : left + self.size]
        if self.flip and torch.rand(()) < 1 / 2:
            tensor = tensor.flip(2)
        return tensor.contiguous(), int(self.targets[index])


def _selected(files: Sequence[tuple[Path, int]], indices: torch.Tensor) -> list[tuple[Path, int]]:
    return [files[index] for index in indices.tolist()]


def _found(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    """Return the image files of each split with the numbers of their classes; of "all" if there are no splits.

    Raises:
        SpecError: There is no such folder, or no image in a split, or a class that the training images lack.
    """
    if not folder.is_dir():
        raise SpecError(str(folder), "folder not found", "", "a path relative to the experiment file")
    parts = {split: folder / split for split in SPLITS if (folder / split).is_dir()}
    if parts and not {"train", "test"} <= parts.keys():
        raise SpecError(str(folder), "needs folders `train` and `test`", ", ".join(parts), "both, or classes only")
    parts = parts or {"all": folder}
    classes = _classes(next(iter(parts.values())))
    found: dict[str, list[tuple[Path, int]]] = {}
    for split, part in parts.items():
        others = sorted({*_classes(part)} - {*classes})
        if others:
            raise SpecError(str(part / others[0]), "class without training images", "", f"one of {', '.join(classes)}")
        found[split] = [
            (file, number)
            for number, name in enumerate(classes)
            for file in sorted((part / name).rglob("*"))
            if file.suffix.lower() in SUFFIXES
        ]
        if not found[split]:
            raise SpecError(str(part), "has no images in folders of classes", "", "CLASS/*.png, CLASS/*.jpg, ...")
        empty = {*range(len(classes))} - {label for _, label in found[split]}
        if empty and split in {"train", "all"}:
            raise SpecError(str(part / classes[min(empty)]), "class without images", "", "images, or no such folder")
    return found


def _classes(folder: Path) -> list[str]:
    return [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
