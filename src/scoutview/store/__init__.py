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
    rows_about,
    split_of,
)
from scoutview.store.catalog import ImageRow, rows_of, rows_to_table
from scoutview.store.codec import LEVELS
from scoutview.store.filtering import passing_rows
from scoutview.store.fsck import Damage, check_store
from scoutview.store.growing import Source, Taken, take_images
from scoutview.store.index import SPLITS, IndexRow, StoreIndex, text_hash
from scoutview.store.indexing import open_index
from scoutview.store.merging import read_catalog_file
from scoutview.store.reading import DamagedRecordError, Store
from scoutview.store.shards import Record, make_record
from scoutview.store.volumes import Volume, read_volume, single, volumes_of
from scoutview.store.writing import StoreWriter

__all__ = [
    "LEVELS",
    "SPLITS",
    "UNCERTAIN",
    "Annotation",
    "Damage",
    "DamagedRecordError",
    "ImageRow",
    "IndexRow",
    "Record",
    "Source",
    "Store",
    "StoreIndex",
    "StoreWriter",
    "Taken",
    "Volume",
    "add_annotations",
    "bitmap_of",
    "check_store",
    "image_labels",
    "make_record",
    "mask_annotation",
    "open_index",
    "passing_rows",
    "read_annotations",
    "read_catalog_file",
    "read_volume",
    "rows_about",
    "rows_of",
    "rows_to_table",
    "single",
    "split_of",
    "take_images",
    "text_hash",
    "volumes_of",
]
