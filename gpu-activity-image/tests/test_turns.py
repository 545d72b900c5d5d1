"""Which text is trained on under templates of well-known families that do not mark it, and what is refused instead of guessed."""

import json
import random
from pathlib import Path

import pytest
from anneal_trainer.chat import Chat
from anneal_trainer.special_text import TemplateError
from templates import FAMILIES, model_of, trained_texts

SYSTEM = {"role": "system", "content": "Be brief."}
CALLS = json.dumps([{"id": "c1", "type": "function", "function": {"name": "on", "arguments": '{"area": "hall"}'}}])
TOOLS = json.dumps([{"type": "function", "function": {"name": "on", "parameters": {}}}])
ENDS = {"gemma": "<end_of_turn>", "llama": "<|eot_id|>", "mistral": "</s>", "phi": "<|end|>", "deepseek": "<|eos|>"}


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chat]:
    folder = tmp_path_factory.mktemp("families")
    return {family: Chat(model_of(family, folder / family)) for family in FAMILIES}


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str, **more) -> dict:
    return {"role": "assistant", "content": content, **more}


def end_of(family: str) -> str:
    return ENDS.get(family, "<|im_end|>")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_and_their_ends_are_trained_on_and_nothing_else(chats: dict[str, Chat], family: str):
    messages = [SYSTEM, user("a?"), assistant("one"), user("one"), assistant("a?"), user("c?"), assistant(" three\nlines ")]
    if family == "gemma":
        messages = messages[1:]
    texts = trained_texts(chats[family], messages)
    # Qwen shows that the newest answer comes without reasoning.
    texts = [text.removeprefix("<think>\n\n</think>\n\n") for text in texts]
    assert [text.removesuffix(end_of(family)).strip() for text in texts] == ["one", "a?", "three\nlines"]
    assert all(text.rstrip().endswith(end_of(family)) or family == "phi" for text in texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_turn_begins_where_the_model_is_asked_for_it(chats: dict[str, Chat], family: str):
    """What is trained on follows what serving shows, as far as the family shows earlier turns the same."""
    chat, messages = chats[family], [user("a?"), assistant("one"), user("b?"), assistant("two")]
    rendered, spans = chat.render_with_spans(messages)
    prompt = chat.render(messages[:1], generate=True).text
    if family == "deepseek":
        prompt = prompt.removesuffix("<think>\n")
    assert rendered.text[: spans[0][0]] == prompt


@pytest.mark.parametrize("family", FAMILIES)
def test_turns_of_weight_0_are_context(chats: dict[str, Chat], family: str):
    messages = [user("a?"), assistant("one", weight=0), user("b?"), assistant("two")]
    texts = trained_texts(chats[family], messages)
    assert len(texts) == 1 and "two" in texts[0] and "one" not in texts[0]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen"])
def test_calls_of_tools_are_trained_on_and_what_tools_answer_is_not(chats: dict[str, Chat], family: str):
    messages = [
        *[SYSTEM, user("light?"), assistant("", tool_calls=CALLS), {"role": "tool", "content": "done", "tool_call_id": "c1"}],
        *[assistant("It is on."), user("thanks"), assistant("Welcome.")],
    ]
    texts = trained_texts(chats[family], messages, TOOLS)
    assert len(texts) == 3 and '"name": "on"' in texts[0] and '"area": "hall"' in texts[0]
    assert all(text.endswith(end_of(family)) for text in texts)
    assert "It is on." in texts[1] and "Welcome." in texts[2] and not any("done" in text or "thanks" in text for text in texts)


# What the families' templates write of an assistant's turn, to be put between marks.
WRITTEN = {
    "chatml": ("m.content + '<|im_end|>\\n'", "m.content + '<|im_end|>'"),
    "gemma": ("m.content | trim + '<end_of_turn>\\n'", "m.content | trim + '<end_of_turn>'"),
    "phi": ("m.content + '<|end|>\\n'", "m.content + '<|end|>'"),
}
PIECES = [
    "a",
    "ok",
    "<|im_end|>",
    "\n",
    "  ",
    "</think>",
    "<think>",
    "<end_of_turn>",
    "naïve 四🦜",
    "assistant",
    "<|assistant|>",
    "[INST]",
    ".",
]


def marked_twin(family: str, folder: Path) -> Chat:
    template = FAMILIES[family][0]
    whole, kept = WRITTEN[family]
    assert template.count(f"{whole} }}}}") == 1
    answer = "{% generation %}{{ " + kept + " }}{% endgeneration %}"
    turn = "{% if m.role == 'assistant' %}" + answer + "{% else %}{{ " + kept + " }}{% endif %}{{ '\\n' }}"
    Path(model_of(family, folder), "chat_template.jinja").write_text(template.replace(f" + {whole} }}}}", " }}" + turn), "utf-8")
    return Chat(str(folder))


@pytest.mark.parametrize("family", WRITTEN)
def test_any_chat_has_the_mask_of_a_template_with_marks(chats: dict[str, Chat], tmp_path: Path, family: str):
    """Contents of odd pieces, equal to each other or empty; the marks of a second template are the judge."""
    twin, rng = marked_twin(family, tmp_path / "twin"), random.Random(family)
    for _ in range(200):
        contents = ["".join(rng.choices(PIECES, k=rng.randint(0, 4))) or "x" for _ in range(2 * rng.randint(1, 4))]
        messages = [user(text) if i % 2 == 0 else assistant(text, weight=rng.randint(0, 1)) for i, text in enumerate(contents)]
        assert chats[family].render_with_spans(messages) == twin.render_with_spans(messages), messages


def test_reasoning_is_trained_on_where_the_template_shows_it(chats: dict[str, Chat]):
    messages = [user("a?"), assistant("<think>\nfirst\n</think>\n\none"), user("b?"), assistant("<think>\nsecond\n</think>\n\ntwo")]
    assert trained_texts(chats["qwen"], messages) == ["one<|im_end|>", "<think>\nsecond\n</think>\n\ntwo<|im_end|>"]
    field = [user("a?"), assistant("one", reasoning_content="first")]
    assert trained_texts(chats["qwen"], field) == ["<think>\nfirst\n</think>\n\none<|im_end|>"]


def test_reasoning_that_a_template_takes_out_of_the_newest_answer_is_refused(chats: dict[str, Chat]):
    with pytest.raises(TemplateError, match=r"leaves the reasoning of `messages\[1\].content` out"):
        trained_texts(chats["deepseek"], [user("a?"), assistant("<think>\nhm\n</think>\n\none")])
    earlier = [user("a?"), assistant("<think>\nhm\n</think>one"), user("b?"), assistant("two")]
    assert trained_texts(chats["deepseek"], earlier) == ["one<|eos|>", "two<|eos|>"]


def test_a_chat_that_begins_with_an_answer_has_no_prompt_and_is_found_all_the_same(chats: dict[str, Chat]):
    messages = [assistant("Hello, how can I help?"), user("a?"), assistant("one")]
    assert trained_texts(chats["qwen"], messages)[0] == "Hello, how can I help?<|im_end|>"


def test_roles_that_a_template_refuses_give_its_own_words(chats: dict[str, Chat]):
    with pytest.raises(TemplateError, match="System role not supported"):
        trained_texts(chats["gemma"], [SYSTEM, user("a?"), assistant("one")])
    with pytest.raises(TemplateError, match="roles must alternate"):
        trained_texts(chats["mistral"], [user("a?"), user("b?"), assistant("one")])


@pytest.mark.parametrize(
    "template",
    [
        # Shows the newest turn first.
        "{% for m in messages | reverse %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}",
        # Says the answer twice.
        "{% for m in messages %}{{ m.role + ': ' + m.content + m.content + '<|im_end|>' }}{% endfor %}{{ messages | length }}",
        # Spells it otherwise.
        "{{ messages | length }}{% for m in messages %}{{ m.role + ': ' + m.content | upper + '<|im_end|>' }}{% endfor %}",
    ],
)
def test_a_template_whose_turns_cannot_be_told_apart_is_refused(tmp_path: Path, template: str):
    folder = Path(model_of("chatml", tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(TemplateError, match=r"not clear which part .* `messages\[\d\]`"):
        trained_texts(Chat(str(folder)), [user("a?"), assistant("one"), user("b?"), assistant("two")])
