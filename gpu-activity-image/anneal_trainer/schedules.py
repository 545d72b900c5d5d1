"""How the learning rate goes over the steps: a recipe's words as transformers' arguments."""

import math
from typing import Any

from anneal_trainer.protocol import Recipe


def arguments(recipe: Recipe, steps: int) -> dict[str, Any]:
    warmup = math.ceil(recipe.warmup_ratio * steps) if recipe.warmup_steps is None else recipe.warmup_steps
    name, options = _scheduler(recipe, steps, warmup)
    return {"lr_scheduler_type": name, "lr_scheduler_kwargs": options, "warmup_steps": warmup}


def _scheduler(recipe: Recipe, steps: int, warmup: int) -> tuple[str, dict[str, Any]]:
    least = recipe.min_learning_rate
    match recipe.schedule:
        case "constant":
            # transformers' own `constant` forgets the warm-up.
            return "constant_with_warmup", {}
        case "cosine" if least > 0:
            return "cosine_with_min_lr", {"min_lr": least}
        case "polynomial":
            return "polynomial", {"lr_end": least, "power": recipe.schedule_power}
        case "warmup_stable_decay":
            # A long warm-up leaves less.
            decay = max(1, min(math.ceil(recipe.decay_ratio * steps), steps - warmup))
            return "warmup_stable_decay", {"num_decay_steps": decay, "min_lr_ratio": least / recipe.learning_rate}
    return recipe.schedule, {}
