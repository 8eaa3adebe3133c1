"""MetaImage, NRRD and NIfTI of several volumes: one volume in three formats, against SimpleITK and nibabel."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as Itk

from scoutview.ingest import RefusedError, read_file, run_ingest, volume_slices, voxels
from scoutview.ingest.files import SourceFile
from scoutview.ingest.joining import Targets
from scoutview.ingest.nifti import open_nifti
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT
from scoutview.store import Store


def values(shape: tuple[int, ...] = (20, 24, 30), dtype: type = np.int16, seed: int = 0) -> np.ndarray:
    """[x, y, z, ...]: every voxel tells where it lies, with some noise."""
    generator = np.random.default_rng(seed)
    grid = sum(step * index for step, index in zip((1, 30, 500, 7), np.indices(shape), strict=False))
    return (grid + generator.integers(0, 5, shape)).astype(dtype)


def oblique(spacing: tuple[float, float, float] = (1.0, 1.25, 4.0)) -> np.ndarray:
    """An affine from voxels to RAS, turned by 0.3 about z and 0.2 about x, with the first axis to the left."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([-1, 1, 1]) * spacing
    affine[:3, 3] = (-30, 12, 7)
    return affine


def itk_image(array: np.ndarray, affine: np.ndarray) -> Itk.Image:
    """The volume [x, y, z] that lies where `affine` (to RAS) says."""
    image = Itk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write(path: Path, array: np.ndarray, affine: np.ndarray, compressed: bool = False) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    else:
        Itk.WriteImage(itk_image(array, affine), str(path), compressed)
    return path


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_a_volume_is_the_same_in_every_format(tmp_path: Path, suffix: str, compressed: bool, dtype: type) -> None:
    array = values(dtype=dtype) / (777 if np.dtype(dtype).kind == "f" else 1)
    array = array.astype(dtype)
    expected = read_file(write(tmp_path / "v.nii.gz", array, oblique()), "mr")
    path = write(tmp_path / f"v.{suffix}", array, oblique(), compressed)
    found = read_file(path, "mr")
    assert len(found) == len(expected) == 30
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.slope, one.offset, one.shifted, one.slice_index) == (
            other.slope, other.offset, other.shifted, other.slice_index
        )  # fmt: skip
        assert one.spacing == pytest.approx(other.spacing, rel=1e-5)
        assert one.slice_spacing == pytest.approx(other.slice_spacing, rel=1e-5)
        assert one.affine == pytest.approx(other.affine, abs=1e-4)
    assert found[0].source_format == ("metaimage" if suffix.startswith("mh") else "nrrd")


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_slices_lie_where_simpleitk_says(tmp_path: Path, suffix: str) -> None:
    array = np.arange(20 * 24 * 30, dtype=np.int16).reshape(20, 24, 30)
    path = write(tmp_path / f"v.{suffix}", array, oblique((4.0, 1.0, 1.5)))
    image = Itk.ReadImage(str(path))
    for shown in read_file(path, "mr")[::7]:
        for row, column in ((0, 0), (3, 11), (19, 5)):
            voxel = np.unravel_index(int(shown.pixels[row, column]), array.shape)
            place = image.TransformIndexToPhysicalPoint([int(index) for index in voxel])
            assert shown.affine is not None
            assert np.reshape(shown.affine, (3, 4)) @ (column, row, 0, 1) == pytest.approx(place, abs=1e-4)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "RAS"])
def test_the_other_spaces_of_nrrd(tmp_path: Path, space: str) -> None:
    path = write(tmp_path / "v.nrrd", values(), oblique())
    path.write_bytes(path.read_bytes().replace(b"left-posterior-superior", space.encode()))
    image = Itk.ReadImage(str(path))
    first = read_file(path, "mr")[0]
    assert first.affine is not None
    corner = np.reshape(first.affine, (3, 4)) @ (0, 0, 0, 1)
    voxel = image.TransformPhysicalPointToIndex(corner.tolist())
    assert first.pixels[0, 0] == image.GetPixel(*voxel)
    assert image.TransformIndexToPhysicalPoint(voxel) == pytest.approx(corner, abs=1e-4)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha"])
@pytest.mark.parametrize("count", [2, 8, 21])
def test_volumes_of_a_time_series(tmp_path: Path, suffix: str, count: int) -> None:
    array = values((20, 24, 5, count))
    path = tmp_path / f"v.{suffix}"
    if suffix == "mha":
        image = Itk.JoinSeries([itk_image(array[..., number], oblique()) for number in range(count)])
        Itk.WriteImage(image, str(path))
    else:
        nib.save(nib.Nifti1Image(array, oblique()), path)
    found = list(read_source_file(SourceFile(path, Path(path.name)), path, "mr", STRICT).images)
    numbers = sorted({int(index.partition("/")[0]) for index, _ in found})
    assert numbers == [int((place + 0.5) * count / min(8, count)) for place in range(min(8, count))]
    assert len(found) == 5 * len(numbers)
    assert len({image.stack for _, image in found}) == len(numbers)
    assert {image.series for _, image in found} == {path.name}
    alone = {number: read_file(write(tmp_path / "one.nii", array[..., number], oblique()), "mr") for number in numbers}
    for index, image in found:
        number, slice_index = (int(part) for part in index.split("/"))
        np.testing.assert_array_equal(image.pixels, alone[number][slice_index].pixels)
        assert image.affine == pytest.approx(alone[number][slice_index].affine, abs=1e-4)
        assert image.flags == ("series_sample",)


def test_labels_name_the_slices_of_a_time_series(tmp_path: Path) -> None:
    source = tmp_path / "source" / "deep"
    source.mkdir(parents=True)
    nib.save(nib.Nifti1Image(values((20, 24, 5, 3)), oblique()), source / "v.nii")
    write(source / "w.nii", values((20, 24, 6)), oblique())
    run_ingest([tmp_path / "source"], tmp_path / "store", modality="mr", workers=1)
    rows = list(Store.open(tmp_path / "store").rows())
    targets = Targets.of(rows, Pseudonyms.from_environment())
    by_image = {row.image: row for row in rows}
    found = targets.by_file("deep/v.nii#2/4")
    assert found is not None
    assert by_image[found].slice_index == 4
    assert len({by_image[str(targets.by_file(f"deep/v.nii#{n}/4"))].stack for n in range(3)}) == 3
    assert targets.by_file("deep/v.nii") == by_image[found].series
    assert targets.by_file("deep/v.nii#4") is None  # of which volume?
    assert targets.by_file("deep/v.nii#3/4") is None
    assert by_image[str(targets.by_file("w#4"))].slice_index == 4


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint64])
@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_small_blocks_give_what_nibabel_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int, dtype: type, slope: float
) -> None:
    spacing = [1.0, 1.25, 1.5]
    spacing[axis] = 4.0
    image = nib.Nifti1Image(values(dtype=dtype), oblique((spacing[0], spacing[1], spacing[2])), dtype=dtype)
    image.header.set_slope_inter(slope, 3)
    (tmp_path / "v.nii").write_bytes(image.to_bytes())
    whole = read_file(tmp_path / "v.nii", "mr")
    monkeypatch.setattr(voxels, "BLOCK", 3000)
    monkeypatch.setattr(volume_slices, "BLOCK", 5000)
    expected = nib.as_closest_canonical(nib.load(tmp_path / "v.nii")).get_fdata()
    parts = read_file(tmp_path / "v.nii", "mr")
    for index, (part, one) in enumerate(zip(parts, whole, strict=True)):
        np.testing.assert_array_equal(part.pixels, one.pixels)
        shown = np.take(expected, index, axis)[::-1, ::-1].T
        np.testing.assert_allclose(part.pixels * part.slope + part.offset, shown, atol=abs(slope))


def test_a_gzip_bomb_is_not_inflated(tmp_path: Path) -> None:
    data = nib.Nifti1Image(values(), oblique()).to_bytes()
    (tmp_path / "v.nii").write_bytes(gzip.compress(data + bytes(2**24)))
    with pytest.raises(RefusedError) as caught:
        read_file(tmp_path / "v.nii", "mr")
    assert caught.value.reason == "too_large"
    header = bytearray(data)
    header[40:56] = np.array([3, 4000, 4000, 4000, 1, 1, 1, 1], "<i2").tobytes()
    (tmp_path / "v.nii").write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(RefusedError) as caught:
        open_nifti(tmp_path / "v.nii")
    assert caught.value.reason == "too_large"


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    data = nib.Nifti1Image(values(), oblique()).to_bytes()
    (tmp_path / "a.nii").write_bytes(data)
    (tmp_path / "b.nii").write_bytes(gzip.compress(data[:3000]) + gzip.compress(data[3000:]) + bytes(700))
    pairs = zip(read_file(tmp_path / "a.nii", "mr"), read_file(tmp_path / "b.nii", "mr"), strict=True)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in pairs)


@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
def test_damaged_compressed_voxels_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v.{suffix}", values(), oblique(), compressed=True)
    data = path.read_bytes()
    generator = np.random.default_rng(3)
    for place in generator.integers(len(data) * 2 // 3, len(data) - 8, 60):
        changed = bytearray(data)
        changed[place] ^= 16
        path.write_bytes(changed)
        with pytest.raises(RefusedError) as caught:
            read_file(path, "mr")
        assert caught.value.reason in ("decode_error", "truncated", "too_large")
    path.write_bytes(data[:-9])
    with pytest.raises(RefusedError) as caught:
        read_file(path, "mr")
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "deep/secret.raw", "..", "LIST", "v%02d.raw 1 3 1",
                                  "link.raw", "gone.raw", "pipe\\secret.raw"])  # fmt: skip
@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_a_data_file_elsewhere_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, name: str
) -> None:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    path = write(folder / f"v.{suffix}", values(), oblique())
    secret = (folder / "v.raw").read_bytes()
    for place in (tmp_path / "secret.raw", folder / "deep" / "secret.raw"):
        place.write_bytes(secret)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    path.write_bytes(path.read_bytes().replace(b"v.raw", name.encode()))
    opened: list[Path] = []
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self), original(self, *a, **k))[1])
    with pytest.raises(RefusedError) as caught:
        read_file(path, "mr")
    assert caught.value.reason == "unsupported_format"
    assert set(opened) == {path}


def edited(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


CASES = [
    ("mha", "bad_header", b"CompressedData = False", b"CompressedData = True"),
    ("nrrd", "bad_header", b"kinds: domain", b"kinds: dnan"),
    ("nrrd", "bad_header", b"NRRD0004\n", b"NRRD0004x"),
    ("mha", "bad_header", b"DimSize = 20 24 30", b"DimSize = 20 24"),
    ("mha", "bad_header", b"DimSize = 20 24 30", b"DimSize = 20 0 30"),
    ("mha", "bad_header", b"DimSize = 20 24 30", b"DimSize = 20 24 x"),
    ("mha", "bad_header", b"Offset = ", b"NDims = 3\nOffset = "),
    ("mha", "bad_header", b"Offset = ", b"ElementToIntensityFunctionSlope = 2\nOffset = "),
    ("mha", "bad_header", b"ElementSpacing = 1", b"ElementSpacing = 0"),
    ("mha", "bad_header", b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = perhaps"),
    ("mha", "bits", b"MET_SHORT", b"MET_STRING"),
    ("mha", "color", b"ElementType", b"ElementNumberOfChannels = 3\nElementType"),
    ("mha", "no_orientation", b"TransformMatrix", b"Transform"),
    ("mha", "too_large", b"DimSize = 20 24 30", b"DimSize = 9000 9000 30"),
    ("mha", "too_large", b"DimSize = 20 24 30", b"DimSize = 2000 2000 9000"),
    ("mha", "truncated", b"DimSize = 20 24 30", b"DimSize = 20 24 31"),
    ("mha", "bad_header", b"ElementDataFile", b"ElementData"),
    ("mha", "unsupported_format", b"BinaryData = True", b"BinaryData = False"),
    ("nrrd", "bad_header", b"sizes: 20 24 30", b"sizes: 20 24"),
    ("nrrd", "bad_header", b"endian: little", b"endian: middle"),
    ("nrrd", "bad_header", b"endian: little", b'endian: little\nspace units: "cm" "cm" "cm"'),
    ("nrrd", "bad_header", b"space origin: (", b"space origin: (x"),
    ("nrrd", "bits", b"type: short", b"type: block"),
    ("nrrd", "color", b"kinds: domain", b"kinds: RGB-color"),
    ("nrrd", "no_orientation", b"space: left-posterior-superior", b"space dimension: 3"),
    ("nrrd", "no_orientation", b"space directions", b"spacings"),
    ("nrrd", "too_large", b"sizes: 20 24 30", b"sizes: 9000 9000 30"),
    ("nrrd", "truncated", b"sizes: 20 24 30", b"sizes: 20 24 31"),
    ("nrrd", "unsupported_format", b"encoding: raw", b"encoding: text"),
    ("nrrd", "unsupported_format", b"encoding: raw", b"encoding: raw\nline skip: 2"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "reason", "old", "new"), CASES, ids=[f"{i}-{c[1]}" for i, c in enumerate(CASES)])
def test_a_bad_header_is_refused_with_its_reason(
    tmp_path: Path, suffix: str, reason: str, old: bytes, new: bytes
) -> None:
    path = edited(write(tmp_path / f"v.{suffix}", values(), oblique()), old, new)
    with pytest.raises(RefusedError) as caught:
        read_file(path, "mr")
    assert caught.value.reason == reason
    assert caught.value.detail


def test_a_header_that_announces_less_than_is_compressed(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mha", values(), oblique(), compressed=True)
    edited(path, b"DimSize = 20 24 30", b"DimSize = 20 24 29")
    with pytest.raises(RefusedError) as caught:
        read_file(path, "mr")
    assert caught.value.reason == "too_large"


def test_interleaved_volumes_of_a_nrrd_are_refused(tmp_path: Path) -> None:
    header = (
        b"NRRD0005\ntype: short\ndimension: 4\nspace: RAS\nsizes: 6 20 24 5\n"
        b"space directions: none (1,0,0) (0,1,0) (0,0,1)\nencoding: gzip\nendian: little\nkey:=none\n\n"
    )
    (tmp_path / "v.nrrd").write_bytes(header + gzip.compress(values((6, 20, 24, 5)).tobytes()))
    with pytest.raises(RefusedError) as caught:
        read_file(tmp_path / "v.nrrd", "mr")
    assert caught.value.reason == "four_dimensional"
    last = header.replace(b"6 20 24 5", b"20 24 5 6").replace(
        b"none (1,0,0) (0,1,0) (0,0,1)", b"(1,0,0)(0,1,0) (0,0,1)none"
    )
    array = values((20, 24, 5, 6))
    (tmp_path / "v.nrrd").write_bytes(last + gzip.compress(array.tobytes(order="F")))
    images = read_file(tmp_path / "v.nrrd", "mr")
    np.testing.assert_array_equal(images[7].pixels, array[::-1, ::-1, 2, 1].T)


def test_a_zlib_stream_in_a_metaimage_written_by_hand(tmp_path: Path) -> None:
    """Most significant byte first, the alternative names of the fields, and a data file with a header of its own."""
    array = values()
    header = (
        b"NDims = 3\nDimSize = 20 24 30\nElementType = MET_SHORT\nElementByteOrderMSB = True\n"
        b"Orientation = 1 0 0 0 1 0 0 0 1\nPosition = 1 2 3\nElementSize = 1 1 2\n"
        b"HeaderSize = %d\n%bElementDataFile = v.raw\n"
    )
    (tmp_path / "v.mhd").write_bytes(header % (-1, b""))
    (tmp_path / "v.raw").write_bytes(b"x" * 77 + array.astype(">i2").tobytes(order="F"))
    expected = Itk.GetArrayFromImage(Itk.ReadImage(str(tmp_path / "v.mhd")))
    np.testing.assert_array_equal(expected, array.T)
    found = read_file(tmp_path / "v.mhd", "mr")
    np.testing.assert_array_equal(found[4].pixels, array.T[4])
    (tmp_path / "v.mhd").write_bytes(header % (77, b"CompressedData = True\nCompressedDataSize = 1\n"))
    (tmp_path / "v.raw").write_bytes(b"x" * 77 + zlib.compress(array.astype(">i2").tobytes(order="F")))
    np.testing.assert_array_equal(read_file(tmp_path / "v.mhd", "mr")[4].pixels, array.T[4])
