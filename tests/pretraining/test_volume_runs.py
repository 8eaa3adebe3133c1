"""Runs on volumes: a 3D encoder from a store of head CT, continued with the same losses, and refused when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scoutview import pretrain
from scoutview.encoders import load_encoder
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.pretraining import load_recipe, resolve
from scoutview.training.run_folder import read_metrics

SMALL = {
    "steps": 3,
    "batch_size": 2,
    "workers": 0,
    "sizes": ((10, 40, 32), (6, 32, 32)),
    "crops": (1, 2),
    "short_sides": (32.0, 64.0),
    "head": False,
    "prototypes": 4,
    "queue": 2,
    "queue_start": 1,
    "freeze_prototypes": 1,
    "projection": 16,
    "projector_hidden": 32,
    "precision": "fp32",
    "compile": False,
    "log_every": 1,
}
TIMES = {"seconds", "images_per_second", "time", "slowest"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    write_phantoms(folder / "source", patients={"ct": 5, "xray": 1}, seed=3, size=96, slices=12)
    run_ingest([folder / "source" / "images"], folder / "store", workers=1)
    return folder / "store"


def lines(run: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run)]


@pytest.mark.parametrize("encoder", ["densenet_3d", "resnet18w0.25_3d"])
def test_a_run_on_volumes_stopped_after_every_step_is_the_same_run(store: Path, tmp_path: Path, encoder: str) -> None:
    settings = {**SMALL, "encoder": encoder, "where": "modality = 'ct'", "splits": ("train", "validation", "test")}
    whole = pretrain([store], out=tmp_path / "whole", recipe="ct_3d", **settings)
    for step in (1, 2, 3):
        parts = pretrain([store], out=tmp_path / "parts", recipe="ct_3d", stop_after=1e-9, **settings)
        assert [line["step"] for line in lines(parts)] == list(range(1, step + 1))
    assert [line["step"] for line in lines(whole)] == [1, 2, 3]
    assert lines(parts) == lines(whole)
    one, other = load_encoder(whole), load_encoder(parts)
    assert one.architecture == encoder
    assert one.input_size == (10, 40, 32)
    assert one.provenance["volumes"] == "whole"
    assert one.provenance["images"] == {"ct": 5}
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    assert (whole / "views" / "ct.png").exists()
    assert (whole / "volume_energies.json").read_text() == (parts / "volume_energies.json").read_text()


def test_the_recipe_is_table_i() -> None:
    recipe = load_recipe("ct_3d", {})
    settings = resolve(recipe, {"ct": 24_000})
    assert recipe.view_settings().view_sizes() == [(40, 224, 192), *[(40, 112, 96)] * 4]
    assert (recipe.steps, recipe.batch_size, recipe.freeze_prototypes) == (19_100, 128, 4000)
    assert (recipe.temperature, recipe.epsilon, recipe.sinkhorn_rounds) == (0.1, 0.03, 3)
    assert (recipe.learning_rate, recipe.final_learning_rate, recipe.weight_decay) == (0.6, 0.0006, 1e-6)
    assert recipe.code_crops == (0, 1)
    assert (settings.prototypes, settings.queue) == ({"ct": 1500}, {"ct": 1920})
    # 100 epochs are the steps; the queue starts at epoch 3.
    assert recipe.queue_start == 3 * recipe.steps // 100
    assert settings.input_size == (40, 224, 192)
    assert recipe.spatial_dims == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet18"}, "do not fit resnet18: a network with _3d takes slices, rows and columns"),
        ({"sizes": ((224, 192), (112, 96))}, "do not fit densenet_3d"),
        ({"sizes": ((40, 224, 192), (0, 112, 96))}, "do not fit densenet_3d"),
        ({"sizes": ((40, 224, 192), (40, 112, 16))}, "a crop needs 32 px or more"),
        ({"input_size": 96}, "input_size 96 does not fit densenet_3d: give 3 numbers"),
        (
            {"encoder": "resnet18", "sizes": (96, 64), "input_size": 96},
            "head crops volumes, and resnet18 takes images",
        ),
    ],
)
def test_what_does_not_fit_is_said(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("ct_3d", settings)


def test_an_archive_without_volumes_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no whole volume among the selected images"):
        pretrain([store], out=tmp_path / "run", recipe="ct_3d", where="modality = 'xray'", **SMALL)
