"""The whole training state of one rank as tensors by name and a JSON document: what a checkpoint and warm state hold.

Names: `weights/<parameter>`, AdamW's moments as its optimizer calls them (`exp_avg/<parameter>`; in 8 bits `state1/<parameter>` with its
scales `absmax1/<parameter>`), `best/<parameter>` (where they are kept). The document: counters, schedule, AdamW's step counts, random streams. Nothing is pickled.
"""

import base64
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import set_seed

from anneal_trainer.adapters import MODEL_WEIGHTS, WEIGHTS
from anneal_trainer.protocol import CheckpointCorrupt

STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_BEST = "best.safetensors"

# What bitsandbytes' 8 bits stand for: tables that are the same for all parameters and never change, so they are not part of the state.
_QUANTISATION_MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}


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

    def moments(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith(("weights/", "best/"))}

    def named(self, prefix: str) -> dict[str, torch.Tensor]:
        """One group by the names of its parameters."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.group(prefix).items()}


def write_state(folder: Path, state: TrainingState, randoms: list[Any], weights_file: str) -> None:
    """Writes a checkpoint's files; `randoms` are the random streams of all ranks."""
    save_file(state.named("weights/"), folder / weights_file, metadata={"format": "pt"})
    save_file(state.moments(), folder / _OPTIMIZER)
    if best := state.named("best/"):
        save_file(best, folder / _BEST, metadata={"format": "pt"})
    document = {**state.blob, "random": randoms}
    (folder / STATE).write_text(json.dumps(document, sort_keys=True, separators=(",", ":")), "utf-8")


def read_state(folder: str, rank: int) -> TrainingState:
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
    return TrainingState(tensors, {**blob, "random": randoms[rank] if rank < len(randoms) else None})


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
        f"{key}/{names[parameter]}": local_part(tensor)
        for parameter, slots in optimizer.state.items()
        for key, tensor in slots.items()
        if _is_moment(key)
    }


def _is_moment(key: str) -> bool:
    return key != "step" and key not in _QUANTISATION_MAPS


def replace_optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str], state: TrainingState) -> None:
    for parameter, slots in optimizer.state.items():
        slots |= {key: state.tensors[f"{key}/{names[parameter]}"] for key in slots if _is_moment(key)}


def optimizer_document(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str]) -> dict[str, Any]:
    """AdamW's settings and, in the order of the names, its step counts, which are one tensor each and slow to copy singly."""
    steps = {names[parameter]: slots["step"] for parameter, slots in optimizer.state.items()}
    return {
        "groups": [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups],
        "steps": torch.stack([torch.as_tensor(steps[name], dtype=torch.float32) for name in sorted(steps)]).tolist() if steps else [],
    }


def load_optimizer(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str], state: TrainingState) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for path, tensor in state.moments().items():
        key, name = path.split("/", 1)
        moments.setdefault(name, {})[key] = tensor
    steps = dict(zip(sorted(moments), state.blob["optimizer"]["steps"], strict=True))
    slots: dict[int, dict[str, Any]] = {}
    for index, parameter in enumerate(parameters):
        name = names[parameter]
        if name in steps:
            copies = {key: _copy_to(tensor, parameter) for key, tensor in moments[name].items()}
            slots[index] = {"step": _step_count(optimizer, steps[name]), **copies, **_maps_of(optimizer, copies)}
    optimizer.load_state_dict({"state": slots, "param_groups": _numbered_groups(optimizer, state)})


def _copy_to(saved: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
    """In the parameter's own layout where it has its shape, as the optimizer itself would make it."""
    if saved.shape != local_part(parameter).shape:
        return saved.to(parameter.device, copy=True)
    like = torch.empty_like(parameter, dtype=saved.dtype)
    local_part(like).copy_(saved)
    return like


def _tables(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor] | None:
    """bitsandbytes' by name, None for another optimizer; accelerate wraps it."""
    return getattr(getattr(optimizer, "optimizer", optimizer), "name2qmap", None)


def _step_count(optimizer: torch.optim.Optimizer, step: float) -> int | torch.Tensor:
    return torch.tensor(step) if _tables(optimizer) is None else int(step)


def _maps_of(optimizer: torch.optim.Optimizer, moments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """bitsandbytes keeps small moments in 32 bits, without scales and maps."""
    tables = _tables(optimizer)
    if tables is None or "absmax1" not in moments:
        return {}
    return {key: tables[name].to(moments["absmax1"].device) for key, name in _QUANTISATION_MAPS.items()}


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def saved_settings(optimizer: torch.optim.Optimizer, state: TrainingState) -> list[dict[str, Any]]:
    """Of each group of the optimizer what the state has. DeepSpeed leaves out groups without parameters; others have another's then, with
    their own decay."""
    # JSON has no tuples; AdamW's betas are one.
    saved = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        for group in state.blob["optimizer"]["groups"]
    ]
    if len(saved) == len(optimizer.param_groups):
        return saved
    return [{**saved[0], "weight_decay": living["weight_decay"]} for living in optimizer.param_groups]


def saved_schedule(optimizer: torch.optim.Optimizer, state: TrainingState) -> dict[str, Any]:
    """Its rates are the same for all groups."""
    groups = len(optimizer.param_groups)
    return {
        key: value[:1] * groups if isinstance(value, list) and len(value) != groups else value
        for key, value in state.blob["schedule"].items()
    }


def _numbered_groups(optimizer: torch.optim.Optimizer, state: TrainingState) -> list[dict[str, Any]]:
    groups, first = [], 0
    for living, settings in zip(optimizer.param_groups, saved_settings(optimizer, state), strict=True):
        end = first + len(living["params"])
        groups.append({**settings, "params": list(range(first, end))})
        first = end
    return groups


def capture_random() -> dict[str, Any]:
    """The random streams of this process, and of its GPU where it has one."""
    version, python_words, gauss = random.getstate()
    name, numpy_words, *rest = np.random.get_state()
    return {
        "python": [version, _encode(np.array(python_words, np.uint32)), gauss],
        "numpy": [name, _encode(numpy_words), *rest],
        "torch": _encode(torch.get_rng_state().numpy()),
        "cuda": _encode(torch.cuda.get_rng_state().numpy()) if torch.cuda.is_initialized() else None,
    }


def restore_random(saved: dict[str, Any] | None, fresh: tuple[int, ...]) -> None:
    """`fresh` seeds the streams of a rank that there was not when the state was saved."""
    if saved is None:
        set_seed(int.from_bytes(hashlib.sha256(repr(fresh).encode()).digest()[:4], "little"))
        return
    version, python_words, gauss = saved["python"]
    random.setstate((version, tuple(_decode(python_words, np.uint32).tolist()), gauss))
    name, numpy_words, *rest = saved["numpy"]
    np.random.set_state((name, _decode(numpy_words, np.uint32), *rest))
    torch.set_rng_state(torch.from_numpy(_decode(saved["torch"], np.uint8)))
    if saved["cuda"] is not None:
        torch.cuda.set_rng_state(torch.from_numpy(_decode(saved["cuda"], np.uint8)))


def _encode(words: np.ndarray) -> str:
    """As text: lists of numbers take several times as long to write, and this is written at each step."""
    return base64.b64encode(words.tobytes()).decode()


def _decode(text: str, dtype: type[np.generic]) -> np.ndarray:
    return np.frombuffer(bytearray(base64.b64decode(text)), dtype)
