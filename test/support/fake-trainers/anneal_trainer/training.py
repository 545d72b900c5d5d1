"""A training in which each step is a link of a chain of digests: what it gives depends on every step before and on nothing else."""

import hashlib
import json
import signal
from pathlib import Path

from anneal_trainer import saved
from anneal_trainer.channel import End, emit
from anneal_trainer.misbehave import Fault


class Training:
    def __init__(self, job: dict, fault: Fault):
        self.job, self.recipe, self.fault = job, job["recipe"], fault
        self.output = Path(job["output"])
        self.state = {"step": 0, "chain": "", "lossSum": 0.0}
        self.resumed = 0
        self._stopping = self._asked = False
        self.loss = self.grad_norm = 0.0

    @property
    def step(self) -> int:
        return self.state["step"]

    @property
    def is_told(self) -> bool:
        return self._stopping

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_stopping", True))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "_asked", True))

    def prepare(self) -> None:
        emit({"ev": "phase", "phase": "load"})
        self.fault.at("load", self)

    def run(self, resume: dict | None) -> None:
        source = "fresh" if resume is None else resume["from"]
        if resume is not None:
            self.state = saved.load(resume, self.job["warm"])
        self.resumed = self.step
        self.fault.at("resume", self)
        steps = self.recipe["maxSteps"]
        emit({"ev": "phase", "phase": "train"})
        counts = {
            "steps": steps,
            "rows": steps,
            "trainableParameters": 1,
            "totalParameters": 1,
        }
        emit({"ev": "plan", **counts, "from": self.step, "source": source})
        while self.step < steps:
            self._do_step()
            self._end_step(is_last=self.step == steps)
        self._finish(steps)

    def _do_step(self) -> None:
        self.fault.at("step", self)
        chain = hashlib.sha256(
            f"{self.state['chain']}/{self.step + 1}".encode()
        ).hexdigest()
        self.loss, self.grad_norm = (
            int(chain[:8], 16) / 2**32,
            int(chain[8:16], 16) / 2**32,
        )
        self.fault.at("loss", self)
        self.state = {
            "step": self.step + 1,
            "chain": chain,
            "lossSum": self.state["lossSum"] + self.loss,
        }
        event = {
            "ev": "step",
            "step": self.step,
            "of": self.recipe["maxSteps"],
            "epoch": 0.1,
            "loss": self.loss,
        }
        emit(
            {
                **event,
                "gradNorm": self.grad_norm,
                "learningRate": 0.1,
                "tokens": self.step,
                "seconds": 0.001,
            }
        )

    def _end_step(self, is_last: bool) -> None:
        if (
            is_last
            or self._stopping
            or self._asked
            or self.step % self.recipe["saveSteps"] == 0
        ):
            self._asked = False
            self._save(is_last)
        if self.job["warm"] is not None:
            self.fault.at("warm", self)
            saved.keep_warm(self.job["warm"], self.state)
        self.fault.at("edge", self)
        if self._stopping and not is_last:
            raise End("interrupted", f"interrupted after step {self.step}")

    def _save(self, is_last: bool) -> None:
        emit({"ev": "phase", "phase": "save"})
        self.fault.at("save", self)
        path = saved.save_checkpoint(self.output, self.state, is_last)
        where = self.fault.says(str(path))
        event = {
            "ev": "checkpoint_saved",
            "step": self.step,
            "path": where,
            "bytes": 1,
            "terminal": is_last,
            "best": None,
        }
        emit({**event, "seconds": 0.001})

    def _write_adapter(self, name: str) -> Path:
        folder = self.output / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(self.state["chain"])
        (folder / "adapter_config.json").write_text(json.dumps({}))
        return folder

    def _finish(self, steps: int) -> None:
        emit({"ev": "phase", "phase": "save"})
        self.fault.at("finish", self)
        adapter = self._write_adapter("adapter")
        digest = self.state["chain"]
        outputs = [
            {
                "name": name,
                "path": str(self._write_adapter(name)),
                "weightsSha256": digest,
            }
            for name in self.recipe["outputs"]
        ]
        result = {
            "step": self.step,
            "steps": steps,
            "epochs": 1,
            "trainLoss": self.state["lossSum"] / steps,
            "evalLoss": None,
        }
        result |= {
            "best": None,
            "tokens": steps,
            "trainableParameters": 1,
            "totalParameters": 1,
            "adapter": str(adapter),
        }
        result |= {
            "weightsSha256": self.state["chain"],
            "stoppedEarly": False,
            "libraries": {},
            "outputs": outputs,
        }
        emit({"ev": "done", "result": self.fault.gives(result)})
