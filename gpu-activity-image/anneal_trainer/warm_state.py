"""Warm state: a rank's training state in shared memory, newer than any checkpoint.

A slot is a block of 4096 bytes (commit word, header), the tensors, and a blob (the list of tensors, then all that is no tensor).
Its commit word is 0 while it changes and its step + 1 afterwards: one aligned store, made last. There are two, and a kill at any time
leaves one of them whole. On a CPU the training itself lives in the first: its tensors are the model's and the optimizer's, so that
keeping a step costs no copy, and only a kill inside the optimizer's update tears it. The second is a copy, made every n-th step.
With tensors on a GPU both are copies and take turns. Not protected: the death of the host, whose memory this is, and bits that flip
in tensors.
"""

import hashlib
import json
import math
import mmap
import os
import statistics
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anneal_trainer.protocol import CheckpointCorrupt, Emit, Warm
from anneal_trainer.state import TrainingState

_BLOCK_BYTES = 4096
_WORD_BYTES = 8
# Every tensor starts at a cache line.
_ALIGNMENT_BYTES = 64
# The blob may grow so far beyond twice its first size: counters get longer, an evaluation is added.
_BLOB_ROOM_BYTES = 1 << 16

# The slots' parts on a CPU.
_LIVE, _COPY = 0, 1

# What copies may cost of the time of the steps: where they are all there is, and where the training lives in the first slot, whose
# commits have a cost of their own.
_COST_SHARE = 0.01
_COST_SHARE_LIVE = 0.003
# The first two copies meet pages that nobody has touched and take several times as long.
_UNUSUAL_COPIES = 2
# The interval is first chosen after so many copies, then each time that so many more were made, by the median of the last ones.
_COPIES_BEFORE_CHOICE = 5
_COPIES_PER_CHOICE = 16
_MEASURED = 8
# Beyond this a checkpoint is as new, steps.
_EVERY_STEPS_MAX = 1000


@dataclass(frozen=True)
class Header:
    run: str
    claim: int
    lineage: str
    rank: int
    processes: int
    step: int
    terminal: bool
    bytes: int
    blob: dict[str, Any]

    def encode(self) -> bytes:
        fields = {"v": 1, **self.__dict__}
        return json.dumps({**fields, "check": _check(fields)}, separators=(",", ":")).encode()


class WarmState:
    """Keeps the state of one rank. Every rank of a gang must see the same steps; `agree` gives the largest of all ranks' numbers.

    `live_in` makes the training use other tensors, by their names, instead of its own, whose values they have; None where it cannot.
    """

    def __init__(
        self,
        warm: Warm,
        rank: int,
        processes: int,
        resumed: int | None,
        emit: Emit,
        agree: Callable[[int], int],
        live_in: Callable[[dict[str, torch.Tensor]], None] | None,
    ):
        """`resumed` is the step that this attempt goes on from if it was read from this very folder; its slot is written last."""
        self._warm, self._rank, self._processes, self._emit, self._agree = warm, rank, processes, emit, agree
        self._live_in = live_in
        self._every = warm.every_steps or 1
        self._copies = 0
        self._copy_s: deque[float] = deque(maxlen=_MEASURED)
        self._step_s: deque[float] = deque(maxlen=_MEASURED)
        # The last step, of this attempt, and how long it took.
        self._last: tuple[int, float] | None = None
        self._slots: list[_Slot] | None = None
        self._kept: _Kept | None = None
        # The training lives in the first slot.
        self._is_live = False
        self._is_off = False
        self._next = self._forget_all_but(resumed)

    def update_begins(self) -> None:
        """Called at each step, before the optimizer changes anything. By then all ranks have kept the step before, so that the one
        before that may go."""
        if self._live_in is None or self._last is None:
            return
        started, is_due = time.monotonic(), self._is_due()
        if self._kept:
            if not self._is_live:
                self._move_in()
            elif is_due:
                self._slots[_COPY].write(self._kept)
            self._slots[_LIVE].tear()
        if is_due:
            self._count_copy(time.monotonic() - started)

    def step_done(self, step: int, terminal: bool, step_s: float, capture: Callable[[], TrainingState]) -> None:
        """Called at each step edge, after everything else of the step. `step_s`: how long the step took so far."""
        self._last = (step, step_s)
        is_copied = self._live_in is None and (terminal or self._is_due())
        started = time.monotonic()
        if not self._is_off and (self._live_in or is_copied):
            state = capture()
            self._keep(_Kept(state, _encode(state.blob), step, terminal))
        if is_copied:
            self._count_copy(time.monotonic() - started)

    def _keep(self, kept: "_Kept") -> None:
        if self._is_live and self._slots[_LIVE].fits(kept):
            self._slots[_LIVE].commit(kept)
        else:
            try:
                slots = self._slots_for(kept)
            except OSError as error:
                self._turn_off(f"{self._warm.folder} cannot hold it ({error.strerror or error})")
                return
            slots[self._next].write(kept)
            self._next = 1 - self._next
        self._kept = kept

    def _slots_for(self, kept: "_Kept") -> list["_Slot"]:
        """Makes both at first, and again should the state outgrow them."""
        if self._slots is None or not self._slots[self._next].fits(kept):
            layout = _Layout.of(kept)
            total = 2 * layout.bytes * self._processes
            if total > self._warm.bytes_max:
                raise OSError(f"{total} bytes are wanted, {self._warm.bytes_max} allowed")
            if self._is_live:
                # It is torn. The tensors keep its memory until the training has moved.
                self._files()[_LIVE].unlink()
                self._is_live, self._next = False, _LIVE
            identity = Header(self._warm.run, self._warm.claim, self._warm.lineage, self._rank, self._processes, 0, False, layout.bytes, {})
            Path(self._warm.folder).mkdir(parents=True, exist_ok=True)
            self._slots = [_Slot(file, layout, identity) for file in self._files()]
        return self._slots

    def _move_in(self) -> None:
        self._slots[self._next].write(self._kept)
        self._live_in(self._slots[_LIVE].tensors())
        self._is_live = True

    def _is_due(self) -> bool:
        return self._last[0] % self._every == 0

    def _count_copy(self, seconds: float) -> None:
        """Counted by ranks that are off, too: they choose the interval together."""
        step, step_s = self._last
        self._copies += 1
        if self._copies > _UNUSUAL_COPIES:
            self._copy_s.append(seconds)
            self._step_s.append(step_s)
        if self._copies % _COPIES_PER_CHOICE == _COPIES_BEFORE_CHOICE:
            self._choose_interval(step)

    def _turn_off(self, why: str) -> None:
        self._is_off, self._is_live, self._slots, self._kept = True, False, None, None
        for file in self._files():
            with suppress(OSError):
                file.unlink()
        message = (
            f"Warm state is off: {why}; a dead trainer goes on from its last checkpoint. Give the host or container more shared memory."
        )
        self._emit({"ev": "finding", "code": "warm_state_off", "message": message})

    def _choose_interval(self, step: int) -> None:
        before = self._every
        if self._warm.every_steps is None:
            self._every = self._affordable_interval()
        is_news = self._every != before or self._copies == _COPIES_BEFORE_CHOICE
        if is_news and self._rank == 0 and not self._is_off:
            copy_ms = round(1000 * statistics.median(self._copy_s), 3)
            self._emit({"ev": "warm_state", "step": step, "everySteps": self._every, "copyMs": copy_ms})

    def _affordable_interval(self) -> int:
        # In thousandths of a step.
        share = _COST_SHARE_LIVE if self._live_in else _COST_SHARE
        cost = self._agree(math.ceil(1000 * statistics.median(self._copy_s) / (share * statistics.median(self._step_s))))
        needed, with_room = (min(_EVERY_STEPS_MAX, math.ceil(cost / per_step)) for per_step in (1000, 750))
        # Upwards at once; downwards with a quarter to spare, or noise would move it to and fro.
        return max(needed, min(self._every, with_room))

    def _forget_all_but(self, resumed: int | None) -> int:
        """Takes back what an attempt before this one left beyond the step that this one goes on from; returns the slot to write first."""
        files = self._files()
        headers = [_read_header(file) for file in files]
        steps = [header.step if isinstance(header, Header) else None for header in headers]
        for file, step in zip(files, steps):
            if step is not None and (resumed is None or step > resumed):
                _take_back(file)
        return 1 if resumed is not None and steps[0] == resumed else 0

    def _files(self) -> list[Path]:
        return _slot_files(Path(self._warm.folder), self._rank)


def newest_step(folder: str, warm: Warm, processes: int) -> int:
    """The newest step that all ranks hold; raises CheckpointCorrupt where there is none, or the state is torn or not this run's."""
    by_rank = [_steps_of(folder, warm, processes, rank) for rank in range(processes)]
    common = set.intersection(*by_rank)
    if not common:
        held = ", ".join(f"rank {rank} has {sorted(steps)}" for rank, steps in enumerate(by_rank))
        raise _refused(folder, f"has no step that all ranks hold ({held})")
    return max(common)


def read(folder: str, warm: Warm, processes: int, rank: int, step: int) -> TrainingState:
    """One rank's state at a step. Its tensors are views of the file: copy them before this rank keeps anything."""
    for header, file in _whole_slots(folder, warm, processes, rank):
        if header.step == step:
            return _read_slot(folder, header, file)
    raise _refused(folder, f"has no step {step} of rank {rank} any more")


def _steps_of(folder: str, warm: Warm, processes: int, rank: int) -> set[int]:
    return {header.step for header, _ in _whole_slots(folder, warm, processes, rank)}


def _whole_slots(folder: str, warm: Warm, processes: int, rank: int) -> list[tuple[Header, Path]]:
    found, reasons = [], []
    for file in _slot_files(Path(folder), rank):
        header = _read_header(file)
        if isinstance(header, Header):
            _require_ours(folder, header, warm, processes, rank)
            found.append((header, file))
        else:
            reasons.append(f"{file.name} {header}")
    if not found:
        raise _refused(folder, f"has no whole slot: {', '.join(reasons)}")
    return found


def _require_ours(folder: str, header: Header, warm: Warm, processes: int, rank: int) -> None:
    wanted = {"run": warm.run, "lineage": warm.lineage, "processes": processes, "rank": rank}
    for name, value in wanted.items():
        found = getattr(header, name)
        if found != value:
            raise _refused(folder, f"is of {name} {found}, not of {value}")
    if header.claim > warm.claim:
        raise _refused(folder, f"is of claim {header.claim}, newer than this one's {warm.claim}")


def _refused(folder: str, why: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(f"Warm state {folder} {why}; resume from a checkpoint.")


def _slot_files(folder: Path, rank: int) -> list[Path]:
    return [folder / f"rank-{rank}.slot-{slot}" for slot in (0, 1)]


def _read_header(file: Path) -> Header | str:
    """The header of a committed slot, or what is wrong with it."""
    try:
        with file.open("rb") as opened:
            block, size = opened.read(_BLOCK_BYTES), os.fstat(opened.fileno()).st_size
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    word = int.from_bytes(block[:_WORD_BYTES], "little")
    if word == 0:
        return "was being written"
    try:
        fields = json.loads(block[_WORD_BYTES:].rstrip(b"\0"))
        check = fields.pop("check")
        header = Header(**{name: value for name, value in fields.items() if name != "v"})
        is_whole = check == _check(fields) and word == header.step + 1 and header.bytes <= size
    except (ValueError, TypeError, KeyError, AttributeError):
        is_whole = False
    return header if is_whole else "has a damaged header"


def _encode(blob: dict[str, Any]) -> bytes:
    return json.dumps(blob, separators=(",", ":")).encode()


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _read_slot(folder: str, header: Header, file: Path) -> TrainingState:
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), header.bytes, access=mmap.ACCESS_COPY)
    start, length = header.blob["offset"], header.blob["length"]
    blob = mapped[start : start + length]
    if hashlib.sha256(blob).hexdigest() != header.blob["sha256"]:
        raise _refused(folder, f"is damaged: the blob of {file.name} does not match its SHA-256")
    tensors, rest = (json.loads(line) for line in blob.split(b"\n"))
    return TrainingState({entry["name"]: _view(mapped, entry) for entry in tensors}, rest)


def _view(mapped: mmap.mmap, entry: dict[str, Any]) -> torch.Tensor:
    count = math.prod(entry["shape"])
    dtype = getattr(torch, entry["dtype"])
    if count == 0:
        return torch.empty(entry["shape"], dtype=dtype)
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=entry["offset"]).view(entry["shape"])


def _take_back(file: Path) -> None:
    # Where it may not be written nothing will be kept either.
    with suppress(OSError), file.open("r+b") as opened:
        opened.write(bytes(_WORD_BYTES))


@dataclass(frozen=True)
class _Kept:
    """A step's state, as it was kept last."""

    state: TrainingState
    # The blob's second line; the first is the same all run long.
    rest: bytes
    step: int
    terminal: bool


@dataclass(frozen=True)
class _Layout:
    """Where everything lies in a slot."""

    names: list[str]
    tensors: list[dict[str, Any]]
    # The first line of the blob.
    index: bytes
    blob_offset: int
    bytes: int

    @classmethod
    def of(cls, kept: "_Kept") -> "_Layout":
        entries, offset = [], _BLOCK_BYTES
        for name, tensor in kept.state.tensors.items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            entries.append({"name": name, "dtype": dtype, "shape": list(tensor.shape), "offset": offset})
            offset = _round_up(offset + tensor.numel() * tensor.element_size(), _ALIGNMENT_BYTES)
        index = json.dumps(entries, separators=(",", ":")).encode() + b"\n"
        end = _round_up(offset + len(index) + 2 * len(kept.rest) + _BLOB_ROOM_BYTES, _BLOCK_BYTES)
        return cls(list(kept.state.tensors), entries, index, offset, end)


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


class _Slot:
    """One file, mapped for writing."""

    def __init__(self, file: Path, layout: _Layout, identity: Header):
        """Raises OSError (ENOSPC) here rather than a bus error at some later step: the memory is taken now."""
        self._layout, self._identity = layout, identity
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, layout.bytes)
            self._mapped = mmap.mmap(descriptor, layout.bytes)
        finally:
            os.close(descriptor)
        # Eight bytes as one number: one store, which a kill cannot halve.
        self._word = memoryview(self._mapped)[:_WORD_BYTES].cast("Q")
        self._views = [_view(self._mapped, entry) for entry in layout.tensors]

    def fits(self, kept: _Kept) -> bool:
        room = self._layout.bytes - self._layout.blob_offset - len(self._layout.index)
        return list(kept.state.tensors) == self._layout.names and len(kept.rest) <= room

    def tensors(self) -> dict[str, torch.Tensor]:
        return dict(zip(self._layout.names, self._views, strict=True))

    def tear(self) -> None:
        self._word[0] = 0

    def write(self, kept: _Kept) -> None:
        self.tear()
        torch._foreach_copy_(self._views, list(kept.state.tensors.values()))
        self.commit(kept)

    def commit(self, kept: _Kept) -> None:
        """Ends a change; the tensors are there already."""
        blob = self._layout.index + kept.rest
        start = self._layout.blob_offset
        self._mapped[start : start + len(blob)] = blob
        described = {"offset": start, "length": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        identity = {**self._identity.__dict__, "step": kept.step, "terminal": kept.terminal, "blob": described}
        self._mapped[_WORD_BYTES:_BLOCK_BYTES] = Header(**identity).encode().ljust(_BLOCK_BYTES - _WORD_BYTES, b"\0")
        self._word[0] = kept.step + 1
