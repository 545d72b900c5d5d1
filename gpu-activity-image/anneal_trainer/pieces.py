"""DeepSpeed's flat pieces: put together to whole parameters, and cut anew for another number of ranks.

Stage 2 lays the parameters of a group end to end and gives each rank an equal share of that, stage 3 gives each rank an equal share of
every parameter; either pads at the end. A layout says which parameters lie in which piece, in order, as JSON.
"""

import math
from typing import Any

import torch

from anneal_trainer.protocol import BadRequest


def describe(zero: Any, names: dict[torch.nn.Parameter, str]) -> dict[str, Any]:
    """The layout of DeepSpeed's optimizer: of each piece its runs, which are what is shared equally, of each run the size of a share and the
    parameters with their shapes. Shares of stage 2 are whole pieces."""
    if hasattr(zero, "round_robin_bit16_groups"):
        pieces = zip(zero.round_robin_bit16_groups, zero.single_partition_of_fp32_groups, strict=True)
        return {"pieces": [[_run(piece.numel(), group, names)] for group, piece in pieces]}
    return {"pieces": [[_run(parameter.partition_numel(), [parameter], names) for parameter in group] for group in zero.fp16_groups]}


def _run(share: int, parameters: list[torch.nn.Parameter], names: dict[torch.nn.Parameter, str]) -> dict[str, Any]:
    # One that stage 3 has cut knows its shape by another name.
    return {"share": share, "parameters": [[names[each], list(getattr(each, "ds_shape", each.shape))] for each in parameters]}


def join(layout: dict[str, Any] | None, shares: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """From all ranks' tensors by `<kind>/<piece>` whole parameters by `<kind>/<name>`.

    Raises BadRequest where there is no layout: each older checkpoint of the run lacks it as well.
    """
    if layout is None:
        raise BadRequest(
            f"The checkpoint was made by {len(shares)} ranks, without a record of how DeepSpeed cut the model, so that another number of "
            f"ranks cannot read it; resume with {len(shares)} ranks, or start a new run."
        )
    whole = {}
    for place in shares[0]:
        kind, number = place.split("/")
        at = 0
        for run in layout["pieces"][int(number)]:
            flat = torch.cat([share[place][at : at + run["share"]] for share in shares])
            at += run["share"]
            sizes = [math.prod(shape) for _, shape in run["parameters"]]
            parts = flat[: sum(sizes)].split(sizes)
            whole |= {f"{kind}/{name}": part.reshape(shape) for (name, shape), part in zip(run["parameters"], parts, strict=True)}
    return whole


def cut(layout: dict[str, Any], whole: dict[str, torch.Tensor], rank: int, world: int) -> dict[str, torch.Tensor]:
    """One rank's pieces by `<kind>/<piece>`, for a layout among `world` ranks; raises BadRequest where parameters are other ones."""
    pieces = {}
    for kind in sorted({place.split("/", 1)[0] for place in whole}):
        for number, runs in enumerate(layout["pieces"]):
            parts = [_share(run, [_find(whole, kind, name, shape) for name, shape in run["parameters"]], rank, world) for run in runs]
            pieces[f"{kind}/{number:06}"] = torch.cat(parts)
    return pieces


def _share(run: dict[str, Any], parameters: list[torch.Tensor], rank: int, world: int) -> torch.Tensor:
    flat = torch.cat(parameters)
    padded = torch.nn.functional.pad(flat, (0, world * run["share"] - len(flat)))
    return padded[rank * run["share"] : (rank + 1) * run["share"]]


def _find(whole: dict[str, torch.Tensor], kind: str, name: str, shape: list[int]) -> torch.Tensor:
    found = whole.get(f"{kind}/{name}")
    if found is None or list(found.shape) != shape:
        raise BadRequest(f"The checkpoint has no {name} of the shape {shape}; start a new run.")
    return found.reshape(-1)
