"""Model folders: loading a base model for training or evaluation, and making one from what a package ships."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    core_model_loading,
)

from anneal_trainer import bitsandbytes_gate
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


def own_gpu() -> torch.device:
    """Each rank has one."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def pick_dtype(device: torch.device) -> torch.dtype:
    """fp32 on a CPU: without matrix units for bf16 it is the faster one there, and exact resume is proved in it."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_base(folder: str, device: torch.device, dtype: torch.dtype | str | None = None, scores: bool = False) -> PreTrainedModel:
    """The base model in evaluation mode on `device`, in the dtype that suits the device if none is given.

    With `scores` its head has one output, a reward, instead of one for each token; a head that the folder lacks is drawn from torch's stream.
    transformers 5 makes weights one by one and never holds a second copy; on the CPU one that has the dtype already is no copy at all, but
    lies in the mapped pages of its file, which all processes share.
    """
    return _load(folder, scores, dtype=dtype or pick_dtype(device)).to(device).eval()


def load_mapped(folder: str, scores: bool = False) -> PreTrainedModel:
    """The base model on the CPU, to compute in fp32 once `settle` or FSDP has put its weights into it: until then they are what the files say.

    Whatever its size it takes next to no memory: weights lie in the mapped pages of their files. Only those that transformers puts together
    from several of a file (a layer's experts) are copies.
    """
    with _weights_as_in_files():
        return _load(folder, scores, dtype=torch.float32).eval()


@contextmanager
def _weights_as_in_files() -> Iterator[None]:
    """Asked for the files' dtype, transformers would make in it also what no file holds, such as factors that are worth all their digits."""
    materialise = core_model_loading._materialize_copy
    core_model_loading._materialize_copy = lambda stored, *_: stored[...]
    try:
        yield
    finally:
        core_model_loading._materialize_copy = materialise


def settle(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Puts every weight into a dtype on a device, one after another. Buffers keep their dtype: frequencies of positions need fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device, dtype)
    model.to(device)


def load_quantised(folder: str, device: torch.device, dtype: torch.dtype, bits: int, scores: bool) -> PreTrainedModel:
    """The base model with its projections in 4 bits (NF4 with double quantisation, QLoRA, arXiv 2305.14314) or 8 (LLM.int8(), arXiv 2208.07339)."""
    bitsandbytes_gate.let_in()
    if bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
        # It says at each multiplication that it rounds its inputs.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    place = device if device == _CPU else own_gpu().index
    model = _load(folder, scores, dtype=dtype, quantization_config=config, device_map={"": place}).eval()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Some CPUs would round the weights once more at the first evaluation, for good: a resumed run, which has not had it yet, would differ.
            module.support_avx512bf16_for_cpu = False
    return model


def _load(folder: str, scores: bool, **options: Any) -> PreTrainedModel:
    if not (Path(folder) / "config.json").is_file():
        raise BadRequest(f"The base model folder {folder} has no config.json; give a folder in Hugging Face layout.")
    # A fork leaves torch's thread pool to be made anew by whoever comes first; two of the loader's threads at once find none.
    torch.set_num_threads(torch.get_num_threads())
    if scores:
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, local_files_only=True, **options)
    if reads_images(AutoConfig.from_pretrained(folder, local_files_only=True)):
        return AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, **options)
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options)


def reads_images(config: PretrainedConfig) -> bool:
    """Whether it is the configuration of a model with a part that sees."""
    return hasattr(config, "vision_config")


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, which has something to pad with; never a new token, for which the model would have no embedding."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        # A reward model reads its score at the last token that is not padding, which should be an answer's end.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise BadRequest(f"The tokenizer in {folder} has no token to pad with; name a `pad_token` in its tokenizer_config.json.")
    return tokenizer


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
