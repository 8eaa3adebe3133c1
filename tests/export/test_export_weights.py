"""What an export promises whatever its format, and safetensors: against the run's own files in float64, and faults."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from exported_runs import expected_logits, some_images
from safetensors import safe_open

from scoutview import export
from scoutview.encoders import load_encoder
from scoutview.errors import RunError, UsageError
from scoutview.export import FORMATS, Format, export_model, load_exported, open_model
from scoutview.export.parity import Runner, reference
from scoutview.files import write_json


def broken(*changes: float) -> Format:
    """safetensors, but what is loaded back answers with these changes on top, one per output."""

    def load(folder: Path) -> Runner:
        run = FORMATS["safetensors"].load(folder)
        return lambda images: [one + change for one, change in zip(run(images), changes, strict=True)]

    return replace(FORMATS["safetensors"], load=load)


@pytest.mark.parametrize("name", ["findings", "classes"])
def test_a_classifier_gives_the_logits_of_its_encoder_and_head(name: str, runs: Path, tmp_path: Path) -> None:
    export(runs / name, format="safetensors", out=tmp_path / "out")
    images = some_images(3, 96, 96)
    network = load_exported(tmp_path / "out" / "model.safetensors")
    found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected_logits(runs / name, images), atol=1e-5)


def test_an_exported_encoder_is_an_encoder_file(runs: Path, tmp_path: Path) -> None:
    export(runs / "volumes.safetensors", format="safetensors", out=tmp_path / "out")
    first, second = load_encoder(runs / "volumes.safetensors"), load_encoder(tmp_path / "out" / "model.safetensors")
    assert (first.input_size, first.preprocessing) == (second.input_size, second.preprocessing)
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def test_scores_and_boxes_of_a_detector_are_what_evaluation_decodes(runs: Path) -> None:
    from scoutview.tasks.detection import decode, load_detector

    images = torch.from_numpy(some_images(2, 80, 80))
    scores, boxes = reference(open_model(runs / "detector"))(images.numpy())
    detector = load_detector(runs / "detector")
    detector.network.eval()
    with torch.no_grad():
        decoded = decode(detector.network(images), torch.tensor([[0.0, 0.0, 80.0, 80.0]] * 2))
    for image, found in enumerate(decoded):
        for score, kind, box in zip(found.scores, found.classes, found.boxes, strict=True):
            near = np.abs(scores[image, :, kind] - float(score)) < 1e-6
            clipped = boxes[image][near].clip(0, 80)
            assert np.abs(clipped - box.numpy()).max(1).min() < 1e-3
        # Each class keeps its highest score.
        best = [scores[image, :, kind].max() for kind in range(2)]
        kept = [float(found.scores[found.classes == kind].max()) for kind in range(2)]
        np.testing.assert_allclose(kept, best, atol=1e-6)


def test_the_metadata_say_what_is_needed(runs: Path, tmp_path: Path) -> None:
    export(runs / "classes", format="safetensors", out=tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["input"])["shape"] == [1, 96, 96]
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]
    assert "softmax" in json.loads(metadata["outputs"])["logits"]["meaning"]
    preprocessing = json.loads(metadata["preprocessing"])
    assert preprocessing["ct"]["hounsfield"] == list(load_encoder(runs / "classes").preprocessing.hounsfield)
    assert "0.0001" in metadata["parity"]


def test_the_card_has_the_figures_of_the_run_and_no_path(runs: Path, tmp_path: Path) -> None:
    export(runs / "classes", format="safetensors", out=tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license_name"] == "not-chosen"
    evaluation = json.loads((runs / "classes" / "evaluation.json").read_text())
    for name, figure in evaluation["metrics"].items():
        assert f"| {name} | {figure['value']:.3f} | {figure['low']:.3f} to {figure['high']:.3f} |" in body
    manifest = json.loads((runs / "classes" / "manifest.json").read_text())
    assert (
        f"snapshot {manifest['stores'][0]['snapshot']}: {manifest['stores'][0]['images']['labelled']} labelled" in body
    )
    assert str(runs) not in text
    assert "Classes, in this order: a, b, c." in body


def test_a_card_without_the_files_of_a_run_says_that_nothing_is_known(runs: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(runs / "findings", bare)
    for name in ("manifest.json", "config.yaml"):
        (bare / name).write_bytes(b"\0 not what it was")
    write_json(bare / "evaluation.json", {"metrics": {"auc": {"value": None, "low": None, "high": None}}})
    export(bare, format="safetensors", out=tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "The run folder does not say" in text
    assert "Nobody has evaluated this model" in text


@pytest.mark.parametrize("change", [2e-4, float("nan"), -1.0])
def test_what_differs_from_the_network_is_not_written(change: float, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"differs from the network by .* nothing was written"):
        export_model(open_model(runs / "findings"), broken(change), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert export_model(open_model(runs / "findings"), broken(5e-5), tmp_path / "out") == pytest.approx(5e-5, rel=0.1)


def test_a_folder_with_something_in_it_is_left_alone_and_a_killed_export_does_no_harm(
    runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty: give another --out"):
        export(runs / "findings", format="safetensors", out=tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial" / "model.safetensors").write_bytes(b"half")
    export(runs / "findings", format="safetensors", out=tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_damaged_files_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no encoder"):
        export(tmp_path, format="safetensors", out=tmp_path / "out")
    export(runs / "findings", format="safetensors", out=tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:20], b"", re.sub(rb"resnet18w0.25", rb"resnet34w0.25", whole)):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="no exported model, or damaged"):
            load_exported(path)
