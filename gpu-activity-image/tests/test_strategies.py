"""Each strategy trains what DDP trains, in parts for certain; killed and resumed it ends at the bytes of a run that was left alone."""

import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer import pieces, shares
from anneal_trainer.models import load_base
from anneal_trainer.protocol import BadRequest
from anneal_trainer.strategies_fsdp import shard, unshard
from kills import Kill, Outcome, draw_kills, run_cell
from safetensors import safe_open
from support import RECIPE
from test_exactness import STOPPING, cell, require_exact  # noqa: F401
from test_ranks import lead
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

RANKS = {"processes": 2, "epochs": 2, "saveSteps": 3}
FSDP = {"strategy": "fsdp"}
ZERO2 = {"strategy": "deepspeed", "deepspeed": "zero2"}
ZERO3 = {"strategy": "deepspeed", "deepspeed": "zero3"}
# As the documentation of Hugging Face has them, with a few lines of DeepSpeed's own.
_AUTO = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": 2000,
    "wall_clock_breakdown": True,
    "zero_allow_untested_optimizer": True,
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "bf16": {"enabled": "auto"},
    "fp16": {
        "enabled": "auto",
        "loss_scale": 0,
        "loss_scale_window": 1000,
        "initial_scale_power": 16,
        "hysteresis": 2,
        "min_loss_scale": 1,
    },
}
OWN_ZERO2 = _AUTO | {
    "zero_optimization": {
        "stage": 2,
        "offload_optimizer": {"device": "cpu", "pin_memory": False},
        "allgather_partitions": True,
        "allgather_bucket_size": 200_000_000,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 200_000_000,
        "contiguous_gradients": True,
        "round_robin_gradients": True,
    },
}
OWN_ZERO3 = _AUTO | {
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        # The documentation's is 1e9: here, several pieces a rank.
        "sub_group_size": 2_000,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1_000_000_000,
        "stage3_max_reuse_distance": 1_000_000_000,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}
ACCUMULATION = {"microBatch": 3, "accumulation": 2}

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed; ANNEAL_DEEPSPEED=1 lets the set-up do it."
)


def of_all(cells: dict[str, dict[str, Any]]) -> list[Any]:
    return [pytest.param(recipe, id=name, marks=needs_deepspeed if "deepspeed" in recipe else ()) for name, recipe in cells.items()]


STRATEGIES = of_all(
    {
        "fsdp, full": FSDP | {"tuning": "full"},
        "fsdp, lora, accumulation": FSDP | ACCUMULATION,
        "fsdp, dpo, full": FSDP | {"method": "dpo", "tuning": "full", "epochs": 1},
        "fsdp, reward, full": FSDP | {"method": "reward", "tuning": "full", "epochs": 1},
        "zero2, full, accumulation": ZERO2 | ACCUMULATION | {"tuning": "full"},
        "zero2, lora": ZERO2,
        "zero3, full": ZERO3 | {"tuning": "full"},
        "zero3, lora, accumulation": ZERO3 | ACCUMULATION,
    }
)


def losses(outcome: Outcome) -> list[float]:
    return [outcome.steps[step]["loss"] for step in sorted(outcome.steps)]


@pytest.fixture
def sober_model(words_model: str, tmp_path: Path) -> str:
    """Without dropout, whose streams are each rank's own."""
    folder = Path(shutil.copytree(words_model, tmp_path / "sober-model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.0}))
    return str(folder)


@pytest.mark.parametrize(
    "recipe", of_all({"ddp, full": {"tuning": "full"}, "fsdp": FSDP, "zero3": ZERO3, "packing": {"packing": True, "microBatch": 3}})
)
def test_ranks_learn_what_one_process_learns_that_accumulates(cell, sober_model: str, recipe: dict[str, Any]):  # noqa: F811
    # 46 rows in micro-batches of 7: for the last step of an epoch the first rank has 4 rows, the second none.
    common = {"lora": RECIPE["lora"] | {"dropout": 0.0}, "epochs": 2, "saveSteps": 100, "microBatch": 7} | recipe
    alone = {name: value for name, value in common.items() if name not in ("strategy", "deepspeed")} | {"accumulation": 2}
    ranks, one = (
        run_cell({**cell(name, **how), "baseModel": sober_model}, [])
        for name, how in {"ranks": common | {"processes": 2}, "one": alone}.items()
    )
    assert losses(ranks) == pytest.approx(losses(one), rel=1e-6)
    assert ranks.result["tokens"] == one.result["tokens"]


@pytest.mark.parametrize("recipe", STRATEGIES)
def test_random_kill_changes_nothing_and_ddp_trains_the_same(cell, recipe: dict[str, Any]):  # noqa: F811
    recipe = RANKS | recipe
    whole = run_cell(cell("whole", **recipe), [])
    kills = draw_kills(random.Random(), recipe["saveSteps"], whole.result["step"], 2)
    require_exact(run_cell(cell("killed", **recipe), kills), whole, kills)
    # Clipping would differ if the norm were that of a part.
    ddp = run_cell(cell("ddp", **recipe | {"strategy": "ddp"}), [])
    assert losses(whole) == pytest.approx(losses(ddp), rel=1e-4)
    norms = [[outcome.steps[step]["gradNorm"] for step in sorted(outcome.steps)] for outcome in (whole, ddp)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize("recipe", of_all({"fsdp": FSDP, "zero3": ZERO3}))
def test_merged_outputs_are_whole(cell, recipe: dict[str, Any]):  # noqa: F811
    """Beside DDP's, of which a part of a model would not have the sizes."""
    merged = {"maxSteps": 1, "outputs": ["merged-final"]}
    digests = []
    for name, strategy in (("parts", recipe), ("ddp", {"strategy": "ddp"})):
        (output,) = run_cell(cell(name, **RANKS | strategy | merged), []).result["outputs"]
        with safe_open(Path(output["path"]) / "model.safetensors", "pt") as file:
            digests.append({tensor: file.get_slice(tensor).get_shape() for tensor in file.keys()})  # noqa: SIM118
    assert digests[0] == digests[1] and all(digests[0].values())


@pytest.mark.parametrize(
    "recipe",
    of_all(
        {
            "fsdp, dpo": FSDP | {"method": "dpo"},
            "zero3, dpo": ZERO3 | {"method": "dpo"},
            "zero3, kto": ZERO3 | {"method": "kto"},
            "zero2, reward": ZERO2 | {"method": "reward"},
            "zero3, dpo, full": ZERO3 | {"method": "dpo", "tuning": "full"},
            "fsdp, kto": FSDP | {"method": "kto"},
            "fsdp, kto, full": FSDP | {"method": "kto", "tuning": "full"},
            "fsdp, reward": FSDP | {"method": "reward"},
            "fsdp, dora, packing": FSDP | {"packing": True, "microBatch": 2, "lora": RECIPE["lora"] | {"dora": True}},
            "zero2, own configuration": ZERO2 | {"deepspeed": OWN_ZERO2},
            "zero3, own configuration": ZERO3 | {"deepspeed": OWN_ZERO3, "tuning": "full"},
            "zero3, offload": ZERO3 | {"offload": "cpu"},
            "fsdp, bf16": FSDP | {"precision": "bf16", "tuning": "full"},
            "zero2, bf16": ZERO2 | {"precision": "bf16", "tuning": "full"},
            "ddp, bf16": {"precision": "bf16"},
            "fsdp, recomputed": FSDP | {"gradientCheckpointing": True},
        }
    ),
)
def test_kill_changes_nothing(cell, recipe: dict[str, Any]):  # noqa: F811
    kills = [Kill(5, "after optimizer", rank=1)]
    recipe = RANKS | {"maxSteps": 7} | recipe
    require_exact(run_cell(cell("killed", **recipe), kills), run_cell(cell("whole", **recipe), []), kills)


@pytest.mark.parametrize("recipe", of_all({"fsdp": FSDP, "zero3": ZERO3}))
def test_best_weights_and_a_death_after_the_last_save(cell, recipe: dict[str, Any]):  # noqa: F811
    recipe = STOPPING | {"processes": 2, "outputs": ["best", "final"]} | recipe
    whole = run_cell(cell("whole", **recipe), [])
    assert whole.result["stoppedEarly"]
    kills = [Kill(whole.result["step"], "saved")]
    killed = run_cell(cell("killed", **recipe), kills)
    # With their paths they differ.
    weights = [{output["name"]: output["weightsSha256"] for output in run.result.pop("outputs")} for run in (whole, killed)]
    require_exact(killed, whole, kills)
    assert weights[0] == weights[1]
    assert weights[0]["best"] == whole.result["weightsSha256"] != weights[0]["final"]


@pytest.mark.parametrize(("recipe", "cut"), [pytest.param(FSDP, "rows"), pytest.param(ZERO3, "flat", marks=needs_deepspeed)])
def test_each_rank_saves_its_part(cell, recipe: dict[str, Any], cut: str):  # noqa: F811
    document = cell("parts", **RANKS, **recipe, tuning="full", maxSteps=3)
    result = run_cell(document, []).result
    folder = Path(document["output"]) / "checkpoint-3"
    assert json.loads((folder / "state.json").read_text())["cut"] == cut
    assert {"rank-0.safetensors", "rank-1.safetensors"} < set(json.loads((folder / "manifest.json").read_text())["files"])
    for rank in (0, 1):
        with safe_open(folder / f"rank-{rank}.safetensors", "pt") as file:
            held = sum(file.get_tensor(name).numel() for name in file.keys() if name.startswith("weights/"))  # noqa: SIM118
        assert held == pytest.approx(result["trainableParameters"] / 2, rel=0.05)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"processes": 2}, {"processes": 1, "accumulation": 2}, id="ddp, 2 to 1"),
        pytest.param({"processes": 1, "accumulation": 2}, {"processes": 2}, id="ddp, 1 to 2"),
        pytest.param({"processes": 2} | FSDP, {"processes": 1, "accumulation": 2}, id="fsdp, 2 to 1"),
        pytest.param({"processes": 2, "accumulation": 3} | FSDP, {"processes": 3, "accumulation": 2} | FSDP, id="fsdp, 2 to 3"),
        pytest.param({"processes": 1, "accumulation": 2}, {"processes": 2} | FSDP, id="whole to fsdp"),
        pytest.param(
            {"processes": 2, "accumulation": 3} | ZERO2,
            {"processes": 3, "accumulation": 2} | ZERO2,
            id="zero2, 2 to 3",
            marks=needs_deepspeed,
        ),
        pytest.param({"processes": 2} | ZERO3, {"processes": 1, "accumulation": 2}, id="zero3 to whole", marks=needs_deepspeed),
        pytest.param({"processes": 1, "accumulation": 2}, {"processes": 2} | ZERO2, id="whole to zero2", marks=needs_deepspeed),
        pytest.param(
            {"processes": 3, "accumulation": 2, "tuning": "full"} | ZERO3,
            {"processes": 2, "accumulation": 3, "tuning": "full"} | ZERO3 | {"deepspeed": OWN_ZERO3},
            id="zero3, 3 to 2, in other pieces",
            marks=needs_deepspeed,
        ),
    ],
)
def test_another_number_of_processes_goes_on_where_it_was(cell, before: dict[str, Any], after: dict[str, Any]):  # noqa: F811
    """With the same effective batch, and without dropout, whose streams are each rank's own."""
    common = {"method": "dpo", "accumulation": 1, "saveSteps": 3, "maxSteps": 8, "epochs": 9}
    document = cell("whole", **common | before)
    whole = run_cell(document, [])
    resume = {"from": "checkpoint", "path": str(Path(document["output"]) / "checkpoint-6")}
    changed = run_cell({**cell("changed", **common | after), "resume": resume}, [])
    assert sorted(changed.steps) == [7, 8]
    for step in (7, 8):
        assert changed.steps[step]["loss"] == pytest.approx(whole.steps[step]["loss"], rel=1e-4)


def test_fsdp_shards_every_layer_and_gives_the_model_back_whole(words_model: str, tmp_path: Path):
    def work(rank: int) -> None:
        model = load_base(words_model, torch.device("cpu"))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        shard(model, torch.device("cpu"), None)
        sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
        assert [type(module).__name__ for module in sharded] == ["FSDPLlamaForCausalLM", *["FSDPLlamaDecoderLayer"] * 2]
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        unshard(model, keep=rank == 0)
        assert type(model).__name__ == "LlamaForCausalLM"
        if rank == 0:
            assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
            assert model.lm_head.weight is model.model.embed_tokens.weight

    events, code = lead(work, tmp_path)
    assert (list(events), code) == ([], 0)


@pytest.mark.parametrize(
    "layout",
    [
        # As stage 2 shares 5 numbers between 2 and 3 ranks, and stage 3.
        lambda world: [[{"share": 4 if world == 2 else 2, "parameters": [["a", [2]], ["b", [3, 1]]]}]],
        lambda world: [[{"share": 1, "parameters": [["a", [2]]]}], [{"share": 2 if world == 2 else 1, "parameters": [["b", [3, 1]]]}]],
    ],
)
def test_pieces_are_put_together_and_cut_anew(layout: Callable[[int], Any]):
    whole = {
        "weights/a": torch.arange(2),
        "weights/b": torch.arange(2, 5).reshape(3, 1),
        "exp_avg/a": torch.ones(2),
        "exp_avg/b": torch.zeros(3, 1),
    }
    for before, after in ((2, 3), (3, 2)):
        made = [pieces.cut({"pieces": layout(before)}, whole, rank, before) for rank in range(before)]
        joined = pieces.join({"pieces": layout(before)}, made)
        assert joined.keys() == whole.keys() and all(torch.equal(joined[name], whole[name]) for name in whole)
        again = [pieces.cut({"pieces": layout(after)}, joined, rank, after) for rank in range(after)]
        assert all(torch.equal(pieces.join({"pieces": layout(after)}, again)[name], whole[name]) for name in whole)
    with pytest.raises(BadRequest, match="has no b of the shape"):
        pieces.cut({"pieces": [[{"share": 4, "parameters": [["b", [4]]]}]]}, whole, 0, 1)


def test_rows_are_cut_as_fsdp_cuts_them():
    tensor = torch.arange(5).reshape(5, 1)
    assert [shares.rows_of(tensor, rank, 3).tolist() for rank in range(3)] == [[[0], [1]], [[2], [3]], [[4]]]
    assert [len(shares.rows_of(tensor[:1], rank, 3)) for rank in range(3)] == [1, 0, 0]


def test_checkpoints_from_before_layouts_say_what_reads_them():
    with pytest.raises(BadRequest, match=r"made by 3 ranks, without a record .* resume with 3 ranks, or start a new run"):
        pieces.join(None, [{"weights/000000": torch.zeros(2)}] * 3)
