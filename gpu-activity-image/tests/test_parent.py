"""A training that continues a version: it starts at that version's weights, keeps them as its reference, and a kill changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer.protocol import BadRequest, parse_job
from anneal_trainer.train import prepare, train
from kills import Kill, run_cell
from safetensors.torch import load_file
from support import RECIPE, Events
from test_strategies import FSDP, ZERO2, ZERO3, of_all

# 46 rows in micro-batches of 4: 12 steps an epoch.
SHORT = RECIPE | {"accumulation": 1, "maxSteps": 6, "saveSteps": 3, "evalSteps": 3}

FILES = {"lora": "adapter_model.safetensors", "qlora": "adapter_model.safetensors", "full": "model.safetensors"}


@pytest.fixture(scope="module")
def parents(words_model: str, drill: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By tuning the folder that a short supervised training ended with."""
    folder, found = tmp_path_factory.mktemp("parents"), {}
    for tuning in ("lora", "full"):
        events = Events()
        document = job(words_model, drill, folder / tuning, "sft", tuning=tuning, learningRate=0.05)
        train(parse_job(json.dumps(document)), events)
        found[tuning] = events.result()["adapter"]
    return {**found, "qlora": found["lora"]}


def job(model: str, drill: dict[str, Path], output: Path, method: str, parent: str | None = None, **recipe: Any) -> dict[str, Any]:
    warm = {"folder": f"{output}-warm", "run": "r", "claim": 1, "lineage": "l", "bytesMax": 1 << 30, "everySteps": 1}
    return {
        "v": 1,
        "command": "train",
        "baseModel": model,
        "baseName": "words",
        "train": str(drill[method] / "train.safetensors"),
        "validation": str(drill[method] / "validation.safetensors"),
        "output": str(output),
        "resume": None,
        "warm": warm,
        "hole": None,
        "parent": parent,
        "recipe": SHORT | {"method": method} | recipe,
    }


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_it_starts_at_the_parents_weights(words_model, drill, parents, tmp_path: Path, method: str, tuning: str):
    document = job(words_model, drill, tmp_path / "run", method, parents[tuning], tuning=tuning)
    trainer = prepare(parse_job(json.dumps(document)), Events()).trainer
    saved = load_file(Path(parents[tuning]) / FILES[tuning])
    weights = trainer._weights()
    assert weights and all(torch.equal(saved[name], tensor) for name, tensor in weights.items())
    trained = {id(parameter) for parameter in trainer._parameters.values()}
    trainable = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trainable} == trained
    assert {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]} <= trained


@pytest.mark.parametrize(("method", "tuning"), [("dpo", "lora"), ("dpo", "full"), ("kto", "qlora")])
def test_killed_it_is_still_held_to_its_parent(words_model, drill, parents, tmp_path: Path, method: str, tuning: str):
    options = {"tuning": tuning, "learningRate": 0.01, "schedule": "constant"}
    whole = run_cell(job(words_model, drill, tmp_path / "whole", method, parents[tuning], **options), [])
    killed = job(words_model, drill, tmp_path / "killed", method, parents[tuning], **options)
    # From a checkpoint, then from warm state.
    outcome = run_cell(killed, [Kill(4, "after optimizer"), Kill(5, "before optimizer")], from_warm=frozenset({2}))
    assert outcome.differences(whole) == [] and outcome.contradictions == [] and outcome.codes == [-9, -9, 0]
    # The reference is where it starts, and stays there.
    margins = [step["rewardMargin"] for step in whole.steps.values() if "rewardMargin" in step]
    assert margins[-1] != pytest.approx(0, abs=1e-6)
    if method == "dpo":
        assert margins[0] == pytest.approx(0, abs=1e-6)


# What a model loses that is its reference itself.
SAME = {"dpo": 0.6931472, "kto": 0.5}


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("method", SAME)
def test_its_reference_is_the_parent(words_model, drill, parents, tmp_path: Path, method: str, tuning: str):
    document = job(words_model, drill, tmp_path / "run", method, parents[tuning], tuning=tuning)
    trainer = prepare(parse_job(json.dumps(document)), Events()).trainer
    batch = next(iter(trainer.get_eval_dataloader()))
    trainer.model.eval()

    def loss() -> float:
        with torch.no_grad():
            score = trainer.score(batch)
        return score.loss_sum / score.count

    assert loss() == pytest.approx(SAME[method], abs=1e-6)
    with torch.no_grad():
        for weight in trainer._weights().values():
            weight.add_(0.01)
    assert loss() != pytest.approx(SAME[method], abs=1e-4)


def test_an_adapter_of_another_shape_or_none_is_refused(words_model, drill, parents, tmp_path: Path):
    lora = RECIPE["lora"] | {"rank": 8}
    with pytest.raises(BadRequest, match=r"`train\.from` names an adapter of another shape: \d+ of its tensors"):
        prepare(parse_job(json.dumps(job(words_model, drill, tmp_path / "run", "sft", parents["lora"], lora=lora))), Events())
    with pytest.raises(BadRequest, match=r"an adapter can only continue an adapter"):
        prepare(parse_job(json.dumps(job(words_model, drill, tmp_path / "run", "sft", parents["full"]))), Events())


@pytest.mark.parametrize(
    "recipe",
    of_all(
        {
            "fsdp, dpo": FSDP | {"method": "dpo"},
            "fsdp, sft, full": FSDP | {"method": "sft", "tuning": "full"},
            "zero2, kto": ZERO2 | {"method": "kto"},
            "zero3, dpo, full": ZERO3 | {"method": "dpo", "tuning": "full"},
        }
    ),
)
def test_of_several_ranks_it_is_the_same(words_model, drill, parents, tmp_path: Path, recipe: dict[str, Any]):
    method, options = recipe["method"], {"processes": 2, "learningRate": 0.01, **recipe}
    parent = parents[options.get("tuning", "lora")]
    whole = run_cell(job(words_model, drill, tmp_path / "whole", parent=parent, **options), [])
    killed = run_cell(job(words_model, drill, tmp_path / "killed", parent=parent, **options), [Kill(5, "after optimizer", rank=1)])
    assert killed.differences(whole) == [] and killed.contradictions == []
    if method == "dpo":
        assert whole.steps[1]["rewardMargin"] == pytest.approx(0, abs=1e-5)
    if method == "sft":
        alone = run_cell(job(words_model, drill, tmp_path / "ddp", parent=parent, **options | {"strategy": "ddp", "maxSteps": 1}), [])
        assert whole.steps[1]["loss"] == pytest.approx(alone.steps[1]["loss"], rel=1e-4)
