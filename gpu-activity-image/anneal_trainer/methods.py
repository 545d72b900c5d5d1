"""The two training methods, each a TRL trainer under the durable mixin: SFT learns answers, DPO which of two answers is better."""

from typing import Any

import torch
from trl import DPOTrainer, SFTTrainer

from anneal_trainer.durable import DurableTrainer
from anneal_trainer.scoring import token_losses


class SftTrainer(DurableTrainer, SFTTrainer):
    # `compute_loss` divides by the labels of the whole effective batch itself.
    loss_is_scaled_for_ga = True

    def __init__(self, **options: Any):
        super().__init__(**options)
        # Makes transformers count the labels of all micro-batches of a step, of all ranks, whatever the model's signature.
        self.model_accepts_loss_kwargs = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the effective batch, so that accumulation and ranks change nothing but rounding."""
        losses = token_losses(model, inputs)
        attended = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        self.count_tokens(attended)
        labels = len(losses) if num_items_in_batch is None else num_items_in_batch
        # DDP takes the mean over ranks.
        return losses.sum() * self.args.world_size / labels

    def score(self, inputs: dict[str, torch.Tensor]) -> tuple[float, int]:
        losses = token_losses(self.model, inputs)
        return losses.sum().item(), len(losses)


class DpoTrainer(DurableTrainer, DPOTrainer):
    """The model without its adapter is the reference, so there is no second model."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        # Dropout would part the model from its reference. TRL turns off modules only, and attention has a number of its own.
        for module in self.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0

    def _prepare_dataset(self, dataset, *args, **kwargs):
        """Rows come tokenised; TRL has no switch to leave them alone."""
        return dataset

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.count_tokens(inputs["attention_mask"].sum())
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def score(self, inputs: dict[str, torch.Tensor]) -> tuple[float, int]:
        pairs = len(inputs["input_ids"]) // 2
        loss = super().compute_loss(self.model, inputs).item()
        # TRL piles up its metrics until somebody logs them.
        self._metrics["eval"].clear()
        return loss * pairs, pairs

    def step_extras(self) -> dict[str, float]:
        metrics = {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
        self._metrics["train"].clear()
        return {"rewardMargin": metrics["rewards/margins"], "rewardAccuracy": metrics["rewards/accuracies"]}
