"""The optimizers of pretraining: steps that are not finite are not made, and AdamW's are those of its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scoutview.training import make_adamw, make_optimizer


def test_adamw_follows_its_equations_and_spares_biases_the_decay() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = make_adamw(layer.parameters(), 0.1, 0.5)
    expected = {name: value.detach().double().numpy().copy() for name, value in layer.named_parameters()}
    first = {name: np.zeros_like(value) for name, value in expected.items()}
    second = {name: np.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 4):
        for name, parameter in layer.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            gradient = parameter.grad.double().numpy()
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            moved = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
            decay = 0.5 if name == "weight" else 0.0
            expected[name] = expected[name] * (1 - 0.1 * decay) - 0.1 * moved
        optimizer.step()
        for name, parameter in layer.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), expected[name], atol=1e-5)


@pytest.mark.parametrize("kind", ["larc", "adamw"])
def test_a_step_that_was_found_infinite_is_not_made(kind: str) -> None:
    layer = nn.Linear(3, 2)
    made = make_adamw(layer.parameters(), 0.1, 0.0) if kind == "adamw" else make_optimizer(layer.parameters(), 0.1, 0.9)
    undisturbed = nn.Linear(3, 2)
    undisturbed.load_state_dict(layer.state_dict())
    other = (
        make_adamw(undisturbed.parameters(), 0.1, 0.0)
        if kind == "adamw"
        else make_optimizer(undisturbed.parameters(), 0.1, 0.9)
    )
    for step, found in enumerate((0.0, 1.0, 0.0)):
        for network, optimizer in ((layer, made), (undisturbed, other)):
            if network is undisturbed and found:
                continue
            for parameter in network.parameters():
                fill = float("nan") if found else step + 1.0
                parameter.grad = torch.full_like(parameter, fill)
            optimizer.found_inf = torch.tensor(found)  # type: ignore[union-attr]
            optimizer.step()
    for mine, theirs in zip(layer.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(mine, theirs)
