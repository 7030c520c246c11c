"""The WordPiece tokenizer of uncased BERT models (Devlin et al., NAACL 2019), for their vocabulary files."""

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
_ASCII_SIGNS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # Unicode counts some as symbols, not punctuation


@dataclass(frozen=True, slots=True)
class WordPiece:
    """Splits text into the tokens of a vocabulary.

    Attributes:
        ids: The id of each token; a token that continues a word begins with ##.
        where: The name of the vocabulary in messages.

    Raises:
        DataError: The vocabulary lacks [PAD], [UNK], [CLS] or [SEP].

    Examples:
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "##ness", "!"]
        >>> tokenizer = WordPiece({token: number for number, token in enumerate(vocabulary)}, "example")
        >>> tokenizer.encode("Goodness!", max_length=8)
        [2, 4, 5, 6, 3]
    """

    ids: Mapping[str, int]
    where: str

    def __post_init__(self) -> None:
        for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
            if token not in self.ids:
                raise DataError(self.where, "not a vocabulary of BERT", f"{token} is missing", "one token per line")

    @classmethod
    def read(cls, content: bytes, where: str) -> WordPiece:
        """Return the tokenizer of a vocabulary file: one token per line, numbered from 0.

        Raises:
            DataError: The file is not a vocabulary of BERT.
        """
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(where, "not UTF-8", f"byte {error.start}", "one token per line, in UTF-8") from error
        return cls({token: number for number, token in enumerate(lines)}, where)

    def encode(self, text: str, max_length: int) -> list[int]:
        """Return the ids of a text's tokens between [CLS] and [SEP]; truncated to `max_length`, including these."""
        tokens = chain.from_iterable(map(self._tokens, _words(text)))
        ids = [self.ids[token] for token, _ in zip(tokens, range(max_length - 2), strict=False)]
        return [self.ids["[CLS]"], *ids, self.ids["[SEP]"]]

    def _tokens(self, word: str) -> list[str]:
        """Return the tokens of a word: always the longest in the vocabulary."""
        tokens: list[str] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            head = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if head + word[start:end] in self.ids), None)
            if end is None:
                break
            tokens.append(head + word[start:end])
            start = end
        return tokens if start == len(word) else ["[UNK]"]


def _words(text: str) -> Iterable[str]:
    """Return a text's words in lower case without accents; each punctuation mark is a word."""
    return "".join(_spaced(text)).split()


def _spaced(text: str) -> Iterator[str]:
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn" or char in "\0\ufffd" or (kind in {"Cc", "Cf"} and char not in "\t\n\r"):
            continue
        alone = char in _ASCII_SIGNS or kind.startswith("P")
        alone = alone or any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)
        yield f" {char} " if alone else " " if char.isspace() else char
