"""The two-stage command: interrupted anywhere it ends as if undisturbed; stage 1 shared, left out, damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import figures_of_cases
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from sliced_store import NAME, make_sliced_store

from scoutview import evaluate, finetune, predict
from scoutview.batches import Archive
from scoutview.commands import finetune as command
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, Store, add_annotations
from scoutview.tasks.metastasis import job as job_module
from scoutview.tasks.metastasis import predicted as predicted_module
from scoutview.tasks.metastasis.cases import Masks, SliceCases
from scoutview.tasks.metastasis.classifier import SliceChannels, predict_slices
from scoutview.tasks.metastasis.inputs import SliceInputs
from scoutview.tasks.metastasis.job import load_slice_classifier
from scoutview.tasks.metastasis.predicted import predicted_masks
from scoutview.tasks.metastasis.segmentation import hashed, load_segmenters

FAST: dict[str, Any] = {"label": [NAME], "steps": 6, "mask_steps": 8, "batch_size": 8}
SIZE = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """(store, encoder file, finished run)."""
    folder = tmp_path_factory.mktemp("metastasis")
    make_sliced_store(folder / "store")
    save_encoder(untrained_encoder("resnet18w0.25", SIZE, Preprocessing()), folder / "encoder.safetensors")
    encoder = str(folder / "encoder.safetensors")
    run = finetune("metastasis_slices", folder / "store", encoder=encoder, out=folder / "run", **FAST)
    return folder / "store", encoder, run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of a run, of both stages."""
    model = load_slice_classifier(run)
    named = {f"{part}.{key}": v for part, module in model.modules().items() for key, v in module.state_dict().items()}
    if (run / "stage1").exists():
        for number, one in enumerate(load_segmenters(run / "stage1")):
            named |= {f"fold {number} {key}": value for key, value in one.network.state_dict().items()}
    return named


def assert_same(run: Path, other: Path) -> None:
    ours, theirs = weights_of(run), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    masks = [sorted((one / "stage1").glob("masks-*.npz")) for one in (run, other)]
    names = [{path.name: path.read_bytes() for path in paths} for paths in masks]
    common = names[0].keys() & names[1].keys()
    assert common
    assert all(names[0][name] == names[1][name] for name in common)


class Killed(BaseException):
    """As a signal would end it."""


def test_interrupted_anywhere_the_same_command_continues_bit_by_bit(
    made: tuple[Path, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, encoder, run = made
    again = tmp_path / "again"
    save, loss_of_masks = job_module.save_segmenter, job_module.Segmentation.loss
    add, loss_of_slices = predicted_module._add, job_module.SliceClassification.loss
    counts: dict[str, int] = {}

    def dying(name: str, function: Any, after: int) -> Any:
        def wrapped(*arguments: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            if counts[name] == after:
                raise Killed(name)
            return function(*arguments)

        return wrapped

    # In the first network, between the networks, in the second, while masks are written, in stage 2.
    monkeypatch.setattr(job_module.Segmentation, "loss", dying("masks", loss_of_masks, 5))
    monkeypatch.setattr(job_module, "save_segmenter", dying("save", save, 2))
    monkeypatch.setattr(predicted_module, "_add", dying("add", add, 30))
    monkeypatch.setattr(job_module.SliceClassification, "loss", dying("slices", loss_of_slices, 4))
    for expected in ("masks", "save", "add", "slices"):
        with pytest.raises(Killed, match=expected):
            finetune("metastasis_slices", store, encoder=encoder, out=again, **FAST)
        assert json.loads((again / "manifest.json").read_text())["status"] == f"failed: {expected}"
    assert len(list((again / "stage1").glob("masks-*"))) == 1
    finetune("metastasis_slices", store, encoder=encoder, out=again, **FAST)
    assert_same(run, again)
    assert json.loads((again / "manifest.json").read_text())["status"] == "finished"
    for fold in (1, 2):
        lines = (run / "stage1" / f"fold-{fold}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines if "validation_dice" in line] == list(range(1, 9))
        assert (run / "stage1" / f"fold-{fold}" / "report.html").exists()


def test_each_training_patient_has_masks_from_a_network_that_did_not_see_it(made: tuple[Path, str, Path]) -> None:
    store, _, run = made
    archive = Archive.open([store])
    one, other = load_segmenters(run / "stage1")
    assert not one.patients & other.patients
    spots = Masks.read(archive, NAME)
    train, validation = (
        SliceInputs(SliceCases.of(archive, spots, split), Preprocessing(), SIZE) for split in ("train", "validation")
    )
    assert one.patients | other.patients == {hashed(key) for key in train.cases.patients.tolist()}
    stored = predicted_masks(run / "stage1", (one, other), (train, validation), "cpu")
    for inputs in (train, validation):
        for case in range(0, len(inputs.cases), 5):
            with torch.no_grad():
                values = [net.network.eval()(inputs.slices([case])).sigmoid()[0, 0].numpy() for net in (one, other)]
            patient = hashed(inputs.cases.row(case).patient)
            mine = [v for v, net in zip(values, (one, other), strict=True) if patient not in net.patients]
            assert len(mine) == (1 if inputs is train else 2)
            ours = stored.batch(inputs, [case])[0, 0].numpy()
            np.testing.assert_allclose(ours, np.mean(mine, axis=0), atol=0.51 / 255)


def test_evaluation_equals_scikit_learn(made: tuple[Path, str, Path]) -> None:
    store, _, run = made
    content = evaluate(run, store)
    model, archive = load_slice_classifier(run), Archive.open([store])
    cases = SliceCases.of(archive, Masks.read(archive, NAME), "test")
    inputs = SliceInputs(cases, Preprocessing(), SIZE)
    found = predicted_masks(run / "stage1", load_segmenters(run / "stage1"), (inputs,), "cpu")
    scores = predict_slices(model, SliceChannels(inputs, found), "cpu")[:, 0]
    metrics = content["metrics"]
    assert metrics["auc"]["value"] == pytest.approx(roc_auc_score(cases.targets, scores))
    worst = np.argsort(-np.abs(cases.targets - scores), kind="stable").tolist()
    figures = figures_of_cases((run / "cases.html").read_text())
    assert [name for name, _ in figures] == [cases.row(case).image[:12] for case in worst]
    assert [lines[-1].split(" of ")[0] for _, lines in figures] == [f"slice {cases.place[case] + 1}" for case in worst]
    assert metrics["ap"]["value"] == pytest.approx(average_precision_score(cases.targets, scores))
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(cases.targets, scores >= 0.6))
    assert metrics["accuracy"]["threshold"] == 0.6
    every = list(range(len(cases)))
    pixels, masks = found.batch(inputs, every).numpy(), inputs.masks(every).numpy()
    assert metrics["dice"]["value"] == pytest.approx(f1_score(masks.ravel() >= 0.5, pixels.ravel() >= 0.5))
    for figure in metrics.values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert (content["n_images"], content["n_patients"], content["n_volumes"]) == (36, 6, 6)
    assert json.loads((run / "evaluation.json").read_text())["metrics"]["auc"] == metrics["auc"]
    assert "Dice of the predicted masks" in (run / "report.html").read_text()
    # Untrained weights of the encoder's own file differ: it was trained, and is a network of one channel.
    assert load_encoder(run).network.get_parameter("conv1.weight").shape[1] == 1


def test_stage_1_is_shared_or_left_out(made: tuple[Path, str, Path], tmp_path: Path) -> None:
    store, encoder, run = made
    shared = tmp_path / "shared"
    finetune("metastasis_slices", store, encoder=encoder, out=shared, stage1=str(run), **FAST)
    assert_same(run, shared)
    assert not (shared / "stage1" / "fold-1" / "checkpoints").exists()
    # The run is complete by itself: another one takes over from it.
    third = tmp_path / "third"
    finetune("metastasis_slices", store, encoder=encoder, out=third, stage1=str(shared), **FAST)
    assert_same(run, third)
    alone = finetune("metastasis_slices", store, encoder=encoder, out=tmp_path / "alone", mask_channel=False, **FAST)
    assert not (alone / "stage1").exists()
    assert load_slice_classifier(alone).entry.in_channels == 5
    found = evaluate(alone, store)["metrics"]
    assert "dice" not in found
    masked = evaluate(shared, store, against=alone)
    assert set(masked["against"]["metrics"]) == {"auc", "ap"}
    for name, entry in masked["against"]["metrics"].items():
        assert entry["this"] == pytest.approx(masked["metrics"][name])
        assert entry["other"] == pytest.approx(found[name])
        difference = masked["metrics"][name]["value"] - found[name]["value"]
        assert entry["difference"]["value"] == pytest.approx(difference)
    assert masked["against"]["convergence"]["same_schedule"]
    single = tmp_path / "single"
    finetune("metastasis_slices", store, encoder=encoder, out=single, mask_folds=1, **FAST)
    (only,) = load_segmenters(single / "stage1")
    assert len(only.patients) == 12


def test_damage_is_found(made: tuple[Path, str, Path], tmp_path: Path) -> None:
    store, encoder, run = made
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "head.safetensors").unlink()
    path = next((copy / "stage1").glob("masks-*.npz"))
    names = [one.name for one in (copy / "stage1").glob("masks-*.npz")]
    assert path.name in names
    for damage in (lambda data: data[: len(data) // 2], lambda data: flipped(data, 200), lambda data: b""):
        for one in (copy / "stage1").glob("masks-*.npz"):
            one.write_bytes(damage(one.read_bytes()))
        (copy / "head.safetensors").unlink(missing_ok=True)
        finetune("metastasis_slices", store, encoder=encoder, out=copy, **FAST)
        evaluate(copy, store)
        assert_same(run, copy)
    head = copy / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-9])
    with pytest.raises(UsageError, match="is damaged"):
        evaluate(copy, store)
    network = copy / "stage1" / "fold-2" / "head.safetensors"
    network.write_bytes(network.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"fold-2/head\.safetensors is damaged"):
        load_segmenters(copy / "stage1")
    network.unlink()
    with pytest.raises(UsageError, match="holds no finished stage 1"):
        load_segmenters(copy / "stage1")


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def wrong(store: Path, encoder: str, run: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(message, arguments) of calls that are refused."""
    other = folder / "other.safetensors"
    save_encoder(untrained_encoder("resnet18w0.25", SIZE + 16, Preprocessing()), other)
    yield "learns one finding: give --label NAME", {"label": None}
    yield "no image has a mask of 'metastasis' \\(masks of: spot\\)", {"label": ["metastasis"]}
    yield "mask_folds 0 must be 1 or more", {"mask_folds": 0}
    yield "mask_steps 0 must be 1 or more", {"mask_steps": 0}
    yield "too few patients with spot for mask_folds 20", {"mask_folds": 20}
    yield "stage1 was given, and mask_channel is false", {"mask_channel": False, "stage1": str(run)}
    yield "holds no finished stage 1", {"stage1": str(folder)}
    yield "trained for 'spot' at 32 px, this run is for 'spot' at 48 px", {"stage1": str(run), "encoder": str(other)}


def test_what_cannot_be_is_refused_before_there_is_a_folder(made: tuple[Path, str, Path], tmp_path: Path) -> None:
    store, encoder, run = made
    for message, arguments in wrong(store, encoder, run, tmp_path):
        with pytest.raises(UsageError, match=message):
            finetune("metastasis_slices", store, **{"encoder": encoder, "out": tmp_path / "no", **FAST, **arguments})
    assert not (tmp_path / "no").exists()
    moved = tmp_path / "moved"
    shutil.copytree(store, moved)
    # Patients 0 and 2 change places.
    add_annotations(
        Store.open(moved),
        [Annotation("study-0", "split", "split", "validation"), Annotation("study-2", "split", "split", "train")],
    )
    with pytest.raises(UsageError, match="trained on patients that are held out here"):
        finetune("metastasis_slices", moved, encoder=encoder, out=tmp_path / "no", stage1=str(run), **FAST)
    assert command.make_settings("metastasis_slices", {"mask_folds": 3})


def test_patients_that_stage_1_has_seen_are_no_test(made: tuple[Path, str, Path], tmp_path: Path) -> None:
    store, _, run = made
    moved = tmp_path / "moved"
    shutil.copytree(store, moved)
    add_annotations(Store.open(moved), [Annotation("study-0", "split", "split", "test")])
    with pytest.raises(UsageError, match="trained on patients that are held out here"):
        evaluate(run, moved)


def test_single_files_have_no_neighbours_and_are_not_predicted(made: tuple[Path, str, Path], tmp_path: Path) -> None:
    store, _, run = made
    with pytest.raises(UsageError, match="needs the neighbours of a slice: use evaluate on a store"):
        predict(run, store, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
