"""The networks of the zoo: those tried first, those not run then, and those picked afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Entry:
    """A network.

    Attributes:
        name: Of the network.
        library: That it comes from.
        make: Returns the network and an example input.
    """

    name: str
    library: str
    make: Callable[[], tuple[nn.Module, Any]]


def _tv(name: str, size: int = 64, **options: Any) -> Entry:
    def make() -> tuple[nn.Module, Any]:
        models: Any = import_module("torchvision.models")
        return models.get_model(name, weights=None, num_classes=10, **options), torch.randn(1, 3, size, size)

    return Entry(name, "torchvision", make)


def _timm(name: str, size: int = 64, **options: Any) -> Entry:
    def make() -> tuple[nn.Module, Any]:
        timm: Any = import_module("timm")
        return timm.create_model(name, num_classes=10, **options), torch.randn(1, 3, size, size)

    return Entry(name, "timm", make)


def _maxvit() -> tuple[nn.Module, Any]:
    """Return the network of maxvit_t on small images; with its windows of 7 x 7, these need 224 pixels."""
    models: Any = import_module("torchvision.models")
    sizes = {"stem_channels": 16, "block_channels": [16, 32], "block_layers": [2, 2], "partition_size": 2}
    model = models.MaxVit((32, 32), head_dim=8, stochastic_depth_prob=0.0, num_classes=10, **sizes)
    return model, torch.randn(1, 3, 32, 32)


def _transformer(kind: str, config: str, x: Callable[[], Any] | None = None, **options: Any) -> Entry:
    def make() -> tuple[nn.Module, Any]:
        transformers: Any = import_module("transformers")
        model = getattr(transformers, kind)(getattr(transformers, config)(**options))
        return model, torch.arange(1, 9)[None] if x is None else x()

    return Entry(kind, "transformers", make)


_SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT: dict[str, Any] = {**_SIZES, "vocab_size": 50}
_SHARED: dict[str, Any] = {**_TEXT, "num_key_value_heads": 2}
_IMAGE: dict[str, Any] = {**_SIZES, "image_size": 32, "patch_size": 8}


def _small_image() -> torch.Tensor:
    return torch.randn(1, 3, 32, 32)


def _larger_image() -> torch.Tensor:
    return torch.randn(1, 3, 64, 64)


def _sound() -> torch.Tensor:
    return torch.randn(1, 400)


def _two_texts() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.arange(1, 9)[None], "decoder_input_ids": torch.arange(1, 9)[None]}


FOUND = (
    *map(_tv, ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")),
    *map(_tv, ("efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x1_0", "vgg11_bn", "alexnet", "densenet121")),
    _tv("fcn_resnet50", weights_backbone=None),
    Entry("r3d_18", "torchvision", lambda: (_tv("r3d_18").make()[0], torch.randn(1, 3, 4, 32, 32))),
    _tv("squeezenet1_1"),
    _tv("vit_b_16", size=32, image_size=32),
    _tv("convnext_tiny"),
    _tv("swin_t"),
    *map(_timm, ("resnet18", "seresnet50", "mobilenetv4_conv_small")),
    _timm("mixer_s32_224", 224),
    *map(_timm, ("poolformer_s12", "repvgg_a0", "resnetv2_50", "resnetv2_50x1_bit", "dla34", "convnext_atto")),
    _timm("coatnet_0_rw_224", 64, img_size=64),
    *map(_timm, ("fastvit_t8", "xcit_nano_12_p16_224", "ghostnet_100", "res2net50_26w_4s", "hrnet_w18_small")),
    _timm("convnextv2_atto"),
    *(_timm(name, size=224) for name in ("levit_128s", "mobilevit_xxs")),
    *(_timm(name, 32, img_size=32, depth=4) for name in ("vit_tiny_patch16_224", "deit3_small_patch16_224")),
    _timm("eva02_tiny_patch14_224", 28, img_size=28, depth=4),
    _timm("cait_xxs24_224", 32, img_size=32, depth=4),
    _transformer("BertModel", "BertConfig", **_TEXT),
    _transformer("DistilBertModel", "DistilBertConfig", dim=64, n_layers=4, n_heads=4, hidden_dim=128, vocab_size=50),
    _transformer("RobertaModel", "RobertaConfig", **_TEXT),
    _transformer("ElectraModel", "ElectraConfig", **_TEXT, embedding_size=64),
    _transformer("AlbertModel", "AlbertConfig", **_TEXT, embedding_size=32),
    _transformer("ViTModel", "ViTConfig", _small_image, **_IMAGE),
    _transformer("CLIPVisionModel", "CLIPVisionConfig", _small_image, **_IMAGE),
    _transformer("LlamaForCausalLM", "LlamaConfig", **_SHARED),
    _transformer("Qwen2ForCausalLM", "Qwen2Config", **_SHARED),
    _transformer("Qwen3ForCausalLM", "Qwen3Config", **_SHARED, head_dim=16),
    _transformer("Gemma3ForCausalLM", "Gemma3TextConfig", **_SHARED, head_dim=16),
    _transformer("Phi3ForCausalLM", "Phi3Config", **_SHARED, pad_token_id=0),
    _transformer("MixtralForCausalLM", "MixtralConfig", **_SHARED, num_local_experts=2),
    _transformer(
        "OPTForCausalLM",
        "OPTConfig",
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        ffn_dim=128,
        vocab_size=50,
        word_embed_proj_dim=64,
    ),
    _transformer("DebertaV2Model", "DebertaV2Config", **_TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    _transformer("ModernBertModel", "ModernBertConfig", **_TEXT, pad_token_id=0),
    _transformer("MambaForCausalLM", "MambaConfig", hidden_size=64, num_hidden_layers=4, vocab_size=50, state_size=4),
    _transformer(
        "GPT2LMHeadModel",
        "GPT2Config",
        n_embd=64,
        n_layer=4,
        n_head=4,
        vocab_size=50,
        n_positions=32,
        bos_token_id=1,
        eos_token_id=1,
    ),
    _transformer(
        "T5ForConditionalGeneration",
        "T5Config",
        _two_texts,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=4,
        num_heads=4,
        vocab_size=50,
        decoder_start_token_id=0,
    ),
    _transformer(
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        _sound,
        **_SIZES,
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
    _transformer("ResNetModel", "ResNetConfig", _larger_image, embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2]),
    _transformer("ConvNextModel", "ConvNextConfig", _larger_image, num_stages=2, hidden_sizes=[16, 32], depths=[2, 3]),
    _transformer(
        "ConvNextV2Model", "ConvNextV2Config", _larger_image, num_stages=2, hidden_sizes=[16, 32], depths=[2, 3]
    ),
    _transformer(
        "SwinModel",
        "SwinConfig",
        _small_image,
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    _transformer(
        "SegformerModel",
        "SegformerConfig",
        _larger_image,
        hidden_sizes=[16, 32],
        depths=[2, 2],
        num_encoder_blocks=2,
        num_attention_heads=[1, 2],
        patch_sizes=[7, 3],
        strides=[4, 2],
        sr_ratios=[2, 1],
        mlp_ratios=[2, 2],
    ),
    Entry(
        "nn.TransformerEncoder",
        "torch",
        lambda: (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 4),
            torch.randn(1, 6, 64),
        ),
    ),
    Entry(
        "nn.TransformerEncoder, norm first",
        "torch",
        lambda: (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True), 4, enable_nested_tensor=False
            ),
            torch.randn(1, 6, 64),
        ),
    ),
    Entry(
        "MLP",
        "torch",
        lambda: (
            nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)),
            torch.randn(1, 8),
        ),
    ),
)
"""Tried before anything was changed for them."""

NOT_RUN = (
    *map(_tv, ("efficientnet_v2_s", "googlenet", "mnasnet0_5", "vgg11")),
    _tv("inception_v3", 96),
    Entry("MaxVit", "torchvision", _maxvit),
    _timm("gmlp_s16_224", 32, img_size=32),
)
"""Not tried at that time."""

PICKED = (
    *map(_timm, ("lcnet_050", "edgenext_xx_small", "mobileone_s0")),
    *(_timm(name, 224) for name in ("pit_ti_224", "resmlp_12_224", "visformer_tiny")),
    _transformer(
        "Dinov2Model",
        "Dinov2Config",
        _small_image,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=32,
        patch_size=8,
    ),
    _transformer(
        "BartModel",
        "BartConfig",
        d_model=64,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        vocab_size=50,
    ),
    _transformer("GPTNeoXForCausalLM", "GPTNeoXConfig", **_TEXT),
    _transformer("MPNetModel", "MPNetConfig", **_TEXT),
)
"""Added when all was done."""

QUICK = (
    "BertModel",
    "LlamaForCausalLM",
    "Qwen3ForCausalLM",
    "GPT2LMHeadModel",
    "ViTModel",
    "ModernBertModel",
    "SwinModel",
    "ConvNextModel",
    "Wav2Vec2Model",
    "Phi3ForCausalLM",
    "nn.TransformerEncoder",
    "MLP",
)
"""A dozen that run in seconds."""

ZOO = {entry.name if entry.library != "timm" else f"timm {entry.name}": entry for entry in (*FOUND, *NOT_RUN, *PICKED)}
"""All, by name."""
