"""The rewards that a reward model gives to texts, in batches of similar length."""

from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

# Tokens in a batch, padding included: beyond this, larger batches are no faster on a CPU.
_TOKENS_MAX = 4096


@torch.inference_mode()
def give_rewards(model: PreTrainedModel, texts: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yields indices of `texts` and their rewards, (indices,) fp64. The model's `pad_token_id` must be set: it says where a text ends."""
    for indices in _batches(texts):
        width = max(len(texts[i]) for i in indices)
        ids = torch.tensor([texts[i] + [model.config.pad_token_id] * (width - len(texts[i])) for i in indices])
        mask = torch.tensor([[1] * len(texts[i]) + [0] * (width - len(texts[i])) for i in indices])
        output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
        yield indices, output.logits[:, 0].double().cpu()


def _batches(texts: list[list[int]]) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: (len(texts[i]), i)):
        if batch and (len(batch) + 1) * len(texts[index]) > _TOKENS_MAX:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
