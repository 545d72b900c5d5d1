"""Answers of a model that reads images: one question at a time, by the model's own forward pass and decoding.

Such models count positions and place images each in their own way; shared beginnings and padded batches, which make `answers.py` fast,
would have to know all of them.
"""

from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from anneal_trainer.answers import Answer, Question
from anneal_trainer.batches import NO_LABEL
from anneal_trainer.images import ImageReader
from anneal_trainer.scoring import token_losses


class ImageAnswerer:
    """Stands where an `Answerer` does."""

    def __init__(self, model: PreTrainedModel, images: ImageReader, stop_ids: set[int], new_tokens_max: int):
        self._model = model
        self._images = images
        self._stop_ids = stop_ids
        self._new_tokens_max = new_tokens_max
        images.load()

    @torch.inference_mode()
    def answer(self, questions: list[Question], generate: bool) -> Iterator[list[Answer]]:
        for question in questions:
            yield [Answer(question.index, self._score(question), self._decode(question) if generate else None)]

    def _score(self, question: Question) -> float:
        """Mean negative log-likelihood of the reference, end-of-turn included (natural logarithm)."""
        inputs = self._inputs(question, [*question.prompt, *question.reference])
        labels = inputs["input_ids"].clone()
        labels[:, : len(question.prompt)] = NO_LABEL
        return token_losses(self._model, {**inputs, "labels": labels}).mean().item()

    def _decode(self, question: Question) -> list[int]:
        """Greedy tokens up to the end-of-turn token (not included) or the limit."""
        stops = sorted(self._stop_ids)
        written = self._model.generate(
            **self._inputs(question, question.prompt),
            do_sample=False,
            max_new_tokens=self._new_tokens_max,
            eos_token_id=stops,
            pad_token_id=stops[0],
        )[0, len(question.prompt) :].tolist()
        return written[:-1] if written and written[-1] in self._stop_ids else written

    def _inputs(self, question: Question, ids: list[int]) -> dict[str, torch.Tensor]:
        input_ids = torch.tensor([ids])
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        inputs |= self._images.inputs(list(question.images), input_ids)
        return {name: tensor.to(self._model.device) for name, tensor in inputs.items()}
