"""Review sentences: small files in the same format, and WordPiece against the tokenizers of Hugging Face."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from sim.base.errors import DataError, SpecError
from supernet.data import reviews
from supernet.data.reviews import Reviews
from supernet.data.wordpiece import WordPiece

if TYPE_CHECKING:
    from pathlib import Path

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "##s", ".", "un", "##good"]
ROWS = "".join(
    f"{number}\t{rating}\t{text} {number % 7 * 'a '}{'x' * number}.\r\n"
    for number, (rating, text) in enumerate([("2.5", "A good film"), ("-1.75", "bad films"), ("0.25", "film")] * 500)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    (tmp_path / "sentences.txt").write_bytes(ROWS.encode())
    monkeypatch.setattr(reviews, "SHA256", hashlib.sha256(ROWS.encode()).hexdigest())
    monkeypatch.setattr(reviews, "_TEST", 100)
    inner = packed(f"hutto_ICWSM_2014/{reviews._SENTENCES}", ROWS.encode())
    (tmp_path / "sdist.tar.gz").write_bytes(packed(reviews._INNER, inner))
    return tmp_path


def packed(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("path", ["sentences.txt", "sdist.tar.gz"])
def test_sentences_with_a_clear_rating(folder: Path, path: str) -> None:
    source = Reviews(path=path, vocabulary="vocab.txt", tokens=8, validation=50).located(folder)
    splits = source.splits(0)
    assert len(splits.train) + 50 + 100 == 1000  # a third is not clear
    ids, mask = splits.train.inputs
    assert ids.shape == mask.shape == (850, 8)
    assert (ids[:, 0] == 2).all()
    assert ((ids != 0) == mask).all()
    for row, label in zip(ids.tolist(), splits.train.labels.tolist(), strict=True):
        assert (5 in row) == bool(label)


def test_paths_are_not_the_identity_but_the_vocabulary_is(folder: Path) -> None:
    one, other = (Reviews(path=path, vocabulary=str(folder / "vocab.txt")) for path in ("x", "y"))
    assert one.identity() == other.identity()
    (folder / "vocab.txt").write_text("\n".join([*PIECES, "more"]))
    assert len(one.identity()["vocabulary"]) == 64


def test_what_is_missing_is_told(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.txt: can't be read .*`pip download .*vaderSentiment==3\.3\.2`"):
        Reviews(path="nothing.txt", vocabulary="vocab.txt").located(folder).splits(0)
    with pytest.raises(SpecError, match=r"nothing\.txt: can't be read .*a vocabulary of BERT"):
        Reviews(path="sentences.txt", vocabulary="nothing.txt").located(folder).splits(0)


def test_damage_and_other_files_are_told(folder: Path) -> None:
    archive = folder / "sdist.tar.gz"
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged, or another archive"):
        Reviews(path=str(archive), vocabulary=str(folder / "vocab.txt")).splits(0)
    (folder / "sentences.txt").write_text("1\t2\tother\n")
    with pytest.raises(DataError, match="not the published file"):
        Reviews(path="sentences.txt", vocabulary="vocab.txt").located(folder).splits(0)
    (folder / "vocab.txt").write_text("a\nb")
    with pytest.raises(DataError, match=r"vocab.txt: not a vocabulary of BERT \(\[PAD\] is missing\)"):
        Reviews(path="sentences.txt", vocabulary="vocab.txt").located(folder).splits(0)


def test_pieces_are_the_longest_that_there_are() -> None:
    pieces = WordPiece({piece: number for number, piece in enumerate(PIECES)}, "v")
    assert pieces.encode("A gööd film, ungoods.", 99) == [2, 4, 5, 7, 1, 10, 11, 8, 9, 3]
    assert pieces.encode("a a a a a", 4) == [2, 4, 4, 3]
    assert pieces.encode("a" * 101, 9) == [2, 1, 3]


def test_pieces_are_those_of_hugging_face() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package to compare with is not installed")
    models = pytest.importorskip("tokenizers.models")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["the", "film", "##ing", "##ly", "cinema", "don", "##t", "'", ",", ".", "!", "-", "`", "$", "電", "影", "é"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *words]
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(vocabulary))}
    theirs = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))  # noqa: S106 - no password
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    ours = WordPiece(numbers, "v")
    for text in (
        "The FILM isn't filming!",
        "d\u00e9j\u00e0 vu\u00a0-- caf\u00e9\tna\u00efve",
        "\u96fb\u5f71film \u00bfqu\u00e9?",
        "a\u200bb\u0000c\ufffd \u2028x`y$z",
        "\u0130stanbul \u1e9eharp ﬁne",
        "x" * 100 + " " + "y" * 101,
    ):
        assert ours.encode(text, 10**6)[1:-1] == theirs.encode(text).ids, text
