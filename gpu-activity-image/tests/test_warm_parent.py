"""The parents with real processes: their forks do what a cold start does, die at any moment without a trace in the result, and never outlive them."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anneal_trainer import warm_parent as parents_module
from anneal_trainer.warm_parent import Unforkable
from parents import Forked, JobParent, Life, Parent, warm_parent
from support import GOLDEN, TINY, Events, child

MORTAL = str(Path(__file__).with_name("mortal.py"))

# 46 rows in micro-batches of 4 are 12, the last one short; two by two 6 steps an epoch. Two threads, so that their number shows in the bits.
STEPS = 12
RECIPE = {"epochs": 2, "microBatch": 4, "accumulation": 2, "learningRate": 0.005, "saveSteps": 3, "evalSteps": 4, "keep": 100, "threads": 2}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": "auto", "firstLayer": 0}


def job(shards: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    golden = json.loads((GOLDEN / "jobs" / "train.json").read_text("utf-8"))
    wanted = {"lora": LORA, "earlyStopping": None, "dataloaderWorkers": 0, "tokenDropout": 0}
    wanted |= {"hosts": 1, "strategy": "ddp", "deepspeed": "zero2", "gradientCheckpointing": False, "optimizer": "adamw"}
    return golden | {
        "baseModel": TINY,
        "train": str(shards / "train.safetensors"),
        "validation": str(shards / "validation.safetensors"),
        "output": str(output),
        "resume": None,
        "warm": None,
        "parent": None,
        "pauseAt": None,
        "gang": None,
        "recipe": golden["recipe"] | wanted | RECIPE | recipe,
    }


def curve(events: Events) -> dict[int, dict[str, Any]]:
    """Step events by step, without what a clock decides."""
    return {event["step"]: {k: v for k, v in event.items() if k != "seconds"} for event in events.of("step")}


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "adapter"}


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, deaths: Path) -> Iterator[Parent]:
    """One warm parent for all tests of this file; its forks die when the test says so."""
    with warm_parent(tmp_path_factory.mktemp("parent"), (MORTAL, str(deaths), "warm-parent")) as started:
        yield started


@pytest.fixture(scope="module")
def cold(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Events:
    """The same job as the warm ones, cold and undisturbed."""
    folder = tmp_path_factory.mktemp("cold")
    with child(job(shards, folder / "run"), folder) as trainer:
        assert trainer.exit_code() == 0
        return trainer.seen


def warm_job(shards: Path, tmp_path: Path, **recipe: Any) -> dict[str, Any]:
    warm = {
        "folder": str(tmp_path / "shm" / "r-1" / "claim-1"),
        "run": "r-1",
        "claim": 1,
        "lineage": "abc",
        "bytesMax": 1 << 30,
        "everySteps": 1,
    }
    return {**job(shards, tmp_path / "run", **recipe), "warm": warm}


def attempt(job_parent: JobParent, resume: dict[str, Any] | None) -> Forked:
    return job_parent.fork("attempt", resume=resume)


def from_warm(document: dict[str, Any]) -> dict[str, Any]:
    return {"from": "warm", "folder": document["warm"]["folder"]}


def assert_same(whole: Events, *parts: Events) -> None:
    """The attempts together show every step of the undisturbed run, some of them twice and then alike, and the last has its result."""
    seen: dict[int, Any] = {}
    for part in parts:
        steps = curve(part)
        assert {n: seen[n] for n in steps if n in seen} == {n: steps[n] for n in steps if n in seen}
        seen |= steps
    assert seen == curve(whole)
    assert comparable(parts[-1].result()) == comparable(whole.result())


def test_forked_job_is_the_cold_one(parent: Parent, shards: Path, cold: Events, tmp_path: Path):
    forked = parent.run(job(shards, tmp_path / "run"))
    assert forked.end() == 0
    assert_same(cold, forked.seen)
    assert os.getpgid(0) != forked.pid


def test_forked_job_that_is_refused_says_why(parent: Parent, shards: Path, tmp_path: Path):
    forked = parent.run({"v": 1, "command": "fly"})
    assert forked.end() == 42
    assert "`command` must be one of" in forked.seen.of("failed")[0]["message"]
    refused = parent.run({"v": 1, "command": "prepare-train", "train": {**job(shards, tmp_path), "baseModel": str(tmp_path)}})
    assert refused.end() == 42 and refused.seen.of("failed")[0]["kind"] == "bad_request"


def test_kill_at_every_kind_of_moment_costs_at_most_the_step(parent: Parent, deaths: Path, shards: Path, cold: Events, tmp_path: Path):
    """Right after the fork; inside a step; inside a copy to shared memory; inside a save and after it."""
    document = warm_job(shards, tmp_path)
    moments = [("step", 3, 2), ("copy", 5, 4), ("save", 6, 5), ("copy", 7, 6), ("saved", 8, 7), ("copy", STEPS, STEPS - 1)]
    for moment, step, _ in moments:
        (deaths / f"{moment}-{step}").touch()
    job_parent = parent.prepare(document)
    newborn = attempt(job_parent, None)
    os.kill(newborn.pid, signal.SIGKILL)
    assert newborn.end() == "SIGKILL"

    seen, resume = [], None
    for _, _, kept in moments:
        trainer = attempt(job_parent, resume)
        assert trainer.end() == "SIGKILL"
        seen.append(trainer.seen)
        resume = from_warm(document)
        assert seen[-1].of("plan")[0]["source"] == ("warm" if len(seen) > 1 else "fresh")
        assert max(curve(seen[-1])) - kept <= 1
    last = attempt(job_parent, resume)
    assert last.end() == 0
    plans = [events.of("plan")[0]["from"] for events in [*seen, last.seen]]
    assert plans == [0, *(kept for _, _, kept in moments)]
    assert not list(deaths.iterdir())
    assert_same(cold, *seen, last.seen)


def descendants(pid: int) -> list[int]:
    children = [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]
    return [*children, *(grandchild for one in children for grandchild in descendants(one))]


def test_kill_after_the_last_copy_needs_no_further_step(parent: Parent, shards: Path, cold: Events, tmp_path: Path):
    document = warm_job(shards, tmp_path)
    job_parent = parent.prepare(document)
    assert attempt(job_parent, None).end() == 0
    again = attempt(job_parent, from_warm(document))
    assert again.end() == 0
    assert not again.seen.of("step") and again.seen.of("plan")[0]["from"] == STEPS
    assert comparable(again.seen.result()) == comparable(cold.result())


def test_early_stopping_survives_in_warm_state(parent: Parent, deaths: Path, shards: Path, tmp_path: Path):
    """The best weights and the patience that is used up are part of it."""
    options = {"earlyStopping": {"patience": 2, "threshold": 0.0}, "evalSteps": 1, "learningRate": 0.2, "saveSteps": 1000}
    whole = parent.run(job(shards, tmp_path / "whole", **options))
    assert whole.end() == 0
    result = whole.seen.result()
    assert result["stoppedEarly"] and result["best"]["step"] < result["step"]
    document = warm_job(shards, tmp_path, **options)
    (deaths / f"step-{result['step']}").touch()
    job_parent = parent.prepare(document)
    first = attempt(job_parent, None)
    assert first.end() == "SIGKILL"
    second = attempt(job_parent, from_warm(document))
    assert second.end() == 0
    assert_same(whole.seen, first.seen, second.seen)


def test_gang_goes_on_from_the_step_of_its_slowest_rank(parent: Parent, deaths: Path, shards: Path, tmp_path: Path):
    """A rank dies in its copy while the other's may be done; then the leader dies, and its ranks with it."""
    options = {"processes": 2, "threads": 1, "accumulation": 1, "saveSteps": 1000}
    whole = parent.run(job(shards, tmp_path / "whole", **options))
    assert whole.end() == 0
    document = warm_job(shards, tmp_path, **options)
    (deaths / "copy-5").touch()
    job_parent = parent.prepare(document)
    first = attempt(job_parent, None)
    assert first.end() == "SIGKILL"
    # Or they may be done before it dies.
    held = deaths / "hold-8"
    held.touch()
    second = attempt(job_parent, from_warm(document))
    second.wait_for("step", step=7)
    ranks = [Life(pid) for pid in descendants(second.pid)]
    os.kill(second.pid, signal.SIGKILL)
    assert second.end() == "SIGKILL"
    assert len(ranks) == 2 and all(rank.is_over() for rank in ranks)
    held.unlink()
    third = attempt(job_parent, from_warm(document))
    assert third.end() == 0
    assert second.seen.of("plan")[0]["from"] == 4 and third.seen.of("plan")[0]["from"] >= 6
    assert_same(whole.seen, first.seen, second.seen, third.seen)


def test_cold_start_goes_on_from_warm_state(parent: Parent, deaths: Path, shards: Path, cold: Events, tmp_path: Path):
    document = warm_job(shards, tmp_path)
    (deaths / "step-5").touch()
    first = parent.run(document)
    assert first.end() == "SIGKILL"
    with child({**document, "resume": from_warm(document)}, tmp_path / "job") as trainer:
        assert trainer.exit_code() == 0
    assert trainer.seen.of("plan")[0] | {"from": 4, "source": "warm"} == trainer.seen.of("plan")[0]
    assert_same(cold, first.seen, trainer.seen)


def test_sigterm_right_after_the_fork_is_obeyed(parent: Parent, shards: Path, tmp_path: Path):
    job_parent = parent.prepare(warm_job(shards, tmp_path))
    _, listener = job_parent.command("attempt", resume=None)
    with listener:
        forked = job_parent.stream.wait_for("forked")
        os.killpg(forked["pid"], signal.SIGTERM)
        connection, _ = listener.accept()
    trainer = Forked(job_parent, forked["pid"], forked["id"], connection)
    assert trainer.end() == 41
    assert trainer.seen.of("interrupted")[0]["step"] <= 1


def test_foreign_warm_state_is_refused_and_the_next_attempt_trains(parent: Parent, shards: Path, cold: Events, tmp_path: Path):
    document = warm_job(shards, tmp_path)
    assert parent.run({**document, "warm": {**document["warm"], "run": "r-2"}}).end() == 0
    job_parent = parent.prepare(document)
    refused = attempt(job_parent, from_warm(document))
    assert refused.end() == 44
    assert "is of run r-2, not of r-1" in refused.seen.of("failed")[0]["message"]
    accepted = attempt(job_parent, None)
    assert accepted.end() == 0
    assert_same(cold, accepted.seen)


def test_without_room_for_warm_state_training_goes_on(parent: Parent, shards: Path, cold: Events, tmp_path: Path):
    document = warm_job(shards, tmp_path)
    trainer = parent.run({**document, "warm": {**document["warm"], "bytesMax": 10}})
    assert trainer.end() == 0
    assert [finding["code"] for finding in trainer.seen.of("finding")] == ["warm_state_off"]
    assert_same(cold, trainer.seen)


def test_nothing_survives_a_supervisor_that_is_killed(shards: Path, tmp_path: Path):
    """The whole chain: supervisor, warm parent, job parent, trainer, its dataloader workers."""
    supervisor = f"""
import signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from parents import warm_parent
from test_warm_parent import attempt, warm_job
folder = Path({str(tmp_path)!r})
with warm_parent(folder) as parent:
    job_parent = parent.prepare(warm_job(Path({str(shards)!r}), folder, epochs=1000, dataloaderWorkers=2))
    trainer = attempt(job_parent, None)
    trainer.wait_for("step", step=2)
    print("ready", flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        lives = [Life(pid) for pid in descendants(process.pid)]
        process.kill()
    assert len(lives) == 5
    assert [life.pid for life in lives if not life.is_over()] == []


def test_dead_trainer_takes_its_workers_along(parent: Parent, shards: Path, tmp_path: Path):
    job_parent = parent.prepare(warm_job(shards, tmp_path, epochs=1000, dataloaderWorkers=2))
    trainer = attempt(job_parent, None)
    trainer.wait_for("step", step=2)
    workers = [Life(pid) for pid in descendants(trainer.pid)]
    assert len(workers) == 2
    os.kill(trainer.pid, signal.SIGKILL)
    assert trainer.end() == "SIGKILL"
    assert all(worker.is_over() for worker in workers)


def test_end_ends_a_parent_and_its_children(parent: Parent, shards: Path, tmp_path: Path):
    job_parent = parent.prepare(warm_job(shards, tmp_path, epochs=1000))
    trainer = attempt(job_parent, None)
    trainer.wait_for("step", step=1)
    life = Life(trainer.pid)
    # It asks the trainers alone to save.
    os.kill(job_parent.forked.pid, signal.SIGTERM)
    trainer.wait_for("step")
    job_parent.stream.send({"op": "end"})
    assert job_parent.forked.end() == 0
    assert life.is_over()


def test_command_that_makes_no_sense_ends_a_parent_with_a_sentence(parent: Parent, shards: Path, tmp_path: Path):
    job_parent = parent.prepare(warm_job(shards, tmp_path))
    job_parent.stream.send({"op": "attempt", "id": "a"})
    assert job_parent.forked.end() == 42
    failed = job_parent.stream.seen.of("failed")[0]
    assert failed["kind"] == "bad_request" and "`channel` must be given" in failed["message"]


def test_child_that_finds_no_supervisor_ends(parent: Parent, tmp_path: Path):
    parent.stream.send({"op": "run", "id": "lost", "channel": str(tmp_path / "none"), "log": str(tmp_path / "log"), "job": "none"})
    assert parent.stream.wait_for("exited", id="lost")["code"] == 45


def test_process_with_threads_is_not_forked():
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with pytest.raises(Unforkable, match=r"has \d+ threads, and a fork of it may hang; start the trainer cold"):
            parents_module._require_forkable()
    finally:
        release.set()
        thread.join()


def test_process_that_has_touched_cuda_is_not_forked(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "listdir", lambda _: ["1"])
    with pytest.raises(Unforkable, match="has touched CUDA"):
        parents_module._require_forkable()


def test_each_rank_says_what_is_wrong_with_itself(parent: Parent, shards: Path, tmp_path: Path):
    document = warm_job(shards, tmp_path, processes=2, threads=1, accumulation=1, maxSteps=1)
    trainer = parent.run({**document, "warm": {**document["warm"], "bytesMax": 10}})
    assert trainer.end() == 0
    messages = sorted(finding["message"] for finding in trainer.seen.of("finding"))
    assert [message.split(":")[0] for message in messages] == ["Rank 1", "Warm state is off"]
