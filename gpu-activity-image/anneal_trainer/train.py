"""The `train` command: LoRA fine-tuning of a base model on a tokenised shard, from the start or from a checkpoint."""

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from transformers import AutoTokenizer
from trl import SFTConfig

from anneal_trainer import checkpoints, interrupts
from anneal_trainer.adapters import add_adapter, count_parameters, write_adapter
from anneal_trainer.batches import LengthGroupedOrder, PadCollator, as_dataset
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.models import load_base, pick_device, pick_dtype
from anneal_trainer.protocol import BadRequest, DataRejected, Emit, Interrupted, Recipe, TrainJob
from anneal_trainer.shards import Shard, read_shard

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers", "numpy")


@dataclass(frozen=True)
class Plan:
    rows: int
    steps_per_epoch: int
    steps: int


def train(job: TrainJob, emit: Emit, trainer_class: type[DurableTrainer] = DurableTrainer) -> None:
    from_step = checkpoints.verify(job.resume)["step"] if job.resume else 0
    shard = _read_training_shard(job.train)
    plan = make_plan(len(shard), job.recipe)
    if from_step > plan.steps:
        raise BadRequest(f"Checkpoint {job.resume} is beyond the {plan.steps} steps of this recipe; start afresh.")
    checkpoints.clear_after(Path(job.output), from_step)
    emit({"ev": "phase", "phase": "load", "detail": job.base_name})
    trainer = _build_trainer(job, shard, plan, emit, trainer_class)
    if job.resume:
        trainer.resume(job.resume)
    emit({"ev": "phase", "phase": "train"})
    emit({"ev": "plan", "steps": plan.steps, "rows": plan.rows, **_parameters(trainer), "from": from_step})
    if not trainer.is_complete and not interrupts.requested():
        trainer.run()
    if not trainer.is_complete:
        raise Interrupted(trainer.progress.step)
    emit({"ev": "phase", "phase": "save"})
    emit({"ev": "done", "result": _export(job, plan, trainer)})


def make_plan(rows: int, recipe: Recipe) -> Plan:
    """Counts optimizer steps; an epoch's last step may be a smaller one."""
    steps_per_epoch = math.ceil(math.ceil(rows / recipe.micro_batch) / recipe.accumulation)
    steps = math.ceil(recipe.epochs * steps_per_epoch)
    return Plan(rows, steps_per_epoch, min(steps, recipe.max_steps or steps))


def _read_training_shard(file: str) -> Shard:
    shard = read_shard(file)
    if not len(shard):
        raise DataRejected(f"The training shard {file} has no rows; look at the rejected rows.")
    return shard


def _build_trainer(job: TrainJob, shard: Shard, plan: Plan, emit: Emit, trainer_class: type[DurableTrainer]) -> DurableTrainer:
    torch.set_num_threads(job.recipe.threads)
    device = pick_device()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = AutoTokenizer.from_pretrained(job.base_model, local_files_only=True)
    model = add_adapter(load_base(job.base_model, device), job.recipe.lora, job.recipe.seed)
    validation = read_shard(job.validation) if job.validation else None
    return trainer_class(
        emit=emit,
        order=LengthGroupedOrder(shard.lengths, job.recipe.micro_batch, job.recipe.seed),
        keep=job.recipe.keep,
        early_stopping=job.recipe.early_stopping,
        model=model,
        args=_training_arguments(job, plan.steps, device, has_validation=bool(validation)),
        data_collator=PadCollator(tokenizer.pad_token_id or 0),
        train_dataset=as_dataset(shard),
        eval_dataset=as_dataset(validation) if validation else None,
        processing_class=tokenizer,
    )


def _training_arguments(job: TrainJob, steps: int, device: torch.device, has_validation: bool) -> SFTConfig:
    recipe, dtype = job.recipe, pick_dtype(device)
    return SFTConfig(
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
        dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to=[],
        disable_tqdm=True,
    )


def _parameters(trainer: DurableTrainer) -> dict[str, int]:
    trainable, total = count_parameters(trainer.model)
    return {"trainableParameters": trainable, "totalParameters": total}


def _export(job: TrainJob, plan: Plan, trainer: DurableTrainer) -> dict[str, Any]:
    progress, folder = trainer.progress, Path(job.output) / "adapter"
    digest = write_adapter(folder, trainer.final_weights(), trainer.model, job.base_name)
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
