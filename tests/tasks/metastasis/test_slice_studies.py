"""Studies of slices: stage 1 once per fraction and seed and shared, stopped anywhere, figures by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score
from sliced_store import NAME, SLICES, make_sliced_store

from scoutview import study
from scoutview.batches import Archive
from scoutview.encoders import save_encoder, untrained_encoder
from scoutview.errors import RunError
from scoutview.preprocessing import Preprocessing
from scoutview.study import Study, load_plan
from scoutview.study.plan import STAGE1, Cell
from scoutview.tasks.finetuning import Task
from scoutview.tasks.metastasis import Masks, SliceCases, SliceClassification, load_segmenters
from scoutview.tasks.metastasis.segmentation import Segmentation, hashed

FRACTIONS = (1.0, 0.5)
TASK = {"task": "metastasis_slices", "label": NAME, "mask_steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of slices, its masks, and an encoder file."""
    path = tmp_path_factory.mktemp("slice-studies")
    _, bitmaps = make_sliced_store(path / "store")
    np.savez(path / "bitmaps.npz", **{name: np.array(mask.any()) for name, mask in bitmaps.items()})
    save_encoder(untrained_encoder("resnet18w0.25", 32, Preprocessing(), 3), path / "ours.safetensors")
    return path


def write(file: Path, **changes: Any) -> Path:
    content = {
        "stores": ["store"],
        "tasks": {"mets": TASK},
        "encoders": {"ours": "ours.safetensors"},
        "fractions": list(FRACTIONS),
        "seeds": 1,
        "finetune": {"steps": 4, "batch_size": 8},
        **changes,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study."""
    return study(write(folder / "study.yaml"), out=folder / "out")


def result(out: Path, cell: Cell) -> dict:
    return json.loads((cell.folder(out) / "result.json").read_text())


def test_areas_of_slices_are_those_of_scikit_learn(folder: Path, content: dict) -> None:
    assert content["failures"] == []
    assert content["done"] == content["cells"] == 2 * 3
    bitmaps = np.load(folder / "bitmaps.npz")
    names = sorted(name for name in bitmaps.files if int(name.split("-")[1]) % 4 == 3)
    archive = Archive.open([folder / "store"])
    cases = SliceCases.of(archive, Masks.read(archive, NAME), "test")
    order = [cases.row(case).image for case in range(len(cases))]
    assert sorted(order) == names
    truth = [bool(bitmaps[name]) for name in order]
    assert len(content["areas"]) == 4
    for entry in content["areas"]:
        scores = np.array(
            result(folder / "out", Cell("mets", entry["encoder"], entry["fraction"], 0))["scores"]["fine-tuned"]
        )
        assert scores.shape == (len(names), 1)
        assert entry["by_seed"] == pytest.approx([roc_auc_score(truth, scores[:, 0])])
    assert content["tasks"]["mets"]["unit"] == "slice"


def test_stage_1_learns_from_the_labelled_patients_alone_and_makes_its_masks_once(folder: Path, content: dict) -> None:
    grid = Study(load_plan(folder / "study.yaml", folder), folder)
    before: set[str] = set()
    for fraction in sorted(FRACTIONS):
        cell = Cell("mets", STAGE1, fraction, 0)
        places = grid.labelled(cell)
        patients = grid.tasks["mets"].parts["train"].patients
        labelled = set(patients[places].tolist())
        assert len(places) == SLICES * len(labelled)
        assert before < labelled
        before = labelled
        stage1 = cell.folder(folder / "out") / "stage1"
        seen = [one.patients for one in load_segmenters(stage1)]
        assert set.union(*map(set, seen)) == {hashed(key) for key in labelled}
        assert set(seen[0]).isdisjoint(seen[1])
        assert len(list(stage1.glob("masks-*.npz"))) == 2  # of what is trained on and watched, and of the test
        assert not list(stage1.rglob("checkpoints"))
        assert result(folder / "out", cell)["images"] == len(places)
        for encoder in ("none", "ours"):
            other = Cell("mets", encoder, fraction, 0)
            assert not (other.folder(folder / "out") / "stage1").exists()
            assert result(folder / "out", other)["images"] == len(places)
    assert before == set(grid.tasks["mets"].parts["train"].patients.tolist())


@pytest.mark.parametrize("kind", [Segmentation, SliceClassification])
def test_a_study_that_is_stopped_goes_on_to_the_same_result(
    folder: Path, content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Task]
) -> None:
    original, calls = kind.loss, []

    def stops(self: Any, cases: list[int], generator: np.random.Generator) -> torch.Tensor:
        calls.append(cases)
        if len(calls) == 6:  # in the second training of its kind
            raise KeyboardInterrupt
        return original(self, cases, generator)

    monkeypatch.setattr(kind, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        study(folder / "study.yaml", out=tmp_path / "out")
    monkeypatch.setattr(kind, "loss", original)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("head.safetensors")}
    assert written
    again = study(folder / "study.yaml", out=tmp_path / "out")
    assert again["areas"] == content["areas"]
    assert again["curves"] == content["curves"]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_without_stage_1_every_encoder_fails_and_says_why(folder: Path, tmp_path: Path) -> None:
    tasks = {"mets": {**TASK, "mask_folds": 9}}  # more than there are patients with a spot
    with pytest.raises(RunError, match="too few patients with spot for mask_folds 9"):
        study(write(folder / "folds.yaml", tasks=tasks, fractions=[0.5]), out=tmp_path / "out")
    failures = json.loads((tmp_path / "out" / "study.json").read_text())["failures"]
    assert [entry["encoder"] for entry in failures] == [STAGE1, "none", "ours"]
    assert all("holds no finished stage 1" in entry["error"] for entry in failures[1:])


def test_without_a_mask_channel_there_is_no_stage_1(folder: Path, tmp_path: Path) -> None:
    tasks = {"mets": {"task": "metastasis_slices", "label": NAME, "mask_channel": False}}
    content = study(write(folder / "plain.yaml", tasks=tasks, fractions=[0.5]), out=tmp_path / "out")
    assert content["done"] == content["cells"] == 2
    assert len(content["areas"]) == 2
