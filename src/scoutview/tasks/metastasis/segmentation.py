"""Stage 1: masks from 5 adjacent slices, each patient's by a network that was not trained on that patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.errors import UsageError
from scoutview.metrics import dice, overlaps
from scoutview.preprocessing import Preprocessing
from scoutview.tasks.finetuning import FinetuneSettings
from scoutview.tasks.head_file import FILE, names_in, read_checked_head, write_head
from scoutview.tasks.metastasis.inputs import SLICES, SliceInputs, augment_both
from scoutview.tasks.metastasis.unet import UNet

TASK = "metastasis_masks"
LARGEST_SIDE = 2**13
"""px of the input: a model file may announce no more."""
_BATCH = 32


@dataclass(frozen=True)
class Segmenter:
    """A network for masks. size: side in px of its inputs. patients: hashed keys of whom it was trained on.

    folds: how many networks were trained together, each without one part of the patients; one alone saw them all.
    """

    network: UNet
    label: str
    size: int
    preprocessing: Preprocessing
    patients: frozenset[str]
    folds: int


@dataclass(frozen=True)
class Segmentation:
    """Stage 1 to the loop of `finetune_task`; see `Task`. chosen: its cases among those of `train`."""

    network: UNet
    train: SliceInputs
    chosen: tuple[int, ...]
    validation: SliceInputs
    settings: FinetuneSettings
    device: str

    @property
    def cases(self) -> int:
        """Training slices."""
        return len(self.chosen)

    def modules(self) -> Mapping[str, nn.Module]:
        """The U-Net."""
        return {"segmenter": self.network}

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        """Of augmented slices."""
        numbers = [self.chosen[case] for case in cases]
        slices, masks = self.train.slices(numbers).to(self.device), self.train.masks(numbers).to(self.device)
        slices, masks = augment_both(slices, masks, self.settings, generator)
        return segmentation_loss(self.network(slices), masks)

    def validate(self) -> dict[str, float]:
        """Dice over all validation slices together."""
        counts = np.zeros(3)
        for cases, found in predicted([self.network], self.validation, self.device):
            counts += overlaps(found, self.validation.masks(cases)[:, 0].numpy()).sum(0)
        return {"dice": float(dice(counts))}


def new_unet(seed: int) -> UNet:
    """Random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(SLICES)


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels, plus soft Dice loss, mean over the images that have a positive pixel.

    logits, masks [image, 1, row, column], masks in [0, 1]. The Dice loss of an image of probabilities p and mask m is
    1 - (2 sum pm + 1) / (sum p + sum m + 1); it is left out where no image of a batch is positive.
    """
    logits, masks = logits.flatten(1), masks.flatten(1)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks)
    p = logits.sigmoid()
    dice_losses = 1 - (2 * (p * masks).sum(1) + 1) / (p.sum(1) + masks.sum(1) + 1)
    positive = (masks.amax(1) > 0).to(logits.dtype)
    return cross_entropy + (dice_losses * positive).sum() / positive.sum().clamp(min=1)


def folds_of(patients: npt.NDArray[np.str_], targets: npt.NDArray[np.float32], folds: int) -> npt.NDArray[np.int64]:
    """The part [case] of each case's patient. Patients with a positive slice are spread evenly, and the others, too."""
    ill = set(patients[targets > 0].tolist())
    keys = sorted(set(patients.tolist()), key=lambda key: (key not in ill, hashed(key)))
    part = {key: number % folds for number, key in enumerate(keys)}
    return np.array([part[key] for key in patients.tolist()], dtype=np.int64)


def hashed(patient: str) -> str:
    """What a model file keeps of a patient's key."""
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def predicted(
    networks: Sequence[UNet], inputs: SliceInputs, device: str, shares: npt.NDArray[np.float64] | None = None
) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
    """Batches (cases, probabilities [case, row, column]). shares [case, network] of each network in the mean, which add
    to 1; equal ones by default."""
    if shares is None:
        shares = np.full((len(inputs.cases), len(networks)), 1 / len(networks))
    for network in networks:
        network.to(device).train(False)
    for first in range(0, len(inputs.cases), _BATCH):
        cases = list(range(first, min(first + _BATCH, len(inputs.cases))))
        slices = inputs.slices(cases).to(device)
        total = torch.zeros(len(cases), *slices.shape[2:], device=device)
        for number, network in enumerate(networks):
            mine = np.flatnonzero(shares[cases, number])
            if len(mine):
                share = torch.from_numpy(shares[cases, number][mine].astype(np.float32)).to(device)
                with torch.inference_mode():
                    total[mine] += network(slices[mine])[:, 0].sigmoid() * share[:, None, None]
        yield cases, total.cpu().numpy()


def unseen_shares(segmenters: Sequence[Segmenter], patients: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """[case, segmenter]: the mean of those that were not trained on a case's patient, or of all if there is none."""
    keys = [hashed(key) for key in patients.tolist()]
    unseen = np.array([[key not in one.patients for one in segmenters] for key in keys], dtype=np.float64)
    unseen[~unseen.any(1)] = 1.0
    shares: npt.NDArray[np.float64] = unseen / unseen.sum(1, keepdims=True)
    return shares


def save_segmenter(segmenter: Segmenter, run: Path) -> None:
    """Write head.safetensors into the folder of a run of stage 1."""
    metadata = {
        "task": TASK,
        "label": segmenter.label,
        "size": str(segmenter.size),
        "preprocessing": json.dumps(asdict(segmenter.preprocessing)),
        "patients": json.dumps(sorted(segmenter.patients)),
        "folds": str(segmenter.folds),
    }
    write_head(run, segmenter.network.state_dict(), metadata)


def load_segmenters(stage1: Path) -> tuple[Segmenter, ...]:
    """The networks of a finished stage 1: stage1/fold-1, ...

    Raises:
        UsageError: if one is missing or damaged.
    """
    found: list[Segmenter] = []
    while not found or len(found) < found[0].folds:
        path = stage1 / f"fold-{len(found) + 1}" / FILE
        if not path.is_file():
            raise UsageError(f"{path} is missing: {stage1} holds no finished stage 1 of metastasis_slices")
        try:
            told, weights = read_checked_head(path.parent, lambda _: new_unet(0))
            network = new_unet(0)
            network.load_state_dict(weights)
            preprocessing = Preprocessing.from_dict(json.loads(told["preprocessing"]))
            patients, size = frozenset(names_in(told, "patients")), int(told["size"])
            if not 0 < size <= LARGEST_SIDE:
                raise ValueError(f"an input of {size} px")
            found.append(Segmenter(network, told["label"], size, preprocessing, patients, int(told["folds"])))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{path} is damaged ({error}): fine-tune again") from error
    return tuple(found)
