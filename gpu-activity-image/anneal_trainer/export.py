"""What a finished run leaves behind: what it is for, and what else the recipe's `outputs` name, as folders beside each other."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.integrations import deepspeed

from anneal_trainer.adapters import write_merged, write_trained
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.files import replacing_file
from anneal_trainer.methods import METHODS
from anneal_trainer.models import load_base
from anneal_trainer.protocol import Recipe, TrainJob

_BEST_MODEL_INFO = "best_model_info.json"


def keeps_best(recipe: Recipe) -> bool:
    """Whether the best step's weights are needed at the end."""
    return recipe.early_stopping is not None or any(name.endswith("best") for name in recipe.outputs or [])


def write_outputs(job: TrainJob, trainer: DurableTrainer, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Returns the result's `adapter`, `weightsSha256`, `outputs` and `bestModel`. The trainer's weights are the best ones then, if it keeps them."""
    recipe, progress = job.recipe, trainer.progress
    main = "model" if recipe.tuning == "full" else "adapter"
    purpose = "best" if recipe.early_stopping and progress.best else "final"
    result: dict[str, Any] = {"outputs": []}
    digests: dict[str, str] = {}
    # The last weights first: the best ones take their place.
    for which in ("final", "best"):
        wanted = [name for name in (which, f"merged-{which}") if name in (recipe.outputs or [])]
        if not wanted and which != purpose:
            continue
        if which == "best":
            trainer.load_best()
        if which == purpose:
            digests[which] = _write(main, job, trainer, tokenizer)
            result |= {"adapter": str(Path(job.output) / main), "weightsSha256": digests[which]}
        for name in wanted:
            digest = _write(name, job, trainer, tokenizer)
            result["outputs"].append({"name": name, "path": str(Path(job.output) / name), "weightsSha256": digest})
            if name == which:
                digests[which] = digest
    return {**result, "bestModel": _describe_best(job, trainer, digests)}


def _write(name: str, job: TrainJob, trainer: DurableTrainer, tokenizer: PreTrainedTokenizerBase) -> str:
    trainer.emit({"ev": "phase", "phase": "save", "detail": name})
    folder = Path(job.output) / name
    if not name.startswith("merged-"):
        return write_trained(folder, trainer.model, job.base_name)
    adapter = folder.with_name(f".{name}-adapter")
    try:
        write_trained(adapter, trainer.model, job.base_name)
        with _whole():
            base = load_base(job.base_model, torch.device("cpu"), "auto", METHODS[job.recipe.method].scores)
            return write_merged(folder, base, adapter, tokenizer)
    finally:
        shutil.rmtree(adapter, ignore_errors=True)


@contextmanager
def _whole() -> Iterator[None]:
    """While ZeRO-3 trains, transformers would cut every model that it loads into parts; this rank alone loads one, and all of it."""
    configuration = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = configuration


def _describe_best(job: TrainJob, trainer: DurableTrainer, digests: dict[str, str]) -> dict[str, Any] | None:
    best, metric = trainer.progress.best, trainer.best_metric
    if best is None:
        return None
    # Where the last step is the best, its weights are the best ones.
    digest = digests.get("best") or (digests["final"] if best.step == trainer.progress.step else None)
    described = {"step": best.step, "metric": metric, "value": best.value(metric), "weightsSha256": digest}
    with replacing_file(Path(job.output) / _BEST_MODEL_INFO) as temporary:
        temporary.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", "utf-8")
        temporary.chmod(0o644)
    return described
