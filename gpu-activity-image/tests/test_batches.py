"""The order of rows, packing, streams, token dropout and padding."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from anneal_trainer.batches import (
    NO_LABEL,
    JudgedCollator,
    LengthGroupedOrder,
    PadCollator,
    PreferenceCollator,
    TokenDropout,
    as_dataset,
    as_stream,
)
from anneal_trainer.models import load_base
from anneal_trainer.packing import pack_rows
from anneal_trainer.protocol import DataRejected
from anneal_trainer.scoring import keeps_packed_rows_apart, token_losses
from anneal_trainer.shards import (
    read_judged_shard,
    read_preference_shard,
    read_shard,
    write_judged_shard,
    write_preference_shard,
    write_shard,
)
from safetensors.numpy import load_file, save_file
from torch.utils.data import DataLoader
from trl.data_utils import pack_dataset


def test_order_is_a_permutation_decided_by_seed_and_epoch_alone():
    order = LengthGroupedOrder(np.arange(103) % 17, 8, seed=5)
    first = list(order)
    assert sorted(first) == list(range(103))
    assert list(order) == first
    order.epoch = 1
    assert list(order) != first
    assert list(LengthGroupedOrder(np.arange(103) % 17, 8, seed=6)) != first


def test_rows_of_a_batch_are_of_similar_length_and_only_the_last_batch_is_short():
    lengths = np.random.default_rng(0).integers(10, 500, 1003)
    batches = list(DataLoader(lengths, batch_size=8, sampler=LengthGroupedOrder(lengths, 8, seed=0)))
    assert [len(batch) for batch in batches] == [8] * 125 + [3]
    padded = sum(int(batch.max()) * len(batch) for batch in batches)
    # Unsorted batches of eight would waste about 70 %.
    assert padded / lengths.sum() < 1.1


def test_padding_has_no_label_though_the_end_of_turn_token_is_the_pad_token(shards):
    shard = read_shard(str(shards / "train.safetensors"))
    rows = [as_dataset(shard)[i] for i in (0, 1, 2)]
    end_of_turn = int(shard.input_ids[shard.offsets[1] - 1])
    batch = PadCollator(pad_id=end_of_turn)(rows)
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        assert batch["labels"][i, length - 1] == end_of_turn
        assert (batch["labels"][i, length:] == NO_LABEL).all()
        assert batch["attention_mask"][i].sum() == length
        assert ((batch["labels"][i, :length] != NO_LABEL).numpy() == row["trainable"].astype(bool)).all()


def test_packing_keeps_every_row_whole_and_wastes_little(drill: dict[str, Path]):
    shard = read_shard(str(drill["sft"] / "train.safetensors"))
    packed = pack_rows(shard)
    assert packed.lengths.max() == shard.lengths.max()
    assert packed.lengths.sum() == shard.lengths.sum()
    assert len(packed.dataset) < 0.7 * len(shard)
    rows = {tuple(row["input_ids"]) for row in as_dataset(shard)}
    for row in packed.dataset:
        parts = np.split(row["input_ids"], np.cumsum(row["seq_lengths"])[:-1])
        assert all(tuple(part) in rows for part in parts)


def test_rows_are_packed_as_trl_packs_them(tmp_path: Path):
    rng = np.random.default_rng(4)
    lengths = [*rng.integers(1, 60, 1500), 64, *rng.integers(1, 9, 700)]
    rows = [rng.integers(0, 99, length).astype(np.int32) for length in lengths]
    write_shard(tmp_path / "rows.safetensors", [(ids, (ids % 2).astype(np.uint8)) for ids in rows])
    shard = read_shard(str(tmp_path / "rows.safetensors"))
    trl = pack_dataset(as_dataset(shard), 64, "bfd").with_format("numpy")
    packed = pack_rows(shard)
    assert [len(row["input_ids"]) for row in trl] == packed.lengths.tolist()
    for ours, theirs in zip(packed.dataset, trl, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ("input_ids", "trainable", "seq_lengths"))


def test_packed_rows_have_the_losses_of_rows_by_themselves(drill: dict[str, Path], words_model: str):
    shard = read_shard(str(drill["sft"] / "train.safetensors"))
    model, collate = load_base(words_model, torch.device("cpu")), PadCollator(pad_id=1)
    with torch.no_grad():
        alone = token_losses(model, collate(list(as_dataset(shard))))
        packed = token_losses(model, collate(list(pack_rows(shard).dataset)))
    torch.testing.assert_close(packed.sort().values, alone.sort().values, rtol=1e-5, atol=1e-5)
    assert keeps_packed_rows_apart(model)


def test_model_that_sees_across_packed_rows_is_found_out(words_model: str):
    model = load_base(words_model, torch.device("cpu"))
    whole = model.forward
    # As a model does that makes its mask from nothing but the length.
    model.forward = lambda input_ids, position_ids=None, **rest: whole(
        input_ids, position_ids=None if position_ids is None else torch.arange(input_ids.shape[1])[None], **rest
    )
    assert not keeps_packed_rows_apart(model)


def test_stream_brings_every_row_once_an_epoch_in_another_order(drill: dict[str, Path]):
    shard = read_shard(str(drill["sft"] / "train.safetensors"))
    rows = list(islice(as_stream(shard, seed=1), 2 * len(shard)))
    first, second = ([tuple(row["input_ids"]) for row in part] for part in (rows[: len(shard)], rows[len(shard) :]))
    assert sorted(first) == sorted(second) == sorted(tuple(row["input_ids"]) for row in as_dataset(shard))
    assert first != second
    assert [row["epoch"] for row in rows] == [0] * len(shard) + [1] * len(shard)


def test_token_dropout_replaces_unlabelled_ordinary_tokens_by_key():
    ids, labelled = np.arange(100, 1100, dtype=np.int32), np.arange(1000) >= 800
    dropout = TokenDropout(0.2, seed=1, vocabulary=2000, special=[0, 150])
    dropped = dropout.apply(ids, labelled, epoch=0)
    changed = dropped != ids
    assert 0.15 < changed[:800].mean() < 0.25 and not changed[800:].any()
    assert dropped[50] == 150 and not (dropped[changed] == 150).any()
    torch.manual_seed(1)
    assert (dropout.apply(ids, labelled, epoch=0) == dropped).all()
    assert (dropout.apply(ids, labelled, epoch=1) != dropped).any()
    assert (TokenDropout(0.2, 2, 2000, [0, 150]).apply(ids, labelled, 0) != dropped).any()


def test_preference_pairs_are_laid_out_as_trl_wants_them(tmp_path: Path):
    pairs = [([5, 6], [7], [8, 9, 10]), ([11], [12, 13], [14])]
    write_preference_shard(tmp_path / "pairs", [tuple(np.array(part, np.int32) for part in pair) for pair in pairs])
    shard = read_preference_shard(str(tmp_path / "pairs"))
    assert shard.lengths.tolist() == [5, 3]
    batch = {name: tensor.tolist() for name, tensor in PreferenceCollator(pad_id=1)(list(as_dataset(shard))).items()}
    assert batch == {
        "input_ids": [[5, 6, 7, 1, 1], [11, 12, 13, 1, 1], [5, 6, 8, 9, 10], [11, 14, 1, 1, 1]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]],
        "completion_mask": [[0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]],
    }


def test_judged_answers_come_once_with_their_own_prompt_and_once_with_the_next_one(tmp_path: Path):
    rows = [([5, 6], [7], True), ([8], [9, 10], False), ([11], [12], True)]
    write_judged_shard(tmp_path / "rows", [(np.array(p, np.int32), np.array(a, np.int32), label) for p, a, label in rows])
    shard = read_judged_shard(str(tmp_path / "rows"))
    assert shard.lengths.tolist() == [3, 3, 2]
    batch = {name: tensor.tolist() for name, tensor in JudgedCollator(pad_id=1)(list(as_dataset(shard))).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 9, 10], [11, 12, 1]],
        "attention_mask": [[1, 1, 1], [1, 1, 1], [1, 1, 0]],
        "completion_mask": [[0, 0, 1], [0, 1, 1], [0, 1, 0]],
        "KL_input_ids": [[5, 6, 12], [8, 7, 1], [11, 9, 10]],
        "KL_attention_mask": [[1, 1, 1], [1, 1, 0], [1, 1, 1]],
        "KL_completion_mask": [[0, 0, 1], [0, 1, 0], [0, 1, 1]],
        "label": [True, False, True],
    }


def test_shard_whose_labels_do_not_cover_its_rows_is_torn(drill: dict[str, Path], tmp_path: Path):
    tensors = load_file(drill["kto"] / "train.safetensors")
    save_file(tensors | {"label": tensors["label"][:-1]}, tmp_path / "torn")
    with pytest.raises(DataRejected, match="is torn"):
        read_judged_shard(str(tmp_path / "torn"))


def test_shard_of_the_other_kind_is_rejected_with_the_kind_that_is_wanted(drill: dict[str, Path]):
    with pytest.raises(DataRejected, match=r"preference pairs, which `train\.method: dpo` and `reward` need"):
        read_preference_shard(str(drill["sft"] / "train.safetensors"))
    with pytest.raises(DataRejected, match="cannot be read as chat rows"):
        read_shard(str(drill["dpo"] / "train.safetensors"))
    with pytest.raises(DataRejected, match=r"judged answers, which `train\.method: kto` needs"):
        read_judged_shard(str(drill["dpo"] / "train.safetensors"))
