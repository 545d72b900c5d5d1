"""FSDP2: each rank holds a part of every parameter, gradient and moment; a layer is whole only while it computes.

transformers turns FSDP on for GPUs only and would train plain DDP on CPUs without a word. So the model is sharded here, before the
optimizer is made, on both alike, and the trainer is told that the model looks after itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from anneal_trainer.adapters import trained_parameters
from anneal_trainer.protocol import BadRequest
from anneal_trainer.strategies_sharded import ShardedTrainer


class FsdpTrainer(ShardedTrainer):
    cut = "rows"

    _is_cut = False

    def __init__(self, **options: Any):
        super().__init__(**options)
        places = {parameter: place for place, parameter in self.model.named_parameters()}
        named = {name: places[parameter] for name, parameter in trained_parameters(self.model).items()}
        dtype = torch.bfloat16 if self.args.bf16 and self.args.device.type == "cuda" else None
        shard(self.model, self.args.device, dtype)
        if reference := getattr(self, "ref_model", None):
            shard(reference, self.args.device, dtype)
            reference.to(dtype or torch.float32)
        if not isinstance(self.model, PeftModel):
            # As its files have them until now, which may be too narrow for small updates.
            self.model.float()
        self._is_cut = True
        parameters = dict(self.model.named_parameters())
        self._watch({name: parameters[place] for name, place in named.items()})
        # What transformers calls a model that needs no wrapping.
        self.is_distributed_loading_by_transformers = True

    def _watch(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        """Not before they are cut: each rank would keep the whole for the best step's."""
        if self._is_cut:
            super()._watch(parameters)

    def _move_model_to_device(self, model, device) -> None:
        """Sharding does; whole, the model may not fit."""

    def _defer_fsdp_gradient_reduction(self) -> AbstractContextManager:
        """Each micro-batch's gradients are cut up at once: kept whole until the last one, they would take a whole model's memory."""
        return nullcontext()

    def make_whole(self) -> None:
        best = {name: _like(self._parameters[name], tensor).full_tensor().cpu() for name, tensor in self._best.items()}
        unshard(self.model, keep=self.args.process_index == 0)
        if self.args.process_index == 0:
            self._watch(trained_parameters(self.model))
            self._best = best


def shard(model: torch.nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Layer by layer, then what is left: only one layer at a time needs to be whole.

    Args:
        dtype: what is computed in, where that is not the parameters' own.
    """
    options = {"mesh": init_device_mesh(device.type, (distributed.get_world_size(),))}
    if dtype:
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    layers = list(_layers(model))
    if not layers:
        raise BadRequest(
            f"`train.strategy` must not be `fsdp` with {type(model).__name__}: it does not say what its layers are; use `ddp`."
        )
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    left = [name for name, parameter in model.named_parameters() if not isinstance(parameter, DTensor)]
    if left or not isinstance(model, FSDPModule):
        raise RuntimeError(f"FSDP left {len(left)} parameters of {type(model).__name__} whole, {left[:1]} among them.")


def unshard(model: torch.nn.Module, keep: bool) -> None:
    """For good: every parameter becomes a plain one on the CPU, with `keep` the whole, otherwise nothing. Every rank must call it."""
    wholes: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.reshard()
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, DTensor):
                if parameter not in wholes:
                    whole = parameter.detach().full_tensor().cpu()
                    wholes[parameter] = torch.nn.Parameter(whole if keep else whole[:0].clone(), parameter.requires_grad)
                module._parameters[name] = wholes[parameter]
    for module in sharded:
        # `fully_shard` put itself before the class; configurations are written with its name.
        module.__class__ = type(module).__mro__[2]


def _layers(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    names = {name for module in model.modules() if isinstance(module, PreTrainedModel) for name in module._no_split_modules or ()}
    return (module for module in model.modules() if type(module).__name__ in names)


def _like(parameter: DTensor, local: torch.Tensor) -> DTensor:
    return DTensor.from_local(
        local.to(parameter.device), parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
