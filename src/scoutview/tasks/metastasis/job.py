"""Metastases in slices (spec section 6), from masks to disk: both stages, the files of the model, its evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError

from scoutview.batches import Archive, read_slab
from scoutview.encoders import Encoder, load_encoder, save_encoder
from scoutview.errors import UsageError
from scoutview.files import replacing
from scoutview.metrics import CaseScores, dice_interval, evaluate_scores, overlaps
from scoutview.tasks.evaluation import CasePicture, Evaluation, Shown
from scoutview.tasks.finetuning import FinetuneSettings, Job
from scoutview.tasks.head_file import FILE, read_head, write_head
from scoutview.tasks.metastasis.cases import Masks, SliceCases
from scoutview.tasks.metastasis.classifier import (
    SliceChannels,
    SliceClassification,
    SliceClassifier,
    grey_encoder,
    new_slice_classifier,
    predict_slices,
)
from scoutview.tasks.metastasis.inputs import SLICES, SliceInputs
from scoutview.tasks.metastasis.predicted import predicted_masks
from scoutview.tasks.metastasis.segmentation import (
    Segmentation,
    Segmenter,
    folds_of,
    hashed,
    load_segmenters,
    new_unet,
    save_segmenter,
)

TASK = "metastasis_slices"
MASKED_CHANNELS = SLICES + 1
STAGE1 = "stage1"
"""Folder of the networks whose masks the classifier sees, below its run."""
THRESHOLD = 0.6
"""Of the accuracy, as in the paper's Table III."""


@dataclass(frozen=True)
class MetastasisSettings(FinetuneSettings):
    """How a classifier of slices is fine-tuned, and where its mask channel comes from.

    Attributes:
        mask_channel: whether masks are predicted first (stage 1) and shown with the slices; else only slices are.
        mask_steps: optimizer steps of each network of stage 1; auto as for steps.
        mask_folds: parts of the patients; each part's masks come from a network trained on the others. With 1, one
            network predicts the masks of the patients that it was trained on.
        stage1: run of metastasis_slices whose stage 1 is taken over, instead of training one.
    """

    mask_channel: bool = True
    mask_steps: int | Literal["auto"] = "auto"
    mask_folds: int = 2
    stage1: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_steps != "auto" and self.mask_steps < 1:
            raise UsageError(f"mask_steps {self.mask_steps} must be 1 or more")
        if self.mask_folds < 1:
            raise UsageError(f"mask_folds {self.mask_folds} must be 1 or more")
        if self.stage1 is not None and not self.mask_channel:
            raise UsageError("stage1 was given, and mask_channel is false: leave one of them out")

    def of_stage1(self) -> FinetuneSettings:
        """Those of each network of stage 1."""
        shared = {field.name: getattr(self, field.name) for field in fields(FinetuneSettings)}
        return FinetuneSettings(**{**shared, "steps": self.mask_steps})


def metastasis_job(
    archive: Archive, encoder: Encoder, labels: Sequence[str], settings: MetastasisSettings, device: str
) -> Job:
    """Training on the masks of one finding in volumes; the other tasks have a function of this form.

    Raises:
        UsageError: if not one label is named, there are no masks of it, a split has no slice with it or without it, the
            encoder is no ResNet for images, or the stage 1 that is to be taken over does not fit.
    """
    if len(labels) != 1:
        raise UsageError(f"{TASK} learns one finding: give --label NAME, the name of its masks")
    label = labels[0]
    model = new_slice_classifier(encoder, label, settings.mask_channel, settings.seed)
    masks = Masks.read(archive, label)
    train, validation = (
        SliceInputs(SliceCases.of(archive, masks, split), encoder.preprocessing, encoder.image_side)
        for split in ("train", "validation")
    )
    seen, watched = SliceChannels(train), SliceChannels(validation)
    given = Path(settings.stage1) if settings.stage1 is not None else None
    if given is not None:
        check_stage1(load_segmenters(given / STAGE1), label, encoder, (validation,))

    def begin(run: Path) -> None:
        if settings.mask_channel:
            if given is not None:
                _take_over(given / STAGE1, run / STAGE1)
            segmenters = load_segmenters(run / STAGE1)
            seen.masks = watched.masks = predicted_masks(run / STAGE1, segmenters, (train, validation), device)

    own = settings.mask_channel and given is None
    return Job(
        task=SliceClassification(model, seen, watched, settings, device),
        settings=settings,
        cases=_told(train.cases, len(validation.cases)),
        labels=(label,),
        save=lambda run: save_slice_classifier(model, run),
        stages=stage1_jobs(train, validation, settings, device) if own else {},
        begin=begin,
    )


def stage1_jobs(
    train: SliceInputs, validation: SliceInputs, settings: MetastasisSettings, device: str
) -> dict[str, Job]:
    """Folder in the run -> training of a network that leaves out one part of the patients.

    Raises:
        UsageError: if some part has no patient, or the others have none with the finding.
    """
    patients, targets = train.cases.patients, train.cases.targets
    parts = folds_of(patients, targets, settings.mask_folds)
    jobs = {}
    for fold in range(settings.mask_folds):
        chosen = np.flatnonzero(parts != fold) if settings.mask_folds > 1 else np.arange(len(parts))
        if not targets[chosen].any() or not len(np.flatnonzero(parts == fold)):
            raise UsageError(
                f"too few patients with {train.cases.masks.name} for mask_folds {settings.mask_folds}: give fewer folds"
            )
        jobs[f"{STAGE1}/fold-{fold + 1}"] = _fold_job(train, chosen.tolist(), validation, settings, device, fold)
    return jobs


def _fold_job(
    train: SliceInputs,
    chosen: list[int],
    validation: SliceInputs,
    settings: MetastasisSettings,
    device: str,
    fold: int,
) -> Job:
    network = new_unet(settings.seed)
    own = settings.of_stage1()
    keys = frozenset(hashed(key) for key in train.cases.patients[chosen].tolist())
    label = train.cases.masks.name
    segmenter = Segmenter(network, label, train.size, train.preprocessing, keys, settings.mask_folds)
    return Job(
        task=Segmentation(network, train, tuple(chosen), validation, own, device),
        settings=own,
        cases=f"the masks of {len(chosen)} slices of {len(keys)} patients (network {fold + 1} of stage 1)",
        labels=(label,),
        save=lambda run: save_segmenter(segmenter, run),
    )


def _told(train: SliceCases, validation: int) -> str:
    """What a model learns from, for people."""
    text = f"{len(train)} slices of {len(train.volumes)} volumes, {int(train.targets.sum())} of them with "
    text += f"{train.masks.name}, {validation} for validation"
    if train.unknown:
        text += f"; {train.unknown} slices of which nothing is known are only neighbours"
    return "; ".join([text, *train.left_out])


def check_stage1(
    segmenters: Sequence[Segmenter], label: str, encoder: Encoder, held_out: Sequence[SliceInputs]
) -> None:
    """Refuse a stage 1 for something else, or one that was trained on patients that are held out here."""
    for one in segmenters:
        theirs, ours = (one.label, one.size), (label, encoder.image_side)
        if theirs != ours or one.preprocessing != encoder.preprocessing:
            raise UsageError(
                f"that stage 1 was trained for {one.label!r} at {one.size} px, this run is for {label!r} at "
                f"{encoder.image_side} px (or their preprocessing differs): leave stage1 out to train another"
            )
        for part in held_out:
            if one.patients & {hashed(key) for key in part.cases.patients.tolist()}:
                raise UsageError(
                    "that stage 1 was trained on patients that are held out here: use a store with the same splits, or "
                    "leave stage1 out"
                )


def _take_over(source: Path, target: Path) -> None:
    """Copy the networks of another stage 1, so that the run is complete without it."""
    for fold in range(len(load_segmenters(source))):
        name = Path(f"fold-{fold + 1}") / FILE
        with replacing(target / name) as temporary:
            shutil.copyfile(source / name, temporary)


def save_slice_classifier(model: SliceClassifier, run: Path) -> None:
    """Write encoder.safetensors, of one channel, and head.safetensors, with all that differs from it."""
    save_encoder(grey_encoder(model), run / "encoder.safetensors")
    weights = {
        "conv1.weight": model.encoder.network.get_parameter("conv1.weight"),
        **{f"entry.{name}": value for name, value in model.entry.state_dict().items()},
        **{f"head.{name}": value for name, value in model.head.state_dict().items()},
    }
    write_head(run, weights, {"task": TASK, "label": model.label})


def load_slice_classifier(run: Path) -> SliceClassifier:
    """Load what `save_slice_classifier` wrote; whether it has a mask channel, its entry says.

    Raises:
        UsageError: if the run holds no finished model, or it is damaged.
    """
    path = run / FILE
    if not path.is_file():
        raise UsageError(f"{run} holds no fine-tuned model: make one with scoutview finetune {TASK}")
    encoder = load_encoder(run)
    try:
        told, weights = read_head(run)
        channels = weights["entry.weight"].shape[1]
        model = new_slice_classifier(encoder, told["label"], channels == MASKED_CHANNELS, 0)
        model.encoder.network.load_state_dict({"conv1.weight": weights["conv1.weight"]}, strict=False)
        for name, module in (("entry", model.entry), ("head", model.head)):
            module.load_state_dict({key: weights[f"{name}.{key}"] for key in ("weight", "bias")})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged or does not fit its encoder ({error}): fine-tune again") from error
    return model


def evaluate_metastasis(run: Path, archive: Archive, device: str) -> Evaluation:
    """AUC, AP, accuracy at 0.6 over slices, and the Dice of the predicted masks.

    Raises:
        UsageError: if the run holds no finished model, or the test split no slice with the finding or none without it,
            or if stage 1 was trained on test patients of this store.
    """
    model = load_slice_classifier(run)
    cases = SliceCases.of(archive, Masks.read(archive, model.label), "test")
    inputs = SliceInputs(cases, model.encoder.preprocessing, model.encoder.image_side)
    channels = SliceChannels(inputs)
    patients = cases.patients
    extra = {}
    if model.entry.in_channels == MASKED_CHANNELS:
        segmenters = load_segmenters(run / STAGE1)
        check_stage1(segmenters, model.label, model.encoder, (inputs,))
        channels.masks = predicted_masks(run / STAGE1, segmenters, (inputs,), device)
        every = [
            overlaps(channels.masks.batch(inputs, [case])[:, 0], inputs.masks([case])[:, 0])
            for case in range(len(cases))
        ]
        extra["dice"] = dice_interval(np.concatenate(every), patients).as_dict()
    scores = predict_slices(model, channels, device)
    targets = cases.targets[:, None]
    figures = evaluate_scores(scores, targets, patients, [model.label], threshold=THRESHOLD)
    content = {
        "task": TASK,
        "label": model.label,
        "split": "test",
        "unit": "slice",
        "classes": [model.label],
        **figures,
        "n_volumes": len(cases.volumes),
        "metrics": {**figures["metrics"], **extra},
    }
    images = np.array([cases.row(case).image for case in range(len(cases))])
    told = CaseScores((model.label,), images, patients, scores, targets)

    def picture(case: int) -> CasePicture:
        (store, volume), place = cases.volumes[cases.volume[case]], int(cases.place[case])
        pixels = read_slab(store, volume, model.encoder.preprocessing, place, place + 1)[0]
        return CasePicture(str(images[case]), pixels, f"slice {place + 1} of {len(volume.rows)}")

    return Evaluation(content, {model.label: told}, shown=Shown("slice", told, picture))
