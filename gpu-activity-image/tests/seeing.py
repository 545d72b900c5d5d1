"""Tiny random models that read images, one of each way in which processors hand images over, and rows that only images can answer."""

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from support import make_row, write_rows
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}

# As the published models have them, shortened.
TILES_TEMPLATE = """<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}\
{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
SQUARES_TEMPLATE = """{% for message in messages %}{{ message['role'].upper() + ': ' }}\
{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{% if message['role'] == 'assistant' %}{% generation %}{{ content['text'] + '<end>' }}{% endgeneration %}\
{% else %}{{ content['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"""
GRID_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ content['text'] }}{% endif %}{% endfor %}\
{% endif %}<end>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


SOFT_TEMPLATE = """{% for message in messages %}<start_of_turn>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' %}<start_of_image>{% else %}{{ content['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant
{% endif %}"""
CONTEXT_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' %}<IMG_CONTEXT>
{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<end>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def _make_tokenizer(folder: Path, special: list[str], template: str, **names_of: str) -> PreTrainedTokenizerFast:
    """Bytes are tokens. `names_of`: tokens by the names that a processor asks its tokenizer for."""
    names = ["<pad>", "<|im_start|>", "<end>", *special]
    letters = [*names, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    end = "<end_of_utterance>" if "<end_of_utterance>" in special else "<end>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=end, chat_template=template, extra_special_tokens=names_of
    )
    made.save_pretrained(folder)
    return made


def _language(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return {**sizes, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 2048}


def _make_tiles(folder: Path) -> torch.nn.Module:
    """Idefics3, SmolVLM: an image is cut into tiles, each with tokens of its own, and the whole once more."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    names = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places]
    tokenizer = _make_tokenizer(folder, names, TILES_TEMPLATE)
    Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "Idefics3Processor", "image_seq_len": 4}')
    image = tokenizer.convert_tokens_to_ids("<image>")
    text = {"model_type": "llama", **_language(tokenizer)}
    return Idefics3ForConditionalGeneration(
        Idefics3Config(vision_config=SIZE, text_config=text, scale_factor=2, image_token_id=image, pad_token_id=0)
    )


def _make_squares(folder: Path) -> torch.nn.Module:
    """LLaVA: every image is cut to one square."""
    tokenizer = _make_tokenizer(folder, ["<image>"], SQUARES_TEMPLATE)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    settings = '"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1'
    (folder / "processor_config.json").write_text('{"processor_class": "LlavaProcessor", ' + settings + "}")
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision, text = {"model_type": "clip_vision_model", "projection_dim": 16, **SIZE}, {"model_type": "llama", **_language(tokenizer)}
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_id=image))


def _make_grid(folder: Path) -> torch.nn.Module:
    """Qwen-VL: as many tokens as the image has patches, and positions in two dimensions."""
    tokenizer = _make_tokenizer(folder, ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], GRID_TEMPLATE)
    Qwen2VLImageProcessorPil(min_pixels=64, max_pixels=1024, patch_size=4, merge_size=2).save_pretrained(folder)
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    vision = {"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 4, "mlp_ratio": 2}
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(vision_config=vision, text_config={**_language(tokenizer), **rope}, **ids))


def _make_soft(folder: Path) -> torch.nn.Module:
    """Gemma 3: one token in the template, many in the text, which see each other both ways."""
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = _make_tokenizer(folder, [*names.values(), "<start_of_turn>"], SOFT_TEMPLATE, **names)
    Gemma3ImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "Gemma3Processor", "image_seq_length": 4}')
    ids = {f"{name.removesuffix('_token')}_token_index": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    window = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8, "query_pre_attn_scalar": 8}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(vision_config=SIZE, text_config=_language(tokenizer) | window, mm_tokens_per_image=4, **ids)
    )


def _make_context(folder: Path) -> torch.nn.Module:
    """InternVL: tokens of patches between a beginning and an end."""
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = _make_tokenizer(folder, list(names.values()), CONTEXT_TEMPLATE, **names)
    GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=2).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "InternVLProcessor", "image_seq_length": 4}')
    image = tokenizer.convert_tokens_to_ids(names["context_image_token"])
    vision = SIZE | {"image_size": [16, 16], "patch_size": [4, 4]}
    text = {"model_type": "qwen2", **_language(tokenizer)}
    return InternVLForConditionalGeneration(
        InternVLConfig(vision_config=vision, text_config=text, image_token_id=image, image_seq_length=4, tie_word_embeddings=False)
    )


def _make_small(folder: Path) -> torch.nn.Module:
    """SmolVLM: as Idefics3, with a processor that wants a package for videos."""
    _make_tiles(folder)
    SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "SmolVLMProcessor", "image_seq_len": 4}')
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    text = {"model_type": "llama", **_language(tokenizer)}
    image = tokenizer.convert_tokens_to_ids("<image>")
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(vision_config=SIZE, text_config=text, scale_factor=2, image_token_id=image, pad_token_id=0)
    )


def _make_windows(folder: Path) -> torch.nn.Module:
    """Qwen2.5-VL: as Qwen2-VL, with windows in which patches see each other."""
    _make_grid(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4, "intermediate_size": 24}
    vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=vision, text_config={**_language(tokenizer), **rope}, **ids))


FAMILIES: dict[str, Callable[[Path], torch.nn.Module]] = {
    **{"tiles": _make_tiles, "squares": _make_squares, "grid": _make_grid, "soft": _make_soft},
    **{"context": _make_context, "small": _make_small, "windows": _make_windows},
}


def make_seeing(folder: Path, family: str) -> str:
    """A model folder of some 40,000 parameters."""
    folder.mkdir()
    torch.manual_seed(0)
    FAMILIES[family](folder).save_pretrained(folder)
    return str(folder)


def keep_image(media: Path, image: Image.Image, kind: str = "PNG") -> dict[str, Any]:
    """Writes it where the trainer looks for it and returns its entry in a row."""
    content = io.BytesIO()
    image.save(content, kind)
    return keep_bytes(media, content.getvalue())


def keep_bytes(media: Path, content: bytes) -> dict[str, Any]:
    media.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    (media / digest).write_bytes(content)
    return {"digest": digest}


def image_row(index: int, question: str, answer: str, media: list[dict[str, Any]]) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {**make_row(index, messages), **({"media": media} if media else {})}


COLOURS = {"red": (200, 20, 20), "blue": (20, 20, 200)}


def write_colours(file: Path, count: int, seed: int) -> None:
    """Rows that ask for the colour of one or two noisy images of random sizes, and here and there one without an image."""
    rng, rows = random.Random(seed), []
    for index in range(count):
        colours = [rng.choice(list(COLOURS)) for _ in range(index % 3 and 1 + index % 2)]
        images = [Image.new("RGB", (rng.randint(12, 40), rng.randint(12, 40)), COLOURS[colour]) for colour in colours]
        for image in images:
            image.putpixel((rng.randint(0, 11), rng.randint(0, 11)), tuple(rng.randbytes(3)))
        media = [keep_image(file.parent / "media", image) for image in images]
        rows.append(image_row(index, "<image>" * len(media) + "Colour?", " ".join(colours) or "none", media))
    write_rows(file, rows)


def write_source(folder: Path, count: int) -> None:
    """A model of the family `grid`, and what a user has: `rows.jsonl` beside the images that its rows name."""
    make_seeing(folder / "seeing", "grid")
    colours, lines = list(COLOURS), []
    for index in range(count):
        colour, name = colours[index % 2], f"{index}.png"
        image = Image.new("RGB", (16 + index % 16, 16), COLOURS[colour])
        image.putpixel((0, 0), (index % 256, 0, 0))
        image.save(folder / name)
        parts = [{"type": "image_url", "image_url": {"url": name}}, {"type": "text", "text": f"Colour of {index}?"}]
        lines.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": colour}]})
    write_rows(folder / "rows.jsonl", lines)
