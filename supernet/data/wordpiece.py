"""The WordPiece tokenizer of uncased BERT models (Devlin et al., NAACL 2019), for a vocabulary file of theirs."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from sim.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LONGEST_WORD = 100  # longer ones are unknown
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
_ASCII_SIGNS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # some are no punctuation to Unicode


@dataclass(frozen=True, slots=True)
class WordPiece:
    """Splits text into pieces of a vocabulary.

    Attributes:
        numbers: The number of each piece; one that goes on inside of a word begins with ##.
        where: What messages call the vocabulary.

    Raises:
        DataError: The vocabulary lacks [PAD], [UNK], [CLS] or [SEP].

    Example:
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "##ness", "!"]
        >>> pieces = WordPiece({piece: number for number, piece in enumerate(vocabulary)}, "example")
        >>> pieces.encode("Goodness!", longest=8)
        [2, 4, 5, 6, 3]
    """

    numbers: Mapping[str, int]
    where: str

    def __post_init__(self) -> None:
        for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
            if piece not in self.numbers:
                raise DataError(self.where, "is no vocabulary of BERT", f"{piece} is missing", "one piece a line")

    @classmethod
    def read(cls, content: bytes, where: str) -> WordPiece:
        """Return the tokenizer of a vocabulary file: one piece a line, numbered from 0.

        Raises:
            DataError: The file is no such vocabulary.
        """
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(where, "is no text", f"byte {error.start}", "one piece a line, in UTF-8") from error
        return cls({piece: number for number, piece in enumerate(lines)}, where)

    def encode(self, text: str, longest: int) -> list[int]:
        """Return the numbers of a text's pieces between those of [CLS] and [SEP]; cut to `longest`, these included."""
        pieces = chain.from_iterable(map(self._pieces, _words(text)))
        numbers = [self.numbers[piece] for piece, _ in zip(pieces, range(longest - 2), strict=False)]
        return [self.numbers["[CLS]"], *numbers, self.numbers["[SEP]"]]

    def _pieces(self, word: str) -> list[str]:
        """Return the pieces of a word: always the longest that the vocabulary has."""
        found: list[str] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            head = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if head + word[start:end] in self.numbers), None)
            if end is None:
                break
            found.append(head + word[start:end])
            start = end
        return found if start == len(word) else ["[UNK]"]


def _words(text: str) -> Iterable[str]:
    """Return a text's words without case and accents; each sign is a word of its own."""
    return "".join(_spaced(text)).split()


def _spaced(text: str) -> Iterator[str]:
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn" or char in "\0\ufffd" or (kind in {"Cc", "Cf"} and char not in "\t\n\r"):
            continue
        alone = char in _ASCII_SIGNS or kind.startswith("P")
        alone = alone or any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)
        yield f" {char} " if alone else " " if char.isspace() else char
