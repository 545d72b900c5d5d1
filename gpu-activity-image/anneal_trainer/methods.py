"""The training methods, each a TRL trainer under the durable mixin, and the table of what else differs between them.

A method that makes its own answers while it trains (GRPO) would be one more entry, with a trainer whose answers are keyed by step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainingArguments
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.trainer.utils import use_adapter

from anneal_trainer import answer_scores
from anneal_trainer.adapters import REFERENCE
from anneal_trainer.batches import NO_LABEL, Collator, JudgedCollator, PadCollator, PreferenceCollator
from anneal_trainer.durable import DurableTrainer, Score
from anneal_trainer.protocol import Recipe
from anneal_trainer.scoring import token_losses, token_losses_and_balance
from anneal_trainer.shards import AnyShard, read_judged_shard, read_preference_shard, read_shard

Batch = dict[str, torch.Tensor]


class SftTrainer(DurableTrainer, SFTTrainer):
    """Learns answers."""

    # `compute_loss` divides by the labels of the whole effective batch itself.
    loss_is_scaled_for_ga = True

    def __init__(self, **options: Any):
        super().__init__(**options)
        # Makes transformers count the labels of all micro-batches of a step, of all ranks, whatever the model's signature.
        self.model_accepts_loss_kwargs = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the effective batch, so that accumulation and ranks change nothing but rounding."""
        losses, balance = token_losses_and_balance(model, {**inputs, **({"output_router_logits": True} if self.aux_loss_enabled else {})})
        learnt = (inputs["labels"] != NO_LABEL).any(1)
        self.count_tokens(inputs["attention_mask"][learnt].sum() if "attention_mask" in inputs else inputs["input_ids"][learnt].numel())
        labels = len(losses) if num_items_in_batch is None else num_items_in_batch
        # DDP takes the mean over ranks.
        loss = losses.sum() * self.args.world_size / labels
        if not self.aux_loss_enabled:
            return loss
        # Of each micro-batch by itself, as TRL has it.
        return loss + self.router_aux_loss_coef * balance / self.current_gradient_accumulation_steps

    def _get_num_items_in_batch(self, batch_samples, device):
        """Called with a step's micro-batches. Nothing is learnt twice in an epoch, however many ranks there are."""
        if repeated := self.repeated_rows():
            batch_samples[-1]["labels"][-repeated:] = NO_LABEL
        return super()._get_num_items_in_batch(batch_samples, device)

    def score(self, inputs: Batch) -> Score:
        losses = token_losses(self.model, inputs)
        return Score(losses.sum().item(), len(losses))


class ComparingTrainer(DurableTrainer):
    """What the methods that compare answers have in common. Their rows come tokenised; TRL has no switch to leave them alone."""

    def __init__(self, **options: Any):
        answer_scores.be_lean()
        super().__init__(**options)
        # Dropout would part a model from its reference, and an answer from the one beside it. TRL turns off modules only.
        for module in self.model.modules():
            for name, value in vars(module).items():
                if "drop" in name and isinstance(value, float):
                    setattr(module, name, 0.0)

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.count_tokens(inputs["attention_mask"].sum())
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def score_pairs(self, inputs: Batch, accuracy: str) -> Score:
        """Of as many pairs as there are chosen answers; `accuracy` is TRL's word for it."""
        pairs = len(inputs["input_ids"]) // 2
        loss = super().compute_loss(self.model, inputs).item()
        share = self._metrics["eval"][accuracy][-1]
        # TRL piles up its metrics until somebody logs them.
        self._metrics["eval"].clear()
        return Score(loss * pairs, pairs, round(share * pairs))

    def step_metrics(self, **names: str) -> dict[str, float]:
        """TRL's metrics of the step under our names; one that no micro-batch had is left out."""
        metrics = {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
        self._metrics["train"].clear()
        return {ours: metrics[theirs] for ours, theirs in names.items() if theirs in metrics}


class DpoTrainer(ComparingTrainer, DPOTrainer):
    """Learns which of two answers is better, held to a reference: what the training started from.

    That is the model without its adapter, a frozen copy of an adapter that it continues, or a second model.
    """

    def score(self, inputs: Batch) -> Score:
        return self.score_pairs(inputs, "rewards/accuracies")

    def step_extras(self) -> dict[str, float]:
        return self.step_metrics(rewardMargin="rewards/margins", rewardAccuracy="rewards/accuracies")


class KtoTrainer(ComparingTrainer, KTOTrainer):
    """Learns which answers are good and which are not, held to a reference as DPO is (arXiv 2402.01306)."""

    def score(self, inputs: Batch) -> Score:
        """TRL's loss, whose terms it does not show. An answer is told right when its reward lies on its side of the reference point."""
        log_ratios, kl = self._log_ratios(inputs, ""), self._log_ratios(inputs, "KL_").mean().clamp(min=0)
        good = inputs["label"]
        gains = self.beta * (log_ratios - kl) * torch.where(good, 1.0, -1.0)
        weights = torch.where(good, self.desirable_weight, self.undesirable_weight)
        losses = weights * (1 - functional.sigmoid(gains))
        return Score(losses.sum().item(), len(losses), int((gains > 0).sum()))

    def step_extras(self) -> dict[str, float]:
        return self.step_metrics(rewardMargin="rewards/margins")

    def _log_ratios(self, inputs: Batch, prefix: str) -> torch.Tensor:
        """How much likelier the answers are to the model than to its reference: (rows,), nats."""
        policy = _answer_log_probs(self.model, inputs, prefix)
        with self._reference() as reference:
            return policy - _answer_log_probs(reference, inputs, prefix)

    @contextmanager
    def _reference(self) -> Iterator[torch.nn.Module]:
        if self.ref_model is not None:
            yield self.ref_model
            return
        with use_adapter(self.model, REFERENCE if REFERENCE in self.model.peft_config else None):
            yield self.model


class RewardModelTrainer(ComparingTrainer, RewardTrainer):
    """Learns to score answers so that the better of two gets more (Bradley-Terry)."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # TRL hands all of it to the model.
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return super().compute_loss(model, read, return_outputs, num_items_in_batch)

    def score(self, inputs: Batch) -> Score:
        return self.score_pairs({name: inputs[name] for name in ("input_ids", "attention_mask")}, "accuracy")

    def step_extras(self) -> dict[str, float]:
        return self.step_metrics(rewardMargin="margin", rewardAccuracy="accuracy")


def _answer_log_probs(model: torch.nn.Module, inputs: Batch, prefix: str) -> torch.Tensor:
    """Log-probability of each row's answer by TRL's own output layer: (rows,)."""
    ids, attended, answered = (inputs[f"{prefix}{name}"] for name in ("input_ids", "attention_mask", "completion_mask"))
    labels = ids.masked_fill(answered == 0, NO_LABEL)
    return model(input_ids=ids, attention_mask=attended, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(-1)


def _kto_options(recipe: Recipe) -> dict[str, Any]:
    kto = recipe.kto
    weights = {"desirable_weight": kto.desirable_weight, "undesirable_weight": kto.undesirable_weight}
    return {"beta": kto.beta, **weights, **_balance_options(recipe)}


def _balance_options(recipe: Recipe) -> dict[str, Any]:
    """What chooses a layer's experts is frozen under an adapter; else it is kept even, by the weight that the model's configuration names."""
    return {} if recipe.tuning == "full" else {"router_aux_loss_coef": 0.0}


@dataclass(frozen=True)
class Method:
    trainer: type[DurableTrainer]
    # TRL's, and what only this method sets in it.
    arguments: type[TrainingArguments]
    options: Callable[[Recipe], dict[str, Any]]
    read: Callable[[str], AnyShard]
    collator: type[Collator]
    # The model has one output, a reward, instead of one for each token.
    scores: bool = False
    # The model is held to what it was.
    has_reference: bool = False
    micro_batch_min: int = 1


METHODS: dict[str, Method] = {
    "sft": Method(
        SftTrainer,
        SFTConfig,
        lambda recipe: {"dataset_kwargs": {"skip_prepare_dataset": True}, **_balance_options(recipe)},
        read_shard,
        PadCollator,
    ),
    "dpo": Method(
        DpoTrainer,
        DPOConfig,
        lambda recipe: {"beta": recipe.dpo_beta, **_balance_options(recipe)},
        read_preference_shard,
        PreferenceCollator,
        has_reference=True,
    ),
    # Its KL term needs another row in the micro-batch.
    "kto": Method(KtoTrainer, KTOConfig, _kto_options, read_judged_shard, JudgedCollator, has_reference=True, micro_batch_min=2),
    "reward": Method(RewardModelTrainer, RewardConfig, lambda _: {}, read_preference_shard, PreferenceCollator, scores=True),
}
