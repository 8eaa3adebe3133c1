"""`scoutview predict`: a fine-tuned model on new images, one batch in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scoutview.commands.prediction_reports import write_reports
from scoutview.commands.prediction_units import PredictionUnit, SeenImage, prediction_units
from scoutview.errors import UsageError
from scoutview.export.extras import needed
from scoutview.export.overlay import write_overlay
from scoutview.export.prediction_log import PredictionLog
from scoutview.export.predictions import CSV, write_predictions
from scoutview.ingest import Pseudonyms, RefusedError
from scoutview.progress import counted
from scoutview.tasks.detection import Detector
from scoutview.tasks.inputs import Pixels
from scoutview.tasks.prediction import Predictor, load_predictor
from scoutview.training import device

LOG = "predictions.log"
WAITING = 256
"""Files without an image, after which the log is written."""


def predict(
    run: Path,
    source: Path,
    *,
    out: Path,
    modality: Literal["xray", "ct", "mr", "us"] | None = None,
    sr: bool = False,
) -> Path:
    """Predict with a fine-tuned model; a bad file stops nothing, and the same command continues.

    Args:
        run: Folder of a fine-tuning run.
        source: A store, a file, or a folder of files; a store for a model of volumes.
        out: Folder for predictions.csv, predictions.json, refused.csv; overlays/ of a detector.
        modality: What files show that do not say so themselves.
        sr: Write a DICOM SR per study of DICOM files, too, into sr/. They name the patient, as their images do.

    Returns:
        The folder.

    Raises:
        UsageError: No such run or source, or a folder with predictions of another model or source.
        RunError: The log in the folder is damaged.
    """
    if sr:
        needed("highdicom", "dicom-sr")  # said now, and not behind hours of predictions
    predictor = load_predictor(run, device())
    pseudonyms = Pseudonyms.from_environment()
    units = prediction_units(source, predictor, modality, pseudonyms, out)
    if out.exists() and not (out / LOG).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty and holds no predictions: give another --out")
    model = digest_of(run)
    identity = {"model": model, "source": pseudonyms.key("path", str(source.resolve())), "modality": modality or ""}
    log = PredictionLog.open(out / LOG, identity)
    waiting = [unit for unit in units if not log.has(unit.name, unit.stamp)]
    for finished in run_predictions(waiting, predictor, out):
        log.append(finished)
    about = {"model": {"task": predictor.task, "sha256": model}, "classes": list(predictor.classes)}
    names = [unit.name for unit in units]
    counts = write_predictions(log, names, about, predictor.classes, out)
    if sr:
        counts |= write_reports(log, units, predictor, model, out)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    print(out / CSV)
    return out


def digest_of(run: Path) -> str:
    """SHA-256 of the weights of a fine-tuned model."""
    digest = hashlib.sha256()
    for name in ("encoder.safetensors", "head.safetensors"):
        with (run / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


@dataclass
class Growing:
    """A unit of which some images may still wait for the network."""

    unit: PredictionUnit
    images: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    detail: str = ""
    ended: bool = False

    def entry(self) -> dict[str, Any]:
        """As the log keeps it."""
        unit = self.unit
        about = {"name": unit.name, "stamp": unit.stamp, "source": unit.source, "image": unit.image}
        return {**about, "reason": self.reason, "detail": self.detail, "images": self.images}


@dataclass(frozen=True)
class Shown:
    """An image on its way through the network. picture: for an overlay."""

    growing: Growing
    keys: dict[str, Any]
    input: Pixels
    shape: tuple[int, int]
    picture: npt.NDArray[np.uint8] | None


def run_predictions(units: Sequence[PredictionUnit], predictor: Predictor, out: Path) -> Iterator[list[dict[str, Any]]]:
    """Entries of the log, whenever a batch is through; writes the overlays of a detector before."""
    under_way: list[Growing] = []
    batch: list[Shown] = []
    for unit in counted(units, "files"):
        growing = Growing(unit)
        under_way.append(growing)
        try:
            for image in unit.images():
                batch.append(_shown(growing, image, predictor))
                if len(batch) >= predictor.batch:
                    _finish(batch, predictor, out)
                    yield _ended(under_way)
        except RefusedError as error:
            for gone in growing.images:
                overlay_of(out, gone).unlink(missing_ok=True)
            growing.images.clear()
            growing.reason, growing.detail = error.reason, error.detail
            batch[:] = [shown for shown in batch if shown.growing is not growing]
        growing.ended = True
        if not batch and len(under_way) >= WAITING:
            yield _ended(under_way)
    _finish(batch, predictor, out)
    yield _ended(under_way)


def overlay_of(out: Path, image: Mapping[str, Any]) -> Path:
    """The picture of an image with its boxes."""
    return out / "overlays" / f"{image['image']}.png"


def _shown(growing: Growing, image: SeenImage, predictor: Predictor) -> Shown:
    if predictor.modality and image.modality != predictor.modality:
        raise RefusedError("other_modality", f"the model takes {predictor.modality} only")
    keys = {
        name: getattr(image, name) for name in ("image", "modality", "patient", "study", "series", "index", "dicom")
    }
    detector = isinstance(predictor.model, Detector)
    picture = np.rint(image.pixels * 255).astype(np.uint8) if detector else None
    shape = (image.pixels.shape[-2], image.pixels.shape[-1])
    return Shown(growing, keys, predictor.network_input(image.pixels), shape, picture)


def _finish(batch: list[Shown], predictor: Predictor, out: Path) -> None:
    """Take a batch through the network, and empty it."""
    if not batch:
        return
    found = predictor([shown.input for shown in batch], [shown.shape for shown in batch])
    for shown, one in zip(batch, found, strict=True):
        probabilities = [_rounded(value) for value in one.probabilities]
        boxes = [
            {"class": box.name, "score": _rounded(box.score), "box": [_rounded(value) for value in box.corners]}
            for box in one.boxes
        ]
        shown.growing.images.append({**shown.keys, "probabilities": probabilities, "boxes": boxes})
        if shown.picture is not None:
            write_overlay(overlay_of(out, shown.keys), shown.picture, one.boxes, predictor.classes)
    batch.clear()


def _ended(under_way: list[Growing]) -> list[dict[str, Any]]:
    """The entries of the units that have ended, none of whose images waits; they are under way no longer."""
    entries = [growing.entry() for growing in under_way if growing.ended]
    under_way[:] = [growing for growing in under_way if not growing.ended]
    return entries


def _rounded(value: float) -> float:
    """Six digits: what lies behind them depends on the batch."""
    return float(f"{value:.6g}")
