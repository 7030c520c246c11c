from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import ofa_peer
from sim.base.errors import DataError, SpecError, StoreError
from supernet.checkpoint import SCHEMA, find_family, import_weights, load, read_safetensors, save
from supernet.families import DynaBert, DynaBertSmall, OfaResNet50
from supernet.statistics import leading_statistics
from tests.supernet.built import SMALL, TINY_BERT, pictures, small, texts

if TYPE_CHECKING:
    from pathlib import Path

SMALLEST = "ofa_resnet_small:d0x3:e0.5x9:w0x3"


def test_a_checkpoint_is_all_that_is_needed(tmp_path: Path) -> None:
    supernet = small().float().eval()
    supernet.set_statistics(SMALLEST, leading_statistics(supernet, SMALLEST))
    save(tmp_path / "net.pt", supernet, SMALL, steps=7, losses=[0.5, 0.25])
    found = load(tmp_path / "net.pt")
    assert (found.family, found.extra) == (SMALL, {"steps": 7, "losses": [0.5, 0.25]})
    assert found.supernet.calibrated == supernet.calibrated
    for subnet in supernet.calibrated:
        assert torch.equal(found.supernet(pictures().float(), subnet), supernet(pictures().float(), subnet))


def test_options_come_back_as_they_were(tmp_path: Path) -> None:
    from supernet.family import build

    save(tmp_path / "bert.pt", build(TINY_BERT), TINY_BERT)
    assert load(tmp_path / "bert.pt").family == TINY_BERT


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"can't be written"):
        save(tmp_path / "file" / "net.pt", small(), SMALL)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_checkpoint_that_is_cut_off_is_told(tmp_path: Path, kept: float) -> None:
    save(tmp_path / "net.pt", small(), SMALL)
    content = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"cut.pt: can't be read as weights \(.*\); a whole file of torch.save"):
        load(tmp_path / "cut.pt")


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"schema": SCHEMA, "trap": Trap()}, tmp_path / "net.pt")
    with pytest.raises(DataError, match="can't be read as weights"):
        load(tmp_path / "net.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": torch.zeros(1)}, r"not a checkpoint of a supernet \('no schema'\); supernet/1"),
        ({"schema": "supernet/0"}, r"not a checkpoint of a supernet \('supernet/0'\)"),
        ([1, 2], r"contains no weights by name \(list\); a state dict"),
        ({"schema": SCHEMA, "family": "ofa", "options": {}}, "unknown name"),
        ({"schema": SCHEMA, "family": "dynabert", "options": {"clases": 2}}, "did you mean 'classes'"),
        (
            {"schema": SCHEMA, "family": "ofa_resnet_small", "options": {}, "state": {}},
            r"missing parameter \(model.input_stem",
        ),
    ],
)
def test_what_is_no_checkpoint_is_told(tmp_path: Path, content: object, says: str) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises((DataError, SpecError), match=says):
        load(tmp_path / "net.pt")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.pt: file not found"):
        load(tmp_path / "nowhere.pt")


@pytest.mark.parametrize(("name", "says"), [("ofa_resnet5", "did you mean 'ofa_resnet50'"), ("", "known: cnn_small")])
def test_an_unknown_family_is_told(name: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        find_family(name)


@pytest.mark.skipif(not ofa_peer.is_installed(), reason="the package ofa is not installed")
def test_weights_of_once_for_all_are_imported(tmp_path: Path) -> None:
    peer = ofa_peer.ofa_resnet50(classes=5)
    for name, tensor in peer.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.add_(1)
    torch.save({"state_dict": peer.state_dict(), "epoch": 3}, tmp_path / "ofa.pth")
    supernet = import_weights(OfaResNet50(classes=5), tmp_path / "ofa.pth")
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(supernet(x, supernet.space.largest), peer.eval()(x), atol=1e-4)
    with pytest.raises(DataError, match=r"classifier.linear.weight: wrong shape \(\(5, 2048\)\); \(1000, 2048\)"):
        import_weights(OfaResNet50(), tmp_path / "ofa.pth")


BERT = {"vocabulary": 20, "positions": 16, "layers": 4, "hidden": 24, "heads": 4, "ffn": 48, "depths": (2, 3, 4)}


def original_bert(path: Path) -> torch.nn.Module:
    """A classifier of the original layout with random weights, written as the published checkpoints are."""
    transformers = pytest.importorskip("transformers", reason="the original layout is that of transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.BertConfig(**sizes, vocab_size=20, max_position_embeddings=16, num_labels=3)
    model: torch.nn.Module = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    state = model.state_dict()
    early = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in state.items()}
    torch.save({**early, "bert.embeddings.position_ids": torch.arange(16)[None]}, path)
    return model


def test_weights_of_dynabert_are_imported(tmp_path: Path) -> None:
    model = original_bert(tmp_path / "pytorch_model.bin")
    supernet = import_weights(DynaBert(**BERT), tmp_path / "pytorch_model.bin")  # type: ignore[arg-type]
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 3)
    types = torch.tensor([[0, 0, 0, 1, 1, 1]] * 3)
    expected = model(texts(), mask, types).logits
    assert torch.allclose(supernet(texts(), supernet.space.largest, mask, types), expected, atol=1e-5)
    assert not torch.allclose(supernet(texts(), supernet.space.largest), expected, atol=1e-4)
    layers = model.get_submodule("bert.encoder.layer")
    del layers[3], layers[1]  # type: ignore[union-attr]
    expected = model(texts()).logits
    assert torch.allclose(supernet(texts(), "dynabert:d2:e1.0"), expected, atol=1e-5), (
        "evenly spaced layers are dropped"
    )


def test_a_part_may_stay_at_random(tmp_path: Path) -> None:
    original_bert(tmp_path / "whole.bin")
    state = torch.load(tmp_path / "whole.bin")
    torch.save({name: t for name, t in state.items() if not name.startswith("classifier")}, tmp_path / "part.bin")
    family = DynaBert(**BERT)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"part.bin: missing parameter \(classifier.weight\); .* --fresh classifier"):
        import_weights(family, tmp_path / "part.bin")
    supernet = import_weights(family, tmp_path / "part.bin", allow_missing=["classifier"])
    assert torch.equal(supernet.model.pooler["dense"].weight, state["bert.pooler.dense.weight"])


def test_another_layout_is_told(tmp_path: Path) -> None:
    original_bert(tmp_path / "bert.bin")
    state = torch.load(tmp_path / "bert.bin")
    with pytest.raises(
        DataError, match=r"bert.bin: missing parameter \(input_stem.0.conv.weight\); the layout of ofa_resnet_small"
    ):
        import_weights(SMALL, tmp_path / "bert.bin")
    torch.save({**state, "cls.predictions.bias": torch.zeros(20)}, tmp_path / "more.bin")
    with pytest.raises(DataError, match=r"unexpected parameters, 1 in all \(cls.predictions.bias\)"):
        import_weights(DynaBert(**BERT), tmp_path / "more.bin")  # type: ignore[arg-type]


def test_safetensors_are_read(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "c": torch.randn(2, 2).bfloat16(),
        "d": torch.zeros(0, 3),
        "e": torch.tensor([True, False]),
        "f": torch.tensor(2.5, dtype=torch.double),
    }
    save_file(tensors, tmp_path / "net.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "net.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items()
    )


def test_weights_in_safetensors_are_imported(tmp_path: Path) -> None:
    original_bert(tmp_path / "bert.bin")
    state = {name: t.contiguous() for name, t in torch.load(tmp_path / "bert.bin").items()}
    save_file(state, tmp_path / "model.safetensors")
    family = DynaBert(**BERT)  # type: ignore[arg-type]
    one, other = (import_weights(family, tmp_path / name) for name in ("bert.bin", "model.safetensors"))
    assert torch.equal(one(texts(), one.space.smallest), other(texts(), other.space.smallest))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x10\0\0\0\0\0\0\0{}",
        b"not a file of this format at all",
        (2).to_bytes(8, "little") + b"[]",
        (len(head := json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode())).to_bytes(
            8, "little"
        )
        + head
        + b"1234",
        (len(head := json.dumps({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}).encode())).to_bytes(
            8, "little"
        )
        + head
        + b"12345678",
    ],
)
def test_damaged_safetensors_are_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"net.safetensors: is damaged"):
        read_safetensors(tmp_path / "net.safetensors")
    with pytest.raises(DataError, match="can't be read"):
        read_safetensors(tmp_path / "nowhere.safetensors")


def test_the_small_family_has_the_shape_of_minilm() -> None:
    family = DynaBertSmall()
    assert (family.layers, family.hidden, family.heads, family.ffn, family.vocabulary) == (6, 384, 12, 1536, 30522)
