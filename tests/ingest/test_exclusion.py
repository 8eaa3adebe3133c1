"""What stands in a declared test set stays out: by pixels, by patient, by look; a volume as a whole."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from samples import textured
from source_files import write_dicom, write_png

from scoutview.commands.inspect import inspect
from scoutview.errors import UsageError
from scoutview.images.hashes import difference_hash, small_copy
from scoutview.ingest import Pseudonyms, run_ingest
from scoutview.phantoms.traps import sampled, series, write_all
from scoutview.store import Store
from scoutview.store.duplicates import Lookalikes


def radiograph(seed: int, size: int = 160) -> np.ndarray:
    return (textured(np.random.default_rng(seed), size, size + 16) * 4000).astype(np.uint16)


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """A store of four radiographs of four patients."""
    for number in range(4):
        write_dicom(tmp_path / "test" / f"{number}.dcm", radiograph(number), "DX", PatientID=f"P{number}")
    run_ingest([tmp_path / "test"], tmp_path / "test_store", workers=1)
    return tmp_path / "test_store"


def test_copies_relatives_and_lookalikes_are_excluded(tmp_path: Path, test_set: Path) -> None:
    source = tmp_path / "source"
    write_png(source / "same_pixels.png", radiograph(0))
    write_dicom(source / "same_patient.dcm", radiograph(50), "DX", PatientID="P1")
    half = radiograph(2).reshape(80, 2, 88, 2).mean((1, 3)) / 4000 * 255
    write_png(source / "half_the_size.png", half.astype(np.uint8))
    jpeg = imagecodecs.jpeg8_encode((radiograph(3) / 4000 * 255).astype(np.uint8), level=40)
    (source / "jpeg.jpg").write_bytes(jpeg)
    write_dicom(source / "other.dcm", radiograph(60), "DX", PatientID="P9")
    summary = run_ingest([source], tmp_path / "store", modality="xray", exclude=[test_set], workers=1)
    assert (summary.taken, summary.reasons) == (1, {"excluded": 4})
    details = {Path(entry["path"]).name: entry["detail"] for entry in Store.open(tmp_path / "store").quarantined()}
    assert "same pixels" in details["same_pixels.png"]
    assert "patient" in details["same_patient.dcm"]
    assert "looks the same" in details["half_the_size.png"]
    assert "looks the same" in details["jpeg.jpg"]
    later = run_ingest([source], tmp_path / "store", modality="xray", workers=1)
    assert (later.taken, later.reasons) == (5, {})


def test_under_another_secret_pixels_and_looks_still_count(tmp_path: Path, test_set: Path) -> None:
    write_dicom(tmp_path / "source" / "same_patient.dcm", radiograph(50), "DX", PatientID="P1")
    write_png(tmp_path / "source" / "same_pixels.png", radiograph(0))
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", modality="xray", exclude=[test_set], workers=1,
                         pseudonyms=Pseudonyms(b"another secret altogether"))  # fmt: skip
    assert (summary.taken, summary.reasons) == (1, {"excluded": 1})


def test_a_volume_is_excluded_as_a_whole(tmp_path: Path) -> None:
    slices = sampled(series())
    write_all(tmp_path / "test", slices[2:5])
    run_ingest([tmp_path / "test"], tmp_path / "test_store", workers=1)
    write_all(tmp_path / "source", slices, PatientID="ELSE")
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", exclude=[tmp_path / "test_store"], workers=1)
    assert summary.reasons == {"excluded": 7}


def test_a_store_that_holds_them_already_is_refused(tmp_path: Path, test_set: Path) -> None:
    write_png(tmp_path / "source" / "a.png", radiograph(0))
    run_ingest([tmp_path / "source"], tmp_path / "store", modality="xray", workers=1)
    with pytest.raises(UsageError, match="already holds 1 images that are to be excluded"):
        run_ingest([tmp_path / "source"], tmp_path / "store", modality="xray", exclude=[test_set], workers=1)
    with pytest.raises(UsageError, match="not a store"):
        run_ingest([tmp_path / "source"], tmp_path / "new", exclude=[tmp_path / "source"], workers=1)


def test_a_small_copy_is_the_mean_of_its_cells() -> None:
    pixels = radiograph(1).astype(np.int16)
    rows, columns = np.linspace(0, 160, 33).astype(int), np.linspace(0, 176, 33).astype(int)
    cells = np.array(
        [
            [pixels[rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(float).mean() for j in range(32)]
            for i in range(32)
        ]
    )
    other = radiograph(2).astype(np.int16)
    np.testing.assert_allclose(
        small_copy(pixels), ((cells - cells.mean()) / np.linalg.norm(cells - cells.mean())).ravel()
    )
    expected = np.corrcoef(small_copy(pixels), small_copy(other))[0, 1]
    assert float(small_copy(pixels) @ small_copy(other)) == pytest.approx(expected)
    assert not small_copy(np.full((40, 40), 7, np.int16)).any()


def test_pairs_that_look_alike_against_brute_force(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(12):
        write_png(source / f"{number}.png", radiograph(number))
    for number in range(3):
        noisy = radiograph(number) + np.random.default_rng(number).integers(0, 40, (160, 176)).astype(np.uint16)
        write_png(source / f"copy{number}.png", noisy)
    run_ingest([source], tmp_path / "store", modality="xray", workers=1)
    store = Store.open(tmp_path / "store")
    rows = store.rows()
    expected = set()
    for i, first in enumerate(rows):
        for second in rows[i + 1 :]:
            one, two = store.read(first), store.read(second)
            bits = (int(difference_hash(one), 16) ^ int(difference_hash(two), 16)).bit_count()
            if bits <= 6 and float(small_copy(one) @ small_copy(two)) >= 0.98:
                expected.add(frozenset((first.image, second.image)))
    found = {frozenset((pair.first.image, pair.second.image)) for pair in Lookalikes.of(store, rows).pairs()}
    assert found == expected
    assert len(found) == 3


def test_inspect_counts_what_stands_in_two_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    for number in range(4):
        write_png(source / f"{number}.png", radiograph(number))
        write_png(source / f"copy{number}.png", np.maximum(radiograph(number), 30))
    (source / "same.png").write_bytes((source / "3.png").read_bytes())
    labels = tmp_path / "labels.csv"
    lines = ["file,patient,split", *(f"{n}.png,p{n},train" for n in range(4)), "copy0.png,p0,test",
             "copy1.png,q1,test", "copy2.png,p2,train", "copy3.png,q3,train", "same.png,q4,test"]  # fmt: skip
    labels.write_text("\n".join(lines))
    run_ingest([source], tmp_path / "store", modality="xray", labels=labels, workers=1)
    leaks = inspect(tmp_path / "store", near=True)["leaks"]
    assert (leaks["patients"], leaks["same_pixels"]) == (1, 1)
    # four copies, and the copy of 3 beside its twin
    assert (leaks["near_pairs"], leaks["near_pairs_across_splits"]) == (5, 3)
    assert "near_pairs" not in inspect(tmp_path / "store")["leaks"]
    assert "in more than one split" in capsys.readouterr().out
