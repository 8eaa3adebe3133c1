"""The dense net: the layers that the paper's text names, and a second implementation in plain functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders import make_encoder

UNITS = (1, 2, 3, 3, 3)
"""Section IV-E: 5 dense blocks with (1,2,3,3,3) units, 16 initial features, a growth rate of 7."""


def test_the_layers_are_those_of_the_paper() -> None:
    # The paper has no table of layers; these rows are its sentences, worked out for a volume of 40 x 224 x 192.
    expected = [("convolution", (1, 3, 3), 1, 16, (40, 224, 192))]
    size, channels = (40, 224, 192), 16
    for number, units in enumerate(UNITS, start=1):
        in_plane = number <= 2  # "the first two blocks only process data in-plane with (1,3,3) kernels"
        for _ in range(units):
            expected.append(("convolution", (1, 3, 3) if in_plane else (3, 3, 3), channels, 7, size))
            channels += 7
        # "and downsample only in (x,y) plane"
        size = (size[0] if in_plane else size[0] // 2, size[1] // 2, size[2] // 2)
        expected.append(("block", None, None, channels, size))
    expected.append(("convolution", (1, 1, 1), channels, 512, (5, 7, 6)))

    rows = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv3d):
            kind = ("convolution", module.kernel_size, module.in_channels, module.out_channels)
        else:
            kind = ("block", None, None, output.shape[1])
        rows.append((*kind, tuple(output.shape[2:])))

    network = make_encoder("densenet_3d").eval()
    for module in network.modules():
        if isinstance(module, nn.Conv3d) or module in list(network.blocks):
            module.register_forward_hook(note)
    with torch.inference_mode():
        features = network(torch.rand(1, 1, 40, 224, 192))
    assert rows == expected
    assert features.shape == (1, network.features) == (1, 1024)
    assert channels == 16 + 7 * 12
    kinds = {type(module) for module in network.modules() if not list(module.children())}
    assert kinds == {nn.Conv3d, nn.BatchNorm3d, nn.LeakyReLU}


def plain(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network written again with functions of torch, in evaluation mode, from a state_dict."""

    def unit(name: str, x: Tensor) -> Tensor:
        kernel = weights[f"{name}.0.weight"]
        x = F.conv3d(x, kernel, padding=[side // 2 for side in kernel.shape[2:]])
        parts = [weights[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, gain, bias = (part[None, :, None, None, None] for part in parts)
        x = (x - mean) / (variance + 1e-5).sqrt() * gain + bias
        return torch.where(x > 0, x, 0.01 * x)

    x = unit("stem", (x - 0.5) / 0.25)
    for number, units in enumerate(UNITS):
        seen = [x]
        for place in range(units):
            seen.append(unit(f"blocks.{number}.units.{place}", torch.cat(seen, 1)))
        x = torch.cat(seen, 1)
        depth, rows, columns = x.shape[2:]
        if number >= 2:
            x = x.unflatten(2, (depth // 2, 2)).amax(3)
        x = x.unflatten(3, (rows // 2, 2)).amax(4).unflatten(4, (columns // 2, 2)).amax(5)
    x = unit("last", x)
    return torch.cat([x.amax((2, 3, 4)), x.mean((2, 3, 4))], 1)


def test_features_equal_a_second_implementation() -> None:
    torch.manual_seed(0)
    network = make_encoder("densenet_3d")
    volume = torch.rand(2, 1, 16, 64, 96)
    network.train()(volume)  # running statistics of its own
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(volume), plain(network.state_dict(), volume), atol=1e-5, rtol=1e-4)


def test_sizes_that_do_not_divide_are_pooled_over_what_is_there() -> None:
    network = make_encoder("densenet_3d").eval()
    with torch.inference_mode():
        assert [tuple(stage.shape[2:]) for stage in network.stages(torch.rand(1, 1, 5, 35, 3))] == [
            (5, 18, 2),
            (5, 9, 1),
            (3, 5, 1),
            (2, 3, 1),
            (1, 2, 1),
        ]
    block = network.blocks[0]
    x = torch.rand(1, 16, 1, 3, 3)
    with torch.inference_mode():
        pooled = block(x)[0, :16]
    torch.testing.assert_close(pooled[:, 0, 1, 1], x[0, :, 0, 2, 2])
    torch.testing.assert_close(pooled[:, 0, 0, 1], x[0, :, 0, :2, 2].amax(1))
