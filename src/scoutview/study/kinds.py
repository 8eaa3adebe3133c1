"""From a task of the study file to its cases and trainings: one function per kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from scoutview.encoders import Encoder
from scoutview.errors import UsageError
from scoutview.metrics import ClassBoxes, case_table
from scoutview.store import SPLITS
from scoutview.study.plan import StudyPlan
from scoutview.study.tasks import Part, Scores, Sources, StudyTask, Training
from scoutview.tasks import (
    DetectionSettings,
    FinetuneSettings,
    HemorrhageSettings,
    MetastasisSettings,
    class_targets,
    finetune_task,
    predict,
)
from scoutview.tasks import metastasis as slices
from scoutview.tasks.classification import Classification, new_classifier
from scoutview.tasks.detection import (
    Detection,
    boxes_of,
    detect,
    detection_cases,
    new_detector,
    read_findings,
    truths_of,
)
from scoutview.tasks.head_file import FILE
from scoutview.tasks.hemorrhage import head_cases, hemorrhage_targets, hemorrhage_task
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import RunFolder, device


def open_tasks(plan: StudyPlan, sources: Sources) -> dict[str, StudyTask]:
    """The cases of every task.

    Raises:
        UsageError: if a label is missing or has too few values, a split has no case with it, or the encoder is none
            for a task or for robustness.
    """
    if plan.robustness is not None and sources.encoder.network.spatial_dims == 3:
        raise UsageError("study file: robustness is measured of images alone: leave it out for encoders of volumes")
    return {name: _open(plan, name, sources) for name in plan.tasks}


def _open(plan: StudyPlan, name: str, sources: Sources) -> StudyTask:
    planned = plan.tasks[name]
    settings = plan.settings(name, 0, next(iter(plan.choices())))
    match settings:
        case HemorrhageSettings():
            task = _hemorrhage(settings, sources)
        case DetectionSettings():
            task = _detection(planned.labels, settings, sources)
        case MetastasisSettings():
            task = _slices(planned.labels[0], settings, sources)
        case _:
            task = _classification(planned.labels, sources)
    for split, part in task.parts.items():
        if not len(part.patients):
            what = f"labelled with {', '.join(planned.labels)}" if planned.labels else f"labelled for task {name}"
            raise UsageError(f"no {task.unit} of split {split} is {what}: label more, or set a split column")
    return task


def _classification(labels: Sequence[str], sources: Sources) -> StudyTask:
    cases, inputs = sources.cases, sources.inputs
    train = class_targets(cases, labels, ("train",))
    validation, test = (class_targets(cases, labels, (split,), train.classes) for split in ("validation", "test"))

    def training(encoder: Encoder, places: Sequence[int], settings: FinetuneSettings, shared: Path) -> Training:
        part = train.part(places)
        model = new_classifier(encoder, labels, part, validation, settings.seed)
        task = Classification(model, inputs, part, validation, settings, device())
        return Training(task, lambda: (predict(model, inputs, test.indices, device()), None))

    probed = dict(zip(SPLITS, (train, validation, test), strict=True))
    parts = {split: Part(cases.patients(each.indices), each.values) for split, each in probed.items()}
    return StudyTask(cases.unit, train.classes, parts, training, probed=probed)


def _hemorrhage(settings: HemorrhageSettings, sources: Sources) -> StudyTask:
    """The figures are those of the first head. Of slices it has all of a volume in a row, but volumes are labelled."""
    cases, inputs = sources.heads
    first, names = next(iter(settings.columns(inputs.size[0]).items()))
    targets = {split: hemorrhage_targets(cases, inputs, settings, split)[0] for split in SPLITS}
    test = targets["test"]

    def part_of(split: str) -> Part:
        values = head_cases(first, targets[split].values, settings, inputs)
        patients = cases.patients(targets[split].indices)
        if first == "slices" and split == "test":
            patients = np.repeat(patients, inputs.size[0])
        elif first == "slices":
            values = (values.reshape(-1, inputs.size[0]) == 1).any(1, keepdims=True).astype(np.float32)
        return Part(patients, values)

    def training(encoder: Encoder, places: Sequence[int], own: HemorrhageSettings, shared: Path) -> Training:
        whole, _ = hemorrhage_task(cases, inputs, encoder, own, device())
        task = replace(whole, train=whole.train.part(places))
        return Training(
            task, lambda: (head_cases(first, predict(task.model, inputs, test.indices, device()), own, inputs), None)
        )

    unit, classes = ("slice", ("slices",)) if first == "slices" else ("volume", tuple(names))
    return StudyTask(unit, classes, {split: part_of(split) for split in SPLITS}, training)


def _detection(labels: Sequence[str], settings: DetectionSettings, sources: Sources) -> StudyTask:
    """The figures are those of images, each by its best box, and the fROC of the boxes."""
    archive, preprocessing = sources.archive, sources.encoder.preprocessing
    train, validation = detection_cases(archive, labels)
    test = read_findings(archive).cases(archive, train.classes, ("test",))
    inputs = NetworkInputs(archive, preprocessing, settings.input_size)
    # An encoder that cannot be a detector's is refused here.
    new_detector(sources.encoder, train.classes, settings.input_size, settings.width, settings.depth)

    def training(encoder: Encoder, places: Sequence[int], own: DetectionSettings, shared: Path) -> Training:
        model = new_detector(encoder, train.classes, own.input_size, own.width, own.depth, own.seed)
        task = Detection(model, inputs, train.part(places), validation, own, device())
        return Training(task, lambda: tested(boxes_of(detect(model, inputs, test, device()))))

    def tested(found: ClassBoxes) -> tuple[Scores, ClassBoxes]:
        return case_table(found, truths_of(test), test.known)[0], found

    nothing = boxes_of([])
    parts = {
        split: Part(archive.patients(each.indices), case_table(nothing, truths_of(each), each.known)[1])
        for split, each in zip(SPLITS, (train, validation, test), strict=True)
    }
    return StudyTask("image", train.classes, parts, training, truths=(truths_of(test), test.known))


def _slices(label: str, settings: MetastasisSettings, sources: Sources) -> StudyTask:
    """Stage 1 is trained on the labelled part, as the classifier is; its masks are the same for all encoders."""
    like = sources.encoder
    slices.new_slice_classifier(like, label, settings.mask_channel, 0)  # an encoder that cannot be one is refused here
    masks = slices.Masks.read(sources.archive, label)
    train, validation, test = (
        slices.SliceInputs(slices.SliceCases.of(sources.archive, masks, split), like.preprocessing, like.image_side)
        for split in SPLITS
    )

    def part_of(places: Sequence[int]) -> slices.SliceInputs:
        return replace(train, cases=train.cases.part(places))

    def predicted(part: slices.SliceInputs, shared: Path) -> tuple[slices.PredictedMasks, slices.PredictedMasks]:
        """Of what is trained and validated on, and of the test cases; both are kept on disk."""
        stage1 = shared / slices.STAGE1
        segmenters = slices.load_segmenters(stage1)
        slices.check_stage1(segmenters, label, like, (validation, test))
        seen, asked = (
            slices.predicted_masks(stage1, segmenters, inputs, device()) for inputs in ((part, validation), (test,))
        )
        return seen, asked

    def stage1(places: Sequence[int], own: MetastasisSettings, shared: Path) -> None:
        part = part_of(places)
        for folder, job in slices.stage1_jobs(part, validation, own, device()).items():
            run = RunFolder(shared / folder)
            run.prepare({**asdict(job.settings), "steps": job.settings.resolved_steps(job.task.cases)}, {})
            if not (run.path / FILE).exists():
                finetune_task(job.task, job.settings, run, device())
                job.save(run.path)
            run.close()
        predicted(part, shared)

    def training(encoder: Encoder, places: Sequence[int], own: MetastasisSettings, shared: Path) -> Training:
        part = part_of(places)
        seen, asked = predicted(part, shared) if own.mask_channel else (None, None)
        model = slices.new_slice_classifier(encoder, label, own.mask_channel, own.seed)
        learnt, watched = (slices.SliceChannels(inputs, seen) for inputs in (part, validation))
        task = slices.SliceClassification(model, learnt, watched, own, device())
        return Training(task, lambda: (slices.predict_slices(model, slices.SliceChannels(test, asked), device()), None))

    parts = {
        split: Part(each.cases.patients, each.cases.targets[:, None])
        for split, each in zip(SPLITS, (train, validation, test), strict=True)
    }
    return StudyTask("slice", (label,), parts, training, stage1 if settings.mask_channel else None)
