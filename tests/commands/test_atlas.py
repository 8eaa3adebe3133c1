"""The atlas of a run: groups, lists and map against loops; killed, with damaged images, without prototypes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from samples import make_store

from scoutview import pretrain
from scoutview.commands import atlas_embeddings
from scoutview.commands.atlas import atlas
from scoutview.commands.atlas_groups import galleries_of
from scoutview.commands.atlas_lists import left_out, outliers_of
from scoutview.commands.atlas_map import plane
from scoutview.encoders import load_encoder
from scoutview.errors import UsageError
from scoutview.metrics import unit_vectors
from scoutview.pretraining import trained_prototypes
from scoutview.store import Store
from scoutview.training import latest_checkpoint, load_checkpoint

SMALL: dict[str, Any] = {
    "encoder": "resnet18w0.25",
    "steps": 3,
    "batch_size": 8,
    "workers": 0,
    "crops": (2,),
    "sizes": (32,),
    "visible": ((0.5, 1.0),),
    "prototypes": 4,
    "queue": 0,
    "freeze_prototypes": 0,
    "projection": 16,
    "projector_hidden": 32,
    "warmup": 1,
    "input_size": 32,
    "precision": "fp32",
    "probe_every": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 images, a run on it, its atlas."""
    folder = tmp_path_factory.mktemp("atlas")
    make_store(folder / "store", images=10, size=64)
    pretrain([folder / "store"], out=folder / "run", **SMALL)
    atlas(str(folder / "run"), folder / "store", out=folder / "atlas")
    return folder


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "atlas" / "atlas.json").read_text())


def features(folder: Path) -> np.ndarray:
    (cache,) = (folder / "atlas" / "features").iterdir()
    return np.concatenate([np.load(path)["vectors"] for path in sorted(cache.iterdir())]).astype(np.float64)


def test_images_belong_to_the_prototype_of_an_argmax_loop(folder: Path, content: dict[str, Any]) -> None:
    weights = load_checkpoint(latest_checkpoint(folder / "run" / "checkpoints"))["network"]
    layer = {name: value.double().numpy() for name, value in weights.items() if name.startswith("projector.")}
    layer = {name.removeprefix("projector.layers."): value for name, value in layer.items()}
    vectors = features(folder)
    assert [gallery["name"] for gallery in content["galleries"]] == ["xray", "ct", "mr", "us"]
    for number, gallery in enumerate(content["galleries"]):
        assert gallery["kind"] == "prototypes"
        prototypes = weights[f"prototypes.matrices.{number}"].double().numpy()
        for image, assigned, cosine in zip(gallery["members"], gallery["assigned"], gallery["cosines"], strict=True):
            assert content["columns"]["modality"][image] == gallery["name"]
            hidden = layer["0.weight"] @ vectors[image] + layer["0.bias"]
            hidden = (hidden - layer["1.running_mean"]) / np.sqrt(layer["1.running_var"] + 1e-5)
            hidden = np.maximum(hidden * layer["1.weight"] + layer["1.bias"], 0)
            point = layer["3.weight"] @ hidden + layer["3.bias"]
            point /= math.sqrt(float(point @ point))
            scores = [float(point @ row) for row in prototypes]
            assert scores[assigned] == pytest.approx(max(scores), abs=1e-5)
            assert cosine == pytest.approx(max(scores), abs=1e-4)


def test_groups_come_by_size_and_pictures_by_nearness(content: dict[str, Any]) -> None:
    for gallery in content["galleries"]:
        groups = gallery["groups"]
        assert sum(group["images"] for group in groups) == gallery["images"] == 10
        assert [group["images"] for group in groups] == sorted((group["images"] for group in groups), reverse=True)
        close = dict(zip(gallery["members"], gallery["cosines"], strict=True))
        for group in groups:
            inside = [
                image
                for image, assigned in zip(gallery["members"], gallery["assigned"], strict=True)
                if assigned == group["number"]
            ]
            assert len(inside) == group["images"]
            assert sorted(group["nearest"]) == inside
            assert group["cosines"] == [close[image] for image in group["nearest"]]
            assert group["cosines"] == sorted(group["cosines"], reverse=True)


def test_figures_are_those_of_the_features(folder: Path, content: dict[str, Any]) -> None:
    unit = unit_vectors(features(folder))
    cosines = unit @ unit.T
    for image, (near, close) in enumerate(
        zip(content["images"]["neighbours"], content["images"]["cosines"], strict=True)
    ):
        others = sorted((value for other, value in enumerate(cosines[image]) if other != image), reverse=True)
        np.testing.assert_allclose(close, others[:12], atol=1e-4)
        np.testing.assert_allclose([cosines[image, other] for other in near], others[:12], atol=1e-9)
        assert content["images"]["density"][image] == pytest.approx(np.mean(others[:12]), abs=1e-4)
    rows = {row.image: row for row in Store.open(folder / "store").rows()}
    images = content["images"]["image"]
    assert content["images"]["pixel_sha256"] == [rows[image].pixel_sha256 for image in images]
    assert content["columns"]["split"] == [rows[image].split for image in images]
    rough = content["columns"]["label: ct_rough"]
    assert rough == [str(int(image[3:]) % 2) if image.startswith("ct-") else None for image in images]
    assert "manufacturer" not in content["columns"]


def test_outliers_are_the_last_of_each_modality() -> None:
    generator = np.random.default_rng(0)
    modalities = ["ct"] * 250 + ["mr"] * 30
    density, closeness = generator.random((2, 280))
    found = outliers_of(modalities, density, closeness)
    expected: dict[int, set[str]] = {}
    for begin, end, most in ((0, 250, 3), (250, 280, 1)):
        for measure, values in (("density", density), ("prototype", closeness)):
            for image in sorted(range(begin, end), key=lambda image: values[image])[:most]:
                expected.setdefault(image, set()).add(measure)
    assert {entry["image"]: set(entry["measures"]) for entry in found} == expected
    assert [len(entry["measures"]) for entry in found] == sorted(len(value) for value in expected.values())[::-1]


def test_every_image_that_is_left_out_looks_like_one_that_stays() -> None:
    generator = np.random.default_rng(1)

    class Row:
        def __init__(self) -> None:
            self.rows, self.columns = (int(value) for value in generator.integers(1, 4, 2))

    for _ in range(50):
        rows: list[Any] = [Row() for _ in range(9)]
        edges = {tuple(sorted(generator.choice(9, 2, replace=False).tolist())) for _ in range(8)}
        leaves = left_out([{"first": first, "second": second} for first, second in edges], rows)
        stays = set(range(9)) - set(leaves)
        assert not [edge for edge in edges if set(edge) <= stays]
        assert all(tuple(sorted(pair)) in edges for pair in leaves.items())
        assert set(leaves.values()) <= stays


@pytest.mark.parametrize("fault", ["kill", "flip", "cut"])
def test_a_broken_off_atlas_continues(
    folder: Path, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(atlas_embeddings, "BLOCK", 16)
    real, counts = atlas_embeddings.embed_images, []

    def counted(encoder: Any, pixels: Any, device: str) -> Any:
        if fault == "kill" and len(counts) == 1:
            counts.append(0)
            raise KeyboardInterrupt
        vectors = real(encoder, pixels, device=device)
        counts.append(len(vectors))
        return vectors

    monkeypatch.setattr(atlas_embeddings, "embed_images", counted)
    arguments = (str(folder / "run"), folder / "store")
    if fault == "kill":
        with pytest.raises(KeyboardInterrupt):
            atlas(*arguments, out=tmp_path)
        assert not (tmp_path / "atlas.html").exists()
    else:
        atlas(*arguments, out=tmp_path)
        path = sorted((tmp_path / "features").glob("*/*.npz"))[1]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data if fault == "flip" else data[: len(data) // 2])
    before = sum(counts)
    atlas(*arguments, out=tmp_path)
    assert sum(counts) - before == (24 if fault == "kill" else 16)
    again = json.loads((tmp_path / "atlas.json").read_text())
    assert again["images"]["neighbours"] == content["images"]["neighbours"]
    assert again["galleries"] == content["galleries"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_damaged_images_are_left_out_and_hidden_ones_black(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    row = next(row for row in store.rows() if row.image == "mr-0003")
    shard = Path(store.shards) / row.modality / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + row.nbytes // 2] ^= 1
    shard.write_bytes(data)
    atlas("none", tmp_path / "store", out=tmp_path / "atlas")
    content = json.loads((tmp_path / "atlas" / "atlas.json").read_text())
    assert content["damaged"] == ["mr-0003"]
    assert len(content["images"]["image"]) == 39
    assert "mr-0003" not in content["images"]["image"]
    assert {gallery["kind"] for gallery in content["galleries"]} == {"k-means"}
    assert "1 image could not be read" in (tmp_path / "atlas" / "atlas.html").read_text()
    assert atlas_embeddings.is_hidden("no_air text_unknown")
    assert not atlas_embeddings.is_hidden("no_air")


def test_of_a_larger_store_an_even_part_is_taken(folder: Path, tmp_path: Path) -> None:
    atlas(str(folder / "run" / "encoder.safetensors"), folder / "store", out=tmp_path, most=8)
    content = json.loads((tmp_path / "atlas.json").read_text())
    assert content["columns"]["modality"] == ["xray", "xray", "ct", "ct", "mr", "mr", "us", "us"]
    assert content["images_in_store"] == 40
    with pytest.raises(UsageError, match="most 0"):
        atlas("none", folder / "store", out=tmp_path, most=0)


def test_why_there_are_no_prototypes_is_said(folder: Path, tmp_path: Path) -> None:
    run = folder / "run"
    encoder = load_encoder(run)
    assert "is no run folder" in str(trained_prototypes(run / "encoder.safetensors", encoder))
    shutil.copytree(run, tmp_path / "run")
    state = load_checkpoint(latest_checkpoint(run / "checkpoints"))
    other = load_encoder(run)
    with torch.no_grad():
        next(iter(other.network.parameters())).add_(1)
    assert "not that of the newest checkpoint" in str(trained_prototypes(run, other))
    path = latest_checkpoint(tmp_path / "run" / "checkpoints")
    state["network"] = {f"unlabelled.{name}": value for name, value in state["network"].items()}
    torch.save(state, path)
    found = trained_prototypes(tmp_path / "run", encoder)
    assert not isinstance(found, str)
    assert (found.step, found.of("ct"), found.of("pet")) == (3, "ct", None)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert "no checkpoint any more" in str(trained_prototypes(tmp_path / "run", encoder))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({**config, "method": "dino"}))
    assert "dino, learns no prototypes" in str(trained_prototypes(tmp_path / "run", encoder))


def test_shared_prototypes_are_one_gallery_and_a_new_modality_has_clusters(folder: Path) -> None:
    found = trained_prototypes(folder / "run", load_encoder(folder / "run"))
    assert not isinstance(found, str)
    shared = {"xray+ct": found.matrices["xray"]}
    modalities = ["xray"] * 10 + ["ct"] * 10 + ["mr"] * 20
    galleries = galleries_of(
        modalities, features(folder).astype(np.float32), type(found)(found.step, found.projector, shared)
    )
    assert [(g["name"], g["kind"], g["images"]) for g in galleries] == [
        ("xray+ct", "prototypes", 20),
        ("mr", "k-means", 20),
    ]
    assert galleries[1]["why"] == "The run has not learnt from this modality."
    assert galleries[1]["count"] == 3


def test_the_map_keeps_groups_together_and_comes_out_the_same() -> None:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, 10)) * 5
    group = np.arange(60) % 3
    unit = unit_vectors(centres[group] + 0.1 * generator.standard_normal((60, 10)))
    places, method = plane(unit)
    assert method["method"] == "t-SNE"
    np.testing.assert_array_equal(plane(unit)[0], places)
    apart = ((places[:, None] - places[None]) ** 2).sum(-1) + np.eye(60) * 1e9
    assert (group[apart.argmin(1)] == group).all()
    assert places.min() == pytest.approx(0)
    assert places.max() == pytest.approx(1)


def test_beyond_some_thousands_the_map_is_the_main_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoutview.commands.atlas_map.MOST", 20)
    unit = unit_vectors(np.random.default_rng(0).standard_normal((30, 4)) * [9, 4, 1, 1])
    places, method = plane(unit)
    assert method["method"] == "PCA"
    centred = unit - unit.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], u[:, axis])[0, 1]) == pytest.approx(1)
    assert np.ptp(places[:, 1]) / np.ptp(places[:, 0]) == pytest.approx(np.ptp(u[:, 1] * s[1]) / np.ptp(u[:, 0] * s[0]))
    assert f"{(s[:2] ** 2).sum() / (s**2).sum():.0%}" in method["words"]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_or_equal_images_have_a_map(count: int) -> None:
    assert plane(np.ones((count, 3)) / 3**0.5)[0].tolist() == [[0.5, 0.5]] * count
    places, _ = plane(unit_vectors(np.random.default_rng(count).standard_normal((count, 3))))
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
