"""Makes what all systems of a bench train: a random Llama of 2.9 million parameters, and a shard of random rows of one length.

Of one length, so that a system that groups rows by length gains nothing by it. Usage: python make_model.py <folder> <rows>
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from anneal_trainer.shards import write_shard
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 512
ROW_TOKENS = 80


def main(folder: Path, rows: int) -> None:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token="w1", pad_token="w2", bos_token="w3")
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        attention_dropout=0.1,
        bos_token_id=3,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    rng = random.Random(0)
    drawn = [np.array([rng.randrange(4, VOCABULARY) for _ in range(ROW_TOKENS)], np.int32) for _ in range(rows)]
    write_shard(folder / "data" / "train.safetensors", [(ids, np.ones(ROW_TOKENS, np.uint8)) for ids in drawn])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
