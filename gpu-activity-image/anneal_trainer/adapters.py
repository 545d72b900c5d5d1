"""What is trained and how it is written: LoRA adapters or the whole model, as folders whose bytes are the same on every machine."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from anneal_trainer.chat import PROCESSOR_FILES
from anneal_trainer.files import replacing_folder, sha256_file
from anneal_trainer.models import reads_images
from anneal_trainer.protocol import BadRequest, Recipe

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MODEL_WEIGHTS = "model.safetensors"

# TRL's name for the frozen copy of an adapter that preferences are compared with.
REFERENCE = "ref"

# The one output of a reward model, as transformers names it.
_REWARD_HEAD = "score"

# Of a parameter's name.
_LAYER = re.compile(r"\.(\d+)\.")

# More than any model's weights take.
_SHARD_BYTES_MAX = 1 << 50

# Attention and MLP projections as the families of transformers name them.
_PROJECTIONS = {
    # Llama, Mistral, Qwen, Gemma, SmolLM, Phi-3
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"),
    # OPT, Phi, GPT-J, CodeGen
    *("out_proj", "dense", "fc1", "fc2", "fc_in", "fc_out"),
    # GPT-NeoX, Falcon, BLOOM
    *("query_key_value", "dense_h_to_4h", "dense_4h_to_h"),
    # GPT-2, GPTBigCode, MPT
    *("c_attn", "c_proj", "c_fc", "Wqkv", "up_proj", "down_proj"),
}

# State-space models, whose kernels read two modules' weights past any adapter: PEFT refuses these by the names in both sets.
_MAMBA = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_PAST_ADAPTERS = {"out_proj", "conv1d"}
# What `auto` adapts of their mixers instead.
_MIXERS = {"in_proj", "x_proj"}

# By these names PEFT adapts a layer's experts, too, which lie in one tensor: only without dropout, and with a matrix for each of them.
_OF_EXPERTS = {"gate_proj", "up_proj", "down_proj", "gate_up_proj"}


def lora_config(base: PreTrainedModel, recipe: Recipe) -> LoraConfig:
    lora, is_reward, language = recipe.lora, recipe.method == "reward", language_part(base)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=_resolve_targets(base, recipe),
        # Modules of the part that sees have the same names.
        exclude_modules=rf"(?!{re.escape(language)}\.).*" if language else None,
        target_parameters=_resolve_experts(base, lora.first_layer) if lora.experts else None,
        layers_to_transform=_resolve_layers(base, lora.first_layer),
        task_type=TaskType.SEQ_CLS if is_reward else TaskType.CAUSAL_LM,
        # A head that is new is trained as a whole.
        modules_to_save=[_REWARD_HEAD] if is_reward else None,
    )


def language_part(base: PreTrainedModel) -> str | None:
    """Name of the language model inside a model that reads images; None where all of it is one."""
    if not reads_images(base.config):
        return None
    decoder = base.get_decoder()
    return next(name for name, module in base.named_modules() if module is decoder)


def freeze_sight(base: PreTrainedModel) -> None:
    """Leaves the language model and its output layer to train: what sees would learn from rows with images alone, and from few."""
    if language := language_part(base):
        head = {id(parameter) for parameter in base.get_output_embeddings().parameters()}
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(name.startswith(f"{language}.") or id(parameter) in head)


def keep_gradients_from_sight(base: PreTrainedModel) -> None:
    """Recomputing wants gradients to reach a model's first layer. transformers lets them into what sees, too, which then keeps all that it
    computes and is gone through backwards, for nothing: six to twelve times the memory of a row, three to four times its time (measured)."""
    embeddings = base.get_input_embeddings()

    def enable_input_require_grads() -> None:
        if _require_gradients not in embeddings._forward_hooks.values():
            embeddings.register_forward_hook(_require_gradients)

    if language_part(base):
        base.enable_input_require_grads = enable_input_require_grads


def _require_gradients(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
    output.requires_grad_(True)


def add_adapter(base: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Freezes the base and adds trainable LoRA matrices; the same seed gives the same matrices."""
    config = lora_config(base, recipe)
    torch.manual_seed(recipe.seed)
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise BadRequest(f"`train.lora` does not go together with {type(base).__name__}: {error}") from error


def load_adapter(model: PeftModel, folder: str) -> None:
    """Puts the weights of an adapter's folder into every adapter of the model, to the bit; raises BadRequest where they are another one's."""
    file = Path(folder) / WEIGHTS
    if not file.is_file():
        raise BadRequest(f"`train.from` names a version without {WEIGHTS}; an adapter can only continue an adapter.")
    weights = load_file(file)
    for adapter in model.peft_config:
        own = get_peft_model_state_dict(model, adapter_name=adapter)
        odd = {name for name, _ in _shapes(own).items() ^ _shapes(weights).items()}
        if odd:
            raise BadRequest(
                f"`train.from` names an adapter of another shape: {len(odd)} of its tensors differ from this recipe's, {min(odd)} among them; "
                "train with the `train.lora` of that version."
            )
        set_peft_model_state_dict(model, weights, adapter_name=adapter)


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def make_precise(model: torch.nn.Module) -> None:
    """Puts what an adapter trains into fp32, in which small updates are not lost; TRL makes it bf16 on a quantised base."""
    for parameter in model.parameters():
        if parameter.requires_grad and isinstance(model, PeftModel):
            parameter.data = parameter.data.float()


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What is trained, by the names that the written files give it; tied parameters once."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not isinstance(model, PeftModel):
        return trainable
    by_address = {parameter.data_ptr(): parameter for parameter in trainable.values()}
    return {name: by_address[tensor.data_ptr()] for name, tensor in get_peft_model_state_dict(model).items()}


def weights_file(model: torch.nn.Module) -> str:
    return WEIGHTS if isinstance(model, PeftModel) else MODEL_WEIGHTS


def _resolve_targets(base: PreTrainedModel, recipe: Recipe) -> list[str]:
    """Names of modules; the output layer is none of them, because TRL's losses multiply by its weights and pass over an adapter.

    Experts are none either, unless they are named.
    """
    targets, head, language = recipe.lora.targets, base.get_output_embeddings(), language_part(base)
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and name != _REWARD_HEAD
        if language is None or name.startswith(f"{language}.")
    }
    is_mixture = any(".experts." in name for name, _ in base.named_parameters())
    is_mamba = base.config.model_type in _MAMBA
    dense = linear - (_OF_EXPERTS if is_mixture else set()) - (_PAST_ADAPTERS if is_mamba else set())
    match targets:
        case "auto":
            wanted = (_PROJECTIONS | _MIXERS if is_mamba else _PROJECTIONS) & dense
        case "all-linear":
            wanted = dense
        case _:
            wanted = set(targets)
    if not wanted:
        raise BadRequest(f"`train.lora.targets` is `auto`, but no known projection is among {sorted(linear)}; name the modules.")
    if unknown := wanted - linear:
        raise BadRequest(f"`train.lora.targets` names {sorted(unknown)}, which the model does not have; it has {sorted(linear)}.")
    if is_mamba and (past := wanted & _PAST_ADAPTERS):
        raise BadRequest(
            f"`train.lora.targets` names {sorted(past)}, whose weights the kernels of {type(base).__name__} read past any adapter; leave it out."
        )
    return sorted(wanted)


def expert_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The tensors that hold the weights of a layer's experts: (experts, rows, columns), or the other way round."""
    return {name: parameter for name, parameter in model.named_parameters() if ".experts." in name and parameter.ndim == 3}


def _resolve_experts(base: PreTrainedModel, first_layer: int) -> list[str]:
    """Whole names: PEFT looks at layers with modules alone."""
    experts = [name for name in expert_parameters(base) if int(_LAYER.search(name)[1]) >= first_layer]
    if not experts:
        raise BadRequest(f"`train.lora.experts` is true, but {type(base).__name__} has no experts in one tensor a layer; set it to false.")
    return experts


def _resolve_layers(base: PreTrainedModel, first_layer: int) -> list[int] | None:
    layers = base.config.get_text_config().num_hidden_layers
    if first_layer >= layers:
        raise BadRequest(f"`train.lora.firstLayer` must be below the model's {layers} layers, got {first_layer}.")
    return list(range(first_layer, layers)) if first_layer else None


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(trainable, total), without the copy of an adapter that is only compared with."""
    sizes = [
        (_size(parameter), parameter.requires_grad) for name, parameter in model.named_parameters() if f".{REFERENCE}." not in f"{name}."
    ]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)


def _size(parameter: torch.nn.Parameter) -> int:
    """bitsandbytes packs two weights of 4 bits into a byte, and knows the shape that they had."""
    packed = getattr(parameter, "quant_state", None)
    return packed.shape.numel() if packed else parameter.numel()


def write_trained(folder: Path, model: PeftModel | PreTrainedModel, base_name: str) -> str:
    """Makes the folder of what was trained and returns the SHA-256 of its weights file."""
    with replacing_folder(folder) as temporary:
        if isinstance(model, PeftModel):
            save_file(get_peft_model_state_dict(model), temporary / WEIGHTS, metadata={"format": "pt"})
            config = _portable_config(model.peft_config["default"], base_name)
            (temporary / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        else:
            # One file, whatever its size: its digest is the run's result.
            model.save_pretrained(temporary, max_shard_size=_SHARD_BYTES_MAX)
        for file in temporary.iterdir():
            file.chmod(0o644)
    return sha256_file(folder / weights_file(model))


def write_merged(folder: Path, base: PreTrainedModel, adapter: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """Makes the folder of a whole model, in the base's own dtype, and returns the SHA-256 of its weights file."""
    model = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary, max_shard_size=_SHARD_BYTES_MAX)
        tokenizer.save_pretrained(temporary)
        for file in filter(Path.is_file, (Path(base.name_or_path) / name for name in PROCESSOR_FILES)):
            shutil.copyfile(file, temporary / file.name)
        for file in temporary.iterdir():
            file.chmod(0o644)
    return sha256_file(folder / MODEL_WEIGHTS)


def _portable_config(config: LoraConfig, base_name: str) -> dict[str, Any]:
    portable = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    return {**portable, "base_model_name_or_path": base_name, "inference_mode": True}
