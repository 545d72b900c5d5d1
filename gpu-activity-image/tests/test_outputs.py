"""What a run leaves behind: adapters of every kind of LoRA, best and last weights, merged models, and what is refused before it starts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer.checkpoints import sha256_file
from anneal_trainer.methods import SftTrainer
from anneal_trainer.models import load_base, load_tokenizer
from anneal_trainer.protocol import BadRequest, parse_job
from anneal_trainer.train import train
from peft import PeftModel
from safetensors.torch import load_file
from support import CHILD_TIMEOUT_S, PROJECT, RECIPE, TINY, Events, train_job
from transformers import AutoModelForCausalLM, AutoTokenizer

LORA = RECIPE["lora"]
CPU = torch.device("cpu")


def job(shards: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    return train_job(shards, output, **{"maxSteps": 4, "evalSteps": 1} | recipe)


def run(document: dict[str, Any], trainer_class=None) -> Events:
    events = Events()
    train(parse_job(json.dumps(document)), events, trainer_class)
    return events


class BestAtTwo(SftTrainer):
    """A validation loss that is lowest at step 2."""

    def evaluation_loop(self, *args, **kwargs):
        return super().evaluation_loop(*args, **kwargs)._replace(metrics={"eval_loss": 1.0 + abs(self.progress.step - 2)})


ALL = ["best", "final", "merged-best", "merged-final"]


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_outputs_hold_the_best_and_the_last_weights_and_both_merged(shards: Path, tmp_path: Path, tuning: str):
    result = run(job(shards, tmp_path, tuning=tuning, outputs=ALL, saveSteps=1), BestAtTwo).result()
    outputs = {output["name"]: output for output in result["outputs"]}
    assert list(outputs) == ["final", "merged-final", "best", "merged-best"]
    # Without early stopping the run is for its last weights.
    assert result["weightsSha256"] == outputs["final"]["weightsSha256"] != outputs["best"]["weightsSha256"]
    assert result["bestModel"] == {"step": 2, "metric": "evalLoss", "value": 1.0, "weightsSha256": outputs["best"]["weightsSha256"]}
    assert json.loads((tmp_path / "best_model_info.json").read_text("utf-8")) == result["bestModel"]
    for which, step in (("best", 2), ("final", 4)):
        saved = tmp_path / f"checkpoint-{step}" / "adapter_model.safetensors"
        assert sha256_file(tmp_path / which / "adapter_model.safetensors") == sha256_file(saved)
        require_merged(tmp_path / f"merged-{which}", tmp_path / which)
    assert not any(folder.name.startswith(".merged") for folder in tmp_path.iterdir())


def require_merged(folder: Path, adapter: Path) -> None:
    """A whole model in the base's dtype, with its tokenizer, that computes what base and adapter compute."""
    merged = AutoModelForCausalLM.from_pretrained(folder)
    assert merged.dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(folder)) == len(AutoTokenizer.from_pretrained(TINY))
    beside = PeftModel.from_pretrained(load_base(TINY, CPU), str(adapter))
    plain = load_base(TINY, CPU)
    ids = torch.arange(100, 130)[None]
    with torch.no_grad():
        ours, theirs, untuned = (model(input_ids=ids).logits.float() for model in (merged, beside, plain))
    # bf16 has eight bits.
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max() < (untuned - theirs).abs().max()


def test_no_file_names_a_folder_of_the_machine(shards: Path, tmp_path: Path):
    run(job(shards, tmp_path, outputs=ALL, maxSteps=2))
    run(job(shards, tmp_path / "full", tuning="full", outputs=["best"], maxSteps=2))
    run(job(shards, tmp_path / "qlora", tuning="qlora", maxSteps=2))
    folders = [
        *(tmp_path / name for name in ("adapter", *ALL)),
        *(tmp_path / "full" / name for name in ("model", "best")),
        tmp_path / "qlora" / "adapter",
    ]
    for file in (file for folder in folders for file in folder.iterdir()):
        content = file.read_bytes()
        assert TINY.encode() not in content and str(tmp_path).encode() not in content, file


def test_without_kept_weights_the_best_step_has_no_digest(shards: Path, tmp_path: Path):
    """Unless it is the last step, whose weights are there."""
    result = run(job(shards, tmp_path / "a"), BestAtTwo).result()
    assert result["outputs"] == [] and result["bestModel"] == {"step": 2, "metric": "evalLoss", "value": 1.0, "weightsSha256": None}
    last = run(job(shards, tmp_path / "b", maxSteps=2), BestAtTwo).result()
    assert last["bestModel"]["weightsSha256"] == last["weightsSha256"]
    alone = run({**job(shards, tmp_path / "c"), "validation": None}).result()
    assert alone["bestModel"] is None and not (tmp_path / "c" / "best_model_info.json").exists()


def test_best_without_validation_is_refused(shards: Path, tmp_path: Path):
    with pytest.raises(BadRequest, match="names merged-best, but there are no validation rows"):
        run({**job(shards, tmp_path, outputs=["merged-best"]), "validation": None})


@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_leaves_an_ordinary_adapter(shards: Path, tmp_path: Path, bits: int):
    """The same files, names, shapes and dtype as LoRA's; it counts the weights that are packed, and computes activations again."""
    plain = run(job(shards, tmp_path / "lora", maxSteps=2))
    quantised = run(job(shards, tmp_path / "qlora", tuning="qlora", qlora={"bits": bits}, maxSteps=2))
    (config, tensors), (other_config, other_tensors) = (read_adapter(tmp_path / name / "adapter") for name in ("lora", "qlora"))
    assert config == other_config
    assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {name: (t.shape, t.dtype) for name, t in other_tensors.items()}
    assert plain.of("plan")[0]["totalParameters"] == quantised.of("plan")[0]["totalParameters"]
    # Another base, a little, so another loss, a little.
    losses = plain.of("step")[0]["loss"], quantised.of("step")[0]["loss"]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)
    assert "bitsandbytes" in quantised.result()["libraries"] and "bitsandbytes" not in plain.result()["libraries"]


GATE = """
import sys
from anneal_trainer import commands
commands.fix_environment(1)
import anneal_trainer.train
assert sys.modules["bitsandbytes"] is None
commands.run_file(sys.argv[1], lambda event: None)
assert sys.modules["bitsandbytes"] is not None
"""


def test_bitsandbytes_stays_out_until_a_base_is_quantised(shards: Path, tmp_path: Path):
    """On a host with GPUs its import touches CUDA, and a parent that has everything imported could not fork."""
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job(shards, tmp_path / "run", tuning="qlora", maxSteps=1)), "utf-8")
    # Its standard input stays open, or it would end as an orphan.
    child = subprocess.Popen([sys.executable, "-c", GATE, str(file)], stdin=subprocess.PIPE, cwd=PROJECT / "gpu-activity-image")
    assert child.wait(CHILD_TIMEOUT_S) == 0
    child.stdin.close()
    assert (tmp_path / "run" / "adapter").is_dir()


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    return json.loads((folder / "adapter_config.json").read_text("utf-8")), load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_rslora_and_dora_are_trained_and_said(shards: Path, tmp_path: Path, tuning: str):
    run(job(shards, tmp_path, maxSteps=2, tuning=tuning, lora=LORA | {"rslora": True, "dora": True}))
    config, tensors = read_adapter(tmp_path / "adapter")
    assert config["use_rslora"] and config["use_dora"]
    magnitudes = {name: tensor for name, tensor in tensors.items() if name.endswith("lora_magnitude_vector")}
    assert len(magnitudes) == 14 and all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_rslora_scales_by_the_root_of_the_rank(shards: Path, tmp_path: Path):
    """Rank 4: alpha / √4 instead of alpha / 4, which is what twice the alpha gives."""
    options = {"maxSteps": 2, "evalSteps": 1000}
    root = run(job(shards, tmp_path / "a", lora=LORA | {"rslora": True, "alpha": 8}, **options)).of("step")
    twice = run(job(shards, tmp_path / "b", lora=LORA | {"alpha": 16}, **options)).of("step")
    assert [step["loss"] for step in root] == [step["loss"] for step in twice]


def test_all_linear_is_every_linear_layer_but_the_output(shards: Path, tmp_path: Path):
    run(job(shards, tmp_path, maxSteps=1, lora=LORA | {"targets": "all-linear"}))
    config, _ = read_adapter(tmp_path / "adapter")
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    with pytest.raises(BadRequest, match=r"names \['lm_head'\], which the model does not have; it has \['down_proj'"):
        run(job(shards, tmp_path, lora=LORA | {"targets": ["lm_head"]}))


def test_warm_up_by_steps_wins_over_its_ratio(shards: Path, tmp_path: Path):
    events = run(job(shards, tmp_path, schedule="constant", warmupRatio=1, warmupSteps=2, evalSteps=1000))
    assert [step["learningRate"] for step in events.of("step")] == pytest.approx([0, 0.0025, 0.005, 0.005])


def test_every_epoch_is_its_last_step(shards: Path, tmp_path: Path):
    """46 rows in micro-batches of 4, two by two: 6 steps an epoch."""
    events = run(job(shards, tmp_path, maxSteps=None, epochs=2.5, evalSteps="epoch", saveSteps="epoch"))
    assert [event["step"] for event in events.of("metrics")] == [6, 12, 15]
    assert {event["step"] for event in events.of("checkpoint_saved")} == {6, 12, 15}


@pytest.mark.parametrize(("tokens", "pad"), [(["unk", "eos"], "<unk>"), (["eos"], "<end>")])
def test_tokenizer_without_a_pad_token_pads_with_one_that_it_has(words_model: str, tmp_path: Path, tokens: list[str], pad: str):
    tokenizer = without(words_model, tmp_path, keep=tokens)
    assert (tokenizer.pad_token, len(tokenizer)) == (pad, 500)


def test_tokenizer_with_nothing_to_pad_with_is_refused(words_model: str, tmp_path: Path):
    with pytest.raises(BadRequest, match="has no token to pad with"):
        without(words_model, tmp_path, keep=[])


def without(folder: str, tmp_path: Path, keep: list[str]):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text("utf-8"))
    kept = {key: value for key, value in config.items() if not key.endswith("_token") or key.removesuffix("_token") in keep}
    file.write_text(json.dumps(kept), "utf-8")
    return load_tokenizer(str(tmp_path))
