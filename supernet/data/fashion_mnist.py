"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747; MIT licence), from its original files.

60,000 + 10,000 grey images of 28 x 28 in ten classes, in four IDX files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from platformdirs import user_cache_path

from sim.base.errors import DataError, SpecError
from sim.base.parameters import Parameters, PositiveInt
from supernet.data.source import Examples, Splits, located, split

if TYPE_CHECKING:
    from typing import Self

FOLDER_VARIABLE = "SSIM_FASHION_MNIST"
"""The environment variable with the folder of the files."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of each uncompressed file: Debian has compressed them again."""

_HEADERS = {"images": 16, "labels": 8}  # bytes of an IDX file before its values
_SIDE = 28
_MEAN, _STD = 0.2860, 0.3530  # of all pixels of the training images, scaled to 0 ... 1


def fetched_folder() -> Path:
    """Return the folder of `ssim supernet fetch fashion_mnist`, in the user's cache."""
    return user_cache_path("ssim", appauthor=False) / "fashion-mnist"


@dataclass(frozen=True, slots=True, kw_only=True)
class FashionMnist(Parameters):
    """Fashion-MNIST. Images are float32 of shape (examples, 1, 28, 28), standardised over the training set.

    Attributes:
        path: The folder of the four files, with or without .gz. None for the first that exists of: $SSIM_FASHION_MNIST,
            the folder of `ssim supernet fetch fashion_mnist`, that of Debian's package dataset-fashion-mnist.
        validation: The number of validation examples, of the 60,000 training images.
        train: The number of training examples; None for all others.
    """

    path: str | None = None
    validation: PositiveInt = 5000
    train: PositiveInt | None = None

    def located(self, folder: Path) -> Self:
        """Return the source with its path relative to a folder."""
        return self if self.path is None else replace(self, path=located(folder, self.path))

    def identity(self) -> dict[str, Any]:
        """Return its parameters; the files are the published ones."""
        return {"validation": self.validation, "train": self.train}

    def splits(self, seed: int) -> Splits:
        """Return the images; the test images are the published 10,000.

        Raises:
            DataError: A file is damaged, or not the published one.
            SpecError: A file is missing, or there are too few images.
        """
        folder = self._folder()
        images = _examples(folder, "train")
        train, validation = split(images, seed, self.validation, self.train, "fashion_mnist")
        return Splits(train, validation, _examples(folder, "t10k"))

    def _folder(self) -> Path:
        variable = os.environ.get(FOLDER_VARIABLE)
        if self.path is not None or variable:
            return Path(self.path or str(variable))
        return next((folder for folder in (fetched_folder(), DEBIAN_FOLDER) if folder.is_dir()), fetched_folder())


def _examples(folder: Path, part: str) -> Examples:
    pixels = _values(folder, f"{part}-images-idx3-ubyte").reshape(-1, 1, _SIDE, _SIDE)
    labels = _values(folder, f"{part}-labels-idx1-ubyte")
    images = (pixels.astype(np.float32) / np.float32(255) - np.float32(_MEAN)) / np.float32(_STD)
    return Examples((torch.from_numpy(images),), torch.from_numpy(labels.astype(np.int64)))


def _values(folder: Path, name: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    content = read_checked(folder, name)
    return np.frombuffer(content, np.uint8, offset=_HEADERS["images" if "images" in name else "labels"])


def read_checked(folder: Path, name: str) -> bytes:
    """Return the uncompressed content of a file after comparing it with its published checksum.

    Raises:
        DataError: The file is damaged, or not the published one.
        SpecError: The file is missing.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        hint = (
            f"`ssim supernet fetch fashion_mnist` downloads it; or install Debian's dataset-fashion-mnist, or set the "
            f"folder with path: or ${FOLDER_VARIABLE}"
        )
        raise SpecError(f"fashion_mnist: {folder}", "file not found", f"{name} or {name}.gz", hint)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), "damaged", str(error), "download it again") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[name]:
        raise DataError(str(path), "not the published file", f"sha256 {sha256} of its content", SHA256[name])
    return content
