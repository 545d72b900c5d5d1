"""What loading takes: no weight is in memory twice, ranks share what they only read, and a rank of FSDP makes its own part alone."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from anneal_trainer.models import load_base, load_mapped, load_tokenizer, settle
from anneal_trainer.protocol import parse_job
from anneal_trainer.train import _build_trainer, prepare
from support import Events, train_job
from test_ranks import lead
from torch.distributed.tensor import DTensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

CPU = torch.device("cpu")
FORK = multiprocessing.get_context("fork")
# Of a model that is too large to be mistaken for noise.
FP32_BYTES_MIN = 200_000_000


@pytest.fixture(scope="module")
def large_model(words_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some 54 million weights in bf16 with the tokenizer of `words_model`."""
    folder = tmp_path_factory.mktemp("large-model")
    config = LlamaConfig(vocab_size=500, hidden_size=1024, intermediate_size=3072, num_hidden_layers=4, num_attention_heads=8)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    model.save_pretrained(folder)
    load_tokenizer(words_model).save_pretrained(folder)
    return str(folder)


def size_of(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def memory(field: str) -> int:
    """`RssAnon`: what is this process's own; `VmHWM`: the most that it has had, pages of files included; bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


@contextmanager
def watched(field: str) -> Iterator[Callable[[], int]]:
    """Gives the most that a field has grown by so far."""
    before, peaks, ended = memory(field), [0], threading.Event()

    def look() -> int:
        peaks.append(memory(field) - before)
        return max(peaks)

    thread = threading.Thread(target=lambda: [look() for _ in iter(lambda: ended.wait(0.002), True)])
    thread.start()
    try:
        yield look
    finally:
        ended.set()
        thread.join()


def apart(work: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """In a fork, whose memory is its own."""
    reader, writer = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: writer.send(work()))
    process.start()
    writer.close()
    try:
        return reader.recv()
    finally:
        process.join()


@pytest.mark.parametrize(
    ("dtype", "own", "whole"),
    [
        # Not copied: the pages of the file, and of libraries that are read again.
        pytest.param(torch.bfloat16, 0.05, 1.3, id="as in the file"),
        # Twice as large, and the file's pages, which the kernel may drop.
        pytest.param(torch.float32, 1.1, 1.7, id="other"),
    ],
)
def test_loading_takes_the_weights_once(large_model: str, dtype: torch.dtype, own: float, whole: float):
    def load() -> tuple[int, ...]:
        # The peak starts anew.
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmHWM")
        with watched("RssAnon") as peak:
            model = load_base(large_model, CPU, dtype)
            # Reads every weight.
            assert all(parameter.max() > 0 for parameter in model.parameters())
            return size_of(model), peak(), memory("VmHWM") - before

    size, anonymous, total = apart(load)
    assert size * 4 / dtype.itemsize > FP32_BYTES_MIN
    assert anonymous < own * size and total < whole * size


def test_ranks_of_fsdp_make_their_part_and_their_parent_nothing(large_model: str, drill: dict[str, Path], tmp_path: Path):
    document = train_job(drill["sft"], tmp_path, processes=2, strategy="fsdp", tuning="full")
    job = replace(parse_job(json.dumps(document)), base_model=large_model)
    with watched("RssAnon") as peak:
        prepared = prepare(job, Events())
        of_parent = peak()
    size = 2 * size_of(prepared.base)
    assert size > FP32_BYTES_MIN and of_parent < 0.05 * size

    def work(rank: int) -> None:
        with watched("RssAnon") as peak:
            trainer = _build_trainer(prepared)
            (tmp_path / f"peak-{rank}").write_text(str(peak()))
        assert all(isinstance(parameter, DTensor) and parameter.dtype == torch.float32 for parameter in trainer.model.parameters())

    _, code = lead(work, tmp_path)
    assert code == 0, (tmp_path / "log").read_text()[-3000:]
    for rank in (0, 1):
        assert int((tmp_path / f"peak-{rank}").read_text()) < 0.8 * size


def test_a_mapped_model_that_is_settled_is_the_model_in_fp32(tmp_path: Path):
    """With all digits of what no file holds: this one scales its embeddings by the root of 24, which bf16 rounds."""
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    )
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    mapped, plain = load_mapped(str(tmp_path)), load_base(str(tmp_path), CPU, torch.float32)
    assert mapped.dtype == torch.bfloat16 and not any(parameter.dtype == torch.float32 for parameter in mapped.parameters())
    settle(mapped, CPU, torch.float32)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(mapped(input_ids=ids).logits, plain(input_ids=ids).logits)
    # Weights of a bf16 training: frequencies and factors stay what they were.
    settle(mapped, CPU, torch.bfloat16)
    assert {name: buffer.dtype for name, buffer in mapped.named_buffers()} == {name: buffer.dtype for name, buffer in plain.named_buffers()}
