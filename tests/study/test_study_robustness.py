"""Robustness and convergence of a small study, against loops over what its cells left."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import Elements
from study_files import TASKS, make_folder, result, write

from scoutview import study
from scoutview.batches import Archive
from scoutview.errors import UsageError
from scoutview.metrics import box_plot, roc_auc
from scoutview.store import Annotation, Store, add_annotations
from scoutview.study import load_plan
from scoutview.study.plan import Cell

FRACTIONS = [0.5, 1.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Path:
    path = make_folder(tmp_path_factory.mktemp("robust"), small_store)
    shutil.copy(path / "ours.safetensors", path / "twin.safetensors")
    return path


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study: two encoders of the same weights."""
    file = write(
        folder / "study.yaml",
        encoders={"ours": "ours.safetensors", "twin": "twin.safetensors"},
        fractions=FRACTIONS,
        robustness={"cases": 3, "transforms": 5},
        finetune={"steps": 20, "batch_size": 8},
    )
    return study(file, out=folder / "out")


def test_every_model_sees_the_same_cases_under_the_same_transforms(folder: Path, content: dict) -> None:
    for task in TASKS:
        for seed in range(2):
            ours, twin, none = (
                result(folder / "out", Cell(task, name, 1.0, seed))["robustness"] for name in ("ours", "twin", "none")
            )
            assert ours == twin
            assert ours["cases"] == none["cases"]
            assert ours["transformed"] != none["transformed"]
            assert np.shape(ours["transformed"]) == (3, 5, 1)
            scores = result(folder / "out", Cell(task, "ours", 1.0, seed))["scores"]["fine-tuned"]
            np.testing.assert_allclose(ours["probabilities"], np.array(scores)[ours["cases"]], atol=1e-6)
            assert "robustness" not in result(folder / "out", Cell(task, "ours", 0.5, seed))


def test_figures_are_those_of_a_loop(folder: Path, content: dict) -> None:
    archive = Archive.open([folder / "store"])
    assert len(content["robustness"]) == len(TASKS) * 3
    medians: dict[tuple[str, str], float] = {}
    for entry in content["robustness"]:
        test = archive.labelled(entry["task"], ["test"])
        truth = np.array([value == "1" for value in archive.label_values(entry["task"], test)])
        kept = [result(folder / "out", Cell(entry["task"], entry["encoder"], 1.0, s))["robustness"] for s in (0, 1)]
        changes, areas, logits = [], [], []
        for each in kept:
            before, after = np.array(each["probabilities"])[:, 0], np.array(each["transformed"])[:, :, 0]
            changes.append([[(b - a) / max(a, 0.001) for b in row] for a, row in zip(before, after, strict=True)])
            areas.append(np.mean([roc_auc(column, truth[each["cases"]]) for column in after.T]))
            logits.append(np.median(np.abs(np.log(after / (1 - after)) - np.log(before / (1 - before))[:, None])))
        medians[entry["task"], entry["encoder"]] = float(np.mean([np.median(np.abs(each)) for each in changes]))
        assert entry["median_change"]["value"] == pytest.approx(medians[entry["task"], entry["encoder"]])
        assert entry["median_logit_change"]["value"] == pytest.approx(np.mean(logits))
        assert entry["auc_transformed"]["value"] == pytest.approx(np.mean(areas))
        assert entry["changes"] == pytest.approx(box_plot(changes))
        assert entry["by_class"][entry["task"]]["median_change"] == entry["median_change"]
        assert entry["minus_reference"]["median_change"]["value"] == pytest.approx(
            medians[entry["task"], entry["encoder"]] - medians[entry["task"], "none"]
        )
        assert (entry["cases"], entry["transforms"], entry["fraction"]) == (3, 5, 1.0)


def test_steps_to_the_own_best_are_those_of_a_loop(folder: Path, content: dict) -> None:
    for entry in content["convergence"]:
        steps = []
        for task in TASKS if entry["task"] == "mean over tasks" else [entry["task"]]:
            for seed in range(2):
                found = []
                for name in (entry["encoder"], "none"):
                    curve = result(folder / "out", Cell(task, name, entry["fraction"], seed))["curve"]
                    best = max(value for _, value in curve)
                    found.append(next(step for step, value in curve if value >= 0.98 * best))
                steps.append(1 - found[0] / found[1])
        assert entry["own_best"]["saved"] == pytest.approx(np.mean(steps))
        assert entry["own_best"]["deviation"] == pytest.approx(np.std(steps))
        assert entry["own_best"]["not_reached"] == 0
        assert entry["same_schedule"]


def test_two_encoders_of_the_same_weights_are_not_told_apart(content: dict) -> None:
    twins = [entry["difference"] for entry in content["differences"] if entry["reference"] == "twin"]
    assert len(twins) == 2 * 3 * 3
    assert all(each["value"] == each["low"] == each["high"] == 0 for each in twins)


def test_the_page_holds_boxes_and_every_figure(folder: Path, content: dict) -> None:
    page = (folder / "out" / "report.html").read_text()
    elements = Elements(page)
    assert not elements.open
    labels = [attributes.get("aria-label") or "" for tag, attributes in elements.found if tag == "svg"]
    boxes = [label for label in labels if label.startswith("relative change of the probability")]
    assert len(boxes) == len(TASKS)
    for entry in content["robustness"]:
        assert any(f"median {entry['changes']['median']:+.1%}" in label for label in boxes)
        assert f"{entry['auc_transformed']['value']:.3f} [" in elements.text
    for entry in content["convergence"]:
        assert f"{entry['own_best']['saved']:+.0%} (sd {entry['own_best']['deviation']:.0%})" in elements.text


def test_classes_that_the_test_images_lack_do_not_spoil_the_areas(folder: Path, tmp_path: Path) -> None:
    archive = Archive.open([folder / "store"])
    test = {archive.rows[index].image for index in archive.labelled("us_rough", ["test"])}
    names = [archive.rows[index].image for index in archive.labelled("us_rough")]
    grades = {name: "c" if name not in test and place % 5 == 0 else "ab"[place % 2] for place, name in enumerate(names)}
    shutil.copytree(folder / "store", tmp_path / "store")
    notes = [Annotation(name, "label", "grade", grade) for name, grade in grades.items()]
    add_annotations(Store.open(tmp_path / "store"), notes)
    shutil.copy(folder / "ours.safetensors", tmp_path / "ours.safetensors")
    file = write(
        tmp_path / "study.yaml",
        tasks=["grade"],
        encoders={"ours": "ours.safetensors"},
        seeds=1,
        robustness={"cases": 10, "transforms": 4},
    )
    for entry in study(file, out=tmp_path / "out")["robustness"]:
        kept = result(tmp_path / "out", Cell("grade", entry["encoder"], 1.0, 0))["robustness"]
        assert np.allclose(np.sum(kept["transformed"], axis=2), 1.0)
        indices = archive.labelled("us_rough", ["test"])
        truth = np.array([grades[archive.rows[index].image] for index in indices])[kept["cases"]]
        after = np.array(kept["transformed"])
        expected = [
            np.mean([roc_auc(after[:, transform, column], truth == grade) for transform in range(4)])
            for column, grade in enumerate("ab")
        ]
        assert entry["auc_transformed"]["value"] == pytest.approx(np.mean(expected))
        assert set(entry["by_class"]) == {"a", "b", "c"}


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"shots": 5}, [50, 50], {"cases": "many"}])
def test_wrong_robustness_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(UsageError, match="robustness"):
        load_plan(write(tmp_path / "study.yaml", robustness=wrong), tmp_path)
