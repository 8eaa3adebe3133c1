"""The loop of every task: rates by stage, what is frozen, when it stops early, what it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from scoutview.encoders import make_encoder, stage_of, stages_of
from scoutview.errors import UsageError
from scoutview.tasks import FinetuneSettings, Targets, finetune_task
from scoutview.tasks.classification import class_weights, classification_loss
from scoutview.tasks.finetuning import parameter_groups
from scoutview.training import RunFolder


class Toy:
    """Six random images and a head; validation says what `figures` says."""

    cases = 6

    def __init__(self, figures: Sequence[float], encoder: str = "resnet18w0.25") -> None:
        torch.manual_seed(0)
        self.encoder, self.head = make_encoder(encoder), nn.Linear(128, 1)
        self.images, self.figures, self.seen = torch.rand(6, 1, 32, 32), list(figures), list[list[int]]()

    def modules(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head}

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        self.seen.append(list(cases))
        loss: Tensor = self.head(self.encoder(self.images[list(cases)])).square().mean()
        return loss

    def validate(self) -> dict[str, float]:
        assert not self.encoder.training
        return {"figure": self.figures.pop(0)}


def train(task: Toy, folder: Path, **settings: object) -> list[dict[str, float]]:
    run = RunFolder(folder)
    run.prepare({}, {})
    finetune_task(task, FinetuneSettings(batch_size=4, **settings), run, "cpu")  # type: ignore[arg-type]
    run.close()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18w0.25", {"conv1": 0, "bn1": 0, "layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}),
        ("densenet_3d", {"stem": 0, "blocks.0": 1, "blocks.4": 5, "last": 6}),
    ],
)
def test_every_parameter_has_one_rate_that_decays_by_stage(name: str, expected: dict[str, int]) -> None:
    encoder, head = make_encoder(name), nn.Linear(4, 2)
    groups = parameter_groups({"encoder": encoder, "head": head}, FinetuneSettings(learning_rate=0.1, layer_decay=0.5))
    rates = {id(parameter): group["base"] for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(encoder.parameters())) + 2
    last = max(expected.values())
    for prefix, stage in expected.items():
        mine = [value for key, value in encoder.named_parameters() if key.startswith(f"{prefix}.")]
        assert mine
        assert {rates[id(value)] for value in mine} == {0.1 * 0.5 ** (last - stage)}
    assert {rates[id(value)] for value in head.parameters()} == {FinetuneSettings.head_learning_rate}


@pytest.mark.parametrize("frozen", [0, 2, "all"])
def test_frozen_stages_keep_weights_and_statistics(frozen: int, tmp_path: Path) -> None:
    task = Toy([0.5, 0.6, 0.7])
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    train(task, tmp_path, steps=3, frozen=frozen)
    limit = stages_of(task.encoder) if frozen == "all" else frozen
    for name, value in task.encoder.state_dict().items():
        assert torch.equal(value, before[name]) == (stage_of(task.encoder, name) < limit), name
    with pytest.raises(UsageError, match="frozen 9: this encoder has 5 stages"):
        train(Toy([]), tmp_path / "more", steps=1, frozen=9)


def test_it_ends_when_patience_does_and_keeps_the_best_weights(tmp_path: Path) -> None:
    lines = train(Toy([0.5, 0.9, 0.8, 0.9, 0.7, 1.0]), tmp_path / "run", steps=6, patience=2)
    assert [line["validation_figure"] for line in lines if "validation_figure" in line] == [0.5, 0.9, 0.8, 0.9]
    best, stopped = Toy([0.1, 0.2]), Toy([0.5, 0.9, 0.8, 0.9, 0.7, 1.0])
    train(stopped, tmp_path / "again", steps=6, patience=2)
    # The same six steps of the schedule, best at the second.
    best.figures = [0.1, 0.9, 0.2, 0.2, 0.2, 0.2]
    train(best, tmp_path / "best", steps=6)
    for one, other in zip(best.encoder.state_dict().values(), stopped.encoder.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_each_case_is_seen_once_per_epoch(tmp_path: Path) -> None:
    task = Toy([0.0] * 6)
    train(task, tmp_path, steps=6)
    seen = [case for cases in task.seen for case in cases]
    assert all(sorted(seen[first : first + 6]) == list(range(6)) for first in range(0, 24, 6))


def test_class_weights_are_those_of_scikit_learn() -> None:
    classes = np.array([0, 0, 0, 1, 2, 2])
    columns = np.eye(3, dtype=np.float32)[classes]
    exclusive = Targets(("a", "b", "c"), True, tuple(range(6)), columns)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=classes)
    np.testing.assert_allclose(class_weights(exclusive).numpy(), expected, rtol=1e-6)
    findings = np.array([[1, 0], [0, 0], [0, np.nan], [0, 1], [np.nan, 1]], dtype=np.float32)
    weights = class_weights(Targets(("x", "y"), False, tuple(range(5)), findings))
    for column in range(2):
        known = findings[~np.isnan(findings[:, column]), column]
        expected = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=known)
        np.testing.assert_allclose(weights[:, column].numpy(), expected, rtol=1e-6)
    logits = torch.linspace(-1, 1, 10).view(5, 2)
    terms, total = 0.0, 0.0
    for logit, target, place in zip(logits.flatten(), findings.flatten(), range(10), strict=True):
        if target == target:
            weight = float(weights[int(target), place % 2])
            p = 1 / (1 + np.exp(-float(logit)))
            terms, total = terms - weight * np.log(p if target else 1 - p), total + weight
    loss = classification_loss(logits, torch.from_numpy(findings), False, weights)
    assert float(loss) == pytest.approx(terms / total, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_decay": 0.0}, "layer_decay 0.0 must lie in"),
        ({"frozen": -1}, "frozen -1 must be 0 or more, or all"),
        ({"patience": -1}, "patience -1 must be 0 or more"),
        ({"steps": 0}, "steps 0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size 0 must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FinetuneSettings(**settings)  # type: ignore[arg-type]
