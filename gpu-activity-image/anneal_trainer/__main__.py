"""Entry point: `python -m anneal_trainer <job.json>` runs one job, `python -m anneal_trainer warm-parent` forks children that do."""

import faulthandler
import signal
import sys

from anneal_trainer import commands, faults, lifeline, warm_parent
from anneal_trainer.protocol import BadRequest, Emit, Emitter


def main(arguments: list[str], emit: Emit) -> None:
    # A supervisor that sees no progress asks what the threads are doing, before it kills; forks inherit this.
    faulthandler.register(signal.SIGUSR1)
    lifeline.tie_to_parent()
    if len(arguments) != 1:
        raise BadRequest(f"One job file is wanted, got {len(arguments)} arguments; start as `python -m anneal_trainer job.json`.")
    if arguments == ["warm-parent"]:
        warm_parent.serve(emit)
    else:
        commands.run_file(arguments[0], emit)


if __name__ == "__main__":
    channel = Emitter.open()
    faults.leave(faults.run_to_end(lambda: main(sys.argv[1:], channel), channel))
