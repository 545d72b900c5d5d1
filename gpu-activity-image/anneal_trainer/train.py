"""The `train` command: fine-tuning of a base model on a tokenised shard, from the start or from a checkpoint or warm state.

Two halves, so that a job parent can do the first once and fork the second: `prepare` loads model and data on the CPU and never touches
CUDA; `attempt` trains. With several processes the one that attempts is the leader of a gang and each rank builds its own trainer.
"""

import math
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, SFTConfig

from anneal_trainer import checkpoints, interrupts, ranks, warm_state
from anneal_trainer.adapters import add_adapter, count_parameters, lora_config, write_trained
from anneal_trainer.batches import (
    LengthGroupedOrder,
    PadCollator,
    PreferenceCollator,
    TokenDropout,
    as_dataset,
    as_packed_dataset,
    as_stream,
    packed_lengths,
)
from anneal_trainer.durable import Course, DurableTrainer, findings_only
from anneal_trainer.methods import DpoTrainer, SftTrainer
from anneal_trainer.models import load_base, pick_dtype, pick_training_device
from anneal_trainer.protocol import BadRequest, DataRejected, Emit, FromCheckpoint, FromWarmState, Interrupted, Recipe, TrainJob
from anneal_trainer.scoring import keeps_packed_rows_apart
from anneal_trainer.shards import PreferenceShard, Shard, read_preference_shard, read_shard
from anneal_trainer.state import TrainingState, read_state

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers", "numpy")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    rows: int
    steps_per_epoch: int
    steps: int


@dataclass(frozen=True)
class Inputs:
    """What a trainer reads: chat rows or preference pairs."""

    shard: Shard | PreferenceShard
    validation: Shard | PreferenceShard | None
    # The shard's rows, packed ones, or a stream.
    dataset: datasets.Dataset | datasets.IterableDataset
    # Of the rows of `dataset` that make an epoch.
    lengths: np.ndarray


@dataclass
class Prepared:
    job: TrainJob
    plan: Plan
    inputs: Inputs
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trainer_class: type[DurableTrainer]
    # Built already where that needs neither a gang nor a GPU.
    trainer: DurableTrainer | None = None


@dataclass(frozen=True)
class Start:
    """Where an attempt goes on from; found once, before any rank writes anything."""

    source: str
    step: int
    folder: str | None


def train(job: TrainJob, emit: Emit, trainer_class: type[DurableTrainer] | None = None) -> None:
    start = _find_start(job, job.resume)
    attempt(prepare(job, emit, trainer_class), job.resume, emit, start)


def prepare(job: TrainJob, emit: Emit, trainer_class: type[DurableTrainer] | None = None) -> Prepared:
    """Reads everything that all attempts have in common."""
    recipe = job.recipe
    if recipe.processes > 1:
        # A process with a thread pool cannot be forked.
        torch.set_num_threads(1)
    inputs = _read_inputs(job)
    plan = make_plan(inputs, recipe)
    emit({"ev": "phase", "phase": "load", "detail": job.base_name})
    device = pick_training_device(recipe)
    # Weights that are all trained need fp32, in which small updates are not lost; a GPU's own choice waits until it may be touched.
    dtype = torch.float32 if device == _CPU or recipe.tuning == "full" else "auto"
    base = load_base(job.base_model, _CPU, dtype)
    if recipe.packing and not keeps_packed_rows_apart(base):
        raise BadRequest(f"`train.packing` must be false with {job.base_name}: its attention sees across the rows that share one.")
    tokenizer = AutoTokenizer.from_pretrained(job.base_model, local_files_only=True)
    default_class = DpoTrainer if recipe.method == "dpo" else SftTrainer
    prepared = Prepared(job, plan, inputs, base, tokenizer, trainer_class or default_class)
    if recipe.processes == 1 and device == _CPU:
        prepared.trainer = _build_trainer(prepared)
        # transformers would do it at each attempt, a third of the time that a restart takes.
        prepared.trainer.create_optimizer()
    return prepared


def attempt(prepared: Prepared, resume: FromCheckpoint | FromWarmState | None, emit: Emit, start: Start | None = None) -> None:
    """Trains once; a job parent forks before it calls this. A `start` that was looked for already is not looked for again."""
    job, processes = prepared.job, prepared.job.recipe.processes
    start = start or _find_start(job, resume)
    if start.step > prepared.plan.steps:
        raise BadRequest(f"{start.folder} is beyond the {prepared.plan.steps} steps of this recipe; start afresh.")
    checkpoints.clear_after(Path(job.output), start.step)
    if processes == 1:
        _train_rank(prepared, start, emit)
        return

    def work(rank: int) -> None:
        _train_rank(prepared, start, emit if rank == 0 else findings_only(emit, rank))

    ranks.lead(processes, _backend(job.recipe), Path(job.output), work, emit)


def _train_rank(prepared: Prepared, start: Start, emit: Emit) -> None:
    job, plan = prepared.job, prepared.plan
    torch.set_num_threads(job.recipe.threads)
    trainer = prepared.trainer or _build_trainer(prepared)
    trainer.emit = emit
    if start.folder:
        trainer.restore(_read_start(job, start, trainer.args.process_index))
    _keep_warm(trainer, job, start, emit)
    emit({"ev": "phase", "phase": "train"})
    emit({"ev": "plan", "steps": plan.steps, "rows": plan.rows, **_parameters(trainer), "from": start.step, "source": start.source})
    # Ranks must not part: one of them may have been asked to stop a moment later.
    if trainer.may_train and not trainer.agree(interrupts.requested()):
        trainer.run()
    if not trainer.is_complete:
        raise Interrupted(trainer.progress.step)
    if trainer.args.process_index == 0:
        emit({"ev": "phase", "phase": "save"})
        emit({"ev": "done", "result": _export(job, plan, trainer)})


def make_plan(inputs: Inputs, recipe: Recipe) -> Plan:
    """Counts optimizer steps; an epoch's last step may be a smaller one."""
    batches_per_rank = math.ceil(math.ceil(len(inputs.lengths) / recipe.micro_batch) / recipe.processes)
    steps_per_epoch = math.ceil(batches_per_rank / recipe.accumulation)
    steps = math.ceil(recipe.epochs * steps_per_epoch)
    return Plan(len(inputs.shard), steps_per_epoch, min(steps, recipe.max_steps or steps))


def _backend(recipe: Recipe) -> str:
    return "gloo" if pick_training_device(recipe) == _CPU else "nccl"


def _read_inputs(job: TrainJob) -> Inputs:
    recipe = job.recipe
    read = read_preference_shard if recipe.method == "dpo" else read_shard
    shard = read(job.train)
    if not len(shard):
        raise DataRejected(f"The training shard {job.train} has no rows; look at the rejected rows.")
    validation = read(job.validation) if job.validation else None
    if recipe.streaming:
        return Inputs(shard, validation, as_stream(shard, recipe.seed), shard.lengths)
    if recipe.packing:
        packed = as_packed_dataset(shard)
        return Inputs(shard, validation, packed, packed_lengths(packed))
    return Inputs(shard, validation, as_dataset(shard), shard.lengths)


def _find_start(job: TrainJob, resume: FromCheckpoint | FromWarmState | None) -> Start:
    """Verifies what is resumed from, before anything slow is done."""
    match resume:
        case None:
            return Start("fresh", 0, None)
        case FromCheckpoint(path=path):
            return Start("checkpoint", checkpoints.verify(path)["step"], path)
        case FromWarmState(folder=folder):
            if job.warm is None:
                raise BadRequest("`resume.from` is `warm`, but `warm` is null; give the job its warm state.")
            return Start("warm", warm_state.newest_step(folder, job.warm, job.recipe.processes), folder)


def _read_start(job: TrainJob, start: Start, rank: int) -> TrainingState:
    if start.source == "warm":
        return warm_state.read(start.folder, job.warm, job.recipe.processes, rank, start.step)
    return read_state(start.folder, rank, job.recipe.processes)


def _keep_warm(trainer: DurableTrainer, job: TrainJob, start: Start, emit: Emit) -> None:
    if job.warm is None:
        return
    is_same_folder = start.source == "warm" and Path(start.folder) == Path(job.warm.folder)
    args = trainer.args
    resumed = start.step if is_same_folder else None
    live_in = trainer.live_in if args.device.type == "cpu" else None
    warm = warm_state.WarmState(job.warm, args.process_index, args.world_size, resumed, emit, trainer.agree, live_in)
    trainer.update_begins = warm.update_begins
    trainer.step_done = lambda trainer: warm.step_done(
        trainer.progress.step, trainer.is_complete, time.monotonic() - trainer.step_started, trainer.capture
    )


def _build_trainer(prepared: Prepared) -> DurableTrainer:
    job, recipe, inputs = prepared.job, prepared.job.recipe, prepared.inputs
    device = pick_training_device(recipe)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        if recipe.tuning == "lora":
            prepared.base.to(pick_dtype(device))
    return prepared.trainer_class(
        course=_make_course(prepared),
        validation_collator=_make_collator(prepared, dropout=None),
        args=_training_arguments(job, prepared.plan.steps, device, has_validation=bool(inputs.validation)),
        data_collator=_make_collator(prepared, _make_dropout(prepared)),
        train_dataset=inputs.dataset,
        eval_dataset=as_dataset(inputs.validation) if inputs.validation else None,
        processing_class=prepared.tokenizer,
        **_model_to_train(prepared),
    )


def _model_to_train(prepared: Prepared) -> dict[str, Any]:
    base, recipe = prepared.base, prepared.job.recipe
    if recipe.tuning == "full":
        return {"model": base}
    if recipe.method == "dpo":
        # Given an adapted model, TRL would keep a second, frozen adapter; without its adapter the model is the same reference.
        return {"model": base, "peft_config": lora_config(base, recipe.lora)}
    return {"model": add_adapter(base, recipe.lora, recipe.seed)}


def _make_course(prepared: Prepared) -> Course:
    recipe, plan = prepared.job.recipe, prepared.plan
    order = None if recipe.streaming else LengthGroupedOrder(prepared.inputs.lengths, recipe.order_batch or recipe.micro_batch, recipe.seed)
    epochs_per_step = recipe.micro_batch * recipe.accumulation / plan.rows if recipe.streaming else None
    return Course(order, epochs_per_step, recipe.keep, recipe.early_stopping, prepared.job.hole)


def _make_collator(prepared: Prepared, dropout: TokenDropout | None) -> PadCollator | PreferenceCollator:
    collator = PreferenceCollator if prepared.job.recipe.method == "dpo" else PadCollator
    return collator(prepared.tokenizer.pad_token_id or 0, dropout)


def _make_dropout(prepared: Prepared) -> TokenDropout | None:
    recipe, tokenizer = prepared.job.recipe, prepared.tokenizer
    if not recipe.token_dropout:
        return None
    is_keyed = prepared.job.hole != "unkeyed-collator"
    return TokenDropout(recipe.token_dropout, recipe.seed, len(tokenizer), tokenizer.all_special_ids, is_keyed)


def _training_arguments(job: TrainJob, steps: int, device: torch.device, has_validation: bool) -> SFTConfig | DPOConfig:
    recipe = job.recipe
    dtype = pick_dtype(device)
    method = DPOConfig if recipe.method == "dpo" else SFTConfig
    options = {"beta": recipe.dpo_beta} if recipe.method == "dpo" else {"dataset_kwargs": {"skip_prepare_dataset": True}}
    if recipe.processes > 1:
        # With unused parameters looked for, DDP keeps its first buckets; it would otherwise regroup them after the first step of
        # each attempt, and with them the order in which more than two ranks' gradients are added.
        options |= {"ddp_find_unused_parameters": True, "ddp_backend": _backend(recipe)}
    return method(
        output_dir=job.output,
        max_steps=steps,
        per_device_train_batch_size=recipe.micro_batch,
        per_device_eval_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        # transformers' own `constant` forgets the warm-up.
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=math.ceil(recipe.warmup_ratio * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        save_strategy="steps",
        # Ten a run, at least 10 steps apart so that saving stays cheap, at most 1000 so that little is lost.
        save_steps=recipe.save_steps or max(10, min(1000, math.ceil(steps / 10))),
        eval_strategy="steps" if has_validation else "no",
        eval_steps=recipe.eval_steps or math.ceil(steps / 4),
        # Every step is an event, and a loss that is not finite must show as it is.
        logging_steps=1,
        logging_nan_inf_filter=False,
        use_cpu=device.type == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        gradient_checkpointing=False,
        dataloader_num_workers=recipe.dataloader_workers,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        **options,
    )


def _parameters(trainer: DurableTrainer) -> dict[str, int]:
    trainable, total = count_parameters(trainer.model)
    return {"trainableParameters": trainable, "totalParameters": total}


def _export(job: TrainJob, plan: Plan, trainer: DurableTrainer) -> dict[str, Any]:
    progress, folder = trainer.progress, Path(job.output) / "adapter"
    trainer.finish()
    digest = write_trained(folder, trainer.model, job.base_name)
    return {
        "step": progress.step,
        "steps": plan.steps,
        "epochs": progress.step / plan.steps_per_epoch,
        "trainLoss": progress.loss_sum / progress.step,
        "evalLoss": progress.eval_loss,
        "best": progress.best.to_json() if progress.best else None,
        "tokens": progress.tokens,
        **_parameters(trainer),
        "adapter": str(folder),
        "weightsSha256": digest,
        "stoppedEarly": progress.stopped_early,
        "libraries": {"python": python_version(), **{name: version(name) for name in _LIBRARIES}},
    }
