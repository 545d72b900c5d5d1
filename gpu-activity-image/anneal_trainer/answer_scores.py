"""How likely answers are, on devices without Triton: TRL's output layer made lean.

TRL 1.16 scores every position there, prompts and padding too, in a dozen passes over the logits, each into memory of its own, and works
out what nobody here reads. Only positions with a label are scored now, and in place. Left out, and zero or meaningless in TRL's own
metrics: entropy, mean logits, the share of likeliest tokens. With Triton nothing changes.
"""

from typing import Any

import torch
from trl.kernels import chunked_logprob
from trl.trainer import utils


def be_lean() -> None:
    """For all models of this process."""
    chunked_logprob._forward_tile = _fold_forward
    chunked_logprob._backward_tile = _fold_backward
    # It decides there whether only positions with a label are scored.
    utils._use_triton = lambda device: True


def _fold_forward(tile, _stride, targets, running_max, sum_exp, *rest: torch.Tensor, logit_scale, softcap, inv_t, HAS_SOFTCAP, **_: Any):
    """Adds a tile of logits (tokens, columns), which is used up, to the sums of a softmax over all columns (arXiv 1805.02867)."""
    *_unread, target_logit, first, columns = rest
    logits = _transform(tile.float(), logit_scale, softcap, inv_t, HAS_SOFTCAP)
    local = targets - first
    found = logits.gather(-1, local.clamp(0, columns - 1).unsqueeze(-1)).squeeze(-1)
    target_logit.copy_(torch.where((local >= 0) & (local < columns), found, target_logit))
    most = torch.maximum(running_max, logits.amax(-1))
    sum_exp.mul_(torch.exp(running_max - most)).add_(logits.sub_(most.unsqueeze(-1)).exp_().sum(-1))
    running_max.copy_(most)


def _fold_backward(
    tile,
    _stride,
    targets,
    log_z,
    _entropy,
    gradient,
    _entropy_gradient,
    first,
    columns,
    *,
    logit_scale,
    softcap,
    inv_t,
    HAS_SOFTCAP,
    **_: Any,
):
    """Turns a tile of logits into their gradient: of each token's, its own times (1 at the target, else 0) less the probability."""
    logits = _transform(tile.float(), logit_scale, softcap, inv_t, HAS_SOFTCAP)
    steepness = 1 - (logits / (softcap * inv_t)).square_() if HAS_SOFTCAP else None
    logits.sub_(log_z.unsqueeze(-1)).exp_().mul_(-gradient.unsqueeze(-1))
    local = targets - first
    inside = (local >= 0) & (local < columns)
    logits.scatter_add_(-1, local.clamp(0, columns - 1).unsqueeze(-1), torch.where(inside, gradient, 0.0).unsqueeze(-1))
    if steepness is not None:
        logits.mul_(steepness)
    if logit_scale * inv_t != 1:
        logits.mul_(logit_scale * inv_t)
    if logits.data_ptr() != tile.data_ptr():
        tile.copy_(logits)


def _transform(logits: torch.Tensor, logit_scale: float, softcap: float, inv_t: float, has_softcap: bool) -> torch.Tensor:
    """In place."""
    if has_softcap:
        return logits.mul_(logit_scale / softcap).tanh_().mul_(softcap * inv_t)
    return logits if logit_scale * inv_t == 1 else logits.mul_(logit_scale * inv_t)
