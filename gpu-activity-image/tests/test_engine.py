"""The engine against the real libraries: answers equal single runs of `generate`, whatever else is in the batch.

ANNEAL_MODELS names the folder of base models; default is `.anneal/models` beside this package.
"""

import os
import tempfile
import unittest
from collections import deque
from pathlib import Path

import torch
import transformers
from anneal_trainer.chat import Chat
from anneal_trainer.engine import Engine, Sampler, TextStream
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.disable_progress_bar()

MODELS = Path(os.environ.get("ANNEAL_MODELS", Path(__file__).parents[2] / ".anneal" / "models"))
SMOLLM2 = str(MODELS / "smollm2-135m")
QUESTIONS = ["What is the sea?", "Write a poem about three cats, please.", "2+2=", "Wie heißt die Hauptstadt von Frankreich? " * 12]


def load_model(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_lively_model(folder: Path) -> str:
    """The tiny model with sharper weights: its answers depend on every token before, so that a fault in the cache shows."""
    model = load_model(MODELS / "tiny")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.mul_(8)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODELS / "tiny").save_pretrained(folder)
    return str(folder)


def make_adapter(model: str, folder: Path, seed: int, targets: list[str], strength: float) -> str:
    """An adapter with random weights, strong enough to change answers."""
    torch.manual_seed(seed)
    peft = get_peft_model(load_model(model), LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=strength)
    peft.save_pretrained(folder)
    return str(folder)


class Harness:
    """Drives an engine step by step and collects what it says."""

    def __init__(self, model: str, batch_max: int = 8, length_max: int = 512) -> None:
        self.events: list[dict] = []
        self.engine = Engine(load_model(model), Chat(model), self.events.append, batch_max, length_max)

    def load(self, adapter: str, path: str) -> None:
        self.engine.handle({"op": "load", "id": f"load {adapter}", "adapter": adapter, "path": path})

    def ask(self, id: str, question: str, adapter: str | None = None, **options) -> None:
        command = {"maxTokens": 24, "temperature": 0, "topP": 1, "seed": 1, "stop": [], **options}
        messages = [{"role": "user", "content": question}]
        self.engine.handle({"op": "generate", "id": id, "adapter": adapter, "messages": messages, **command})

    def run(self, steps: int = 10_000) -> None:
        while self.engine.is_busy and steps > 0:
            self.engine.step()
            steps -= 1

    def of(self, ev: str, id: str | None = None) -> list[dict]:
        return [e for e in self.events if e["ev"] == ev and id in (None, e["id"])]

    def text(self, id: str) -> str:
        return "".join(e["text"] for e in self.of("token", id))


def generate_alone(model: str, adapter: str | None, question: str, tokens: int = 24) -> str:
    """The reference: transformers' own `generate`, one row, greedy."""
    tokenizer, network = AutoTokenizer.from_pretrained(model), load_model(model)
    if adapter is not None:
        network = PeftModel.from_pretrained(network, adapter).eval()
    chat = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        answer = network.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False).rstrip("\ufffd")


class EngineTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        torch.set_num_threads(1)
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        folder = Path(scratch.name)
        cls.tiny = make_lively_model(folder / "lively")
        cls.one = make_adapter(cls.tiny, folder / "one", 1, ["q_proj", "v_proj"], 0.5)
        # Other target modules than the first one's: a row must not take a neighbour's weights where its own adapter has none.
        cls.two = make_adapter(cls.tiny, folder / "two", 2, ["up_proj", "down_proj", "o_proj"], 0.5)
        cls.folder = folder

    def assert_parity(self, model: str, adapters: dict[str, str], questions: list[str]) -> None:
        """Mixed adapters, joined at different times, more requests than rows: every answer equals its single run."""
        harness = Harness(model, batch_max=4)
        for name, path in adapters.items():
            harness.load(name, path)
        cases = [(f"{i} {name}", question, name) for i, question in enumerate(questions) for name in [None, *adapters]]
        for i, (id, question, adapter) in enumerate(cases):
            harness.ask(id, question, adapter)
            harness.run(steps=i % 4)
        harness.run()
        answers = set()
        for id, question, adapter in cases:
            with self.subTest(id):
                self.assertEqual(harness.text(id), generate_alone(model, adapters.get(adapter), question))
                self.assertEqual(len(harness.of("finished", id)), 1)
                answers.add(harness.text(id))
        self.assertEqual(len(answers), len(cases), "questions and adapters that do not change the answer show nothing")

    def test_mixed_batch_equals_single_runs_on_the_tiny_model(self) -> None:
        self.assert_parity(self.tiny, {"m--v1": self.one, "m--v2": self.two}, QUESTIONS)

    def test_mixed_batch_equals_single_runs_on_smollm2(self) -> None:
        path = make_adapter(SMOLLM2, self.folder / "smol", 3, ["q_proj", "v_proj", "down_proj"], 0.2)
        self.assert_parity(SMOLLM2, {"m--v1": path}, QUESTIONS[:2])

    def test_prompt_longer_than_one_piece_and_than_the_first_cache(self) -> None:
        harness = Harness(self.tiny, length_max=1024)
        question = "The quick brown fox jumps over the lazy dog. " * 60
        harness.ask("long", question)
        harness.run(steps=1)
        harness.ask("short", QUESTIONS[0])
        harness.run()
        self.assertGreater(harness.of("finished", "long")[0]["promptTokens"], 512)
        self.assertEqual(harness.text("long"), generate_alone(self.tiny, None, question))
        self.assertEqual(harness.text("short"), generate_alone(self.tiny, None, QUESTIONS[0]))

    def test_unload_waits_for_the_rows_that_use_the_adapter(self) -> None:
        harness = Harness(self.tiny)
        harness.load("m--v1", self.one)
        harness.ask("before", QUESTIONS[0], "m--v1")
        harness.run(steps=3)
        harness.engine.handle({"op": "unload", "id": "u", "adapter": "m--v1"})
        harness.ask("after", QUESTIONS[0], "m--v1")
        self.assertEqual(harness.of("rejected", "after")[0]["code"], "unknown_adapter")
        harness.run(steps=3)
        self.assertEqual(harness.of("unloaded"), [])
        harness.run()
        self.assertEqual(harness.text("before"), generate_alone(self.tiny, self.one, QUESTIONS[0]))
        self.assertEqual([e["ev"] for e in harness.events[-2:]], ["finished", "unloaded"])

    def test_load_of_an_adapter_that_is_leaving_keeps_it(self) -> None:
        harness = Harness(self.tiny)
        harness.load("m--v1", self.one)
        harness.ask("before", QUESTIONS[0], "m--v1")
        harness.engine.handle({"op": "unload", "id": "u", "adapter": "m--v1"})
        harness.load("m--v1", self.one)
        harness.ask("after", QUESTIONS[0], "m--v1")
        harness.run()
        self.assertEqual(len(harness.of("unloaded", "u")), 1)
        for id in ("before", "after"):
            self.assertEqual(harness.text(id), generate_alone(self.tiny, self.one, QUESTIONS[0]))

    def test_last_adapter_unloaded_leaves_the_base_model_and_room_for_the_next(self) -> None:
        harness = Harness(self.tiny)
        harness.load("m--v1", self.one)
        harness.engine.handle({"op": "unload", "id": "u", "adapter": "m--v1"})
        harness.engine.step()
        harness.ask("base", QUESTIONS[0])
        harness.run()
        harness.load("m--v2", self.two)
        harness.ask("two", QUESTIONS[0], "m--v2")
        harness.ask("base again", QUESTIONS[0])
        harness.run()
        self.assertEqual(harness.text("base"), generate_alone(self.tiny, None, QUESTIONS[0]))
        self.assertEqual(harness.text("two"), generate_alone(self.tiny, self.two, QUESTIONS[0]))
        self.assertEqual(harness.text("base again"), harness.text("base"))

    def test_deleted_adapter_in_a_row_is_an_error_not_the_base_model(self) -> None:
        harness = Harness(self.tiny)
        harness.load("m--v1", self.one)
        harness.ask("a", QUESTIONS[0], "m--v1")
        harness.run(steps=2)
        with self.assertRaises(AssertionError):
            harness.engine.adapters.delete("m--v1")
        harness.engine.adapters.peft.delete_adapter(harness.engine.adapters.held["m--v1"].slot)
        with self.assertRaises(RuntimeError):
            harness.engine.step()

    def test_folders_that_are_no_adapters_are_rejected(self) -> None:
        harness = Harness(self.tiny)
        foreign = self.folder / "foreign"
        make_adapter(self.tiny, foreign, 1, ["q_proj"], 0.1)
        config = (foreign / "adapter_config.json").read_text()
        (foreign / "adapter_config.json").write_text(config.replace('"r": 4', '"r": 2'))
        experts = self.folder / "experts"
        make_adapter(self.tiny, experts, 1, ["q_proj"], 0.1)
        named = config.replace('"target_parameters": null', '"target_parameters": ["mlp.experts.down_proj"]')
        (experts / "adapter_config.json").write_text(named)
        harness.load("missing", str(self.folder / "nowhere"))
        harness.load("wrong shape", str(foreign))
        harness.load("experts", str(experts))
        self.assertEqual([e["code"] for e in harness.of("rejected")], ["bad_request"] * 3)
        self.assertIn("adapts experts", harness.of("rejected", "load experts")[0]["message"])
        self.assertIn("adapter_config.json", harness.of("rejected", "load missing")[0]["message"])
        harness.ask("base", QUESTIONS[0])
        harness.load("m--v1", self.one)
        harness.ask("one", QUESTIONS[0], "m--v1")
        harness.run()
        self.assertEqual(harness.text("base"), generate_alone(self.tiny, None, QUESTIONS[0]))
        self.assertEqual(harness.text("one"), generate_alone(self.tiny, self.one, QUESTIONS[0]))

    def test_cancel_frees_the_row_and_leaves_the_others_alone(self) -> None:
        harness = Harness(self.tiny, batch_max=2)
        for id in ("a", "b", "c"):
            harness.ask(id, QUESTIONS[0] if id == "a" else QUESTIONS[1], maxTokens=24)
        harness.run(steps=4)
        harness.engine.handle({"op": "cancel", "id": "a"})
        harness.engine.handle({"op": "cancel", "id": "nobody"})
        harness.run()
        self.assertEqual(harness.of("finished", "a")[0]["reason"], "cancelled")
        self.assertLess(harness.of("finished", "a")[0]["completionTokens"], 24)
        for id in ("b", "c"):
            self.assertEqual(harness.text(id), generate_alone(self.tiny, None, QUESTIONS[1]))

    def test_limits_of_length(self) -> None:
        harness = Harness(self.tiny, length_max=64)
        harness.ask("too long", "word " * 100)
        harness.ask("cut", QUESTIONS[0], maxTokens=1000)
        harness.run()
        self.assertEqual(harness.of("rejected", "too long")[0]["code"], "too_long")
        finished = harness.of("finished", "cut")[0]
        self.assertEqual(finished["reason"], "length")
        self.assertEqual(finished["promptTokens"] + finished["completionTokens"], 64)

    def test_stop_string_across_tokens_is_cut_and_never_sent(self) -> None:
        whole = generate_alone(self.tiny, None, QUESTIONS[0])
        stop = whole[20:32]
        harness = Harness(self.tiny)
        harness.ask("a", QUESTIONS[0], stop=["never said", stop])
        harness.run()
        self.assertEqual(harness.text("a"), whole[: whole.index(stop)])
        self.assertEqual(harness.of("finished", "a")[0]["reason"], "stop")

    def test_seed_decides_samples_whatever_the_neighbours(self) -> None:
        harness = Harness(self.tiny)
        harness.ask("alone", QUESTIONS[0], temperature=1.0, topP=0.9, seed=7)
        harness.run()
        for id, seed in (("x", 8), ("again", 7), ("y", 9)):
            harness.ask(id, QUESTIONS[0], temperature=1.0, topP=0.9, seed=seed)
        harness.run()
        self.assertEqual(harness.text("again"), harness.text("alone"))
        self.assertNotEqual(harness.text("x"), harness.text("alone"))

    def test_top_p_keeps_the_smallest_set_that_reaches_it(self) -> None:
        logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        sampler = Sampler(1.0, 0.7, torch.Generator().manual_seed(0))
        self.assertEqual({sampler.choose(logits) for _ in range(200)}, {0, 1})

    def test_text_comes_in_whole_characters(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(MODELS / "tiny")
        text = "naïve 🦜 日本語 ok"
        stream, pieces = TextStream(Chat(str(MODELS / "tiny")), []), []
        tokens = deque(tokenizer(text, add_special_tokens=False)["input_ids"])
        self.assertTrue(any("\ufffd" in tokenizer.decode([t]) for t in tokens), "the text must split a character")
        while tokens:
            pieces.append(stream.push(tokens.popleft())[0])
        self.assertEqual("".join(pieces) + stream.flush(), text)
        self.assertFalse(any("\ufffd" in piece for piece in pieces))


if __name__ == "__main__":
    unittest.main()
