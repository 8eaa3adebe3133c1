"""Files -> store: what every format means, which files are refused and why, pseudonyms, splits, label files.

In: files and folders of DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, npz; CSV labels, COCO boxes. Out: a store, a
quarantine.
"""

from scoutview.ingest.engine import run_ingest
from scoutview.ingest.ledger import IngestSummary
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.reading import read_file
from scoutview.ingest.refusals import RefusedError, fix_of
from scoutview.ingest.rules import Rules

__all__ = ["IngestSummary", "Pseudonyms", "RefusedError", "Rules", "fix_of", "read_file", "run_ingest"]
