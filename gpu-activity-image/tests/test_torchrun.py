"""torchrun as a launcher: the same job, the same bytes as by our own ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from anneal_trainer import ranks
from anneal_trainer.protocol import BadRequest
from kills import run_cell
from support import CHILD_TIMEOUT_S, Events, curve
from test_exactness import cell  # noqa: F401


def torchrun(document: dict[str, Any], folder: Path, processes: int) -> Events:
    """Trains under torchrun; events come on stderr, where nobody has opened a channel."""
    folder.mkdir()
    file = folder / "job.json"
    file.write_text(json.dumps(document), "utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*launcher, "-m", "anneal_trainer", str(file)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    events = Events()
    for line in done.stderr.splitlines():
        if line.startswith('{"ev":'):
            events(json.loads(line))
    return events


def test_torchrun_trains_the_same_bytes(cell, tmp_path: Path):  # noqa: F811
    recipe = {"processes": 2, "maxSteps": 6}
    own = run_cell(cell("own", **recipe), [])
    events = torchrun(cell("launched", **recipe), tmp_path / "launched", 2)
    assert curve(events) == own.steps
    # The first rank speaks for all.
    assert len(events.of("done")) == len(events.of("plan")) == 1
    assert events.result()["weightsSha256"] == own.result["weightsSha256"]


def test_other_ranks_than_the_recipe_has_are_refused(monkeypatch: pytest.MonkeyPatch):
    assert ranks.launched_rank(2, 1) is None
    launched = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in launched.items():
        monkeypatch.setitem(os.environ, name, value)
    assert ranks.launched_rank(2, 2) == 1
    with pytest.raises(BadRequest, match="--nnodes 1 --nproc-per-node 4"):
        ranks.launched_rank(4, 1)
