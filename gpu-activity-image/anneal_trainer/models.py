"""Model folders: loading a base model for training or evaluation, and making one from what a package ships."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from anneal_trainer.files import replacing_folder, sha256_file
from anneal_trainer.protocol import BadRequest, Emit, GgufSource, PrepareModelJob, Recipe, TinySource

_CPU = torch.device("cpu")


def pick_device() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else _CPU


def pick_training_device(recipe: Recipe) -> torch.device:
    """Each rank has a GPU of its own, or all are on the CPU."""
    gpus = 0 if recipe.device == "cpu" else torch.cuda.device_count()
    if 0 < gpus < recipe.processes:
        raise BadRequest(
            f"`train.processes` is {recipe.processes} and this host has {gpus} GPUs; lower it, or set `train.device` to `cpu`."
        )
    return torch.device("cuda") if gpus else _CPU


def pick_dtype(device: torch.device) -> torch.dtype:
    """fp32 on a CPU: without matrix units for bf16 it is the faster one there, and exact resume is proved in it."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_base(folder: str, device: torch.device, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The base model in evaluation mode on `device`, in the dtype that suits the device if none is given."""
    if not (Path(folder) / "config.json").is_file():
        raise BadRequest(f"The base model folder {folder} has no config.json; give a folder in Hugging Face layout.")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or pick_dtype(device), local_files_only=True)
    return model.to(device).eval()


def prepare_model(job: PrepareModelJob, emit: Emit) -> None:
    """Writes a model folder (bf16 safetensors, configuration, tokenizer) and emits the digests of its files."""
    emit({"ev": "phase", "phase": "load", "detail": job.source.kind})
    match job.source:
        case GgufSource(file=file):
            model, tokenizer = _from_gguf(Path(file))
        case TinySource(tokenizer=folder, seed=seed):
            model, tokenizer = _tiny_llama(folder, seed)
    emit({"ev": "phase", "phase": "save", "detail": job.output})
    output = Path(job.output)
    with replacing_folder(output) as temporary:
        tokenizer.save_pretrained(temporary)
        model.save_pretrained(temporary)
        for file in temporary.iterdir():
            file.chmod(0o644)
    digests = {file.name: sha256_file(file) for file in sorted(output.iterdir())}
    emit({"ev": "done", "result": {"folder": job.output, "files": digests}})


def _from_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Dequantises; `GgufConfig(dequantize=True)` is needed because packed weights refuse to be saved (transformers 5.23)."""
    if not file.is_file():
        raise BadRequest(f"The GGUF file {file} does not exist.")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        # A 4-bit file holds no more than bf16 keeps, at half the size of fp32.
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    return model, tokenizer


def _tiny_llama(folder: str, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random two-layer Llama that speaks a real tokenizer: every path of the pipeline in seconds, no knowledge at all."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.bfloat16,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16), tokenizer
