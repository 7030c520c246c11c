"""A subnet of a model of transformers is saved with a config that describes it, or is not saved at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from sim.base.errors import SpecError
from supernet import SubnetConfig, Supernet, extract, insert
from tests.supernet.test_own_networks import depth_of

if TYPE_CHECKING:
    from pathlib import Path

transformers = pytest.importorskip("transformers", reason="the models are those of transformers")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
IDS = torch.arange(1, 9)[None]


def llama() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2, vocab_size=20)).eval()


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=20)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=20, **sizes)).eval()


def is_saved(supernet: Supernet, subnet: SubnetConfig, folder: Path) -> Any:
    """Return the config of a subnet that is saved, after checking that it is read again as it was."""
    plain: Any = extract(supernet, subnet)
    plain.save_pretrained(folder)
    read = type(plain).from_pretrained(folder).eval()
    torch.testing.assert_close(read(IDS)[0], supernet(IDS, subnet)[0], rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in read.parameters()) == sum(p.numel() for p in plain.parameters())
    return read.config


def test_heads_and_neurons_are_in_the_config(tmp_path: Path) -> None:
    supernet = insert(llama(), IDS, uniform=True, expands=(0.5, 1.0))
    for number, subnet in enumerate(supernet.space.enumerate()):
        config = is_saved(supernet, subnet, tmp_path / str(number))
        half = 2 if subnet.control.expands[0] == 0.5 else 1
        assert (config.num_attention_heads, config.num_key_value_heads) == (4 // half, 2 // half)
        assert (config.intermediate_size, config.head_dim, config.hidden_size) == (32 // half, 4, 16)
        assert config.num_hidden_layers == subnet.control.depths[0]
    assert supernet.model.config.intermediate_size == 32  # type: ignore[union-attr]


def test_a_number_that_the_config_leaves_open_is_set(tmp_path: Path) -> None:
    supernet = insert(gpt2(), IDS, uniform=True, expands=(0.5, 1.0), keep=["transformer.h.*.attn"])
    assert is_saved(supernet, supernet.space.smallest, tmp_path).n_inner == 32


def test_neurons_of_an_encoder_are_in_the_config(tmp_path: Path) -> None:
    supernet = insert(bert(), IDS, uniform=True, expands=(0.5, 1.0), keep=["encoder.layer.*.attention"])
    config = is_saved(supernet, supernet.space.smallest, tmp_path)
    assert (config.intermediate_size, config.num_attention_heads) == (16, 4)


@pytest.mark.parametrize("make", [bert, llama])
def test_what_no_config_describes_is_not_saved(make: Any, tmp_path: Path) -> None:
    supernet = insert(make(), IDS, expands=(0.5, 1.0))
    whole, smallest = supernet.space.largest.control, supernet.space.smallest.control
    control = type(whole)(whole.depths, (smallest.expands[0], *whole.expands[1:]), whole.widths)  # layers differ
    subnet = SubnetConfig(supernet.space.family, control)
    plain: Any = extract(supernet, subnet)
    torch.testing.assert_close(plain(IDS)[0], supernet(IDS, subnet)[0])
    with pytest.raises(SpecError, match=r"save_pretrained: no config describes this subnet \(.*weight of shape"):
        plain.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    torch.save(plain, tmp_path / "plain.pt")
    read = torch.load(tmp_path / "plain.pt", weights_only=False)
    torch.testing.assert_close(read(IDS)[0], plain(IDS)[0])


def test_heads_that_a_config_can_not_narrow_are_refused_too(tmp_path: Path) -> None:
    supernet = insert(bert(), IDS, uniform=True, expands=(0.5, 1.0))
    with pytest.raises(SpecError, match="no config describes this subnet"):
        extract(supernet, supernet.space.smallest).save_pretrained(tmp_path)  # type: ignore[operator]
    assert is_saved(supernet, depth_of(supernet, 1), tmp_path).num_hidden_layers == 1
