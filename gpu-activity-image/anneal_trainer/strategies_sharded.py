"""What the strategies whose ranks hold parts of the state have in common: each rank saves its own into one checkpoint."""

from pathlib import Path
from typing import Any

from torch import distributed

from anneal_trainer import shares
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.files import naming_a_full_disk


class ShardedTrainer(DurableTrainer):
    """Stands before a method's trainer in a class's bases."""

    cut: shares.Cut

    def _write_files(self, folder: Path, randoms: list[Any]) -> None:
        self._write_share(folder)
        shares.write_document(folder, self.capture(), randoms, self.cut)

    def _write_share(self, folder: Path | None) -> None:
        """Every rank calls it; the first one says where."""
        folder = self._gather(folder)[0]
        with naming_a_full_disk(folder):
            shares.write_share(folder, self.args.process_index, self.capture())
        # The manifest counts every file.
        distributed.barrier()
