"""Heads: logits of slices against a loop over planes in float64, of volumes against the encoder's own features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scoutview.encoders import VisionTransformer, make_encoder
from scoutview.tasks.heads import SliceHead, new_head, read_out, slices_of


def described(maps: npt.NDArray[np.float64], slices: int) -> npt.NDArray[np.float64]:
    """[channel, slice', row, column] -> [2 channel, slice]; positions are the middles of slices."""
    depth = maps.shape[1]
    middles = (np.arange(slices) + 0.5) * depth / slices - 0.5
    rows = [
        np.interp(middles, np.arange(depth), [measure(plane) for plane in channel])
        for measure in (np.max, np.mean)
        for channel in maps
    ]
    return np.array(rows)


@pytest.mark.parametrize("name", ["densenet_3d", "resnet18w0.25_3d"])
@pytest.mark.parametrize("outputs", [16, 10])
def test_slices_are_read_from_their_planes(name: str, outputs: int) -> None:
    torch.manual_seed(3)
    network = make_encoder(name).double().eval()
    assert not isinstance(network, VisionTransformer)
    head = new_head(network, outputs, 10).double()
    assert isinstance(head, SliceHead)
    assert slices_of(head) == 10
    volumes = torch.rand(2, 1, 10, 48, 40, dtype=torch.float64)
    with torch.inference_mode():
        found = read_out(network, head, volumes).numpy()
        stages = [maps.numpy() for maps in network.stages(volumes)]
        features = network(volumes).numpy()
    assert [maps.shape[1] for maps in stages] == list(network.channels)
    weights = {key: value.detach().numpy() for key, value in head.state_dict().items()}
    for number, logits in enumerate(found):
        columns = np.concatenate([described(maps[number], 10) for maps in stages])
        expected = [weights["slice.weight"][0] @ columns[:, place] + weights["slice.bias"][0] for place in range(10)]
        np.testing.assert_allclose(logits[outputs - 10 :], expected, rtol=1e-9, atol=1e-12)
        if outputs > 10:
            volume = weights["volume.weight"] @ features[number] + weights["volume.bias"]
            np.testing.assert_allclose(logits[: outputs - 10], volume, rtol=1e-9, atol=1e-12)
        else:
            assert head.volume is None


def test_without_slices_a_head_is_linear() -> None:
    network = make_encoder("resnet18w0.25").eval()
    head = new_head(network, 3)
    assert isinstance(head, torch.nn.Linear)
    assert slices_of(head) == 0
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(read_out(network, head, images), head(network(images)))
