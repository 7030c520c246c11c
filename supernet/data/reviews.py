"""Sentences of film reviews (Pang and Lee, ACL 2004), each rated by 20 people (Hutto and Gilbert, ICWSM 2014).

They come in the source distribution of the package vaderSentiment 3.3.2 on PyPI. Quotes from reviews: to use and cite,
not to pass on.
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
_GET = f"`pip download --no-deps --no-binary :all: vaderSentiment==3.3.2` gets the archive that has {_SENTENCES}"
_TEST = 1000
_TEST_SEED = 0  # the test examples are the same whatever the seed of a run is


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews(Parameters):
    """Sentences of film reviews, to be told whether they are for (1) or against (0) the film.

    Inputs are the numbers of WordPiece pieces, int64, and a mask, True where there is a piece, both of shape
    (examples, tokens).

    Attributes:
        path: The source distribution, or the file of sentences out of it.
        vocabulary: The vocabulary of the BERT that is trained, one piece a line.
        tokens: As many pieces as a sentence is cut or filled to.
        clear: Only sentences are used whose rating, from -4 to 4, is farther than this from 0.
        validation: How many are for validation, of those that are not among the 1,000 for tests.
        train: How many are for training; None for all others.
    """

    path: str
    vocabulary: str
    tokens: PositiveInt = 40
    clear: NonNegative = 0.5
    validation: PositiveInt = 1000
    train: PositiveInt | None = None

    def located(self, folder: Path) -> Self:
        """Return the source with its paths taken from a folder.

        Raises:
            SpecError: A path names an environment variable that is not set.
        """
        return replace(self, path=located(folder, self.path), vocabulary=located(folder, self.vocabulary))

    def identity(self) -> dict[str, Any]:
        """Return its parameters and the hash of the vocabulary; the sentences are the published ones.

        Raises:
            SpecError: There is no vocabulary.
        """
        given = {"tokens": self.tokens, "clear": self.clear, "validation": self.validation, "train": self.train}
        return {**given, "vocabulary": hashlib.sha256(self._vocabulary()).hexdigest()}

    def splits(self, seed: int) -> Splits:
        """Return the sentences.

        Raises:
            DataError: A file is damaged, or another than the published one.
            SpecError: There is no such file, or there are not so many sentences.
        """
        pieces = WordPiece.read(self._vocabulary(), self.vocabulary)
        texts, ratings = _rated(Path(self.path))
        kept = [index for index, rating in enumerate(ratings) if abs(rating) > self.clear]
        ids = torch.full((len(kept), self.tokens), pieces.numbers["[PAD]"])
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, index in enumerate(kept):
            numbers = torch.tensor(pieces.encode(texts[index], self.tokens))
            ids[row, : len(numbers)], mask[row, : len(numbers)] = numbers, True
        labels = torch.tensor([int(ratings[index] > 0) for index in kept])
        others, test = split(Examples((ids, mask), labels), _TEST_SEED, _TEST, None, "reviews")
        train, validation = split(others, seed, self.validation, self.train, "reviews")
        return Splits(train, validation, test)

    def _vocabulary(self) -> bytes:
        return _read(Path(self.vocabulary), "a vocabulary of BERT, one piece a line")


def _rated(path: Path) -> tuple[list[str], list[float]]:
    """Return the sentences, each once, and their ratings.

    Raises:
        DataError: The file is damaged, or another than the published one.
        SpecError: There is no such file.
    """
    content = _read(path, _GET)
    if path.suffix == ".gz":
        try:
            content = _member(_member(content, _INNER), f"hutto_ICWSM_2014/{_SENTENCES}")
        except (tarfile.TarError, EOFError, OSError, KeyError, zlib.error) as error:
            raise DataError(str(path), "is damaged, or another archive", str(error), _GET) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(str(path), "is not the published file", f"sha256 {found} of {_SENTENCES}", SHA256)
    rows = (line.split("\t") for line in content.decode("utf-8").splitlines())
    rated = {text: float(rating) for _, rating, text in rows}
    return list(rated), list(rated.values())


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.extractfile(name)
        return member.read() if member is not None else b""


def _read(path: Path, right: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error), right) from error
