"""Vision transformers: against torch's own transformer layers with the same weights, and position embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scoutview.encoders import VisionTransformer, make_encoder, stage_of, stages_of
from scoutview.errors import UsageError


def by_torch(network: VisionTransformer, images: Tensor) -> Tensor:
    """The same computation by nn.TransformerEncoderLayer; images of 224 px."""
    width = network.features
    patches = images.unfold(2, 16, 16).unfold(3, 16, 16).reshape(len(images), 196, 256)
    kernel = network.patches.weight.view(width, 256)
    tokens = ((patches - 0.5) / 0.25) @ kernel.T + network.patches.bias
    tokens = torch.cat([network.token.expand(len(images), 1, width), tokens], 1) + network.positions
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            width, block.heads, 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True, dtype=images.dtype
        )
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": block.queries_keys_values.weight,
                "self_attn.in_proj_bias": block.queries_keys_values.bias,
                "self_attn.out_proj.weight": block.output.weight,
                "self_attn.out_proj.bias": block.output.bias,
                "linear1.weight": block.perceptron[0].weight,
                "linear1.bias": block.perceptron[0].bias,
                "linear2.weight": block.perceptron[2].weight,
                "linear2.bias": block.perceptron[2].bias,
                **{
                    f"{name}.{part}": value
                    for name in ("norm1", "norm2")
                    for part, value in block.get_submodule(name).named_parameters()
                },
            }
        )
        tokens = layer.train()(tokens)
    return network.norm(tokens)[:, 0]


def test_it_is_a_transformer_of_torch_layers() -> None:
    torch.manual_seed(0)
    network = make_encoder("vit_tiny").double()
    assert isinstance(network, VisionTransformer)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    images = torch.rand(2, 1, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(network(images), by_torch(network, images), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("name", "features", "millions"), [("vit_tiny", 192, 5.43), ("vit_small", 384, 21.47)])
def test_sizes_are_those_of_deit(name: str, features: int, millions: float) -> None:
    # Published: 5.7 M and 22.1 M with three input channels and a classifier of 1000 classes.
    network = make_encoder(name)
    assert network.features == features
    own = sum(parameter.numel() for parameter in network.parameters())
    published = own + 2 * 256 * features + 1000 * (features + 1)
    assert round(own / 1e6, 2) == pytest.approx(millions, abs=0.01)
    assert round(published / 1e6, 1) in (5.7, 22.1)


def test_positions_of_another_size_are_those_of_the_same_places() -> None:
    network = make_encoder("vit_tiny")
    assert isinstance(network, VisionTransformer)
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    with torch.no_grad():
        network.positions[0, 1:, 0], network.positions[0, 1:, 1] = rows.flatten(), columns.flatten()
    resized = network._positions_of((7, 28))[0, 1:, :2].detach().view(7, 28, 2).numpy()
    # A linear ramp stays one: place k of n lies at (k + 0.5) 14 / n - 0.5, away from the border.
    wanted_rows, wanted_columns = (np.arange(7) + 0.5) * 2 - 0.5, (np.arange(28) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(resized[2:-2, :, 0], wanted_rows[2:-2, None].repeat(28, 1), atol=1e-4)
    np.testing.assert_allclose(resized[:, 6:-6, 1], wanted_columns[None, 6:-6].repeat(7, 0), atol=1e-4)
    assert network(torch.rand(3, 1, 64, 96)).shape == (3, 192)


def test_stages_count_through_its_blocks() -> None:
    network = make_encoder("vit_tiny")
    assert stages_of(network) == 14
    assert [stage_of(network, name) for name in ("token", "patches.weight", "blocks.0.norm1.bias")] == [0, 0, 1]
    assert [stage_of(network, name) for name in ("blocks.11.output.weight", "norm.weight")] == [12, 13]


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown encoder 'vit_huge': use vit_tiny, vit_small, vit_base"):
        make_encoder("vit_huge")
