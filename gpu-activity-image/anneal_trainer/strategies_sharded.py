"""What the strategies whose ranks hold parts of the state have in common: each rank saves its own, and each host seals its ranks' parts.

The manifest and the document are the same on all hosts and name all parts, so that whoever has collected these has a whole checkpoint.
"""

from typing import Any

from torch import distributed

from anneal_trainer import checkpoints, shares
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.files import naming_a_full_disk


class ShardedTrainer(DurableTrainer):
    """Stands before a method's trainer in a class's bases."""

    cut: shares.Cut
    # Of flat pieces.
    layout: dict[str, Any] | None = None

    def _save_checkpoint(self, model, trial) -> None:
        if self.args.local_process_index == 0:
            with self._new_checkpoint() as draft:
                self._write_share(draft)
        else:
            self._write_share(None)
        distributed.barrier()

    def _write_share(self, draft: checkpoints.Draft | None) -> None:
        """Every rank calls it; the first one of each host has the draft that its host's ranks write into."""
        rank = self.args.process_index
        captured = self.capture()
        met = self._gather((captured.blob, draft and draft.folder))
        folder = met[rank - self.args.local_process_index][1]
        with naming_a_full_disk(folder):
            file = shares.write_share(folder, rank, captured)
        counted = dict(self._gather((file.name, checkpoints.count(file))))
        if draft:
            shares.write_document(folder, [blob for blob, _ in met], self.cut, self.layout)
            draft.counted |= counted
