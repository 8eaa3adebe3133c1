"""Networks: sizes as published, features as defined; the encoder file carries all and refuses what does not fit."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from samples import textured

from scoutview.encoders import Projector, embed_images, load_encoder, make_encoder, save_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing
from scoutview.views import network_input


def parameters(name: str) -> int:
    return sum(value.numel() for value in make_encoder(name).parameters())


@pytest.mark.parametrize(
    ("name", "published", "features"),
    [
        # The published counts without the classifier, minus two of three input channels of conv1.
        ("resnet18", 11_689_512 - 513_000 - 2 * 64 * 49, 512),
        ("resnet50", 25_557_032 - 2_049_000 - 2 * 64 * 49, 2048),
        ("resnet152", 60_192_808 - 2_049_000 - 2 * 64 * 49, 2048),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, published: int, features: int) -> None:
    assert parameters(name) == published
    assert make_encoder(name).features == features


def test_resnet50w2_is_that_of_swav() -> None:
    assert round(parameters("resnet50w2") / 1e6, 1) == 93.9
    assert make_encoder("resnet50w2").features == 4096


def test_names_follow_the_torchvision_layout() -> None:
    names = set(make_encoder("resnet50").state_dict())
    expected = {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.conv3.weight"}
    assert expected <= names


def test_stages_have_strides_4_to_32_and_features_are_their_mean() -> None:
    network = make_encoder("resnet18w0.5").eval()
    image = torch.rand(2, 1, 96, 64)
    maps = network.stages(image)
    assert [tuple(stage.shape) for stage in maps] == [
        (2, 32, 24, 16),
        (2, 64, 12, 8),
        (2, 128, 6, 4),
        (2, 256, 3, 2),
    ]
    torch.testing.assert_close(network(image), maps[-1].mean((2, 3)))


def test_a_3d_network_with_filters_of_depth_one_is_the_2d_network_in_each_slice() -> None:
    flat, deep = make_encoder("resnet18w0.25").eval(), make_encoder("resnet18w0.25_3d").eval()
    assert (flat.spatial_dims, deep.spatial_dims) == (2, 3)
    weights = {}
    for name, value in deep.state_dict().items():
        weights[name] = flat.state_dict()[name]
        if value.dim() == 5:
            weights[name] = torch.zeros_like(value)
            weights[name][:, :, value.shape[2] // 2] = flat.state_dict()[name]
    deep.load_state_dict(weights)
    # Of a volume of equal slices, each position in depth sees the same slice, but where padding is the maximum.
    volume = torch.rand(1, 1, 1, 64, 96).expand(-1, -1, 64, -1, -1)
    torch.testing.assert_close(deep(volume), flat(volume[:, :, 0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["resnet19", "vit", "resnet50w", "RESNET18", "resnet18w0.5x", "resnet18_2d", "densenet", "resnet18_3d_3d"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown encoder '{name}'"):
        make_encoder(name)


def test_projections_have_unit_norm_in_fp32() -> None:
    projector = Projector(32, 64, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = projector(torch.randn(10, 32))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(10), atol=1e-6, rtol=0)


def test_untrained_networks_are_the_same_every_time_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (untrained_encoder("resnet18w0.25", 64, Preprocessing()) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, two.network.state_dict()[name])


def test_an_encoder_file_round_trips_with_all_that_it_carries(tmp_path: Path) -> None:
    preprocessing = Preprocessing(hounsfield=(-900.0, 900.0), level=(0.0, 1.0))
    encoder = untrained_encoder("resnet18w0.25", 96, preprocessing, seed=3)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    for source in (tmp_path, tmp_path / "encoder.safetensors"):
        loaded = load_encoder(source)
        assert loaded.preprocessing == preprocessing
        assert loaded.input_size == loaded.image_side == 96
        for name, value in encoder.network.state_dict().items():
            assert torch.equal(value, loaded.network.state_dict()[name])


@pytest.mark.parametrize(("name", "features"), [("densenet_3d", 1024), ("resnet18w0.25_3d", 128)])
def test_encoders_of_volumes_round_trip_and_are_none_of_images(tmp_path: Path, name: str, features: int) -> None:
    encoder = untrained_encoder(name, (40, 224, 192), Preprocessing())
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path)
    assert loaded.input_size == (40, 224, 192)
    assert loaded.network.features == features
    volume = torch.rand(2, 1, 8, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network.eval()(volume), encoder.network.eval()(volume))
    with pytest.raises(UsageError, match="network for volumes"):
        embed_images(loaded, [np.zeros((32, 32), dtype=np.float32)])


@pytest.mark.parametrize(("name", "size"), [("densenet_3d", 96), ("resnet18w0.25", (40, 224, 192))])
def test_input_sizes_are_those_of_the_network(name: str, size: object) -> None:
    with pytest.raises(ValueError, match="has no input size"):
        untrained_encoder(name, size, Preprocessing())


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "encoder.safetensors"
    save_encoder(untrained_encoder("resnet18w0.25", 96, Preprocessing()), good)
    weights = load_file(good)

    def metadata(**changes: str) -> dict[str, str]:
        base = {"format": "scoutview-encoder-1", "architecture": "resnet18w0.25", "input_size": "96"}
        return {**base, "preprocessing": '{"hounsfield": [0, 1], "level": [0, 1]}', "provenance": "{}", **changes}

    cases = {
        "of another architecture": (weights, metadata(architecture="resnet50")),
        "do not fit it": ({k: v for k, v in weights.items() if k != "bn1.weight"}, metadata()),
        "is no scoutview-encoder-1 file": (weights, metadata(format="other")),
        "unknown encoder": (weights, metadata(architecture="vit")),
        "of input size": (weights, metadata(input_size="[40, 224, 192]")),
    }
    for message, (tensors, values) in cases.items():
        save_file(tensors, tmp_path / "bad.safetensors", metadata=values)
        with pytest.raises(UsageError, match=message):
            load_encoder(tmp_path / "bad.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(good.read_bytes()[:1000])
    with pytest.raises(UsageError, match="cannot be read"):
        load_encoder(tmp_path / "torn.safetensors")
    with pytest.raises(UsageError, match="has no encoder"):
        load_encoder(tmp_path / "nothing")


def test_embedding_equals_the_network_one_image_at_a_time() -> None:
    encoder = untrained_encoder("resnet18w0.25", 64, Preprocessing())
    generator = np.random.default_rng(0)
    images = [textured(generator, 40 + 5 * n, 90) for n in range(7)]
    together = embed_images(encoder, iter(images), batch=3)
    for image, row in zip(images, together, strict=True):
        inputs = torch.from_numpy(network_input(image, 64))[None, None]
        with torch.inference_mode():
            np.testing.assert_allclose(encoder.network(inputs)[0].numpy(), row, atol=1e-5)
    assert embed_images(encoder, iter([])).shape == (0, 128)


@pytest.mark.parametrize("depth", [1, 4, 6, 7, 10])
def test_the_stem_of_volumes_has_the_gradient_of_float64_at_any_depth(depth: int) -> None:
    torch.manual_seed(0)
    network = make_encoder("resnet18w0.25_3d").train()
    exact = deepcopy(network).double()
    volumes = torch.rand(2, 1, depth, 32, 32)
    network.stages(volumes)[0].square().mean().backward()
    exact.stages(volumes.double())[0].square().mean().backward()
    torch.testing.assert_close(network.conv1.weight.grad.double(), exact.conv1.weight.grad, atol=1e-5, rtol=1e-2)
