"""Sinkhorn, swapped prediction, queue, prototypes, telemetry: against loops in float64 that follow the equations."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from scoutview.encoders import make_encoder
from scoutview.pretraining.prototypes import Prototypes
from scoutview.pretraining.queue import FeatureQueue
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.settings import resolve
from scoutview.pretraining.sinkhorn import sinkhorn_codes
from scoutview.pretraining.steps import all_finite, gradient_norm, step_in_parts, whole_step
from scoutview.pretraining.swapped import global_mean, swapped_prediction
from scoutview.pretraining.swav import Swav, SwavNetwork
from scoutview.pretraining.telemetry import Telemetry
from scoutview.training import Stages, make_optimizer, scale_gradients


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def sinkhorn_reference(scores: np.ndarray, epsilon: float, rounds: int) -> np.ndarray:
    """The published algorithm in float64: Q [prototype, sample], sums to 1, rows to 1/K, columns to 1/B, times B."""
    Q = np.exp(scores.astype(np.float64).T / epsilon)
    K, B = Q.shape
    Q /= Q.sum()
    for _ in range(rounds):
        for k in range(K):
            Q[k] /= Q[k].sum() * K
        for b in range(B):
            Q[:, b] /= Q[:, b].sum() * B
    return (Q * B).T


@pytest.mark.parametrize(("samples", "prototypes"), [(24, 32), (96, 10), (7, 3), (1, 5)])
def test_codes_equal_the_float64_reference(samples: int, prototypes: int) -> None:
    scores = unit(samples, 16) @ unit(prototypes, 16, seed=1).T
    for rounds in (1, 3, 10):
        (codes,) = sinkhorn_codes([scores], 0.03, rounds)
        expected = sinkhorn_reference(scores.numpy(), 0.03, rounds)
        np.testing.assert_allclose(codes.numpy(), expected, atol=2e-5)
        np.testing.assert_allclose(codes.sum(1).numpy(), 1.0, atol=1e-6)


def test_blocks_of_different_sizes_are_independent_and_an_empty_one_is_harmless() -> None:
    blocks = [unit(12, 8) @ unit(5, 8, seed=1).T, torch.zeros(0, 4), unit(9, 8, seed=2) @ unit(7, 8, seed=3).T]
    together = sinkhorn_codes(blocks, 0.03, 3)
    for block, codes in zip(blocks, together, strict=True):
        assert codes.shape == block.shape
        assert torch.isfinite(codes).all()
        if len(block):
            torch.testing.assert_close(codes, sinkhorn_codes([block], 0.03, 3)[0])


def test_codes_stay_finite_at_the_extremes_and_a_constant_shift_changes_nothing() -> None:
    scores = torch.full((6, 4), -1.0)
    scores[:, 0] = 1.0
    assert torch.isfinite(sinkhorn_codes([scores], 0.03, 3)[0]).all()
    scores = unit(30, 8) @ unit(6, 8, seed=4).T * 0.5
    shifted = sinkhorn_codes([scores + 0.25], 0.03, 3)[0]
    torch.testing.assert_close(shifted, sinkhorn_codes([scores], 0.03, 3)[0], atol=1e-5, rtol=1e-3)


def test_a_shift_per_sample_would_be_noticed() -> None:
    scores = unit(64, 8) @ unit(16, 8, seed=4).T
    wrong = sinkhorn_codes([scores - scores.amax(1, keepdim=True) + 1], 0.03, 3)[0]
    right = sinkhorn_codes([scores], 0.03, 3)[0]
    assert (wrong - right).abs().max() > 0.05


def test_many_rounds_share_the_samples_equally() -> None:
    codes = sinkhorn_codes([unit(120, 8) @ unit(10, 8, seed=1).T], 0.03, 400)[0]
    np.testing.assert_allclose(codes.sum(0).numpy(), 12.0, rtol=0.01)


def loss_reference(scores: np.ndarray, codes: np.ndarray, code_crops: list[int], temperature: float) -> np.ndarray:
    """Eq. 1 for many views, as loops: mean over code crops, then over the other views."""
    views, samples, _ = scores.shape
    result = np.zeros(samples)
    for b in range(samples):
        for number, s in enumerate(code_crops):
            terms = []
            for t in range(views):
                if t == s:
                    continue
                logits = scores[t, b].astype(np.float64) / temperature
                log_p = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
                terms.append(-(codes[number, b].astype(np.float64) * log_p).sum())
            result[b] += np.mean(terms) / len(code_crops)
    return result


@pytest.mark.parametrize("code_crops", [[0, 1], [0], [1, 3]])
def test_loss_equals_the_loop(code_crops: list[int]) -> None:
    scores = [unit(5, 6, 16, seed=n) @ unit(k, 16, seed=9).T for n, k in ((0, 8), (1, 4))]
    codes = [torch.stack(sinkhorn_codes([block[crop] for crop in code_crops], 0.03, 3)) for block in scores]
    losses = swapped_prediction(scores, codes, code_crops, 0.1)
    for block, code, loss in zip(scores, codes, losses, strict=True):
        np.testing.assert_allclose(
            loss.numpy(), loss_reference(block.numpy(), code.numpy(), code_crops, 0.1), rtol=1e-5
        )
    total = global_mean(losses, 12, 1)
    assert float(total) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-6)


def test_flat_codes_and_scores_give_ln_k() -> None:
    scores = [torch.zeros(4, 3, 20)]
    codes = [torch.full((2, 3, 20), 1 / 20)]
    assert float(swapped_prediction(scores, codes, [0, 1], 0.1)[0].mean()) == pytest.approx(math.log(20), rel=1e-6)


def test_codes_get_no_gradient_and_scores_do() -> None:
    scores = (unit(3, 4, 8) @ unit(5, 8, seed=1).T).requires_grad_()
    codes = torch.softmax(scores[:2], 2)
    global_mean(swapped_prediction([scores], [codes], [0, 1], 0.1), 4, 1).backward()
    alone = scores.detach().clone().requires_grad_()
    global_mean(swapped_prediction([alone], [codes.detach()], [0, 1], 0.1), 4, 1).backward()
    torch.testing.assert_close(scores.grad, alone.grad)


def test_scores_are_fp32_cosines_without_a_bias() -> None:
    prototypes = Prototypes([7, 3], 16)
    z = unit(2, 5, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = prototypes(z, [2, 3])
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, z[:, :2] @ prototypes.matrices[0].T)
    torch.testing.assert_close(second, z[:, 2:] @ prototypes.matrices[1].T)
    assert max(float(first.detach().abs().max()), float(second.detach().abs().max())) <= 1 + 1e-6
    assert len(list(prototypes.parameters())) == 2


def test_queue_fills_in_order_is_used_when_full_and_forgets_the_oldest() -> None:
    queue = FeatureQueue([6, 0], 2, 4, torch.device("cpu"))
    batches = [unit(2, 2, 4, seed=n) for n in range(5)]
    ready = []
    for batch in batches:
        ready.append(queue.ready(0))
        queue.enqueue([batch, batch], [[2, 2]])
    assert ready == [False, False, False, True, True]
    assert not queue.ready(1)
    torch.testing.assert_close(queue.features[0], torch.cat([batches[4], batches[3], batches[2]], dim=1))
    for ranks in (1, 2, 3):
        parts = [queue.slice_of(0, rank, ranks) for rank in range(ranks)]
        torch.testing.assert_close(torch.cat(parts, dim=1), queue.features[0])
    other = FeatureQueue([6, 0], 2, 4, torch.device("cpu"))
    other.load_state_dict(queue.state_dict())
    assert other.ready(0)
    torch.testing.assert_close(other.features[0], queue.features[0])


def small_method(**changes: object) -> tuple[Swav, SwavNetwork]:
    values = {"encoder": "resnet18w0.25", "batch_size": 16, "crops": (2, 1), "sizes": (32, 32), "projection": 16}
    recipe = Recipe(
        **{**values, "prototypes": 6, "queue": 0, "freeze_prototypes": 0, "projector_hidden": 32, **changes}
    )
    settings = resolve(recipe, {"xray": 100, "ct": 100})
    torch.manual_seed(0)
    network = Swav.network_of(settings, make_encoder("resnet18w0.25"))
    return Swav(settings, network, 0, [[8, 8]], torch.device("cpu")), network


def views(seed: int) -> list[torch.Tensor]:
    return [torch.rand(3, 16, 1, 32, 32, generator=torch.Generator().manual_seed(seed))]


def test_a_full_queue_takes_part_in_the_balance_and_only_current_codes_come_back() -> None:
    method, network = small_method(queue=16, queue_start=0)
    for step in range(4):
        method.loss(network, views(step), step)
        method.after_step(step)
    scores = [unit(2, 8, 16, seed=n) @ network.prototypes.matrices[n].detach().T for n in range(2)]
    crops = torch.cat([unit(2, 8, 16, seed=n) for n in range(2)], dim=1)
    codes = method.codes(crops, scores, 10)
    for number, block in enumerate(scores):
        for crop in range(2):
            waiting = method.queue.features[number][crop] @ network.prototypes.matrices[number].detach().T
            joined = torch.cat([block[crop], waiting]).numpy()
            expected = sinkhorn_reference(joined, 0.03, 3)[:8]
            np.testing.assert_allclose(codes[number][crop].numpy(), expected, atol=2e-5)
    before_start = small_method(queue=16, queue_start=99)[0]
    before_start.queue = method.queue
    alone = before_start.codes(crops, scores, 10)[0][0]
    np.testing.assert_allclose(alone.numpy(), sinkhorn_reference(scores[0][0].numpy(), 0.03, 3), atol=2e-5)


def test_a_step_in_parts_has_the_codes_of_the_whole_and_the_gradients_of_its_parts() -> None:
    """Without BatchNorm between samples (evaluation mode) parts change nothing; with it the statistics are a part's."""
    gradients, losses, reported = [], [], []
    for parts in (1, 2, 4):
        method, network = small_method(queue=8, queue_start=0, accumulate=parts)
        network.eval()
        fabric = Fabric(accelerator="cpu", devices=1)
        stages = Stages(torch.device("cpu"))
        model = fabric.setup_module(network)
        for step in range(3):
            network.zero_grad(set_to_none=True)
            run = whole_step if parts == 1 else step_in_parts
            loss = run(fabric, model, method, views(step), step, stages)
            method.after_step(step)
        losses.append(float(loss))
        reported.append([line["loss"] for line in method.telemetry.read()])
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)
    assert reported[1] == pytest.approx(reported[0], rel=1e-5)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-5, rtol=1e-3)


def test_the_first_pass_of_a_step_in_parts_leaves_the_running_statistics_alone() -> None:
    method, network = small_method(accumulate=2)
    fabric = Fabric(accelerator="cpu", devices=1)
    expected = deepcopy(network)
    halves = [
        torch.cat([block.tensor_split(2, 1)[part] for block in views(0)[0].split([8, 8], 1)], 1) for part in (0, 1)
    ]
    for half in halves:
        expected([half], [4, 4])
    step_in_parts(fabric, fabric.setup_module(network), method, views(0), 0, Stages(torch.device("cpu")))
    for name, value in expected.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(network.state_dict()[name], value)


def test_a_step_that_is_not_finite_changes_nothing_but_the_running_statistics() -> None:
    method, network = small_method(queue=8, queue_start=0)
    optimizer = make_optimizer(network.parameters(), 0.5, 0.9)
    for step, poison in enumerate((True, False, True)):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        queue = [features.clone() for features in method.queue.features]
        batch = views(step)
        if poison:
            batch[0][0, 3] = float("nan")
        optimizer.zero_grad(set_to_none=True)
        loss = method.loss(network, batch, step)
        loss.backward()
        good = all_finite(loss.detach(), gradient_norm(network))
        assert bool(good) is not poison
        optimizer.found_inf = 1.0 - good
        scale_gradients(network.parameters(), 0.001, 1e-6)
        optimizer.step()
        method.after_step(step, good > 0)
        network.load_state_dict({k: torch.nan_to_num(v, 0.0) for k, v in network.state_dict().items()})
        moved = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, network.parameters(), strict=True)]
        assert any(moved) is not poison
        assert all(torch.isfinite(features).all() for features in method.queue.features)
        assert all(torch.isfinite(state["momentum_buffer"]).all() for state in optimizer.state.values())
        if poison and step:
            assert all(torch.equal(features, old) for features, old in zip(method.queue.features, queue, strict=True))


def test_frozen_prototypes_stay_bit_identical_under_momentum_and_decay() -> None:
    method, network = small_method(freeze_prototypes=3, weight_decay=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    start = [matrix.detach().clone() for matrix in network.prototypes.matrices]
    for step in range(5):
        optimizer.zero_grad(set_to_none=True)
        method.loss(network, views(step), step).backward()
        method.after_backward(step)
        scale_gradients(network.parameters(), 0.001, 0.1)
        optimizer.step()
        method.after_step(step)
        same = [torch.equal(a, b) for a, b in zip(start, network.prototypes.matrices, strict=True)]
        assert same == [step < 3] * 2
        for matrix in network.prototypes.matrices:
            torch.testing.assert_close(matrix.norm(dim=1), torch.ones(6), atol=1e-6, rtol=0)


def test_the_loss_of_a_step_is_that_of_the_equations() -> None:
    method, network = small_method()
    network.eval()
    loss = method.loss(network, views(0), 0)
    with torch.no_grad():
        z, _ = network(views(0), [8, 8])
    expected = []
    for number, part in enumerate((slice(0, 8), slice(8, 16))):
        scores = (z[:, part] @ network.prototypes.matrices[number].T).detach().numpy()
        codes = np.stack([sinkhorn_reference(scores[crop], 0.03, 3) for crop in (0, 1)])
        expected.append(loss_reference(scores, codes, [0, 1], 0.1))
    assert float(loss) == pytest.approx(float(np.concatenate(expected).mean()), rel=1e-5)


def test_shared_prototypes_balance_all_modalities_together() -> None:
    method, network = small_method(shared_prototypes=True, queue=16, queue_start=0)
    assert method.settings.prototypes == {"xray+ct": 6}
    assert method.settings.queue == {"xray+ct": 16}
    assert len(network.prototypes.matrices) == 1
    matrix = network.prototypes.matrices[0].detach()
    network.eval()
    for step in range(2):
        with torch.no_grad():
            z, scores = network(views(step), [8, 8])
        assert [block.shape for block in scores] == [(3, 8, 6)] * 2
        torch.testing.assert_close(torch.cat(scores, dim=1), z @ matrix.T)
        codes = torch.cat(method.codes(z, scores, step), dim=1)
        queue = method.queue.features[0].clone()
        for crop in (0, 1):
            joined = z[crop] @ matrix.T
            if step:
                joined = torch.cat([joined, queue[crop] @ matrix.T])
            expected = sinkhorn_reference(joined.numpy(), 0.03, 3)[:16]
            np.testing.assert_allclose(codes[crop].numpy(), expected, atol=2e-5)
        method.after_step(step)
        torch.testing.assert_close(method.queue.features[0], z[:2])
    assert len(method.lines()) == 2


def test_telemetry_reports_what_happened_per_modality() -> None:
    telemetry = Telemetry([4, 8], [6, 6], 1, torch.device("cpu"))
    losses, codes, scores, features = [], [], [], []
    rows: list[list[dict[str, np.ndarray]]] = [[], []]
    for step in range(3):
        losses = [torch.rand(6, generator=torch.Generator().manual_seed(step + 10 * n)) for n in range(2)]
        scores = [unit(2, 6, 16, seed=step + n) @ unit(k, 16, seed=50 + n).T for n, k in enumerate((4, 8))]
        codes = [torch.softmax(block / 0.1, 2) for block in scores]
        features = [unit(6, 16, seed=step + 5 * n) for n in range(2)]
        telemetry.add(codes, scores, features)
        telemetry.add_losses(losses)
        for n in range(2):
            rows[n].append(
                {
                    "loss": losses[n].numpy(),
                    "code": codes[n].numpy(),
                    "used": scores[n][0].argmax(1).numpy(),
                    "feature": features[n].numpy(),
                }
            )
    for n, line in enumerate(telemetry.read()):
        assert line["loss"] == pytest.approx(np.concatenate([row["loss"] for row in rows[n]]).mean(), rel=1e-5)
        assert line["ln_k"] == pytest.approx(math.log((4, 8)[n]))
        entropy = np.mean([-(row["code"] * np.log(row["code"])).sum(2).mean() for row in rows[n]])
        assert line["code_entropy"] == pytest.approx(entropy, rel=1e-4)
        used = len(set(np.concatenate([row["used"] for row in rows[n]]).tolist())) / (4, 8)[n]
        assert line["prototypes_used"] == pytest.approx(used)
        spread = np.mean([row["feature"].std(0).mean() for row in rows[n]])
        assert line["feature_std"] == pytest.approx(spread, rel=1e-4)
    assert telemetry.read()[0]["loss"] == 0.0
