"""Targets, loss and fine-tuning: against scikit-learn and loops; continued runs equal undisturbed ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import figures_of_cases
from sklearn.metrics import log_loss, roc_auc_score

from scoutview import evaluate, finetune, probe
from scoutview.batches import Archive
from scoutview.encoders import load_encoder
from scoutview.errors import UsageError
from scoutview.store import Annotation, Store, add_annotations
from scoutview.tasks import FinetuneSettings, class_targets, load_classifier, predict
from scoutview.tasks.classification import augment, classification_loss, mean_auc
from scoutview.tasks.inputs import NetworkInputs

FAST = {"steps": 40, "batch_size": 8}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finding that can be seen, a label of three classes, and a finding known for some images only."""
    from samples import make_store

    folder = tmp_path_factory.mktemp("labelled") / "store"
    make_store(folder, images=60, size=64)
    names = [f"xray-{number:04d}" for number in range(60)]
    annotations = [Annotation(name, "label", "zone", "abc"[n % 3]) for n, name in enumerate(names)]
    annotations += [Annotation(name, "label", "rare", str(n % 4 // 3)) for n, name in enumerate(names) if n % 2]
    add_annotations(Store.open(folder), annotations)
    return folder


def test_targets_of_a_finding_of_classes_and_of_several_findings(labelled: Path) -> None:
    archive = Archive.open([labelled])
    finding = class_targets(archive, ["xray_rough"], ("train",))
    assert (finding.classes, finding.exclusive) == (("xray_rough",), False)
    assert finding.values[:, 0].tolist() == [float(v) for v in archive.label_values("xray_rough", finding.indices)]
    zones = class_targets(archive, ["zone"], ("train", "test"))
    assert zones.classes == ("a", "b", "c")
    assert [zones.classes[k] for k in zones.values.argmax(1)] == archive.label_values("zone", zones.indices)
    several = class_targets(archive, ["xray_rough", "rare"], ("train",))
    known = set(archive.labels["rare"])
    for index, row in zip(several.indices, several.values, strict=True):
        assert np.isnan(row[1]) == (archive.rows[index].image not in known)


def test_labels_that_cannot_be_trained_are_refused(labelled: Path) -> None:
    archive = Archive.open([labelled])
    with pytest.raises(UsageError, match="no label was named"):
        class_targets(archive, [], ("train",))
    with pytest.raises(UsageError, match="label 'zone' has the value 'a': several findings need 0 and 1"):
        class_targets(archive, ["zone", "rare"], ("train",))
    with pytest.raises(UsageError, match="the value 'c', the model knows a, b"):
        class_targets(archive, ["zone"], ("train",), ("a", "b"))


def test_losses_equal_scikit_learn_and_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator)
    classes = torch.arange(12) % 3
    one_hot = torch.nn.functional.one_hot(classes, 3).float()
    probabilities = logits.softmax(1).double().numpy()
    expected = log_loss(classes.numpy(), probabilities / probabilities.sum(1, keepdims=True))
    assert float(classification_loss(logits, one_hot, True)) == pytest.approx(expected, rel=1e-5)
    findings = (torch.rand(12, 3, generator=generator) > 0.5).float()
    findings[torch.rand(12, 3, generator=generator) > 0.6] = float("nan")
    terms = []
    for logit, target in zip(logits.flatten().tolist(), findings.flatten().tolist(), strict=True):
        if target == target:
            p = 1 / (1 + np.exp(-logit))
            terms.append(-np.log(p if target else 1 - p))
    assert float(classification_loss(logits, findings, False)) == pytest.approx(np.mean(terms), rel=1e-5)
    unknown = torch.full((2, 3), float("nan"))
    assert float(classification_loss(logits[:2], unknown, False)) == 0.0


def test_mean_auc_equals_scikit_learn_over_known_entries() -> None:
    generator = np.random.default_rng(0)
    scores, targets = generator.random((50, 2)), generator.integers(0, 2, (50, 2)).astype(np.float32)
    targets[generator.random((50, 2)) > 0.7] = np.nan
    known = [~np.isnan(targets[:, column]) for column in range(2)]
    expected = [roc_auc_score(targets[k, c], scores[k, c]) for c, k in enumerate(known)]
    assert mean_auc(scores, targets) == pytest.approx(np.mean(expected))


def test_augmentation_moves_and_scales_by_the_drawn_amounts() -> None:
    images = torch.zeros(1, 1, 65, 65)
    images[0, 0, 32, 32] = 1.0
    still = FinetuneSettings(zoom=(1.0, 1.0), shift=0.0, gain=(1.0, 1.0), bias=(0.1, 0.1))
    torch.testing.assert_close(augment(images, still, np.random.default_rng(0)), images + 0.1)
    moving = FinetuneSettings(zoom=(1.0, 1.0), shift=0.1, gain=(1.0, 1.0), bias=(0.0, 0.0))
    shift = np.random.default_rng(5)
    shift.uniform(1.0, 1.0, 1)
    wanted = shift.uniform(-0.2, 0.2, (1, 2))[0]
    moved = augment(images, moving, np.random.default_rng(5))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    centre = [float((grid * moved).sum() / moved.sum()) - 32 for grid in (columns, rows)]
    np.testing.assert_allclose(centre, -wanted * 65 / 2, atol=0.01)


def test_finetuning_learns_is_evaluated_and_continues_bit_by_bit(labelled: Path, tmp_path: Path) -> None:
    run = finetune("classification", labelled, encoder="none", out=tmp_path / "run", label=["xray_rough"], **FAST)
    content = evaluate(run, labelled)
    assert content["metrics"]["auc"]["value"] > 0.9
    model, archive = load_classifier(run), Archive.open([labelled])
    targets = class_targets(archive, ["xray_rough"], ("test",))
    inputs = NetworkInputs(archive, model.encoder.preprocessing, model.encoder.input_size)
    scores = predict(model, inputs, targets.indices, "cpu")
    expected = roc_auc_score(targets.values[:, 0], scores[:, 0])
    assert content["metrics"]["auc"]["value"] == pytest.approx(expected)
    assert json.loads((run / "evaluation.json").read_text())["metrics"]["auc"]["value"] == pytest.approx(expected)
    errors = np.abs(targets.values[:, 0] - scores[:, 0])
    figures = figures_of_cases((run / "cases.html").read_text())
    worst = np.argsort(-errors, kind="stable")
    assert [name for name, _ in figures] == [archive.rows[targets.indices[place]].image[:12] for place in worst]
    assert [lines[0] for _, lines in figures] == [f"error {errors[place]:.3f}" for place in worst]

    again = tmp_path / "again"
    finetune("classification", labelled, encoder="none", out=again, label=["xray_rough"], **FAST)
    for path in ("encoder.safetensors", "head.safetensors"):
        (again / path).unlink()
    # A run that lost its end: the newest checkpoint is its last step, from which the same model is written.
    finetune("classification", labelled, encoder="none", out=again, label=["xray_rough"], **FAST)
    one, other = (load_encoder(path).network.state_dict() for path in (run, again))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_probe_compares_with_an_untrained_network_and_raw_pixels(labelled: Path, tmp_path: Path) -> None:
    content = probe("none", labelled, label=["mr_rough"], out=tmp_path)
    entry = content["probes"]["mr_rough"]
    assert [row["features"] for row in entry["rows"]] == ["this encoder", "same network, untrained", "raw pixels"]
    for row in entry["rows"]:
        for figure in ("knn_auc", "linear_auc"):
            assert row[figure]["low"] <= row[figure]["value"] <= row[figure]["high"]
    # An untrained network probed as `none` is its own reference.
    assert entry["rows"][0]["knn_auc"] == entry["rows"][1]["knn_auc"]
    with pytest.raises(UsageError, match="add --out FOLDER"):
        probe("none", labelled, label=["mr_rough"])
