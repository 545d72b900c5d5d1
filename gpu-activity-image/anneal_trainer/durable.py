"""A mixin over TRL's trainers that makes resume exact: a run killed at any time and resumed gives the same numbers and the same bytes.

What transformers 5.23 and TRL 1.16 leave open and this class closes: saves are atomic and verified; own counters survive a
restart; a loss that is not finite ends the run before anything is saved; SIGTERM saves at the step edge; the last checkpoint
knows that it is the last; all ranks of a gang decide alike. Private methods overridden: `_save_checkpoint`, `_load_from_checkpoint`,
`_load_optimizer_and_scheduler`, `_load_scaler`, `_load_rng_state`, `_maybe_log_save_evaluate`, `_determine_best_metric`,
`_get_train_sampler` and `_get_num_items_in_batch`; the versions are therefore pinned exactly and the kill tests guard every upgrade.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalLoopOutput

from anneal_trainer import checkpoints, interrupts, state
from anneal_trainer.adapters import make_precise, trained_parameters, weights_file
from anneal_trainer.batches import Collator, LengthGroupedOrder
from anneal_trainer.checkpoints import Best
from anneal_trainer.files import naming_a_full_disk
from anneal_trainer.protocol import EarlyStopping, Emit, Hole, Metric, NonFinite
from anneal_trainer.state import TrainingState


@dataclass
class Progress:
    """The run's counters across restarts; part of each checkpoint."""

    step: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    eval_loss: float | None = None
    eval_accuracy: float | None = None
    best: Best | None = None
    evaluations_without_gain: int = 0
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "best": self.best.to_json() if self.best else None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Progress":
        return cls(**{**value, "best": Best.from_json(value["best"])})

    def without_early_stopping(self) -> "Progress":
        return dataclasses.replace(self, eval_loss=None, eval_accuracy=None, best=None, evaluations_without_gain=0, stopped_early=False)


@dataclass(frozen=True)
class Course:
    """How a run goes, beyond what TRL's arguments say."""

    # None for a stream, which has its own order.
    order: LengthGroupedOrder | None
    # For a stream, whose epochs transformers does not see.
    epochs_per_step: float | None
    keep: int
    early_stopping: EarlyStopping | None
    hole: Hole | None
    # The step after which the run ends for now.
    pause_at: int | None = None
    # The best step's weights are kept, for the end.
    keeps_best: bool = False


@dataclass(frozen=True)
class Score:
    """Of a validation batch: the sum of the losses of so many things, and of how many answers or pairs it was right, where that is known."""

    loss_sum: float
    count: int
    right: int | None = None


class DurableTrainer(Trainer):
    """Stands before a TRL trainer in a class's bases. Use: construct, `restore` or not, `run()`, then read `progress` and weights."""

    def __init__(self, *, course: Course, validation_collator: Collator, **options: Any):
        super().__init__(**options)
        make_precise(self.model)
        self.course = course
        self.progress = Progress()
        # Ranks other than the first keep silent.
        self.emit: Emit = keep_silent
        # Called once a new step: before the optimizer changes anything, and after everything else of the step.
        self.update_begins: Callable[[], None] | None = None
        self.step_done: Callable[[DurableTrainer], None] | None = None
        self.step_started = 0.0
        # Of this rank since the last step edge.
        self.tokens_of_step = 0
        self._validation_collator = validation_collator
        self._watch(trained_parameters(self.model))
        self._living: dict[str, torch.Tensor] = {}
        # Parameters whose moments are among the living tensors.
        self._moments = -1
        self._resumed: TrainingState | None = None
        self._last_done = 0
        # An evaluation that the recipe does not ask for: early stopping and the best step know nothing of it.
        self._is_side_look = False
        # Of the last evaluation: its step and its loss.
        self._last_look: tuple[int, float] | None = None
        self.add_callback(_StepEdge(self))

    def _watch(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        """Says what is trained."""
        self._parameters = parameters
        self._names = {parameter: name for name, parameter in parameters.items()}
        # Part of each checkpoint, because the best step's own may lie on another host.
        self._best = {name: tensor.to("cpu", copy=True) for name, tensor in self._weights().items()} if self.course.keeps_best else {}

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def is_complete(self) -> bool:
        return self.progress.stopped_early or self.progress.step >= self.args.max_steps

    @property
    def may_train(self) -> bool:
        """Whether `run` has anything to do; transformers itself would train a step beyond the end."""
        return not self.is_complete or self.course.hole == "no-terminal-flag"

    @property
    def is_at_pause(self) -> bool:
        return self.course.pause_at is not None and self.progress.step >= self.course.pause_at and not self.is_complete

    def loss_at_pause(self) -> float | None:
        """Validation loss of the step at which the run waits; a run that was killed there looks again."""
        step = self.progress.step
        if self.eval_dataset is None:
            return None
        if self._last_look is None or self._last_look[0] != step:
            self._last_look = (step, self.evaluate()["eval_loss"])
        return self._last_look[1]

    def capture(self) -> TrainingState:
        """The state after a step: living tensors, as a rule the same ones all run long, and this rank's document."""
        if len(self.optimizer.state) != self._moments:
            # Once; again only where a parameter met its first gradient late (an expert, a step that fp16 skipped).
            self._moments = len(self.optimizer.state)
            weights = {f"weights/{name}": tensor for name, tensor in self._weights().items()}
            best = {f"best/{name}": tensor for name, tensor in self._best.items()}
            self._living = {**weights, **best, **state.optimizer_tensors(self.optimizer, self._names)}
        blob = {
            "step": self.progress.step,
            "progress": self.progress.to_json(),
            "trainer": dataclasses.asdict(self.state),
            "optimizer": state.optimizer_document(self.optimizer, self._names),
            "schedule": self.lr_scheduler.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            "random": state.capture_random(),
        }
        return TrainingState(self._living, blob)

    def live_in(self, tensors: dict[str, torch.Tensor]) -> None:
        """Goes on in other tensors than the captured ones, which have the same values by the same names."""
        given = TrainingState(tensors, {})
        for name, tensor in given.named("weights/").items():
            self._parameters[name].data = tensor
        state.replace_optimizer_tensors(self.optimizer, self._names, given)
        self._best = given.named("best/")
        self._living = tensors

    def restore(self, saved: TrainingState) -> None:
        """Takes over weights and counters; optimizer, schedule and random streams follow in `run`, where transformers makes them."""
        self.progress = Progress.from_json(saved.blob["progress"])
        if self.course.hole == "no-callback-state":
            self.progress = self.progress.without_early_stopping()
        self._take_over(saved)
        self._resumed = saved
        self._last_done = saved.step

    def _take_over(self, saved: TrainingState) -> None:
        state.copy_into(self._weights(), saved.named("weights/"))
        if best := saved.named("best/"):
            state.copy_into(self._best, best)

    def run(self) -> None:
        """Trains from where `restore` left off to the end, to early stopping or to an interruption."""
        if self._resumed is None:
            self.train()
            return
        # transformers reads how far it was from a file, and from nothing else.
        position = self.output / f".checkpoint-position-{self.args.process_index}"
        position.mkdir(parents=True, exist_ok=True)
        (position / TRAINER_STATE_NAME).write_text(json.dumps(self._resumed.blob["trainer"]), "utf-8")
        try:
            self.train(resume_from_checkpoint=str(position))
        finally:
            shutil.rmtree(position, ignore_errors=True)

    def make_whole(self) -> None:
        """Every rank calls it after the last step: from then on the first one's model holds everything, whatever the strategy."""

    def load_best(self) -> None:
        """Puts the best step's weights into the model; for the end only."""
        state.copy_into(self._weights(), self._best)

    @property
    def best_metric(self) -> Metric:
        return self.course.early_stopping.metric if self.course.early_stopping else "evalLoss"

    def _weights(self) -> dict[str, torch.Tensor]:
        """Looked up each time: accelerate may move a model to `cpu:0`, which is a copy to torch."""
        return {name: state.local_part(parameter.detach()) for name, parameter in self._parameters.items()}

    def agree(self, value: int, how: Any = distributed.ReduceOp.MAX) -> int:
        """One number out of all ranks' numbers; every rank must call it."""
        if self.args.world_size == 1:
            return value
        shared = torch.tensor([value], device=self.args.device)
        distributed.all_reduce(shared, how)
        return int(shared)

    def repeated_rows(self) -> int:
        """How many rows, the last ones of the next step's last micro-batch, accelerate has put there so that ranks end an epoch together."""
        args, order = self.args, self.course.order
        if args.world_size == 1 or order is None or (self.state.global_step + 1) % self.steps_per_epoch:
            return 0
        micro_batch = args.per_device_train_batch_size
        before = (self.batches_per_epoch - 1) * args.world_size + args.process_index
        return micro_batch - min(micro_batch, max(0, len(order) - before * micro_batch))

    @property
    def batches_per_epoch(self) -> int:
        """Of each rank."""
        return len(self.callback_handler.train_dataloader)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.args.gradient_accumulation_steps)

    def count_tokens(self, attended: torch.Tensor | int) -> None:
        if self.model.training:
            self.tokens_of_step += int(attended)

    def score(self, inputs: dict[str, torch.Tensor]) -> Score:
        raise NotImplementedError

    def step_extras(self) -> dict[str, float]:
        """What a method reports of a step besides the loss."""
        return {}

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """All validation rows, unchanged, on every rank: nothing is padded and nothing needs to be put together."""
        return DataLoader(self.eval_dataset, batch_size=self.args.eval_batch_size, collate_fn=self._validation_collator)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Leaves the random state as it was: how often one looks must not change the training."""
        self.emit({"ev": "phase", "phase": "evaluate"})
        with torch.random.fork_rng():
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, dataloader, description, *args, metric_key_prefix="eval", **kwargs) -> EvalLoopOutput:
        """Means over all that is scored; transformers would average the means of batches."""
        self.model.eval()
        scores: list[Score] = []
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in dataloader:
                scores.append(self.score(self._prepare_inputs(inputs)))
        self.model.train()
        count = sum(score.count for score in scores)
        metrics = {f"{metric_key_prefix}_loss": sum(score.loss_sum for score in scores) / count}
        if all(score.right is not None for score in scores):
            metrics[f"{metric_key_prefix}_accuracy"] = sum(score.right for score in scores) / count
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
        epochs_per_step = self.course.epochs_per_step
        self.emit(
            {
                "ev": "step",
                "step": step,
                "of": self.args.max_steps,
                "epoch": self.state.epoch if epochs_per_step is None else step * epochs_per_step,
                "loss": logs["loss"],
                "gradNorm": logs["grad_norm"],
                "learningRate": logs["learning_rate"],
                "tokens": self.progress.tokens,
                "seconds": round(time.monotonic() - self.step_started, 4),
                **self.step_extras(),
            }
        )

    def _maybe_log_save_evaluate(self, *args, **kwargs) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        # It is called again at the end of each epoch.
        if self.progress.step > self._last_done:
            self._last_done = self.progress.step
            if self.step_done:
                self.step_done(self)

    def _determine_best_metric(self, metrics, trial) -> bool:
        """Called after each evaluation: keeps the best, and decides early stopping."""
        loss, progress, early_stopping = metrics["eval_loss"], self.progress, self.course.early_stopping
        _require_finite(progress.step, evalLoss=loss)
        found = Best(progress.step, loss, metrics.get("eval_accuracy"))
        self.emit({"ev": "metrics", **found.to_json()})
        self._last_look = (progress.step, loss)
        if self._is_side_look:
            return False
        threshold = early_stopping.threshold if early_stopping else 0.0
        gain = found.gain_over(progress.best, self.best_metric)
        gained, is_best = gain > threshold, gain > 0
        progress.eval_loss, progress.eval_accuracy = loss, found.eval_accuracy
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        if is_best:
            progress.best = found
            if self._best:
                state.copy_into(self._best, self._weights())
        if early_stopping and progress.evaluations_without_gain >= early_stopping.patience:
            progress.stopped_early = True
            self.control.should_training_stop = True
        self.control.should_save |= is_best or progress.stopped_early
        return is_best

    def _save_checkpoint(self, model, trial) -> None:
        randoms = self._gather(state.capture_random())
        if self.args.process_index == 0:
            with self._new_checkpoint() as draft, naming_a_full_disk(draft.folder):
                state.write_state(draft.folder, self.capture(), randoms, weights_file(self.model))
        if self.args.world_size > 1:
            distributed.barrier()

    @contextmanager
    def _new_checkpoint(self) -> Iterator[checkpoints.Draft]:
        """For the rank that seals what the block has written; on each host at most one."""
        self.emit({"ev": "phase", "phase": "save"})
        started, step, best = time.monotonic(), self.progress.step, self.progress.best
        is_terminal = self.is_complete and self.course.hole != "no-terminal-flag"
        with checkpoints.open_checkpoint(self.output, step) as folder:
            draft = checkpoints.Draft(folder)
            yield draft
            sealed = checkpoints.seal(folder, self.output, step, is_terminal, best, draft.counted)
        self.emit(
            {
                "ev": "checkpoint_saved",
                "step": step,
                "path": str(sealed.path),
                "bytes": sealed.size_bytes,
                "terminal": is_terminal,
                "best": best.to_json() if best else None,
                "seconds": round(time.monotonic() - started, 4),
            }
        )
        checkpoints.rotate(self.output, self.course.keep, best)

    def _gather(self, document: Any) -> list[Any]:
        if self.args.world_size == 1:
            return [document]
        documents: list[Any] = [None] * self.args.world_size
        distributed.all_gather_object(documents, document)
        return documents

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Done by `restore`."""

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        if self._resumed is None:
            return
        self._load_optimizer(self._resumed)
        self.lr_scheduler.load_state_dict(state.saved_schedule(self.optimizer, self._resumed))
        # The tensors are all copied now.
        self._resumed = TrainingState({}, self._resumed.blob)

    def _load_optimizer(self, saved: TrainingState) -> None:
        state.load_optimizer(self.optimizer, self._names, saved)

    def _load_scaler(self, checkpoint) -> None:
        if self._resumed and self._resumed.blob["scaler"]:
            self.accelerator.scaler.load_state_dict(self._resumed.blob["scaler"])

    def _load_rng_state(self, checkpoint) -> None:
        """Called when the batches of the resumed step are there: making them must not draw from the streams."""
        if self._resumed:
            state.restore_random(self._resumed.blob["random"], (self.args.seed, self._resumed.step, self.args.process_index))

    def _get_train_sampler(self, train_dataset=None) -> LengthGroupedOrder | None:
        return self.course.order


class _StepEdge(TrainerCallback):
    """What happens at the edges of optimizer steps, the only places where the state is whole."""

    def __init__(self, trainer: DurableTrainer):
        self._trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        order = self._trainer.course.order
        if order is None:
            return
        # Set here, not through accelerate's `set_epoch`, which does not reach the sampler after skipped batches.
        order.epoch = self._trainer.data_collator.epoch = state.global_step // self._trainer.steps_per_epoch

    def on_step_begin(self, args, state, control, **_):
        self._trainer.step_started = time.monotonic()

    def on_pre_optimizer_step(self, args, state, control, **_):
        if self._trainer.update_begins:
            self._trainer.update_begins()

    def on_step_end(self, args, state, control, **_):
        trainer = self._trainer
        trainer.progress.tokens += trainer.agree(trainer.tokens_of_step, distributed.ReduceOp.SUM)
        trainer.tokens_of_step = 0
        # In one number: every agreement of the ranks costs a message.
        request = trainer.agree(2 * interrupts.requested() + interrupts.take_save_request())
        is_stopping = request >= 2
        is_last = state.global_step >= state.max_steps
        is_pause = state.global_step == trainer.course.pause_at
        trainer._is_side_look = is_pause and not is_last and not control.should_evaluate
        control.should_evaluate |= (is_last or is_pause) and args.eval_strategy != "no"
        control.should_save |= is_last or is_pause or request > 0
        control.should_training_stop |= is_last or is_pause or is_stopping


def keep_silent(event: dict[str, Any]) -> None:
    """An `emit` that nobody hears."""


def own_words(emit: Emit, rank: int) -> Emit:
    """An `emit` for a rank that speaks only of what is wrong with itself, and of what it has saved on a host of its own."""

    def emit_own(event: dict[str, Any]) -> None:
        match event["ev"]:
            case "finding":
                emit({**event, "message": f"Rank {rank}: {event['message']}"})
            case "checkpoint_saved":
                emit(event)

    return emit_own


def _require_finite(step: int, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFinite(
                f"{name} is {value} at step {step}; nothing was saved since. Lower `train.learningRate` or `train.maxGradNorm`, "
                "or look for damaged rows."
            )
