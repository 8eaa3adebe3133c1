"""Real DICOM files of many makers: each is accounted for, and stored values are pydicom's where it decodes them."""

from __future__ import annotations

import runpy
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scoutview.ingest import RefusedError
from scoutview.ingest.dicom import read_dicom
from scoutview.ingest.dicom_header import read_header
from scoutview.ingest.dicom_kind import format_of, modality_of
from scoutview.ingest.dicom_pixels import decode_dataset, decode_frame
from scoutview.ingest.files import sniff
from scoutview.ingest.frames import open_frames
from scoutview.ingest.refusals import FIXES
from scoutview.ingest.rules import STRICT

ARCHIVE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom_dev.tar.xz"
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "real_dicom.py"


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the real DICOM files are not here")
def test_every_real_file_is_read_as_pydicom_reads_it_or_refused(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    taken = refused = compared = 0
    for path in sorted(tmp_path.rglob("*")):
        if not path.is_file():
            continue
        try:
            if sniff(path) != "dicom":
                continue
            list(read_dicom(path, STRICT))
        except RefusedError:
            refused += 1
            continue
        taken += 1
        header = read_header(path)
        form = format_of(header, modality_of(header))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = pydicom.dcmread(path).pixel_array
            except RuntimeError:  # no decoder in pydicom
                continue
        if form.samples == 3:
            expected = np.rint(expected @ np.array([0.299, 0.587, 0.114]))
        if form.frames == 1:
            np.testing.assert_array_equal(decode_frame(path, form), expected)
        else:
            source = open_frames(path, form.frames, form.frame_bytes)
            for number in range(form.frames):
                np.testing.assert_array_equal(decode_dataset(source.dataset(number), form), expected[number])
        compared += 1
    assert (taken, refused) == (205, 70)
    assert compared >= 190


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the real DICOM files are not here")
def test_every_real_file_is_accounted_for_and_explained(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    accounts = list(runpy.run_path(str(BENCHMARK))["accounts"](tmp_path))
    assert len(accounts) == 274
    for account in accounts:
        if account.reason:
            assert account.detail
            assert account.reason.partition(":")[0] in FIXES
        else:
            assert account.other in ("equal", "no decoder in pydicom"), account
    assert sum(account.other == "equal" for account in accounts) >= 199
    assert sum(bool(account.reason) for account in accounts) == 69
