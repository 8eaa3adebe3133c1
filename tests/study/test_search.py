"""The search for settings and differences between encoders, against loops over what the cells left."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from study_files import TASKS, make_folder, result, write

from scoutview import study
from scoutview.batches import Archive
from scoutview.encoders import load_encoder
from scoutview.errors import UsageError
from scoutview.study import Study, StudyPlan, load_plan
from scoutview.study.choice import choose
from scoutview.study.plan import Cell
from scoutview.study.task_plan import TaskPlan
from scoutview.tasks.inputs import NetworkInputs

SEARCH = {"learning_rate": [0.0001, 0.02], "zoom": [[0.9, 1.1], [1.0, 1.0]]}
CHOICES = [f"learning_rate={rate},zoom={zoom}" for rate in ("0.0001", "0.02") for zoom in ("0.9-1.1", "1.0-1.0")]
ENCODERS = ("none", "ours", "other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Path:
    return make_folder(tmp_path_factory.mktemp("search"), small_store)


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study."""
    return study(write(folder / "study.yaml", search=SEARCH), out=folder / "out")


def test_every_choice_is_run_for_every_encoder_and_frozen_probes_once(folder: Path, content: dict) -> None:
    assert content["done"] == content["cells"] == 2 * 2 * (3 * (len(CHOICES) + 1) + 1)
    for task, encoder, seed in itertools.product(TASKS, ENCODERS, range(2)):
        frozen = result(folder / "out", Cell(task, encoder, 1.0, seed))
        assert set(frozen["scores"]) == {"linear", "neighbours"}
        for choice in CHOICES:
            trained = result(folder / "out", Cell(task, encoder, 1.0, seed, choice))
            assert set(trained["scores"]) == {"fine-tuned"}
            assert trained["images"] == frozen["images"]


def test_the_choice_is_the_best_of_brute_force_on_validation(folder: Path, content: dict) -> None:
    assert len(content["choices"]) == len(ENCODERS) * len(CHOICES)
    for encoder in ENCODERS:
        means = {
            choice: np.mean(
                [
                    max(value for _, value in result(folder / "out", Cell(task, encoder, 1.0, seed, choice))["curve"])
                    for task in TASKS
                    for seed in range(2)
                ]
            )
            for choice in CHOICES
        }
        best = max(CHOICES, key=lambda choice: means[choice])
        for entry in content["choices"]:
            if entry["encoder"] == encoder:
                assert entry["validation_auc"] == pytest.approx(means[entry["choice"]])
                assert entry["chosen"] == (entry["choice"] == best)
                assert entry["runs"] == 4


def chosen(content: dict, encoder: str) -> str:
    [choice] = [entry["choice"] for entry in content["choices"] if entry["chosen"] and entry["encoder"] == encoder]
    return choice


def test_curves_and_areas_are_those_of_the_chosen_settings(folder: Path, content: dict) -> None:
    for curve in content["curves"]:
        choice = chosen(content, curve["encoder"])
        kept = [result(folder / "out", Cell(curve["task"], curve["encoder"], 1.0, s, choice))["curve"] for s in (0, 1)]
        assert curve["mean"] == pytest.approx(np.mean([[value for _, value in each] for each in kept], axis=0))


def area(scores: np.ndarray, positives: np.ndarray) -> float:
    """By every pair of a positive and a negative image."""
    a, b = scores[positives], scores[~positives]
    return float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean()) if len(a) and len(b) else np.nan


def test_differences_and_their_intervals_are_those_of_a_loop(folder: Path, content: dict) -> None:
    archive = Archive.open([folder / "store"])
    draws: dict[tuple[str, str], tuple[float, np.ndarray]] = {}
    for number, task in enumerate(TASKS):
        test = archive.labelled(task, ["test"])
        positives = np.array([value == "1" for value in archive.label_values(task, test)])
        keys = archive.patients(test)
        names = sorted(set(keys))
        drawn = np.random.default_rng(number).integers(len(names), size=(2000, len(names)))
        seeds = np.random.default_rng(1000 + number).integers(2, size=(2, 2000))
        rows = [[place for one in row for place in np.flatnonzero(keys == names[one])] for row in drawn]
        for encoder in ENCODERS:
            cells = [Cell(task, encoder, 1.0, seed, chosen(content, encoder)) for seed in range(2)]
            scores = [np.array(result(folder / "out", cell)["scores"]["fine-tuned"])[:, 0] for cell in cells]
            value = np.mean([area(each, positives) for each in scores])
            kept = [
                np.mean([area(scores[seed][row], positives[row]) for seed in seeds[:, place]])
                for place, row in enumerate(rows)
            ]
            draws[task, encoder] = float(value), np.array(kept)
    found = 0
    for entry in content["differences"]:
        if entry["measure"] != "fine-tuned":
            continue
        tasks = TASKS if entry["task"] == "mean over tasks" else [entry["task"]]
        pairs = [(draws[task, entry["encoder"]], draws[task, entry["reference"]]) for task in tasks]
        assert entry["difference"]["value"] == pytest.approx(np.mean([a[0] - b[0] for a, b in pairs]))
        rounds = np.mean([a[1] - b[1] for a, b in pairs], axis=0)
        low, high = np.nanquantile(rounds, [0.025, 0.975])
        assert entry["difference"]["low"] == pytest.approx(low)
        assert entry["difference"]["high"] == pytest.approx(high)
        found += 1
    assert found == 3 * (2 + 1)  # two tasks and their mean; both against random weights, ours against other


def test_settings_that_failed_somewhere_do_not_win() -> None:
    plan = StudyPlan(("store",), {"a": TaskPlan(("a",))}, {"ours": "run"}, (1.0,), 2, search={"steps": (1, 2, 3)})

    def cells(*values: tuple[int, int, float]) -> dict:
        return {
            Cell("a", "ours", 1.0, seed, f"steps={steps}"): {"curve": [(1, 0.1), (2, auc)]}
            for steps, seed, auc in values
        }

    some = choose(plan, cells((1, 0, 0.9), (2, 0, 0.7), (2, 1, 0.6), (3, 0, 0.5), (3, 1, 0.7)), "ours", 1.0)
    assert [(entry.validation_auc, entry.runs, entry.chosen) for entry in some] == [
        (None, 1, False),
        (pytest.approx(0.65), 2, True),
        (pytest.approx(0.6), 2, False),
    ]
    assert not any(entry.chosen for entry in choose(plan, {}, "ours", 1.0))


def test_the_page_shows_what_was_tried_and_pairs_of_encoders(folder: Path, content: dict) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert "learning_rate=0.02, zoom=1.0-1.0" in page
    assert "Settings tried" in page
    assert "random weights on mean over tasks" in page


def test_another_comparison_of_a_finished_grid_trains_nothing(folder: Path, content: dict) -> None:
    file = write(folder / "study.yaml", search=SEARCH, compare=[["other", "ours"]])
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").rglob("result.json")}
    again = study(file, out=folder / "out")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pairs = {(entry["encoder"], entry["reference"]) for entry in again["differences"]} - {
        (encoder, reference) for encoder in ("ours", "other") for reference in ("none", "raw pixels")
    }
    assert pairs == {("other", "ours")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"rate": [1, 2]}}, "unknown fine-tuning setting 'rate'"),
        ({"search": {"learning_rate": 0.1}}, "a list of values each"),
        ({"search": {"learning_rate": []}}, "no value for learning_rate"),
        ({"search": {"steps": [6, 12]}}, "steps stands in finetune and in search"),
        ({"compare": [["ours", "none"]]}, "compare names none"),
        ({"compare": [["ours", "ours"]]}, "with itself"),
        ({"compare": "ours"}, "pairs of encoders"),
    ],
)
def test_wrong_searches_and_comparisons_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plan(write(tmp_path / "study.yaml", **changes), tmp_path)


def test_all_encoders_are_shown_images_of_the_size_of_the_study(folder: Path) -> None:
    study(write(folder / "sized.yaml", input_size=64, seeds=1), out=folder / "sized")
    sized = Study(load_plan(folder / "sized.yaml", folder / "sized"), folder / "sized")
    cell = Cell("ct_rough", "ours", 1.0, 0)
    train = sized.tasks["ct_rough"].probed["train"].part(sized.labelled(cell).tolist())
    assert sized.encoder(cell).input_size == sized.encoder(Cell("ct_rough", "none", 1.0, 0)).input_size == 64
    kept = load_encoder(folder / "ours.safetensors")
    inputs = NetworkInputs(sized.archive, kept.preprocessing, 64)
    with torch.inference_mode():
        by_hand = kept.network.eval()(inputs.batch(train.indices)).numpy()
    np.testing.assert_allclose(sized.features("ours", 0, train.indices), by_hand, atol=1e-5)
    with pytest.raises(UsageError, match="input_size 8 must be a whole number of 32 or more px"):
        load_plan(write(folder / "small.yaml", input_size=8), folder / "small")
