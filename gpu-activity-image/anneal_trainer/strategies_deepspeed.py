"""DeepSpeed ZeRO-2 and ZeRO-3 by transformers' own `deepspeed=` path; what is saved is captured here, never DeepSpeed's pickles.

DeepSpeed keeps what is trained as flat fp32 pieces, one a group of parameters and rank, and AdamW's moments beside them. These are the
whole state of a rank: the parameters that the model computes with are made from them.
"""

import importlib.util
import os
from typing import Any

import torch

from anneal_trainer import pieces, state
from anneal_trainer.adapters import trained_parameters
from anneal_trainer.models import pick_training_device
from anneal_trainer.protocol import BadRequest, Recipe
from anneal_trainer.state import TrainingState
from anneal_trainer.strategies_sharded import ShardedTrainer

_STAGES = {"zero2": 2, "zero3": 3}

# What transformers fills in from its own arguments, so that nothing can contradict the recipe.
_BATCH = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}
_FROM_RECIPE = {
    **_BATCH,
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    # The optimizer is the recipe's.
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
    # Its progress lines; events say it.
    "steps_per_print": 1_000_000_000,
}


def configuration(recipe: Recipe) -> dict[str, Any]:
    """DeepSpeed's configuration; refuses where DeepSpeed is not installed."""
    if importlib.util.find_spec("deepspeed") is None:
        raise BadRequest(
            "`train.strategy: deepspeed` needs DeepSpeed, which this host lacks; install `gpu-activity-image/requirements-deepspeed.txt`."
        )
    if pick_training_device(recipe).type == "cpu":
        _go_without_compiler()
    if isinstance(recipe.deepspeed, dict):
        # DeepSpeed would make an optimizer of its own of that section, which says what the recipe does.
        # Its batch was the recipe's at submit; a run that goes on with fewer ranks or a smaller micro-batch has another.
        return _FROM_RECIPE | {name: section for name, section in recipe.deepspeed.items() if name != "optimizer"} | _BATCH
    stage = _STAGES[recipe.deepspeed]
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto"}
    if recipe.offload == "cpu":
        zero |= {"offload_optimizer": {"device": "cpu"}} | ({"offload_param": {"device": "cpu"}} if stage == 3 else {})
    return _FROM_RECIPE | {"zero_optimization": zero}


def _go_without_compiler() -> None:
    """Ranks on CPUs talk by gloo alone. DeepSpeed's own shared memory would be compiled at its first use, which takes minutes, and a
    trainer that is killed meanwhile leaves a lock for which all later ones wait."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed import ops

    # Looked up in place of a probe that runs the compiler, too.
    ops.__compatible_ops__ = {}


class DeepSpeedTrainer(ShardedTrainer):
    cut = "flat"

    # DeepSpeed's, once it has cut the model.
    _pieces: list[torch.Tensor] | None = None
    _is_whole = False

    @property
    def _zero(self) -> Any:
        """DeepSpeed's optimizer around AdamW."""
        return self.model_wrapped.optimizer

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        """transformers would look for DeepSpeed's own files."""
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self.layout = pieces.describe(self._zero, {parameter: name for name, parameter in self._parameters.items()})
        self._pieces = getattr(self._zero, "single_partition_of_fp32_groups", None) or self._zero.fp32_partitioned_groups_flat
        # Names that sort as the pieces do; a model has fewer than a million groups.
        self._names = {piece: f"{index:06}" for index, piece in enumerate(self._pieces)}
        if resume_from_checkpoint is not None:
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def _weights(self) -> dict[str, torch.Tensor]:
        if self._is_whole:
            return super()._weights()
        return {name: piece.detach() for piece, name in self._names.items()} if self._pieces else {}

    def _take_over(self, saved: TrainingState) -> None:
        """Done when there are pieces."""

    def _load_optimizer(self, saved: TrainingState) -> None:
        saved = self._cut_anew(saved)
        state.copy_into(self._weights(), saved.named("weights/"))
        self._best = saved.named("best/")
        adamw = self._zero.optimizer
        moments = saved.moments()
        for index, (piece, name) in enumerate(self._names.items()):
            slots = {key.split("/")[0]: tensor for key, tensor in moments.items() if key.endswith(f"/{name}")}
            copies = {key: torch.empty_like(piece).copy_(tensor) for key, tensor in slots.items()}
            adamw.state[piece] = {"step": torch.tensor(saved.blob["optimizer"]["steps"][index]), **copies}
        for living, settings in zip(adamw.param_groups, state.saved_settings(adamw, saved), strict=True):
            living.update(settings)
        vars(self._zero.loss_scaler).update(saved.blob.get("lossScaler", {}))
        self._refresh()

    def _cut_anew(self, saved: TrainingState) -> TrainingState:
        """Another number of ranks, or another strategy, made it: then it has whole parameters, which all made as many steps."""
        if f"weights/{next(iter(self._names.values()))}" in saved.tensors:
            return saved
        tensors = pieces.cut(self.layout, saved.tensors, self.args.process_index, self.args.world_size)
        optimizer = saved.blob["optimizer"]
        steps = optimizer["steps"][:1] * len(self._pieces)
        return TrainingState(tensors, {**saved.blob, "optimizer": {**optimizer, "steps": steps}})

    def capture(self) -> TrainingState:
        captured = super().capture()
        scaler = {key: value for key, value in vars(self._zero.loss_scaler).items() if isinstance(value, bool | int | float)}
        return TrainingState(captured.tensors, {**captured.blob, "lossScaler": scaler})

    def _refresh(self) -> None:
        """Makes the parameters from the pieces."""
        zero = self._zero
        if hasattr(zero, "update_lp_params"):
            zero.update_lp_params()
            return
        for piece, flat, parameters in zip(self._pieces, zero.fp16_partitioned_groups_flat, zero.fp16_partitioned_groups, strict=True):
            flat.data.copy_(piece.data)
            for parameter, part in zip(parameters, zero.unflatten(flat, parameters), strict=True):
                parameter.data = part.data
        if zero.persistent_parameters:
            zero.persistent_parameters[0].partition(zero.persistent_parameters)
            zero.checkpoint_event_epilogue()

    def _determine_best_metric(self, metrics, trial) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best and self.course.keeps_best and not self._best:
            self._best = {name: tensor.to("cpu", copy=True) for name, tensor in self._weights().items()}
            # The living tensors are other ones now.
            self._moments = -1
        return is_best

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        self._require_engine()
        return super().evaluate(*args, **kwargs)

    def _require_engine(self) -> None:
        """A run that was resumed where it has nothing to train has not met DeepSpeed yet, which holds its weights."""
        if self._pieces is None:
            self._prepare_for_training(self.args.max_steps, self.get_train_dataloader(), self.output if self._resumed else None)

    def make_whole(self) -> None:
        self._require_engine()
        keep = self.args.process_index == 0
        final = self._full_weights()
        best = {}
        if self._best:
            state.copy_into(self._weights(), self._best)
            best = self._full_weights()
        _replace_parameters(self.model, final, keep)
        self._is_whole = True
        if keep:
            parameters = trained_parameters(self.model)
            places = {parameter: place for place, parameter in self.model.named_parameters()}
            self._watch(parameters)
            self._best = {name: best[places[parameter]] for name, parameter in parameters.items()} if best else {}

    def _full_weights(self) -> dict[str, torch.Tensor]:
        """What is trained in fp32, what is frozen as it is, on the CPU, by place."""
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        whole = {}
        for place, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                whole[place] = safe_get_full_fp32_param(parameter).cpu().clone()
            else:
                with GatheredParameters([parameter]):
                    whole[place] = parameter.detach().cpu().clone()
        return whole


def _replace_parameters(model: torch.nn.Module, whole: dict[str, torch.Tensor], keep: bool) -> None:
    """For good: plain parameters in the place of DeepSpeed's; without `keep` empty ones. Tied ones stay tied."""
    plain = {}
    for place, parameter in model.named_parameters():
        plain[parameter] = torch.nn.Parameter(whole[place] if keep else whole[place][:0].clone(), parameter.requires_grad)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = plain[parameter]
