"""BraTS-METS and BrainMetShare; NIfTI label volumes in the order in which ingest stores slices."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from layout_files import said, take, values, write_mask, write_pictures

from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest.layouts import brainmetshare, brats_mets, find_layout
from scoutview.ingest.layouts.nifti_masks import slices_of
from scoutview.store import Store, bitmap_of, image_labels, read_annotations, split_of


def volume(shape: tuple[int, int, int] = (36, 40, 34), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


AFFINES = {
    "axial RAS": np.diag([1.0, 1.1, 1.2, 1.0]),
    "axial LPS": np.array([[-1.0, 0, 0, 9], [0, -1.1, 0, 8], [0, 0, 1.2, 7], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, 4.0, 1], [-1.0, 0, 0, 2], [0, -1.1, 0, 3], [0, 0, 0, 1]]),
    "coronal": np.array([[1.0, 0, 0, 1], [0, 0, 4.0, 2], [0, 1.1, 0, 3], [0, 0, 0, 1]]),
    "oblique": np.array([[0.98, -0.17, 0, 1], [0.17, 0.98, 0.1, 2], [0, -0.1, 3.0, 3], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_masks_lie_on_the_pixels_that_they_were_drawn_from(tmp_path: Path, affine: np.ndarray) -> None:
    """The mask of all voxels above a threshold is, in every stored slice, its pixels above that threshold."""
    values = volume()
    image = write_nifti(tmp_path / "source" / "scan.nii.gz", values, affine)
    mask = write_nifti(tmp_path / "mask.nii.gz", (values > 800).astype(np.uint8), affine)
    store, _ = take(image.parent, tmp_path / "store", modality="mr")
    masks = dict(slices_of(mask, image))
    rows = store.rows()
    assert len(rows) == len(masks) >= 34
    for row in rows:
        stored = store.read(row) * row.slope + row.offset
        np.testing.assert_array_equal(masks[row.slice_index][1], stored > 800)


def test_masks_of_other_grids_are_refused(tmp_path: Path) -> None:
    values, affine = volume(), AFFINES["axial RAS"]
    image = write_nifti(tmp_path / "scan.nii.gz", values, affine)
    flipped = np.array([[-1.0, 0, 0, 35], [0, 1.1, 0, 0], [0, 0, 1.2, 0], [0, 0, 0, 1]])
    one = (values > 800).astype(np.uint8)
    same = write_nifti(tmp_path / "flipped.nii.gz", one[::-1], flipped)  # the same grid, written from the other side
    expected = dict(slices_of(write_nifti(tmp_path / "mask.nii.gz", one, affine)))
    for index, regions in slices_of(same, image):
        np.testing.assert_array_equal(regions[1], expected[index][1])
    moved = affine.copy()
    moved[0, 3] = 1.0
    for name, wrong in (("moved", (one, moved)), ("cut", (one[:-1], affine))):
        path = write_nifti(tmp_path / f"{name}.nii.gz", *wrong)
        with pytest.raises(UsageError, match="lies on another grid"):
            list(slices_of(path, image))
    fractions = write_nifti(tmp_path / "fractions.nii.gz", one * np.float32(0.5), affine)
    with pytest.raises(UsageError, match="holds fractions"):
        list(slices_of(fractions, image))


def brats_case(folder: Path, case: str, regions: np.ndarray | None, *sequences: str) -> None:
    affine = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 39], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    for seed, sequence in enumerate(sequences):
        write_nifti(folder / case / f"{case}-{sequence}.nii.gz", volume(seed=seed), affine)
    if regions is not None:
        write_nifti(folder / case / f"{case}-seg.nii.gz", regions, affine)


def test_brats_mets_regions_time_points_and_unknown_cases(tmp_path: Path) -> None:
    regions = np.zeros((36, 40, 34), dtype=np.uint8)
    regions[4:9, 10:16, 20] = 3
    regions[5:7, 11:13, 20] = 1
    regions[20, 30, 25] = 2
    source = tmp_path / "brats"
    brats_case(source, "BraTS-MET-00001-000", regions, "t1c", "t2f")
    brats_case(source, "BraTS-MET-00001-001", np.zeros_like(regions), "t1c")
    brats_case(source, "BraTS-MET-00002-000", None, "t1c")
    assert find_layout(source)[0] == "brats_mets"
    store, summary = take(source, tmp_path / "store", layout="brats_mets", modality="mr")
    assert summary.reasons == {"label_map": 2}
    rows = {(row.path_key, row.slice_index): row for row in store.rows()}
    assert len({row.patient for row in rows.values()}) == 2  # the last number is a time point
    annotations = read_annotations(store)
    labels = image_labels(annotations, store.rows())
    positive = {rows_ for rows_, value in labels["metastasis"].items() if value == "1"}
    masks = [item for item in annotations if item.kind == "mask" and item.value == "1"]
    assert len(positive) == 2  # slice 20 of two sequences; oedema alone is no metastasis
    assert len(masks) == 2 * 3
    assert len(labels["metastasis"]) == 3 * 34  # the case without a label volume is unknown
    # Right is on the left: voxel (i, j, k) of an LPS volume is column i, row j of slice k.
    enhancing = next(item for item in masks if item.name == "ET")
    expected = np.zeros((40, 36), dtype=bool)
    expected[10:16, 4:9] = True
    expected[11:13, 5:7] = False
    np.testing.assert_array_equal(bitmap_of(enhancing, 40, 36), expected)
    absent = {(item.name, item.value) for item in annotations if item.kind == "mask" and item.value == "0"}
    assert absent == {("NETC", "0"), ("SNFH", "0"), ("ET", "0")}  # of cavities nothing is known
    assert set(labels["sequence"].values()) == {"t1c", "t2f"}


def test_brats_mets_unknown_values(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000", np.full((36, 40, 34), 7, dtype=np.uint8), "t1c")
    with pytest.raises(UsageError, match="holds the value 7: known are 1 NETC"):
        list(brats_mets.read(tmp_path))
    brats_case(tmp_path, "BraTS-MET-00001-000", np.zeros((36, 40, 33), dtype=np.uint8))
    with pytest.raises(UsageError, match=r"seg\.nii\.gz lies on another grid"):
        list(brats_mets.read(tmp_path))


def test_brainmetshare_slices_masks_and_the_test_part(tmp_path: Path) -> None:
    source = tmp_path / "stanford_release_brainmask"
    train, test = "mets_stanford_releaseMask_train/Mets_005", "mets_stanford_releaseMask_test/Mets_200"
    names = [f"{train}/{sequence}/{number}.png" for sequence in "0123" for number in (2, 10)]
    write_pictures(source, *names, f"{test}/0/2.png")
    mask = np.zeros((40, 52), dtype=np.uint8)
    write_mask(source / train / "seg" / "2.png", mask)
    mask[7, 9] = 255
    write_mask(source / train / "seg" / "10.png", mask)
    entries = list(brainmetshare.read(source))
    assert [entry.files[0] for entry in entries][:5] == [*[f"{train}/{n}/2.png" for n in "0123"], f"{train}/0/10.png"]
    store, _ = take(source, tmp_path / "store", layout="brainmetshare", modality="mr")
    known = said(store, *names, f"{test}/0/2.png")
    assert values(known[f"{train}/3/10.png"]) == {"metastasis": "1", "sequence": "FLAIR post"}
    assert values(known[f"{train}/0/2.png"]) == {"metastasis": "0", "sequence": "T1 gradient echo post"}
    assert values(known[f"{test}/0/2.png"]) == {"sequence": "T1 gradient echo post"}
    (found,) = [item for item in known[f"{train}/1/10.png"] if item.kind == "mask"]
    assert np.argwhere(bitmap_of(found, 40, 52)).tolist() == [[7, 9]]
    splits = split_of(store.rows(), read_annotations(store))
    assert splits[known[f"{test}/0/2.png"][0].target] == "test"
    assert splits[known[names[0]][0].target] in ("train", "validation")
    assert len({row.patient for row in store.rows()}) == 2


def test_a_table_of_masks(tmp_path: Path) -> None:
    source = tmp_path / "source"
    affine = AFFINES["oblique"]
    regions = np.zeros((36, 40, 34), dtype=np.uint8)
    regions[3:6, 4:8, 5], regions[9, 9, 5] = 1, 2
    write_nifti(source / "scans" / "a.nii.gz", volume(), affine)
    write_nifti(source / "masks" / "a.nii.gz", regions, affine)
    write_pictures(source, "pictures/p.png", "pictures/q.png")
    mask = np.zeros((40, 52, 3), dtype=np.uint8)
    mask[5:8, 6:9, 1] = 200
    write_mask(source / "masks" / "p.png", mask)
    write_mask(source / "masks" / "q.png", np.zeros((40, 52), dtype=np.uint8))
    table = source / "masks.csv"
    table.write_text(
        "file,mask,name,reader,split\nscans/a.nii.gz,masks/a.nii.gz,lesion,A,test\n"
        "pictures/p.png,masks/p.png,cyst,,\npictures/q.png,masks/q.png,cyst,B,\n"
    )
    for place in ("scans", "pictures"):
        store, _ = take(source / place, tmp_path / place, modality="mr")
        summary = label(tmp_path / place, table, reader="C")
        annotations = read_annotations(Store.open(store.path))
        known = [(item.name, item.value, item.reader) for item in annotations if item.kind == "mask"]
        if place == "scans":
            assert summary.masks == 2
            assert sorted(known) == [
                ("lesion 1", "0", "A"), ("lesion 1", "1", "A"), ("lesion 2", "0", "A"), ("lesion 2", "1", "A")
            ]  # fmt: skip
            assert set(split_of(store.rows(), annotations).values()) == {"test"}
        else:
            assert sorted(known) == [("cyst", "0", "B"), ("cyst", "1", "C")]
            (cyst,) = [item for item in annotations if item.value == "1"]
            assert (cyst.x, cyst.y, cyst.width, cyst.height) == (6, 5, 3, 3)


def test_tables_of_masks_that_are_wrong(tmp_path: Path) -> None:
    write_pictures(tmp_path / "source", "p.png")
    store, _ = take(tmp_path / "source", tmp_path / "store")
    table = tmp_path / "masks.csv"
    table.write_text("file,mask\np.png,none.png\n")
    with pytest.raises(UsageError, match=r"row 2: the mask 'none.png' is not below"):
        label(store.path, table)
    (tmp_path / "broken.png").write_text("no picture")
    table.write_text("file,mask\np.png,broken.png\n")
    with pytest.raises(UsageError, match=r"the mask .*broken\.png cannot be read"):
        label(store.path, table)
    with pytest.raises(UsageError, match="does not say which image it is about"):
        label(store.path, tmp_path / "mask.nii.gz")
    with pytest.raises(UsageError, match="which is no CSV file of labels"):
        label(store.path, table, columns=["mask"])
