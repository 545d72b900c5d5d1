"""Tiny random models of the families that people tune, each with what sets it apart from Llama.

`python families.py <folder>` writes them all, and what the trainer counts in them as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import seeing
import torch
from anneal_trainer.adapters import add_adapter, count_parameters, freeze_sight
from anneal_trainer.models import load_base
from support import recipe
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

_WORDS = 500
_IDS = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": None}
_SIZES = {
    "vocab_size": _WORDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **_IDS,
}
_WITHOUT_GROUPS = {name: size for name, size in _SIZES.items() if name != "num_key_value_heads"}
_WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8, "query_pre_attn_scalar": 8}

FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "mistral": MistralConfig(**_SIZES, sliding_window=8),
    # Biases in attention; embeddings that are the output layer.
    "qwen2": Qwen2Config(**_SIZES, tie_word_embeddings=True),
    # Norms of queries and keys.
    "qwen3": Qwen3Config(**_SIZES, head_dim=16, tie_word_embeddings=True),
    # Capped scores and logits, scaled embeddings, windows in every second layer.
    "gemma2": Gemma2Config(**_SIZES, **_WINDOW, final_logit_softcapping=5.0, attn_logit_softcapping=10.0),
    "gemma3": Gemma3TextConfig(**_SIZES, **_WINDOW),
    # One projection for queries, keys and values, and one for gate and up.
    "phi3": Phi3Config(**_SIZES),
    # No gate, all in one projection, the output layer under a name of its own.
    "gpt-neox": GPTNeoXConfig(**_WITHOUT_GROUPS),
    # Weights the other way round, dropout everywhere, positions that are learnt.
    "gpt2": GPT2Config(vocab_size=_WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=256, **_IDS),
    # Dropout that is a number of a layer and no module of its own.
    "opt": OPTConfig(
        vocab_size=_WORDS,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=32,
        **_IDS,
    ),
    # Attention and what is behind it side by side, one key for all queries, dropout as a module by the name that others have a number under.
    "falcon": FalconConfig(**_WITHOUT_GROUPS),
    # Experts, which lie in one tensor a layer, and one that all tokens meet.
    "qwen2-moe": Qwen2MoeConfig(
        **_SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16
    ),
    "qwen3-moe": Qwen3MoeConfig(**_SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8),
    # Experts that its files name otherwise.
    "mixtral": MixtralConfig(**_SIZES, num_local_experts=4, num_experts_per_tok=2),
    # Experts with biases, which its files hold in one tensor, too, the other way round; sinks in attention.
    "gpt-oss": GptOssConfig(**_SIZES, num_local_experts=4, num_experts_per_tok=2, head_dim=8, sliding_window=8),
}
WITH_EXPERTS = ("qwen2-moe", "qwen3-moe", "mixtral", "gpt-oss")


def write_family(name: str, folder: Path) -> str:
    """A folder with random weights and the words `w0` to `w496`."""
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<end>"}
    words = [*special.values(), *(f"w{i}" for i in range(_WORDS - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(FAMILIES[name]).save_pretrained(folder)
    return str(folder)


def _count(name: str, folder: str) -> dict[str, Any]:
    base = load_base(folder, torch.device("cpu"))
    freeze_sight(base)
    trainable, total = count_parameters(base)
    experts = {"experts": _count_adapted(folder, experts=True)} if name in WITH_EXPERTS else {}
    return {"whole": {"trainable": trainable, "total": total}, "adapted": _count_adapted(folder), **experts}


def _count_adapted(folder: str, experts: bool = False) -> dict[str, int]:
    lora = replace(recipe().lora, dropout=0.0, experts=experts)
    trainable, total = count_parameters(add_adapter(load_base(folder, torch.device("cpu")), recipe(lora=lora)))
    return {"trainable": trainable, "total": total}


if __name__ == "__main__":
    folders = {name: write_family(name, Path(sys.argv[1]) / name) for name in FAMILIES}
    folders |= {name: seeing.make_seeing(Path(sys.argv[1]) / name, name) for name in seeing.FAMILIES}
    print(json.dumps({name: _count(name, folder) for name, folder in folders.items()}))
