"""The frames of a file one at a time, without reading the others: memory is that of one frame, whatever the file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame, parse_fragments
from pydicom.tag import Tag

from scoutview.ingest.dicom_stream import is_deflated, open_dicom
from scoutview.ingest.refusals import RefusedError

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_TAGS = [
    Tag(keyword)
    for keyword in (
        "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    )
]  # fmt: skip


@dataclass(frozen=True)
class FrameSource:
    """Where the frames of a file lie. begin: of the value of Pixel Data; nbytes: of a native frame, 0 if encapsulated.

    offsets: of the fragment of each encapsulated frame, when every frame is one fragment. most: bytes that a
    compressed frame may have.
    """

    path: Path
    header: Any
    frames: int
    begin: int
    vr: str
    nbytes: int
    offsets: tuple[int, ...]
    little_endian: bool
    most: int

    def dataset(self, number: int) -> Any:
        """A data set that holds frame `number`, from 0, as its only one.

        Raises:
            RefusedError: truncated, too_large or unreadable.
        """
        try:
            with open_dicom(self.path) as stream:
                data = self._native(stream, number) if self.nbytes else self._encapsulated(stream, number)
        except OSError as error:
            raise RefusedError("unreadable", "the file cannot be read") from error
        single = Dataset()
        single.update(self.header)
        single.file_meta = self.header.file_meta
        single.NumberOfFrames = 1
        single.add_new(_PIXEL_DATA, self.vr, data)
        single["PixelData"].is_undefined_length = not self.nbytes
        # pydicom decodes by these.
        single.set_original_encoding(False, self.little_endian, "ascii")
        return single

    def _native(self, stream: Any, number: int) -> bytes:
        stream.seek(self.begin + number * self.nbytes)
        # Behind a last frame of an odd size there is a byte that makes it even; big endian words need it.
        data: bytes = stream.read(self.nbytes + self.nbytes % 2)
        if len(data) < self.nbytes:
            raise RefusedError("truncated", f"frame {number + 1} of {self.frames} ends early")
        return data + b"\0" * (len(data) % 2)

    def _encapsulated(self, stream: Any, number: int) -> bytes:
        if self.offsets:
            stream.seek(self.offsets[number] + 4)
            length = int.from_bytes(stream.read(4), "little")
            if length > self.most:
                raise RefusedError("too_large", f"a compressed frame of {length} bytes, at most {self.most} are taken")
            return bytes(encapsulate([stream.read(length)]))
        stream.seek(self.begin)
        try:
            return bytes(encapsulate([get_frame(stream, number, number_of_frames=self.frames)]))
        except Exception as error:  # whatever pydicom raises on malformed items
            raise RefusedError("truncated", f"frame {number + 1} of {self.frames} is not there") from error


def open_frames(path: Path, frames: int, frame_bytes: int) -> FrameSource:
    """Find the pixel data of a file.

    frame_bytes: of a native frame, as the header says.

    Raises:
        RefusedError: no_pixels, bits, truncated, too_large, unreadable or bad_header.
    """
    most = 2 * frame_bytes + 2**20
    try:
        if frames > 1 and is_deflated(path):
            raise RefusedError("multi_frame", "several frames in a deflated file")
        with open_dicom(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS)
            syntax = header.file_meta.TransferSyntaxUID
            begin, vr, length = _element(stream, syntax)
            if length != _UNDEFINED:
                size = stream.seek(0, 2)
                there = min(length, size - begin)
                if there < frames * frame_bytes:
                    raise RefusedError("truncated", f"{there} bytes of pixels, {frames * frame_bytes} are needed")
                if length >= (frames + 1) * frame_bytes + 2:
                    raise RefusedError("bad_header", f"{length} bytes of pixels, where {frames} frames are announced")
                little = bool(syntax.is_little_endian)
                return FrameSource(path, header, frames, begin, vr, frame_bytes, (), little, most)
            if not syntax.is_compressed:
                raise RefusedError("bad_header", "encapsulated pixel data in a transfer syntax that has none")
            stream.seek(begin)
            count, offsets = parse_fragments(stream)
            end = offsets[-1] if offsets else begin
            if count > frames + 1 and end - begin > frames * most:
                raise RefusedError("too_large", f"compressed frames of more than {most} bytes")
    except OSError as error:
        if error.errno is None:  # pydicom's own, of elements that do not end
            raise RefusedError("truncated", "the file ends within an element") from error
        raise RefusedError("unreadable", "the file cannot be read") from error
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("bad_header", f"the pixel data cannot be found ({type(error).__name__})") from error
    # The first fragment is the offset table, which is none of the frames.
    places = tuple(int(offset) for offset in offsets[1:]) if count == frames + 1 else ()
    return FrameSource(path, header, frames, begin, vr, 0, places, True, most)


def _element(stream: Any, syntax: Any) -> tuple[int, str, int]:
    """(begin of the value, VR, length) of the Pixel Data element at which the stream stands (PS3.5 7.1)."""
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    head = stream.read(12)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag in (0x7FE00008, 0x7FE00009):
        raise RefusedError("bits", "floating point pixel data")
    if tag != _PIXEL_DATA:
        raise RefusedError("no_pixels", "there is no Pixel Data element")
    if syntax.is_implicit_VR:
        return stream.tell() - 4, "OW", int.from_bytes(head[4:8], order)
    return stream.tell(), head[4:6].decode("ascii", "replace"), int.from_bytes(head[8:12], order)
