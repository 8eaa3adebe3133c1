"""A whole small study: its figures against scikit-learn, stopped and continued, wrong files refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from scoutview import study
from scoutview.batches import Archive
from scoutview.encoders import Encoder, make_encoder, save_encoder
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing
from scoutview.study import Study, StudyPlan, load_plan
from scoutview.study.plan import Cell
from scoutview.study.task_plan import TaskPlan

TASKS = {"texture of CT": ["ct_rough"], "mr_rough": ["mr_rough"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Path:
    """A folder with an encoder file and a study file."""
    path = tmp_path_factory.mktemp("study")
    encoder = Encoder("resnet18w0.125", make_encoder("resnet18w0.125"), Preprocessing(), 48, {"method": "test"})
    save_encoder(encoder, path / "encoder.safetensors")
    shutil.copytree(small_store, path / "store")
    write(path / "study.yaml")
    return path


def write(file: Path, **changes: object) -> Path:
    content = {
        "stores": ["store"],
        "tasks": TASKS,
        "encoders": {"ours": "encoder.safetensors"},
        "fractions": [1.0, 0.3],
        "seeds": 2,
        "finetune": {"steps": 6, "batch_size": 8},
        **changes,
    }
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study."""
    return study(folder / "study.yaml", out=folder / "out")


def result(folder: Path, cell: Cell) -> dict:
    return json.loads((cell.folder(folder / "out") / "result.json").read_text())


def test_every_area_is_that_of_scikit_learn_on_the_kept_scores(folder: Path, content: dict) -> None:
    assert content["done"] == content["cells"] == 2 * 2 * 2 * 3
    archive = Archive.open([folder / "store"])
    for entry in content["areas"]:
        [label] = TASKS[entry["task"]]
        test = archive.labelled(label, ["test"])
        truth = [value == "1" for value in archive.label_values(label, test)]
        expected = [
            roc_auc_score(
                truth,
                np.array(
                    result(folder, Cell(entry["task"], entry["encoder"], entry["fraction"], seed))["scores"][
                        entry["measure"]
                    ]
                )[:, 0],
            )
            for seed in range(2)
        ]
        assert entry["by_seed"] == pytest.approx(expected)
        assert entry["auc"]["value"] == pytest.approx(np.mean(expected))
        assert entry["auc"]["low"] <= entry["auc"]["value"] <= entry["auc"]["high"]


def test_differences_are_paired_and_their_mean_is_that_of_the_tasks(content: dict) -> None:
    values = {
        (entry["task"], entry["fraction"], entry["encoder"], entry["measure"]): entry["auc"]["value"]
        for entry in content["areas"]
    }
    means: dict[tuple, list[float]] = {}
    for entry in content["differences"]:
        key = (entry["fraction"], entry["encoder"], entry["measure"], entry["reference"])
        if entry["task"] == "mean over tasks":
            assert entry["difference"]["value"] == pytest.approx(np.mean(means[key]))
            continue
        expected = (
            values[entry["task"], entry["fraction"], entry["encoder"], entry["measure"]]
            - values[entry["task"], entry["fraction"], entry["reference"], entry["measure"]]
        )
        means.setdefault(key, []).append(expected)
        assert entry["difference"]["value"] == pytest.approx(expected)


def test_steps_saved_are_those_of_the_kept_curves(folder: Path, content: dict) -> None:
    for entry in content["convergence"]:
        tasks = TASKS if entry["task"] == "mean over tasks" else [entry["task"]]
        steps = []
        for task in tasks:
            for seed in range(2):
                ours, none = (
                    result(folder, Cell(task, name, entry["fraction"], seed))["curve"] for name in ("ours", "none")
                )
                level = 0.98 * max(value for _, value in none)
                steps.append([next((s for s, v in curve if v >= level), curve[-1][0]) for curve in (ours, none)])
        assert entry["saved"] == pytest.approx(np.mean([1 - a / b for a, b in steps]))
        assert entry["in_all"] == pytest.approx(1 - sum(a for a, _ in steps) / sum(b for _, b in steps))


def test_every_encoder_learns_from_the_same_images_and_random_weights_differ_by_seed(
    folder: Path, content: dict
) -> None:
    for task in TASKS:
        sizes = {result(folder, Cell(task, name, 0.3, 0))["images"] for name in ("none", "ours", "raw pixels")}
        assert len(sizes) == 1
        a, b = (result(folder, Cell(task, "none", 1.0, seed))["scores"]["linear"] for seed in (0, 1))
        assert a != b
        a, b = (result(folder, Cell(task, "ours", 1.0, seed))["scores"]["linear"] for seed in (0, 1))
        assert a == b


def test_a_study_without_some_cells_continues_to_the_same_result(folder: Path, content: dict) -> None:
    shutil.copytree(folder / "out", folder / "torn")
    lost = [Cell("mr_rough", "ours", 0.3, 1), Cell("texture of CT", "none", 1.0, 0)]
    for cell in lost:
        shutil.rmtree(cell.folder(folder / "torn"))
    (folder / "torn" / "study.json").unlink()
    again = study(folder / "study.yaml", out=folder / "torn")
    assert again["areas"] == content["areas"]
    assert again["differences"] == content["differences"]


def test_side_by_side_gives_the_same_within_rounding(folder: Path, content: dict) -> None:
    again = study(folder / "study.yaml", out=folder / "beside", at_once=2)
    for mine, other in zip(again["areas"], content["areas"], strict=True):
        if mine["measure"] != "fine-tuned":  # training amplifies rounding
            assert mine["auc"]["value"] == pytest.approx(other["auc"]["value"], abs=0.05)
    assert again["labelled"] == content["labelled"]


def test_the_page_stands_alone_and_names_every_task(folder: Path, content: dict) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    for task in TASKS:
        assert task in page
    for entry in content["differences"]:
        assert f"{entry['difference']['value']:+.3f}" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"x": ["no such label"]}}, "no such label"),
        ({"encoders": {"none": "encoder.safetensors"}}, "none"),
        ({"encoders": None}, "encoders"),
        ({"fractions": [2.0]}, "fractions"),
        ({"seeds": 0}, "seeds"),
        ({"finetune": {"rate": 1}}, "rate"),
        ({"color": 1}, "color"),
        ({"tasks": {"a/b": ["ct_rough"]}}, "a/b cannot be that of a folder"),
    ],
)
def test_wrong_files_are_refused_by_name(folder: Path, tmp_path: Path, changes: dict, message: str) -> None:
    file = write(folder / "wrong.yaml", **changes)
    with pytest.raises(UsageError, match=message):
        study(file, out=tmp_path / "out")


def test_encoders_that_cannot_be_compared_are_refused(folder: Path, tmp_path: Path) -> None:
    other = Encoder("resnet18w0.25", make_encoder("resnet18w0.25"), Preprocessing(), 48, {"method": "test"})
    save_encoder(other, folder / "other.safetensors")
    file = write(folder / "unlike.yaml", encoders={"a": "encoder.safetensors", "b": "other.safetensors"})
    with pytest.raises(UsageError, match="compare like with like"):
        study(file, out=tmp_path / "out")


def test_published_weights_take_the_input_size_of_the_study(folder: Path, tmp_path: Path) -> None:
    weights = make_encoder("resnet18w0.125").state_dict()
    weights["conv1.weight"] = torch.randn(8, 3, 7, 7)
    torch.save(weights, folder / "natural.pth")
    plan = load_plan(
        write(folder / "natural.yaml", encoders={"natural": "natural.pth", "a": "encoder.safetensors"}), tmp_path
    )
    grid = Study(plan, tmp_path)
    assert {encoder.input_size for encoder in grid.encoders.values()} == {48}
    assert grid.encoder(Cell("ct_rough", "natural", 1.0, 0)).input_size == 48


def test_a_folder_of_another_study_is_not_overwritten(folder: Path, content: dict) -> None:
    file = write(folder / "changed.yaml", seeds=3)
    with pytest.raises(UsageError, match="other settings"):
        study(file, out=folder / "out")


def test_a_plain_list_of_labels_makes_a_task_of_each(folder: Path) -> None:
    plan = load_plan(write(folder / "list.yaml", tasks=["ct_rough", "mr_rough"]), folder)
    assert plan.tasks == {"ct_rough": TaskPlan(("ct_rough",)), "mr_rough": TaskPlan(("mr_rough",))}
    assert isinstance(plan, StudyPlan)
