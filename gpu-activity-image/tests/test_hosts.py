"""Two hosts share a training in parts: each saves its own ranks' parts, and together they end at the bytes of one host with as many ranks."""

import json
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from anneal_trainer import checkpoints, shares
from anneal_trainer.protocol import CheckpointCorrupt
from kills import Kill, begin, run_cell
from support import Events, curve
from test_exactness import cell  # noqa: F401
from test_strategies import FSDP, ZERO2, ZERO3, of_all

COMMON = {"epochs": 2, "saveSteps": 3, "maxSteps": 7}
CRASHED, INTERRUPTED = 1, 41


def train_on_hosts(document: dict[str, Any], kills: dict[int, Kill], resume: str | None) -> list[tuple[Events, int]]:
    """One attempt of two hosts with a folder each, which end as they end. `resume`: the name of a checkpoint that each has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    waits = []
    for host in (0, 1):
        output = home(document, host)
        output.mkdir(parents=True, exist_ok=True)
        own = {
            "output": str(output),
            "resume": resume and {"from": "checkpoint", "path": str(output / resume)},
            "gang": {"host": host, "address": "127.0.0.1", "port": port, "interface": "lo", "key": "a"},
        }
        waits.append(begin({**document, **own}, kills.get(host), output / "log"))
    return [wait() for wait in waits]


def home(document: dict[str, Any], host: int) -> Path:
    return Path(document["output"]) / f"host-{host}"


def parts_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("rank-*"))


@pytest.mark.parametrize(
    "recipe",
    of_all(
        {
            "fsdp, full, best": FSDP | {"tuning": "full", "outputs": ["best", "final"], "evalSteps": 2},
            "zero2, full": ZERO2 | {"tuning": "full"},
            "zero3, lora": ZERO3,
        }
    ),
)
def test_killed_rank_of_one_host_changes_nothing(cell, recipe: dict[str, Any]):  # noqa: F811
    whole = run_cell(cell("whole", **COMMON, **recipe, processes=2), [])
    document = cell("hosts", **COMMON, **recipe, processes=1, hosts=2)
    (first, first_code), (_, second_code) = train_on_hosts(document, {1: Kill(5, "after optimizer", rank=1)}, None)
    assert (first_code, second_code) == (CRASHED, -signal.SIGKILL)
    for host in (0, 1):
        folder = home(document, host) / "checkpoint-3"
        assert parts_in(folder) == [f"rank-{host}.safetensors"]
        assert {"rank-0.safetensors", "rank-1.safetensors"} < set(json.loads((folder / "manifest.json").read_text())["files"])
    documents = {(home(document, host) / "checkpoint-3" / name).read_bytes() for host in (0, 1) for name in ("manifest.json", "state.json")}
    assert len(documents) == 2
    (again, _), (second, _) = train_on_hosts(document, {}, "checkpoint-3")
    assert curve(first) | curve(again) == whole.steps
    assert again.result()["weightsSha256"] == whole.result["weightsSha256"]
    # Only the first host has steps and a result to tell of; each tells of what it has saved.
    assert second.of("step") == second.of("done") == []
    assert [event["step"] for event in second.of("checkpoint_saved")] == [event["step"] for event in again.of("checkpoint_saved")]


def test_all_hosts_save_the_step_at_which_one_was_told_to_stop_and_one_host_goes_on(cell):  # noqa: F811
    # DPO is without dropout, whose streams are each rank's own, and weighs pairs, not tokens.
    recipe = COMMON | FSDP | {"saveSteps": 100, "method": "dpo"}
    whole = run_cell(cell("whole", **recipe, processes=2), [])
    document = cell("hosts", **recipe, processes=1, hosts=2)
    ends = train_on_hosts(document, {1: Kill(2, "before optimizer", rank=1, signal=signal.SIGTERM)}, None)
    assert [code for _, code in ends] == [INTERRUPTED, INTERRUPTED]
    folders = [home(document, host) / "checkpoint-2" for host in (0, 1)]
    # A host that lacks its own part refuses; the other's it does not need.
    with pytest.raises(CheckpointCorrupt, match=r"rank-1\.safetensors is missing"):
        checkpoints.verify(str(folders[0]), lambda names: shares.elsewhere(names, range(1, 2), 2))
    assert checkpoints.verify(str(folders[0]), lambda names: shares.elsewhere(names, range(1), 2))["step"] == 2
    # Whoever has all parts has a whole checkpoint, for as many ranks and, cut anew, for another number.
    shutil.copy(folders[1] / "rank-1.safetensors", folders[0])
    resume = {"from": "checkpoint", "path": str(folders[0])}
    same = run_cell({**cell("same", **document["recipe"] | {"processes": 2, "hosts": 1}), "resume": resume}, [])
    assert same.result["weightsSha256"] == whole.result["weightsSha256"]
    alone = {"processes": 1, "hosts": 1, "accumulation": 2, "strategy": "ddp"}
    fewer = run_cell({**cell("fewer", **document["recipe"] | alone), "resume": resume}, [])
    # Up to an epoch's last step, for which the ranks are given a row or two more.
    for step in (3, 4, 5):
        assert fewer.steps[step]["loss"] == pytest.approx(whole.steps[step]["loss"], rel=1e-4)


def test_which_parts_a_host_can_do_without():
    names = {"manifest.json", "state.json", *(f"rank-{rank}.safetensors" for rank in range(4))}
    assert shares.elsewhere(names, range(2, 4), 4) == {"rank-0.safetensors", "rank-1.safetensors"}
    # Cut anew, a part is made of several.
    assert shares.elsewhere(names, range(2), 2) == set()
    assert shares.elsewhere({"state.json", "model.safetensors"}, range(1), 2) == set()
