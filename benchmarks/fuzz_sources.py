"""What `benchmarks/fuzz.py` damages: small files of every format, and the ways in which they are damaged.

A seed and a case number always give the same bytes. Run: python benchmarks/fuzz_sources.py, which lists the files.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as Itk
from PIL import Image as Pillow

from scoutview.ingest import RefusedError, read_file
from scoutview.phantoms import trap_files
from scoutview.phantoms.trap_files import EVERY_SYNTAX, Slice, write_enhanced, write_mosaic, write_slice

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom_dev.tar.xz"
LARGEST_REAL = 60_000
"""Bytes of a real file that is taken."""


@dataclass(frozen=True)
class Source:
    """A whole file. places: (begin, end) of its parts, DICOM elements where it is DICOM."""

    name: str
    modality: str | None
    data: bytes
    places: tuple[tuple[int, int], ...] = ()


def sources() -> list[Source]:
    """Every synthetic file, and the small real ones where they are."""
    counter = iter(range(10**6))
    unique = trap_files.generate_uid  # type: ignore[attr-defined]
    trap_files.generate_uid = lambda **_: unique(entropy_srcs=[str(next(counter))])  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        made = [*_dicom(Path(folder)), *_volumes(Path(folder)), *_pictures(), *_real()]
    return [Source(item.name, item.modality, item.data, _places(item.data)) for item in made]


def damaged(every: list[Source], seed: int, number: int) -> tuple[Source, str, bytes]:
    """(source, name of the damage, damaged bytes) of case `number`."""
    generator = np.random.default_rng((seed, number))
    source = every[int(generator.integers(len(every)))]
    name = list(DAMAGES)[int(generator.integers(len(DAMAGES)))]
    if name == "spliced":
        other = every[int(generator.integers(len(every)))].data
        return source, name, source.data[: _place(generator, source.data)] + other[_place(generator, other) :]
    return source, name, DAMAGES[name](generator, source)


def grey(highest: int, rows: int = 40, columns: int = 52) -> npt.NDArray[np.uint16]:
    """A smooth picture with noise."""
    y, x = np.mgrid[0:rows, 0:columns]
    smooth = np.sin(x / 9) + np.cos(y / 7) + 0.1 * np.random.default_rng(0).standard_normal((rows, columns))
    scaled: npt.NDArray[np.uint16] = np.rint((smooth - smooth.min()) / np.ptp(smooth) * highest).astype(np.uint16)
    return scaled


def _dicom(folder: Path) -> list[Source]:
    made = []
    path = folder / "a.dcm"

    def take(name: str) -> None:
        made.append(Source(name, None, path.read_bytes()))

    places = [float(value) for value in np.arange(5) * 5.0]
    slices = [
        Slice((-30.0, -20.0, z), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (1.0, 1.25), (40, 52), number + 1,
              "1.2.3.4", grey(3000).astype(np.float64) - 1100 + z)
        for number, z in enumerate(places)
    ]  # fmt: skip
    for name, syntax in {"explicit little endian": "1.2.840.10008.1.2.1", **EVERY_SYNTAX}.items():
        write_slice(path, replace(slices[0], syntax=syntax))
        take(name)
    write_enhanced(path, slices)
    take("enhanced CT")
    write_mosaic(path, [replace(item, modality="MR") for item in slices])
    take("mosaic")
    window = {"WindowCenter": 1500, "WindowWidth": 2000, "PhotometricInterpretation": "MONOCHROME1"}
    _write(path, "1.1.1", "DX", grey(3000), **window)
    take("radiograph with a window")
    colour = np.stack([grey(255), grey(255)[::-1], grey(255) // 2], axis=-1).astype(np.uint8)
    _write(path, "6.1", "US", colour)
    take("ultrasound, RGB")
    frame = bytes(imagecodecs.jpeg8_encode(colour))
    _write(path, "6.1", "US", colour, frame=frame, PhotometricInterpretation="YBR_FULL_422")
    take("ultrasound, JPEG")
    _write(path, "3.1", "US", np.stack([grey(255)] * 3).astype(np.uint8), NumberOfFrames=3)
    take("ultrasound film")
    entries = {
        f"{name}PaletteColorLookupTable{part}": [256, 0, 16] if part == "Descriptor" else np.arange(
            0, 65536, 256, dtype="<u2").tobytes()
        for name in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
    }  # fmt: skip
    _write(path, "6.1", "US", grey(255).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR", **entries)
    take("ultrasound, palette")
    return made


def _write(path: Path, suffix: str, modality: str, pixels: npt.NDArray[Any], **elements: Any) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    frame = elements.pop("frame", None)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50" if frame else "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{suffix}"
    dataset.SOPInstanceUID = dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3.4.5"
    dataset.Modality, dataset.PatientID, dataset.BurnedInAnnotation = modality, "FUZZ", "NO"
    samples = 3 if pixels.shape[-1] == 3 else 1
    dataset.Rows, dataset.Columns = pixels.shape[-2 - (samples == 3) :][:2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = samples, 0
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pydicom.encaps.encapsulate([frame]) if frame else pixels.tobytes()
    dataset["PixelData"].VR = "OB" if frame or pixels.dtype.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = frame is not None
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def _volumes(folder: Path) -> list[Source]:
    array = (np.indices((20, 24, 18)).sum(0) * 7 + np.random.default_rng(1).integers(0, 9, (20, 24, 18))).astype("<i2")
    affine = np.array([[-1.0, 0.1, 0, 5], [0.1, 1.2, 0, 6], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    whole = nib.Nifti1Image(array, affine).to_bytes()
    series = nib.Nifti1Image(np.stack([array[:, :, :5]] * 4, -1), affine).to_bytes()
    floats = nib.Nifti2Image((array / 77).astype("<f4"), affine).to_bytes()
    made = [
        Source("NIfTI", "mr", whole), Source("NIfTI, gzip", "mr", gzip.compress(whole, mtime=0)),
        Source("NIfTI, 4D", "mr", series), Source("NIfTI-2, float", "mr", floats),
    ]  # fmt: skip
    image = Itk.GetImageFromArray(np.ascontiguousarray(array.T))
    for name in ("mha", "nrrd"):
        for packed in (False, True):
            Itk.WriteImage(image, str(folder / f"v.{name}"), packed)
            data = (folder / f"v.{name}").read_bytes()
            made.append(Source(f"{name}, compressed" if packed else name, "mr", data))
    return made


def _pictures() -> list[Source]:
    deep, shallow = grey(60000), grey(255).astype(np.uint8)
    colour = np.stack([shallow, shallow[::-1], shallow // 2], axis=-1)
    pages, arrays, packed, exif = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    Pillow.fromarray(shallow).save(pages, "TIFF", save_all=True, append_images=[Pillow.fromarray(shallow[::-1])] * 2)
    Pillow.fromarray(colour).save(packed, "TIFF", compression="tiff_lzw")
    turned = Pillow.Exif()
    turned[0x0112] = 6
    Pillow.fromarray(shallow).save(exif, "JPEG", exif=turned)
    np.savez_compressed(arrays, train_images=np.stack([deep] * 3), train_patient_id=np.array(["a", "b", "a"]))
    return [
        Source("PNG, 8 bits", "us", bytes(imagecodecs.png_encode(shallow))),
        Source("PNG, 16 bits", "us", bytes(imagecodecs.png_encode(deep))),
        Source("PNG, RGB", "us", bytes(imagecodecs.png_encode(colour))),
        Source("PNG, RGB, 16 bits", "us", bytes(imagecodecs.png_encode(colour.astype(np.uint16) * 257))),
        Source("JPEG", "us", bytes(imagecodecs.jpeg8_encode(shallow))),
        Source("JPEG, RGB", "us", bytes(imagecodecs.jpeg8_encode(colour))),
        Source("JPEG, turned", "us", exif.getvalue()),
        Source("TIFF", "us", bytes(imagecodecs.tiff_encode(deep))),
        Source("TIFF, LZW", "us", packed.getvalue()),
        Source("TIFF, pages", "us", pages.getvalue()),
        Source("npz", "us", arrays.getvalue()),
    ]


def _real() -> list[Source]:
    """Small files that are taken, of every modality, maker and transfer syntax of the real ones."""
    if not ARCHIVE.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        with (Path(folder) / "manifest.csv").open() as table:
            rows = list(csv.DictReader(table))
        chosen: dict[tuple[str, ...], Source] = {}
        for row in rows:
            path = Path(folder) / row["file"]
            kind = tuple(row[name] for name in ("modality", "manufacturer", "transfer_syntax", "photometric"))
            if kind not in chosen and path.is_file() and path.stat().st_size < LARGEST_REAL:
                with suppress(RefusedError):  # what is refused as it is tells nothing when it is damaged
                    read_file(path)
                    chosen[kind] = Source(f"real: {row['file']}", None, path.read_bytes())
    return list(chosen.values())


def _places(data: bytes) -> tuple[tuple[int, int], ...]:
    """(begin, end) of the top-level elements of an explicit little endian DICOM file, of lines or 32 bytes else."""
    if data[128:132] != b"DICM":
        lines = [place for place in range(1, min(len(data), 600)) if data[place - 1 : place] == b"\n"]
        marks = [0, *lines] if len(lines) > 4 else list(range(0, min(len(data), 4000), 32))
        return tuple(pairwise(marks))
    places = []
    place = 132
    while place + 12 <= len(data):
        long = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        kind, where = ("<I", place + 8) if long else ("<H", place + 6)
        (length,) = struct.unpack_from(kind, data, where)
        end = where + struct.calcsize(kind) + length
        if not data[place + 4 : place + 6].isupper() or end > len(data):
            break
        places.append((place, end))
        place = end
    return tuple(places or [(132, len(data))])


def _place(generator: np.random.Generator, data: bytes) -> int:
    """Anywhere, half of the time in the first 1200 bytes, where the headers are."""
    return int(generator.integers(min(len(data), 1200) if generator.random() < 0.5 else len(data)))


def _flipped(generator: np.random.Generator, source: Source) -> bytes:
    changed = bytearray(source.data)
    for _ in range(int(generator.integers(1, 9))):
        changed[_place(generator, source.data)] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _overwritten(generator: np.random.Generator, source: Source) -> bytes:
    begin, length = _place(generator, source.data), int(generator.integers(1, 65))
    run = [bytes(length), b"\xff" * length, generator.bytes(length)][int(generator.integers(3))]
    return (source.data[:begin] + run + source.data[begin + length :])[: len(source.data)]


def _truncated(generator: np.random.Generator, source: Source) -> bytes:
    return source.data[: _place(generator, source.data)]


def _part(generator: np.random.Generator, source: Source) -> tuple[int, int]:
    return source.places[int(generator.integers(len(source.places)))]


def _duplicated(generator: np.random.Generator, source: Source) -> bytes:
    begin, end = _part(generator, source)
    return source.data[:end] + source.data[begin:]


def _removed(generator: np.random.Generator, source: Source) -> bytes:
    begin, end = _part(generator, source)
    return source.data[:begin] + source.data[end:]


def _lengthened(generator: np.random.Generator, source: Source) -> bytes:
    """A field of 2 or 4 bytes, most often the length of an element, set to an extreme."""
    begin, end = _part(generator, source)
    place = begin + (6 if generator.random() < 0.7 else int(generator.integers(max(1, end - begin))))
    value = [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF][
        int(generator.integers(13))
    ]
    kind = ("<" if generator.random() < 0.7 else ">") + ("I" if value > 0xFFFF or generator.random() < 0.5 else "H")
    field = struct.pack(kind, value)
    return source.data[:place] + field + source.data[place + len(field) :]


def _retyped(generator: np.random.Generator, source: Source) -> bytes:
    """The value of an element, a line or a field replaced by one of another type, of the same length if it has one."""
    begin, end = _part(generator, source)
    texts = (b"-1", b"0", b"nan", b"inf", b"1e308", b"x", b"1\\2\\3\\4", b"99999999999999999999", b"\\", b"\0\0", b"")
    if source.data[128:132] == b"DICM":
        begin += min(8, end - begin)
        length = end - begin
    else:
        begin += int(generator.integers(max(1, end - begin)))
        length = min(4, end - begin)
    choice = int(generator.integers(len(texts) + 3))
    if choice < len(texts):
        value = texts[choice].ljust(length)[: max(length, 0)]
    else:
        numbers = (struct.pack("<f", np.nan), struct.pack("<f", -1e30), generator.bytes(8))
        value = (numbers[choice - len(texts)] * (length // 4 + 1))[:length]
    return source.data[:begin] + value + source.data[begin + length :]


DAMAGES: dict[str, Callable[[np.random.Generator, Source], bytes]] = {
    "bits flipped": _flipped,
    "bytes overwritten": _overwritten,
    "truncated": _truncated,
    "element duplicated": _duplicated,
    "element removed": _removed,
    "length extreme": _lengthened,
    "value retyped": _retyped,
    "spliced": _truncated,
}

if __name__ == "__main__":
    files = sources()
    for item in files:
        print(f"  {item.name}: {len(item.data)} bytes, {len(item.places)} parts")
    print(f"files to damage: {len(files)} (bar: >= 40)")
