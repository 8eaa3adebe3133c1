"""Published weights: features against networks written again in plain functions, and files that must be refused."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from scoutview.commands.sources import find_encoder
from scoutview.encoders import (
    embed_images,
    load_encoder,
    load_foreign,
    make_encoder,
    open_encoder,
    save_encoder,
    untrained_encoder,
)
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
TORCHVISION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
SWAV = torch.tensor([0.228, 0.224, 0.225])[:, None, None]
COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def published(depth: int, channels: int = 3, dims: int = 2, base: int = 64) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of torchvision's files."""
    torch.manual_seed(depth)
    weights: dict[str, Tensor] = {}

    def convolution(name: str, before: int, after: int, side: int) -> None:
        shape = (after, before) + (side,) * dims
        weights[f"{name}.weight"] = torch.randn(shape) * (2 / (before * side**dims)) ** 0.5

    def normalisation(name: str, channels: int) -> None:
        weights[f"{name}.weight"] = torch.rand(channels) + 0.5
        weights[f"{name}.bias"] = torch.randn(channels) / 4
        weights[f"{name}.running_mean"] = torch.randn(channels) / 4
        weights[f"{name}.running_var"] = torch.rand(channels) + 0.5
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", channels, base, 7)
    normalisation("bn1", base)
    before = base
    for stage, count in enumerate(COUNTS[depth]):
        size = base * 2**stage
        after = size * (4 if depth == 50 else 1)
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            sides = [(before, size, 1), (size, size, 3), (size, after, 1)] if depth == 50 else []
            for number, (one, two, side) in enumerate(sides or [(before, size, 3), (size, size, 3)], start=1):
                convolution(f"{name}.conv{number}", one, two, side)
                normalisation(f"{name}.bn{number}", two)
            if block == 0 and before != after:
                convolution(f"{name}.downsample.0", before, after, 1)
                normalisation(f"{name}.downsample.1", after)
            before = after
    weights["fc.weight"], weights["fc.bias"] = torch.randn(10, before), torch.randn(10)
    return weights


def first_layer(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """conv1, without padding, and bn1."""
    convolve = F.conv2d if x.dim() == 4 else F.conv3d
    return normalised(weights, "bn1", convolve(x, weights["conv1.weight"], stride=2))


def normalised(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    parts = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts)


def features(weights: dict[str, Tensor], padded: Tensor) -> Tensor:
    """The published network behind its normalisation; `padded` has 3 px more on every side."""
    convolve, pool = (F.conv2d, F.max_pool2d) if padded.dim() == 4 else (F.conv3d, F.max_pool3d)
    x = pool(F.relu(first_layer(weights, padded)), 3, 2, 1)
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in weights:
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            deep = f"{name}.conv3.weight" in weights
            y = x
            for number in range(1, 4 if deep else 3):
                kernel = weights[f"{name}.conv{number}.weight"]
                mine = stride if number == (2 if deep else 1) else 1
                y = convolve(y, kernel, stride=mine, padding=kernel.shape[-1] // 2)
                y = normalised(weights, f"{name}.bn{number}", y)
                y = F.relu(y) if number < (3 if deep else 2) else y
            if f"{name}.downsample.0.weight" in weights:
                x = convolve(x, weights[f"{name}.downsample.0.weight"], stride=stride)
                x = normalised(weights, f"{name}.downsample.1", x)
            x = F.relu(x + y)
            block += 1
    return x.flatten(2).mean(-1)


def rgb(grey: Tensor, deviation: Tensor) -> Tensor:
    """What torchvision's transforms make of a grey image [image, 1, row, column] as RGB."""
    return (grey.expand(-1, 3, -1, -1) - MEAN) / deviation


def swav(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    extra = {"projection_head.0.weight": torch.ones(4, 1024), "prototypes.weight": torch.ones(30, 4)}
    return {f"module.{name}": value for name, value in {**weights, **extra}.items() if not name.startswith("fc.")}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("depth", "base", "wrap", "deviation", "name"),
    [
        (18, 64, dict, TORCHVISION, "resnet18"),
        (50, 64, dict, TORCHVISION, "resnet50"),
        (50, 32, swav, SWAV, "resnet50w0.5"),
    ],
)
def test_a_grey_image_gives_the_features_of_the_published_network(
    tmp_path: Path, suffix: str, depth: int, base: int, wrap: Callable, deviation: Tensor, name: str
) -> None:
    weights = published(depth, base=base)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(wrap(weights), path)
    encoder = open_encoder(path, name)
    assert (encoder.architecture, encoder.input_size) == (name, 224)
    network = encoder.network.eval()
    grey = torch.rand(2, 1, 96, 64)
    with torch.inference_mode():
        # Our zero padding is grey 0.5: around the published network's image it is the same network everywhere.
        expected = features(weights, rgb(F.pad(grey, (3, 3, 3, 3), value=0.5), deviation))
        ours = network(grey)
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().mean()))
        # With the published padding, all windows within the image agree.
        inner = network.bn1(network.conv1((grey - 0.5) / 0.25))[:, :, 2:-2, 2:-2]
        theirs = first_layer(weights, F.pad(rgb(grey, deviation), (3, 3, 3, 3)))[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(inner, theirs, atol=2e-4, rtol=1e-4)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    kept = open_encoder(tmp_path / "encoder.safetensors")
    assert kept.provenance == encoder.provenance
    assert kept.provenance["file"] == path.name


def test_batches_are_normalised_in_training_as_in_the_published_network(tmp_path: Path) -> None:
    weights = published(18)
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "weights.pth.tar")
    network = load_foreign(tmp_path / "weights.pth.tar").network.train()
    grey = torch.rand(4, 1, 32, 32)
    padded = rgb(F.pad(grey, (3, 3, 3, 3), value=0.5), TORCHVISION)
    theirs = F.batch_norm(
        F.conv2d(padded, weights["conv1.weight"], stride=2),
        None,
        None,
        weights["bn1.weight"],
        weights["bn1.bias"],
        True,
    )
    torch.testing.assert_close(network.bn1(network.conv1((grey - 0.5) / 0.25)), theirs, atol=1e-4, rtol=1e-4)


def test_medicalnet_filters_are_taken_as_they_are(tmp_path: Path) -> None:
    weights = published(50, channels=1, dims=3)
    # Old files have no num_batches_tracked; those of segmentation networks end in conv_seg.
    old = {name: value for name, value in weights.items() if not name.endswith("tracked") and name[:2] != "fc"}
    old["conv_seg.0.weight"] = torch.ones(3)
    torch.save({"state_dict": {f"module.{name}": value for name, value in old.items()}}, tmp_path / "resnet_50.pth")
    encoder = open_encoder(tmp_path / "resnet_50.pth", "resnet50_3d")
    assert encoder.input_size == (40, 224, 192)
    volume = torch.rand(1, 1, 24, 32, 40)
    with torch.inference_mode():
        expected = features(weights, F.pad((volume - 0.5) / 0.25, (3,) * 6))
        ours = encoder.network.eval()(volume)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().mean()))


def changed(weights: dict[str, Tensor], **values: Tensor | None) -> dict[str, Tensor]:
    """Weights with some replaced, or left out where the value is None; __ stands for a dot."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {name: value for name, value in {**weights, **named}.items() if value is not None}


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    good, flat = published(18, base=8), published(18, channels=1, dims=3, base=8)
    shortcut_a = {f"module.{name}": value for name, value in flat.items() if "downsample" not in name}
    wide = {
        name: value.repeat(2, *[1] * (value.dim() - 1)) if "conv2.weight" in name else value
        for name, value in good.items()
    }
    cases: dict[str, object] = {
        "shortcuts .* of type A": shortcut_a,
        "lacks layer3.1.bn2.bias: take": changed(good, layer3__1__bn2__bias=None),
        "lacks bn1.running_mean: take": changed(good, bn1__running_mean=None),
        "has neck.weight beside it": changed(good, neck__weight=torch.ones(1)),
        "layer1.0.conv2.weight is .*ResNeXt": wide,
        "4 input channel": changed(good, conv1__weight=torch.ones(8, 4, 7, 7)),
        "1 input channel": changed(good, conv1__weight=torch.ones(8, 1, 7, 7)),
        "3 input channel.*MedicalNet": changed(flat, conv1__weight=torch.ones(8, 3, 7, 7, 7)),
        "not finite": changed(good, bn1__bias=torch.full((8,), torch.nan)),
        r"\(2, 2, 2, 3\) plain blocks": changed(good, layer4__2__conv1__weight=torch.ones(1)),
        "no ResNet in the layout": {"blocks.0.attention.weight": torch.ones(2)},
        "holds no state_dict": {"weights": [1, 2]},
        "cannot be read|holds more than": None,
    }
    path = tmp_path / "weights.pth"
    for message, content in cases.items():
        torch.save(content, path)
        if content is None:
            path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UsageError, match=message) as caught:
            open_encoder(path)
        assert "\n" not in str(caught.value)
    torch.save(good, path)
    with pytest.raises(UsageError, match=r"holds a resnet18w0\.125, not a resnet50: add --encoder resnet18w0\.125"):
        open_encoder(path, "resnet50")
    with pytest.raises(UsageError, match="does not exist"):
        load_foreign(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="has no encoder"):
        open_encoder(tmp_path / "none.pth")


class Payload:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({**published(18, base=8), "x": Payload(trace)}, tmp_path / "new.pth")
    torch.save(Payload(trace), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(trace), protocol=2))
    torch.save(make_encoder("resnet18w0.125"), tmp_path / "module.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "no weights")
    for path in sorted(tmp_path.glob("*.pth")):
        with pytest.raises(UsageError, match=r"holds more than tensors|cannot be read") as caught:
            open_encoder(path)
        assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_damaged_and_own_files_go_to_the_encoder_file(tmp_path: Path) -> None:
    own = untrained_encoder("resnet18w0.125", 64, Preprocessing())
    save_encoder(own, tmp_path / "encoder.safetensors")
    assert open_encoder(tmp_path).input_size == load_encoder(tmp_path).input_size == 64
    data = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(data[:-5])
    with pytest.raises(UsageError, match="cannot be read"):
        open_encoder(tmp_path / "torn.safetensors")


def test_commands_take_published_weights(tmp_path: Path) -> None:
    torch.save(published(18, base=8), tmp_path / "weights.pth")
    encoder = find_encoder(str(tmp_path / "weights.pth"))
    image = np.random.default_rng(0).random((50, 60), dtype=np.float32)
    assert embed_images(encoder, [image]).shape == (1, 64)
