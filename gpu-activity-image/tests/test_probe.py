"""The probe: what a few rows take, in processes of their own, and the line through them beside the peak of a real training."""

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anneal_trainer import probe as probe_module
from anneal_trainer.drill_data import make_drill_data
from anneal_trainer.probe import probe, rows_to_try
from anneal_trainer.protocol import DrillDataJob, ProbeJob, TrainerError, TrainJob, parse_job
from anneal_trainer.shards import read_shard, write_longest_row, write_shard
from support import GOLDEN, RECIPE, TINY, Events, child
from test_ranks import children_of
from test_strategies import needs_deepspeed

# Its logits rule: 49,152 numbers for each label.
ROWS, TOKENS, LABELS = 64, 32, 16

RESULT = json.loads((GOLDEN / "results.json").read_text("utf-8"))["probe"]


def train_job(shard: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    job = {"v": 1, "command": "train", "baseModel": TINY, "baseName": "tiny", "train": str(shard), "validation": None}
    short = {"microBatch": ROWS, "accumulation": 1, "maxSteps": 3, "epochs": 10, "saveSteps": 100}
    return job | {"output": str(output), "resume": None, "warm": None, "hole": None, "recipe": RECIPE | short | recipe}


def run_probe(document: dict[str, Any]) -> list[dict[str, Any]]:
    events, job = Events(), parse_job(json.dumps({"v": 1, "command": "probe", "train": document}))
    assert isinstance(job, ProbeJob)
    probe(job, events)
    assert not Path(document["output"]).exists()
    points = events.result()["points"]
    assert set(points[0]) == set(RESULT["points"][0])
    return points


def _read_status(process: int | str, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("probe") / "train.safetensors"
    rng = np.random.default_rng(1)
    trainable = (np.arange(TOKENS) >= TOKENS - LABELS).astype(np.uint8)
    write_shard(file, [(rng.integers(10, 40_000, TOKENS).astype(np.int32), trainable) for _ in range(ROWS * 3)])
    return file


def test_two_numbers_of_rows_are_tried_and_none_twice():
    assert [rows_to_try(n) for n in (1, 2, 3, 8, 9)] == [[1], [1, 2], [2, 3], [4, 8], [5, 9]]
    assert [rows_to_try(n, least=2) for n in (2, 4)] == [[2], [2, 4]]


def test_two_short_trainings_predict_the_peak_of_a_long_one(shard: Path, tmp_path: Path):
    # In a process of its own: this one's memory would count.
    with child({"v": 1, "command": "probe", "train": train_job(shard, tmp_path / "out", outputs=["best"])}, tmp_path / "probe") as prober:
        assert prober.exit_code() == 0
    first, second = prober.seen.result()["points"]
    assert (first["rows"], second["rows"]) == (ROWS // 2, ROWS)
    assert second["tokens"] == second["rows"] * TOKENS and second["seconds"] > 0
    with child(train_job(shard, tmp_path / "run", maxSteps=4), tmp_path / "run-job", hold=4) as trainer:
        trainer.wait_for("step", 3)
        peak = _read_status(trainer.process.pid, "VmHWM")
        trainer.release()
        assert trainer.exit_code() == 0
    assert second["bytes"] == pytest.approx(peak, rel=0.1), (first, second, peak)
    # It would be no prediction if everything came to the same.
    assert second["bytes"] > 1.2 * first["bytes"]


@pytest.mark.parametrize(("method", "kind"), [("dpo", "preference"), ("kto", "judged"), ("reward", "preference")])
def test_every_method_can_be_probed(method: str, kind: str, tmp_path: Path):
    make_drill_data(DrillDataJob(1, "drill-data", kind, TINY, 8, 1, str(tmp_path)), Events())
    options = {"method": method, "microBatch": 2}
    assert [point["rows"] for point in run_probe(train_job(tmp_path / "train.safetensors", tmp_path / "probe", **options))][-1] == 2


@needs_deepspeed
def test_deepspeed_is_probed_by_its_ranks(shard: Path, tmp_path: Path):
    recipe = {"processes": 2, "tuning": "full", "strategy": "deepspeed", "deepspeed": "zero3"}
    first, second = run_probe(train_job(shard, tmp_path / "probe", **recipe))
    assert second["bytes"] > first["bytes"] and second["seconds"] > 0


def test_ranks_with_a_part_each_are_probed_as_ranks(shard: Path, tmp_path: Path):
    recipe = {"processes": 2, "tuning": "full", "maxSteps": 2, "strategy": "fsdp"}
    with child({"v": 1, "command": "probe", "train": train_job(shard, tmp_path / "out", **recipe)}, tmp_path / "probe") as prober:
        assert prober.exit_code() == 0
    first, second = prober.seen.result()["points"]
    assert second["bytes"] > 1.2 * first["bytes"] and second["seconds"] > 0
    with child(train_job(shard, tmp_path / "run", **recipe | {"maxSteps": 3}), tmp_path / "run-job", hold=3) as trainer:
        trainer.wait_for("step", 2)
        peaks = [_read_status(rank, "VmHWM") for rank in children_of(trainer.process.pid)]
        trainer.release()
        assert trainer.exit_code() == 0
    assert len(peaks) == 2 and second["bytes"] == pytest.approx(max(peaks), rel=0.1), (first, second, peaks)


def test_copies_are_of_the_longest_row(shard: Path, tmp_path: Path):
    file = tmp_path / "copies.safetensors"
    rows = [(np.full(n, n, np.int32), np.ones(n, np.uint8)) for n in (3, 9, 5)]
    write_shard(tmp_path / "rows.safetensors", rows)
    assert write_longest_row(file, read_shard(str(tmp_path / "rows.safetensors")), 4) == 9
    copies = read_shard(str(file))
    assert copies.lengths.tolist() == [9] * 4 and set(copies.input_ids) == {9}


def test_what_a_training_would_refuse_is_refused(shard: Path, tmp_path: Path):
    with pytest.raises(TrainerError, match="moon") as refused:
        run_probe(train_job(shard, tmp_path / "probe", lora=RECIPE["lora"] | {"targets": ["moon"]}))
    assert refused.value.kind == "bad_request"


def test_memory_that_runs_out_is_an_answer(shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second training may not even load the model."""
    train_briefly = probe_module._train_briefly

    def with_limit(job: TrainJob, folder: Path, rows: int) -> dict[str, Any]:
        if rows == ROWS:
            resource.setrlimit(resource.RLIMIT_AS, (_read_status("self", "VmSize") + 2**23, -1))
        return train_briefly(job, folder, rows)

    monkeypatch.setattr(probe_module, "_train_briefly", with_limit)
    points = run_probe(train_job(shard, tmp_path / "probe"))
    assert [point["bytes"] is None for point in points] == [False, True]
