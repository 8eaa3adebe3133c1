"""Pyramid and head against convolutions written as loops in float64; the encoder's weights; and that it learns."""

from __future__ import annotations

from collections.abc import Iterator

import fcos_reference as reference
import numpy as np
import pytest
import torch

from scoutview.encoders.resnet import make_resnet
from scoutview.tasks.detection import Fcos, assign_targets, decode, detection_loss


def small_network(seed: int = 0) -> Fcos:
    torch.manual_seed(seed)
    network = Fcos(make_resnet("resnet18w0.125"), classes=3, width=8, depth=2).double().eval()
    with torch.no_grad():  # so that every parameter matters
        for parameter in network.head.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def tower(weights: dict[str, np.ndarray], name: str, level: np.ndarray) -> np.ndarray:
    for layer in (0, 3):
        level = reference.convolved(level, weights[f"head.{name}.{layer}.weight"], None)
        norm = weights[f"head.{name}.{layer + 1}.weight"], weights[f"head.{name}.{layer + 1}.bias"]
        level = np.maximum(reference.group_normalised(level, 4, *norm), 0)
    return level


@pytest.mark.parametrize("shape", [(96, 128), (75, 130)])
def test_pyramid_and_head_equal_loops(shape: tuple[int, int]) -> None:
    network = small_network()
    image = torch.rand(1, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}

    def convolved(name: str, level: np.ndarray, stride: int = 1) -> np.ndarray:
        return reference.convolved(level, weights[f"{name}.weight"], weights[f"{name}.bias"], stride)

    with torch.no_grad():
        found = network(image)
        maps = [level[0].numpy() for level in network.encoder.stages(image)[1:]]
    merged = [convolved(f"pyramid.lateral.{place}", level) for place, level in enumerate(maps)]
    for place in (1, 0):
        for row in range(merged[place].shape[1]):
            for column in range(merged[place].shape[2]):
                merged[place][:, row, column] += merged[place + 1][:, row // 2, column // 2]
    levels = [convolved(f"pyramid.output.{place}", level) for place, level in enumerate(merged)]
    levels.append(convolved("pyramid.p6", levels[-1], 2))
    levels.append(convolved("pyramid.p7", np.maximum(levels[-1], 0), 2))
    assert [level.shape[1:] for level in levels] == [tuple(-(-n // s) for n in shape) for s in reference.STRIDES]

    first = 0
    for number, level in enumerate(levels):
        classes, boxes = tower(weights, "class_tower", level), tower(weights, "box_tower", level)
        last = first + level[0].size
        scale, stride = weights["head.scales"][number], reference.STRIDES[number]
        expected = {
            "logits": convolved("head.logits", classes),
            "distances": stride * np.exp(scale * convolved("head.distances", boxes)),
            "centerness": convolved("head.centerness", boxes),
        }
        for name, value in expected.items():
            own = getattr(found, name)[0, first:last].reshape(level[0].size, -1)
            np.testing.assert_allclose(own, value.reshape(len(value), -1).T, atol=1e-5, rtol=1e-5, err_msg=name)
        first = last
    assert first == len(found.locations.points)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50w2", "resnet18w0.3"])
def test_the_channels_of_any_encoder_are_known(name: str) -> None:
    encoder = make_resnet(name).eval()
    with torch.no_grad():
        maps = encoder.stages(torch.rand(1, 1, 32, 32))
    assert list(encoder.channels) == [level.shape[1] for level in maps]


def test_the_network_uses_the_weights_of_the_encoder_and_starts_at_the_prior() -> None:
    encoder = make_resnet("resnet18w0.25")
    network = Fcos(encoder, classes=2, width=64).eval()
    assert network.encoder is encoder
    assert len([m for m in network.head.modules() if isinstance(m, torch.nn.GroupNorm) and m.num_groups == 32]) == 8
    with torch.no_grad():
        found = network(torch.rand(2, 1, 128, 96))
    assert found.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
    assert len(decode(found, torch.tensor([[0.0, 0.0, 96.0, 128.0]] * 2))) == 2


def test_bf16_and_wild_weights_leave_distances_finite() -> None:
    network = Fcos(make_resnet("resnet18w0.125"), classes=1, width=32, depth=1).eval()
    torch.nn.init.constant_(network.head.distances.bias, 1e4)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        found = network(torch.rand(1, 1, 64, 64))
    assert {found.logits.dtype, found.distances.dtype, found.centerness.dtype} == {torch.float32}
    assert found.distances.max() <= 2.0**15 * 1.0001


def squares(generator: np.random.Generator, count: int) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Noise with one bright (class 0) or dark (class 1) square on each image, but none on every fourth."""
    images = torch.from_numpy(generator.uniform(0.4, 0.6, (count, 1, 96, 128)).astype(np.float32))
    boxes, classes = [], []
    for number in range(count):
        x, y = generator.integers(0, 90), generator.integers(0, 58)
        side, name = generator.integers(20, 38), int(generator.integers(2))
        if number % 4 == 3:
            boxes.append(torch.zeros(0, 4))
            classes.append(torch.zeros(0, dtype=torch.long))
            continue
        images[number, 0, y : y + side, x : x + side] += 0.35 - 0.7 * name
        boxes.append(torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32))
        classes.append(torch.tensor([name]))
    return images, boxes, classes


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products gain nothing from a second thread, and on a busy machine the two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_it_learns_to_find_squares() -> None:
    from scoutview.metrics import MatchingRule, find_hits, froc_score

    torch.manual_seed(0)
    network = Fcos(make_resnet("resnet18w0.125"), classes=2, width=32, depth=1).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(50):
        images, boxes, classes = squares(np.random.default_rng(step), 8)
        outputs = network(images)
        loss = detection_loss(outputs, assign_targets(outputs.locations, boxes, classes))
        optimizer.zero_grad()
        loss.mean(loss.positives).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    images, boxes, classes = squares(np.random.default_rng(1000), 32)
    with torch.no_grad():
        found = decode(network.eval()(images), torch.tensor([[0.0, 0.0, 128.0, 96.0]] * 32))
    for name in range(2):
        hits = find_hits(
            np.concatenate([np.full(int((own.classes == name).sum()), k) for k, own in enumerate(found)]),
            torch.cat([own.boxes[own.classes == name] for own in found]).numpy(),
            torch.cat([own.scores[own.classes == name] for own in found]).numpy(),
            np.asarray([k for k, own in enumerate(classes) if own.tolist() == [name]]),
            torch.cat([own for own, names in zip(boxes, classes, strict=True) if names.tolist() == [name]]).numpy(),
            32,
            MatchingRule("iou", 0.5),
        )
        assert froc_score(hits) > 0.8
