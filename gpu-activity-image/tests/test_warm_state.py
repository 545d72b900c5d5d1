"""Warm state by itself: what a kill, damage, another run's state or full memory leaves, and how often it is kept."""

import dataclasses
import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from anneal_trainer import warm_state
from anneal_trainer.faults import classify
from anneal_trainer.protocol import CheckpointCorrupt, Warm
from anneal_trainer.state import TrainingState
from anneal_trainer.warm_state import WarmState
from support import GOLDEN, Events

SLOT_0, SLOT_1 = "rank-0.slot-0", "rank-0.slot-1"


def warm_in(folder: Path, **fields) -> Warm:
    return Warm(**{"folder": str(folder), "run": "r-1", "claim": 2, "lineage": "abc", "bytes_max": 1 << 30, "every_steps": 1} | fields)


def state_of(step: int, rank: int = 0) -> TrainingState:
    generator = torch.Generator().manual_seed(step * 10 + rank)
    tensors = {
        "weights": torch.randn(3, 5, generator=generator),
        "half": torch.randn(7, generator=generator).bfloat16(),
        "steps": torch.full((2,), step, dtype=torch.int64),
        "none": torch.empty(0, 4),
    }
    return TrainingState(tensors, {"step": step, "rng": [step, rank], "text": "é"})


def opened(warm: Warm, rank: int = 0, processes: int = 1, resumed: int | None = None, emit: Events | None = None) -> WarmState:
    """As on a GPU: copies take turns."""
    return WarmState(warm, rank, processes, resumed, emit if emit is not None else Events(), lambda number: number, None)


class Living:
    """A training on the CPU, which lives in its warm state once that is there."""

    def __init__(self, warm: Warm, resumed: int | None = None, rank: int = 0, processes: int = 1):
        self.rank, self.emitted = rank, Events()
        self.tensors = state_of(0).tensors
        self.warm = WarmState(warm, rank, processes, resumed, self.emitted, lambda number: number, self.live_in)

    def live_in(self, tensors: dict[str, torch.Tensor]) -> None:
        assert all(torch.equal(tensors[name], tensor) for name, tensor in self.tensors.items())
        self.tensors = tensors

    def update(self, step: int) -> None:
        for name, tensor in state_of(step, self.rank).tensors.items():
            self.tensors[name].copy_(tensor)

    def step(self, *steps: int, **more) -> None:
        for step in steps:
            self.warm.update_begins()
            self.update(step)
            self.warm.step_done(step, False, 1.0, lambda step=step: TrainingState(self.tensors, state_of(step, self.rank).blob | more))


def keep(state: WarmState, *steps: int, rank: int = 0) -> None:
    for step in steps:
        state.step_done(step, False, 1.0, lambda step=step: state_of(step, rank))


def assert_holds(warm: Warm, step: int, rank: int = 0, processes: int = 1) -> None:
    assert warm_state.newest_step(warm.folder, warm, processes) == step
    found, wanted = warm_state.read(warm.folder, warm, processes, rank, step), state_of(step, rank)
    assert found.blob == wanted.blob and list(found.tensors) == list(wanted.tensors)
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(found.tensors[name], tensor), name


def header_of(file: Path) -> dict:
    return json.loads(file.read_bytes()[8:4096].rstrip(b"\0"))


def write_header(file: Path, header: dict) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(8)
        opened_file.write(json.dumps(header).encode().ljust(4088, b"\0"))


def test_newest_step_comes_back_as_it_was(tmp_path: Path):
    warm = warm_in(tmp_path / "r-1" / "claim-2")
    keep(opened(warm), 1, 2, 3)
    assert_holds(warm, 3)
    header = header_of(Path(warm.folder) / SLOT_0)
    golden = json.loads((GOLDEN / "results.json").read_text("utf-8"))["warmState"]
    assert {name: type(value) for name, value in header.items()} == {name: type(value) for name, value in golden.items()}
    assert set(header["blob"]) == set(golden["blob"])
    assert int.from_bytes((Path(warm.folder) / SLOT_0).read_bytes()[:8], "little") == 4


@pytest.mark.parametrize("moment", ["tensors", "header", "word"])
def test_kill_inside_a_copy_leaves_the_step_before(tmp_path: Path, moment: str):
    """A real process that is killed while it writes step 4 over step 2."""
    warm = warm_in(tmp_path)
    pid = os.fork()
    if pid == 0:
        die_inside_the_fourth_copy(warm, moment)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert int.from_bytes((tmp_path / SLOT_1).read_bytes()[:8], "little") == 0
    assert_holds(warm, 3)
    # The next attempt writes over the torn slot, not over the one that it came from.
    keep(opened(warm, resumed=3), 4)
    assert_holds(warm, 4)
    assert header_of(tmp_path / SLOT_0)["step"] == 3


def die_inside_the_fourth_copy(warm: Warm, moment: str) -> NoReturn:
    """With some of the tensors written; with all but the header; with all but the commit word."""
    try:
        state = opened(warm)
        keep(state, 1, 2, 3)
        copy, encode = torch._foreach_copy_, warm_state.Header.encode

        def die(*_: object) -> NoReturn:
            os.kill(os.getpid(), signal.SIGKILL)

        def write_and_die(header: warm_state.Header) -> NoReturn:
            state._slots[1]._mapped[8:4096] = encode(header).ljust(4088, b"\0")
            die()

        if moment == "tensors":
            torch._foreach_copy_ = lambda views, sources: die(copy(views[:1], sources[:1]))
        else:
            warm_state.Header.encode = die if moment == "header" else write_and_die
        keep(state, 4)
    finally:
        os._exit(1)


@pytest.mark.parametrize("byte", [0, 3, 9, 60, 400])
def test_flipped_bit_in_word_or_header_costs_one_step(tmp_path: Path, byte: int):
    warm = warm_in(tmp_path)
    keep(opened(warm), 1, 2)
    content = bytearray((tmp_path / SLOT_1).read_bytes())
    content[byte] ^= 4
    (tmp_path / SLOT_1).write_bytes(content)
    assert_holds(warm, 1)


def test_nothing_whole_is_refused_by_a_sentence(tmp_path: Path):
    warm = warm_in(tmp_path)
    keep(opened(warm), 1, 2)
    (tmp_path / SLOT_0).write_bytes(bytes(8) + (tmp_path / SLOT_0).read_bytes()[8:])
    (tmp_path / SLOT_1).write_bytes((tmp_path / SLOT_1).read_bytes()[:2000])
    with pytest.raises(CheckpointCorrupt, match=r"slot-0 was being written, rank-0\.slot-1 has a damaged header") as refusal:
        warm_state.newest_step(warm.folder, warm, 1)
    assert classify(refusal.value) == ("checkpoint_corrupt", 44)
    with pytest.raises(CheckpointCorrupt, match="No such file or directory"):
        warm_state.newest_step(str(tmp_path / "nowhere"), warm, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"run": "r-2"}, "is of run r-1, not of r-2; resume from a checkpoint"),
        ({"lineage": "def"}, "is of lineage abc, not of def"),
        ({"claim": 1}, "is of claim 2, newer than this one's 1"),
    ],
)
def test_state_of_another_run_is_refused(tmp_path: Path, fields: dict, message: str):
    keep(opened(warm_in(tmp_path)), 1)
    with pytest.raises(CheckpointCorrupt, match=message):
        warm_state.newest_step(str(tmp_path), warm_in(tmp_path, **fields), 1)


def test_state_of_an_older_claim_is_taken(tmp_path: Path):
    keep(opened(warm_in(tmp_path)), 1)
    assert_holds(warm_in(tmp_path, claim=5), 1)


def test_state_of_another_number_of_ranks_is_refused(tmp_path: Path):
    keep(opened(warm_in(tmp_path)), 1)
    with pytest.raises(CheckpointCorrupt, match="is of processes 1, not of 2"):
        warm_state.newest_step(str(tmp_path), warm_in(tmp_path), 2)


def test_flipped_bit_in_the_blob_is_refused(tmp_path: Path):
    warm = warm_in(tmp_path)
    keep(opened(warm), 1)
    content = bytearray((tmp_path / SLOT_0).read_bytes())
    content[header_of(tmp_path / SLOT_0)["blob"]["offset"] + 20] ^= 1
    (tmp_path / SLOT_0).write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match="does not match its SHA-256"):
        warm_state.read(warm.folder, warm, 1, 0, 1)


def test_ranks_go_on_from_the_step_of_the_slowest(tmp_path: Path):
    warm = warm_in(tmp_path)
    keep(opened(warm, 0, 2), 1, 2, 3)
    keep(opened(warm, 1, 2), 1, 2, rank=1)
    for rank in (0, 1):
        assert_holds(warm, 2, rank, 2)
    # Going on from 2, rank 0 takes back its 3 and keeps its 2.
    ahead = opened(warm, 0, 2, resumed=2)
    assert_holds(warm, 2, 0, 2)
    keep(ahead, 3)
    keep(opened(warm, 1, 2, resumed=2), 3, rank=1)
    assert_holds(warm, 3, 0, 2)


def test_rank_that_is_too_far_behind_is_refused(tmp_path: Path):
    warm = warm_in(tmp_path)
    keep(opened(warm, 0, 2), 1, 2, 3)
    keep(opened(warm, 1, 2), 1, rank=1)
    with pytest.raises(CheckpointCorrupt, match=r"has no step that all ranks hold \(rank 0 has \[2, 3\], rank 1 has \[1\]\)"):
        warm_state.newest_step(warm.folder, warm, 2)


@pytest.mark.parametrize("every_steps", [1, 3])
def test_training_that_lives_in_warm_state_loses_no_step_outside_of_an_update(tmp_path: Path, every_steps: int):
    warm = warm_in(tmp_path, every_steps=every_steps)
    living = Living(warm)
    for step in range(1, 8):
        living.step(step)
        assert_holds(warm, step)


def test_kill_inside_an_update_leaves_the_newest_copy(tmp_path: Path):
    warm = warm_in(tmp_path, every_steps=3)
    living = Living(warm)
    living.step(1, 2, 3, 4, 5, 6, 7)
    living.warm.update_begins()
    living.update(8)
    assert_holds(warm, 6)
    again = Living(warm, resumed=6)
    assert_holds(warm, 6)
    again.step(7)
    assert_holds(warm, 7)
    again.warm.update_begins()
    assert_holds(warm, 7)


@pytest.mark.parametrize(("steps", "common"), [(0, 4), (1, 5), (2, 6), (3, 6), (4, 8), (5, 8)])
def test_rank_that_dies_inside_an_update_which_another_gets_through(tmp_path: Path, steps: int, common: int):
    """So many steps after the gang went on from step 4, with a copy at every second step and at the attempt's first."""
    warm = warm_in(tmp_path, every_steps=2)
    for rank in (Living(warm, None, 0, 2), Living(warm, None, 1, 2)):
        rank.step(1, 2, 3, 4)
    assert warm_state.newest_step(warm.folder, warm, 2) == 4
    gang = [Living(warm, 4, 0, 2), Living(warm, 4, 1, 2)]
    for rank in gang:
        rank.step(*range(5, 5 + steps))
    gang[1].warm.update_begins()
    gang[0].step(5 + steps)
    assert warm_state.newest_step(warm.folder, warm, 2) == common
    for number in (0, 1):
        assert_holds(warm, common, number, 2)


@pytest.mark.parametrize(("slot", "other", "step"), [(SLOT_0, SLOT_1, 3), (SLOT_1, SLOT_0, 2)])
def test_next_attempt_begins_with_the_slot_that_it_did_not_come_from(tmp_path: Path, slot: str, other: str, step: int):
    """And dies as it writes there for the first time."""
    warm = warm_in(tmp_path)
    Living(warm).step(1, 2, 3)
    with (tmp_path / other).open("r+b") as torn:
        torn.write(bytes(8))
    assert header_of(tmp_path / slot)["step"] == step
    again = Living(warm, resumed=step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again.step(step + 1)
    assert_holds(warm, step)


def test_living_state_that_outgrows_its_slot_moves(tmp_path: Path):
    warm = warm_in(tmp_path, every_steps=3)
    living = Living(warm)
    living.step(1, 2, 3)
    living.step(4, log="x" * 200_000)
    found = warm_state.read(warm.folder, warm, 1, 0, 4)
    assert len(found.blob["log"]) == 200_000
    living.step(5, log="x")
    found = warm_state.read(warm.folder, warm, 1, 0, 5)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state_of(5).tensors.items())
    assert not living.emitted


def test_living_state_that_finds_no_room_to_move_is_turned_off(tmp_path: Path):
    living = Living(warm_in(tmp_path, bytes_max=300_000))
    living.step(1, 2)
    assert not living.emitted
    living.step(3, log="x" * 200_000)
    living.step(4)
    assert [event["code"] for event in living.emitted] == ["warm_state_off"]
    assert not list(tmp_path.iterdir())
    assert torch.equal(living.tensors["weights"], state_of(4).tensors["weights"])


def test_fresh_start_takes_back_what_lies_in_its_folder(tmp_path: Path):
    warm = warm_in(tmp_path)
    keep(opened(warm), 1, 2)
    opened(warm)
    with pytest.raises(CheckpointCorrupt, match="was being written"):
        warm_state.newest_step(warm.folder, warm, 1)


def test_state_that_grows_gets_larger_slots(tmp_path: Path):
    warm, events = warm_in(tmp_path), Events()
    state = opened(warm, emit=events)
    keep(state, 1)
    grown = state_of(2)
    grown.tensors["best"] = torch.ones(1000)
    grown.blob["log"] = "x" * 200_000
    state.step_done(2, False, 1.0, lambda: grown)
    found = warm_state.read(warm.folder, warm, 1, 0, 2)
    assert torch.equal(found.tensors["best"], torch.ones(1000)) and found.blob == grown.blob
    assert not events


def test_limit_of_bytes_turns_it_off_and_says_so(tmp_path: Path):
    events = Events()
    state = opened(warm_in(tmp_path, bytes_max=1000), emit=events)
    keep(state, 1, 2)
    assert [event["code"] for event in events] == ["warm_state_off"]
    assert "bytes are wanted, 1000 allowed" in events[0]["message"]
    assert not list(tmp_path.iterdir())


def test_full_memory_turns_it_off_and_says_so(tmp_path: Path):
    """A limit on the size of files stands for the full file system: the same call fails, with another number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    events = Events()
    state = opened(warm_in(tmp_path), emit=events)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        keep(state, 1, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [event["code"] for event in events] == ["warm_state_off"]
    assert "File too large" in events[0]["message"]
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made_turns_it_off_and_says_so(tmp_path: Path):
    (tmp_path / "file").touch()
    events = Events()
    keep(opened(warm_in(tmp_path / "file" / "claim-2"), emit=events), 1, 2)
    assert [event["code"] for event in events] == ["warm_state_off"]
    assert "Not a directory" in events[0]["message"]


def test_interval_follows_the_cost(tmp_path: Path):
    """Copies of about 2 ms in steps of 50 ms: every fourth or so costs 1 %."""
    events = Events()
    state = opened(warm_in(tmp_path, every_steps=None), emit=events)
    kept = []

    def capture(step: int) -> TrainingState:
        time.sleep(0.002)
        kept.append(step)
        return state_of(step)

    for step in range(1, 60):
        state.step_done(step, step == 59, 0.05, lambda step=step: capture(step))
    chosen = events[0]
    assert chosen["ev"] == "warm_state" and chosen["step"] == 5 and chosen["copyMs"] >= 2
    assert chosen["everySteps"] >= chosen["copyMs"] / 1000 / (0.01 * 0.05)
    every = chosen["everySteps"]
    assert kept == [1, 2, 3, 4, 5, *(step for step in range(6, 59) if step % every == 0), 59]


def test_interval_falls_only_with_room_to_spare(tmp_path: Path):
    costs = iter([2000, 1900, 1400, 3100])
    events = Events()
    state = WarmState(warm_in(tmp_path, every_steps=None), 0, 1, None, events, lambda _: next(costs), None)
    keep(state, *range(1, 6 + 2 * 16 + 2 * 16 + 2 * 16))
    assert [event["everySteps"] for event in events] == [2, 4]
    # A cost of 1.4 leaves an interval of 2 where it was, because 1.4 / 0.75 is more than 1.
    assert next(costs, None) is None


def test_fixed_interval_is_kept(tmp_path: Path):
    warm = warm_in(tmp_path, every_steps=3)
    keep(opened(warm), *range(1, 8))
    assert_holds(warm, 6)


def test_ranks_agree_on_the_interval(tmp_path: Path):
    events = Events()
    state = WarmState(warm_in(tmp_path, every_steps=None), 0, 2, None, events, lambda number: max(number, 6500), None)
    keep(state, *range(1, 23))
    # The other rank's copies cost as much as 6.5 steps may.
    assert events[0]["everySteps"] == 7
    assert header_of(tmp_path / SLOT_0)["step"] == 14 and header_of(tmp_path / SLOT_1)["step"] == 21


def test_header_is_the_one_of_the_contract():
    assert {field.name for field in dataclasses.fields(warm_state.Header)} | {"v", "check"} == set(
        json.loads((GOLDEN / "results.json").read_text("utf-8"))["warmState"]
    )
