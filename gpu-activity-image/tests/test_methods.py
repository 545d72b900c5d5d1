"""Each method with each tuning: killed and resumed from a checkpoint and from warm state it ends at the same bytes; it learns what it should."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anneal_trainer.batches import as_dataset
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.methods import METHODS, KtoTrainer
from anneal_trainer.models import load_base
from anneal_trainer.protocol import BadRequest, parse_job
from anneal_trainer.shards import write_judged_shard, write_preference_shard
from anneal_trainer.train import prepare, train
from kills import PHASES, Kill, run_cell
from peft import PeftModel
from safetensors.torch import load_file
from support import RECIPE, Events
from transformers import AutoModelForSequenceClassification

# 46 rows in micro-batches of 4: 12 steps an epoch. Everything but the method and the tuning is as small as it gets.
SHORT = RECIPE | {"accumulation": 1, "maxSteps": 9, "saveSteps": 3, "evalSteps": 4}

Make = Any


@pytest.fixture
def make(words_model: str, drill: dict[str, Path], tmp_path: Path) -> Make:
    """Makes a job of a method, in a folder of its own."""

    def document(name: str, method: str, *, validation: bool = True, warm: bool = False, **recipe: Any) -> dict[str, Any]:
        state = {"folder": str(tmp_path / f"{name}-warm"), "run": "r", "claim": 1, "lineage": "l", "bytesMax": 1 << 30, "everySteps": 1}
        return {
            "v": 1,
            "command": "train",
            "baseModel": words_model,
            "baseName": "words",
            "train": str(drill[method] / "train.safetensors"),
            "validation": str(drill[method] / "validation.safetensors") if validation else None,
            "output": str(tmp_path / name),
            "resume": None,
            "warm": state if warm else None,
            "hole": None,
            "recipe": SHORT | {"method": method} | recipe,
        }

    return document


def run(document: dict[str, Any], trainer_class: type[DurableTrainer] | None = None) -> Events:
    events = Events()
    train(parse_job(json.dumps(document)), events, trainer_class)
    return events


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_from_a_checkpoint_and_from_warm_state_it_is_the_same(make: Make, method: str, tuning: str):
    rng = random.Random()
    phases = [phase for phase in PHASES if phase != "save"]
    kills = [Kill(rng.randint(4, 6), rng.choice(phases)), Kill(rng.randint(7, 9), rng.choice(phases))]
    whole = run_cell(make("whole", method, warm=True, tuning=tuning), [])
    killed = run_cell(make("killed", method, warm=True, tuning=tuning), kills, from_warm=frozenset({2}))
    assert killed.differences(whole) == [] and killed.contradictions == [], kills
    assert killed.codes == [-9, -9, 0], kills
    if method != "sft":
        assert 0 <= whole.result["evalAccuracy"] <= 1


def test_kto_validation_has_the_loss_of_trl(make: Make):
    """TRL's own is compared on the very batches, with an adapter and with a second model."""
    seen = []

    class Compared(KtoTrainer):
        def score(self, inputs):
            score = super().score(inputs)
            seen.append((score.loss_sum / score.count, super().compute_loss(self.model, inputs).item()))
            self._metrics["eval"].clear()
            return score

    weights = {"beta": 0.3, "desirableWeight": 1.5, "undesirableWeight": 0.5}
    for tuning in ("lora", "full"):
        run(make(tuning, "kto", tuning=tuning, kto=weights, learningRate=0.05), Compared)
    # Three batches at each of three validations.
    assert len(seen) == 18
    assert [ours for ours, _ in seen] == pytest.approx([trls for _, trls in seen], rel=1e-5)


def test_full_dpo_starts_at_its_reference_and_leaves_it(make: Make):
    steps = run(make("dpo", "dpo", tuning="full", learningRate=0.01, schedule="constant", maxSteps=24)).of("step")
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4) and steps[0]["rewardMargin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["loss"] < 0.6 and steps[-1]["rewardMargin"] > 0.1


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards by method in which good answers and bad ones use other words."""
    folder, rng = tmp_path_factory.mktemp("telling"), np.random.default_rng(0)

    def words(low: int, high: int) -> np.ndarray:
        return rng.integers(low, high, 6).astype(np.int32)

    for split, rows in (("train", 64), ("validation", 16)):
        pairs = [(words(100, 400), words(10, 30), words(30, 50)) for _ in range(rows)]
        write_preference_shard(folder / "pairs" / f"{split}.safetensors", pairs)
        judged = [(prompt, good if i % 3 else bad, i % 3 > 0) for i, (prompt, good, bad) in enumerate(pairs)]
        write_judged_shard(folder / "judged" / f"{split}.safetensors", judged)
    return {"reward": folder / "pairs", "kto": folder / "judged"}


def learn(make: Make, telling: dict[str, Path], method: str, **recipe: Any) -> Events:
    options = {"learningRate": 0.02, "schedule": "constant", "maxSteps": 96, "epochs": 10, "evalSteps": 1000} | recipe
    document = make(method, method, **options)
    files = {name: str(telling[method] / f"{name}.safetensors") for name in ("train", "validation")}
    return run(document | files)


def test_kto_tells_good_answers_from_bad_ones(make: Make, telling: dict[str, Path]):
    """Every weight: the random model's output layer is too weak for an adapter beneath it."""
    events = learn(make, telling, "kto", tuning="full", kto={"beta": 0.5, "desirableWeight": 1, "undesirableWeight": 1})
    steps = events.of("step")
    # Where a micro-batch has one kind only there is no margin.
    margins = [step["rewardMargin"] for step in steps if "rewardMargin" in step]
    assert len(margins) < len(steps) and margins[0] == 0 and sum(margins[-16:]) > 4
    assert events.result()["evalLoss"] < 0.4 and events.result()["evalAccuracy"] > 0.8


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_reward_model_scores_the_better_answer_higher(make: Make, telling: dict[str, Path], words_model: str, tuning: str):
    events = learn(make, telling, "reward", tuning=tuning)
    assert events.result()["evalAccuracy"] > 0.9
    assert sum(step["rewardAccuracy"] for step in events.of("step")[-16:]) > 14
    model = _load_reward_model(events.result()["adapter"], words_model, tuning)
    shard = METHODS["reward"].read(str(telling["reward"] / "validation.safetensors"))
    batch = METHODS["reward"].collator(pad_id=1)(list(as_dataset(shard)))
    with torch.no_grad():
        chosen, rejected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].chunk(2)
    assert (chosen > rejected).float().mean().item() == pytest.approx(events.result()["evalAccuracy"])


def _load_reward_model(folder: str, base: str, tuning: str) -> torch.nn.Module:
    """As anybody would load it, without our help."""
    if tuning == "full":
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert "base_model.model.score.weight" in load_file(Path(folder) / "adapter_model.safetensors")
    return PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, num_labels=1), folder).eval()


def test_early_stopping_by_accuracy_takes_the_most_accurate_step(make: Make):
    class Scored(METHODS["reward"].trainer):
        """An accuracy that is highest at step 2, while the loss goes on falling."""

        def evaluation_loop(self, *args, **kwargs):
            step = self.progress.step
            return (
                super()
                .evaluation_loop(*args, **kwargs)
                ._replace(metrics={"eval_loss": 1 / step, "eval_accuracy": 0.9 - 0.1 * abs(step - 2)})
            )

    stopping = {"patience": 2, "threshold": 0, "metric": "evalAccuracy"}
    document = make("run", "reward", evalSteps=1, saveSteps=1, earlyStopping=stopping)
    result = run(document, Scored).result()
    assert result["stoppedEarly"] and result["step"] == 4
    assert result["best"] == {"step": 2, "evalLoss": 0.5, "evalAccuracy": 0.9}
    saved = load_file(Path(document["output"]) / "checkpoint-2" / "adapter_model.safetensors")
    exported = load_file(Path(result["adapter"]) / "adapter_model.safetensors")
    assert all(torch.equal(exported[name], tensor) for name, tensor in saved.items())


def test_kto_needs_two_rows_at_once(make: Make):
    with pytest.raises(BadRequest, match=r"`train\.microBatch` must be at least 2 with `method: kto`, got 1"):
        run(make("run", "kto", microBatch=1))


def test_reference_of_full_tuning_is_a_model_of_its_own(make: Make, words_model: str):
    prepared = prepare(parse_job(json.dumps(make("run", "dpo", tuning="full"))), Events())
    reference, base = prepared.trainer.ref_model, load_base(words_model, torch.device("cpu"))
    assert reference is not prepared.trainer.model
    assert all(torch.equal(tensor, reference.state_dict()[name]) for name, tensor in base.state_dict().items())
