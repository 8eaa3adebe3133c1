"""kNN on labels of the archive: the cheapest honest answer to "is this encoder any good yet?"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, Cases, read_unit_image
from scoutview.encoders import Encoder, embed_images
from scoutview.errors import UsageError
from scoutview.metrics import knn_scores, macro_auc
from scoutview.store import DamagedRecordError

FEWEST_QUERIES = 8


@dataclass(frozen=True)
class LabelTask:
    """One label of one modality, ready to be probed.

    bank and query: indices into the archive; targets: class numbers [image]; classes: their values, sorted.
    """

    name: str
    modality: str
    classes: tuple[str, ...]
    bank: tuple[int, ...]
    bank_targets: npt.NDArray[np.int64]
    query: tuple[int, ...]
    query_targets: npt.NDArray[np.int64]


def label_task(
    cases: Cases, name: str, bank_splits: Sequence[str], query_splits: Sequence[str], most: int | None = None
) -> LabelTask:
    """Prepare a label of images or volumes for probing; several modalities are an error: name one label each.

    most: keep at most this many images in the bank and in the query, an even choice in the order of their ids.

    Raises:
        UsageError: if either part has too few images or a single class.
    """
    known = cases.labelled(name)
    modalities = sorted({cases.modality_of(index) for index in known})
    if len(modalities) > 1:
        raise UsageError(
            f"label {name!r} is on {cases.unit}s of several modalities ({', '.join(modalities)}): use one name for each"
        )
    bank = _thinned(cases.labelled(name, bank_splits), most)
    query = _thinned(cases.labelled(name, query_splits), most)
    values = cases.label_values(name, bank)
    classes = tuple(sorted(set(values)))
    query = [index for index, value in zip(query, cases.label_values(name, query), strict=True) if value in classes]
    query_values = cases.label_values(name, query)
    if len(classes) < 2 or len(set(query_values)) < 2 or len(query) < FEWEST_QUERIES:
        raise UsageError(
            f"label {name!r} is too rare to probe: {len(bank)} {cases.unit}s of {len(classes)} classes in "
            f"{'+'.join(bank_splits)}, {len(query)} of {len(set(query_values))} in {'+'.join(query_splits)}; "
            f"label more, until both have two classes and the latter {FEWEST_QUERIES} {cases.unit}s"
        )
    number = {value: place for place, value in enumerate(classes)}
    return LabelTask(
        name=name,
        modality=modalities[0],
        classes=classes,
        bank=tuple(bank),
        bank_targets=np.array([number[value] for value in values]),
        query=tuple(query),
        query_targets=np.array([number[value] for value in query_values]),
    )


def probe_tasks(archive: Archive, most: int) -> list[LabelTask]:
    """Every label of the archive that can be probed on its validation split, from its training split."""
    tasks = []
    for name in sorted(archive.labels):
        try:
            tasks.append(label_task(archive, name, ("train",), ("validation",), most))
        except UsageError:
            continue  # too few images or a free-text label: nothing to ask about
    return tasks


def knn_probe(
    encoder: Encoder, archive: Archive, tasks: Sequence[LabelTask], device: str, leave_out_damaged: bool = False
) -> dict[str, float]:
    """Macro AUC of each task by weighted kNN on the encoder's features.

    Raises:
        DamagedRecordError: if an image is damaged, unless these are left out.
    """
    needed = sorted({index for task in tasks for index in (*task.bank, *task.query)})
    whole: list[int] = []
    features = embed_images(encoder, _images(encoder, archive, needed, whole, leave_out_damaged), device=device)
    known = dict(zip(whole, features, strict=True))
    results = {}
    for task in tasks:
        bank, query = (
            [place for place, index in enumerate(part) if index in known] for part in (task.bank, task.query)
        )
        scores = knn_scores(
            np.stack([known[task.bank[place]] for place in bank]),
            task.bank_targets[bank],
            np.stack([known[task.query[place]] for place in query]),
            len(task.classes),
        )
        results[task.name] = float(macro_auc(scores, task.query_targets[query]))
    return results


def _images(
    encoder: Encoder, archive: Archive, needed: Sequence[int], whole: list[int], leave_out_damaged: bool
) -> Iterator[npt.NDArray[np.float32]]:
    """The images one by one; `whole` receives the indices of those that are."""
    for index in needed:
        try:
            image, _ = read_unit_image(archive, index, encoder.preprocessing)
        except DamagedRecordError:
            if not leave_out_damaged:
                raise
            continue
        whole.append(index)
        yield image


def _thinned(indices: list[int], most: int | None) -> list[int]:
    if most is None or len(indices) <= most:
        return indices
    return [indices[int(place)] for place in np.linspace(0, len(indices) - 1, most)]
