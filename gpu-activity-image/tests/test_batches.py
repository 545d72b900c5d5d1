"""The order of rows and their padding."""

import numpy as np
from anneal_trainer.batches import NO_LABEL, LengthGroupedOrder, PadCollator, as_dataset
from anneal_trainer.shards import read_shard
from torch.utils.data import DataLoader


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
