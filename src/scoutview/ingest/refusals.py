"""Why a file is not taken: a reason code that is counted, and what would accept the file."""

from __future__ import annotations

FIXES = {
    "archive": "unpack it and give the folder; archives are opened when they are named .tar, .tar.gz or .zip",
    "bad_header": "correct the named element at its source",
    "bits": "this version takes integers of 8, 16 or 32 bits in one sample, or of 8 bits in three",
    "burned_in": "the header declares patient data in the pixels: mask them, then set BurnedInAnnotation to NO",
    "changed_after_ingest": "ingest into a new store to take the new content; the old content is kept here",
    "color": "only ultrasound may be coloured; give --modality us if it is ultrasound",
    "constant": "nothing to do: all pixels have one value",
    "decode_error": "check the file with its viewer and export it again",
    "duplicate_instance": "nothing to do: the same image was taken from another file",
    "duplicate_position": "several images lie at one place and nothing tells them apart: export one acquisition",
    "empty_file": "copy it again from its source: it has zero bytes",
    "encrypted": "unpack it with its password and give the folder",
    "excluded": "nothing to do: it stands in a store or list that was given with --exclude, or its patient does",
    "four_dimensional": "split it into volumes or time series: more than four dimensions are not read",
    "gap": "copy the missing slices, or keep the volume as it is with --gaps allow",
    "hidden_file": "rename it without the leading dot if it is an image",
    "instance_conflict": "one SOP Instance UID stands for different pixels: keep one of the files, or give a new UID",
    "killed_the_reader": "the process that read it died; ingest again with fewer workers or more memory",
    "label_map": "it is a mask, not an image: masks are for a later version",
    "localizer": "nothing to do: survey scans are not taken",
    "missing_file": "copy the whole medium, or give the folder instead of its DICOMDIR",
    "modality_conflict": "Modality and SOP Class name different kinds of image: correct the header",
    "mosaic": "export the slices, or convert it to NIfTI: the private header that describes its tiles is not whole",
    "multi_frame": "export single frames, or as an enhanced CT or MR object or a TIFF file of pages",
    "no_decoder": "decompress it, for example with dcmdjpeg or gdcmconv --raw",
    "no_orientation": "set the sform or qform code: without it left and right are not known",
    "no_pixels": "nothing to do: the object holds no image",
    "no_preamble": "write it as a DICOM file (Part 10), for example with dcmconv or pydicom",
    "not_a_file": "nothing to do: it is a pipe, socket or device",
    "not_an_image": "nothing to do: it is none of DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, npz",
    "not_an_image_class": "nothing to do: this kind of DICOM object is not X-ray, CT, MR or ultrasound",
    "not_finite": "replace NaN and infinity in the file",
    "not_hu": "export it with rescale slope and intercept; --air optional keeps CT that was cropped to the body",
    "palette_color": "convert it to MONOCHROME2 or RGB: its palette cannot be read",
    "saturated": "nothing to do: more than 95% of the pixels are at an end of the range",
    "secondary_capture": "nothing to do: screen captures are not images of a patient",
    "shifted_slices": "correct ImagePositionPatient: the slices do not lie on one line",
    "symlink": "give the folder that the link points to as a source",
    "text_unknown": "--ultrasound_text mask takes it: text in the pixels could name the patient",
    "too_large": "crop, tile or split it: the detail names the limit",
    "too_small": "nothing to do: less than 16 pixels wide or high",
    "transparency": "flatten it: its alpha channel is not uniform",
    "truncated": "copy it again from its source: the end is missing",
    "unknown_layout": "name the arrays images or <part>_images, [image, row, column] integers",
    "unknown_modality": "say what it is with --modality xray, ct, mr or us",
    "unreadable": "check the permissions and the disk",
    "unsafe_path": "unpack it with care, or have it packed again: its name leads out of its archive or medium",
    "unsupported_format": "convert it to NIfTI, PNG or DICOM",
}
"""What would accept a file, per reason code; `no_decoder` carries the transfer syntax after a colon."""


def fix_of(reason: str) -> str:
    """What would accept a file that was refused for `reason`."""
    return FIXES.get(reason.partition(":")[0], "see the detail in the quarantine")


class RefusedError(Exception):
    """A file that is not taken. `reason` is a key of `FIXES`; `detail` never repeats a value of the file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason
