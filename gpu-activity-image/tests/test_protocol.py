"""The seam as the golden files have it, and jobs that are refused."""

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
from anneal_trainer import protocol
from anneal_trainer.faults import classify, describe
from anneal_trainer.protocol import BadRequest, Emitter, parse_job
from support import GOLDEN, check_event

JOBS = sorted((GOLDEN / "jobs").iterdir())


def to_json(value):
    """A parsed job as it stood in the file, names in camelCase again."""
    if dataclasses.is_dataclass(value):
        camel = lambda name: re.sub(r"_(\w)", lambda match: match[1].upper(), name.rstrip("_"))  # noqa: E731
        return {camel(field.name): to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [to_json(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.name)
def test_golden_job_parses_to_itself(file: Path):
    text = file.read_text("utf-8")
    assert to_json(parse_job(text)) == json.loads(text)


def test_there_is_a_golden_job_of_every_command():
    assert {json.loads(file.read_text("utf-8"))["command"] for file in JOBS} == set(protocol.JOBS)


@pytest.mark.parametrize(("name", "kinds"), [("warm-parent", protocol.WARM_PARENT_COMMANDS), ("job-parent", protocol.JOB_PARENT_COMMANDS)])
def test_golden_command_parses_to_itself(name: str, kinds: dict[str, type]):
    lines = (GOLDEN / f"{name}-commands.ndjson").read_text("utf-8").splitlines()
    assert [to_json(protocol.parse_command(kinds, line)) for line in lines] == [json.loads(line) for line in lines]
    assert {json.loads(line)["op"] for line in lines} == set(kinds)


def test_exit_codes_agree():
    codes = json.loads((GOLDEN / "exit-codes.json").read_text("utf-8"))
    assert {name: getattr(protocol, f"EXIT_{name.upper()}") for name in codes} == codes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "fly"}, "`command` must be one of"),
        ({"threads": "2"}, "`threads` must be of type int"),
        ({"threads": True}, "`threads` must be of type int"),
        ({"v": 2}, "`v` must be 1"),
        ({"extra": 1}, "`extra` must be absent"),
        ({"baseModel": None}, "`baseModel` must be of type str"),
    ],
)
def test_job_that_does_not_fit_is_refused_with_its_path(change: dict, message: str):
    job = json.loads((GOLDEN / "jobs" / "serve.json").read_text("utf-8")) | change
    with pytest.raises(BadRequest, match=re.escape(message)):
        parse_job(json.dumps(job))


def test_nested_problem_names_the_inner_field():
    job = json.loads((GOLDEN / "jobs" / "train.json").read_text("utf-8"))
    job["recipe"]["earlyStopping"]["patience"] = 1.5
    with pytest.raises(BadRequest, match=r"`recipe\.earlyStopping\.patience`"):
        parse_job(json.dumps(job))


def test_emitter_writes_whole_lines_and_refuses_nan():
    reader, writer = os.pipe()
    emit = Emitter(writer)
    emit({"ev": "token", "id": "c-1", "text": "é\n"})
    with pytest.raises(ValueError):
        emit({"ev": "metrics", "step": 1, "evalLoss": float("nan")})
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    assert events == [{"ev": "token", "id": "c-1", "text": "é\n"}]
    check_event(events[0])


def test_emitter_survives_a_reader_that_is_gone():
    reader, writer = os.pipe()
    os.close(reader)
    emit = Emitter(writer)
    emit({"ev": "interrupted", "step": 1})
    emit({"ev": "interrupted", "step": 2})
    os.close(writer)


def raised(outer: BaseException, cause: BaseException | None = None) -> BaseException:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (MemoryError(), "out_of_memory", 43),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"), "out_of_memory", 43),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", 43),
        (OSError(28, "No space left on device"), "disk_full", 47),
        (raised(RuntimeError("unexpected pos 64 vs 0"), OSError(28, "No space left on device")), "disk_full", 47),
        (raised(ValueError("x"), BadRequest("y")), "bad_request", 42),
        (RuntimeError("shape mismatch"), "trainer_crashed", 1),
        (OSError(2, "No such file"), "trainer_crashed", 1),
    ],
)
def test_every_end_has_its_kind(error: BaseException, kind: str, code: int):
    assert classify(error) == (kind, code)
    assert describe(error)
