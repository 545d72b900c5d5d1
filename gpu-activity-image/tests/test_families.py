"""Every family of models trains with adapters, quantised and whole, resumes exactly, and leaves models that transformers loads."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer.adapters import add_adapter, expert_parameters, lora_config
from anneal_trainer.models import load_base
from anneal_trainer.protocol import BadRequest, parse_job
from anneal_trainer.train import train
from families import FAMILIES, WITH_EXPERTS, write_family
from kills import Kill, run_cell
from peft import PeftModel, get_peft_model
from support import Events, recipe, train_job
from test_exactness import require_exact
from test_strategies import losses, of_all
from transformers import AutoModelForCausalLM, Mamba2Config, MambaConfig, Qwen3NextConfig

CPU = torch.device("cpu")
IDS = torch.arange(3, 60)[None]
# What `auto` is where it is not as in Llama.
TARGETS = {
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt-neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "falcon": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "opt": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    **{name: {"q_proj", "k_proj", "v_proj", "o_proj"} for name in WITH_EXPERTS},
}
LLAMA = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    write_family(request.param, tmp_path / "base")
    return request.param


def job(shards: Path, folder: Path, output: str, **recipe: Any) -> dict[str, Any]:
    recipe = {"epochs": 1, "maxSteps": 3, "accumulation": 1, "saveSteps": 1} | recipe
    return {**train_job(shards, folder / output, **recipe), "baseModel": str(folder / "base"), "validation": None}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def load_whole(folder: Path) -> torch.nn.Module:
    """A model of which nothing is missing and nothing left over."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model


def test_adapter_resumes_exactly_and_merges(family: str, drill: dict[str, Path], tmp_path: Path):
    whole = run_cell(job(drill["sft"], tmp_path, "whole", outputs=["merged-final"]), [])
    kills = [Kill(2, "after optimizer")]
    killed = run_cell(job(drill["sft"], tmp_path, "killed", outputs=["merged-final"]), kills)
    for outcome in (whole, killed):
        # With their paths they differ.
        outcome.result["outputs"] = [output["weightsSha256"] for output in outcome.result["outputs"]]
    require_exact(killed, whole, kills)
    adapter = tmp_path / "whole" / "adapter"
    assert set(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["target_modules"]) == TARGETS.get(family, LLAMA)
    base = str(tmp_path / "base")
    beside = logits(PeftModel.from_pretrained(load_base(base, CPU), str(adapter)))
    torch.testing.assert_close(logits(load_whole(tmp_path / "whole" / "merged-final")), beside, rtol=0, atol=1e-5)
    assert (beside - logits(load_base(base, CPU))).abs().max() > 1e-2


def test_quantised_and_whole(family: str, drill: dict[str, Path], tmp_path: Path):
    losses = {}
    for tuning in ("lora", "qlora", "full"):
        events = Events()
        train(parse_job(json.dumps(job(drill["sft"], tmp_path, tuning, tuning=tuning, maxSteps=2))), events)
        losses[tuning] = [event["loss"] for event in events.of("step")]
    # The step before anything was learnt; dropout of adapters draws from the streams, so that another module's draws differ.
    assert losses["qlora"][0] == pytest.approx(losses["lora"][0], rel=0.01)
    assert losses["full"][0] == pytest.approx(losses["lora"][0], rel=0.01)
    assert not torch.equal(logits(load_whole(tmp_path / "full" / "model")), logits(load_base(str(tmp_path / "base"), CPU)))


@pytest.mark.parametrize("name", ["gpt2", "opt", "falcon"])
def test_methods_that_compare_do_so_without_dropout(drill: dict[str, Path], tmp_path: Path, name: str):
    """An adapter that has learnt nothing yet is its own reference, and prefers nothing: the loss is ln 2."""
    write_family(name, tmp_path / "base")
    events = Events()
    train(parse_job(json.dumps(job(drill["dpo"], tmp_path, "dpo", method="dpo", maxSteps=1))), events)
    assert events.of("step")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_experts_have_no_adapters_with_dropout():
    """PEFT takes names that the expert for all tokens shares with the others for all of them."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "head_dim": 8}
    config = Qwen3NextConfig(
        vocab_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, num_experts=2, num_experts_per_tok=1, **sizes
    )
    model = AutoModelForCausalLM.from_config(config)
    assert not lora_config(model, recipe()).target_modules & {"gate_proj", "up_proj", "down_proj"}
    named = replace(recipe().lora, targets=["gate_proj", "up_proj"])
    with pytest.raises(BadRequest, match=r"`train.lora` does not go together with Qwen3NextForCausalLM: .*dropout"):
        add_adapter(model, recipe(lora=named))


EXPERTS = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "auto", "firstLayer": 0, "experts": True}
PARTS = {"fsdp": {"strategy": "fsdp"}, "zero3": {"strategy": "deepspeed", "deepspeed": "zero3"}}


@pytest.mark.parametrize("name", WITH_EXPERTS)
def test_adapted_experts_resume_exactly_and_merge(drill: dict[str, Path], tmp_path: Path, name: str):
    write_family(name, tmp_path / "base")
    whole = run_cell(job(drill["sft"], tmp_path, "whole", lora=EXPERTS, outputs=["merged-final"]), [])
    kills = [Kill(2, "after optimizer")]
    killed = run_cell(job(drill["sft"], tmp_path, "killed", lora=EXPERTS), kills)
    # Its merged model is not asked for.
    del whole.result["outputs"], killed.result["outputs"]
    require_exact(killed, whole, kills)
    base = load_base(str(tmp_path / "base"), CPU)
    merged = load_whole(tmp_path / "whole" / "merged-final")
    changed = [
        not torch.equal(before, after) for before, after in zip(*(expert_parameters(m).values() for m in (base, merged)), strict=True)
    ]
    assert len(changed) == 4 and all(changed)
    beside = logits(PeftModel.from_pretrained(base, str(tmp_path / "whole" / "adapter")))
    torch.testing.assert_close(logits(merged), beside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", of_all(PARTS))
def test_adapted_experts_in_parts_learn_the_same(drill: dict[str, Path], tmp_path: Path, recipe: dict[str, Any]):
    write_family("gpt-oss", tmp_path / "base")
    ranks = {"processes": 2, "microBatch": 2, "lora": EXPERTS}
    kills = [Kill(2, "after optimizer")]
    ddp, whole, killed = (
        run_cell(job(drill["sft"], tmp_path, name, **ranks, **more), plan)
        for name, more, plan in (("ddp", {}, []), ("whole", recipe, []), ("killed", recipe, kills))
    )
    require_exact(killed, whole, kills)
    assert losses(whole) == pytest.approx(losses(ddp), rel=1e-5)


def test_quantised_models_learn_with_adapted_experts(drill: dict[str, Path], tmp_path: Path):
    write_family("mixtral", tmp_path / "base")
    experts = job(drill["sft"], tmp_path, "experts", tuning="qlora", lora=EXPERTS)
    others = job(drill["sft"], tmp_path, "others", tuning="qlora", lora=EXPERTS | {"experts": False})
    one, other = (losses(run_cell(cell, [])) for cell in (experts, others))
    assert one[0] == other[0] and one[2] != other[2]


def test_choice_of_experts_is_kept_even_where_it_is_trained(drill: dict[str, Path], tmp_path: Path):
    """By the weight of the model's configuration, as TRL does; under an adapter what chooses is frozen."""
    write_family("mixtral", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text("utf-8"))
    results: dict[tuple[str, float], list[float]] = {}
    for weight in (0.0, 10.0):
        (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"router_aux_loss_coef": weight}))
        for tuning in ("full", "lora"):
            results[tuning, weight] = losses(run_cell(job(drill["sft"], tmp_path, f"{tuning}-{weight}", tuning=tuning, accumulation=2), []))
    assert results["lora", 0.0] == results["lora", 10.0]
    # Evenly chosen experts cost 2, the number that each token meets; each layer of a fresh model is nearly that.
    assert results["full", 10.0][0] - results["full", 0.0][0] == pytest.approx(20, rel=0.2)


def test_a_model_without_experts_has_none_to_adapt(tmp_path: Path):
    base = load_base(write_family("llama", tmp_path / "base"), CPU)
    with pytest.raises(BadRequest, match=r"`train.lora.experts` is true, but LlamaForCausalLM has no experts"):
        add_adapter(base, recipe(lora=replace(recipe().lora, dropout=0.0, experts=True)))


@pytest.mark.parametrize(
    ("config", "auto"),
    [
        (MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4), ["in_proj", "x_proj"]),
        (Mamba2Config(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4, num_heads=4, head_dim=8, n_groups=1), ["in_proj"]),
    ],
    ids=["mamba", "mamba2"],
)
def test_what_peft_refuses_of_a_mamba_is_no_target_of_auto_and_a_sentence_in_a_list(config: Any, auto: list[str]):
    base = AutoModelForCausalLM.from_config(config)
    asked = recipe(method="dpo")
    # As TRL is given it, which adds the adapter itself.
    given = lora_config(base, asked)
    assert sorted(given.target_modules) == auto
    assert get_peft_model(base, given).get_nb_trainable_parameters()[0] > 0
    base = AutoModelForCausalLM.from_config(config)
    whole = lora_config(base, replace(asked, lora=replace(asked.lora, targets="all-linear")))
    assert "out_proj" not in whole.target_modules
    with pytest.raises(BadRequest, match=r"names .*out_proj.*leave it out"):
        lora_config(base, replace(asked, lora=replace(asked.lora, targets=["in_proj", "out_proj"])))
