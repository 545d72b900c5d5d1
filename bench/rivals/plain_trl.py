"""The rival: a TRL script as one writes it, which resumes from its newest checkpoint. It logs times; nothing else is added.

Usage: python plain_trl.py <config.json>, with model, shard, output, log, steps, saveSteps.
"""

import json
import os
import sys
import time
from pathlib import Path

config = json.loads(Path(sys.argv[1]).read_text("utf-8"))


def log(ev: str, **fields) -> None:
    with open(config["log"], "a") as file:
        file.write(json.dumps({"t": time.time() * 1000, "ev": ev, "pid": os.getpid(), **fields}) + "\n")


log("start")

import hashlib  # noqa: E402
from itertools import pairwise  # noqa: E402

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from transformers.trainer_utils import get_last_checkpoint  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

torch.set_num_threads(2)


class Times(TrainerCallback):
    def on_train_begin(self, args, state, control, **_):
        log("plan", **{"from": state.global_step})

    def on_step_end(self, args, state, control, **_):
        log("step", step=state.global_step)

    def on_save(self, args, state, control, **_):
        log("checkpoint_saved", step=state.global_step)


def read_rows() -> Dataset:
    shard = load_file(config["shard"])
    edges = shard["offsets"].tolist()
    return Dataset.from_list([{"input_ids": shard["input_ids"][start:end].tolist()} for start, end in pairwise(edges)])


trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32),
    processing_class=AutoTokenizer.from_pretrained(config["model"]),
    train_dataset=read_rows(),
    callbacks=[Times()],
    args=SFTConfig(
        output_dir=config["output"],
        max_steps=config["steps"],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=5,
        max_length=128,
        save_steps=config["saveSteps"],
        save_total_limit=5,
        seed=7,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    ),
)
output = Path(config["output"])
trainer.train(resume_from_checkpoint=get_last_checkpoint(output) if output.is_dir() else None)
digest = hashlib.sha256()
for _, tensor in sorted(trainer.model.state_dict().items()):
    digest.update(tensor.contiguous().numpy().tobytes())
log("final", sha256=digest.hexdigest())
