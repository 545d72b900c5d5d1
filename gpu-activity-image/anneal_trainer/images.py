"""What a model that reads images sees of them: the pixels that its own processor makes, and the tokens that stand for each image in a text.

Images are files named by their SHA-256 in the folder `media` beside the rows or the shard that name them. Pillow alone decodes and scales
them, on the CPU, so that the same bytes are the same numbers on every host. Nothing here is imported before an image is needed.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anneal_trainer.protocol import BadRequest, DataRejected
from anneal_trainer.special_text import Rendered, Span, TemplateError

# Of a SHA-256, bytes.
DIGEST_BYTES = 32
# Token texts that are kept, of a few kB each: an image is met again in other rows.
_TEXTS_KEPT = 4096
# What processors call the kinds of tokens, where their models want to know them.
_TOKEN_KINDS = ("mm_token_type_ids", "token_type_ids")


class UnreadableImage(Exception):
    """A file that names itself an image and cannot be decoded, or is none that the model's processor takes."""


@dataclass(frozen=True)
class Expanded:
    """A chat whose images are tokens: `spans` are those that were given, and `places` each image's tokens, as ranges of characters."""

    text: Rendered
    spans: list[Span]
    places: list[Span]


def media_beside(file: str) -> Path:
    """Where the images lie that the file names."""
    return Path(file).parent / "media"


def digests_of(images: np.ndarray) -> list[str]:
    """The images of a row from its entry in a shard: their digests, end to end."""
    content = images.astype(np.uint8).tobytes()
    return [content[start : start + DIGEST_BYTES].hex() for start in range(0, len(content), DIGEST_BYTES)]


class ImageReader:
    def __init__(self, model: Path, media: Path):
        """`model`: the folder with the processor's configuration; `media`: that of the images."""
        self._model = model
        self._media = media
        self._tokens_of = lru_cache(_TEXTS_KEPT)(self._find_tokens)
        self._tokens_of_size = lru_cache(_TEXTS_KEPT)(self._find_tokens_of_size)

    def load(self) -> None:
        """Raises BadRequest where there is no processor that can be used."""
        _ = self._processor

    def expand(self, rendered: Rendered, spans: list[Span], digests: Sequence[str]) -> Expanded:
        """Puts each image's tokens where the template shows it. Raises TemplateError and UnreadableImage."""
        token = self._processor.image_token
        starts = [
            match.start() for match in re.finditer(re.escape(token), rendered.text) if not _is_inside(match.start(), rendered.literal)
        ]
        if len(starts) != len(digests):
            raise TemplateError(f"The chat template shows {len(starts)} of the row's {len(digests)} images.")
        texts = [self._tokens_of(digest) for digest in digests]

        def moved(place: int) -> int:
            return place + sum(len(text) - len(token) for start, text in zip(starts, texts, strict=True) if start < place)

        pieces, at = [], 0
        for start, text in zip(starts, texts, strict=True):
            pieces += [rendered.text[at:start], text]
            at = start + len(token)
        whole = Rendered("".join([*pieces, rendered.text[at:]]), tuple((moved(a), moved(b)) for a, b in rendered.literal))
        places = [(moved(start), moved(start) + len(text)) for start, text in zip(starts, texts, strict=True)]
        return Expanded(whole, [(moved(a), moved(b)) for a, b in spans], places)

    def inputs(self, digests: list[str], input_ids: Any) -> dict[str, Any]:
        """What the model takes besides `input_ids` (rows, length): tensors of the images in the order of their tokens, and the tokens'
        kinds where it wants them. Shapes are the processor's own; of no images there are no tensors."""
        import torch

        processor = self._processor
        kinds = [name for name in _TOKEN_KINDS if name in processor.model_input_names]
        made = {name: torch.tensor(processor.create_mm_token_type_ids(input_ids.tolist())) for name in kinds}
        if digests:
            images = [self._open(digest) for digest in digests]
            # The text is only there to be thrown away: processors insist on as many places as images.
            seen = processor(images=[images], text=[processor.image_token * len(images)], return_tensors="pt")
            made |= {name: value for name, value in seen.items() if name not in ("input_ids", "attention_mask", *_TOKEN_KINDS)}
        return made

    def _find_tokens(self, digest: str) -> str:
        image = self._open(digest)
        try:
            return self._tokens_of_size(image.size)
        except ValueError as error:
            raise UnreadableImage(f"The model's processor refuses image {digest}: {error}") from error

    def _find_tokens_of_size(self, size: tuple[int, int]) -> str:
        """Processors count an image's tokens by its (width, height) alone, and take five times longer than to decode it."""
        from PIL import Image

        processor, image = self._processor, Image.new("RGB", size)
        found = processor(images=[[image]], text=[processor.image_token], return_text_replacement_offsets=True)
        return found["text_replacement_offsets"][0][0]["replacement"]

    def _open(self, digest: str) -> Any:
        """The image upright, in red, green and blue."""
        from PIL import Image, ImageOps

        path = self._media / digest
        if not path.is_file():
            raise DataRejected(f"Image {digest} is not in {self._media}; start the stage again, which brings it there.")
        try:
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadableImage(f"Image {digest} cannot be decoded: {error}") from error

    @cached_property
    def _processor(self) -> Any:
        try:
            return load_processor(str(self._model))
        except (ImportError, OSError, ValueError, KeyError, TypeError) as error:
            raise BadRequest(f"The image processor in {self._model} cannot be used: {error}") from error


def _is_inside(place: int, spans: Sequence[Span]) -> bool:
    return any(start <= place < end for start, end in spans)


def load_processor(folder: str) -> Any:
    """The model's own, without its part for videos, which needs torchvision and num2words and which no row has a use for."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    own = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(folder, local_files_only=True))]
    module = sys.modules[own.__module__]
    if getattr(module, "num2words", own) is None:
        # SmolVLM's spells how many frames a video has.
        module.num2words = str

    class ImagesOnly(own):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil"),
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
    }
    settings, _ = ImagesOnly.get_processor_dict(folder, local_files_only=True)
    return ImagesOnly.from_args_and_dict([parts.get(name) for name in ImagesOnly.get_attributes()], settings)
