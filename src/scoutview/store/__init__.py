"""The archive on disk: immutable tar shards of HTJ2K codestreams, a Parquet catalog, annotations.

In: int16 images with their rows. Out: checked pixels by row, the catalog as a table, labels, splits.
"""

from scoutview.store.annotations import (
    UNCERTAIN,
    Annotation,
    add_annotations,
    bitmap_of,
    image_labels,
    mask_annotation,
    read_annotations,
    split_of,
)
from scoutview.store.catalog import ImageRow, rows_to_table
from scoutview.store.fsck import Damage, check_store
from scoutview.store.reading import DamagedRecordError, Store
from scoutview.store.shards import Record, make_record
from scoutview.store.volumes import Volume, read_volume, volumes_of
from scoutview.store.writing import StoreWriter

__all__ = [
    "UNCERTAIN",
    "Annotation",
    "Damage",
    "DamagedRecordError",
    "ImageRow",
    "Record",
    "Store",
    "StoreWriter",
    "Volume",
    "add_annotations",
    "bitmap_of",
    "check_store",
    "image_labels",
    "make_record",
    "mask_annotation",
    "read_annotations",
    "read_volume",
    "rows_to_table",
    "split_of",
    "volumes_of",
]
