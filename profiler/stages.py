"""The stages of a server around the forward pass: decode or tokenize, copy, preprocess, postprocess, copy back."""

from __future__ import annotations

import io
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PHOTO = (500, 375)
"""Width and height of the JPEG that clients send, in pixels: about that of a photograph of ImageNet."""

_QUALITY = 90
_MODES = {1: "L", 3: "RGB"}
_WORDS = 2000
"""The number of different words in the texts that clients send."""


class ServerStages:
    """The stages around the forward pass of networks of one kind of input, and inputs for them.

    Images arrive as JPEG and are decoded and resized, one after the other, by one thread. They are copied to the
    device as bytes, from pinned memory where the device can use it, without waiting; and become normalized numbers
    there. Texts arrive as strings, and their token ids are copied likewise, as are inputs of other kinds. Of the
    result, the most likely class and its probability are copied back.

    Args:
        example: Returns the inputs of networks for a batch size; an image has four dimensions, a text two.
        device: Of the networks.
        dtype: Of their inputs that are not integers.
        layout: Of images.
    """

    def __init__(
        self,
        example: Callable[[int], tuple[torch.Tensor, ...]],
        device: torch.device,
        dtype: torch.dtype,
        layout: torch.memory_format,
    ) -> None:
        self._example = example
        first = example(1)[0]
        self._shape, self._is_image = tuple(first.shape[1:]), _is_image(first)
        self._is_text = first.dim() == 2 and not first.is_floating_point()  # noqa: PLR2004 - batch and tokens
        self._device, self._dtype, self._layout = device, dtype, layout
        self._pins = device.type == "cuda"  # ROCm's, too
        has_memory = device.type != "cpu"
        stages: dict[str, tuple[bool, Callable[..., object]]] = {
            "decode": (self._decodes, self._decode),
            "tokenize": (self._tokenizes, self._tokenize),
            "h2d_copy": (has_memory, self.to_device),
            "preprocess": (self._is_image, self.preprocess),
            "postprocess": (True, self.postprocess),
            "d2h_copy": (has_memory, self._to_host),
        }
        self.run = {name: stage for name, (is_there, stage) in stages.items() if is_there}
        """Each stage by name, in order."""

    @property
    def _decodes(self) -> bool:
        return self._is_image and self._shape[0] in _MODES and find_spec("PIL") is not None

    @property
    def _tokenizes(self) -> bool:
        return self._is_text and find_spec("tokenizers") is not None

    def __str__(self) -> str:
        """Return what the stages do, for the provenance of a table."""
        parts: list[str] = []
        if self._is_image:
            parts.append(
                f"decode: JPEG of {PHOTO[0]} x {PHOTO[1]} pixels, resized, one thread"
                if self._decodes
                else "no decode (it needs Pillow, and images of 1 or 3 channels)"
            )
        if self._is_text:
            parts.append(
                f"tokenize: WordPiece, {self._shape[0]} words"
                if self._tokenizes
                else "no tokenizer (pip install tokenizers)"
            )
        if "h2d_copy" in self.run:
            memory = "pinned memory, non-blocking" if self._pins else "pageable memory"
            kinds = dict.fromkeys(str(part.dtype).removeprefix("torch.") for part in self.raw(1))
            parts.append(f"copies: {', '.join(kinds)} from {memory}")
        return "; ".join([*parts, "postprocess: the most likely class"])

    def inputs(self, stage: str, batch_size: int, logits: Callable[[int], Any]) -> tuple[Any, ...]:
        """Return a batch for a stage.

        Args:
            stage: Its name.
            batch_size: The number of requests.
            logits: Returns the result of the forward pass for a batch size.
        """
        if stage == "decode":
            return ([self._jpeg] * batch_size,)
        if stage == "tokenize":
            return ([self._text] * batch_size,)
        if stage == "h2d_copy":
            return tuple(part.pin_memory() if self._pins else part for part in self.raw(batch_size))
        if stage == "preprocess":
            return tuple(part.to(self._device) for part in self.raw(batch_size))
        with torch.inference_mode():
            result = logits(batch_size)
            return (result,) if stage == "postprocess" else self.postprocess(result)

    def raw(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return random requests as they are copied: bytes of images, other numbers, and integers of the example."""
        generator = torch.Generator().manual_seed(0)

        def requested(part: torch.Tensor) -> torch.Tensor:
            if _is_image(part):
                return torch.randint(0, 256, part.shape, dtype=torch.uint8, generator=generator)
            if part.is_floating_point():
                return torch.rand(part.shape, generator=generator).mul_(2).sub_(1).to(self._dtype)
            return part

        return tuple(requested(part) for part in self._example(batch_size))

    def to_device(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return inputs on the device; from pinned memory, the copies may not be done yet."""
        return tuple(part.to(self._device, non_blocking=self._pins) for part in parts)

    def preprocess(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the inputs of networks: bytes of images become numbers between -1 and 1."""
        return tuple(self._normalized(part) if part.dtype == torch.uint8 else part for part in parts)

    def _normalized(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self._dtype, memory_format=self._layout).div_(127.5).sub_(1)

    def postprocess(self, result: Any) -> tuple[torch.Tensor, ...]:
        """Return the probability of the most likely class, and the class: of the first tensor of a network's result."""
        logits = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return tuple(functional.softmax(logits.float(), -1).max(-1))

    def _to_host(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not self._pins:
            return tuple(part.cpu() for part in parts)
        hosts = (torch.empty_like(part, device="cpu", pin_memory=True) for part in parts)
        return tuple(host.copy_(part, non_blocking=True) for host, part in zip(hosts, parts, strict=True))

    def _decode(self, files: Sequence[bytes]) -> torch.Tensor:
        """Return decoded and resized images, uint8, shape (batch, channels, height, width)."""
        image: Any = import_module("PIL.Image")
        channels, height, width = self._shape
        batch = torch.empty((len(files), *self._shape), dtype=torch.uint8, pin_memory=self._pins)
        for number, file in enumerate(files):
            found = image.open(io.BytesIO(file)).convert(_MODES[channels]).resize((width, height))
            pixels = torch.from_numpy(np.array(found)).view(height, width, channels)
            batch[number] = pixels.permute(2, 0, 1)
        return batch

    @cached_property
    def _jpeg(self) -> bytes:
        """A JPEG with the smooth areas of a photograph, and a little noise."""
        image: Any = import_module("PIL.Image")
        rng = np.random.default_rng(0)
        channels = self._shape[0]
        small = rng.integers(0, 256, (19, 25, channels), dtype=np.uint8).squeeze()
        smooth = np.asarray(image.fromarray(small).resize(PHOTO, image.Resampling.BICUBIC), dtype=np.int16)
        noisy = (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        image.fromarray(noisy).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()

    def _tokenize(self, texts: list[str]) -> torch.Tensor:
        """Return token ids, int64, shape (batch, tokens)."""
        return torch.tensor([encoding.ids for encoding in self._tokenizer.encode_batch(texts)], dtype=torch.long)

    @cached_property
    def _tokenizer(self) -> Any:
        """A WordPiece tokenizer with a vocabulary of its own: the time depends on texts more than on words."""
        library: Any = import_module("tokenizers")
        pieces = ["[UNK]", "[PAD]", *(f"word{number}" for number in range(_WORDS))]
        numbers = {piece: number for number, piece in enumerate(pieces)}
        model = library.models.WordPiece(numbers, unk_token=pieces[0])
        tokenizer = library.Tokenizer(model)
        tokenizer.normalizer = library.normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        tokenizer.enable_truncation(self._shape[0])
        tokenizer.enable_padding(length=self._shape[0], pad_id=1, pad_token=pieces[1])
        return tokenizer

    @cached_property
    def _text(self) -> str:
        rng = np.random.default_rng(0)
        return " ".join(f"Word{number}" for number in rng.integers(0, _WORDS, self._shape[0]))


def _is_image(part: torch.Tensor) -> bool:
    return part.is_floating_point() and part.dim() == 4  # noqa: PLR2004 - batch, channels, two sides
