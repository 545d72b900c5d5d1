"""The `train` command: fine-tuning of a base model on a tokenised shard, from the start or from a checkpoint or warm state.

Two halves, so that a job parent can do the first once and fork the second: `prepare` loads model and data on the CPU and never touches
CUDA; `attempt` trains. With several processes the one that attempts is the leader of a gang and each rank builds its own trainer;
ranks that torchrun has started do both halves themselves.
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
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from anneal_trainer import bitsandbytes_gate, checkpoints, interrupts, ranks, schedules, shares, strategies, warm_state
from anneal_trainer.adapters import add_adapter, count_parameters, freeze_sight, keep_gradients_from_sight, load_adapter, lora_config
from anneal_trainer.batches import (
    Collator,
    ImageCollator,
    LengthGroupedOrder,
    TokenDropout,
    as_dataset,
    as_stream,
)
from anneal_trainer.durable import Course, DurableTrainer, own_words
from anneal_trainer.export import keeps_best, write_outputs
from anneal_trainer.images import ImageReader, media_beside
from anneal_trainer.methods import METHODS
from anneal_trainer.models import load_base, load_mapped, load_quantised, load_tokenizer, own_gpu, pick_training_device, settle
from anneal_trainer.packing import pack_rows
from anneal_trainer.protocol import BadRequest, DataRejected, Emit, FromCheckpoint, FromWarmState, Interrupted, Recipe, TrainJob
from anneal_trainer.scoring import keeps_packed_rows_apart
from anneal_trainer.shards import AnyShard, shows_images
from anneal_trainer.state import TrainingState

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers", "numpy")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    rows: int
    steps_per_epoch: int
    steps: int


@dataclass(frozen=True)
class Inputs:
    """What a trainer reads."""

    shard: AnyShard
    validation: AnyShard | None
    # The shard's rows, packed ones, or a stream.
    dataset: datasets.Dataset | datasets.IterableDataset
    # Of the rows of `dataset` that make an epoch.
    lengths: np.ndarray


@dataclass
class Prepared:
    job: TrainJob
    plan: Plan
    inputs: Inputs
    # None where only the trainer itself may load it.
    base: PreTrainedModel | None
    # What the model is held to, where that is not the base beneath an adapter.
    reference: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    trainer_class: type[DurableTrainer]
    # None where the base model reads text alone.
    images: ImageReader | None = None
    # Built already where that needs neither a gang nor a GPU.
    trainer: DurableTrainer | None = None


@dataclass(frozen=True)
class Start:
    """Where an attempt goes on from; found once, before any rank writes anything."""

    source: str
    step: int
    folder: str | None


def train(job: TrainJob, emit: Emit, trainer_class: type[DurableTrainer] | None = None) -> None:
    launched = ranks.launched_rank(job.recipe.processes, job.recipe.hosts)
    start = _find_start(job, job.resume)
    if launched:
        emit = own_words(emit, launched)
    attempt(prepare(job, emit, trainer_class), job.resume, emit, start)


def prepare(job: TrainJob, emit: Emit, trainer_class: type[DurableTrainer] | None = None) -> Prepared:
    """Reads everything that all attempts have in common."""
    recipe = job.recipe
    if recipe.world > 1:
        # A process with a thread pool cannot be forked.
        torch.set_num_threads(1)
    inputs = read_inputs(job)
    plan = make_plan(inputs, recipe)
    emit({"ev": "phase", "phase": "load", "detail": job.base_name})
    device = pick_training_device(recipe)
    # A quantised model stays on the device that it was loaded on, and a parent must not touch a GPU.
    base = None if recipe.tuning == "qlora" and device != _CPU else _load_base(job, device)
    reference = _load_base(job, device) if recipe.tuning == "full" and METHODS[recipe.method].has_reference else None
    tokenizer = load_tokenizer(job.base_model)
    prepared = Prepared(job, plan, inputs, base, reference, tokenizer, trainer_class or METHODS[recipe.method].trainer)
    if shows_images(inputs.shard):
        prepared.images = ImageReader(Path(job.base_model), media_beside(job.train))
        # Or every attempt would read the processor anew.
        prepared.images.load()
    if recipe.world == 1 and device == _CPU:
        prepared.trainer = _build_trainer(prepared)
        # transformers would do it at each attempt, a third of the time that a restart takes.
        prepared.trainer.create_optimizer()
    return prepared


def _load_base(job: TrainJob, device: torch.device) -> PreTrainedModel:
    """On the CPU, but for a quantised one."""
    recipe, scores = job.recipe, METHODS[job.recipe.method].scores
    folder = (job.parent if recipe.tuning == "full" else None) or job.base_model
    # Decides a new head.
    torch.manual_seed(recipe.seed)
    if recipe.tuning == "qlora":
        base = load_quantised(folder, device, strategies.pick_dtype(recipe, device), recipe.qlora.bits, scores)
    elif _is_mapped(recipe, device):
        base = load_mapped(folder, scores)
    else:
        # Weights that are all trained need fp32, in which small updates are not lost; a GPU's own choice waits until it may be touched.
        dtype = torch.float32 if device == _CPU or recipe.tuning == "full" else "auto"
        base = load_base(folder, _CPU, dtype, scores)
    if recipe.tuning == "full":
        freeze_sight(base)
    keep_gradients_from_sight(base)
    if recipe.packing and not keeps_packed_rows_apart(base):
        raise BadRequest(f"`train.packing` must be false with {job.base_name}: its attention sees across the rows that share one.")
    return base


def _is_mapped(recipe: Recipe, device: torch.device) -> bool:
    """Whether each rank makes precise weights of those in the files, on its own GPU or of its own part. A parent on CPUs makes them once for
    all its trainers, and DeepSpeed wants them before it cuts."""
    return recipe.tuning == "full" and (recipe.strategy == "fsdp" or (recipe.strategy == "ddp" and device != _CPU))


def _settle_on_gpu(prepared: Prepared, device: torch.device) -> None:
    """Weights become what they are computed in, on the rank's own GPU where it has all of them; FSDP and DeepSpeed do it with what they cut."""
    recipe, narrow = prepared.job.recipe, strategies.pick_dtype(prepared.job.recipe, device)
    is_whole = recipe.strategy == "ddp"
    if recipe.tuning == "lora":
        settle(prepared.base, own_gpu() if is_whole else _CPU, narrow)
    elif recipe.tuning == "full" and is_whole:
        settle(prepared.base, own_gpu(), torch.float32)
        if prepared.reference:
            settle(prepared.reference, own_gpu(), narrow)


def attempt(prepared: Prepared, resume: FromCheckpoint | FromWarmState | None, emit: Emit, start: Start | None = None) -> None:
    """Trains once; a job parent forks before it calls this. A `start` that was looked for already is not looked for again."""
    job, recipe = prepared.job, prepared.job.recipe
    start = start or _find_start(job, resume)
    if start.step > prepared.plan.steps:
        raise BadRequest(f"{start.folder} is beyond the {prepared.plan.steps} steps of this recipe; start afresh.")
    launched = ranks.launched_rank(recipe.processes, recipe.hosts)
    if not launched:
        checkpoints.clear_after(Path(job.output), start.step)
    if launched is not None and recipe.world > 1:
        ranks.join_launched(_backend(recipe))
    if launched is not None or recipe.world == 1:
        _train_rank(prepared, start, emit)
        return

    def work(rank: int) -> None:
        _train_rank(prepared, start, emit if rank == 0 else own_words(emit, rank))

    ranks.lead(recipe.processes, _backend(recipe), Path(job.output), work, emit, recipe.hosts, job.gang)


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
    if trainer.may_train and not trainer.is_at_pause and not trainer.agree(interrupts.requested()):
        trainer.run()
    if not trainer.is_complete:
        if trainer.is_at_pause:
            emit({"ev": "paused", "step": trainer.progress.step, "evalLoss": trainer.loss_at_pause()})
        raise Interrupted(trainer.progress.step)
    trainer.make_whole()
    if trainer.args.process_index == 0:
        emit({"ev": "phase", "phase": "save"})
        emit({"ev": "done", "result": _export(prepared, trainer)})


def make_plan(inputs: Inputs, recipe: Recipe) -> Plan:
    """Counts optimizer steps; an epoch's last step may be a smaller one."""
    batches_per_rank = math.ceil(math.ceil(len(inputs.lengths) / recipe.micro_batch) / recipe.world)
    steps_per_epoch = math.ceil(batches_per_rank / recipe.accumulation)
    steps = math.ceil(recipe.epochs * steps_per_epoch)
    return Plan(len(inputs.shard), steps_per_epoch, min(steps, recipe.max_steps or steps))


def _backend(recipe: Recipe) -> str:
    return "gloo" if pick_training_device(recipe) == _CPU else "nccl"


def read_inputs(job: TrainJob) -> Inputs:
    recipe = job.recipe
    method = METHODS[recipe.method]
    _require_fit(job)
    shard = method.read(job.train)
    if not len(shard):
        raise DataRejected(f"The training shard {job.train} has no rows; look at the rejected rows.")
    validation = method.read(job.validation) if job.validation else None
    if recipe.streaming:
        return Inputs(shard, validation, as_stream(shard, recipe.seed), shard.lengths)
    if recipe.packing:
        packed = pack_rows(shard)
        return Inputs(shard, validation, packed.dataset, packed.lengths)
    return Inputs(shard, validation, as_dataset(shard), shard.lengths)


def _require_fit(job: TrainJob) -> None:
    """What the spec alone could not refuse: memory makes micro-batches smaller, and a validation set may be empty."""
    recipe, method = job.recipe, METHODS[job.recipe.method]
    if recipe.micro_batch < method.micro_batch_min:
        raise BadRequest(
            f"`train.microBatch` must be at least {method.micro_batch_min} with `method: {recipe.method}`, got {recipe.micro_batch}."
        )
    best = [name for name in recipe.outputs or [] if name.endswith("best")]
    if best and not job.validation:
        raise BadRequest(f"`train.outputs` names {best[0]}, but there are no validation rows; raise `data.split.validation`.")


def _find_start(job: TrainJob, resume: FromCheckpoint | FromWarmState | None) -> Start:
    """Verifies what is resumed from, before anything slow is done."""
    match resume:
        case None:
            return Start("fresh", 0, None)
        case FromCheckpoint(path=path):
            here, world = _ranks_here(job), job.recipe.world
            return Start("checkpoint", checkpoints.verify(path, lambda names: shares.elsewhere(names, here, world))["step"], path)
        case FromWarmState(folder=folder):
            if job.warm is None:
                raise BadRequest("`resume.from` is `warm`, but `warm` is null; give the job its warm state.")
            step = warm_state.newest_step(folder, job.warm, job.recipe.world) if resume.step is None else resume.step
            return Start("warm", step, folder)


def _ranks_here(job: TrainJob) -> range:
    processes, hosts = job.recipe.processes, job.recipe.hosts
    launched = ranks.launched_rank(processes, hosts) or 0
    return ranks.ranks_of(job.gang.host if job.gang else launched // processes, processes)


def _read_start(job: TrainJob, start: Start, rank: int) -> TrainingState:
    if start.source == "warm":
        return warm_state.read(start.folder, job.warm, job.recipe.world, rank, start.step)
    return strategies.read_checkpoint(start.folder, rank, job.recipe)


def _keep_warm(trainer: DurableTrainer, job: TrainJob, start: Start, emit: Emit) -> None:
    if job.warm is None:
        return
    is_same_folder = start.source == "warm" and Path(start.folder) == Path(job.warm.folder)
    args = trainer.args
    resumed = start.step if is_same_folder else None
    # Ranks that hold parts of tensors have other ones than the model.
    live_in = trainer.live_in if args.device.type == "cpu" and job.recipe.strategy == "ddp" else None
    warm = warm_state.WarmState(job.warm, args.process_index, args.world_size, resumed, emit, trainer.agree, live_in)
    trainer.update_begins = warm.update_begins
    trainer.step_done = lambda trainer: warm.step_done(
        trainer.progress.step, trainer.is_complete, time.monotonic() - trainer.step_started, trainer.capture
    )


def _build_trainer(prepared: Prepared) -> DurableTrainer:
    job, recipe, inputs = prepared.job, prepared.job.recipe, prepared.inputs
    device = pick_training_device(recipe)
    if recipe.optimizer == "adamw8bit":
        bitsandbytes_gate.let_in()
    prepared.base = prepared.base or _load_base(job, device)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        _settle_on_gpu(prepared, device)
    trainer = strategies.trainer_class(prepared.trainer_class, recipe)(
        course=_make_course(prepared),
        validation_collator=_make_collator(prepared, dropout=None),
        args=_training_arguments(job, prepared.plan, device, has_validation=bool(inputs.validation)),
        data_collator=_make_collator(prepared, _make_dropout(prepared)),
        train_dataset=inputs.dataset,
        eval_dataset=as_dataset(inputs.validation) if inputs.validation else None,
        processing_class=prepared.tokenizer,
        **_model_to_train(prepared),
    )
    if job.parent and recipe.tuning == "qlora":
        # TRL has rounded them.
        load_adapter(trainer.model, job.parent)
    return trainer


def _model_to_train(prepared: Prepared) -> dict[str, Any]:
    base, recipe = prepared.base, prepared.job.recipe
    has_reference = METHODS[recipe.method].has_reference
    if recipe.tuning == "full":
        return {"model": base, "ref_model": prepared.reference} if has_reference else {"model": base}
    parent = prepared.job.parent
    if has_reference and not parent:
        # Given an adapted model, TRL would keep a second, frozen adapter; without its adapter the model is the same reference.
        return {"model": base, "peft_config": lora_config(base, recipe)}
    model = add_adapter(base, recipe)
    if parent:
        load_adapter(model, parent)
    return {"model": model}


def _make_course(prepared: Prepared) -> Course:
    recipe, plan = prepared.job.recipe, prepared.plan
    order = None if recipe.streaming else LengthGroupedOrder(prepared.inputs.lengths, recipe.order_batch or recipe.micro_batch, recipe.seed)
    epochs_per_step = recipe.micro_batch * recipe.accumulation / plan.rows if recipe.streaming else None
    return Course(order, epochs_per_step, recipe.keep, recipe.early_stopping, prepared.job.hole, _pause_step(prepared), keeps_best(recipe))


def _pause_step(prepared: Prepared) -> int | None:
    share, steps = prepared.job.pause_at, prepared.plan.steps
    # A little less, so that a share such as 0.7 of 10 steps is 7, whatever its rounding.
    return None if share is None else max(1, math.ceil(share * steps - 1e-6))


def _make_collator(prepared: Prepared, dropout: TokenDropout | None) -> Collator:
    if prepared.images is not None:
        return ImageCollator(prepared.tokenizer.pad_token_id, prepared.images)
    return METHODS[prepared.job.recipe.method].collator(prepared.tokenizer.pad_token_id, dropout)


def _make_dropout(prepared: Prepared) -> TokenDropout | None:
    recipe, tokenizer = prepared.job.recipe, prepared.tokenizer
    if not recipe.token_dropout:
        return None
    is_keyed = prepared.job.hole != "unkeyed-collator"
    return TokenDropout(recipe.token_dropout, recipe.seed, len(tokenizer), tokenizer.all_special_ids, is_keyed)


def _training_arguments(job: TrainJob, plan: Plan, device: torch.device, has_validation: bool) -> TrainingArguments:
    recipe, steps = job.recipe, plan.steps
    method = METHODS[recipe.method]
    dtype = strategies.pick_dtype(recipe, device)
    options = method.options(recipe)
    options |= strategies.arguments(recipe, _backend(recipe))
    return method.arguments(
        output_dir=job.output,
        max_steps=steps,
        per_device_train_batch_size=recipe.micro_batch,
        per_device_eval_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        **schedules.arguments(recipe, steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        save_strategy="steps",
        # Without a supervisor, which asks for saves itself: ten a run, 10 to 1000 steps apart.
        save_steps=_interval(recipe.save_steps, plan) or max(10, min(1000, math.ceil(steps / 10))),
        eval_strategy="steps" if has_validation else "no",
        eval_steps=_interval(recipe.eval_steps, plan) or math.ceil(steps / 4),
        # Every step is an event, and a loss that is not finite must show as it is.
        logging_steps=1,
        logging_nan_inf_filter=False,
        use_cpu=device.type == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        gradient_checkpointing=recipe.gradient_checkpointing or recipe.tuning == "qlora",
        optim="adamw_bnb_8bit" if recipe.optimizer == "adamw8bit" else "adamw_torch_fused",
        dataloader_num_workers=recipe.dataloader_workers,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        **options,
    )


def _interval(steps: int | str | None, plan: Plan) -> int | None:
    """In steps: transformers' own epochs would lose what was due at an epoch's edge to a kill there."""
    return plan.steps_per_epoch if steps == "epoch" else steps


def _parameters(trainer: DurableTrainer) -> dict[str, int]:
    trainable, total = count_parameters(trainer.model)
    return {"trainableParameters": trainable, "totalParameters": total}


def _export(prepared: Prepared, trainer: DurableTrainer) -> dict[str, Any]:
    progress, plan = trainer.progress, prepared.plan
    return {
        "step": progress.step,
        "steps": plan.steps,
        "epochs": progress.step / plan.steps_per_epoch,
        "trainLoss": progress.loss_sum / progress.step,
        "evalLoss": progress.eval_loss,
        **({} if progress.eval_accuracy is None else {"evalAccuracy": progress.eval_accuracy}),
        "best": progress.best.to_json() if progress.best else None,
        "tokens": progress.tokens,
        **_parameters(trainer),
        **write_outputs(prepared.job, trainer, prepared.tokenizer),
        "stoppedEarly": progress.stopped_early,
        "libraries": {"python": python_version(), **{name: version(name) for name in _libraries(prepared.job.recipe)}},
    }


def _libraries(recipe: Recipe) -> tuple[str, ...]:
    quantised = ("bitsandbytes",) if recipe.tuning == "qlora" or recipe.optimizer == "adamw8bit" else ()
    return _LIBRARIES + quantised + (("deepspeed",) if recipe.strategy == "deepspeed" else ())
