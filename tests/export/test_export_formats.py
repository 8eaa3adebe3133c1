"""Each format through the tool it is for, on batches of sizes it was not made with, against the run in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_runs import expected_logits, some_images
from safetensors.torch import load_file

from scoutview import export
from scoutview.encoders import load_encoder, make_encoder
from scoutview.errors import RunError, UsageError
from scoutview.export import FORMATS, export_model, extras, open_model
from scoutview.tasks import load_classifier


def features(path: Path, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return load_encoder(path).network.double().eval()(torch.from_numpy(images).double()).numpy()


def test_onnxruntime_gives_the_features_of_volumes_for_any_batch(runs: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    export(runs / "volumes.safetensors", format="onnx", out=tmp_path / "out")
    path = tmp_path / "out" / "model.onnx"
    graph = onnx.load(path)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [int(metadata["opset"])]
    assert json.loads(metadata["input"])["axes"] == ["batch", "channel", "slice", "row", "column"]
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 6, 40, 36]
    for count in (1, 3, 7):
        images = some_images(count, 6, 40, 36)
        found = session.run(["features"], {"images": images})[0]
        np.testing.assert_allclose(found, features(runs / "volumes.safetensors", images), atol=1e-4)


def test_onnxruntime_gives_the_logits_of_a_classifier(runs: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    export(runs / "classes", format="onnx", out=tmp_path / "out")
    session = runtime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["a", "b", "c"]
    images = some_images(4, 96, 96)
    found = session.run(["logits"], {"images": images})[0]
    np.testing.assert_allclose(found, expected_logits(runs / "classes", images), atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "torch-export", "safetensors"])
def test_logits_of_slices_are_those_of_the_run(name: str, runs: Path, tmp_path: Path) -> None:
    if name == "onnx":
        pytest.importorskip("onnxscript", reason="the extra export is not installed")
    export(runs / "bleedings", format=name, out=tmp_path / "out")
    model = load_classifier(runs / "bleedings")
    model.train(False)
    model.encoder.network.double()
    model.head.double()
    load = FORMATS[name].load(tmp_path / "out")
    for count in (1, 5):
        images = some_images(count, 6, 40, 36)
        with torch.no_grad():
            expected = model.logits(torch.from_numpy(images).double()).numpy()
        np.testing.assert_allclose(load(images)[0], expected, atol=1e-4)


def test_torch_loads_a_detector_without_its_code(runs: Path, tmp_path: Path) -> None:
    export(runs / "detector", format="torch-export", out=tmp_path / "out")
    files = {"scoutview.json": ""}
    program = torch.export.load(tmp_path / "out" / "model.pt2", extra_files=files)
    assert json.loads(json.loads(files["scoutview.json"])["classes"]) == ["bar", "square"]
    images = torch.from_numpy(some_images(3, 80, 80))
    scores, boxes = program.module()(images)
    with torch.no_grad():
        expected = open_model(runs / "detector").network(images)
    torch.testing.assert_close(scores, expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes, expected[1], atol=1e-3, rtol=1e-5)


def test_torch_exports_a_vision_transformer_for_any_batch(tmp_path: Path) -> None:
    network = make_encoder("vit_tiny").eval().requires_grad_(False)
    program = torch.export.export(
        network, (torch.zeros(2, 1, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    images = torch.from_numpy(some_images(3, 32, 32))
    torch.testing.assert_close(program.module()(images), network(images), atol=1e-4, rtol=0)


def test_a_folder_for_a_hub_names_the_network_and_its_labels(runs: Path, tmp_path: Path) -> None:
    export(runs / "classes", format="huggingface", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert config["image_size"] == [96, 96]
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    network = make_encoder(config["architecture"])
    network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("encoder.")})
    images = some_images(2, 96, 96)
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(images)) @ tensors["head.weight"].T + tensors["head.bias"]
    np.testing.assert_allclose(found.numpy(), expected_logits(runs / "classes", images), atol=1e-5)


def test_monai_runs_the_bundle_from_its_files(runs: Path, tmp_path: Path) -> None:
    bundle = pytest.importorskip("monai.bundle", reason="the extra monai is not installed")
    from monai.bundle.utils import ID_SEP_KEY

    export(runs / "classes", format="monai", out=tmp_path / "out")
    images = some_images(3, 96, 96)
    (tmp_path / "out" / "inputs").mkdir()
    for number, image in enumerate(images):
        np.save(tmp_path / "out" / "inputs" / f"{number}.npy", image)
    bundle.run(
        bundle_root=str(tmp_path / "out"),
        meta_file=str(tmp_path / "out" / "configs" / "metadata.json"),
        config_file=str(tmp_path / "out" / "configs" / "inference.json"),
    )
    found = np.concatenate([torch.load(tmp_path / "out" / "outputs" / f"{n}.pt").numpy() for n in range(3)])
    np.testing.assert_allclose(found, expected_logits(runs / "classes", images), atol=1e-4)
    parser = bundle.ConfigParser()
    parser.read_meta(str(tmp_path / "out" / "configs" / "metadata.json"))
    told = ID_SEP_KEY.join(["_meta_", "network_data_format", "inputs", "image"])
    assert parser[told]["spatial_shape"] == [96, 96]
    required = {"monai_version", "pytorch_version", "numpy_version", "version", "network_data_format", "changelog"}
    required |= {"required_packages_version", "task", "description", "authors", "copyright", "schema"}
    assert required <= set(parser["_meta_"])


def test_a_tool_that_fails_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    def load(folder: Path) -> Callable:
        def run(images: np.ndarray) -> list[np.ndarray]:
            raise ValueError("invalid dimensions")

        return run

    with pytest.raises(RunError, match=r"fails on a batch of 1 \(invalid dimensions\)"):
        export_model(open_model(runs / "classes"), replace(FORMATS["safetensors"], load=load), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(UsageError, match=r"onnx is not installed: pip install 'scoutview\[export\]'"):
        export(runs / "classes", format="onnx", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())
