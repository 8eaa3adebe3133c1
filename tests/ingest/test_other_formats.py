"""NIfTI, pictures and arrays against nibabel, Pillow and NumPy."""

from __future__ import annotations

import gzip
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from source_files import picture, write_png

from scoutview.ingest import RefusedError, read_file
from scoutview.ingest.arrays import read_npz

GREY = picture(highest=255).astype(np.uint8)


def marked_volume() -> np.ndarray:
    """[right, anterior, superior]: a ramp in each direction that tells where every voxel lies."""
    x, y, z = np.mgrid[0:20, 0:24, 0:30]
    return (x + 100 * y + 1000 * z).astype(np.int16)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "AIL"])
@pytest.mark.parametrize(("thick", "axis"), [("S", 2), ("A", 1), ("R", 0)])
def test_slices_are_upright_however_the_axes_are_stored(tmp_path: Path, codes: str, thick: str, axis: int) -> None:
    spacing = [1.0, 1.1, 1.2]
    spacing[axis] = 4.0
    canonical = nib.Nifti1Image(marked_volume(), np.diag([*spacing, 1.0]))
    stored = canonical.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    )
    assert "".join(nib.aff2axcodes(stored.affine)) == codes
    nib.save(stored, tmp_path / "v.nii.gz")
    images = read_file(tmp_path / "v.nii.gz", "mr")
    volume = marked_volume()
    assert len(images) == volume.shape[axis]
    for index in (0, 7, len(images) - 1):
        plane = np.take(volume, index, axis)
        rows, columns = plane.shape[1], plane.shape[0]
        expected = np.empty((rows, columns))
        for row in range(rows):  # first row: anterior, or superior; first column: the patient's right, or anterior
            for column in range(columns):
                expected[row, column] = plane[columns - 1 - column, rows - 1 - row]
        np.testing.assert_array_equal(images[index].pixels, expected)
        assert images[index].slice_index == index
        assert images[index].slice_position == pytest.approx(4.0 * index)
        others = [spacing[other] for other in range(3) if other != axis]
        assert images[index].spacing == pytest.approx((others[1], others[0]))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_affine_leads_to_where_nibabel_says(tmp_path: Path, codes: str, axis: int) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    spacing = np.array([1.0, 1.1, 1.2])
    spacing[axis] = 4.0
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, (-30, 12, 7)
    volume = np.arange(20 * 24 * 30, dtype=np.int16).reshape(20, 24, 30)
    stored = nib.Nifti1Image(volume, affine).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    )
    nib.save(stored, tmp_path / "v.nii.gz")
    images = read_file(tmp_path / "v.nii.gz", "mr")
    assert len({image.stack for image in images}) == 1
    for image in images[:: len(images) - 1]:
        for row, column in ((0, 0), (3, 11), (19, 5)):
            voxel = np.unravel_index(int(image.pixels[row, column]), volume.shape)
            expected = np.array([-1, -1, 1]) * nib.affines.apply_affine(affine, voxel)
            assert image.affine is not None
            np.testing.assert_allclose(np.reshape(image.affine, (3, 4)) @ (column, row, 0, 1), expected, atol=1e-4)
        assert image.slice_spacing == pytest.approx(4.0, rel=1e-5)


def test_slope_and_intercept_of_a_volume(tmp_path: Path) -> None:
    image = nib.Nifti1Image(marked_volume(), np.eye(4))
    image.header.set_slope_inter(0.25, -7)
    data = bytearray(image.to_bytes())
    (tmp_path / "v.nii").write_bytes(bytes(data))
    expected = nib.load(tmp_path / "v.nii").get_fdata()
    first = read_file(tmp_path / "v.nii", "mr")[5]
    np.testing.assert_allclose(first.pixels * first.slope + first.offset, expected[::-1, ::-1, 5].T, atol=1e-3)


def test_a_ct_volume_is_in_hounsfield_units(tmp_path: Path) -> None:
    values = (marked_volume() // 10 - 1024).astype(np.int32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii.gz")
    images = read_file(tmp_path / "v.nii.gz", "ct")
    assert {image.units for image in images} == {"HU"}
    np.testing.assert_array_equal(images[3].pixels * images[3].slope + images[3].offset, values[::-1, ::-1, 3].T)


def test_float_volumes_are_quantised_over_the_volume(tmp_path: Path) -> None:
    values = marked_volume().astype(np.float32) / 777
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")
    images = read_file(tmp_path / "v.nii", "mr")
    assert len({(image.slope, image.offset) for image in images}) == 1
    shown = np.stack([image.pixels * image.slope + image.offset for image in images], axis=-1)
    expected = values[::-1, ::-1].transpose(1, 0, 2)
    assert np.abs(shown - expected).max() <= np.ptp(values) / 131070 + 1e-6


def test_constant_slices_are_left_out(tmp_path: Path) -> None:
    values = marked_volume()
    values[..., :4] = 0
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")
    images = read_file(tmp_path / "v.nii", "mr")
    assert [image.slice_index for image in images] == list(range(4, 30))


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(imagecodecs.png_encode(GREY))
    np.testing.assert_array_equal(read_file(tmp_path / "scan.dcm", "us")[0].pixels, GREY)
    data = nib.Nifti1Image(marked_volume(), np.eye(4)).to_bytes()
    (tmp_path / "scan.png").write_bytes(gzip.compress(data))
    assert len(read_file(tmp_path / "scan.png", "mr")) == 30


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_pictures_keep_their_values(tmp_path: Path, suffix: str, bits: int) -> None:
    pixels = GREY if bits == 8 else picture(highest=65535)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(imagecodecs.png_encode(pixels) if suffix == "png" else imagecodecs.tiff_encode(pixels))
    (image,) = read_file(path, "xray")
    np.testing.assert_array_equal(image.pixels * image.slope + image.offset, pixels)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_pictures_saved_in_colour(tmp_path: Path, channels: int, bits: int) -> None:
    pixels = GREY if bits == 8 else picture(highest=65535)
    opaque = np.full_like(pixels, 255 if bits == 8 else 65535)
    colour = np.stack([pixels, opaque] if channels == 2 else [pixels, pixels, pixels, opaque][:channels], axis=-1)
    (image,) = read_file(write_png(tmp_path / "a.png", colour), "xray")
    np.testing.assert_array_equal(image.pixels * image.slope + image.offset, pixels)


def test_a_palette_of_greys_is_read_through(tmp_path: Path) -> None:
    indexed = Pillow.fromarray(GREY, mode="L").convert("P")
    indexed.save(tmp_path / "a.png")
    expected = np.asarray(indexed.convert("L"))
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", "xray")[0].pixels, expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_where_zero_is_white(tmp_path: Path, bits: int) -> None:
    pixels = GREY if bits == 8 else picture(highest=65535)
    path = tmp_path / "a.tif"
    path.write_bytes(imagecodecs.tiff_encode(pixels, photometric="miniswhite"))
    (image,) = read_file(path, "xray")
    np.testing.assert_array_equal(image.pixels * image.slope + image.offset, 2**bits - 1 - pixels.astype(int))


def test_a_float_tiff(tmp_path: Path) -> None:
    values = picture(highest=4000).astype(np.float32) / 999
    Pillow.fromarray(values).save(tmp_path / "a.tif")
    (image,) = read_file(tmp_path / "a.tif", "mr")
    assert np.abs(image.pixels * image.slope + image.offset - values).max() <= np.ptp(values) / 131070 + 1e-6


def test_an_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show it
    Pillow.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", "xray")[0].pixels, np.rot90(GREY, -1))


def test_ultrasound_pictures_become_luma(tmp_path: Path) -> None:
    rgb = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)
    expected = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_array_equal(read_file(write_png(tmp_path / "a.png", rgb), "us")[0].pixels, expected)


def test_npz_parts_and_patients(tmp_path: Path) -> None:
    images = np.stack([picture(20, 24, seed=seed) for seed in range(5)])
    images[1] = 7
    np.savez(tmp_path / "a.npz", train_images=images, train_patient_id=np.array(list("ababc")), test_images=images[:1],
             names=np.array([{"a": 1}], dtype=object))  # fmt: skip
    found = list(read_npz(tmp_path / "a.npz", "xray"))
    assert [index for index, image in found if image.pixels.min() == image.pixels.max()] == ["train/1"]
    taken = [(index, image) for index, image in found if index != "train/1"]
    assert [index for index, _ in taken] == ["test/0", "train/0", "train/2", "train/3", "train/4"]
    assert [image.patient for _, image in taken] == ["", "a", "a", "b", "c"]
    np.testing.assert_array_equal(taken[3][1].pixels, images[3])


def test_a_pickle_in_an_npz_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "exploded"),))

    np.savez(tmp_path / "a.npz", images=np.array([Bomb()], dtype=object))
    with pytest.raises(RefusedError):
        read_file(tmp_path / "a.npz", "xray")
    assert not (tmp_path / "exploded").exists()
