"""The whole training state of one rank as tensors by name and a JSON document: what a checkpoint and warm state hold.

Names: `weights/<parameter>`, `exp_avg/<parameter>` and `exp_avg_sq/<parameter>` (AdamW's moments), `best/<parameter>` (with early
stopping). The document: counters, schedule, AdamW's step counts, random streams. Nothing is pickled.
"""

import base64
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from anneal_trainer.adapters import MODEL_WEIGHTS, WEIGHTS
from anneal_trainer.protocol import BadRequest, CheckpointCorrupt

STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_BEST = "best.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """Captured tensors are the living ones, not copies."""

    tensors: dict[str, torch.Tensor]
    # JSON; has `step`, and this rank's random streams as `random`.
    blob: dict[str, Any]

    @property
    def step(self) -> int:
        return self.blob["step"]

    def group(self, *prefixes: str) -> dict[str, torch.Tensor]:
        """Tensors whose names start with one of the prefixes."""
        return {name: tensor for name, tensor in self.tensors.items() if name.startswith(prefixes)}

    def named(self, prefix: str) -> dict[str, torch.Tensor]:
        """One group by the names of its parameters."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.group(prefix).items()}


def write_state(folder: Path, state: TrainingState, randoms: list[Any], weights_file: str) -> None:
    """Writes a checkpoint's files; `randoms` are the random streams of all ranks."""
    save_file(state.named("weights/"), folder / weights_file, metadata={"format": "pt"})
    save_file(state.group("exp_avg"), folder / _OPTIMIZER)
    if best := state.named("best/"):
        save_file(best, folder / _BEST, metadata={"format": "pt"})
    document = {**state.blob, "random": randoms}
    (folder / STATE).write_text(json.dumps(document, sort_keys=True, separators=(",", ":")), "utf-8")


def read_state(folder: str, rank: int, processes: int) -> TrainingState:
    """One rank's state from the files of a checkpoint that was verified."""
    path = Path(folder)
    weights = MODEL_WEIGHTS if (path / MODEL_WEIGHTS).is_file() else WEIGHTS
    try:
        blob = json.loads((path / STATE).read_text("utf-8"))
        randoms = blob["random"]
        tensors = {f"weights/{name}": tensor for name, tensor in load_file(path / weights).items()}
        tensors |= load_file(path / _OPTIMIZER)
        if (path / _BEST).is_file():
            tensors |= {f"best/{name}": tensor for name, tensor in load_file(path / _BEST).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointCorrupt(f"Checkpoint {folder} cannot be read ({error}); resume from an older one.") from error
    if len(randoms) != processes:
        raise BadRequest(f"Checkpoint {folder} was made by {len(randoms)} processes, the recipe wants {processes}; start afresh.")
    return TrainingState(tensors, {**blob, "random": randoms[rank]})


def copy_into(living: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> None:
    """Copies tensors of the same names and shapes; raises CheckpointCorrupt where they differ."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (living, saved)]
    if shapes[0] != shapes[1]:
        odd = sorted(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise CheckpointCorrupt(f"The saved state does not fit the model: {odd[0]} and {len(odd) - 1} more differ; start afresh.")
    with torch.no_grad():
        for name, tensor in living.items():
            tensor.copy_(saved[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str]) -> dict[str, torch.Tensor]:
    """AdamW's moments; there are none before the first step."""
    return {
        f"{key}/{names[parameter]}": tensor
        for parameter, slots in optimizer.state.items()
        for key, tensor in slots.items()
        if key != "step"
    }


def replace_optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str], state: TrainingState) -> None:
    for parameter, slots in optimizer.state.items():
        slots |= {key: state.tensors[f"{key}/{names[parameter]}"] for key in slots if key != "step"}


def optimizer_document(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str]) -> dict[str, Any]:
    """AdamW's settings and, in the order of the names, its step counts, which are one tensor each and slow to copy singly."""
    steps = {names[parameter]: slots["step"] for parameter, slots in optimizer.state.items()}
    return {
        "groups": [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups],
        "steps": torch.stack([steps[name] for name in sorted(steps)]).tolist() if steps else [],
    }


def load_optimizer(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str], state: TrainingState) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {key: state.named(f"{key}/") for key in ("exp_avg", "exp_avg_sq")}
    steps = dict(zip(sorted(moments["exp_avg"]), state.blob["optimizer"]["steps"], strict=True))
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(parameters):
        name = names[parameter]
        if name in steps:
            copies = {key: torch.empty_like(parameter).copy_(tensors[name]) for key, tensors in moments.items()}
            slots[index] = {"step": torch.tensor(steps[name]), **copies}
    optimizer.load_state_dict({"state": slots, "param_groups": _numbered_groups(optimizer, state)})


def _numbered_groups(optimizer: torch.optim.Optimizer, state: TrainingState) -> list[dict[str, Any]]:
    groups, first = [], 0
    for living, saved in zip(optimizer.param_groups, state.blob["optimizer"]["groups"], strict=True):
        end = first + len(living["params"])
        # JSON has no tuples; AdamW's betas are one.
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        groups.append({**settings, "params": list(range(first, end))})
        first = end
    return groups


def capture_random() -> dict[str, Any]:
    """The random streams of this process, and of its GPU where it has one."""
    name, words, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, words.tolist(), *rest],
        "torch": _encode(torch.get_rng_state()),
        "cuda": _encode(torch.cuda.get_rng_state()) if torch.cuda.is_initialized() else None,
    }


def restore_random(saved: dict[str, Any]) -> None:
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(saved["numpy"]))
    torch.set_rng_state(_decode(saved["torch"]))
    if saved["cuda"] is not None:
        torch.cuda.set_rng_state(_decode(saved["cuda"]))


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
