"""Sentences of film reviews (Pang and Lee, ACL 2004), each rated by 20 people (Hutto and Gilbert, ICWSM 2014).

They are part of the source distribution of vaderSentiment 3.3.2 on PyPI. Quotes from reviews: to use and cite, not to
redistribute.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import DataError, SpecError
from sim.base.parameters import NonNegative, Parameters, PositiveInt
from supernet.data.source import Examples, Splits, located, split
from supernet.data.wordpiece import WordPiece

if TYPE_CHECKING:
    from typing import Self

SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
"""Of the file of sentences."""

_SENTENCES = "movieReviewSnippets_GroundTruth.txt"
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_HINT = f"`pip download --no-deps --no-binary :all: vaderSentiment==3.3.2` downloads the archive with {_SENTENCES}"
_TEST = 1000
_TEST_SEED = 0  # the test examples are the same for all seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews(Parameters):
    """Sentences of film reviews, to classify as positive (1) or negative (0).

    Inputs are the ids of WordPiece tokens, int64, and a mask, True for tokens, False for padding, both of shape
    (examples, tokens).

    Attributes:
        path: The source distribution, or its file of sentences.
        vocabulary: The vocabulary file of the BERT to train, one token per line.
        tokens: The length to which sentences are truncated or padded.
        clear: The least distance of a rating from neutral (0, of -4 to 4); sentences rated closer to it are not used.
        validation: The number of validation examples, of those that are not among the 1,000 test examples.
        train: The number of training examples; None for all others.
    """

    path: str
    vocabulary: str
    tokens: PositiveInt = 40
    clear: NonNegative = 0.5
    validation: PositiveInt = 1000
    train: PositiveInt | None = None

    def located(self, folder: Path) -> Self:
        """Return the source with its paths relative to a folder.

        Raises:
            SpecError: A path contains an environment variable that is not set.
        """
        return replace(self, path=located(folder, self.path), vocabulary=located(folder, self.vocabulary))

    def identity(self) -> dict[str, Any]:
        """Return its parameters and the hash of the vocabulary; the sentences are the published ones.

        Raises:
            SpecError: The vocabulary can't be read.
        """
        parameters = {"tokens": self.tokens, "clear": self.clear, "validation": self.validation, "train": self.train}
        return {**parameters, "vocabulary": hashlib.sha256(self._vocabulary()).hexdigest()}

    def splits(self, seed: int) -> Splits:
        """Return the sentences.

        Raises:
            DataError: A file is damaged, or not the published one.
            SpecError: A file can't be read, or there are too few sentences.
        """
        tokenizer = WordPiece.read(self._vocabulary(), self.vocabulary)
        texts, ratings = _rated(Path(self.path))
        used = [index for index, rating in enumerate(ratings) if abs(rating) > self.clear]
        ids = torch.full((len(used), self.tokens), tokenizer.ids["[PAD]"])
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, index in enumerate(used):
            encoded = torch.tensor(tokenizer.encode(texts[index], self.tokens))
            ids[row, : len(encoded)], mask[row, : len(encoded)] = encoded, True
        labels = torch.tensor([int(ratings[index] > 0) for index in used])
        remaining, test = split(Examples((ids, mask), labels), _TEST_SEED, _TEST, None, "reviews")
        train, validation = split(remaining, seed, self.validation, self.train, "reviews")
        return Splits(train, validation, test)

    def _vocabulary(self) -> bytes:
        return _read(Path(self.vocabulary), "a vocabulary of BERT, one token per line")


def _rated(path: Path) -> tuple[list[str], list[float]]:
    """Return the sentences without duplicates, and their ratings.

    Raises:
        DataError: The file is damaged, or not the published one.
        SpecError: The file can't be read.
    """
    content = _read(path, _HINT)
    if path.suffix == ".gz":
        try:
            content = _member(_member(content, _INNER), f"hutto_ICWSM_2014/{_SENTENCES}")
        except (tarfile.TarError, EOFError, OSError, KeyError, zlib.error) as error:
            raise DataError(str(path), "damaged, or another archive", str(error), _HINT) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256:
        raise DataError(str(path), "not the published file", f"sha256 {sha256} of {_SENTENCES}", SHA256)
    rows = (line.split("\t") for line in content.decode("utf-8").splitlines())
    rated = {text: float(rating) for _, rating, text in rows}
    return list(rated), list(rated.values())


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.extractfile(name)
        return member.read() if member is not None else b""


def _read(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error), hint) from error
