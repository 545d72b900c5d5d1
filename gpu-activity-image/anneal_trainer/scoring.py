"""The loss over scored positions only: the output layer runs where there is a label and nowhere else.

With a vocabulary of 49,152 the output layer is a fifth of SmolLM2-135M, and a label lies on less than half of the tokens.
"""

import inspect

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from anneal_trainer.batches import NO_LABEL


def token_losses(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of each labelled token in the order of the rows.

    Args:
        inputs: `input_ids`, `attention_mask`, `labels`, each (rows, length); other entries go to the model.
    Returns:
        (labelled tokens,), fp32, natural logarithm.
    """
    return token_losses_and_balance(model, inputs)[0]


def token_losses_and_balance(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`token_losses`, and how unevenly a model's experts were chosen (arXiv 2101.03961, equations 4 to 6): a scalar, None where it does not say."""
    labels = inputs["labels"][:, 1:]
    scored = labels != NO_LABEL
    arguments = {name: value for name, value in inputs.items() if name != "labels"}
    outputs = _run_scored(model, scored, arguments)
    return functional.cross_entropy(outputs.logits[0].float(), labels[scored], reduction="none"), outputs.get("aux_loss")


def scored_logits(model: torch.nn.Module, scored: torch.Tensor, arguments: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits (scored positions, vocabulary) of the positions that `scored` (rows, length - 1) marks."""
    return _run_scored(model, scored, arguments).logits[0]


def _run_scored(model: torch.nn.Module, scored: torch.Tensor, arguments: dict[str, torch.Tensor]) -> ModelOutput:
    """What the model says, with logits (1, scored positions, vocabulary).

    A hook narrows the hidden states in front of the output layer, so that each architecture's own scaling of logits still holds.
    """
    head: torch.nn.Module = _output_layer(model)
    narrow = head.register_forward_pre_hook(lambda _module, args: (args[0][:, : scored.shape[1]][scored].unsqueeze(0),))
    try:
        return model(**arguments, use_cache=False)
    finally:
        narrow.remove()


def keeps_packed_rows_apart(model: PreTrainedModel) -> bool:
    """Whether the model, told by `position_ids` alone, computes a row that shares another one's place as if it were by itself."""
    first, second = torch.arange(2, 8), torch.arange(3, 9)
    packed = {"input_ids": torch.cat([first, second])[None], "position_ids": torch.arange(6).repeat(2)[None]}
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    with torch.no_grad():
        together = model(**packed, use_cache=False).logits[0, 6:]
        alone = model(input_ids=second[None], use_cache=False).logits[0]
    # Rounding differs with the shape; a leak changes the first digits.
    return torch.allclose(together.float(), alone.float(), rtol=1e-2, atol=1e-2 * float(alone.abs().max()))


def _output_layer(model: torch.nn.Module) -> torch.nn.Module:
    inner: PreTrainedModel = getattr(model, "module", model)
    return inner.get_output_embeddings()
