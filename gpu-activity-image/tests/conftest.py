"""The environment that the trainer gives itself, set before torch is imported, and the data that the tests share."""

import functools
import os

# Where the number of threads is not set, accelerate sets it by the ranks of a host, whatever the recipe says.
os.environ.update(OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

from pathlib import Path

import pytest
import torch
from anneal_trainer.drill_data import make_drill_data
from anneal_trainer.protocol import DrillDataJob, SplitFiles, TokeniseJob
from anneal_trainer.tokenise import tokenise
from support import TINY, Events, example_rows, write_rows
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Tests fork this process, which one with a thread pool does not survive.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--claims", type=Path, help="folder in which runs that go on at once claim files of tests, so that each is run once")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Large files first where runs share them: what is left at the end is small, so that the runs end together."""
    if config.getoption("claims"):
        items.sort(key=lambda item: (-item.path.stat().st_size, item.path))


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """True: it is done with, since another run has it."""
    claims = item.config.getoption("claims")
    return True if claims and not _is_ours(claims, item.path.name) else None


@functools.cache
def _is_ours(claims: Path, file: str) -> bool:
    """Whether this run has the file, which it tries to get when it first meets it."""
    try:
        (claims / file).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train.safetensors` (46 rows of 35 to 90 tokens) and `validation.safetensors` (6 rows)."""
    folder = tmp_path_factory.mktemp("shards")
    splits = []
    for name, count, seed in (("train", 46, 1), ("validation", 6, 2)):
        write_rows(folder / f"{name}.jsonl", example_rows(count, seed))
        splits.append(SplitFiles(name, str(folder / f"{name}.jsonl"), str(folder / f"{name}.safetensors")))
    tokenise(TokeniseJob(1, "tokenise", TINY, 128, splits, str(folder / "rejected.jsonl")), Events())
    return folder


@pytest.fixture(scope="session")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of 500 words with dropout in its attention: a step in milliseconds, and random streams that matter."""
    folder = str(tmp_path_factory.mktemp("words-model"))
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<end>"}
    words = [*special.values(), *(f"w{i}" for i in range(497))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attention_dropout=0.1,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def drill(words_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By method, folders with a training shard of 46 rows and a validation shard of 9."""
    folders = {}
    for kind in ("sft", "preference", "judged"):
        folders[kind] = tmp_path_factory.mktemp(kind)
        make_drill_data(DrillDataJob(1, "drill-data", kind, words_model, 46, 1, str(folders[kind])), Events())
    return {"sft": folders["sft"], "dpo": folders["preference"], "reward": folders["preference"], "kto": folders["judged"]}
