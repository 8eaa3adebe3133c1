"""SimCLR, learning from labels, and both objectives together: against loops in float64."""

from __future__ import annotations

import math
import typing
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from scoutview.batches import Archive
from scoutview.encoders import make_encoder
from scoutview.errors import UsageError
from scoutview.pretraining.labels import Labels, label_losses, read_labels
from scoutview.pretraining.method import Method
from scoutview.pretraining.methods import METHODS, make_method, make_network, method_of
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.settings import resolve
from scoutview.pretraining.simclr import contrastive_losses
from scoutview.pretraining.steps import step_in_parts, whole_step
from scoutview.store import Annotation, Store, add_annotations
from scoutview.training import Stages

LABELS = Labels(
    ("a", "b"), False, np.array([0, 3, 8, 9]), np.array([[0, 1], [1, np.nan], [np.nan, 0], [1, 1]], np.float32)
)


def test_every_method_of_the_recipe_has_a_file_and_the_other_way_round() -> None:
    assert list(METHODS) == list(typing.get_args(typing.get_type_hints(Recipe)["method"]))


def test_methods_that_compare_samples_take_no_parts() -> None:
    with pytest.raises(UsageError, match=r"accumulate 2: simclr needs the whole batch at once.*\(swav\)"):
        method_of(Recipe(method="simclr", crops=(2,), sizes=(64,), accumulate=2))


def contrast_reference(views: np.ndarray, temperature: float) -> np.ndarray:
    """NT-Xent as its definition: views [2, image, F]; the loss of each image, mean of its two views."""
    images = views.shape[1]
    result = np.zeros(images)
    for image in range(images):
        for view in range(2):
            similar = {
                (v, k): float(views[view, image] @ views[v, k]) / temperature for v in range(2) for k in range(images)
            }
            others = [value for key, value in similar.items() if key != (view, image)]
            top = max(others)
            total = top + math.log(sum(math.exp(value - top) for value in others))
            result[image] += (total - similar[1 - view, image]) / 2
    return result


def test_nt_xent_equals_the_loop_also_of_a_rank_of_many() -> None:
    z = F.normalize(torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)), dim=2)
    expected = contrast_reference(z.double().numpy(), 0.1)
    np.testing.assert_allclose(contrastive_losses(z, z, 0, 0.1).numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(contrastive_losses(z[:, 2:5], z, 2, 0.1).numpy(), expected[2:5], rtol=1e-4)
    assert contrastive_losses(z[:, :0], z, 0, 0.1).shape == (0,)


@pytest.mark.parametrize("exclusive", [True, False])
def test_label_losses_equal_the_loop(exclusive: bool) -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.tensor([[1.0, 0, 0], [math.nan] * 3, [0, 0, 1], [0, 1, 0]])
    if not exclusive:
        targets = torch.tensor([[1.0, 0, 1], [math.nan] * 3, [math.nan, 1, 0], [0, math.nan, math.nan]])
    losses, labelled = label_losses(logits, targets, exclusive)
    assert labelled.tolist() == [True, False, True, True]
    x = logits.detach().double().numpy()
    for image in range(4):
        per_view = []
        for view in range(2):
            row = x[view, image]
            if exclusive:
                p = np.exp(row) / np.exp(row).sum()
                per_view.append(-math.log(p[int(targets[image].argmax())]) if labelled[image] else 0.0)
            else:
                p = 1 / (1 + np.exp(-row))
                known = [k for k in range(3) if not math.isnan(targets[image, k])]
                terms = [-math.log(p[k] if targets[image, k] else 1 - p[k]) for k in known]
                per_view.append(sum(terms) / max(len(terms), 1))
        assert float(losses[image].detach()) == pytest.approx(np.mean(per_view), rel=1e-5)
    losses.sum().backward()
    assert torch.equal(logits.grad[:, 1], torch.zeros(2, 3))
    assert torch.isfinite(logits.grad).all()


def make(labels: Labels | None = None, **changes: object) -> tuple[Method, torch.nn.Module]:
    values = {"encoder": "resnet18w0.25", "batch_size": 16, "crops": (2, 1), "sizes": (32, 32), "projection": 16}
    recipe = Recipe(
        **{**values, "prototypes": 6, "queue": 0, "freeze_prototypes": 0, "projector_hidden": 32, **changes}
    )
    settings = resolve(recipe, {"xray": 100, "ct": 100})
    torch.manual_seed(0)
    network = make_network(settings, make_encoder("resnet18w0.25"), labels)
    return make_method(settings, network, 0, [[8, 8]], torch.device("cpu"), labels), network


def views(seed: int) -> list[torch.Tensor]:
    return [torch.rand(3, 16, 1, 32, 32, generator=torch.Generator().manual_seed(seed))]


INDEX = torch.arange(16)


def test_the_hybrid_loss_is_that_of_the_equation() -> None:
    hybrid, network = make(LABELS, label="a", alpha=0.5, beta=2.0)
    plain, alone = make()
    network.eval()
    alone.eval()
    for mine, theirs in zip(network.unlabelled.parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine, theirs)  # a label changes no other weight
    loss = hybrid.loss(network, views(0), 0, INDEX)
    with torch.no_grad():
        features = network.unlabelled.encoder(views(0)[0][:2].flatten(0, 1)).double()
        logits = (features @ network.classifier.weight.double().T + network.classifier.bias.double()).view(2, 16, 2)
    supervised = 0.0
    for row, image in enumerate(LABELS.indices):
        for view in range(2):
            p = torch.sigmoid(logits[view, image]).tolist()
            known = [k for k in range(2) if not np.isnan(LABELS.values[row, k])]
            terms = [-math.log(p[k] if LABELS.values[row, k] else 1 - p[k]) for k in known]
            supervised += sum(terms) / len(terms) / 2
    expected = 0.5 * float(plain.loss(alone, views(0), 0).detach()) + 2.0 * supervised / 16
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    lines = hybrid.lines()
    assert [line["labelled"] for line in lines] == [0.25, 0.25]
    assert np.mean([line["supervised_loss"] for line in lines]) == pytest.approx(supervised / 4, rel=1e-5)


def test_a_batch_without_labels_still_touches_the_classifier() -> None:
    hybrid, network = make(LABELS, label="a")
    hybrid.loss(network, views(0), 0, INDEX + 100).backward()
    for parameter in network.classifier.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_a_hybrid_step_in_parts_has_the_gradients_of_the_whole() -> None:
    gradients, lines = [], []
    for parts, run in ((1, whole_step), (2, step_in_parts)):
        method, network = make(LABELS, label="a", accumulate=parts)
        network.eval()
        fabric = Fabric(accelerator="cpu", devices=1)
        run(fabric, fabric.setup_module(network), method, views(0), 0, Stages(torch.device("cpu")), INDEX)
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
        lines.append(method.lines())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3)
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_dino_equals_a_loop_over_steps_with_its_own_teacher() -> None:
    """Three steps of plain gradient descent: loss, teacher and centre from loops over the networks' outputs.

    All in float64: a teacher sharpened by 0.04 makes ten times more of what another processor rounds otherwise.
    """
    try:
        torch.set_default_dtype(torch.float64)
        method, network = make(method="dino", steps=10, teacher_momentum=0.9, momentum=0.0)
    finally:
        torch.set_default_dtype(torch.float32)
    teacher, centre = deepcopy(network), np.zeros(6)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(3):
        with torch.no_grad():
            student = deepcopy(network)([views(step)[0].double()], [8, 8]).numpy() / 0.1
            taught = teacher([views(step)[0].double()], [8, 8])[:2].numpy()
        expected = []
        for image in range(16):
            for s in range(2):
                q = np.exp((taught[s, image] - centre) / 0.04)
                for t in {0, 1, 2} - {s}:
                    p = np.exp(student[t, image])
                    expected.append(-(q / q.sum() * np.log(p / p.sum())).sum())
        optimizer.zero_grad()
        loss = method.loss(network, [views(step)[0].double()], step)
        assert float(loss.detach()) == pytest.approx(np.mean(expected), rel=1e-9)
        loss.backward()
        optimizer.step()
        method.after_step(step)
        centre = 0.9 * centre + 0.1 * taught.mean((0, 1))
        np.testing.assert_allclose(method.centre.numpy(), centre, atol=1e-6)
        keep = 1 - (1 - 0.9) * (math.cos(math.pi * step / 10) + 1) / 2
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), network.parameters(), strict=True):
                mine.copy_(keep * mine + (1 - keep) * theirs)
        for mine, theirs in zip(teacher.parameters(), method.teacher.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    assert method.encoder is method.teacher.encoder
    assert all(not parameter.requires_grad for parameter in method.teacher.parameters())


def test_a_compiled_encoder_changes_no_name_and_the_teacher_is_not_compiled() -> None:
    _, network = make(method="dino")
    names = list(network.state_dict())
    network.compile_encoder()
    assert list(network.state_dict()) == names
    settings = resolve(Recipe(method="dino", prototypes=6, crops=(2, 1), sizes=(32, 32)), {"ct": 100})
    method = make_method(settings, network, 0, [[8]], torch.device("cpu"))
    assert method.teacher.encode.__self__ is method.teacher.encoder
    assert method.teacher.encoder is not network.encoder


def test_a_dino_step_that_is_not_finite_moves_neither_teacher_nor_centre() -> None:
    method, network = make(method="dino")
    before = deepcopy(method.teacher.state_dict())
    batch = views(0)
    batch[0][0, 3] = float("nan")
    method.loss(network, batch, 0)
    method.after_step(0, torch.tensor(False))
    assert torch.equal(method.centre, torch.zeros(6))
    for name, parameter in method.teacher.named_parameters():
        assert torch.equal(parameter, before[name])


def test_supervised_is_the_mean_over_labelled_images() -> None:
    method, network = make(LABELS, method="supervised", label="a")
    loss = method.loss(network, views(0), 0, INDEX)
    targets = torch.full((16, 2), math.nan)
    targets[LABELS.indices] = torch.from_numpy(LABELS.values)
    with torch.no_grad():
        losses, labelled = label_losses(network(views(0), [8, 8]), targets, False)
    assert float(loss.detach()) == pytest.approx(float(losses.sum() / labelled.sum()), rel=1e-5)
    with pytest.raises(UsageError, match="method supervised needs a label"):
        Recipe(method="supervised")


def test_labels_of_any_level_and_kind_are_read(small_store: Path, tmp_path: Path) -> None:
    archive = Archive.open([small_store])
    rough = read_labels(archive, "ct_rough")
    assert (rough.classes, rough.exclusive) == (("ct_rough",), False)
    assert rough.indices.tolist() == archive.labelled("ct_rough", ("train",))
    index = torch.tensor([rough.indices[1], rough.indices[-1] + 10**6, -1])
    found = rough.of(index, torch.device("cpu"))
    assert float(found[0]) == float(archive.label_values("ct_rough", [int(index[0])])[0])
    assert torch.isnan(found[1:]).all()
    both = read_labels(archive, ("ct_rough", "mr_rough"))
    assert both.classes == ("ct_rough", "mr_rough")
    assert (~np.isnan(both.values)).sum(1).tolist() == [1] * len(both.indices)
    with pytest.raises(UsageError, match="no image has a label 'nothing'"):
        read_labels(archive, "nothing")


def test_values_with_bars_are_findings_and_others_classes(tmp_path: Path) -> None:
    from samples import make_store

    make_store(tmp_path / "store", images=10)
    store = Store.open(tmp_path / "store")
    words = ("effusion|mass", "none", "mass", "effusion|none")
    bars = [Annotation(f"ct-000{n}", "label", "findings", words[n]) for n in range(4)]
    add_annotations(store, bars + [Annotation(f"mr-000{n}", "label", "plane", "xyz"[n % 3]) for n in range(6)])
    archive = Archive.open([tmp_path / "store"])
    findings = read_labels(archive, "findings")
    assert (findings.classes, findings.exclusive) == (("effusion", "mass", "none"), False)
    rows = dict(zip([archive.rows[int(i)].image for i in findings.indices], findings.values.tolist(), strict=True))
    assert rows == {"ct-0000": [1, 1, 0], "ct-0001": [0, 0, 1], "ct-0002": [0, 1, 0], "ct-0003": [1, 0, 1]}
    plane = read_labels(archive, "plane")
    assert (plane.classes, plane.exclusive) == (("x", "y", "z"), True)
    assert plane.values.sum(1).tolist() == [1.0] * 6
