"""Models that read images: what becomes of rows with images as tokens, pixels, training, and answers."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from anneal_trainer.batches import ImageCollator
from anneal_trainer.chat import Chat
from anneal_trainer.evaluate import evaluate
from anneal_trainer.images import ImageReader, digests_of, load_processor
from anneal_trainer.methods import METHODS
from anneal_trainer.protocol import EvaluateJob, SplitFiles, TokeniseJob, Variant, parse_job
from anneal_trainer.shards import ImageShard, read_shard
from anneal_trainer.tokenise import tokenise
from anneal_trainer.train import train
from kills import draw_kills, run_cell
from peft import PeftModel
from PIL import Image
from seeing import FAMILIES, image_row, keep_bytes, keep_image, make_seeing, write_colours
from support import RECIPE, TINY, Events, write_rows


@dataclass(frozen=True)
class Seeing:
    """A model and, for it, a folder with 40 rows to train on, 8 to validate and 20 to ask, as rows and shards."""

    model: str
    data: Path


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seeing]:
    made = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        model = make_seeing(folder / "model", family)
        for name, count in (("train", 40), ("validation", 8), ("test", 20)):
            write_colours(folder / f"{name}.jsonl", count, seed=count)
        _, rejected, _ = run(folder, model, ("train", "validation", "test"))
        assert rejected == []
        made[family] = Seeing(model, folder)
    return made


def run(folder: Path, model: str, splits: tuple[str, ...] = ("rows",), too_long: str = "auto", limit: int = 512):
    """Tokenises the row files of a folder; returns the first split's shard, what was rejected and the result."""
    files = [SplitFiles(name, str(folder / f"{name}.jsonl"), str(folder / f"{name}.safetensors")) for name in splits]
    events = Events()
    tokenise(TokeniseJob(1, "tokenise", model, limit, files, str(folder / "rejected.jsonl"), too_long=too_long), events)
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return read_shard(files[0].out), rejected, events.result()


def in_parts(row: dict[str, Any], media: Path) -> list[dict[str, Any]]:
    """The row as a user of transformers would write it."""
    images = iter(row.get("media", []))
    messages = []
    for message in row["messages"]:
        texts = message["content"].split("<image>")
        parts = [{"type": "text", "text": texts[0]}] if texts[0] else []
        for text in texts[1:]:
            parts += [{"type": "image", "image": Image.open(media / next(images)["digest"])}]
            parts += [{"type": "text", "text": text}] if text else []
        messages.append({"role": message["role"], "content": parts})
    return messages


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_pixels_are_the_processors_own_and_labels_lie_on_answers_alone(seeing: dict[str, Seeing], family: str):
    model, folder = seeing[family].model, seeing[family].data
    processor, chat = load_processor(model), Chat(model)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    shard = read_shard(str(folder / "train.safetensors"))
    assert isinstance(shard, ImageShard) and len(shard) == len(rows)
    collate = ImageCollator(0, ImageReader(Path(model), folder / "media"))
    for index, row in enumerate(rows):
        kept = shard.row(index)
        assert digests_of(kept["media"]) == [image["digest"] for image in row.get("media", [])]
        parts = in_parts(row, folder / "media")
        images = [part["image"] for message in parts for part in message["content"] if "image" in part]
        # SmolVLM's own way from a template to tensors begins with its part for videos.
        text = processor.tokenizer.apply_chat_template(parts, tokenize=False)
        own = processor(images=[images] if images else None, text=[text], return_tensors="pt")
        length = len(kept["input_ids"])
        assert own["input_ids"][0, :length].tolist() == kept["input_ids"].tolist()
        answer = chat.decode(kept["input_ids"][kept["trainable"] == 1].tolist(), skip_special_tokens=False)
        end = chat.decode([max(chat.end_token_ids())], skip_special_tokens=False)
        assert answer.strip() == row["messages"][-1]["content"] + end
        batch = collate([kept])
        for name in own.keys() - {"input_ids", "attention_mask"}:
            expected = own[name][:, :length] if "token_type_ids" in name else own[name]
            assert batch[name].equal(expected), name
        assert ("pixel_values" in batch) == bool(row.get("media"))


def test_rows_that_cannot_be_trained_on_are_named(seeing: dict[str, Seeing], tmp_path: Path):
    media = tmp_path / "media"
    whole = keep_image(media, Image.frombytes("RGB", (30, 20), random.Random(0).randbytes(1800)))
    torn = keep_bytes(media, (media / whole["digest"]).read_bytes()[:900])
    answers = image_row(2, "Draw it.", "<image>", [whole])
    write_rows(
        tmp_path / "rows.jsonl",
        [
            image_row(0, "<image>What?", "black", [whole]),
            image_row(1, "<image>What?", "black", [torn]),
            answers,
            image_row(3, "<image>What?" + " long" * 100, "black", [whole]),
            {**answers, "messages": [{**answers["messages"][1], "weight": 0}, *image_row(4, "Is it?", "yes", [])["messages"]]},
            image_row(5, "<image>" * 9, "black", [keep_image(media, Image.new("RGB", (9, 9 + i))) for i in range(9)]),
        ],
    )
    shard, rejected, result = run(tmp_path, seeing["grid"].model, too_long="truncate", limit=256)
    assert [(row["index"], row["code"]) for row in rejected] == [(1, "media_unreadable"), (2, "media_not_trained"), (3, "too_long")]
    assert [len(digests_of(shard.row(i)["media"])) for i in range(len(shard))] == [1, 1, 9]
    assert result["cut"]["truncated"] == 0
    _, rejected, _ = run(tmp_path, TINY)
    assert {row["code"] for row in rejected} == {"media_not_trained"} and "reads text alone" in rejected[0]["message"]


@pytest.mark.parametrize(("family", "spelled"), [("tiles", "<fake_token_around_image>"), ("grid", "<|image_pad|>")])
def test_what_a_message_spells_of_an_images_tokens_stays_text(seeing: dict[str, Seeing], tmp_path: Path, family: str, spelled: str):
    image = keep_image(tmp_path / "media", Image.new("RGB", (16, 16)))
    write_rows(
        tmp_path / "rows.jsonl", [image_row(0, f"{spelled} <image>?", spelled, [image]), image_row(1, f"<image> {spelled}", "yes", [])]
    )
    shard, rejected, _ = run(tmp_path, seeing[family].model)
    assert rejected == []
    chat = Chat(seeing[family].model)
    for index, tags in ((0, 2), (1, 1)):
        text = chat.decode(shard.row(index)["input_ids"].tolist())
        assert text.count(spelled) == tags and ("<image>" in text) == (index == 1)


CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiles, lora, workers": ("tiles", {"dataloaderWorkers": 2}),
    "grid, full": ("grid", {"tuning": "full"}),
    "squares, ranks": ("squares", {"processes": 2, "microBatch": 2}),
    "soft, lora": ("soft", {}),
    "context, full": ("context", {"tuning": "full"}),
    "windows, qlora": ("windows", {"tuning": "qlora"}),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_killed_training_ends_at_the_same_bytes(seeing: dict[str, Seeing], tmp_path: Path, name: str):
    family, changes = CELLS[name]
    recipe = RECIPE | {"accumulation": 1, "epochs": 1.5, "saveSteps": 3, "evalSteps": 5} | changes
    whole = run_cell(job(seeing[family], tmp_path / "whole", recipe), [])
    kills = draw_kills(random.Random(), recipe["saveSteps"], whole.result["step"], recipe["processes"])
    killed = run_cell(job(seeing[family], tmp_path / "killed", recipe), kills)
    assert killed.differences(whole) == [] and killed.contradictions == [], kills
    assert len(killed.codes) == len(kills) + 1, kills


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputing_goes_back_to_the_first_layer_and_not_into_what_sees(
    seeing: dict[str, Seeing], tmp_path: Path, family: str, tuning: str
):
    """Which would keep all that it computes, for nothing."""
    wants: dict[str, set[bool]] = {"sight": set(), "first layer": set()}

    class Watched(METHODS["sft"].trainer):
        def __init__(self, **options: Any):
            super().__init__(**options)
            base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
            # The first of its layers: what is below it has nothing that could want one.
            sight = next(module for name, module in base.named_modules() if re.search(r"\.vis\w+\..*\.1$", name))
            sight.register_forward_hook(note("sight"))
            base.get_decoder().layers[0].register_forward_hook(note("first layer"))

    def note(part: str):
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensors = [output] if isinstance(output, torch.Tensor) else list(output)
            wants[part].add(any(isinstance(tensor, torch.Tensor) and tensor.requires_grad for tensor in tensors))

        return hook

    recipe = RECIPE | {"tuning": tuning, "gradientCheckpointing": True, "maxSteps": 2}
    document = job(seeing[family], tmp_path / "out", recipe) | {"validation": None}
    train(parse_job(json.dumps(document)), Events(), Watched)
    assert wants == {"sight": {False}, "first layer": {True}}


def test_it_learns_from_pixels_and_answers_by_them(seeing: dict[str, Seeing], tmp_path: Path):
    """The same question has another answer for another image."""
    steps = {"epochs": 10, "accumulation": 1, "saveSteps": 1000, "evalSteps": 1000}
    recipe = RECIPE | steps | {"tuning": "full", "microBatch": 8, "learningRate": 0.02}
    data = seeing["squares"].data
    train(parse_job(json.dumps(job(seeing["squares"], tmp_path / "out", recipe))), Events())
    rows = [row for row in map(json.loads, (data / "test.jsonl").read_text().splitlines()) if len(row.get("media", [])) < 2]
    write_rows(data / "asked.jsonl", rows)
    variants = [Variant("base", None, [], True), Variant("tuned", str(tmp_path / "out" / "model"), [], True)]
    files = (str(data / "asked.jsonl"), variants, None, 2, str(tmp_path / "predictions.jsonl"))
    evaluate(EvaluateJob(1, "evaluate", seeing["squares"].model, *files), Events())
    wanted = {row["id"]: row["messages"][-1]["content"] for row in rows}
    assert {*wanted.values()} == {"red", "blue", "none"}
    found = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    right = {name: [p["output"] == wanted[p["id"]] for p in found if p["variant"] == name] for name in ("base", "tuned")}
    assert not any(right["base"]) and all(right["tuned"]) and len(found) == 2 * len(rows), found


def job(seeing: Seeing, output: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    shards = {name: str(seeing.data / f"{name}.safetensors") for name in ("train", "validation")}
    paths = {"baseModel": seeing.model, "baseName": "seeing", **shards, "output": str(output)}
    return {"v": 1, "command": "train", **paths, "resume": None, "warm": None, "hole": None, "recipe": recipe}
