"""The seam with TypeScript: jobs in, events out, exit codes. Mirror of `src/contracts/trainer-protocol.ts`.

Nothing here imports torch, so that a malformed job is refused within milliseconds.
"""

import json
import math
import os
import re
import select
import stat
import sys
import threading
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal

PROTOCOL_VERSION = 1

EVENT_FD = 3

EXIT_DONE = 0
EXIT_CRASHED = 1
EXIT_LOSS_NOT_FINITE = 40
EXIT_INTERRUPTED = 41
EXIT_BAD_REQUEST = 42
EXIT_OUT_OF_MEMORY = 43
EXIT_CHECKPOINT_CORRUPT = 44
EXIT_ORPHANED = 45
EXIT_DATA_REJECTED = 46
EXIT_DISK_FULL = 47

Emit = Callable[[dict[str, Any]], None]


class TrainerError(Exception):
    """An end with a typed cause. The message is one sentence: what happened, to which value and limit, what to do."""

    kind = "trainer_crashed"
    exit_code = EXIT_CRASHED


class BadRequest(TrainerError):
    kind = "bad_request"
    exit_code = EXIT_BAD_REQUEST


class DataRejected(TrainerError):
    kind = "data_rejected"
    exit_code = EXIT_DATA_REJECTED


class NonFinite(TrainerError):
    kind = "loss_not_finite"
    exit_code = EXIT_LOSS_NOT_FINITE


class CheckpointCorrupt(TrainerError):
    kind = "checkpoint_corrupt"
    exit_code = EXIT_CHECKPOINT_CORRUPT


class Interrupted(Exception):
    """SIGTERM was obeyed: the state of `step` is on disk."""

    def __init__(self, step: int):
        super().__init__(f"interrupted after step {step}")
        self.step = step


@dataclass(frozen=True)
class Lora:
    rank: int
    alpha: float
    dropout: float
    targets: Literal["auto", "all-linear"] | list[str]
    first_layer: int
    rslora: bool = False
    dora: bool = False
    # A layer's experts, too, each with matrices of its own.
    experts: bool = False


@dataclass(frozen=True)
class Qlora:
    bits: Literal[4, 8]


@dataclass(frozen=True)
class Kto:
    beta: float
    desirable_weight: float
    undesirable_weight: float


Metric = Literal["evalLoss", "evalAccuracy"]


@dataclass(frozen=True)
class EarlyStopping:
    patience: int
    threshold: float
    metric: Metric = "evalLoss"


@dataclass(frozen=True)
class Recipe:
    method: Literal["sft", "dpo", "kto", "reward"]
    tuning: Literal["lora", "qlora", "full"]
    lora: Lora
    epochs: float
    max_steps: int | None
    micro_batch: int
    accumulation: int
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "warmup_stable_decay"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    seed: int
    save_steps: int | Literal["epoch"] | None
    eval_steps: int | Literal["epoch"] | None
    keep: int
    early_stopping: EarlyStopping | None
    threads: int
    packing: bool
    streaming: bool
    dataloader_workers: int
    token_dropout: float
    processes: int
    dpo_beta: float
    device: Literal["auto", "cpu"]
    # Rows that the order keeps together: the micro-batch before memory made it smaller. None = the micro-batch.
    order_batch: int | None = None
    qlora: Qlora = Qlora(4)
    kto: Kto = Kto(0.1, 1.0, 1.0)
    # Where the rate ends, with the schedules that have an end of their own.
    min_learning_rate: float = 0.0
    schedule_power: float = 1.0
    # Share of the steps.
    decay_ratio: float = 0.2
    # None = by `warmup_ratio`.
    warmup_steps: int | None = None
    outputs: list[Literal["best", "final", "merged-best", "merged-final"]] | None = None
    gradient_checkpointing: bool = False
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    # Each has `processes` ranks.
    hosts: int = 1
    strategy: Literal["ddp", "fsdp", "deepspeed"] = "ddp"
    # A preset, or a user's own configuration.
    deepspeed: Literal["zero2", "zero3"] | dict = "zero2"
    # What leaves the GPU's memory for the host's, with a preset.
    offload: Literal["none", "cpu"] = "none"
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"

    @property
    def world(self) -> int:
        """Ranks of all hosts."""
        return self.processes * self.hosts


Hole = Literal["unkeyed-collator", "no-callback-state", "no-terminal-flag"]


@dataclass(frozen=True)
class FromCheckpoint:
    """A `checkpoint-<step>` folder."""

    from_: Literal["checkpoint"]
    path: str


@dataclass(frozen=True)
class FromWarmState:
    from_: Literal["warm"]
    folder: str
    # One that every host has; None = the newest that every rank of this host has.
    step: int | None = None


@dataclass(frozen=True)
class Warm:
    """Where an attempt keeps its warm state, and what a header must say to be resumed from."""

    folder: str
    run: str
    claim: int
    lineage: str
    bytes_max: int
    every_steps: int | None


@dataclass(frozen=True)
class Gang:
    """Where the ranks of several hosts meet; rank 0 listens at the address."""

    host: int
    address: str
    port: int
    interface: str
    key: str


@dataclass(frozen=True)
class TrainJob:
    v: Literal[1]
    command: Literal["train"]
    base_model: str
    base_name: str
    train: str
    validation: str | None
    output: str
    resume: FromCheckpoint | FromWarmState | None
    warm: Warm | None
    hole: Hole | None
    recipe: Recipe
    # Share of the steps, above 0 and below 1, after which the run saves, looks at its validation loss and ends, to go on later.
    pause_at: float | None = None
    # None = this host is the only one.
    gang: Gang | None = None
    # Folder of the version that the training continues from: its adapter, or with `tuning: full` its whole model. None = the base model.
    parent: str | None = None


@dataclass(frozen=True)
class PrepareTrainJob:
    v: Literal[1]
    command: Literal["prepare-train"]
    train: TrainJob


@dataclass(frozen=True)
class ProbeJob:
    v: Literal[1]
    command: Literal["probe"]
    train: TrainJob


@dataclass(frozen=True)
class SplitFiles:
    name: str
    rows: str
    out: str
    # Where the rows go that are in the shard, one to one.
    kept: str | None = None


@dataclass(frozen=True)
class TokeniseJob:
    v: Literal[1]
    command: Literal["tokenise"]
    tokenizer: str
    max_length: int
    splits: list[SplitFiles]
    rejected: str
    kind: Literal["chat", "pair", "judged"] = "chat"
    too_long: Literal["auto", "drop", "truncate", "split"] = "auto"
    # None = one a core.
    processes: int | None = None


@dataclass(frozen=True)
class Variant:
    name: str
    adapter: str | None
    shots: list[dict]
    generate: bool


@dataclass(frozen=True)
class EvaluateJob:
    v: Literal[1]
    command: Literal["evaluate"]
    base_model: str
    rows: str
    variants: list[Variant]
    max_new_tokens: int | None
    threads: int
    predictions: str
    method: Literal["sft", "dpo", "kto", "reward"] = "sft"
    # Rows for which an answer is generated where a variant generates: the first so many. None = all.
    answers: int | None = None


@dataclass(frozen=True)
class GgufSource:
    kind: Literal["gguf"]
    file: str


@dataclass(frozen=True)
class TinySource:
    kind: Literal["tiny"]
    tokenizer: str
    seed: int


@dataclass(frozen=True)
class PrepareModelJob:
    v: Literal[1]
    command: Literal["prepare-model"]
    source: GgufSource | TinySource
    output: str


@dataclass(frozen=True)
class DrillDataJob:
    v: Literal[1]
    command: Literal["drill-data"]
    kind: Literal["sft", "preference", "judged"]
    base_model: str
    rows: int
    seed: int
    output: str


@dataclass(frozen=True)
class ServeJob:
    v: Literal[1]
    command: Literal["serve"]
    base_model: str
    threads: int
    max_batch: int
    max_length: int


Job = TrainJob | PrepareTrainJob | ProbeJob | TokeniseJob | EvaluateJob | PrepareModelJob | DrillDataJob | ServeJob

JOBS: dict[str, type] = {
    "train": TrainJob,
    "prepare-train": PrepareTrainJob,
    "probe": ProbeJob,
    "tokenise": TokeniseJob,
    "evaluate": EvaluateJob,
    "prepare-model": PrepareModelJob,
    "drill-data": DrillDataJob,
    "serve": ServeJob,
}


@dataclass(frozen=True)
class RunCommand:
    """To the warm parent: fork a child that runs the job file `job`."""

    op: Literal["run"]
    id: str
    channel: str
    log: str
    job: str


@dataclass(frozen=True)
class AttemptCommand:
    """To a job parent: fork a trainer."""

    op: Literal["attempt"]
    id: str
    channel: str
    log: str
    resume: FromCheckpoint | FromWarmState | None


@dataclass(frozen=True)
class EndCommand:
    op: Literal["end"]


WARM_PARENT_COMMANDS: dict[str, type] = {"run": RunCommand, "end": EndCommand}
JOB_PARENT_COMMANDS: dict[str, type] = {"attempt": AttemptCommand, "end": EndCommand}


def parse_job(text: str) -> Job:
    """Reads a job document; raises BadRequest with the path of the first field that does not fit."""
    return _parse_tagged("job", "command", JOBS, text)


def parse_command(kinds: dict[str, type], text: str) -> Any:
    """Reads one command of a parent; raises BadRequest."""
    return _parse_tagged("command", "op", kinds, text)


def _parse_tagged(what: str, tag: str, kinds: dict[str, type], text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"The {what} is not JSON: {error}. Write one JSON object.") from error
    if not isinstance(value, dict):
        raise BadRequest(f"The {what} must be a JSON object, got {_shown(value)}.")
    kind = value.get(tag)
    if kind not in kinds:
        raise BadRequest(f"`{tag}` must be one of {', '.join(kinds)}, got {_shown(kind)}.")
    return _parse(kinds[kind], value, "")


def _parse(kind: Any, value: Any, path: str) -> Any:
    """Fits a JSON value to a type annotation: scalars, literals, unions, lists, dicts and dataclasses."""
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _parse_object(kind, value, path)
    if origin is Literal:
        return _expect(value in typing.get_args(kind), value, path, " or ".join(map(repr, typing.get_args(kind))))
    if origin in (types.UnionType, typing.Union):
        return _parse_union(typing.get_args(kind), value, path)
    if origin is list:
        _expect(isinstance(value, list), value, path, "a list")
        return [_parse(typing.get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value)]
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(_expect(number, value, path, "a number"))
    if kind is type(None):
        return _expect(value is None, value, path, "null")
    matches = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return _expect(matches, value, path, f"of type {kind.__name__}")


def _parse_object(kind: type, value: Any, path: str) -> Any:
    _expect(isinstance(value, dict), value, path or "job", "an object")
    hints = typing.get_type_hints(kind)
    known = {_camel(field.name): field for field in fields(kind)}
    for key in value:
        _expect(key in known, key, f"{path}.{key}".lstrip("."), f"absent; known are {', '.join(known)}")
    parsed = {}
    for key, field in known.items():
        where = f"{path}.{key}".lstrip(".")
        if key not in value and field.default is not MISSING:
            continue
        _expect(key in value, None, where, "given")
        parsed[field.name] = _parse(hints[field.name], value.get(key), where)
    return kind(**parsed)


def _parse_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _parse(kind, value, path)
        except BadRequest as error:
            problems.append(error)
    # The deepest complaint is the one about the alternative that was meant.
    raise max(problems, key=lambda problem: len(str(problem).split("`")[1]))


def _expect(holds: bool, value: Any, path: str, wanted: str) -> Any:
    if not holds:
        raise BadRequest(f"`{path}` must be {wanted}, got {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]


def _camel(name: str) -> str:
    """`micro_batch` → `microBatch`; the underscore of `from_` only keeps it from being a keyword."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name.rstrip("_"))


class Emitter:
    """Writes events to a descriptor, one JSON object a line, each with one write so that lines never mix.

    Without an open event channel (a person starts the trainer by hand) the lines go to stderr. Threads may share it.
    """

    def __init__(self, fd: int | None):
        self._fd = fd
        self._lock = threading.Lock()

    @classmethod
    def open(cls) -> "Emitter":
        """Takes descriptor 3 if the parent opened it for writing."""
        return cls(EVENT_FD if _is_event_channel(EVENT_FD) else None)

    def __call__(self, event: dict[str, Any]) -> None:
        # `allow_nan=False`: NaN is not JSON, and a value that is not finite must have ended the run before.
        line = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._fd is None:
                sys.stderr.write(line.decode())
                return
            self._write(line)

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._fd, line) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except BrokenPipeError:
                # Nobody reads any more. The dead man's channel decides whether to go on.
                self._fd = None
                return


def _is_event_channel(fd: int) -> bool:
    """A pipe, a socket or a plain file; not a descriptor that happens to be 3."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)):
        return False
    os.set_inheritable(fd, False)
    return True
