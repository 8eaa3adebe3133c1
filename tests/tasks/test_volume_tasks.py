"""Labels, inputs and models of volumes: against brute force; the commands that learn from labels work on volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pages import figures_of_cases
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from scoutview import embed, evaluate, finetune, probe
from scoutview.batches import Archive, LabelledVolumes, read_head, read_slab
from scoutview.encoders import Encoder, embed_images, load_encoder, save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.store import SPLITS, Annotation, Store, add_annotations
from scoutview.tasks import class_targets, finetuning, load_classifier, predict
from scoutview.tasks.inputs import cases_for, inputs_for
from scoutview.views import network_input, rescale

SIZE = (8, 32, 32)
FAST = {"steps": 6, "batch_size": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Head CT of 24 patients, 12 slices each; a third of them in each split, two radiographs beside them."""
    folder = tmp_path_factory.mktemp("labelled-heads")
    write_phantoms(folder / "source", patients={"ct": 24, "xray": 2}, seed=5, size=96, slices=12)
    run_ingest([folder / "source"], folder / "store", workers=1, labels=folder / "source" / "labels.csv")
    store = Store.open(folder / "store")
    series = sorted({row.series for row in store.rows() if row.modality == "ct"})
    splits = [Annotation(name, "split", "split", SPLITS[n % 3]) for n, name in enumerate(series)]
    zones = [Annotation(name, "label", "zone", "abc"[n // 3 % 3]) for n, name in enumerate(series)]
    add_annotations(store, [*splits, *zones])
    return folder / "store"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(untrained_encoder("resnet18w0.25_3d", SIZE, Preprocessing()), path)
    return path


def volumes_of(store: Path) -> LabelledVolumes:
    return LabelledVolumes.of(Archive.open([store]))


def test_a_finding_of_a_volume_is_that_of_any_of_its_slices(store: Path) -> None:
    cases = volumes_of(store)
    assert len(cases) == 24
    targets = class_targets(cases, ["subdural", "hemorrhage"], ("train", "validation", "test"))
    labels = cases.archive.labels
    rows = list(Store.open(store).rows())
    assert len(targets.indices) == 24
    for index, values in zip(targets.indices, targets.values, strict=True):
        stack = cases.volumes.place(index)[1].stack
        slices = [row.image for row in rows if row.stack == stack]
        assert values.tolist() == [max(float(labels[name][key]) for key in slices) for name in targets.classes]
        assert cases.patients([index])[0] == next(row.patient for row in rows if row.stack == stack)
    parts = [class_targets(cases, ["hemorrhage"], (split,)).indices for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [8, 8, 8]
    assert sorted(index for part in parts for index in part) == list(targets.indices)


def test_labels_of_series_count_and_slices_that_disagree_do_not(store: Path) -> None:
    cases = volumes_of(store)
    zones = class_targets(cases, ["zone"], ("train",))
    assert (zones.exclusive, zones.classes, len(zones.indices)) == (True, ("a", "b", "c"), 8)
    assert cases.slice_values("zone", 0) == [None] * 12  # nothing was said of a slice
    said = [cases.archive.labels["hemorrhage"][row.image] for row in cases.volumes.place(0)[1].rows]
    assert cases.slice_values("hemorrhage", 0) == said


def test_partly_labelled_and_contradicting_volumes(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "source", patients={"ct": 4}, seed=5, size=64, slices=4)
    run_ingest([tmp_path / "source" / "images"], tmp_path / "store", workers=1)
    slices = [[row.image for row in volume.rows] for volume in volumes_of(tmp_path / "store").volumes.parts["ct"]]
    said = {(0, 0): "0", (0, 1): "1", (1, 0): "0", **{(2, place): "0" for place in range(4)}}
    entries = [Annotation(slices[volume][place], "label", "clot", value) for (volume, place), value in said.items()]
    entries += [Annotation(slices[3][place], "label", "side", "lr"[place % 2]) for place in range(4)]
    add_annotations(Store.open(tmp_path / "store"), entries)
    cases = volumes_of(tmp_path / "store")
    assert {index: cases.label_values("clot", [index])[0] for index in cases.labelled("clot")} == {0: "1", 2: "0"}
    with pytest.raises(UsageError, match="label 'side' has several values among the slices of volume"):
        cases.labelled("side")
    with pytest.raises(UsageError, match="no image has a label 'mass'"):
        cases.labelled("mass")


def test_a_volume_is_brought_to_its_size_by_means_of_slices_or_zeros() -> None:
    volume = np.random.default_rng(0).random((12, 20, 30)).astype(np.float32)
    planes = [rescale(plane, 16, 24).clip(0, 1) for plane in volume]
    shown = network_input(volume, (8, 24, 24))
    assert (shown[:, :4] == 0).all()
    assert (shown[:, 20:] == 0).all()
    for place in range(8):  # 1.5 slices each
        begin, end = place * 1.5, place * 1.5 + 1.5
        shares = [max(0.0, min(end, k + 1) - max(begin, k)) / 1.5 for k in range(12)]
        expected = sum(share * plane.astype(np.float64) for share, plane in zip(shares, planes, strict=True))
        np.testing.assert_allclose(shown[place, 4:20], expected, atol=1e-5)
    shown = network_input(volume, (15, 24, 24))
    np.testing.assert_array_equal(shown[1:13, 4:20], np.stack(planes))
    assert (shown[[0, 13, 14]] == 0).all()


class Recorder(torch.nn.Module):
    """A network that keeps what it is shown."""

    spatial_dims = 3
    features = 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += list(x.clone())
        return x.mean((2, 3, 4))


@pytest.mark.parametrize("volumes", ["whole", "head"])
def test_every_consumer_is_shown_one_tensor(store: Path, volumes: str) -> None:
    from scoutview.commands.sources import source_volumes

    recorder = Recorder()
    encoder = Encoder("densenet_3d", recorder, Preprocessing(), SIZE, {"volumes": volumes})  # type: ignore[arg-type]
    archive = Archive.open([store])
    cases = cases_for(encoder, archive)
    assert isinstance(cases, LabelledVolumes)
    inputs = inputs_for(encoder, cases)  # finetune, evaluate, probe
    embed_images(encoder, (image.pixels for image in source_volumes(store, encoder)))
    assert len(recorder.seen) == 24
    for index in range(0, 24, 7):
        held, volume = cases.volumes.place(index)
        pixels = read_head(held, volume, SIZE).pixels if volumes == "head" else read_slab(held, volume, Preprocessing())
        expected = torch.from_numpy(network_input(pixels, SIZE))
        assert torch.equal(inputs.batch([index])[0, 0], expected)
        assert torch.equal(recorder.seen[index][0], expected)
        if volumes == "whole":
            assert torch.equal(expected[:, 0, 0], torch.from_numpy(network_input(pixels, SIZE)[:, 0, 0]))


def test_a_classifier_of_volumes_is_trained_evaluated_probed_and_embeds(
    store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finetune("classification", store, encoder=str(encoder), out=tmp_path / "run", label=["zone"], **FAST)
    content = evaluate(run, store)
    assert (content["unit"], content["n_images"], content["n_patients"]) == ("volume", 8, 8)
    model, cases = load_classifier(run), volumes_of(store)
    targets = class_targets(cases, ["zone"], ("test",))
    scores = predict(model, inputs_for(model.encoder, cases), targets.indices, "cpu")
    assert content["metrics"]["auc"]["value"] == pytest.approx(
        roc_auc_score(targets.values, scores, average="macro"), abs=1e-9
    )
    figures = figures_of_cases((run / "cases.html").read_text())
    expected = [1 - row[value == 1][0] for row, value in zip(scores, targets.values, strict=True)]
    assert [lines[0] for _, lines in figures] == [f"error {error:.3f}" for error in sorted(expected, reverse=True)]
    assert all(lines[-1] == f"slice {SIZE[0] // 2 + 1} of {SIZE[0]} of the input, the middle" for _, lines in figures)
    other = finetune("classification", store, encoder=str(encoder), out=tmp_path / "b", label=["zone"], seed=1, **FAST)
    entry = evaluate(other, store, against=run)["against"]["metrics"]["auc"]
    assert entry["other"] == pytest.approx(content["metrics"]["auc"])
    assert entry["difference"]["value"] == pytest.approx(entry["this"]["value"] - entry["other"]["value"])
    with pytest.raises(UsageError, match="--robustness is for classifiers of images"):
        evaluate(other, store, against=run, robustness=True)
    probed = probe(str(encoder), store, label=["zone"], out=tmp_path / "probe")
    assert probed["probes"]["zone"]["bank_images"] == 8
    table = pq.read_table(embed(str(run), store, out=tmp_path / "vectors.parquet")).to_pydict()
    whole = embed_images(
        load_encoder(run), [read_slab(*cases.volumes.place(0), Preprocessing()), np.zeros((3, 5, 5), np.float32)]
    )
    assert len(table["id"]) == 24
    np.testing.assert_allclose(table["embedding"][0], whole[0], atol=1e-5)
    assert "8 labelled volumes" in capsys.readouterr().err


def test_a_run_on_volumes_goes_on_after_a_stop_with_the_same_weights(
    store: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "EVALUATIONS", 3)  # a checkpoint every second step
    arguments = {"encoder": str(encoder), "label": ["zone"], **FAST}
    whole = finetune("classification", store, out=tmp_path / "whole", **arguments)
    from scoutview.tasks.classification import Classification

    original, calls = Classification.loss, []

    def stops(self: Classification, cases: list[int], generator: np.random.Generator) -> torch.Tensor:
        calls.append(cases)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, cases, generator)

    monkeypatch.setattr(Classification, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        finetune("classification", store, out=tmp_path / "parts", **arguments)
    monkeypatch.setattr(Classification, "loss", original)
    parts = finetune("classification", store, out=tmp_path / "parts", **arguments)
    for name in ("encoder.safetensors", "head.safetensors"):
        one, other = load_file(whole / name), load_file(parts / name)
        assert all(torch.equal(value, other[key]) for key, value in one.items()), name


def test_what_has_no_volumes_is_refused(store: Path, encoder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "source", patients={"xray": 3}, seed=5, size=64)
    images = tmp_path / "images"
    run_ingest([tmp_path / "source"], images, workers=1, labels=tmp_path / "source" / "labels.csv")
    for call in (
        lambda: finetune("classification", images, encoder=str(encoder), out=tmp_path / "run", label=["lesion"]),
        lambda: probe(str(encoder), images, label=["lesion"], out=tmp_path / "probe"),
        lambda: embed(str(encoder), images, out=tmp_path / "vectors.parquet"),
    ):
        with pytest.raises(UsageError, match="no whole volume among the selected images"):
            call()
    with pytest.raises(UsageError, match=r"is no store, and resnet18w0\.25_3d reads volumes"):
        embed(str(encoder), tmp_path / "source", out=tmp_path / "vectors.parquet")
    assert replace(load_encoder(encoder), provenance={"volumes": "head"}).volume_size == SIZE
    with pytest.raises(UsageError, match="resnet18 is a network for images"):
        _ = untrained_encoder("resnet18", 64, Preprocessing()).volume_size
