"""The embedded serving engine: one base model, any number of LoRA adapters, one batch that requests join and leave at every step.

Commands come on standard input, one JSON object a line (`EngineCommand` of trainer-protocol.ts); at its end the process exits.
One thread owns the model. What a request answers does not depend on what else is in the batch, up to rounding of the matrix products.
Not here: quantised weights, sliding-window attention, GPUs; those are the business of vLLM behind the same interface.
"""

import json
import os
import queue
import secrets
import signal
import sys
import threading
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from anneal_trainer.chat import Chat, TemplateError
from anneal_trainer.protocol import EXIT_ORPHANED, BadRequest, Emit, ServeJob

PREFILL_TOKENS_MAX = 256
"""Prompt tokens computed between two decode steps: bounds the pause of running streams to about one second on two cores."""
CACHE_POSITIONS_MIN = 256
"""First size of the key/value cache in positions; it doubles when a row outgrows it."""
BASE = "__base__"
"""PEFT's name for a row without adapter."""


class Rejection(Exception):
    """A command that cannot be carried out: `code` is one of `unknown_adapter`, `too_long`, `bad_request`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RowCache(Cache):
    """Keys and values of every row, `[rows, heads, capacity, width]` a layer. A token lies at its own position, so rows of
    different length need no padding and a row joins or leaves without touching the others; masks hide what lies behind a row's end."""

    def __init__(self, rows: int, positions_max: int) -> None:
        super().__init__(layers=[])
        self.rows, self.positions_max = rows, positions_max
        self.capacity = min(CACHE_POSITIONS_MIN, positions_max)
        self.buffers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def aim(self, first: int, positions: torch.Tensor) -> None:
        """The next forward pass is about rows `first …`, and its tokens stand at `positions` `[rows, tokens]`."""
        self.first, self.positions = first, positions
        self.index = torch.arange(first, first + positions.shape[0])[:, None]
        self.length = int(positions.max()) + 1
        if self.length > self.capacity:
            self._grow()

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        """Stores `[rows, heads, tokens, width]` and returns everything up to the longest row."""
        if layer_idx == len(self.buffers):
            # Zeros, not empty memory: masked positions are multiplied by 0, and 0 times NaN is NaN.
            shape = (self.rows, key_states.shape[1], self.capacity)
            self.buffers.append(tuple(s.new_zeros(*shape, s.shape[-1]) for s in (key_states, value_states)))
        for buffer, states in zip(self.buffers[layer_idx], (key_states, value_states)):
            buffer[self.index, :, self.positions] = states.transpose(1, 2)
        rows = slice(self.first, self.first + self.positions.shape[0])
        return tuple(buffer[rows, :, : self.length] for buffer in self.buffers[layer_idx])

    def move(self, source: int, target: int, length: int) -> None:
        for buffer in (b for pair in self.buffers for b in pair):
            buffer[target, :, :length] = buffer[source, :, :length]

    def clear(self) -> None:
        """Gives the memory back."""
        self.buffers, self.capacity = [], min(CACHE_POSITIONS_MIN, self.positions_max)

    def _grow(self) -> None:
        old = self.capacity
        self.capacity = min(max(self.length, 2 * old), self.positions_max)
        for i, pair in enumerate(self.buffers):
            grown = tuple(b.new_zeros(*b.shape[:2], self.capacity, b.shape[3]) for b in pair)
            for new, buffer in zip(grown, pair):
                new[:, :, :old] = buffer
            self.buffers[i] = grown


class TextStream:
    """Tokens in, pieces of text out: never half a character, never text that a stop string may take back."""

    def __init__(self, chat: Chat, stop: list[str]) -> None:
        self.chat, self.stop = chat, [s for s in stop if s]
        self.tokens: list[int] = []
        self.context = 0  # tokens from here on are decoded, because a token's text can depend on the one before it
        self.decoded = 0  # tokens before this one have their text in `held` or out already
        self.held = ""

    def push(self, token: int) -> tuple[str, bool]:
        """Text that is certain now, and whether a stop string has ended it."""
        self.tokens.append(token)
        known, text = self.chat.decode(self.tokens[self.context : self.decoded]), self.chat.decode(self.tokens[self.context :])
        if len(text) <= len(known) or text.endswith("\ufffd"):
            return "", False
        self.context, self.decoded = self.decoded, len(self.tokens)
        return self._release(text[len(known) :])

    def flush(self) -> str:
        """What is left at the end, without an unfinished character."""
        known, text = self.chat.decode(self.tokens[self.context : self.decoded]), self.chat.decode(self.tokens[self.context :])
        rest, stopped = self._release(text[len(known) :].rstrip("\ufffd"))
        return rest if stopped else rest + self.held

    def _release(self, text: str) -> tuple[str, bool]:
        self.held += text
        ends = [at for at in (self.held.find(s) for s in self.stop) if at >= 0]
        if ends:
            return self.held[: min(ends)], True
        keep = max((_overlap(self.held, s) for s in self.stop), default=0)
        certain, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return certain, False


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass
class Sampler:
    """Chooses a token from one row's logits; its random numbers are its own, so neighbours do not change them."""

    temperature: float
    top_p: float
    generator: torch.Generator

    def choose(self, logits: torch.Tensor) -> int:
        if self.temperature == 0:
            return int(logits.argmax())
        chances = torch.softmax(logits / self.temperature, dim=-1)
        if self.top_p < 1:  # nucleus sampling, Holtzman et al. 2020: the smallest set whose chances reach top_p
            ordered, order = chances.sort(descending=True)
            outside = ordered.cumsum(0) - ordered >= self.top_p
            chances[order[outside]] = 0
        return int(torch.multinomial(chances, 1, generator=self.generator))


@dataclass
class Adapter:
    slot: str
    """Name inside PEFT, which allows no dots."""
    path: str
    users: int = 0
    """Requests, waiting ones included."""
    unload: str | None = None
    """Id of the command that waits for the last user to end."""


class Adapters:
    """The adapters that the model holds. PEFT answers for an adapter that it does not know with the base model, without a word:
    so an adapter is deleted only when nothing uses it, and `names` refuses a name that is not held."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.peft: PeftModel | None = None
        self.held: dict[str, Adapter] = {}
        self.loads = 0

    def load(self, name: str, path: str) -> str | None:
        """Returns the id of an unload of the same adapter that has not come to pass yet and is hereby off."""
        if (there := self.held.get(name)) is not None:
            if there.path != path:
                raise Rejection("bad_request", f"Adapter {name} is held already, from {there.path}; names are immutable, use a new one.")
            superseded, there.unload = there.unload, None
            return superseded
        config = _adapter_config(path)
        self.loads += 1
        slot = f"adapter{self.loads}"
        try:
            self._insert(slot, config, path)
        except Exception as error:
            if self.peft is not None and slot in self.peft.peft_config:
                self.peft.delete_adapter(slot)
            raise Rejection("bad_request", f"Adapter {name} in {path} does not fit the base model: {error}") from error
        self.held[name] = Adapter(slot, path)
        return None

    def _insert(self, slot: str, config: PeftConfig, path: str) -> None:
        if self.peft is None:
            self.peft = PeftModel(self.model, config, adapter_name=slot).eval()
        else:
            self.peft.add_adapter(slot, config)
        result = self.peft.load_adapter(path, slot, torch_device="cpu")
        strangers = [*result.missing_keys, *result.unexpected_keys]
        if strangers:
            raise ValueError(f"{len(strangers)} weights have no counterpart, such as {strangers[0]}")
        self.peft.eval()

    def take(self, name: str | None) -> Adapter | None:
        if name is None:
            return None
        adapter = self.held.get(name)
        if adapter is None or adapter.unload is not None:
            raise Rejection("unknown_adapter", f"Adapter {name} is not loaded; held are {sorted(self.held) or 'none'}.")
        adapter.users += 1
        return adapter

    def unload(self, name: str, command: str) -> None:
        adapter = self.held.get(name)
        if adapter is None or adapter.unload is not None:
            raise Rejection("unknown_adapter", f"Adapter {name} is not loaded; held are {sorted(self.held) or 'none'}.")
        adapter.unload = command

    def drop_unused(self) -> list[str]:
        """Deletes the adapters that were to be unloaded and have no user left; returns the ids of those commands."""
        gone = [name for name, adapter in self.held.items() if adapter.unload is not None and adapter.users == 0]
        return [self.delete(name).unload for name in gone]

    def delete(self, name: str) -> Adapter:
        adapter = self.held[name]
        assert adapter.users == 0, f"adapter {name} has {adapter.users} users"
        self.peft.delete_adapter(adapter.slot)
        return self.held.pop(name)

    def rows(self, adapters: list[Adapter | None]):
        """Context in which a forward pass takes, row by row, these adapters."""
        if self.peft is None:
            return nullcontext()
        slots = [BASE if adapter is None else adapter.slot for adapter in adapters]
        missing = {slot for slot in slots if slot != BASE and slot not in self.peft.peft_config}
        if missing:
            raise RuntimeError(f"Rows use the deleted adapters {missing}; answers would silently be the base model's.")
        return self.peft.base_model._enable_peft_forward_hooks(adapter_names=slots)


def _adapter_config(path: str) -> PeftConfig:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not Path(path, name).is_file():
            raise Rejection("bad_request", f"Adapter folder {path} has no {name}; only whole PEFT folders with safetensors are loaded.")
    try:
        config = PeftConfig.from_pretrained(path)
    except Exception as error:
        raise Rejection("bad_request", f"adapter_config.json in {path} cannot be read: {error}") from error
    if config.peft_type != "LORA":
        raise Rejection("bad_request", f"Adapter in {path} is of type {config.peft_type}; this engine serves LORA.")
    if config.target_parameters:
        why = "adapts experts, which this engine cannot serve beside other adapters"
        raise Rejection("bad_request", f"Adapter in {path} {why}; merge it into its base model.")
    config.inference_mode = True
    return config


@dataclass
class Request:
    """One answer in the making. `filled` = its positions in the cache."""

    id: str
    adapter: Adapter | None
    prompt: list[int]
    tokens_max: int
    sampler: Sampler
    text: TextStream
    filled: int = 0
    answer: list[int] = field(default_factory=list)


class Engine:
    """Waiting → prefilling (one at a time, in chunks, in a staging row) → running (row i of the batch = `running[i]`) → finished."""

    def __init__(self, model, chat: Chat, emit: Emit, batch_max: int, length_max: int) -> None:
        _require_full_attention(model)
        self.model, self.chat, self.emit = model, chat, emit
        self.batch_max = batch_max
        self.length_max = min(length_max, model.config.max_position_embeddings)
        self.adapters = Adapters(model)
        self.ends = chat.end_token_ids()
        self.cache = RowCache(batch_max + 1, self.length_max)
        self.operations = {"load": self._load, "unload": self._unload, "generate": self._generate, "cancel": self._cancel}
        self.waiting: deque[Request] = deque()
        self.prefilling: Request | None = None
        self.running: list[Request] = []

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting or self.prefilling or self.running)

    def handle(self, command: dict[str, Any]) -> None:
        try:
            self.operations[command["op"]](command)
        except Rejection as rejection:
            self.emit({"ev": "rejected", "id": command["id"], "code": rejection.code, "message": str(rejection)})

    def warm_up(self) -> None:
        """One token, so that the first request finds memory and threads ready."""
        self._forward(self.batch_max, [[0]], [[0]], [None])
        self.cache.clear()

    @torch.no_grad()
    def step(self) -> None:
        """Prefills up to `PREFILL_TOKENS_MAX` tokens, then every running row decodes one."""
        budget = PREFILL_TOKENS_MAX
        while budget > 0 and len(self.running) < self.batch_max and self._next_to_prefill() is not None:
            budget -= self._prefill(self.prefilling, budget)
        if self.running:
            self._decode()
        for command in self.adapters.drop_unused():
            self.emit({"ev": "unloaded", "id": command})
        if not self.is_busy:
            self.cache.clear()

    # Commands.

    def _load(self, command: dict[str, Any]) -> None:
        name = command["adapter"]
        if (superseded := self.adapters.load(name, command["path"])) is not None:
            self.emit({"ev": "unloaded", "id": superseded})
        logits = self._forward(self.batch_max, [[0]], [[0]], [self.adapters.held[name]])
        if not logits.isfinite().all():
            self.adapters.delete(name)
            raise Rejection("bad_request", f"Adapter {name} in {command['path']} answers with NaN or infinity; train it again.")
        self.emit({"ev": "loaded", "id": command["id"]})

    def _unload(self, command: dict[str, Any]) -> None:
        self.adapters.unload(command["adapter"], command["id"])

    def _generate(self, command: dict[str, Any]) -> None:
        prompt = self._tokenise(command["messages"])
        room = self.length_max - len(prompt)
        if room < 1:
            raise Rejection(
                "too_long", f"The prompt has {len(prompt)} tokens; prompt and answer together may have {self.length_max}. Shorten it."
            )
        seed = secrets.randbits(63) if command["seed"] is None else command["seed"]
        sampler = Sampler(command["temperature"], command["topP"], torch.Generator().manual_seed(seed))
        text = TextStream(self.chat, command["stop"])
        adapter = self.adapters.take(command["adapter"])
        self.waiting.append(Request(command["id"], adapter, prompt, min(command["maxTokens"], room), sampler, text))

    def _cancel(self, command: dict[str, Any]) -> None:
        for request in [*self.waiting, *self.running, *([self.prefilling] if self.prefilling else [])]:
            if request.id == command["id"]:
                self._remove(request)
                self._finish(request, "cancelled")

    # The work.

    def _tokenise(self, messages: list[dict[str, str]]) -> list[int]:
        try:
            return self.chat.encode(self.chat.render(messages, generate=True))
        except TemplateError as error:
            raise Rejection("bad_request", str(error)) from error

    def _next_to_prefill(self) -> Request | None:
        if self.prefilling is None and self.waiting:
            self.prefilling = self.waiting.popleft()
        return self.prefilling

    def _prefill(self, request: Request, budget: int) -> int:
        """Computes the next piece of a prompt; the last piece gives the first token. Returns the number of tokens."""
        piece = request.prompt[request.filled : request.filled + budget]
        positions = range(request.filled, request.filled + len(piece))
        logits = self._forward(self.batch_max, [piece], [positions], [request.adapter])
        request.filled += len(piece)
        if request.filled == len(request.prompt):
            self.prefilling = None
            self.cache.move(self.batch_max, len(self.running), request.filled)
            self.running.append(request)
            self._accept(request, logits[0])
        return len(piece)

    def _decode(self) -> None:
        rows = list(self.running)
        logits = self._forward(0, [[r.answer[-1]] for r in rows], [[r.filled] for r in rows], [r.adapter for r in rows])
        for request in rows:
            request.filled += 1  # all of them first: a row that ends moves another, which must be whole
        for request, row in zip(rows, logits):
            self._accept(request, row)

    @torch.no_grad()
    def _forward(self, first_row: int, tokens, positions, adapters: list[Adapter | None]) -> torch.Tensor:
        """Logits `[rows, vocabulary]` of the last token of each row."""
        at = torch.tensor([list(row) for row in positions])
        self.cache.aim(first_row, at)
        # A token sees the positions up to its own: causal within the prompt, and nothing behind a shorter row's end.
        mask = torch.arange(self.cache.length) <= at[:, None, :, None]
        with self.adapters.rows(adapters):
            output = self.model(
                input_ids=torch.tensor(tokens),
                position_ids=at,
                attention_mask=mask,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1]

    def _accept(self, request: Request, logits: torch.Tensor) -> None:
        """Takes the next token, sends the text that is certain, and ends the request where it ends."""
        token = request.sampler.choose(logits)
        request.answer.append(token)
        if token in self.ends:
            return self._end(request, "stop")
        text, stopped = request.text.push(token)
        self._send(request, text)
        if stopped:
            self._remove(request)
            self._finish(request, "stop")
        elif len(request.answer) >= request.tokens_max:
            self._end(request, "length")

    def _end(self, request: Request, reason: str) -> None:
        self._send(request, request.text.flush())
        self._remove(request)
        self._finish(request, reason)

    def _send(self, request: Request, text: str) -> None:
        if text:
            self.emit({"ev": "token", "id": request.id, "text": text})

    def _remove(self, request: Request) -> None:
        """Takes the request out of wherever it is; the last row moves into a hole of the batch."""
        if request is self.prefilling:
            self.prefilling = None
        elif request in self.waiting:
            self.waiting.remove(request)
        else:
            hole = self.running.index(request)
            last = self.running.pop()
            if last is not request:
                self.cache.move(len(self.running), hole, last.filled)
                self.running[hole] = last

    def _finish(self, request: Request, reason: str) -> None:
        if request.adapter is not None:
            request.adapter.users -= 1
        counts = {"promptTokens": len(request.prompt), "completionTokens": len(request.answer)}
        self.emit({"ev": "finished", "id": request.id, "reason": reason, **counts})


def _require_full_attention(model) -> None:
    layers = DynamicCache(config=model.config).layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        raise BadRequest("The base model has layers without full attention, which this engine cannot batch; serve it with vLLM.")


def serve(job: ServeJob, emit: Emit) -> NoReturn:
    """Runs until standard input ends or SIGTERM comes; holds nothing that would have to be saved."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    torch.set_num_threads(job.threads)
    emit({"ev": "phase", "phase": "load"})
    model = AutoModelForCausalLM.from_pretrained(job.base_model, dtype=torch.float32, local_files_only=True).eval()
    engine = Engine(model, Chat(job.base_model), emit, job.max_batch, job.max_length)
    engine.warm_up()
    emit({"ev": "ready", "maxLength": engine.length_max})
    while True:
        if not engine.is_busy:
            engine.handle(json.loads(commands.get()))  # sleeps until there is something to do
        while not commands.empty():
            engine.handle(json.loads(commands.get()))
        engine.step()


def _read_commands(commands: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        commands.put(line)
    os._exit(EXIT_ORPHANED)  # whoever started this process is gone
