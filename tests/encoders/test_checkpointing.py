"""Blocks that are computed again give the same gradients and leave the same running statistics."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from scoutview.encoders import checkpoint_blocks, make_encoder


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet18w0.25", (4, 1, 64, 64)), ("resnet50w0.25", (4, 1, 64, 64)), ("densenet_3d", (2, 1, 16, 64, 64))],
)
def test_gradients_and_running_statistics_are_the_same(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain = make_encoder(name)
    again = deepcopy(plain)
    checkpoint_blocks(again)
    assert list(again.state_dict()) == list(plain.state_dict())
    kept: list[int] = []
    images = torch.rand(shape)
    for network in (plain, again):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: (saved.append(x.nbytes), x)[1], lambda x: x
        ):
            loss = network(images).square().mean()
        loss.backward()
        kept.append(sum(saved))
    assert kept[1] < 0.5 * kept[0]
    for (key, one), other in zip(plain.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, msg=key)
    for (key, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=key)
    assert {module.momentum for module in again.modules() if hasattr(module, "momentum")} == {0.1}
    again.eval()
    plain.eval()
    torch.testing.assert_close(again(images), plain(images))
