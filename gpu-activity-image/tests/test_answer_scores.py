"""TRL's output layer as it is made lean: the numbers of a plain softmax, at the labelled positions only."""

import pytest
import torch
from anneal_trainer import answer_scores
from anneal_trainer.models import load_base
from torch.nn import functional
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import add_fused_lm_head

TOKENS, HIDDEN, VOCABULARY = 7, 16, 50
NO_LABEL = -100


@pytest.fixture(autouse=True)
def lean():
    answer_scores.be_lean()


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize(("temperature", "scale"), [(1.0, 1.0), (0.7, 1.5)])
@pytest.mark.parametrize("columns", [VOCABULARY, 16])
def test_scores_and_gradients_are_those_of_a_softmax(softcap: float | None, temperature: float, scale: float, columns: int):
    torch.manual_seed(0)
    hidden, weight = torch.randn(TOKENS, HIDDEN, requires_grad=True), torch.randn(VOCABULARY, HIDDEN, requires_grad=True)
    targets, slopes = torch.randint(VOCABULARY, (TOKENS,)), torch.randn(TOKENS)
    arguments = (hidden, weight, None, targets, temperature, columns, softcap, scale, ("log_probs",))
    found = ChunkedLogProbFunction.apply(*arguments)[0]
    gradients = torch.autograd.grad(found, (hidden, weight), slopes)
    logits = hidden @ weight.T * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    plain = functional.log_softmax(logits / temperature, -1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients, torch.autograd.grad(plain, (hidden, weight), slopes))


def test_only_labelled_positions_are_scored(words_model: str, monkeypatch: pytest.MonkeyPatch):
    model = load_base(words_model, torch.device("cpu"))
    seen = []
    apply = ChunkedLogProbFunction.apply
    monkeypatch.setattr(ChunkedLogProbFunction, "apply", lambda hidden, *rest: seen.append(len(hidden)) or apply(hidden, *rest))
    ids = torch.arange(3, 11)[None]
    labels = ids.masked_fill(torch.arange(8) < 5, NO_LABEL)
    with torch.no_grad():
        plain = functional.log_softmax(model(input_ids=ids).logits[0, 4:7], -1).gather(-1, ids[0, 5:, None])[:, 0]
        add_fused_lm_head(model)
        found = model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs[0]
    assert seen == [3]
    torch.testing.assert_close(found, torch.cat([torch.zeros(4), plain]))
