"""Studies of detections: figures against scikit-learn on what the cells left, parts and class weights by loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from boxed_store import brute_froc, make_boxed_store
from sklearn.metrics import roc_auc_score

from scoutview import study
from scoutview.batches import Archive
from scoutview.encoders import save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.metrics.froc import POINTS
from scoutview.preprocessing import Preprocessing
from scoutview.store import read_annotations
from scoutview.study import Study, load_plan
from scoutview.study.plan import Cell
from scoutview.tasks.detection import Detection

FRACTIONS = (1.0, 0.5)
TASK = {"task": "chest_detection", "input_size": 64, "width": 16, "depth": 1, "class_weights": True}
CLASSES = ("bar", "square")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of boxes and an encoder file."""
    path = tmp_path_factory.mktemp("detection-studies")
    make_boxed_store(path / "store", 32)
    save_encoder(untrained_encoder("resnet18w0.125", 64, Preprocessing(), 3), path / "ours.safetensors")
    return path


def write(file: Path, **changes: Any) -> Path:
    content = {
        "stores": ["store"],
        "tasks": {"opacities": TASK},
        "encoders": {"ours": "ours.safetensors"},
        "fractions": list(FRACTIONS),
        "seeds": 2,
        "finetune": {"steps": 8, "batch_size": 8},
        **changes,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study."""
    return study(write(folder / "study.yaml"), out=folder / "out")


def truth(folder: Path, split: str) -> np.ndarray:
    """[image, class]: whether there is a box, from the annotations."""
    archive = Archive.open([folder / "store"])
    drawn = {(entry.target, entry.name) for entry in read_annotations(archive.stores[0]) if entry.value == "1"}
    images = [archive.rows[index].image for index in archive.indices(splits=(split,))]
    return np.array([[(image, name) in drawn for name in CLASSES] for image in images])


def test_areas_of_images_are_those_of_scikit_learn(folder: Path, content: dict) -> None:
    assert content["failures"] == []
    assert content["done"] == content["cells"] == 2 * 2 * 2
    expected = truth(folder, "test")
    for entry in content["areas"]:
        areas = []
        for seed in range(2):
            cell = Cell("opacities", entry["encoder"], entry["fraction"], seed)
            scores = np.array(
                json.loads((cell.folder(folder / "out") / "result.json").read_text())["scores"]["fine-tuned"]
            )
            areas.append(np.mean([roc_auc_score(expected[:, n], scores[:, n]) for n in range(2)]))
        assert entry["by_seed"] == pytest.approx(areas)
    assert len(content["areas"]) == 4
    assert content["tasks"]["opacities"]["classes"] == list(CLASSES)
    assert "Mean of validation AUC and fROC sensitivity" in (folder / "out" / "report.html").read_text()


def test_frocs_are_those_of_a_loop_over_thresholds(folder: Path, content: dict) -> None:
    archive = Archive.open([folder / "store"])
    drawn = [entry for entry in read_annotations(archive.stores[0]) if entry.value == "1"]
    images = [archive.rows[index].image for index in archive.indices(splits=("test",))]
    values = {}
    for entry in content["frocs"]:
        by_seed = []
        for seed in range(2):
            cell = Cell("opacities", entry["encoder"], entry["fraction"], seed)
            kept = json.loads((cell.folder(folder / "out") / "result.json").read_text())["boxes"]
            boxes = list(zip(*(kept[key] for key in ("images", "classes", "scores", "corners")), strict=True))
            assert boxes
            listed = [
                {
                    "known": CLASSES,
                    "truths": [
                        {"class": a.name, "box": (a.x, a.y, a.x + a.width, a.y + a.height)}
                        for a in drawn
                        if a.target == image
                    ],
                    "detections": [
                        {"class": CLASSES[number], "score": score, "box": box}
                        for own, number, score, box in boxes
                        if own == place
                    ],
                }
                for place, image in enumerate(images)
            ]
            by_seed.append(np.mean([brute_froc(listed, name, 0.1, POINTS) for name in CLASSES]))
        assert entry["by_seed"] == pytest.approx(by_seed)
        assert entry["froc"]["low"] <= entry["froc"]["value"] <= entry["froc"]["high"]
        values[entry["fraction"], entry["encoder"]] = np.mean(by_seed)
    assert len(values) == 4
    assert len(content["froc_differences"]) == 2
    page = (folder / "out" / "report.html").read_text()
    for entry in content["froc_differences"]:
        expected = values[entry["fraction"], "ours"] - values[entry["fraction"], "none"]
        assert entry["difference"]["value"] == pytest.approx(expected)
        assert f"{entry['difference']['value']:+.3f}" in page


def test_a_detector_learns_from_its_part_alone(folder: Path) -> None:
    plan = load_plan(write(folder / "parts.yaml"), folder)
    grid = Study(plan, folder)
    boxes = truth(folder, "train")
    cell = Cell("opacities", "ours", 0.5, 1)
    places = grid.labelled(cell)
    assert set(places) < set(grid.labelled(Cell("opacities", "none", 1.0, 1)).tolist())
    assert {tuple(row) for row in boxes[places].tolist()} == {tuple(row) for row in boxes.tolist()}
    settings = plan.settings("opacities", 1, None)
    task = grid.tasks["opacities"].training(grid.encoder(cell), places.tolist(), settings, folder).task
    assert isinstance(task, Detection)
    indices = Archive.open([folder / "store"]).indices(splits=("train",))
    assert task.train.indices == tuple(indices[place] for place in places)
    counts = boxes[places].sum(0)
    np.testing.assert_allclose(task.weights.numpy(), np.tile(counts.sum() / (2 * counts), (len(places), 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"a": {**TASK, "label": "nodule"}}}, "no box of 'nodule'"),
        ({"tasks": {"a": {**TASK, "width": 0}}}, "width 0 must be 1 or more"),
        ({"robustness": {"cases": 2, "transforms": 2}}, "the classification of images alone"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        study(write(folder / "wrong.yaml", **changes), out=tmp_path / "out")
