"""Options that save memory: they train, they resume exactly, and they save what they promise."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import draw_kills, run_cell
from safetensors.torch import load_file
from support import RECIPE, newest, train_job
from test_exactness import require_exact

BASE = RECIPE | {"accumulation": 1, "epochs": 1, "saveSteps": 4, "evalSteps": 5}

# bitsandbytes keeps tensors of fewer than 4096 numbers, and embeddings, in 32 bits: this model has larger ones.
CELLS: dict[str, dict[str, Any]] = {
    "gradient checkpointing": {"gradientCheckpointing": True},
    "gradient checkpointing, full": {"gradientCheckpointing": True, "tuning": "full"},
    "8-bit optimizer": {"optimizer": "adamw8bit", "tuning": "full"},
    "8-bit optimizer, ranks": {"optimizer": "adamw8bit", "tuning": "full", "processes": 2, "epochs": 2},
}


def job(shards: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    return train_job(shards, output, **BASE | recipe)


@pytest.mark.parametrize("name", CELLS)
def test_random_kills_change_nothing(shards: Path, tmp_path: Path, name: str):
    recipe = BASE | CELLS[name]
    whole = run_cell(job(shards, tmp_path / "whole", **recipe), [])
    kills = draw_kills(random.Random(), recipe["saveSteps"], whole.result["step"], recipe["processes"])
    require_exact(run_cell(job(shards, tmp_path / "killed", **recipe), kills), whole, kills)


def test_8_bits_take_a_quarter_of_the_memory_of_the_moments(shards: Path, tmp_path: Path):
    sizes = {}
    for optimizer in ("adamw", "adamw8bit"):
        output = tmp_path / optimizer
        run_cell(job(shards, output, tuning="full", optimizer=optimizer), [])
        moments = load_file(newest(output) / "optimizer.safetensors")
        layers = {name: tensor for name, tensor in moments.items() if "mlp" in name}
        sizes[optimizer] = sum(tensor.nbytes for tensor in layers.values())
        assert (torch.uint8 in {tensor.dtype for tensor in layers.values()}) == (optimizer == "adamw8bit")
    assert sizes["adamw8bit"] < 0.26 * sizes["adamw"]


def test_gradient_checkpointing_changes_no_loss(shards: Path, tmp_path: Path):
    with_it, without = (
        run_cell(job(shards, tmp_path / str(on), gradientCheckpointing=on, lora=RECIPE["lora"] | {"dropout": 0}), [])
        for on in (True, False)
    )
    losses = [{n: step["loss"] for n, step in outcome.steps.items()} for outcome in (with_it, without)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
