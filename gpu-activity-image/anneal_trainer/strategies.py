"""How the ranks of a gang share one training: each holds everything (`ddp`), or a part of it (`fsdp`, `deepspeed`).

A strategy is a trainer class around the method's own, and the arguments that transformers wants for it. State that is in parts is saved
by the rank that holds it, and can be read by another number of ranks where it is cut by rows (`shares.py`).
"""

from typing import Any

import torch
from accelerate.utils import other as accelerate_models

from anneal_trainer import shares, state
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.protocol import BadRequest, Recipe
from anneal_trainer.state import TrainingState


def trainer_class(base: type[DurableTrainer], recipe: Recipe) -> type[DurableTrainer]:
    """The method's trainer class, with what the strategy does otherwise."""
    match recipe.strategy:
        case "ddp":
            _forget_deepspeed()
            return base
        case "fsdp":
            from anneal_trainer.strategies_fsdp import FsdpTrainer as strategy

            _forget_deepspeed()
        case "deepspeed":
            from anneal_trainer.strategies_deepspeed import DeepSpeedTrainer as strategy
    if recipe.world == 1:
        raise BadRequest(f"`train.strategy: {recipe.strategy}` shares a training among ranks, and there is one; raise `train.processes`.")
    return type(f"{strategy.__name__}Of{base.__name__}", (strategy, base), {})


def arguments(recipe: Recipe, backend: str) -> dict[str, Any]:
    """For transformers' training arguments."""
    if recipe.world == 1:
        return {}
    match recipe.strategy:
        case "ddp":
            # With unused parameters looked for, DDP keeps its first buckets; it would otherwise regroup them after the first step of
            # each attempt, and with them the order in which more than two ranks' gradients are added.
            return {"ddp_find_unused_parameters": True, "ddp_backend": backend}
        case "fsdp":
            return {"ddp_backend": backend}
        case "deepspeed":
            from anneal_trainer.strategies_deepspeed import configuration

            return {"ddp_backend": backend, "deepspeed": configuration(recipe)}


def pick_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What is computed in. `auto` on a CPU is fp32: without matrix units for bf16 it is the faster one there."""
    match recipe.precision:
        case "fp32":
            return torch.float32
        case "bf16":
            return torch.bfloat16
        case "fp16":
            if device.type == "cpu":
                raise BadRequest("`train.precision: fp16` needs a GPU, and this host has none; use `bf16` or `fp32`.")
            return torch.float16
    if device.type == "cpu":
        return torch.float32
    if torch.cuda.is_bf16_supported():
        return torch.bfloat16
    if recipe.strategy == "fsdp":
        raise BadRequest("`train.strategy: fsdp` computes in bf16 or fp32, and this GPU has no bf16; set `train.precision: fp32`.")
    return torch.float16


def read_checkpoint(folder: str, rank: int, recipe: Recipe) -> TrainingState:
    """One rank's state from a checkpoint that was verified, whichever strategy made it."""
    cut = "whole" if recipe.world == 1 else {"ddp": "whole", "fsdp": "rows", "deepspeed": "flat"}[recipe.strategy]
    if not shares.is_shared(folder):
        saved = state.read_state(folder, rank)
        return shares.take_rows(saved, rank, recipe.world) if cut == "rows" else saved
    return shares.read_share(folder, rank, recipe.world, cut)


def _forget_deepspeed() -> None:
    """Where it is installed, accelerate would import it for each unwrapping of a model, half of the time that a restart takes."""
    accelerate_models.is_deepspeed_available = lambda: False
