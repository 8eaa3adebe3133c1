"""`scoutview plan`: what it measured and derived belongs together, and its catalog figures are a recount."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scoutview import plan
from scoutview.batches import Archive
from scoutview.batches.budget import Cluster, ImageCost, StepRates, budget_of
from scoutview.errors import RunError, UsageError
from scoutview.store import Store

SMALL = {
    "encoder": "resnet18w0.25",
    "steps": 1000,
    "batch_size": 16,
    "crops": (2, 1),
    "sizes": (40, 32),
    "visible": ((0.5, 1.0), (0.3, 0.6)),
    "prototypes": 4,
    "projector_hidden": 32,
    "projection": 8,
}


def test_a_given_speed(small_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"gpus": 4, "gpus_per_node": 2, "cores_per_node": 64, "images_per_second_per_gpu": 50.0, "seconds": 4}
    content = plan([small_store], json=True, **options, **SMALL)
    rows = Store.open(small_store).rows()
    output = capsys.readouterr().out.splitlines()
    assert json.loads(output[-1]) == json.loads(json.dumps(content))
    assert content["images_per_second"] == 200
    assert (content["nodes"], content["rates"]["device"]) == (2, "given")
    assert content["stored_bytes"] == sum(row.nbytes + row.spectrum_nbytes for row in rows)
    assert content["first_cached_bytes"] == sum(
        row.nbytes + row.spectrum_nbytes for row in rows if row.modality in ("xray", "us")
    )
    for name, values in content["modalities"].items():
        mine = [row for row in rows if row.modality == name and row.split != "test"]
        assert values["images"] == len(mine) == values["measured"]
        # Every image was measured once, at full resolution or a reduced one.
        whole = sum(row.nbytes + row.spectrum_nbytes for row in mine) / len(mine)
        least = sum(row.prefix_nbytes_8 + row.spectrum_nbytes for row in mine) / len(mine)
        assert least <= values["read_bytes"] <= whole
        assert 0 < values["decode_seconds"] < values["loader_seconds"]
    assert content["modalities"]["us"]["read_bytes"] == pytest.approx(
        sum(row.nbytes + row.spectrum_nbytes for row in rows if row.modality == "us" and row.split != "test") / 20
    )  # ultrasound is read whole
    costs = [
        ImageCost(**{key: value for key, value in values.items() if key != "measured"})
        for values in content["modalities"].values()
    ]
    expected = budget_of(costs, Cluster(4, 2, 64), StepRates(50.0), 1000, 16)
    assert content["hours"] == expected.hours
    assert content["passes"] == dict.fromkeys(content["modalities"], 1000 * 4 / 20)
    assert "views and encoder: 50.0 images/s per GPU  (given)" in output


def test_a_measured_speed_names_its_device(small_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = plan([small_store], gpus=1, seconds=2, **SMALL)
    rates = content["rates"]
    assert rates["step"] == pytest.approx(1 / (1 / rates["views"] + 1 / rates["encoder"]))
    assert content["bottleneck"] in ("data", "views", "encoder")
    assert f"measured here on {rates['device']}" in capsys.readouterr().out


def test_what_pretrain_would_refuse_is_said(small_store: Path) -> None:
    options = {"images_per_second_per_gpu": 50.0, "seconds": 1}
    content = plan([small_store], gpus=3, **options, **SMALL)
    assert any("3 ranks cannot share 4 images" in note for note in content["notes"])
    for wrong in ({"gpus": 0}, {"gpus": 1, "seconds": 0.0}, {"gpus": 1, "images_per_second_per_gpu": -1.0}):
        with pytest.raises(UsageError, match="give"):
            plan([small_store], **wrong, **SMALL)


def test_a_damaged_image_ends_it(small_store: Path, tmp_path: Path) -> None:
    store = Store.open(shutil.copytree(small_store, tmp_path / "store"))
    row = Archive.open([store.path]).rows[0]
    with (store.path / "shards" / row.modality / row.shard).open("r+b") as shard:
        shard.seek(row.offset_in_shard + 200)
        byte = shard.read(1)
        shard.seek(-1, 1)
        shard.write(bytes([byte[0] ^ 1]))
    with pytest.raises(RunError, match=f"image {row.image} .* is damaged"):
        plan([store.path], gpus=1, images_per_second_per_gpu=1.0, splits=("train", "validation", "test"), **SMALL)
