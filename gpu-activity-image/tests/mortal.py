"""Trainers that kill themselves or wait at a moment: `python mortal.py <folder> [-m anneal_trainer] (job.json | warm-parent)`.

The folder holds an empty file `<moment>-<step>` for each death. Moments: `step` (inside the forward pass of step n), `copy` (before the
commit word of the warm state of step n is written), `save` (before the checkpoint of step n gets its name), `saved` (after it has it).
Each is died once, by the first rank that comes to it. At `hold-<step>` every rank waits inside the forward pass while the file is there;
one that is told to save takes it away.
"""

import os
import signal
import sys
import time
from pathlib import Path

from anneal_trainer import commands, interrupts

DEATHS = Path(sys.argv[1])
# Between looks whether a hold is over, s.
LOOK_S = 0.01


def die_if_due(moment: str, step: int) -> None:
    try:
        (DEATHS / f"{moment}-{step}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def wait_while_held(step: int) -> None:
    held = DEATHS / f"hold-{step}"
    while held.exists():
        if interrupts.requested():
            # The other ranks, too: they save together.
            held.unlink(missing_ok=True)
        time.sleep(LOOK_S)


def patch() -> None:
    """In the parent, so that every fork has it."""
    from anneal_trainer import checkpoints, warm_state
    from anneal_trainer.durable import DurableTrainer

    count_tokens, encode, seal_folder = DurableTrainer.count_tokens, warm_state.Header.encode, checkpoints.seal_folder

    def dying_count(trainer, attended):
        step = trainer.progress.step + 1
        die_if_due("step", step)
        wait_while_held(step)
        count_tokens(trainer, attended)

    def dying_encode(header):
        die_if_due("copy", header.step)
        return encode(header)

    def dying_seal(temporary, path):
        step = int(path.name.split("-")[1])
        die_if_due("save", step)
        seal_folder(temporary, path)
        die_if_due("saved", step)

    DurableTrainer.count_tokens, warm_state.Header.encode, checkpoints.seal_folder = dying_count, dying_encode, dying_seal


if __name__ == "__main__":
    from anneal_trainer import faults
    from anneal_trainer.__main__ import main
    from anneal_trainer.protocol import Emitter

    channel = Emitter.open()
    commands.fix_environment(1)
    patch()
    faults.leave(faults.run_to_end(lambda: main(sys.argv[-1:], channel), channel))
