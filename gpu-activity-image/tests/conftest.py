"""The environment that the trainer gives itself, set before torch is imported, and the data that the tests share."""

import os

os.environ.update(OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

from pathlib import Path

import pytest
from anneal_trainer.protocol import SplitFiles, TokeniseJob
from anneal_trainer.tokenise import tokenise
from support import TINY, Events, example_rows, write_rows


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
