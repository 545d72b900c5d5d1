"""Checkpoints of a state that is in parts: one file a rank, `rank-<r>.safetensors`, beside the document.

On each of several hosts lie its own ranks' parts and the same document; as many ranks as made it need no more, others need all.

Parts are cut by rows (rank r has the r-th chunk of each tensor's first dimension, as `torch.chunk` cuts it), so that any number of
ranks can put them together and cut them anew; or they are flat pieces, which are put together by the layout that the document has and
cut anew by who knows the new one (`pieces.py`).
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from anneal_trainer import pieces
from anneal_trainer.protocol import CheckpointCorrupt
from anneal_trainer.state import STATE, TrainingState

Cut = Literal["whole", "rows", "flat"]

_PREFIX = "rank-"


def write_share(folder: Path, rank: int, state: TrainingState) -> Path:
    file = _file(folder, rank)
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, file, metadata={"format": "pt"})
    return file


def write_document(folder: Path, blobs: list[dict[str, Any]], cut: Cut, layout: dict[str, Any] | None = None) -> None:
    """The first rank's document, with the random streams of all ranks, which are as many as the parts; a layout where they are flat pieces."""
    document = {**blobs[0], "random": [blob["random"] for blob in blobs], "cut": cut, "layout": layout}
    (folder / STATE).write_text(json.dumps(document, sort_keys=True, separators=(",", ":")), "utf-8")


def is_shared(folder: str) -> bool:
    return any(Path(folder).glob(f"{_PREFIX}*"))


def elsewhere(names: set[str], ranks: range, world: int) -> set[str]:
    """Of a checkpoint's files those that a host with these ranks, of `world`, can do without."""
    parts = {name for name in names if name.startswith(_PREFIX)}
    return parts - {_name(rank) for rank in ranks} if len(parts) == world else set()


def read_share(folder: str, rank: int, world: int, cut: Cut) -> TrainingState:
    """One rank's state, for `world` ranks that hold it cut like this; what flat pieces are made of anew is whole parameters."""
    path = Path(folder)
    try:
        blob = json.loads((path / STATE).read_text("utf-8"))
        randoms, found, layout = blob["random"], blob.pop("cut"), blob.pop("layout", None)
        is_own = found == cut and len(randoms) == world
        if is_own:
            tensors = _read(path, [rank])
        elif found == "rows":
            tensors = _read(path, range(len(randoms)))
        else:
            tensors = pieces.join(layout, [load_file(_file(path, made)) for made in range(len(randoms))])
            blob["optimizer"]["steps"] = _steps(blob, tensors)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointCorrupt(f"Checkpoint {folder} cannot be read ({error}); resume from an older one.") from error
    saved = TrainingState(tensors, {**blob, "random": randoms[rank] if rank < len(randoms) else None})
    return take_rows(saved, rank, world) if cut == "rows" and not is_own else saved


def _steps(blob: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[float]:
    """All parameters have made as many steps as each piece."""
    return blob["optimizer"]["steps"][:1] * sum(name.startswith("exp_avg/") for name in tensors)


def take_rows(state: TrainingState, rank: int, world: int) -> TrainingState:
    return TrainingState({name: rows_of(tensor, rank, world) for name, tensor in state.tensors.items()}, state.blob)


def rows_of(tensor: torch.Tensor, rank: int, world: int) -> torch.Tensor:
    chunks = torch.chunk(tensor, world)
    return chunks[rank].clone() if rank < len(chunks) else tensor[:0].clone()


def _read(path: Path, ranks: range | list[int]) -> dict[str, torch.Tensor]:
    """Parts of these ranks, put together."""
    files = [safe_open(_file(path, rank), "pt") for rank in ranks]
    return {name: torch.cat([file.get_tensor(name) for file in files]) for name in sorted(files[0].keys())}


def _name(rank: int) -> str:
    return f"{_PREFIX}{rank}.safetensors"


def _file(folder: Path, rank: int) -> Path:
    return folder / _name(rank)
