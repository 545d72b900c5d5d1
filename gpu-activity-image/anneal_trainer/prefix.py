"""Attention for rows that share the beginning of their prompt: its keys and values are computed and kept once, not once per row.

transformers' caches hold a copy of the prefix for every row, and each decoding step reads and copies them all. Here the queries of
all rows meet the one prefix in a single matrix product, and each row's own keys join in under one softmax.
"""

import torch
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

_NAME = "anneal_shared_prefix"

# Families whose attention is softmax(QK^T)V and nothing else: no soft cap, no sinks, no position bias.
_PLAIN_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

# Keys and values of the prefix, one pair a layer, each (heads, prefix length, head dimension).
Prefix = list[tuple[torch.Tensor, torch.Tensor]]


def enable_shared_prefix(model: PreTrainedModel) -> bool:
    """Makes the model accept `shared_prefix=`; False where its attention is of another kind."""
    if not _is_plain(model.config):
        return False
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _full_mask)
    model.set_attn_implementation(_NAME)
    return True


def _is_plain(config: PretrainedConfig) -> bool:
    slides = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    return config.model_type in _PLAIN_FAMILIES and not slides


def compute_prefix(model: PreTrainedModel, ids: list[int]) -> Prefix:
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, logits_to_keep=1)
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


def _full_mask(*args, **options) -> torch.Tensor | None:
    # Without a mask a causal one would be implied, and `_attend` would have to guess it.
    return sdpa_mask(*args, **{**options, "allow_is_causal_skip": False})


def _attend(module, query, key, value, attention_mask, scaling, dropout=0.0, shared_prefix: Prefix | None = None, **options):
    """softmax(scaling * Q [K_prefix; K_own]^T) [V_prefix; V_own], with grouped query heads.

    Args:
        query: (rows, heads, length, dimension).
        key, value: (rows, key heads, own length, dimension).
        attention_mask: (rows, 1, length, own length), True = attends. Every query attends to the whole prefix.
    Returns:
        (rows, length, heads, dimension), and None in place of the weights.
    """
    if shared_prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
    prefix_key, prefix_value = shared_prefix[module.layer_idx]
    rows, heads, length, dimension = query.shape
    key_heads, own_length, prefix_length = key.shape[1], key.shape[2], prefix_key.shape[1]
    queries = query.reshape(rows, key_heads, -1, dimension)
    folded = queries.transpose(0, 1).reshape(key_heads, -1, dimension)
    on_prefix = (folded @ prefix_key.transpose(1, 2)).view(key_heads, rows, -1, prefix_length).transpose(0, 1)
    on_own = (queries @ key.transpose(2, 3)).view(rows, key_heads, -1, length, own_length)
    on_own = on_own.masked_fill(~attention_mask.unsqueeze(2), float("-inf")).view(rows, key_heads, -1, own_length)
    weights = torch.softmax(torch.cat([on_prefix, on_own], -1).float() * scaling, -1).to(query.dtype)
    weights_prefix, weights_own = weights.split([prefix_length, own_length], -1)
    from_prefix = weights_prefix.transpose(0, 1).reshape(key_heads, -1, prefix_length) @ prefix_value
    from_prefix = from_prefix.view(key_heads, rows, -1, dimension).transpose(0, 1)
    output = (from_prefix + weights_own @ value).reshape(rows, heads, length, dimension)
    return output.transpose(1, 2).contiguous(), None
