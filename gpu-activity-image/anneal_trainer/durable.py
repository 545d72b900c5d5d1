"""TRL's trainer with exact resume: a run that is killed at any time and resumed gives the same losses and the same bytes.

What transformers 5.23 and TRL 1.16 leave open and this class closes: saves are atomic and verified; own counters survive a
restart; a loss that is not finite ends the run before anything is saved; SIGTERM saves at the step edge; the last checkpoint
knows that it is the last. Private methods overridden: `_save_checkpoint`, `_load_from_checkpoint`, `_determine_best_metric`,
`_get_train_sampler`; the versions are therefore pinned exactly and the kill tests guard every upgrade.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from anneal_trainer import checkpoints, interrupts
from anneal_trainer.adapters import WEIGHTS
from anneal_trainer.batches import LengthGroupedOrder
from anneal_trainer.checkpoints import Best
from anneal_trainer.files import naming_a_full_disk
from anneal_trainer.protocol import CheckpointCorrupt, EarlyStopping, Emit, NonFinite
from anneal_trainer.scoring import token_losses

PROGRESS = "progress.json"
BEST_WEIGHTS = "best_adapter.safetensors"


@dataclass
class Progress:
    """The run's counters across restarts; part of each checkpoint."""

    step: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    eval_loss: float | None = None
    best: Best | None = None
    evaluations_without_gain: int = 0
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "best": self.best.to_json() if self.best else None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Progress":
        return cls(**{**value, "best": Best.from_json(value["best"])})


class DurableTrainer(SFTTrainer):
    """Use: construct, `resume(folder)` or not, `run()`, then read `progress` and `final_weights()`."""

    # `compute_loss` divides by the labels of the whole effective batch itself.
    loss_is_scaled_for_ga = True

    def __init__(self, *, emit: Emit, order: LengthGroupedOrder, keep: int, early_stopping: EarlyStopping | None, **options: Any):
        super().__init__(**options)
        # Makes transformers count the labels of all micro-batches of a step, whatever the model's signature.
        self.model_accepts_loss_kwargs = True
        self.progress = Progress()
        # Kept with early stopping only. Part of each checkpoint, because the best step's own may lie on another host.
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._emit = emit
        self.order = order
        self._keep = keep
        self._early_stopping = early_stopping
        self._resumed_from: str | None = None
        self.step_started = 0.0
        self.add_callback(_StepEdge(self))

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def is_complete(self) -> bool:
        return self.progress.stopped_early or self.progress.step >= self.args.max_steps

    def resume(self, folder: str) -> None:
        """Takes over a verified checkpoint's counters and weights; optimizer, schedule and random state follow in `run`."""
        path = Path(folder)
        try:
            self.progress = Progress.from_json(json.loads((path / PROGRESS).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointCorrupt(f"Checkpoint {folder} has no usable {PROGRESS} ({error}); resume from an older one.") from error
        if (path / BEST_WEIGHTS).is_file():
            self._best_weights = load_file(path / BEST_WEIGHTS)
        self._load_from_checkpoint(folder)
        self._resumed_from = folder

    def final_weights(self) -> dict[str, torch.Tensor]:
        """What the run is for: with early stopping the best step's adapter, otherwise the last's."""
        return self._best_weights if self._best_weights is not None else _adapter_tensors(self.model)

    def run(self) -> None:
        """Trains from where `resume` left off to the end, to early stopping or to an interruption."""
        self.train(resume_from_checkpoint=self._resumed_from)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over the labels of the effective batch, so that accumulation changes nothing but rounding."""
        losses = token_losses(model, inputs)
        if model.training:
            self.progress.tokens += int(inputs["attention_mask"].sum())
        return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Leaves the random state as it was: how often one looks must not change the training."""
        with torch.random.fork_rng():
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, dataloader, description, *args, metric_key_prefix="eval", **kwargs) -> EvalLoopOutput:
        """Mean loss over all labels of the validation rows; transformers would average the means of batches."""
        self.model.eval()
        loss_sum, labels = 0.0, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in dataloader:
                losses = token_losses(self.model, self._prepare_inputs(inputs))
                loss_sum, labels = loss_sum + losses.sum().item(), labels + len(losses)
        self.model.train()
        metrics = {f"{metric_key_prefix}_loss": loss_sum / labels}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=self.num_examples(dataloader))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called by transformers after each optimizer step, before evaluation and saving."""
        self.control.should_log = False
        if "loss" not in logs:
            return
        step = self.state.global_step
        _require_finite(step, loss=logs["loss"], gradNorm=logs["grad_norm"])
        self.progress.step = step
        self.progress.loss_sum += logs["loss"]
        self._emit(
            {
                "ev": "step",
                "step": step,
                "of": self.args.max_steps,
                "epoch": self.state.epoch,
                "loss": logs["loss"],
                "gradNorm": logs["grad_norm"],
                "learningRate": logs["learning_rate"],
                "tokens": self.progress.tokens,
                "seconds": round(time.monotonic() - self.step_started, 4),
            }
        )

    def _determine_best_metric(self, metrics, trial) -> bool:
        """Called after each evaluation: keeps the best, and decides early stopping."""
        loss, progress = metrics["eval_loss"], self.progress
        _require_finite(progress.step, evalLoss=loss)
        self._emit({"ev": "metrics", "step": progress.step, "evalLoss": loss})
        threshold = self._early_stopping.threshold if self._early_stopping else 0.0
        gained = progress.best is None or progress.best.eval_loss - loss > threshold
        is_best = progress.best is None or loss < progress.best.eval_loss
        progress.eval_loss = loss
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        if is_best:
            progress.best = Best(progress.step, loss)
            self._best_weights = _adapter_tensors(self.model) if self._early_stopping else None
        if self._early_stopping and progress.evaluations_without_gain >= self._early_stopping.patience:
            progress.stopped_early = True
            self.control.should_training_stop = True
        self.control.should_save |= is_best or progress.stopped_early
        return is_best

    def _save_checkpoint(self, model, trial) -> None:
        started, step = time.monotonic(), self.progress.step
        with checkpoints.open_checkpoint(self.output, step) as folder:
            with naming_a_full_disk(folder):
                self._write_state(folder)
            sealed = checkpoints.seal(folder, self.output, step, self.is_complete, self.progress.best)
        self._emit(
            {
                "ev": "checkpoint_saved",
                "step": step,
                "path": str(sealed.path),
                "bytes": sealed.size_bytes,
                "terminal": self.is_complete,
                "best": self.progress.best.to_json() if self.progress.best else None,
                "seconds": round(time.monotonic() - started, 4),
            }
        )
        checkpoints.rotate(self.output, self._keep, self.progress.best)

    def _write_state(self, folder: Path) -> None:
        save_file(_adapter_tensors(self.model), folder / WEIGHTS, metadata={"format": "pt"})
        if self._best_weights is not None:
            save_file(self._best_weights, folder / BEST_WEIGHTS, metadata={"format": "pt"})
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        (folder / PROGRESS).write_text(json.dumps(self.progress.to_json(), sort_keys=True), "utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        set_peft_model_state_dict(self.model, load_file(Path(resume_from_checkpoint) / WEIGHTS))

    def _get_train_sampler(self, train_dataset=None) -> LengthGroupedOrder:
        return self.order


class _StepEdge(TrainerCallback):
    """What happens at the edges of optimizer steps, the only places where the state is whole."""

    def __init__(self, trainer: DurableTrainer):
        self._trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        loader = self._trainer.callback_handler.train_dataloader
        steps_per_epoch = math.ceil(len(loader) / args.gradient_accumulation_steps)
        # Set here, not through accelerate's `set_epoch`, which does not reach the sampler after skipped batches.
        self._trainer.order.epoch = state.global_step // steps_per_epoch

    def on_step_begin(self, args, state, control, **_):
        self._trainer.step_started = time.monotonic()

    def on_step_end(self, args, state, control, **_):
        is_last = state.global_step >= state.max_steps
        control.should_evaluate |= is_last and args.eval_strategy != "no"
        control.should_save |= is_last or interrupts.requested()
        control.should_training_stop |= is_last or interrupts.requested()


def _adapter_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the adapter on the host, in fp32."""
    state = get_peft_model_state_dict(model)
    return {name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous() for name, tensor in state.items()}


def _require_finite(step: int, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFinite(
                f"{name} is {value} at step {step}; nothing was saved since. Lower `train.learningRate` or `train.maxGradNorm`, "
                "or look for damaged rows."
            )
