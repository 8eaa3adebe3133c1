"""`scoutview evaluate --against`: scikit-learn on the scores of both, hand-made curves, a study's parts, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pages import Elements
from samples import make_store
from sklearn.metrics import average_precision_score, roc_auc_score

from scoutview import evaluate, finetune
from scoutview.batches import Archive
from scoutview.commands.against import compare_runs, convergence_of
from scoutview.encoders import save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.metrics import CaseScores, robustness_draws
from scoutview.metrics.bootstrap import paired_difference
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, Store, add_annotations
from scoutview.study.moved import transformed_probabilities
from scoutview.study.plan import Robustness
from scoutview.tasks import Evaluation, class_targets, load_classifier, predict
from scoutview.tasks.inputs import NetworkInputs

LABEL = "xray_rough"
FAST = {"steps": 4, "batch_size": 8}


def pairs_in_order(scores: np.ndarray, truth: np.ndarray) -> float:
    """The AUC, pair by pair."""
    up, down = scores[truth == 1], scores[truth == 0]
    above = (up[:, None] > down[None]) + 0.5 * (up[:, None] == down[None])
    return float(above.mean()) if above.size else float("nan")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 radiographs with a label that is hard to see for a network of four steps; 12 of them for the test."""
    folder = tmp_path_factory.mktemp("against") / "store"
    make_store(folder, images=60, size=64)
    names = [f"xray-{number:04d}" for number in range(60)]
    add_annotations(
        Store.open(folder), [Annotation(name, "label", "zone", "abc"[n % 3]) for n, name in enumerate(names)]
    )
    return folder


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs on one label, from encoders of two sizes."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, size in enumerate((48, 32)):
        save_encoder(untrained_encoder("resnet18w0.125", size, Preprocessing(), seed), folder / f"{seed}.safetensors")
        file = str(folder / f"{seed}.safetensors")
        finetune("classification", store, encoder=file, out=folder / f"run{seed}", label=[LABEL], **FAST)
    return folder / "run0", folder / "run1"


@pytest.fixture(scope="module")
def content(store: Path, runs: tuple[Path, Path]) -> dict:
    return evaluate(runs[0], store, against=runs[1], robustness=True)


def copied(run: Path, out: Path) -> Path:
    """A finished run under another name."""
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("checkpoints", "events*"))
    return out


def curve(run: Path, values: Iterable[tuple[int, float | None]], name: str = "auc", **config: int) -> None:
    """Replace what a run says of its training."""
    lines: list[dict] = [{"step": step, "loss": 0.5} for step in (10, 20)]
    lines += [
        {"step": step, "seconds": 1.0, f"validation_{name}": value, "validation_x": 1.0} for step, value in values
    ]
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.yaml").write_text(yaml.safe_dump({"steps": 100, "batch_size": 8, "encoder": "none", **config}))


def test_figures_and_differences_are_those_of_both_models_scores(
    store: Path, runs: tuple[Path, Path], content: dict
) -> None:
    archive, scores = Archive.open([store]), []
    for run in runs:
        model = load_classifier(run)
        targets = class_targets(archive, [LABEL], ("test",))
        inputs = NetworkInputs(archive, model.encoder.preprocessing, model.encoder.image_side)
        scores.append(predict(model, inputs, targets.indices, "cpu")[:, 0])
    truth, patients = targets.values[:, 0], archive.patients(targets.indices)
    for figure, function in (("auc", roc_auc_score), ("ap", average_precision_score)):
        entry = content["against"]["metrics"][figure]
        assert entry["this"]["value"] == pytest.approx(function(truth, scores[0]))
        assert entry["other"]["value"] == pytest.approx(function(truth, scores[1]))
        assert entry["this"] == pytest.approx(content["metrics"][figure])
    entry = content["against"]["metrics"]["auc"]
    expected = paired_difference(pairs_in_order, [scores[0], truth], [scores[1], truth], patients)
    assert expected.value != 0
    assert {key: entry["difference"][key] for key in ("value", "low", "high")} == pytest.approx(
        {key: vars(expected)[key] for key in ("value", "low", "high")}
    )
    assert content["against"]["per_class"][LABEL]["auc"] == entry
    assert json.loads((runs[0] / "evaluation.json").read_text())["against"]["metrics"]["auc"] == entry
    assert not (runs[1] / "evaluation.json").exists()


def test_the_other_way_round_is_the_negative(store: Path, runs: tuple[Path, Path], content: dict) -> None:
    there = content["against"]["metrics"]
    back = evaluate(copied(runs[1], runs[1].parent / "back"), store, against=runs[0])["against"]
    for name in ("auc", "ap"):
        assert back["metrics"][name]["difference"]["value"] == pytest.approx(-there[name]["difference"]["value"])
        assert back["metrics"][name]["other"] == pytest.approx(there[name]["this"])
    assert "robustness" not in back


def test_robustness_is_what_the_parts_of_a_study_say(store: Path, runs: tuple[Path, Path], content: dict) -> None:
    archive, draws = Archive.open([store]), []
    targets = class_targets(archive, [LABEL], ("test",))
    for run in runs:
        model = load_classifier(run)
        inputs = NetworkInputs(archive, model.encoder.preprocessing, model.encoder.image_side)
        kept = transformed_probabilities(model, inputs, targets, Robustness(cases=50, transforms=50))
        assert len(kept["cases"]) == 12  # all that there are
        patients = archive.patients([targets.indices[case] for case in kept["cases"]])
        before, after = np.array(kept["probabilities"])[:, 0], np.array(kept["transformed"])[:, :, 0]
        draws.append(robustness_draws(before, after, targets.values[kept["cases"], 0] == 1, patients))
    found = content["against"]["robustness"]
    assert (found["cases"], found["transforms"]) == (12, 50)
    assert set(found["metrics"]) == {"median_change", "median_logit_change", "auc", "auc_transformed"}
    for name, entry in found["metrics"].items():
        difference = draws[0][name] - draws[1][name]
        drawn = difference[1:][~np.isnan(difference[1:])]
        for which, values in (("this", draws[0][name]), ("other", draws[1][name]), ("difference", difference)):
            assert entry[which]["value"] == pytest.approx(values[0])
        assert entry["difference"]["low"] == pytest.approx(np.quantile(drawn, 0.025))
        assert entry["difference"]["high"] == pytest.approx(np.quantile(drawn, 0.975))


def test_steps_of_hand_made_curves(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    curve(other, [(10, 0.5), (20, 0.7), (30, 0.79), (40, 0.8)])  # 98% of 0.8 is 0.784: step 30
    curve(ours, [(10, 0.6), (20, None), (30, 0.78), (40, 0.9)])  # beyond 0.784, and 0.882, at step 40
    found = convergence_of(ours, other)
    assert found == {
        "watched": "auc",
        "this": 40,
        "other": 30,
        "saved": 1 - 40 / 30,
        "reached": True,
        "own_best": {"this": 40, "other": 30, "saved": 1 - 40 / 30},
        "same_schedule": True,
    }
    curve(ours, [(10, 0.7), (20, 0.7), (50, 0.7)], steps=50)
    found = convergence_of(ours, other)
    assert (found["this"], found["reached"], found["same_schedule"]) == (50, False, False)
    assert found["own_best"] == {"this": 10, "other": 30, "saved": 1 - 10 / 30}
    curve(ours, [(10, 0.8)], batch_size=16)
    assert not convergence_of(ours, other)["same_schedule"]
    assert convergence_of(ours, other)["saved"] == pytest.approx(1 - 10 / 30)
    curve(ours, [(10, 0.8)], name="mean")
    assert convergence_of(ours, other) == {}
    (ours / "metrics.jsonl").unlink()
    assert convergence_of(ours, other) == {}


def test_warnings_terminal_and_page(
    store: Path, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = copied(runs[0], tmp_path / "run"), copied(runs[1], tmp_path / "an [other] <b>")
    config = yaml.safe_load((other / "config.yaml").read_text())
    curve(run, [(1, 0.5), (2, 0.6)], **yaml.safe_load((run / "config.yaml").read_text()))
    curve(other, [(1, 0.5), (2, 0.9)], **{**config, "batch_size": 4})
    against = evaluate(run, store, against=other, robustness=True, json=True)["against"]
    printed = capsys.readouterr().out
    assert against["warnings"] == [
        "the runs differ in steps or batch size: what one saves is no merit of its encoder alone"
    ]
    assert json.loads(printed.splitlines()[-1])["against"]["convergence"] == against["convergence"]
    text = " ".join(printed.split())
    assert "an [other] <b>: 2 (never there: counted with its last step) against 2, +0% saved" in text
    assert "warning: the runs differ in steps or batch size" in text
    assert "12 cases under 50 transforms" in text
    page = Elements((run / "report.html").read_text())
    assert not page.open
    assert "Against an [other] <b>" in page.text
    assert "never there" in page.text
    assert str(tmp_path) not in page.text
    figures = [*against["metrics"].values(), *against["robustness"]["metrics"].values()]
    for entry in figures:
        difference, figure = entry["difference"], entry["other"]
        assert f"{difference['value']:+.3f} [{difference['low']:+.3f},\u00a0{difference['high']:+.3f}]" in page.text
        assert f"{figure['value']:.3f} [{figure['low']:.2f},\u00a0{figure['high']:.2f}]" in page.text
    (run / "metrics.jsonl").unlink()
    assert "steps are not compared" in evaluate(run, store, against=other)["against"]["warnings"][0]


def test_what_cannot_be_compared_is_refused(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    run, other = runs
    with pytest.raises(UsageError, match="is the run itself"):
        evaluate(run, store, against=run.parent / "." / run.name)
    with pytest.raises(UsageError, match="add --against"):
        evaluate(run, store, robustness=True)
    with pytest.raises(UsageError, match="holds no fine-tuned model"):
        evaluate(run, store, against=tmp_path)
    for label in (["zone"], [LABEL, "ct_rough"]):
        file, out = str(run.parent / "0.safetensors"), tmp_path / label[-1]
        wrong = finetune("classification", store, encoder=file, out=out, label=label, steps=1)
        with pytest.raises(UsageError, match=r"has the labels .* they must be the same"):
            evaluate(run, store, against=wrong)
    damaged = copied(other, tmp_path / "damaged")
    (damaged / "head.safetensors").write_bytes((other / "head.safetensors").read_bytes()[:-9])
    with pytest.raises(UsageError, match="is damaged"):
        evaluate(run, store, against=damaged)
    for content in ("", '{"stores": ['):  # nothing is known then of what it was trained on
        lost = copied(other, tmp_path / f"lost{len(content)}")
        (lost / "manifest.json").write_text(content)
        assert evaluate(run, store, against=lost)["against"]["metrics"]


def test_models_that_were_asked_nothing_in_common_are_refused(store: Path, tmp_path: Path) -> None:
    numbers, targets = np.arange(4), np.array([[0.0], [1.0], [1.0], [np.nan]])
    scores = CaseScores(("volume",), numbers, numbers, np.zeros((4, 1)), targets)
    others = {
        "slices": scores,
        "volume": replace(scores, targets=1 - targets),  # a volume whose brain was found by one of them only
    }
    for name, theirs in others.items():
        both = Evaluation({}, {"volume": scores}), Evaluation({}, {name: theirs})
        with pytest.raises(UsageError, match="have no test cases in common"):
            compare_runs(tmp_path / "a", tmp_path / "b", store, both, False)


def test_patients_whom_the_other_was_trained_on_are_no_test(
    store: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(store, moved)
    archive = Archive.open([store])
    test = [archive.rows[index].image for index in archive.labelled(LABEL, ["test"])]
    add_annotations(Store.open(moved), [Annotation(image, "split", "split", "train") for image in test[:3]])
    other = copied(runs[1], tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["stores"][0]["path"] = str(moved)
    (other / "manifest.json").write_text(json.dumps(manifest))
    run = copied(runs[0], tmp_path / "run")
    with pytest.raises(UsageError, match=r"other was trained on 3 of the 12 test patients of .*moved has in another"):
        evaluate(run, store, against=other)
    shutil.rmtree(moved)  # what is gone cannot be checked
    assert evaluate(run, store, against=other)["against"]["metrics"]["auc"]
    moved.mkdir()
    assert evaluate(run, store, against=other)["against"]["metrics"]["auc"]
