"""Every configuration: killed and resumed, it ends at the numbers and bytes of a run that was left alone; an open hole does not."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
from kills import Kill, Outcome, draw_kills, run_cell
from support import RECIPE

# 46 rows in micro-batches of 4: 12 steps an epoch, 18 steps in all, so that both epochs are met.
BASE = RECIPE | {"accumulation": 1, "epochs": 1.5, "saveSteps": 4, "evalSteps": 5}

# Ten micro-batches of 5 by fours leave two for the last step of an epoch: 3 steps an epoch.
REMAINDER = {"microBatch": 5, "accumulation": 4, "epochs": 5, "saveSteps": 3}

CELLS: dict[str, dict[str, Any]] = {
    "full": {"tuning": "full"},
    "lora": {},
    "accumulation": REMAINDER,
    "packing": {"packing": True, "microBatch": 2},
    "workers": {"dataloaderWorkers": 2},
    "streaming": {"streaming": True, "dataloaderWorkers": 1, "tokenDropout": 0.2},
    "token dropout": {"tokenDropout": 0.2, "dataloaderWorkers": 1},
    "dpo": {"method": "dpo"},
    "ranks": {"processes": 2, "epochs": 3},
    "ranks, full": {"processes": 2, "epochs": 3, "tuning": "full"},
    "ranks, accumulation": {"processes": 2, **REMAINDER, "microBatch": 3},
    "ranks, packing, workers, token dropout": {
        "processes": 2,
        "epochs": 4,
        "packing": True,
        "microBatch": 2,
        "dataloaderWorkers": 1,
        "tokenDropout": 0.2,
    },
    # With more than two, the order in which gradients are added could differ.
    "three ranks": {"processes": 3, "epochs": 4, "tuning": "full"},
}


@pytest.fixture
def cell(words_model: str, drill: dict[str, Path], tmp_path: Path):
    """Makes a cell's job, in a folder of its own."""

    def make(name: str, hole: str | None = None, **recipe: Any) -> dict[str, Any]:
        merged = BASE | recipe
        shards = drill[merged["method"]]
        return {
            "v": 1,
            "command": "train",
            "baseModel": words_model,
            "baseName": "words",
            "train": str(shards / "train.safetensors"),
            "validation": str(shards / "validation.safetensors"),
            "output": str(tmp_path / name),
            "resume": None,
            "warm": None,
            "hole": hole,
            "recipe": merged,
        }

    return make


def require_exact(killed: Outcome, whole: Outcome, kills: list[Kill]) -> None:
    assert killed.differences(whole) == [], kills
    assert killed.contradictions == [], kills
    assert len(killed.codes) == len(kills) + 1, (kills, killed.codes)


@pytest.mark.parametrize("name", CELLS)
def test_random_kills_change_nothing(cell, name: str):
    whole = run_cell(cell("whole", **CELLS[name]), [])
    recipe = BASE | CELLS[name]
    kills = draw_kills(random.Random(), recipe["saveSteps"], whole.result["step"], recipe["processes"])
    require_exact(run_cell(cell("killed", **CELLS[name]), kills), whole, kills)


def test_resume_at_an_epochs_edge_is_exact(cell):
    options = {"saveSteps": 12, "dataloaderWorkers": 1}
    kills = [Kill(12, "saved"), Kill(13, "after optimizer")]
    require_exact(run_cell(cell("killed", **options), kills), run_cell(cell("whole", **options), []), kills)


# A rate so high that the validation loss soon grows.
STOPPING = {
    "earlyStopping": {"patience": 3, "threshold": 0},
    "learningRate": 0.2,
    "epochs": 6,
    "evalSteps": 2,
    "saveSteps": 2,
    "tuning": "full",
}


def test_early_stopping_is_exact_with_its_patience_half_used(cell):
    whole = run_cell(cell("whole", **STOPPING), [])
    assert whole.result["stoppedEarly"]
    end = whole.result["step"]
    kills = [Kill(end - 4, "saved"), Kill(end - 1, "before optimizer"), Kill(end, "saved")]
    require_exact(run_cell(cell("killed", **STOPPING), kills), whole, kills)


# Neither end lies at an epoch's edge, where transformers would stop by itself.
ENDING = {"maxSteps": 13, "schedule": "constant"}


def test_resume_from_the_final_checkpoint_trains_no_further_step(cell):
    kills = [Kill(13, "saved")]
    killed = run_cell(cell("killed", **ENDING), kills)
    require_exact(killed, run_cell(cell("whole", **ENDING), []), kills)
    assert killed.result["step"] == 13


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_inside_accumulation_saves_at_the_step_edge(cell, processes: int):
    options = REMAINDER | {"processes": processes, "saveSteps": 1000, "evalSteps": 1000, "microBatch": 3}
    kills = [Kill(n, "substep", rank=processes - 1, signal=signal.SIGTERM) for n in (2, 5)]
    whole = run_cell(cell("whole", **options), [])
    killed = run_cell(cell("killed", **options), kills)
    # Each checkpoint is that of the step that was running.
    assert killed.codes == [41, 41, 0]
    require_exact(killed, whole, kills)


@pytest.mark.parametrize(
    ("hole", "options", "kill"),
    [
        ("unkeyed-collator", {"tokenDropout": 0.2}, lambda end: Kill(6, "end")),
        ("no-callback-state", STOPPING, lambda end: Kill(end - 1, "before optimizer")),
        ("no-terminal-flag", ENDING, lambda end: Kill(end, "saved")),
    ],
)
def test_negative_control_an_open_hole_shows(cell, hole: str, options: dict[str, Any], kill):
    """Shows that the comparisons above can fail."""
    whole = run_cell(cell("whole", hole, **options), [])
    killed = run_cell(cell("killed", hole, **options), [kill(whole.result["step"])])
    assert "weightsSha256" in killed.differences(whole)
