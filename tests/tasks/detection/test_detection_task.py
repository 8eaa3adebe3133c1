"""Detection as a task: which images count, its loss by hand, what it learns, what it leaves, against plain loops."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fcos_reference as reference
import numpy as np
import pytest
import torch
from boxed_store import COLUMNS, ROWS, brute_froc, make_boxed_store, write_images
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from scoutview import evaluate, finetune
from scoutview.batches import Archive
from scoutview.encoders import untrained_encoder
from scoutview.errors import UsageError
from scoutview.metrics.froc import POINTS
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, add_annotations
from scoutview.tasks.detection import (
    Detection,
    DetectionSettings,
    DetectionTargets,
    detect,
    detection_job,
    detection_loss,
    load_detector,
    new_detector,
    read_findings,
)
from scoutview.tasks.detection.task import class_weights
from scoutview.tasks.inputs import NetworkInputs

SIZE = 80
SLIM = {"input_size": SIZE, "width": 16, "depth": 1, "batch_size": 4}
STILL = {"zoom": (1.0, 1.0), "shift": 0.0, "gain": (1.0, 1.0), "bias": (0.0, 0.0)}


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxed") / "store"
    make_boxed_store(folder)
    return folder


@pytest.fixture(scope="module")
def run(boxed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "run"
    finetune("chest_detection", boxed, encoder="none", out=out, steps=20, **SLIM)
    evaluate(out, boxed)
    return out


def task_of(store: Path, split: tuple[str, ...] = ("train",), **settings: object) -> Detection:
    archive = Archive.open([store])
    findings = read_findings(archive)
    cases = findings.cases(archive, ("bar", "square"), split)
    encoder = untrained_encoder("resnet18w0.25", SIZE, Preprocessing())
    values = DetectionSettings(**{**SLIM, **settings})
    model = new_detector(encoder, cases.classes, SIZE, values.width, values.depth)
    return Detection(model, NetworkInputs(archive, Preprocessing(), SIZE), cases, cases, values, "cpu")


def test_what_is_known_of_an_image(tmp_path: Path) -> None:
    """By id: what was said of it, and what it then is, None where it is no case."""
    said = {
        "boxed": [Annotation("boxed", "box", "lesion", "1", 10, 20, 30, 40)],
        "searched": [Annotation("searched", "box", "lesion", "0")],
        "labelled-absent": [Annotation("labelled-absent", "label", "lesion", "0")],
        "labelled-present": [Annotation("labelled-present", "label", "lesion", "1")],
        "silent": [],
        "other": [Annotation("other", "label", "fracture", "0")],
        "box-beats-label": [
            Annotation("box-beats-label", "label", "lesion", "0"),
            Annotation("box-beats-label", "box", "lesion", "1", 0, 0, 5, 5),
        ],
        "study-searched": [Annotation("study-study-searched", "box", "lesion", "0")],
        "image-before-study": [
            Annotation("study-image-before-study", "box", "lesion", "0"),
            Annotation("image-before-study", "box", "lesion", "1", 1, 2, 3, 4),
        ],
        "one-of-three": [
            Annotation("one-of-three", "box", "lesion", "1", 0, 0, 9, 9, reader="a"),
            Annotation("one-of-three", "box", "lesion", "0", reader="b"),
            Annotation("one-of-three", "box", "lesion", "0", reader="c"),
        ],
        "two-of-three": [
            Annotation("two-of-three", "box", "lesion", "1", 10, 10, 20, 20, reader="a"),
            Annotation("two-of-three", "box", "lesion", "1", 12, 10, 20, 24, reader="b"),
            Annotation("two-of-three", "box", "lesion", "0", reader="c"),
        ],
        "beyond": [Annotation("beyond", "box", "lesion", "1", -0.5, 90, 20, 6.5)],
    }
    expected = {
        "boxed": [[10, 20, 40, 60]],
        "searched": [],
        "labelled-absent": [],
        "box-beats-label": [[0, 0, 5, 5]],
        "study-searched": [],
        "image-before-study": [[1, 2, 4, 6]],
        "one-of-three": [],
        "two-of-three": [[11, 10, 31, 32]],
        "beyond": [[0, 90, 19.5, 96]],
    }
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, COLUMNS)).astype(np.uint8)
    images = [(name, "xray", "train", pixels + number) for number, name in enumerate(said)]
    store = write_images(tmp_path / "store", [*images, ("slice", "ct", "train", pixels)])
    add_annotations(store, [*(entry for entries in said.values() for entry in entries)])
    add_annotations(store, [Annotation("slice", "box", "lesion", "1", 0, 0, 9, 9)])
    archive = Archive.open([tmp_path / "store"])
    findings = read_findings(archive)
    cases = findings.cases(archive, ("lesion",), ("train",))
    found = {archive.rows[i].image: boxes.tolist() for i, boxes in zip(cases.indices, cases.boxes, strict=True)}
    assert found == expected
    assert cases.known.all()
    assert findings.drawn(archive, ("train",)) == ("lesion",)
    both = findings.cases(archive, ("lesion", "fracture"), ("train",))
    by_name = {archive.rows[i].image: known.tolist() for i, known in zip(both.indices, both.known, strict=True)}
    assert by_name == {**{name: [True, False] for name in expected}, "other": [False, True]}


def test_loss_equals_that_of_targets_by_hand(boxed: Path) -> None:
    task = task_of(boxed, **STILL)
    chosen = [0, 1, 2, 5]
    network = task.model.network.train(False)
    network.encoder.float()
    found = task.loss(chosen, np.random.default_rng(0))
    # The long side of 120 px fills 80, the short one of 96 takes 64, so 8 px are above and below.
    boxes = [
        [(a * 2 / 3, b * 2 / 3 + 8, c * 2 / 3, d * 2 / 3 + 8) for a, b, c, d in task.train.boxes[case].tolist()]
        for case in chosen
    ]
    assert {len(own) for own in boxes} == {0, 1, 2}
    with torch.no_grad():
        outputs = network(task.inputs.batch([task.train.indices[case] for case in chosen]))
    shapes = [(-(-SIZE // stride),) * 2 for stride in reference.STRIDES]
    classes, distances, centerness = [], [], []
    for case, own in zip(chosen, boxes, strict=True):
        targets = [reference.target(*place, own) for place in reference.locations(shapes)]
        names = task.train.numbers[case].tolist()
        classes.append([names[number] if number >= 0 else -1 for number, _, _ in targets])
        distances.append([value for _, value, _ in targets])
        centerness.append([value for _, _, value in targets])
    by_hand = DetectionTargets(torch.tensor(classes), torch.tensor(distances), torch.tensor(centerness))
    expected = detection_loss(outputs, by_hand)
    assert int(expected.positives) > 5
    assert float(found.detach()) == pytest.approx(float(expected.mean(expected.positives)), rel=1e-5)


def test_a_class_that_is_not_known_teaches_nothing(boxed: Path) -> None:
    task = task_of(boxed, **STILL)
    task.train.known[:, 1] = False
    task.loss([0, 1, 2, 5], np.random.default_rng(0)).backward()
    gradient = task.model.network.head.logits.weight.grad
    assert gradient is not None
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


def test_a_batch_without_a_box_has_a_finite_loss_and_weights_are_balanced(boxed: Path) -> None:
    task = task_of(boxed, class_weights=True)
    empty = [case for case, boxes in enumerate(task.train.boxes) if not len(boxes)]
    loss = task.loss(empty, np.random.default_rng(0))
    loss.backward()
    assert torch.isfinite(loss)
    counts = np.bincount(np.concatenate(task.train.numbers))
    np.testing.assert_allclose(class_weights(task.train).numpy() * counts, counts.sum() / 2, rtol=1e-6)


def test_boxes_return_from_the_square_as_they_went_in(boxed: Path) -> None:
    task = task_of(boxed)
    for shape, boxes in zip(task.train.shapes, task.train.boxes, strict=True):
        letterbox = task.model.letterbox(shape)
        np.testing.assert_allclose(letterbox.back(letterbox.into(boxes)), boxes, atol=1e-12)


def test_four_images_can_be_learnt_by_heart(boxed: Path, tmp_path: Path) -> None:
    from scoutview.tasks import finetune_task
    from scoutview.training import RunFolder

    task = task_of(boxed, ("validation",), steps=160, head_learning_rate=5e-3, **STILL)
    assert task.cases == 4
    folder = RunFolder(tmp_path / "run")
    folder.prepare({}, {})
    finetune_task(task, task.settings, folder, "cpu")
    folder.close()
    figures = task.validate()
    assert figures["auc"] == 1.0
    for found, boxes, numbers in zip(
        detect(task.model, task.inputs, task.train, "cpu"), task.train.boxes, task.train.numbers, strict=True
    ):
        for box, name in zip(boxes.tolist(), numbers.tolist(), strict=True):
            best = found.boxes[found.classes == name][0].tolist()
            assert reference.overlap(tuple(best), tuple(box)) > 0.5


def test_a_run_continues_bit_by_bit(boxed: Path, run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"

    class KilledError(Exception):
        pass

    original = Detection.loss

    def dying(self: Detection, cases: object, generator: object) -> torch.Tensor:
        dying.calls += 1  # type: ignore[attr-defined]
        if dying.calls == 12:  # type: ignore[attr-defined]
            raise KilledError
        return original(self, cases, generator)  # type: ignore[arg-type]

    dying.calls = 0  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detection, "loss", dying)
        with pytest.raises(KilledError):
            finetune("chest_detection", boxed, encoder="none", out=again, steps=20, **SLIM)
    finetune("chest_detection", boxed, encoder="none", out=again, steps=20, **SLIM)
    for name in ("encoder.safetensors", "head.safetensors"):
        one, other = load_file(run / name), load_file(again / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_evaluation_equals_loops_over_the_detections(boxed: Path, run: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    images = json.loads((run / "detections.json").read_text())["images"]
    assert len(images) == content["n_images"] == 4
    sensitivities = {"iou 0.1": [], "iou 0.5": []}
    for name in ("bar", "square"):
        scores = [max([b["score"] for b in i["detections"] if b["class"] == name], default=0.0) for i in images]
        targets = [any(b["class"] == name for b in image["truths"]) for image in images]
        entry = content["per_class"][name]
        assert entry["auc"]["value"] == pytest.approx(roc_auc_score(targets, scores))
        for rule, values in sensitivities.items():
            expected = brute_froc(images, name, float(rule.split()[1]), POINTS)
            assert entry["froc"][rule]["score"]["value"] == pytest.approx(expected)
            values.append(expected)
    for rule, values in sensitivities.items():
        assert content["metrics"][f"froc_{rule.replace(' ', '_')}"]["value"] == pytest.approx(np.mean(values))


def test_detections_are_those_of_the_saved_model_and_the_page_shows_every_image(boxed: Path, run: Path) -> None:
    archive, model = Archive.open([boxed]), load_detector(run)
    cases = read_findings(archive).cases(archive, model.classes, ("test",))
    inputs = NetworkInputs(archive, model.encoder.preprocessing, model.input_size)
    images = json.loads((run / "detections.json").read_text())["images"]
    for found, entry, truths in zip(detect(model, inputs, cases, "cpu"), images, cases.boxes, strict=True):
        assert [box["box"] for box in entry["detections"]] == found.boxes.tolist()
        assert [box["box"] for box in entry["truths"]] == truths.tolist()
    page = (run / "cases.html").read_text()
    assert page.count("<figure>") == len(images)
    assert page.count('<rect class="true"') == sum(len(entry["truths"]) for entry in images)
    errors = [float(value) for value in re.findall(r"<span>error ([\d.]+)</span>", page)]
    assert errors == sorted(errors, reverse=True)
    report = (run / "report.html").read_text()
    assert "mean fROC sensitivity, IoU 0.1" in report
    assert "sensitivity over false positives per image for square" in report


def test_two_detectors_differ_by_what_loops_over_both_detections_say(boxed: Path, run: Path, tmp_path: Path) -> None:
    other = finetune("chest_detection", boxed, encoder="none", out=tmp_path / "other", steps=3, seed=1, **SLIM)
    against = evaluate(run, boxed, against=other)["against"]
    assert not (other / "detections.json").exists()  # the other run is only read
    assert not (other / "cases.html").exists()
    evaluate(other, boxed)
    ours, theirs = (json.loads((folder / "detections.json").read_text())["images"] for folder in (run, other))
    for rule in ("iou 0.1", "iou 0.5"):
        values = [
            [brute_froc(images, name, float(rule.split()[1]), POINTS) for name in ("bar", "square")]
            for images in (ours, theirs)
        ]
        figure = f"froc_{rule.replace(' ', '_')}"
        for place, name in enumerate(("bar", "square")):
            entry = against["per_class"][name][figure]
            assert entry["this"]["value"] == pytest.approx(values[0][place])
            assert entry["other"]["value"] == pytest.approx(values[1][place])
        difference = against["metrics"][figure]["difference"]
        assert difference["value"] == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
        assert difference["low"] <= difference["value"] <= difference["high"]
    alone = json.loads((other / "evaluation.json").read_text())["metrics"]
    for figure, entry in against["metrics"].items():
        assert entry["other"] == pytest.approx(alone[figure])
    assert against["convergence"]["watched"] == "mean"
    assert "mean fROC sensitivity, centre in the box" in (run / "report.html").read_text()
    single = finetune("chest_detection", boxed, encoder="none", out=tmp_path / "single", label=["bar"], steps=1, **SLIM)
    with pytest.raises(UsageError, match="has the classes"):
        evaluate(run, boxed, against=single)
    with pytest.raises(UsageError, match="--robustness is for classifiers of images"):
        evaluate(run, boxed, against=other, robustness=True)


def test_what_cannot_be_learnt_or_loaded_is_refused(boxed: Path, run: Path, tmp_path: Path) -> None:
    archive = Archive.open([boxed])
    encoder = untrained_encoder("resnet18w0.25", SIZE, Preprocessing())
    with pytest.raises(UsageError, match="no box of 'nodule' is in a radiograph of split train; boxes there: bar, squ"):
        detection_job(archive, encoder, ("nodule",), DetectionSettings(), "cpu")
    with pytest.raises(UsageError, match="give a ResNet encoder"):
        new_detector(untrained_encoder("densenet_3d", (40, 64, 64), Preprocessing()), ("a",), SIZE, 16, 1)
    with pytest.raises(UsageError, match="give a ResNet encoder of images"):
        new_detector(untrained_encoder("resnet18w0.25_3d", (16, 64, 64), Preprocessing()), ("a",), SIZE, 16, 1)
    with pytest.raises(UsageError, match="depth 0 must be 1 or more"):
        DetectionSettings(depth=0)
    with pytest.raises(UsageError, match="width is a setting of chest_detection, not of classification"):
        finetune("classification", boxed, encoder="none", out=tmp_path / "wrong", label=["a"], width=8)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("encoder.safetensors", "head.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    assert load_detector(copy).classes == ("bar", "square")
    whole = (run / "head.safetensors").read_bytes()
    damaged = [whole[: len(whole) // 2], whole.replace(b'"16"', b'"32"'), whole.replace(b'"width"', b'"wodth"'), b""]
    for content in damaged:
        (copy / "head.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match="damaged"):
            load_detector(copy)
    (copy / "head.safetensors").unlink()
    with pytest.raises(UsageError, match="holds no detector"):
        load_detector(copy)
