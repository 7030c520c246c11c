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
"""The environment variable that names the folder of the files."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts them."""

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of each file without its compression: Debian has compressed them anew."""

_HEADERS = {"images": 16, "labels": 8}  # bytes of an IDX file before its values
_SIDE = 28
_MEAN, _STD = 0.2860, 0.3530  # of all pixels of the training images, scaled to 0 ... 1


def fetched_folder() -> Path:
    """Return where `ssim supernet fetch fashion_mnist` puts the files: in the user's cache."""
    return user_cache_path("ssim", appauthor=False) / "fashion-mnist"


@dataclass(frozen=True, slots=True, kw_only=True)
class FashionMnist(Parameters):
    """Fashion-MNIST. Images are float32 of shape (examples, 1, 28, 28), of mean 0 and standard deviation 1 over all.

    Attributes:
        path: The folder of the four files, with or without .gz. None for the first of these that there is: the one that
            $SSIM_FASHION_MNIST names, what `ssim supernet fetch fashion_mnist` fetched, that of Debian's package
            dataset-fashion-mnist.
        validation: How many of the 60,000 training images are for validation.
        train: How many are for training; None for all others.
    """

    path: str | None = None
    validation: PositiveInt = 5000
    train: PositiveInt | None = None

    def located(self, folder: Path) -> Self:
        """Return the source with its path taken from a folder."""
        return self if self.path is None else replace(self, path=located(folder, self.path))

    def identity(self) -> dict[str, Any]:
        """Return its parameters; the files are the published ones."""
        return {"validation": self.validation, "train": self.train}

    def splits(self, seed: int) -> Splits:
        """Return the images; the test images are the 10,000 that were published as such.

        Raises:
            DataError: A file is damaged, or another than the published one.
            SpecError: There are no such files, or not so many images.
        """
        folder = self._folder()
        both = _examples(folder, "train")
        train, validation = split(both, seed, self.validation, self.train, "fashion_mnist")
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
    """Return a file's content without its compression, after holding it against its published checksum.

    Raises:
        DataError: The file is damaged, or another than the published one.
        SpecError: There is no such file.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        right = (
            f"`ssim supernet fetch fashion_mnist` gets it; or install Debian's dataset-fashion-mnist, or name a folder "
            f"by path: or ${FOLDER_VARIABLE}"
        )
        raise SpecError(f"fashion_mnist: {folder}", "has no such file", f"{name} or {name}.gz", right)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), "is damaged", str(error), "get it again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(str(path), "is not the published file", f"sha256 {found} of its content", SHA256[name])
    return content
