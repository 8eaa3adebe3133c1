"""Memory of a process that reads the largest files that are taken, and files that announce or inflate to more.

Run: python benchmarks/reader_memory.py

Every file is read in a process of its own, as a worker of ingest reads it: each image is preprocessed, measured,
encoded and dropped. The figure is the largest resident set of the process, interpreter and libraries included.
About 1 GB of temporary files at a time, a few minutes.
"""

from __future__ import annotations

import gzip
import multiprocessing
import resource
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image as Pillow
from pydicom.encaps import encapsulate

from scoutview.images import encode_spectrum, radial_spectrum
from scoutview.ingest import RefusedError
from scoutview.ingest.files import SourceFile
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import make_record
from scoutview.store.shards import Keys

ROWS, COLUMNS = 5792, 5793
"""Nearly 2^25 px."""
MOST = 1000.0
"""MB."""
CLASSES = {"DX": "1.1.1", "US": "6.1", "MR": "4"}


def picture(highest: int, rows: int = ROWS, columns: int = COLUMNS) -> npt.NDArray[np.uint16]:
    """A smooth image with a little noise, up to `highest`."""
    y, x = np.ogrid[0:rows, 0:columns]
    smooth = (np.sin(x / 91).astype(np.float32) + np.cos(y / 77).astype(np.float32) + 2) / 4
    noise = np.random.default_rng(0).integers(0, max(1, highest // 50), (rows, columns), dtype=np.uint16)
    return (smooth * np.float32(highest * 0.97)).astype(np.uint16) + noise


def dicom(path: Path, pixels: npt.NDArray[Any], modality: str, **elements: Any) -> None:
    """A DICOM file; syntax and frame: of compressed pixels."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = elements.pop("syntax", "1.2.840.10008.1.2.1")
    frame = elements.pop("frame", None)
    dataset.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{CLASSES[modality]}"
    dataset.SOPInstanceUID = dataset.StudyInstanceUID = dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality = modality
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pixels.tobytes() if frame is None else encapsulate([frame])
    dataset["PixelData"].VR = "OW" if frame is None else "OB"
    dataset["PixelData"].is_undefined_length = frame is not None
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def volume(path: Path, shape: tuple[int, ...], dtype: str, thick: int = 2) -> None:
    """An uncompressed NIfTI volume of noise, whose slices lie across the axis `thick`, written a plane at a time."""
    zooms = [1.0, 1.0, 1.0, 1.0]
    zooms[thick] = 4.0
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.diag(zooms), code=1)
    header.set_data_offset(352)
    generator = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(header.binaryblock.ljust(352, b"\0"))
        for _ in range(int(np.prod(shape[2:]))):
            stream.write(generator.integers(0, 3000, shape[:2]).astype(dtype).tobytes())


def packed_bomb(path: Path, head: bytes, gigabytes: int, wrapping: int = 31) -> None:
    """`head` and then zeros, compressed a thousandfold."""
    packer = zlib.compressobj(1, zlib.DEFLATED, wrapping)
    with path.open("wb") as stream:
        stream.write(packer.compress(head))
        for _ in range(16 * gigabytes):
            stream.write(packer.compress(bytes(2**26)))
        stream.write(packer.flush())


def deflated_bomb(path: Path) -> None:
    """A deflated DICOM file whose data set inflates to 1 GB."""
    dicom(path, picture(999, 64, 64), "MR", syntax="1.2.840.10008.1.2.1.99")
    with path.open("rb") as stream:
        head = stream.read(132 + 12)
        head += stream.read(int.from_bytes(head[-4:], "little"))
        data = zlib.decompress(stream.read(), -15)
    bomb = path.with_suffix(".part")
    packed_bomb(bomb, data, 1, -15)
    path.write_bytes(head + bomb.read_bytes())


def arrays(path: Path) -> None:
    """An .npz file of 0.8 GB of images."""
    image = picture(60000, 1024, 1024)
    np.savez(path, images=np.lib.stride_tricks.as_strided(image, (400, 1024, 1024), (0, *image.strides)))


def grey(bits: int) -> npt.NDArray[Any]:
    """A picture of the largest size."""
    return picture(2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)


def colour(bits: int, channels: int) -> npt.NDArray[Any]:
    """A coloured picture of the largest size, opaque."""
    whole = np.repeat(grey(bits)[..., None], channels, axis=2)
    whole[..., 1] //= 2
    if channels == 4:
        whole[..., 3] = 2**bits - 1
    return whole


CASES: dict[str, tuple[str | None, Callable[[Path], Any]]] = {
    "DICOM, 16 bits, window": (None, lambda p: dicom(p, grey(16), "DX", WindowCenter=30000, WindowWidth=40000)),
    "DICOM, 16 bits, inverted": (None, lambda p: dicom(p, grey(16), "DX", PhotometricInterpretation="MONOCHROME1")),
    "DICOM, 32 bits": (None, lambda p: dicom(p, grey(16).astype(np.uint32) * 7, "MR")),
    "DICOM, RGB": (None, lambda p: dicom(p, colour(8, 3), "US")),
    "DICOM, JPEG 2000": (None, lambda p: dicom(
        p, grey(16), "DX", syntax="1.2.840.10008.1.2.4.90",
        frame=bytes(imagecodecs.jpeg2k_encode(grey(16), level=0, codecformat="j2k")))),
    "DICOM, JPEG-LS": (None, lambda p: dicom(
        p, grey(16), "DX", syntax="1.2.840.10008.1.2.4.80", frame=bytes(imagecodecs.jpegls_encode(grey(16))))),
    "DICOM, JPEG lossless": (None, lambda p: dicom(
        p, grey(16), "DX", syntax="1.2.840.10008.1.2.4.70", frame=bytes(imagecodecs.ljpeg_encode(grey(16))))),
    "DICOM, JPEG, RGB": (None, lambda p: dicom(
        p, colour(8, 3), "US", syntax="1.2.840.10008.1.2.4.50", frame=bytes(imagecodecs.jpeg8_encode(colour(8, 3))),
        PhotometricInterpretation="YBR_FULL_422")),
    "PNG, 16 bits": ("xray", lambda p: p.write_bytes(imagecodecs.png_encode(grey(16), level=1))),
    "PNG, 16 bits, RGBA": ("us", lambda p: p.write_bytes(imagecodecs.png_encode(colour(16, 4), level=1))),
    "JPEG, RGB, progressive": ("us", lambda p: Pillow.fromarray(colour(8, 3)).save(p, "JPEG", progressive=True)),
    "TIFF, float": ("mr", lambda p: Pillow.fromarray(grey(16).astype(np.float32) / 7).save(p, "TIFF")),
    "TIFF, 4 pages": ("us", lambda p: Pillow.fromarray(colour(8, 3)).save(
        p, "TIFF", save_all=True, append_images=[Pillow.fromarray(colour(8, 3))] * 3)),
    "NIfTI, 0.8 GB": ("mr", lambda p: volume(p, (512, 512, 400), "<f8")),
    "NIfTI, 0.4 GB, slices across x": ("mr", lambda p: volume(p, (200, 1024, 1024), "<i2", 0)),
    "NIfTI, one slice": ("mr", lambda p: volume(p, (ROWS, COLUMNS, 1), "<f8")),
    "NIfTI, 4D, 0.4 GB": ("mr", lambda p: volume(p, (128, 128, 40, 300), "<i2")),
    "npz, 0.8 GB": ("xray", arrays),
    "gzip bomb, 4 GB": ("mr", lambda p: packed_bomb(
        p, nib.Nifti1Image(np.arange(32**3, dtype=np.int16).reshape(32, 32, 32), np.eye(4)).to_bytes(), 4)),
    "deflated DICOM bomb, 1 GB": (None, deflated_bomb),
    "gzip of a header of 1 TB": ("mr", lambda p: p.write_bytes(gzip.compress(
        nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)).to_bytes().replace(
            np.array([3, 9, 9, 9], "<i2").tobytes(), np.array([3, 9999, 9999, 9999], "<i2").tobytes())))),
}  # fmt: skip


def read(path: Path, modality: Any) -> tuple[float, str]:
    """(largest resident set in MB, what became of the file)."""
    images = 0
    preprocessing = Preprocessing()
    keys = Keys("image", "patient", "", "", "file", "path", "name", "", "", "train")
    try:
        for _, image in read_source_file(SourceFile(path, Path(path.name)), path, modality, STRICT).images:
            spectrum = radial_spectrum(preprocess(image.pixels, calibration_of(image), preprocessing))
            make_record(image, keys, encode_spectrum(spectrum), preprocessing.identity())
            images += 1
        found = f"{images} images"
    except RefusedError as error:
        found = error.reason
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, found


def main() -> None:
    """Read every case and print its peak."""
    largest = 0.0
    for name, (modality, _) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            spawn = multiprocessing.get_context("spawn")
            writer = spawn.Process(target=make_case, args=(name, path))
            writer.start()
            writer.join()
            with spawn.Pool(1) as pool:
                peak, found = pool.apply(read, (path, modality))
        largest = max(largest, peak)
        print(f"  {name}: {peak:.0f} MB, {found}", flush=True)
    print(f"largest resident set of a reader in MB: {largest:.0f} (bar: <= {MOST:.0f})")


def make_case(name: str, path: Path) -> None:
    """Write the file of a case, in a process of its own so that its memory does not count."""
    CASES[name][1](path)
    for made in path.parent.glob("file.npz"):
        made.rename(path)


if __name__ == "__main__":
    main()
