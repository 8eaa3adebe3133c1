"""The written archive: pydicom reads back what was drawn, and the tables name every file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import UID

from scoutview.errors import UsageError
from scoutview.phantoms import (
    GENERATOR_VERSION,
    draw_brain_mr,
    draw_head_ct,
    draw_radiograph,
    draw_ultrasound,
    write_phantoms,
)

PATIENTS = {"xray": 10, "ct": 3, "mr": 3, "us": 8}
SIZE, SLICES, SEED = 96, 3, 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return write_phantoms(folder, patients=PATIENTS, seed=SEED, size=SIZE, slices=SLICES)


def read(archive: Path, modality: str) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((archive / "images" / modality).rglob("*.dcm"))]


def test_same_seed_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = write_phantoms(tmp_path, patients={"us": 2, "xray": 2, "ct": 1}, seed=SEED, size=SIZE, slices=SLICES)
    files = sorted(path for path in again.rglob("*.dcm"))
    assert len(files) == 2 + 2 + SLICES
    for path in files:
        assert path.read_bytes() == (archive / path.relative_to(again)).read_bytes()


def test_another_seed_has_other_identifiers(archive: Path, tmp_path: Path) -> None:
    other = write_phantoms(tmp_path, patients={"us": 1}, seed=SEED + 1, size=SIZE)
    assert read(other, "us")[0].SOPInstanceUID != read(archive, "us")[0].SOPInstanceUID


@pytest.mark.parametrize(
    ("modality", "storage", "code", "body_part"),
    [
        ("xray", "Digital X-Ray Image Storage - For Presentation", "DX", "CHEST"),
        ("ct", "CT Image Storage", "CT", "HEAD"),
        ("mr", "MR Image Storage", "MR", "BRAIN"),
        ("us", "Ultrasound Image Storage", "US", "BREAST"),
    ],
)
def test_files_say_what_they_are(archive: Path, modality: str, storage: str, code: str, body_part: str) -> None:
    datasets = read(archive, modality)
    identifiers = set()
    for dataset in datasets:
        assert dataset.preamble == b"\0" * 128
        assert dataset.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert UID(dataset.SOPClassUID).name == storage
        assert (dataset.Modality, dataset.BodyPartExamined) == (code, body_part)
        assert dataset.Manufacturer == "scoutview phantoms"
        assert dataset.ManufacturerModelName == f"generator {GENERATOR_VERSION}"
        assert dataset.PatientID.startswith(f"PHANTOM-{modality}-")
        assert all(uid.is_valid for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID))
        identifiers.add(dataset.SOPInstanceUID)
    assert len(identifiers) == len(datasets)


def test_ct_values_round_trip_to_hounsfield_units(archive: Path) -> None:
    drawn = draw_head_ct(SEED, 1, slices=SLICES, size=SIZE)
    files = sorted((archive / "images" / "ct" / "P0002").glob("*.dcm"))
    for image, path in zip(drawn, files, strict=True):
        dataset = pydicom.dcmread(path)
        hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert dataset.RescaleType == "HU"
        assert np.array_equal(hounsfield, image.pixels)


def test_mr_and_ultrasound_values_round_trip(archive: Path) -> None:
    for image, path in zip(
        draw_brain_mr(SEED, 2, slices=SLICES, size=SIZE),
        sorted((archive / "images" / "mr" / "P0003").glob("*.dcm")),
        strict=True,
    ):
        assert np.array_equal(pydicom.dcmread(path).pixel_array, image.pixels)
    interpretations = set()
    for index, dataset in enumerate(read(archive, "us")):
        pixels = draw_ultrasound(SEED, index, size=SIZE).pixels
        interpretations.add(dataset.PhotometricInterpretation)
        stored = dataset.pixel_array
        if dataset.PhotometricInterpretation == "RGB":
            assert all(np.array_equal(stored[..., channel], pixels) for channel in range(3))
        else:
            assert np.array_equal(stored, pixels)
        region = dataset.SequenceOfUltrasoundRegions[0]
        assert region.PhysicalDeltaX * SIZE == pytest.approx(4.5)
    assert interpretations == {"RGB", "MONOCHROME2"}


def test_an_inverted_radiograph_is_the_same_picture(archive: Path) -> None:
    interpretations = set()
    for index, dataset in enumerate(read(archive, "xray")):
        pixels = draw_radiograph(SEED, index, size=SIZE).pixels
        interpretations.add(dataset.PhotometricInterpretation)
        stored = dataset.pixel_array.astype(np.float32)
        shown = 4095 - stored if dataset.PhotometricInterpretation == "MONOCHROME1" else stored
        assert np.array_equal(shown, pixels)
        assert dataset.BitsStored == 12
        assert dataset.ViewPosition == "PA"
        assert float(dataset.ImagerPixelSpacing[0]) * SIZE == pytest.approx(400.0, abs=0.01)
    assert interpretations == {"MONOCHROME1", "MONOCHROME2"}


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_slices_lie_where_their_tags_say(archive: Path, modality: str) -> None:
    for folder in sorted((archive / "images" / modality).iterdir()):
        series = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        assert [dataset.InstanceNumber for dataset in series] == list(range(1, SLICES + 1))
        for tag in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
            assert len({dataset[tag].value for dataset in series}) == 1
        positions = np.array([[float(v) for v in dataset.ImagePositionPatient] for dataset in series])
        steps = np.diff(positions, axis=0)
        assert steps[:, 2] == pytest.approx(float(series[0].SpacingBetweenSlices), abs=1e-5)
        assert np.all(steps[:, :2] == 0)
        # The image's middle is the head's middle.
        spacing = float(series[0].PixelSpacing[0])
        assert positions[0, 0] + spacing * (SIZE - 1) / 2 == pytest.approx(0.0, abs=1e-4)
        assert list(series[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]


def test_labels_name_every_file_once(archive: Path) -> None:
    with (archive / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    written = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.dcm"))
    assert sorted(row["file"] for row in rows) == written
    by_file = {row["file"]: row for row in rows}
    for index in range(PATIENTS["ct"]):
        for number, image in enumerate(draw_head_ct(SEED, index, slices=SLICES, size=SIZE), start=1):
            row = by_file[f"images/ct/P{index + 1:04d}/{number:04d}.dcm"]
            assert row["patient"] == f"PHANTOM-ct-{index + 1:04d}"
            assert {label: int(row[label]) for label in image.labels} == image.labels
            assert all(row[label] == "" for label in ("lesion", "pneumothorax", "metastasis", "cyst", "mass"))


def test_masks_and_boxes_repeat_the_drawing(archive: Path) -> None:
    coco = json.loads((archive / "boxes.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    found: dict[str, list[tuple[str, list[int]]]] = {name: [] for name in files.values()}
    for annotation in coco["annotations"]:
        found[files[annotation["image_id"]]].append((names[annotation["category_id"]], annotation["bbox"]))
    for index in range(PATIENTS["us"]):
        image = draw_ultrasound(SEED, index, size=SIZE)
        boxes = [(box.label, [box.x, box.y, box.width, box.height]) for box in image.boxes]
        assert found[f"images/us/P{index + 1:04d}/0001.dcm"] == boxes
        for label, mask in image.masks.items():
            path = archive / "masks" / "us" / f"P{index + 1:04d}-0001-{label}.png"
            assert path.exists() == mask.any()
            if path.exists():
                assert np.array_equal(np.asarray(Image.open(path)), mask * np.uint8(255))


def test_the_generator_version_is_stored(archive: Path) -> None:
    stored = json.loads((archive / "phantoms.json").read_text(encoding="utf-8"))
    assert stored["generator_version"] == GENERATOR_VERSION
    assert stored["seed"] == SEED
    assert stored["patients"] == PATIENTS
    assert stored["images"] == 10 + 3 * SLICES + 3 * SLICES + 8


def test_unknown_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no modality 'pet'"):
        write_phantoms(tmp_path, patients={"pet": 1})
    with pytest.raises(UsageError, match="use 0 or more"):
        write_phantoms(tmp_path, patients={"ct": -1})
