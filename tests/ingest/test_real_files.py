"""Real DICOM files of many makers: each is accounted for, and stored values are pydicom's where it decodes them."""

from __future__ import annotations

import tarfile
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scoutview.ingest import RefusedError
from scoutview.ingest.dicom import _format_of, _modality_of, read_dicom
from scoutview.ingest.dicom_header import read_header
from scoutview.ingest.dicom_pixels import decode_frame
from scoutview.ingest.files import SourceFile, sniff

ARCHIVE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom_dev.tar.xz"


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the real DICOM files are not here")
def test_every_real_file_is_read_as_pydicom_reads_it_or_refused(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    taken = refused = compared = 0
    for path in sorted(tmp_path.rglob("*")):
        if not path.is_file():
            continue
        try:
            if sniff(SourceFile(path, Path(path.name))) != "dicom":
                continue
            read_dicom(path)
        except RefusedError:
            refused += 1
            continue
        taken += 1
        header = read_header(path)
        form = _format_of(header, _modality_of(header))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = pydicom.dcmread(path).pixel_array
            except RuntimeError:  # no decoder in pydicom
                continue
        if form.samples == 3:
            expected = np.rint(expected @ np.array([0.299, 0.587, 0.114]))
        np.testing.assert_array_equal(decode_frame(path, form), expected)
        compared += 1
    assert (taken, refused) == (196, 79)
    assert compared >= 190
