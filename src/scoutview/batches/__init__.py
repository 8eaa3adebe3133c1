"""Which images in which order, read and checked, on any number of ranks.

In: stores, a seed, a step. Out: batches with the same share of every modality; the state is the step alone.
"""

from scoutview.batches.archive import Archive
from scoutview.batches.loader import TrainingBatch, view_loader
from scoutview.batches.reading import read_unit_image
from scoutview.batches.sampler import BatchPlan, Draw
from scoutview.batches.selection import Selection

__all__ = ["Archive", "BatchPlan", "Draw", "Selection", "TrainingBatch", "read_unit_image", "view_loader"]
