"""The masks that stage 1 predicts, in one file per set of slices, which is named by what made it."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.files import replacing
from scoutview.tasks.metastasis.inputs import SliceInputs
from scoutview.tasks.metastasis.segmentation import Segmenter, predicted, unseen_shares


class PredictedMasks:
    """The masks of some cases, read one at a time from a zip archive of .npy files, whose checksums are checked."""

    def __init__(self, path: Path) -> None:
        self.file = np.load(path)

    def batch(self, inputs: SliceInputs, cases: Sequence[int]) -> Tensor:
        """[case, 1, row, column]: probabilities in steps of 1/255."""
        pixels = np.stack([self.file[inputs.cases.row(case).image] for case in cases])
        return torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).unsqueeze(1)


def predicted_masks(
    stage1: Path, segmenters: Sequence[Segmenter], inputs: Sequence[SliceInputs], device: str
) -> PredictedMasks:
    """Predict the masks of all cases into stage1/masks-KEY.npz, unless they are there already and undamaged."""
    path = stage1 / f"masks-{_key(segmenters, inputs)}.npz"
    if not _whole(path):
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in inputs:
                shares = unseen_shares(segmenters, part.cases.patients)
                for cases, pixels in predicted([one.network for one in segmenters], part, device, shares):
                    for case, one in zip(cases, pixels, strict=True):
                        _add(archive, part.cases.row(case).image, one)
    return PredictedMasks(path)


def _add(archive: zipfile.ZipFile, name: str, probabilities: npt.NDArray[np.float32]) -> None:
    # Its date would make the file another one each time.
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(member, "w") as stream:
        np.lib.format.write_array(stream, np.round(probabilities * 255).astype(np.uint8))


def _whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def _key(segmenters: Sequence[Segmenter], inputs: Sequence[SliceInputs]) -> str:
    """16 hex digits of the weights, of whom they were trained on, and of the slices."""
    digest = hashlib.sha256()
    for one in segmenters:
        digest.update(f"{one.size} {one.preprocessing.identity()} {sorted(one.patients)}".encode())
        for name, value in one.network.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    for part in inputs:
        for case in range(len(part.cases)):
            row = part.cases.row(case)
            digest.update(f"{row.image} {row.stack} {row.patient}\n".encode())
    return digest.hexdigest()[:16]
