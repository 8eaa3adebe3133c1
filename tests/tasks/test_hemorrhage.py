"""Haemorrhage in volumes: loss and slices against loops, figures against scikit-learn, continued runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import figures_of_cases
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, roc_auc_score

from scoutview import evaluate, finetune
from scoutview.batches import Archive, LabelledVolumes, WholeVolume
from scoutview.commands.finetune import make_settings
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.store import SPLITS, Annotation, Store, add_annotations
from scoutview.tasks import HemorrhageSettings, finetuning, load_classifier, predict
from scoutview.tasks.hemorrhage import (
    HEADS,
    TYPES,
    Hemorrhage,
    hemorrhage_loss,
    hemorrhage_targets,
    hemorrhage_task,
    slice_targets,
)
from scoutview.tasks.inputs import VolumeInputs, volume_reader
from scoutview.views import network_slices

SIZE = (10, 32, 32)
FAST = {"steps": 6, "batch_size": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bleeding-heads")
    write_phantoms(folder / "source", patients={"ct": 30}, seed=7, size=96, slices=12)
    run_ingest([folder / "source"], folder / "store", workers=1, labels=folder / "source" / "labels.csv")
    store = Store.open(folder / "store")
    series = sorted({row.series for row in store.rows()})
    add_annotations(store, [Annotation(name, "split", "split", SPLITS[n % 3]) for n, name in enumerate(series)])
    return folder / "store"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(untrained_encoder("resnet18w0.25_3d", SIZE, Preprocessing()), path)
    return path


def inputs_of(store: Path, encoder: Path) -> tuple[LabelledVolumes, VolumeInputs]:
    cases = LabelledVolumes.of(Archive.open([store]))
    return cases, VolumeInputs(volume_reader(load_encoder(encoder), cases, "head"), SIZE)


def test_the_loss_is_a_loop_over_heads_and_known_outputs() -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((5, 16)) * 3
    targets = (generator.random((5, 16)) > 0.5).astype(np.float32)
    targets[generator.random((5, 16)) > 0.7] = np.nan
    targets[:, 15] = np.nan  # a slice of padding
    parts = {"volume": slice(0, 1), "types": slice(1, 6), "slices": slice(6, 16)}
    targets[:, 0] = np.nan  # a head of which nothing is known in this batch
    expected = 0.0
    for part in parts.values():
        terms = []
        for logit, target in zip(logits[:, part].ravel(), targets[:, part].ravel(), strict=True):
            if not math.isnan(target):
                probability = 1 / (1 + math.exp(-logit))
                terms.append(-math.log(probability if target else 1 - probability))
        expected += sum(terms) / len(terms) if terms else 0.0
    found = hemorrhage_loss(torch.from_numpy(logits), torch.from_numpy(targets), parts)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("stored", "count"), [(12, 10), (12, 12), (7, 10), (100, 40), (30, 40), (3, 2)])
@pytest.mark.parametrize(("start", "step"), [(0.0, 1.0), (-1.3, 0.4), (11.7, -0.9), (2.0, 2.5)])
def test_slices_are_mapped_by_where_they_lie(stored: int, count: int, start: float, step: float) -> None:
    slices = 40
    whole = WholeVolume(np.zeros((slices, 1, 1), np.float32), stored, start, step)
    shown = whole.shown_by(*network_slices(slices, count))
    generator = np.random.default_rng(stored)
    said = np.where(generator.random(stored) > 0.7, np.nan, (generator.random(stored) > 0.6).astype(float))
    targets = slice_targets(said, shown)
    for place in range(count):
        if slices > count:
            low, high = place * slices / count - 0.5, (place + 1) * slices / count - 0.5
        else:
            own = place - (count - slices) // 2
            low, high = own - 0.5, own + 0.5
        ends = sorted((start + step * low, start + step * high))
        middle = sum(ends) / 2
        if not -0.5 - 1e-6 <= middle <= stored - 0.5 + 1e-6:
            expected = []
        else:
            expected = [k for k in range(stored) if ends[0] - 1e-6 <= k <= ends[1] + 1e-6]
            least = min(abs(k - middle) for k in range(stored))
            expected = expected or [k for k in range(stored) if abs(k - middle) <= least + 1e-6]
        assert np.flatnonzero(shown[place]).tolist() == expected
        values = [said[k] for k in expected]
        if 1.0 in values:
            assert targets[place] == 1.0
        elif not values or any(math.isnan(value) for value in values):
            assert math.isnan(targets[place])
        else:
            assert targets[place] == 0.0


def test_padding_and_what_cuts_across_have_no_targets() -> None:
    whole = WholeVolume(np.zeros((6, 1, 1), np.float32), 6, 0.0, 1.0)
    targets = slice_targets(np.ones(6), whole.shown_by(*network_slices(6, 10)))
    assert np.isnan(targets[[0, 1, 8, 9]]).all()
    assert (targets[2:8] == 1).all()
    across = WholeVolume(np.zeros((6, 1, 1), np.float32), 6, 0.0, float("nan"))
    assert not across.shown_by(*network_slices(6, 6)).any()


def test_slices_of_heads_agree_with_where_their_voxels_lie(store: Path, encoder: Path) -> None:
    from scoutview.batches import read_head

    cases, inputs = inputs_of(store, encoder)
    targets, left_out = hemorrhage_targets(cases, inputs, HemorrhageSettings(), "train")
    assert (len(targets.indices), left_out) == (10, 0)
    bleeding = 0
    for index, values in zip(targets.indices, targets.values, strict=True):
        held, volume = cases.volumes.place(index)
        labels = [cases.archive.labels["hemorrhage"][row.image] == "1" for row in volume.rows]
        head = read_head(held, volume)
        heights = [row.affine[11] for row in volume.rows if row.affine]  # z in mm of every stored slice's corner
        apart = abs(heights[1] - heights[0])
        for place in range(10):  # four of the 40 slices of the head each
            mine = [(head.affine @ [95.5, 111.5, 4 * place + k, 1])[2] for k in (-0.5, 3.5)]
            inside = [k for k, z in enumerate(heights) if min(mine) <= z <= max(mine)]
            if not inside:
                middle = sum(mine) / 2
                nearest = int(np.argmin(np.abs(np.array(heights) - middle)))
                inside = [nearest] if abs(heights[nearest] - middle) <= apart / 2 else []
            expected = max((labels[k] for k in inside), default=None)
            assert math.isnan(values[6 + place]) if expected is None else values[6 + place] == expected, (index, place)
            bleeding += expected is True
    assert bleeding > 5


def test_a_model_is_trained_and_its_figures_are_those_of_scikit_learn(
    store: Path, encoder: Path, tmp_path: Path
) -> None:
    run = finetune("hemorrhage_volume", store, encoder=str(encoder), out=tmp_path / "run", **FAST)
    content = evaluate(run, store)
    model, (cases, inputs) = load_classifier(run), inputs_of(store, encoder)
    targets, _ = hemorrhage_targets(cases, inputs, HemorrhageSettings(), "test")
    scores = predict(model, inputs, targets.indices, "cpu")
    assert targets.classes == ("volume", *TYPES, *(f"slice {n}" for n in range(1, 11)))
    volume = targets.values[:, 0]
    assert content["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(volume, scores[:, 0]))
    assert content["metrics"]["ap"]["value"] == pytest.approx(average_precision_score(volume, scores[:, 0]))
    assert content["metrics"]["accuracy"]["value"] == pytest.approx(float(np.mean((scores[:, 0] >= 0.5) == volume)))
    known = ~np.isnan(targets.values[:, 6:])
    expected = roc_auc_score(targets.values[:, 6:][known], scores[:, 6:][known])
    assert content["metrics"]["auc of slices"]["value"] == pytest.approx(expected)
    for column, name in enumerate(TYPES, start=1):
        if 0 < targets.values[:, column].sum() < len(targets.indices):
            area = roc_auc_score(targets.values[:, column], scores[:, column])
            assert content["per_class"][name]["auc"]["value"] == pytest.approx(area)
    assert (content["n_images"], content["unit"], content["without_brain"]) == (10, "volume", 0)
    figures = dict(figures_of_cases((run / "cases.html").read_text()))
    assert len(figures) == 10
    for index, row, values in zip(targets.indices, scores, targets.values, strict=True):
        filled = [k for k in range(10) if inputs.shown_slices(index)[k].any()]
        highest = max(filled, key=lambda k: row[6 + k])
        lines = figures[cases.volumes.place(index)[1].stack[:12]]
        assert lines[-1] == f"slice {highest + 1} of 10 of the input, with the highest score"
        assert lines[0] == f"error {np.nanmax(np.abs(values - row)):.3f}"
    assert json.loads((run / "evaluation.json").read_text())["task"] == "hemorrhage_volume"
    with pytest.raises(UsageError, match="takes its labels by --volume-label"):
        finetune("hemorrhage_volume", store, encoder=str(encoder), out=tmp_path / "other", label=["hemorrhage"])
    two = tmp_path / "two.safetensors"
    save_encoder(untrained_encoder("resnet18w0.25", 64, Preprocessing()), two)
    with pytest.raises(UsageError, match="is a network for images: give an encoder of volumes"):
        finetune("hemorrhage_volume", store, encoder=str(two), out=tmp_path / "other")


@pytest.mark.parametrize("heads", [("volume",), ("slices",), ("volume", "slices")])
def test_heads_can_be_left_out(store: Path, encoder: Path, tmp_path: Path, heads: tuple[str, ...]) -> None:
    run = finetune("hemorrhage_volume", store, encoder=str(encoder), out=tmp_path / "run", heads=heads, **FAST)
    weights = load_file(run / "head.safetensors")
    of_slices = {"slice.weight": (1, 2 * (16 + 32 + 64 + 128))}  # a quarter of ResNet-18's channels, maximum and mean
    layers = {("volume",): {"weight": (1, 128)}, ("slices",): of_slices}
    layers["volume", "slices"] = {"volume.weight": (1, 128), **of_slices}
    assert {name: value.shape for name, value in weights.items() if name.endswith("weight")} == layers[heads]
    assert set(evaluate(run, store)["per_class"]) == set(heads)


def test_a_part_of_the_volumes_is_mirrored(store: Path, encoder: Path) -> None:
    cases, inputs = inputs_of(store, encoder)
    still = {"zoom": (1.0, 1.0), "shift": 0.0, "gain": (1.0, 1.0), "bias": (0.0, 0.0)}
    volumes = torch.rand(40, 1, 2, 5, 7)
    kinds = []
    for chance in (0.0, 0.3, 1.0):
        settings = HemorrhageSettings(mirrored=chance, **still)
        task, _ = hemorrhage_task(cases, inputs, load_encoder(encoder), settings, "cpu")
        shown = task.augmented(volumes, np.random.default_rng(2))
        as_it_is = [torch.allclose(a, b, atol=1e-5) for a, b in zip(shown, volumes, strict=True)]
        reversed_columns = volumes[..., torch.arange(6, -1, -1)]
        turned = [torch.allclose(a, b, atol=1e-5) for a, b in zip(shown, reversed_columns, strict=True)]
        assert [a != b for a, b in zip(as_it_is, turned, strict=True)] == [True] * 40
        kinds.append(sum(turned))
    assert kinds[0] == 0
    assert 6 <= kinds[1] <= 20
    assert kinds[2] == 40
    with pytest.raises(UsageError, match=r"mirrored 2 must lie in \[0, 1\]"):
        HemorrhageSettings(mirrored=2)


def test_models_are_compared_in_the_heads_that_both_have(store: Path, encoder: Path, tmp_path: Path) -> None:
    for seed, heads in enumerate((HEADS, ("slices",))):
        out = tmp_path / str(len(heads))
        finetune("hemorrhage_volume", store, encoder=str(encoder), out=out, heads=heads, seed=seed, **FAST)
    other = evaluate(tmp_path / "1", store)["metrics"]
    content = evaluate(tmp_path / "3", store, against=tmp_path / "1")
    against, mine = content["against"], content["metrics"]["auc of slices"]
    assert set(against["metrics"]) == {"auc of slices", "ap of slices"}
    entry = against["metrics"]["auc of slices"]
    assert entry["this"] == pytest.approx(mine)
    assert entry["other"] == pytest.approx(other["auc"])
    assert entry["difference"]["value"] == pytest.approx(mine["value"] - other["auc"]["value"])
    assert [text.split()[0] for text in against["warnings"]] == ["volume", "types", "steps"]
    assert against["convergence"] == {}  # one watched volumes, the other slices
    assert "AUC of slices" in (tmp_path / "3" / "report.html").read_text()


def test_a_stopped_run_goes_on_with_the_same_weights(
    store: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "EVALUATIONS", 3)  # a checkpoint every second step
    arguments = {"encoder": str(encoder), "heads": ("volume", "types"), **FAST}
    whole = finetune("hemorrhage_volume", store, out=tmp_path / "whole", **arguments)
    original, calls = Hemorrhage.loss, []

    def stops(self: Hemorrhage, cases: list[int], generator: np.random.Generator) -> torch.Tensor:
        calls.append(cases)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, cases, generator)

    monkeypatch.setattr(Hemorrhage, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        finetune("hemorrhage_volume", store, out=tmp_path / "parts", **arguments)
    monkeypatch.setattr(Hemorrhage, "loss", original)
    parts = finetune("hemorrhage_volume", store, out=tmp_path / "parts", **arguments)
    for name in ("encoder.safetensors", "head.safetensors"):
        one, other = load_file(whole / name), load_file(parts / name)
        assert all(torch.equal(value, other[key]) for key, value in one.items()), name


def test_settings_that_are_wrong_or_of_another_task_are_refused() -> None:
    with pytest.raises(UsageError, match="heads is a setting of hemorrhage_volume, not of classification"):
        make_settings("classification", {"heads": ("volume",)})
    for heads in ((), ("volume", "volume"), ("masks",)):
        with pytest.raises(UsageError, match="name some of volume, types, slices"):
            make_settings("hemorrhage_volume", {"heads": heads})
    with pytest.raises(UsageError, match="type_labels is empty"):
        make_settings("hemorrhage_volume", {"type_labels": ()})
