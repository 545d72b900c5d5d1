"""From a job file to its command: reads it, fixes the environment, takes up the ties and signals that the command wants, runs it.

Used alike by a cold start and by a fork of the warm parent.
"""

import os
import sys
from pathlib import Path

from anneal_trainer import bitsandbytes_gate, interrupts, lifeline, protocol
from anneal_trainer.protocol import BadRequest, Emit, Job


def run_file(file: str, emit: Emit) -> None:
    job = _read_job(file)
    fix_environment(_threads(job))
    # These read their standard input themselves.
    if not isinstance(job, protocol.ServeJob | protocol.PrepareTrainJob):
        lifeline.watch_channel()
    if isinstance(job, protocol.TrainJob):
        interrupts.listen()
    interrupts.release()
    _run(job, emit)


def fix_environment(threads: int) -> None:
    """Numpy, torch and tokenizers read these once, when they are imported; a fork of the warm parent sets its threads directly."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Idle threads sleep instead of spinning; on a shared machine spinning starves the neighbours.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    # pyarrow's spare allocator, which nothing here uses, would start a thread when it is loaded; a process with threads cannot be forked.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    # cuBLAS is deterministic only with a fixed workspace; without a GPU it has no effect.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # Asks the driver's management library whether there is a GPU; the usual way makes CUDA unusable in forked children.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = os.environ.get("TRANSFORMERS_VERBOSITY", "error")
    bitsandbytes_gate.keep_out()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _read_job(file: str) -> Job:
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise BadRequest(f"The job file {file} cannot be read: {error.strerror}.") from error
    return protocol.parse_job(text)


def _threads(job: Job) -> int:
    match job:
        case protocol.TrainJob():
            return job.recipe.threads
        case protocol.PrepareTrainJob() | protocol.ProbeJob():
            # A process with a thread pool cannot be forked.
            return 1
    return getattr(job, "threads", os.cpu_count() or 1)


def _run(job: Job, emit: Emit) -> None:
    # Imported late: each command pays only for the libraries that it uses.
    match job:
        case protocol.TokeniseJob():
            from anneal_trainer.tokenise import tokenise as command
        case protocol.TrainJob():
            from anneal_trainer.train import train as command
        case protocol.PrepareTrainJob():
            from anneal_trainer.warm_parent import serve_job as command
        case protocol.ProbeJob():
            from anneal_trainer.probe import probe as command
        case protocol.EvaluateJob():
            from anneal_trainer.evaluate import evaluate as command
        case protocol.PrepareModelJob():
            from anneal_trainer.models import prepare_model as command
        case protocol.DrillDataJob():
            from anneal_trainer.drill_data import make_drill_data as command
        case protocol.ServeJob():
            from anneal_trainer.engine import serve as command
    command(job, emit)
