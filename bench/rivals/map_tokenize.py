"""The rival: chats to tokens and assistant masks by `datasets.map`, as one writes it for a Hugging Face tokenizer.

Usage: python map_tokenize.py <model> <rows.jsonl> <processes> <cache>. Prints `{"ended", "digest"}`: when the tokens were on the disk
(ms since the epoch), and a digest of them.
"""

import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
from transformers import AutoTokenizer


def main(model: str, rows: str, processes: int, cache: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)

    def tokenise(batch: dict) -> dict:
        encoded = tokenizer.apply_chat_template(batch["messages"], return_dict=True, return_assistant_tokens_mask=True)
        return {"input_ids": encoded["input_ids"], "trainable": encoded["assistant_masks"]}

    chats = datasets.load_dataset("json", data_files=rows, split="train", cache_dir=cache)
    workers = processes if processes > 1 else None
    tokens = chats.map(tokenise, batched=True, num_proc=workers, remove_columns=chats.column_names)
    ended = time.time() * 1000
    print(json.dumps({"ended": ended, "digest": digest(tokens)}))


def digest(tokens: datasets.Dataset) -> str:
    """Of ids, masks and lengths, without what follows a row's last label: it is the template's line break."""
    import hashlib

    import numpy as np

    hashes = [hashlib.sha256() for _ in range(3)]
    end = 0
    hashes[2].update(np.zeros(1, np.int64).tobytes())
    for row in tokens.with_format("numpy"):
        length = int(np.flatnonzero(row["trainable"])[-1]) + 1
        end += length
        parts = (row["input_ids"][:length].astype(np.int32), row["trainable"][:length].astype(np.uint8), np.array([end], np.int64))
        for hash, part in zip(hashes, parts):
            hash.update(part.tobytes())
    return hashlib.sha256(b"".join(hash.digest() for hash in hashes)).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
