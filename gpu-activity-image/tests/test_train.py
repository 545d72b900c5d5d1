"""Exact resume: a run that is killed, stopped or ended anywhere and resumed gives the losses and the bytes of one that was not.

Reference runs are made in this process; kills happen to real children.
"""

import json
import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer import checkpoints
from anneal_trainer.faults import classify
from anneal_trainer.methods import SftTrainer
from anneal_trainer.models import load_base
from anneal_trainer.protocol import BadRequest, CheckpointCorrupt, NonFinite, TrainJob, parse_job
from anneal_trainer.train import train
from safetensors.torch import load_file
from support import GOLDEN, RECIPE, TINY, Events, child, curve, newest, train_job

# 46 rows in micro-batches of 4 are 12, the last one short; two by two 6 steps an epoch.
STEPS = 12


def job(shards: Path, output: Path, resume: Path | str | None = None, **recipe: Any) -> dict[str, Any]:
    resumed = {"from": "checkpoint", "path": str(resume)} if resume else None
    return train_job(shards, output, **recipe) | {"resume": resumed}


def run(document: dict[str, Any], trainer_class: type[SftTrainer] | None = None) -> Events:
    events = Events()
    parsed = parse_job(json.dumps(document))
    assert isinstance(parsed, TrainJob)
    train(parsed, events, trainer_class)
    return events


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "adapter"}


@pytest.fixture(scope="module")
def reference(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events]:
    output = tmp_path_factory.mktemp("reference")
    return output, run(job(shards, output))


def test_run_reports_itself_as_the_contract_says(reference: tuple[Path, Events]):
    output, events = reference
    result, golden = events.result(), json.loads((GOLDEN / "results.json").read_text("utf-8"))
    # Answers have no accuracy.
    assert set(result) == set(golden["train"]) - {"evalAccuracy"}
    assert result["step"] == result["steps"] == STEPS and result["epochs"] == 2
    assert events.of("plan")[0]["steps"] == STEPS and list(curve(events)) == list(range(1, STEPS + 1))
    assert result["trainLoss"] == pytest.approx(sum(event["loss"] for event in events.of("step")) / STEPS, rel=1e-12)
    assert result["best"]["evalLoss"] == min(event["evalLoss"] for event in events.of("metrics"))
    assert [event["step"] for event in events.of("metrics")] == [4, 8, 12]
    assert events.of("step")[-1]["loss"] < events.of("step")[0]["loss"] - 0.1
    manifest = json.loads((output / "checkpoint-3" / "manifest.json").read_text("utf-8"))
    assert set(manifest) == set(golden["manifest"])
    assert [event["terminal"] for event in events.of("checkpoint_saved")][-1] is True
    assert manifest["terminal"] is False


def test_adapter_names_the_base_model_and_no_folder(reference: tuple[Path, Events]):
    output, events = reference
    text = (output / "adapter" / "adapter_config.json").read_text("utf-8")
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == sorted(config["target_modules"]) and len(config["target_modules"]) == 7
    assert list(config) == sorted(config) and TINY not in text
    assert events.result()["weightsSha256"] == checkpoints.sha256_file(output / "adapter" / "adapter_model.safetensors")


def test_every_checkpoint_leads_to_the_same_end(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    """Step 6 is an epoch's edge, 3 and 9 lie within epochs, 4 and 8 were forced by a new best, 12 is the last."""
    folder, whole = reference
    for step in (3, 6, 9, 12):
        resumed = run(job(shards, tmp_path / str(step), folder / f"checkpoint-{step}"))
        assert curve(resumed) == {n: event for n, event in curve(whole).items() if n > step}
        assert comparable(resumed.result()) == comparable(whole.result())
        assert resumed.of("plan")[0]["from"] == step


def test_kill_at_random_moments_changes_nothing(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    _, whole = reference
    output, seen = tmp_path / "run", {}
    kills = [random.randint(4, 8), None]
    for attempt, kill in enumerate(kills):
        # It waits two steps on, or it may be done before the signal comes.
        hold = kill and kill + 2
        with child(job(shards, output, newest(output)), tmp_path / str(attempt), hold) as trainer:
            if kill:
                trainer.wait_for("step", kill)
                trainer.process.send_signal(signal.SIGKILL)
                assert trainer.exit_code() == -signal.SIGKILL
            else:
                assert trainer.exit_code() == 0
            # A step that is done twice must say the same both times.
            assert curve(trainer.seen).items() >= {n: e for n, e in seen.items() if n in curve(trainer.seen)}.items(), kills
            seen |= curve(trainer.seen)
            last = trainer.seen
    assert seen == curve(whole), kills
    assert comparable(last.result()) == comparable(whole.result())
    assert not list(output.glob(".checkpoint*"))


def test_sigterm_saves_at_the_step_edge_and_the_rest_is_exact(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    _, whole = reference
    output = tmp_path / "run"
    with child(job(shards, output, saveSteps=1000, evalSteps=1000), tmp_path / "job", hold=4) as trainer:
        trainer.wait_for("step", 2)
        trainer.process.send_signal(signal.SIGTERM)
        assert trainer.exit_code() == 41
    step = trainer.seen.of("interrupted")[0]["step"]
    assert 2 <= step <= 4
    saved = trainer.seen.of("checkpoint_saved")[-1]
    assert (saved["step"], saved["terminal"]) == (step, False)
    resumed = run(job(shards, output, saved["path"], saveSteps=1000, evalSteps=1000))
    assert curve(trainer.seen) | curve(resumed) == curve(whole)
    assert resumed.result()["weightsSha256"] == whole.result()["weightsSha256"]


def test_child_dies_with_its_parents_channel(shards: Path, tmp_path: Path):
    # It cannot be done before.
    with child(job(shards, tmp_path / "run", epochs=1000), tmp_path / "job") as trainer:
        trainer.wait_for("step", 1)
        trainer.process.stdin.close()
        assert trainer.exit_code() == 45
    assert trainer.seen.of("done") == []


def test_damaged_checkpoint_ends_the_job_before_it_starts(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    damaged = tmp_path / "checkpoint-3"
    shutil.copytree(reference[0] / "checkpoint-3", damaged)
    weights = damaged / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=r"adapter_model\.safetensors does not match") as failure:
        run(job(shards, tmp_path / "run", damaged))
    assert classify(failure.value) == ("checkpoint_corrupt", 44)


@pytest.mark.parametrize("damage", ["truncate", "remove", "no manifest", "bad manifest"])
def test_verify_finds_every_damage(reference: tuple[Path, Events], tmp_path: Path, damage: str):
    folder = tmp_path / "checkpoint-3"
    shutil.copytree(reference[0] / "checkpoint-3", folder)
    assert checkpoints.verify(str(folder))["step"] == 3
    if damage == "truncate":
        (folder / "optimizer.safetensors").write_bytes((folder / "optimizer.safetensors").read_bytes()[:-1])
    elif damage == "remove":
        (folder / "state.json").unlink()
    elif damage == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text('{"v": 1, "step": 3', "utf-8")
    with pytest.raises(CheckpointCorrupt, match=re.escape(str(folder))):
        checkpoints.verify(str(folder))


class Poisoned(SftTrainer):
    """A step whose loss is not a number."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss * float("nan") if self.progress.step == 4 else loss


def test_nan_ends_the_run_before_anything_is_saved(shards: Path, tmp_path: Path):
    with pytest.raises(NonFinite, match="step 5") as failure:
        run(job(shards, tmp_path, saveSteps=1, evalSteps=1000), Poisoned)
    assert classify(failure.value) == ("loss_not_finite", 40)
    assert newest(tmp_path) == tmp_path / "checkpoint-4"


class Worsening(SftTrainer):
    """A validation loss that is lowest at step 3."""

    def evaluation_loop(self, *args, **kwargs):
        return super().evaluation_loop(*args, **kwargs)._replace(metrics={"eval_loss": 1.0 + abs(self.progress.step - 3)})


def test_early_stopping_exports_the_best_step_also_after_a_resume(shards: Path, tmp_path: Path):
    options = {"earlyStopping": {"patience": 2, "threshold": 0.0}, "evalSteps": 1, "saveSteps": 1}
    result = run(job(shards, tmp_path / "whole", **options), Worsening).result()
    assert result["stoppedEarly"] and result["step"] == 5 and result["best"] == {"step": 3, "evalLoss": 1.0}
    best = tmp_path / "whole" / "checkpoint-3" / "adapter_model.safetensors"
    assert result["weightsSha256"] == checkpoints.sha256_file(best)
    for step in (2, 4, 5):
        resumed = run(job(shards, tmp_path / str(step), tmp_path / "whole" / f"checkpoint-{step}", **options), Worsening)
        assert comparable(resumed.result()) == comparable(result)
        assert list(curve(resumed)) == list(range(step + 1, 6))


def test_only_the_newest_checkpoints_and_the_best_stay(shards: Path, tmp_path: Path):
    events = run(job(shards, tmp_path, saveSteps=1, evalSteps=5, keep=2, learningRate=0.0000001, maxSteps=8))
    best = events.result()["best"]["step"]
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint-*")) == sorted({f"checkpoint-{n}" for n in (7, 8, best)})


def test_accumulation_changes_nothing_but_rounding(shards: Path, tmp_path: Path):
    """The first step sees all 46 rows either way: as one micro-batch, or as two whose labels differ in number."""
    options = {"lora": RECIPE["lora"] | {"dropout": 0}, "maxSteps": 1, "evalSteps": 1000}
    whole = run(job(shards, tmp_path / "a", microBatch=46, accumulation=1, **options)).of("step")[0]
    parts = run(job(shards, tmp_path / "b", microBatch=23, accumulation=2, **options)).of("step")[0]
    assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert parts["gradNorm"] == pytest.approx(whole["gradNorm"], rel=1e-4)
    assert parts["tokens"] == whole["tokens"]


def test_first_layer_limits_what_is_trained(shards: Path, tmp_path: Path):
    everywhere = run(job(shards, tmp_path / "a", maxSteps=1)).of("plan")[0]
    upper = run(job(shards, tmp_path / "b", maxSteps=1, lora=RECIPE["lora"] | {"firstLayer": 1})).of("plan")[0]
    assert upper["trainableParameters"] * 2 == everywhere["trainableParameters"]


@pytest.mark.parametrize(
    ("lora", "message"),
    [({"firstLayer": 2}, "must be below the model's 2 layers, got 2"), ({"targets": ["q_proj", "wings"]}, "wings")],
)
def test_recipe_that_does_not_fit_the_model_is_refused(shards: Path, tmp_path: Path, lora: dict[str, Any], message: str):
    with pytest.raises(BadRequest, match=message):
        run(job(shards, tmp_path, lora=RECIPE["lora"] | lora))


def test_checkpoint_beyond_the_recipe_is_refused(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    with pytest.raises(BadRequest, match="beyond the 5 steps"):
        run(job(shards, tmp_path, reference[0] / "checkpoint-9", maxSteps=5))


def test_full_tuning_writes_a_model_that_loads(shards: Path, tmp_path: Path):
    """With early stopping the best step's, without a copy of tied weights, at the digest that the result names."""
    options = {"tuning": "full", "maxSteps": 3, "evalSteps": 1, "earlyStopping": {"patience": 3, "threshold": 0.0}}
    events = run(job(shards, tmp_path, **options), Worsening)
    folder = Path(events.result()["adapter"])
    assert events.result()["weightsSha256"] == checkpoints.sha256_file(folder / "model.safetensors")
    plan = events.of("plan")[0]
    assert plan["trainableParameters"] == plan["totalParameters"]
    saved = load_file(tmp_path / "checkpoint-3" / "best.safetensors")
    loaded = load_base(str(folder), torch.device("cpu")).state_dict()
    assert "lm_head.weight" not in saved and all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


def test_checkpoint_of_another_tuning_is_refused(shards: Path, reference: tuple[Path, Events], tmp_path: Path):
    with pytest.raises(CheckpointCorrupt, match="does not fit the model"):
        run(job(shards, tmp_path, reference[0] / "checkpoint-3", tuning="full"))


def test_dpo_moves_rewards_apart_and_reports_them(words_model: str, drill: dict[str, Path], tmp_path: Path):
    document = job(drill["dpo"], tmp_path, method="dpo", epochs=3, accumulation=1, learningRate=0.05, dpoBeta=0.5) | {
        "baseModel": words_model
    }
    events = run(document)
    steps = events.of("step")
    # Before its first step the model is its own reference.
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4) and steps[0]["rewardMargin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["rewardMargin"] > 0.5 and steps[-1]["rewardAccuracy"] > 0.7
    assert steps[-1]["loss"] < 0.6 and events.result()["evalLoss"] > 0
