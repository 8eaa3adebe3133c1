"""Damaged images that a training went on without: said one by one, counted, and not too many of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from scoutview.batches import TrainingBatch
from scoutview.errors import RunError
from scoutview.training import RunFolder

MOST_REPLACED = 0.001
"""Share of the images that a rank has read since it was started; above it more than a sector is bad."""
FEWEST_REPLACED = 10
"""So many are allowed in any case."""


@dataclass
class DamageCount:
    """Of one rank, since it was started."""

    rank: int
    images: int = 0
    replaced: int = 0

    def add(self, batch: TrainingBatch, run: RunFolder) -> None:
        """Count a batch, and say which images were replaced in it: in metrics.jsonl by rank 0, else on standard error.

        Raises:
            RunError: if they have become too many.
        """
        self.images += len(batch.index)
        self.replaced += len(batch.damaged)
        for message in batch.damaged:
            if run.writes:
                run.log({"step": batch.step, "event": "damaged", "message": f"replaced by its lane's next: {message}"})
            else:
                print(f"rank {self.rank} step {batch.step}: replaced: {message}", file=sys.stderr, flush=True)
        if batch.damaged and self.replaced > max(FEWEST_REPLACED, MOST_REPLACED * self.images):
            raise RunError(
                f"{self.replaced} of the {self.images} images that rank {self.rank} read were damaged, more than "
                f"{MOST_REPLACED:.1%}: scoutview fsck names them; the last: {batch.damaged[-1]}"
            )
