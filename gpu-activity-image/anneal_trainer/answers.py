"""A model's answers to prompts: the loss of each reference and, if asked for, a greedy answer, in batches.

Each prompt goes through the model once; scoring and decoding both go on from its keys and values. What all prompts of a group
begin with goes through once per group.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from anneal_trainer.prefix import Prefix, compute_prefix, enable_shared_prefix
from anneal_trainer.scoring import scored_logits

# Prompt tokens in a batch, padding included: beyond this, larger batches are no faster on a CPU.
_PROMPT_TOKENS_MAX = 4096
# Reference tokens in a batch, padding included: their logits take 4 bytes × vocabulary each (400 MB at 49,152).
_REFERENCE_TOKENS_MAX = 2048
# A shorter common beginning is not worth a pass of its own.
_PREFIX_TOKENS_MIN = 16
# Finished rows leave the batch once they are this share of it; moving the others' keys and values costs about a step.
_FINISHED_SHARE = 0.25


@dataclass(frozen=True)
class Question:
    """Prompt and reference in tokens; questions with the same `opening` begin alike (system message and shots).

    `images`: digests of those that the prompt shows.
    """

    index: int
    opening: str
    prompt: list[int]
    reference: list[int]
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    index: int
    loss: float
    tokens: list[int] | None


@dataclass
class _Batch:
    """Rows of one forward pass: their prompts behind the shared prefix, padded on the left."""

    questions: list[Question]
    ids: torch.Tensor
    mask: torch.Tensor
    # The position of each row's next token.
    ends: torch.Tensor
    cache: DynamicCache
    prefix: dict[str, Prefix] = field(default_factory=dict)


class Answerer:
    def __init__(self, model: PreTrainedModel, stop_ids: set[int], new_tokens_max: int, share_prefix: bool = True):
        self._model = model
        self._stop_ids = stop_ids
        self._new_tokens_max = new_tokens_max
        self._shares_prefix = share_prefix and enable_shared_prefix(model)

    @torch.inference_mode()
    def answer(self, questions: list[Question], generate: bool) -> Iterator[list[Answer]]:
        """Yields answers batch by batch, in no particular order."""
        for _, group in groupby(sorted(questions, key=lambda question: question.opening), lambda question: question.opening):
            members = list(group)
            prefix = self._common_prefix(members)
            shared = {"shared_prefix": compute_prefix(self._model, prefix)} if prefix else {}
            for chunk in _chunks(members, len(prefix)):
                yield self._answer_batch(chunk, len(prefix), shared, generate)

    def _common_prefix(self, questions: list[Question]) -> list[int]:
        """At least one token of each prompt stays outside, because its output starts the answer."""
        first, last = min(question.prompt for question in questions), max(question.prompt for question in questions)
        longest = min(len(question.prompt) for question in questions) - 1
        same = next((i for i in range(longest) if first[i] != last[i]), longest)
        worthwhile = self._shares_prefix and len(questions) > 1 and same >= _PREFIX_TOKENS_MIN
        return first[:same] if worthwhile else []

    def _answer_batch(self, questions: list[Question], start: int, prefix: dict[str, Prefix], generate: bool) -> list[Answer]:
        batch = self._pad(questions, start, prefix)
        positions = start + (batch.mask.cumsum(1) - 1).clamp(min=0)
        first_logits = self._forward(batch, batch.ids, batch.mask, positions)
        scoring = copy.deepcopy(batch.cache) if generate else batch.cache
        losses = self._score(batch, scoring, first_logits)
        outputs = self._decode(batch, first_logits) if generate else [None] * len(questions)
        return [Answer(q.index, loss, output) for q, loss, output in zip(questions, losses, outputs, strict=True)]

    def _pad(self, questions: list[Question], start: int, prefix: dict[str, Prefix]) -> _Batch:
        suffixes = [question.prompt[start:] for question in questions]
        width = max(map(len, suffixes))
        ids = torch.tensor([[0] * (width - len(suffix)) + suffix for suffix in suffixes])
        mask = torch.tensor([[0] * (width - len(suffix)) + [1] * len(suffix) for suffix in suffixes])
        ends = torch.tensor([len(question.prompt) for question in questions])
        device, cache = self._model.device, DynamicCache(config=self._model.config)
        return _Batch(questions, ids.to(device), mask.to(device), ends.to(device), cache, prefix)

    def _forward(self, batch: _Batch, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits (rows, vocabulary) behind the last token, in fp32; the batch's cache grows by `ids`."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=batch.cache,
            logits_to_keep=1,
            **batch.prefix,
        )
        return output.logits[:, -1].float()

    def _score(self, batch: _Batch, cache: DynamicCache, first_logits: torch.Tensor) -> list[float]:
        """Mean negative log-likelihood of each row's reference, end-of-turn included (natural logarithm)."""
        references = [question.reference for question in batch.questions]
        device = self._model.device
        heads = torch.tensor([reference[0] for reference in references], device=device)
        sums = functional.cross_entropy(first_logits, heads, reduction="none").double()
        width = max(map(len, references)) - 1
        if width:
            inputs = torch.tensor([r[:-1] + [0] * (width + 1 - len(r)) for r in references], device=device)
            lengths = torch.tensor([len(r) - 1 for r in references], device=device)
            steps = torch.arange(width, device=device)
            scored = steps < lengths[:, None]
            arguments = {
                "input_ids": inputs,
                "attention_mask": torch.cat([batch.mask, scored.long()], 1),
                "position_ids": batch.ends[:, None] + steps,
                "past_key_values": cache,
                **batch.prefix,
            }
            targets = torch.tensor([token for r in references for token in r[1:]], device=device)
            losses = functional.cross_entropy(scored_logits(self._model, scored, arguments).float(), targets, reduction="none")
            rows = torch.arange(len(references), device=device).repeat_interleave(lengths)
            sums.index_add_(0, rows, losses.double())
        return [total / len(r) for total, r in zip(sums.tolist(), references, strict=True)]

    def _decode(self, batch: _Batch, logits: torch.Tensor) -> list[list[int]]:
        """Greedy tokens of each row up to its end-of-turn token (not included) or the limit."""
        outputs: list[list[int]] = [[] for _ in batch.questions]
        rows, mask, positions = list(range(len(outputs))), batch.mask, batch.ends
        finished = [False] * len(outputs)
        for step in range(self._new_tokens_max):
            tokens = logits.argmax(-1)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                finished[row] = finished[row] or token in self._stop_ids
                if not finished[row]:
                    outputs[row].append(token)
            going = [i for i, row in enumerate(rows) if not finished[row]]
            if not going or step + 1 == self._new_tokens_max:
                break
            if len(going) <= (1 - _FINISHED_SHARE) * len(rows):
                keep = torch.tensor(going, device=mask.device)
                batch.cache.batch_select_indices(keep)
                rows, mask, positions, tokens = [rows[i] for i in going], mask[keep], positions[keep], tokens[keep]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            logits = self._forward(batch, tokens[:, None], mask, positions[:, None])
            positions = positions + 1
        return outputs


def _chunks(questions: list[Question], start: int) -> Iterator[list[Question]]:
    """Batches of similar length under both token budgets."""
    chunk: list[Question] = []
    longest_prompt = longest_reference = 0
    for question in sorted(questions, key=lambda q: (len(q.prompt), len(q.reference), q.index)):
        longest_prompt = max(longest_prompt, len(question.prompt) - start)
        longest_reference = max(longest_reference, len(question.reference))
        rows = len(chunk) + 1
        if chunk and (rows * longest_prompt > _PROMPT_TOKENS_MAX or rows * longest_reference > _REFERENCE_TOKENS_MAX):
            yield chunk
            chunk, longest_prompt, longest_reference = [], len(question.prompt) - start, len(question.reference)
        chunk.append(question)
    if chunk:
        yield chunk


def all_finite(answers: list[Answer]) -> bool:
    return all(math.isfinite(answer.loss) for answer in answers)
