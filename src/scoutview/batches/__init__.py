"""Which images in which order, read and checked, on any number of ranks.

In: stores, a seed, a step. Out: batches with the same share of every modality; the state is the step alone. Volumes are
listed beside the images, read as a whole or in slabs, and take the place of images in batches for 3D networks.
"""

from scoutview.batches.archive import Archive
from scoutview.batches.labelled_volumes import Cases, LabelledVolumes
from scoutview.batches.loader import TrainingBatch, view_loader
from scoutview.batches.reading import read_unit_image
from scoutview.batches.sampler import BatchPlan, Draw, modality_shares
from scoutview.batches.selection import Selection
from scoutview.batches.volume_loader import VolumeDataset, VolumeList, VolumeReader, WholeVolume
from scoutview.batches.volumes import Volumes, read_head, read_slab

__all__ = [
    "Archive",
    "BatchPlan",
    "Cases",
    "Draw",
    "LabelledVolumes",
    "Selection",
    "TrainingBatch",
    "VolumeDataset",
    "VolumeList",
    "VolumeReader",
    "Volumes",
    "WholeVolume",
    "modality_shares",
    "read_head",
    "read_slab",
    "read_unit_image",
    "view_loader",
]
