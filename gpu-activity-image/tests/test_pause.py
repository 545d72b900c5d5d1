"""A run that waits at a share of its steps: it stops at exactly that step with its validation loss, and what follows is as if it had not."""

import json
from pathlib import Path
from typing import Any

import pytest
from anneal_trainer.protocol import EXIT_DONE, EXIT_INTERRUPTED, Interrupted, parse_job
from anneal_trainer.train import train
from kills import begin
from support import RECIPE, Events, curve, newest

# 46 rows in micro-batches of 4: 12 steps an epoch, 18 in all. Evaluations fall on 5, 10, 15 and 18, the pause on 7.
PAUSE_AT = 0.37
STOPPING = {"earlyStopping": {"patience": 2, "threshold": 0.0}, "learningRate": 0.1}


@pytest.fixture
def run(words_model: str, drill: dict[str, Path], tmp_path: Path):
    """Trains in a folder of its own; gives the events, whether or not it came to its end."""

    def start(name: str, pause_at: float | None = None, resume: Path | None = None, **recipe: Any) -> Events:
        document = {
            **{"v": 1, "command": "train", "baseModel": words_model, "baseName": "words", "warm": None, "hole": None},
            **{split: str(drill["sft"] / f"{split}.safetensors") for split in ("train", "validation")},
            "output": str(tmp_path / name),
            "resume": resume and {"from": "checkpoint", "path": str(resume)},
            "pauseAt": pause_at,
            "recipe": RECIPE | {"accumulation": 1, "epochs": 1.5, "saveSteps": 100, "evalSteps": 5} | recipe,
        }
        if document["recipe"]["processes"] > 1:
            # Ranks are forked: their events are seen on the channel only.
            events, code = begin(document, None, tmp_path / f"{name}-log")()
            assert code in (EXIT_DONE, EXIT_INTERRUPTED)
            return events
        events = Events()
        try:
            train(parse_job(json.dumps(document)), events)
        except Interrupted as interruption:
            assert interruption.step == events.of("paused")[0]["step"]
        return events

    return start


def test_it_stops_at_the_step_with_its_loss_and_the_rest_is_exact(run, tmp_path: Path):
    whole = run("whole", **STOPPING)
    first = run("paused", PAUSE_AT, **STOPPING)
    assert [event["step"] for event in first.of("step")] == list(range(1, 8))
    assert first.of("checkpoint_saved")[-1]["step"] == 7 and not first.of("done")
    assert first.of("paused") == [{"ev": "paused", "step": 7, "evalLoss": first.of("metrics")[-1]["evalLoss"]}]
    rest = run("paused", resume=tmp_path / "paused" / "checkpoint-7", **STOPPING)
    assert curve(first) | curve(rest) == curve(whole)
    # Also what depends on the evaluations: the one at the pause is nobody's best.
    keys = ("weightsSha256", "best", "stoppedEarly", "evalLoss")
    assert {key: rest.result()[key] for key in keys} == {key: whole.result()[key] for key in keys}


def test_a_scheduled_evaluation_at_the_pause_counts(run, tmp_path: Path):
    whole, first = run("whole"), run("paused", 10 / 18)
    assert [event["step"] for event in first.of("metrics")] == [5, 10]
    rest = run("paused", resume=tmp_path / "paused" / "checkpoint-10")
    assert rest.result()["best"] == whole.result()["best"]


def test_killed_at_the_pause_it_looks_again_and_trains_no_step(run, tmp_path: Path):
    first = run("paused", PAUSE_AT)
    again = run("again", PAUSE_AT, resume=newest(tmp_path / "paused"))
    assert again.of("step") == []
    assert again.of("paused") == first.of("paused")


def test_ranks_pause_together(run, tmp_path: Path):
    options = {"processes": 2, "epochs": 3}
    whole, first = run("whole", **options), run("paused", 0.5, **options)
    rest = run("paused", resume=newest(tmp_path / "paused"), **options)
    assert curve(first) | curve(rest) == curve(whole)
    assert rest.result()["weightsSha256"] == whole.result()["weightsSha256"]


def test_the_last_step_is_no_pause(run):
    events = run("short", 0.9, maxSteps=1)
    assert events.of("paused") == [] and events.result()["step"] == 1
