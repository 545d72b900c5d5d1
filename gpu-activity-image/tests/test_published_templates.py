"""Templates as models are published with them, which TRL carries: what is trained on of answers, calls and reasoning, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import trl
from anneal_trainer.chat import Chat
from anneal_trainer.special_text import TemplateError
from templates import FAMILIES, model_of, trained_texts
from test_turns import CALLS, SYSTEM, assistant, user

FOLDER = Path(trl.__file__).parent / "chat_templates"
# By what each ends its answers with.
ENDS = {
    "<|im_end|>": "lfm2 lfm2_v2 qwen2_5 qwen2_5_vl qwen3 qwen3_5_think qwen3_6 qwen3_instruct_2507 qwen3_vl nemotron_3_nano",
    "<|eot_id|>": "llama3 llama3_1 llama3_2",
    "<|END_OF_TURN_TOKEN|>": "cohere cohere2",
    "<｜end▁of▁sentence｜>": "deepseek_r1_distill deepseekv3",
    "<end_of_turn>": "gemma gemma3",
    "<turn|>": "gemma4_v5",
    "<|user|>": "glm4moe",
    "<|return|>": "gptoss",
    "<end_of_utterance>": "idefics3 smolvlm",
    "</s>": "llava_next",
    "<|end|>": "phi3 phi3_5",
}
END = {name: end for end, names in ENDS.items() for name in names.split()}
SPECIAL = re.compile(r"<\|[^|>'\"{}\s]+\|?>|<｜[^｜>]+｜>|<(?:start|end)_of_\w+>|<[a-z_]*turn\|>|<\|turn>")

OFF = {"id": "call00002", "type": "function", "function": {"name": "off", "arguments": '{"area": "attic"}'}}
ON = json.loads(CALLS)[0] | {"id": "call00001"}
AREA = {"type": "object", "properties": {"area": {"type": "string", "description": "where"}}, "required": ["area"]}
TOOLS = json.dumps([{"type": "function", "function": {"name": name, "description": name, "parameters": AREA}} for name in ("on", "off")])
DONE = {"role": "tool", "content": "done", "tool_call_id": "call00001", "name": "on"}
# Their templates show no calls, or refuse the roles of tools.
WITHOUT_CALLS = set(
    ["cohere", "cohere2", "gemma", "gemma3", "idefics3", "lfm2", "llama3", "llava_next", "phi3", "phi3_5", "qwen2_5_vl", "smolvlm"]
)
WITH_ONE_CALL = {"llama3_1", "llama3_2", "gptoss"}
WITH_REASONING = {"qwen3", "qwen3_5_think", "qwen3_6", "nemotron_3_nano", "gptoss", "glm4moe", "gemma4_v5"}


def chat_of(template: str, end: str, folder: Path) -> Chat:
    FAMILIES["published"] = (template, ["<bos>", *sorted(set(SPECIAL.findall(template)) - {end}), end])
    try:
        return Chat(model_of("published", folder))
    finally:
        del FAMILIES["published"]


@pytest.fixture(params=END)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def chat(family: str, tmp_path: Path) -> Chat:
    return chat_of((FOLDER / f"{family}.jinja").read_text("utf-8"), END[family], tmp_path / "model")


def test_every_answer_is_trained_on_with_its_end(chat: Chat, family: str):
    messages = [user("a?"), assistant("one"), user("one"), assistant("a?"), user("c?"), assistant("three\nlines")]
    texts = trained_texts(chat, messages)
    assert [re.sub(r"<think>\s*</think>|</think>", "", SPECIAL.sub("", text.replace("</s>", ""))).strip() for text in texts] == [
        answer if family != "gptoss" else f"final{answer}" for answer in ("one", "a?", "three\nlines")
    ]
    assert texts[-1].endswith(END[family]) and all(text.endswith(chat._special_texts) for text in texts)
    assert "one" not in "".join(trained_texts(chat, [messages[0], messages[1] | {"weight": 0}, *messages[4:]]))


def test_calls_are_trained_on_or_refused(chat: Chat, family: str):
    messages = [
        user("light?"),
        assistant("", tool_calls=json.dumps([ON])),
        DONE,
        assistant("It is on."),
        user("thanks"),
        assistant("Welcome."),
    ]
    if family in WITHOUT_CALLS:
        with pytest.raises(TemplateError, match="shows no tool calls"):
            trained_texts(chat, messages, TOOLS)
        return
    texts = trained_texts(chat, messages, TOOLS)
    assert all(part in texts[0] for part in ("on", "area", "hall")) and "It is on." in texts[1] and "Welcome." in texts[2]
    assert not any(other in "".join(texts) for other in ("done", "thanks", "light?")) and len(texts) == 3
    several = [messages[0], assistant("", tool_calls=json.dumps([ON, OFF]))]
    if family in WITH_ONE_CALL:
        with pytest.raises(TemplateError, match=r"single tool-calls|leaves out tool calls of `messages\[1\]`"):
            trained_texts(chat, several, TOOLS)
    else:
        assert all(part in trained_texts(chat, several, TOOLS)[0] for part in ("hall", "off", "attic"))


def test_text_beside_calls_is_trained_on_or_refused(chat: Chat, family: str):
    if family in WITHOUT_CALLS:
        return
    called = assistant("Let me look.", tool_calls=json.dumps([ON]))
    messages = [user("light?"), called, DONE, assistant("It is on.")]
    # gpt-oss takes it for reasoning, which it leaves out of earlier turns; of two it is not clear which text is the turn's.
    if family in {"llama3_1", "llama3_2", "gptoss", "deepseek_r1_distill", "gemma4_v5"}:
        with pytest.raises(TemplateError, match=r"text beside the tool calls of `messages\[1\]`|not clear which part") as refused:
            trained_texts(chat, messages, TOOLS)
        is_unclear = family in {"deepseek_r1_distill", "gemma4_v5"}
        assert refused.value.code == ("wrong_type" if is_unclear else "left_out_by_template")
        if not is_unclear:
            assert "It is on." in "".join(trained_texts(chat, [messages[0], called | {"weight": 0}, *messages[2:]], TOOLS))
        return
    assert "Let me look." in trained_texts(chat, messages, TOOLS)[0]


def test_reasoning_is_trained_on_or_refused(chat: Chat, family: str):
    messages = [SYSTEM, user("a?"), assistant("one", reasoning_content="first"), user("b?"), assistant("two", reasoning_content="second")]
    messages = messages[1:] if family == "gemma" else messages
    if family not in WITH_REASONING:
        with pytest.raises(TemplateError, match=r"leaves the reasoning of .*reasoning_content"):
            trained_texts(chat, messages)
        return
    *_, newest = trained_texts(chat, messages)
    assert "second" in newest and newest.index("second") < newest.index("two")
    called = [messages[1], assistant("", tool_calls=json.dumps([ON]), reasoning_content="hm"), DONE, *messages[2:]]
    texts = trained_texts(chat, called, TOOLS)
    assert "hall" in texts[0] and "second" in texts[-1]


@pytest.mark.parametrize("family", sorted(END.keys() - {"gemma4_v5", "llama3_1", "llama3_2"}), indirect=True)
def test_masks_are_those_of_templates_with_marks(chat: Chat, family: str, tmp_path: Path):
    """Beside TRL's own marks: these may begin with the role's name and end with a line break, which a model is not asked to write."""
    marked = FOLDER / f"{family}_training.jinja"
    twin = chat_of(marked.read_text("utf-8"), END[family], tmp_path / "twin")
    messages = [
        user("a?"),
        assistant("one"),
        user("b?"),
        assistant("two\nlines"),
        user("c?"),
        assistant("", weight=0),
        user("d?"),
        assistant("x"),
    ]
    try:
        theirs, ours = twin.render_with_spans(messages), chat.render_with_spans(messages)
    except TemplateError as error:
        # Phi's twins mark the end of the text as a turn of its own.
        assert "generations" in str(error) and family.startswith("phi")
        return
    if theirs[0].text != ours[0].text:
        assert family in WITH_REASONING
        return
    for (start, end), (from_, to) in zip(ours[1], theirs[1], strict=True):
        assert from_ <= start < end <= to
        assert ours[0].text[end:to].strip() == "" and not re.search("one|two|x", ours[0].text[from_:start])
