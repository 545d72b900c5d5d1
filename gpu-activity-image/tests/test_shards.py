"""Shards on disk: safetensors' own bytes, and several of them as one split that trains the same."""

import json
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from anneal_trainer.batches import as_dataset, as_stream
from anneal_trainer.packing import pack_rows
from anneal_trainer.protocol import DataRejected, parse_job
from anneal_trainer.shard_writer import LAYOUTS, Block, ShardWriter
from anneal_trainer.shards import read_judged_shard, read_preference_shard, read_shard, write_longest_row
from anneal_trainer.train import train
from safetensors.numpy import load_file, save_file
from support import Events, curve, train_job

READERS = {"chat": ("sft", read_shard), "pair": ("dpo", read_preference_shard), "judged": ("kto", read_judged_shard)}


def write_parts(folder: Path, kind: str, split: str, source: Path, cuts: list[int]) -> None:
    """The split's rows once more, in shards that end at the cuts."""
    shard = READERS[kind][1](str(source / f"{split}.safetensors"))
    folder.mkdir(exist_ok=True)
    edges = [0, *cuts, len(shard)]
    for number, (start, end) in enumerate(pairwise(edges)):
        name = f"{split}-{number:05}-of-{len(edges) - 1:05}.safetensors"
        with ShardWriter(folder / name, kind) as writer:
            writer.add(Block.of(LAYOUTS[kind], [shard.row(i) for i in range(start, end)]))


@pytest.mark.parametrize("kind", READERS)
def test_the_bytes_are_those_of_safetensors_in_whatever_blocks_rows_come(drill: dict[str, Path], tmp_path: Path, kind: str):
    method, read = READERS[kind]
    file = drill[method] / "train.safetensors"
    save_file(load_file(file), tmp_path / "own.safetensors")
    assert (tmp_path / "own.safetensors").read_bytes() == file.read_bytes()
    shard = read(str(file))
    with ShardWriter(tmp_path / "blocks.safetensors", kind) as writer:
        for start in range(0, len(shard) + 7, 7):
            writer.add(Block.of(LAYOUTS[kind], [shard.row(i) for i in range(start, min(start + 7, len(shard)))]))
    assert (tmp_path / "blocks.safetensors").read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", READERS)
def test_several_shards_are_one_sequence_of_rows(drill: dict[str, Path], tmp_path: Path, kind: str):
    method, read = READERS[kind]
    write_parts(tmp_path, kind, "train", drill[method], [0, 5, 20])
    one, several = read(str(drill[method] / "train.safetensors")), read(str(tmp_path / "train.safetensors"))
    assert len(several) == len(one) and several.lengths.tolist() == one.lengths.tolist()
    assert all(isinstance(values, np.memmap) for part in several.parts[1:] for values, _ in part.columns().values())
    assert as_dataset(several).with_format(None).to_list() == as_dataset(one).with_format(None).to_list()
    assert write_longest_row(tmp_path / "longest", several, 3) == one.lengths.max()


def test_packs_and_streams_do_not_depend_on_the_shards(drill: dict[str, Path], tmp_path: Path):
    write_parts(tmp_path, "chat", "train", drill["sft"], [20, 21])
    one, several = read_shard(str(drill["sft"] / "train.safetensors")), read_shard(str(tmp_path / "train.safetensors"))
    packs = [[row["input_ids"].tolist() for row in pack_rows(shard).dataset] for shard in (one, several)]
    assert packs[0] == packs[1] and len(packs[0]) < len(one)
    streams = [[row["input_ids"].tolist() for row in islice(as_stream(shard, 1), 60)] for shard in (one, several)]
    assert streams[0] == streams[1]


def test_a_training_on_several_shards_gives_the_same_bytes(shards: Path, tmp_path: Path):
    for split, cuts in (("train", [11, 40]), ("validation", [2])):
        write_parts(tmp_path / "parts", "chat", split, shards, cuts)
    results = []
    for folder, output in ((shards, "one"), (tmp_path / "parts", "several")):
        events = Events()
        train(parse_job(json.dumps(train_job(folder, tmp_path / output, epochs=1))), events)
        results.append((curve(events), events.result()["weightsSha256"], events.result()["evalLoss"]))
    assert results[0] == results[1]


def test_a_missing_shard_is_named_by_number(drill: dict[str, Path], tmp_path: Path):
    write_parts(tmp_path, "chat", "train", drill["sft"], [20, 30])
    (tmp_path / "train-00001-of-00003.safetensors").unlink()
    with pytest.raises(DataRejected, match="has 2 of 3 shards"):
        read_shard(str(tmp_path / "train.safetensors"))
