"""Predictions of files and stores: as evaluation and float64 have them; refusals, kills, damaged logs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_runs import expected_logits
from PIL import Image

import scoutview.commands.predict as module
from scoutview import predict
from scoutview.batches import Archive
from scoutview.encoders import untrained_encoder
from scoutview.errors import RunError, UsageError
from scoutview.export import extras
from scoutview.export.overlay import COLOURS, draw_overlay
from scoutview.export.prediction_log import PredictionLog
from scoutview.ingest import Pseudonyms, run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.tasks import Classifier, load_classifier, save_classifier
from scoutview.tasks import predict as evaluated
from scoutview.tasks.detection import DetectionCases, detect, load_detector
from scoutview.tasks.inputs import NetworkInputs, cases_for, inputs_for
from scoutview.tasks.prediction import FoundBox


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Eight DICOM files in images/, the store that ingest makes of them, three bad files and a PNG."""
    folder = tmp_path_factory.mktemp("files")
    write_phantoms(folder, patients={"xray": 2, "ct": 1, "mr": 1, "us": 2}, seed=1, size=128, slices=2)
    before = os.environ.get("SCOUTVIEW_KEY")
    os.environ["SCOUTVIEW_KEY"] = "a key that is for these tests only"
    run_ingest([folder / "images"], folder / "store", workers=1, pseudonyms=Pseudonyms.from_environment())
    whole = sorted(path for path in (folder / "images").rglob("*") if path.is_file())[0]
    (folder / "images" / "bad").mkdir()
    (folder / "images" / "bad" / "truncated.dcm").write_bytes(whole.read_bytes()[:-2000])
    (folder / "images" / "bad" / "empty.dcm").write_bytes(b"")
    (folder / "images" / "bad" / "notes.txt").write_text("not an image")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "bad" / "picture.png")
    yield folder
    if before is None:
        del os.environ["SCOUTVIEW_KEY"]
    else:
        os.environ["SCOUTVIEW_KEY"] = before


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def files_of(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("predictions.csv", "predictions.json", "refused.csv")}


def test_a_dicom_file_gets_the_probability_that_evaluation_gives_it(runs: Path, files: Path, tmp_path: Path) -> None:
    predict(runs / "classes", files / "images", out=tmp_path)
    rows = table(tmp_path / "predictions.csv")
    archive = Archive.open([files / "store"])
    model = load_classifier(runs / "classes")
    inputs = NetworkInputs(archive, Preprocessing(), 96)
    indices = range(len(archive.rows))
    scores = evaluated(model, inputs, indices, "cpu")
    images = inputs.batch(indices).numpy()
    logits = torch.from_numpy(expected_logits(runs / "classes", images))
    found = {(row["image"], row["class"]): row for row in rows}
    assert len(rows) == len(found) == 3 * len(archive.rows) == 24
    for index in indices:
        entry = archive.rows[index]
        for number, name in enumerate("abc"):
            row = found[entry.image, name]  # the same key as in the store
            assert (row["patient"], row["study"], row["series"]) == (entry.patient, entry.study, entry.series)
            assert float(row["probability"]) == pytest.approx(scores[index, number], abs=2e-6)
            assert float(row["probability"]) == pytest.approx(float(logits[index].softmax(0)[number]), abs=1e-5)
            assert (files / "images" / row["source"]).is_file()
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["classes"] == ["a", "b", "c"]
    assert [image["source"] for image in content["images"]] == [row["source"] for row in rows[::3]]
    for path in ("predictions.csv", "predictions.json", "predictions.log"):
        assert b"PHANTOM" not in (tmp_path / path).read_bytes()
        assert b"Phantom^" not in (tmp_path / path).read_bytes()


def test_bad_files_are_refused_one_by_one_and_counted(
    runs: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(runs / "classes", files / "images" / "bad", out=tmp_path)
    refused = {row["source"]: row for row in table(tmp_path / "refused.csv")}
    assert {name: row["reason"] for name, row in refused.items()} == {
        "empty.dcm": "empty_file",
        "notes.txt": "not_an_image",
        "picture.png": "unknown_modality",
        "truncated.dcm": "truncated",
    }
    assert all(row["fix"] for row in refused.values())
    assert "files 0, images 0" in (said := capsys.readouterr().out)
    assert "truncated 1" in said
    predict(runs / "classes", files / "images" / "bad" / "picture.png", out=tmp_path / "xray", modality="xray")
    assert len(table(tmp_path / "xray" / "predictions.csv")) == 3


def test_a_store_is_predicted_under_its_own_keys(runs: Path, tmp_path: Path) -> None:
    predict(runs / "findings", runs / "images", out=tmp_path)
    rows = table(tmp_path / "predictions.csv")
    archive = Archive.open([runs / "images"])
    scores = evaluated(
        load_classifier(runs / "findings"), NetworkInputs(archive, Preprocessing(), 96), range(len(archive.rows)), "cpu"
    )
    found = {(row["image"], row["class"]): float(row["probability"]) for row in rows}
    for index, row in enumerate(archive.rows):
        for number, name in enumerate(("xray_rough", "ct_rough")):
            assert found[row.image, name] == pytest.approx(scores[index, number], abs=2e-6)


def test_volumes_of_a_store_are_predicted_as_evaluation_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOUTVIEW_KEY", "a key that is for these tests only")
    encoder = untrained_encoder("resnet18w0.25_3d", (3, 40, 36), Preprocessing())
    model = Classifier(encoder, torch.nn.Linear(encoder.network.features, 2), ("l",), ("x", "y"), False)
    (tmp_path / "run").mkdir()
    save_classifier(model, tmp_path / "run")
    write_phantoms(tmp_path, patients={"ct": 1, "mr": 1}, seed=1, size=64, slices=5)
    run_ingest([tmp_path / "images"], tmp_path / "store", workers=1, pseudonyms=Pseudonyms.from_environment())
    predict(tmp_path / "run", tmp_path / "store", out=tmp_path / "out")
    found = {(row["image"], row["class"]): float(row["probability"]) for row in table(tmp_path / "out/predictions.csv")}
    cases = cases_for(encoder, Archive.open([tmp_path / "store"]))
    scores = evaluated(model, inputs_for(encoder, cases), range(len(cases)), "cpu")
    assert len(found) == 2 * len(cases) == 4
    for index, row in enumerate(scores):
        first = cases.volumes.place(index)[1].rows[0].image
        assert [found[first, name] for name in "xy"] == pytest.approx(row.tolist(), abs=2e-6)
    with pytest.raises(UsageError, match="is no store, and the model reads volumes"):
        predict(tmp_path / "run", tmp_path / "images", out=tmp_path / "new")


def test_a_missing_extra_is_named_before_anything_is_predicted(
    runs: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(UsageError, match=r"highdicom is not installed: pip install 'scoutview\[dicom-sr\]'"):
        predict(runs / "classes", files / "images", out=tmp_path / "out", sr=True)
    assert not (tmp_path / "out").exists()


def test_a_killed_prediction_continues_and_ends_the_same(runs: Path, files: Path, tmp_path: Path) -> None:
    """Killed behind its first batch of three; then its log loses half of its last line, as a crash may leave it."""
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from scoutview.tasks.prediction import Predictor; Predictor.batch = property(lambda self: 3)\n"
        "import importlib; module = importlib.import_module('scoutview.commands.predict')\n"
        "append = module.PredictionLog.append\n"
        "def killing(log, entries):\n"
        "    append(log, entries)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.PredictionLog.append = killing\n"
        "module.predict(Path(sys.argv[1]), Path(sys.argv[2]), out=Path(sys.argv[3]))\n"
    )
    arguments = [sys.executable, "-c", code, str(runs / "classes"), str(files / "images"), str(tmp_path / "killed")]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    log = tmp_path / "killed" / "predictions.log"
    logged = log.read_bytes()
    assert not (tmp_path / "killed" / "predictions.csv").exists()
    assert 1 < logged.count(b"\n") < 12
    log.write_bytes(logged[:-10])
    predict(runs / "classes", files / "images", out=tmp_path / "killed")
    assert log.read_bytes().startswith(logged[: logged.rstrip().rfind(b"\n")])
    predict(runs / "classes", files / "images", out=tmp_path / "whole")
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_again_only_what_is_new_or_changed_is_read(
    runs: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(files / "images", tmp_path / "images")
    predict(runs / "classes", tmp_path / "images", out=tmp_path / "out")
    first = files_of(tmp_path / "out")
    seen: list[str] = []
    run = module.run_predictions

    def recorded(units: list, *rest: object) -> Iterator[list]:
        seen.extend(unit.name for unit in units)
        return run(units, *rest)

    monkeypatch.setattr(module, "run_predictions", recorded)
    predict(runs / "classes", tmp_path / "images", out=tmp_path / "out")
    assert (seen, files_of(tmp_path / "out")) == ([], first)
    (tmp_path / "images" / "bad" / "empty.dcm").write_text("no longer empty")
    (tmp_path / "images" / "bad" / "notes.txt").unlink()
    predict(runs / "classes", tmp_path / "images", out=tmp_path / "out")
    assert seen == ["bad/empty.dcm"]
    reasons = {row["source"]: row["reason"] for row in table(tmp_path / "out" / "refused.csv")}
    assert reasons["bad/empty.dcm"] == "not_an_image"
    assert "bad/notes.txt" not in reasons


def test_another_model_source_or_folder_is_refused(runs: Path, files: Path, tmp_path: Path) -> None:
    source = files / "images" / "bad"
    predict(runs / "classes", source, out=tmp_path / "out")
    with pytest.raises(UsageError, match="predictions with another model"):
        predict(runs / "findings", source, out=tmp_path / "out")
    with pytest.raises(UsageError, match="predictions with another source"):
        predict(runs / "classes", files / "images", out=tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="not empty and holds no predictions"):
        predict(runs / "classes", source, out=tmp_path / "full")
    with pytest.raises(UsageError, match="holds no fine-tuned model"):
        predict(tmp_path / "out", source, out=tmp_path / "new")


def test_a_log_with_a_flipped_bit_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = PredictionLog.open(path, {"model": "m"})
    log.append([{"name": f"n{k}", "stamp": "s", "value": k} for k in range(3)])
    log.append([{"name": "n1", "stamp": "t", "value": 7}])
    again = PredictionLog.open(path, {"model": "m"})
    assert again.has("n1", "t")
    assert not again.has("n1", "s")
    assert [entry["value"] for entry in again.entries(["n2", "n1", "unknown"])] == [2, 7]
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(RunError, match="is damaged: remove the file"):
            PredictionLog.open(path, {"model": "m"})
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        kept = PredictionLog.open(path, {"model": "m"})
        assert path.read_bytes() == whole[: whole[:end].rfind(b"\n") + 1] or end < whole.find(b"\n") + 1
        assert len(kept.places) <= 3


def test_a_detector_finds_the_boxes_of_evaluation_and_draws_them(runs: Path, tmp_path: Path) -> None:
    predict(runs / "detector", runs / "boxed", out=tmp_path)
    archive = Archive.open([runs / "boxed"])
    model = load_detector(runs / "detector")
    indices = tuple(range(len(archive.rows)))
    shapes = tuple((row.rows, row.columns) for row in archive.rows)
    cases = DetectionCases(model.classes, indices, shapes, (), (), np.zeros((len(indices), 2), np.bool_))
    expected = detect(model, NetworkInputs(archive, Preprocessing(), 80), cases, "cpu")
    content = json.loads((tmp_path / "predictions.json").read_text())
    by_image = {image["image"]: image for image in content["images"]}
    for row, found in zip(archive.rows, expected, strict=True):
        boxes = by_image[row.image]["boxes"]
        assert [box["class"] for box in boxes] == [model.classes[k] for k in found.classes.tolist()]
        np.testing.assert_allclose([box["score"] for box in boxes], found.scores.numpy(), atol=1e-5)
        np.testing.assert_allclose([box["box"] for box in boxes], found.boxes.numpy(), atol=1e-3)
        best = {name: max([b["score"] for b in boxes if b["class"] == name], default=0.0) for name in model.classes}
        assert by_image[row.image]["probabilities"] == pytest.approx(best)
        with Image.open(tmp_path / "overlays" / f"{row.image}.png") as picture:
            assert picture.size == (row.columns, row.rows)
            assert not picture.info


def test_an_overlay_changes_the_outline_of_a_box_and_nothing_else() -> None:
    picture = np.random.default_rng(0).integers(0, 200, (60, 90), dtype=np.uint8)
    boxes = [FoundBox("b", 0.9, (10.2, 5.0, 40.0, 30.6)), FoundBox("a", 0.2, (50.0, 20.0, 80.0, 59.9))]
    drawn = draw_overlay(picture, boxes, ["a", "b"])
    expected = np.repeat(picture[:, :, None], 3, axis=2)
    for (left, top, right, bottom), colour in (((50, 20, 80, 60), COLOURS[0]), ((10, 5, 40, 31), COLOURS[1])):
        inside = expected[top + 1 : bottom - 1, left + 1 : right - 1].copy()
        expected[top:bottom, left:right] = colour
        expected[top + 1 : bottom - 1, left + 1 : right - 1] = inside
    np.testing.assert_array_equal(drawn, expected)


def test_a_detector_of_radiographs_refuses_other_images(runs: Path, files: Path, tmp_path: Path) -> None:
    predict(runs / "detector", files / "images", out=tmp_path)
    assert {row["modality"] for row in table(tmp_path / "predictions.csv")} == {"xray"}
    refused = [row for row in table(tmp_path / "refused.csv") if row["reason"] == "other_modality"]
    assert len(refused) == 6
    assert len(list((tmp_path / "overlays").iterdir())) == 2
