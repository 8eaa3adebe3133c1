"""Studies of volumes: figures against scikit-learn on what the cells left, labelled parts by brute force."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from scoutview import study
from scoutview.batches import Archive, LabelledVolumes
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.metrics import macro_auc
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.store import SPLITS, Annotation, Store, add_annotations
from scoutview.study import Study, load_plan
from scoutview.study.plan import Cell
from scoutview.study.task_plan import TaskPlan
from scoutview.tasks import HemorrhageSettings
from scoutview.tasks.hemorrhage import Hemorrhage, hemorrhage_inputs, hemorrhage_targets

SIZE = (8, 32, 32)
TASKS = {
    "any": ["hemorrhage"],
    "bleeding": {"task": "hemorrhage_volume", "heads": ["volume", "types"], "class_weights": True},
    "where": {"task": "hemorrhage_volume", "heads": ["slices"], "batch_size": 3},
}
FRACTIONS = [1.0, 0.5, 0.2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of heads, two encoders of volumes and a study file."""
    path = tmp_path_factory.mktemp("volume-studies")
    write_phantoms(path / "source", patients={"ct": 30}, seed=7, size=64, slices=8)
    run_ingest([path / "source"], path / "store", workers=1, labels=path / "source" / "labels.csv")
    store = Store.open(path / "store")
    series = sorted({row.series for row in store.rows()})
    add_annotations(store, [Annotation(name, "split", "split", SPLITS[n % 3]) for n, name in enumerate(series)])
    save_encoder(untrained_encoder("resnet18w0.25_3d", SIZE, Preprocessing(), 5), path / "ours.safetensors")
    save_encoder(untrained_encoder("resnet18w0.25", 32, Preprocessing()), path / "flat.safetensors")
    write(path / "study.yaml")
    return path


def write(file: Path, **changes: object) -> Path:
    content = {
        "stores": ["store"],
        "tasks": TASKS,
        "encoders": {"ours": "ours.safetensors"},
        "fractions": FRACTIONS[:2],
        "seeds": 1,
        "finetune": {"steps": 3, "batch_size": 4},
        **changes,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study."""
    return study(folder / "study.yaml", out=folder / "out")


def scores(folder: Path, entry: dict) -> np.ndarray:
    cell = Cell(entry["task"], entry["encoder"], entry["fraction"], 0)
    return np.array(json.loads((cell.folder(folder / "out") / "result.json").read_text())["scores"][entry["measure"]])


def test_areas_of_volumes_and_slices_are_those_of_scikit_learn(folder: Path, content: dict) -> None:
    assert content["failures"] == []
    assert content["done"] == content["cells"] == 2 * (3 + 2 + 2)
    archive = Archive.open([folder / "store"])
    cases, inputs = hemorrhage_inputs(archive, load_encoder(folder / "ours.safetensors"))
    volumes = [cases.volumes.place(index)[1].rows for index in range(len(cases))]
    labels = archive.labels["hemorrhage"]
    test = cases.labelled("hemorrhage", ("test",))
    bleeds = [any(labels[row.image] == "1" for row in volumes[index]) for index in test]
    slices = hemorrhage_targets(cases, inputs, HemorrhageSettings(heads=("slices",)), "test")[0].values.ravel()
    measures: dict[str, set] = {name: set() for name in TASKS}
    for entry in content["areas"]:
        mine = scores(folder, entry)
        if entry["task"] == "where":
            known = ~np.isnan(slices)
            assert 0 < known.sum() < len(known) or known.all()
            expected = roc_auc_score(slices[known], mine[known, 0])
        else:
            assert mine.shape == (len(test), 1)
            expected = roc_auc_score(bleeds, mine[:, 0])
        assert entry["by_seed"] == pytest.approx([expected])
        measures[entry["task"]].add(entry["measure"])
    probed = {"fine-tuned", "linear", "neighbours"}
    assert measures == {"any": probed, "bleeding": {"fine-tuned"}, "where": {"fine-tuned"}}
    units = {name: (task["unit"], task["classes"]) for name, task in content["tasks"].items()}
    assert units["bleeding"] == ("volume", ["volume"])
    assert units["where"] == ("slice", ["slices"])
    assert content["tasks"]["where"]["test_images"] == SIZE[0] * content["tasks"]["where"]["test_patients"]


def test_curves_are_the_figures_that_validation_watched(folder: Path, content: dict) -> None:
    for task, name in (("any", "auc"), ("bleeding", "volume_auc"), ("where", "slices_auc")):
        run = Cell(task, "ours", 0.5, 0).folder(folder / "out")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        expected = [[line["step"], line[f"validation_{name}"]] for line in lines if f"validation_{name}" in line]
        assert json.loads((run / "result.json").read_text())["curve"] == expected
        assert [step for step, _ in expected] == [1, 2, 3]


def test_parts_are_nested_and_the_same_for_all_columns_and_class_weights_are_theirs(folder: Path) -> None:
    plan = load_plan(write(folder / "parts.yaml", fractions=FRACTIONS), folder)
    grid = Study(plan, folder)
    cases = LabelledVolumes.of(grid.archive)
    train = cases.labelled("hemorrhage", ("train",))
    bleeds = np.array([value == "1" for value in cases.label_values("hemorrhage", train)])
    before: set[int] = set()
    for fraction in sorted(FRACTIONS):
        drawn = {
            task: grid.labelled(Cell(task, encoder, fraction, 3)).tolist()
            for task in TASKS
            for encoder in ("none", "ours")
        }
        places = drawn["any"]
        assert drawn == dict.fromkeys(TASKS, places)
        assert before <= set(places)
        before = set(places)
        assert {True, False} == set(bleeds[places].tolist())
        assert len(places) == pytest.approx(fraction * len(train), abs=2)
        cell = Cell("bleeding", "ours", fraction, 3)
        made = grid.tasks["bleeding"].training(grid.encoder(cell), places, plan.settings("bleeding", 3, None), folder)
        assert isinstance(made.task, Hemorrhage)
        assert made.task.train.indices == tuple(train[place] for place in places)
        ill = int(bleeds[places].sum())
        expected = [len(places) / (2 * (len(places) - ill)), len(places) / (2 * ill)]
        assert made.task.weights is not None
        torch.testing.assert_close(made.task.weights[:, 0], torch.tensor(expected))
    assert before == set(range(len(train)))


def test_columns_of_one_question_are_compared_patient_by_patient(folder: Path, content: dict) -> None:
    pairs = {(entry["task"], entry["against"]) for entry in content["task_differences"]}
    assert pairs == {("bleeding", "any")}  # slices are other cases than volumes
    archive = Archive.open([folder / "store"])
    cases, inputs = hemorrhage_inputs(archive, load_encoder(folder / "ours.safetensors"))
    test = hemorrhage_targets(cases, inputs, HemorrhageSettings(heads=("volume",)), "test")[0]
    patients = np.array(cases.patients(test.indices))
    groups = [np.flatnonzero(patients == patient) for patient in dict.fromkeys(patients)]
    generator = np.random.default_rng(9)
    assert len(content["task_differences"]) == 2 * 3
    for entry in content["task_differences"]:
        common = {"fraction": entry["fraction"], "measure": "fine-tuned"}
        mine = scores(folder, {**common, "task": "bleeding", "encoder": entry["encoder"]})[:, 0]
        other = scores(folder, {**common, "task": "any", "encoder": entry["reference"]})[:, 0]
        assert entry["difference"]["value"] == pytest.approx(
            roc_auc_score(test.values[:, 0], mine) - roc_auc_score(test.values[:, 0], other)
        )
        draws = []
        while len(draws) < 2000:
            drawn = np.concatenate([groups[n] for n in generator.integers(len(groups), size=len(groups))])
            values = test.values[drawn, 0]
            if 0 < values.sum() < len(values):
                draws.append(roc_auc_score(values, mine[drawn]) - roc_auc_score(values, other[drawn]))
        low, high = np.quantile(draws, [0.025, 0.975])
        assert (entry["difference"]["low"], entry["difference"]["high"]) == pytest.approx((low, high), abs=0.08)
    assert "difference between tasks" in (folder / "out" / "report.html").read_text()


def test_all_tasks_have_a_mean_difference_and_probes_only_theirs(folder: Path, content: dict) -> None:
    found = {(entry["task"], entry["measure"]) for entry in content["differences"]}
    assert ("mean over tasks", "fine-tuned") in found
    assert ("mean over tasks", "linear") not in found
    page = (folder / "out" / "report.html").read_text()
    assert "8 x 32 x 32 px" in page
    assert "Frozen features" in page


def test_a_search_runs_for_tasks_without_probes(folder: Path) -> None:
    tasks = {name: TASKS[name] for name in ("bleeding", "where")}
    file = write(folder / "search.yaml", tasks=tasks, fractions=[1.0], search={"learning_rate": [0.001, 0.002]})
    content = study(file, out=folder / "searched")
    assert content["failures"] == []
    assert content["done"] == content["cells"] == 2 * 2 * 2
    assert len(content["areas"]) == 4
    for entry in content["areas"]:
        [choice] = [c["choice"] for c in content["choices"] if c["chosen"] and c["encoder"] == entry["encoder"]]
        cell = Cell(entry["task"], entry["encoder"], 1.0, 0, choice)
        kept = json.loads((cell.folder(folder / "searched") / "result.json").read_text())
        assert entry["task"] in tasks
        if entry["task"] == "bleeding":
            cases = LabelledVolumes.of(Archive.open([folder / "store"]))
            test = cases.labelled("hemorrhage", ("test",))
            truth = np.array([value == "1" for value in cases.label_values("hemorrhage", test)])
            mine = np.array(kept["scores"]["fine-tuned"])[:, 0]
            assert entry["by_seed"] == pytest.approx([macro_auc(np.stack([-mine, mine], 1), truth.astype(int))])
    assert "Frozen features" not in (folder / "searched" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoders": {"flat": "flat.safetensors"}}, "is a network for images: give an encoder of volumes"),
        ({"tasks": {"a": {"task": "bleeding"}}}, "unknown task 'bleeding'"),
        ({"tasks": {"a": {"task": "hemorrhage_volume", "label": "hemorrhage"}}}, "takes its labels by volume_label"),
        ({"tasks": {"a": {"task": "hemorrhage_volume", "head": ["volume"]}}}, "no setting 'head'"),
        ({"tasks": {"a": {"task": "hemorrhage_volume", "seed": 3}}}, "no setting 'seed'"),
        ({"tasks": {"a": {"task": "hemorrhage_volume", "heads": ["volumes"]}}}, "name some of volume, types, slices"),
        ({"tasks": {"a": {"task": "hemorrhage_volume", "volume_label": "blood"}}}, "blood"),
        ({"tasks": {"a": {"label": 3}}}, "must be a name, or a list of names"),
        ({"tasks": {"a": {"task": "metastasis_slices"}}}, "learns one finding"),
        ({"tasks": {"a": {"task": "metastasis_slices", "label": "x"}}}, "ResNet for images"),
        ({"finetune": {"heads": ["volume"]}}, "heads is a setting of hemorrhage_volume: write it in the mapping"),
        ({"search": {"batch_size": [2, 4]}, "finetune": {}}, "batch_size stands in task where and in search"),
        ({"robustness": {"cases": 2, "transforms": 2}}, "robustness is measured of the classification of images alone"),
        (
            {"robustness": {"cases": 2, "transforms": 2}, "tasks": ["hemorrhage"]},
            "leave it out for encoders of volumes",
        ),
        ({"input_size": 32}, "has no input size 32"),
        ({"input_size": [8, 32]}, "slices, rows and columns"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_folder(
    folder: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        study(write(folder / "wrong.yaml", **changes), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_short_form_of_the_file_is_kept_and_sizes_of_volumes_are_taken(folder: Path) -> None:
    plan = load_plan(write(folder / "sized.yaml", tasks=TASKS, input_size=[6, 24, 32]), folder)
    assert plan.tasks["any"] == TaskPlan(("hemorrhage",))
    assert plan.as_dict()["tasks"] == {**TASKS, "any": ["hemorrhage"]}
    grid = Study(plan, folder)
    assert grid.encoder(Cell("any", "none", 1.0, 0)).input_size == (6, 24, 32)
    assert grid.sources.inputs.batch([0]).shape == (1, 1, 6, 24, 32)
