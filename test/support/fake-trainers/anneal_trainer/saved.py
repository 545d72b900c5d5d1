"""State on disk and in shared memory, in the layouts of the real trainer: sealed folders with a manifest, slots with a commit word."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from anneal_trainer.channel import End

_BLOCK = 4096


def save_checkpoint(output: Path, state: dict, terminal: bool) -> Path:
    step = state["step"]
    hidden, path = output / f".checkpoint-{step}", output / f"checkpoint-{step}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    text = json.dumps(state)
    (hidden / "state.json").write_text(text)
    files = {
        "state.json": {
            "size": len(text),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    }
    (hidden / "manifest.json").write_text(
        json.dumps(
            {"v": 1, "step": step, "terminal": terminal, "best": None, "files": files}
        )
    )
    shutil.rmtree(path, ignore_errors=True)
    hidden.rename(path)
    return path


def load(resume: dict, warm: dict | None) -> dict:
    return (
        _load_warm(Path(resume["folder"]), warm)
        if resume["from"] == "warm"
        else _load_checkpoint(Path(resume["path"]))
    )


def _load_checkpoint(path: Path) -> dict:
    text = (path / "state.json").read_bytes()
    wanted = json.loads((path / "manifest.json").read_text())["files"]["state.json"][
        "sha256"
    ]
    if hashlib.sha256(text).hexdigest() != wanted:
        raise End(
            "checkpoint_corrupt",
            f"Checkpoint {path} is corrupt; resume from an older one.",
        )
    return json.loads(text)


def keep_warm(warm: dict, state: dict, half: bool = False) -> None:
    folder = Path(warm["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    blob = json.dumps(state).encode()
    header = {name: warm[name] for name in ("run", "claim", "lineage")}
    header |= {
        "v": 1,
        "rank": 0,
        "processes": 1,
        "step": state["step"],
        "terminal": False,
        "bytes": _BLOCK + len(blob),
    }
    header |= {
        "blob": {
            "offset": _BLOCK,
            "length": len(blob),
            "sha256": hashlib.sha256(blob).hexdigest(),
        },
        "check": "",
    }
    file = os.open(
        folder / f"rank-0.slot-{state['step'] % 2}", os.O_RDWR | os.O_CREAT, 0o600
    )
    os.pwrite(file, bytes(8), 0)
    os.pwrite(file, json.dumps(header).encode().ljust(_BLOCK - 8, b"\0"), 8)
    os.pwrite(file, blob, _BLOCK)
    if not half:
        os.pwrite(file, (state["step"] + 1).to_bytes(8, "little"), 0)
    os.close(file)


def _load_warm(folder: Path, warm: dict | None) -> dict:
    newest: tuple[dict, bytes] | None = None
    for file in folder.glob("rank-0.slot-*"):
        block = file.read_bytes()
        if int.from_bytes(block[:8], "little") == 0:
            continue
        header = json.loads(block[8:_BLOCK].rstrip(b"\0"))
        if newest is None or header["step"] > newest[0]["step"]:
            newest = (header, block[_BLOCK : _BLOCK + header["blob"]["length"]])
    if (
        newest is None
        or warm is None
        or newest[0]["lineage"] != warm["lineage"]
        or newest[0]["run"] != warm["run"]
    ):
        raise End(
            "checkpoint_corrupt",
            f"Warm state {folder} is not this run's; resume from a checkpoint.",
        )
    if hashlib.sha256(newest[1]).hexdigest() != newest[0]["blob"]["sha256"]:
        raise End(
            "checkpoint_corrupt",
            f"Warm state {folder} is damaged; resume from a checkpoint.",
        )
    return json.loads(newest[1])
