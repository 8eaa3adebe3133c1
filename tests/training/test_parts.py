"""Schedule, LARC, checkpoints, run folder, precision: against independent references."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from scoutview.errors import RunError, UsageError
from scoutview.training import (
    RunFolder,
    cosine_with_warmup,
    latest_checkpoint,
    load_checkpoint,
    resolve_precision,
    resolve_workers,
    save_checkpoint,
    scale_gradients,
)
from scoutview.training.run_folder import read_config, read_metrics


def test_schedule_equals_the_formula() -> None:
    base, final, warmup, steps = 0.6, 0.0006, 7, 50
    values = [cosine_with_warmup(step, steps, warmup, base, final) for step in range(steps)]
    for step in range(warmup):
        assert values[step] == pytest.approx(base * (step + 1) / warmup)
    for step in range(warmup, steps):
        share = (step - warmup) / (steps - warmup)
        assert values[step] == pytest.approx(final + (base - final) * (math.cos(math.pi * share) + 1) / 2, rel=1e-12)
    torch_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=base), T_max=steps, eta_min=final
    )
    for step in range(steps):
        assert cosine_with_warmup(step, steps, 0, base, final) == pytest.approx(torch_schedule.get_last_lr()[0])
        torch_schedule.optimizer.step()
        torch_schedule.step()


def larc_sgd_reference(
    weights: list[list[float]],
    gradients: list[list[list[float]]],
    lr: float,
    trust: float,
    decay: float,
    momentum: float,
) -> list[list[float]]:
    """LARC over SGD with momentum as loops in float64, one parameter after the other."""
    result = []
    for number, start in enumerate(weights):
        w, buffer = list(start), None
        for step in gradients:
            g = list(step[number])
            w_norm, g_norm = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
            if w_norm > 0 and g_norm > 0:
                rate = trust * w_norm / (g_norm + decay * w_norm + 1e-8)
                g = [(x + decay * y) * rate for x, y in zip(g, w, strict=True)]
            buffer = g if buffer is None else [momentum * b + x for b, x in zip(buffer, g, strict=True)]
            w = [x - lr * b for x, b in zip(w, buffer, strict=True)]
        result.append(w)
    return result


def test_larc_with_sgd_equals_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (4,), (2, 2, 3)]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    weights[2].zero_()  # a bias that starts at zero takes a plain step
    gradients = [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(6)]
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = torch.optim.SGD(parameters, lr=0.6, momentum=0.9, foreach=True)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        scale_gradients(parameters, 0.001, 1e-2)
        optimizer.step()
    flat = [[g.flatten().tolist() for g in step] for step in gradients]
    expected = larc_sgd_reference([w.flatten().tolist() for w in weights], flat, 0.6, 0.001, 1e-2, 0.9)
    for parameter, row in zip(parameters, expected, strict=True):
        torch.testing.assert_close(
            parameter.detach().flatten(), torch.tensor(row, dtype=torch.float64), rtol=1e-9, atol=0
        )


def test_larc_passes_over_parameters_without_a_gradient() -> None:
    frozen, free = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    free.grad = torch.full((3,), 2.0)
    scale_gradients([frozen, free], 0.001, 0.0)
    assert frozen.grad is None
    torch.testing.assert_close(free.grad, torch.full((3,), 2.0 * 0.001 / 2.0))


def test_checkpoints_keep_the_newest_and_load_without_pickled_code(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, step, {"step": step, "weight": torch.full((2,), float(step))}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000015.pt", "step-000000020.pt"]
    state = load_checkpoint(latest_checkpoint(tmp_path))
    assert state["step"] == 20
    assert torch.equal(state["weight"], torch.full((2,), 20.0))


def test_a_torn_or_hostile_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"weight": torch.ones(1000)}, keep=1)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match="cannot be read"):
        load_checkpoint(path)

    class Code:
        def __reduce__(self) -> tuple:
            return (print, ("executed",))

    torch.save({"code": Code()}, path)
    with pytest.raises(RunError, match="cannot be read"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=3)

    def full(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, {"step": 2}, keep=3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_a_run_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare({"steps": 5, "sizes": (64, 32)}, {"queue": "as published"})
    assert read_config(run.path) == {"steps": 5, "sizes": [64, 32], "reasons": {"queue": "as published"}}
    RunFolder(tmp_path / "run").prepare({"steps": 5, "sizes": (64, 32)}, {})
    with pytest.raises(UsageError, match=r"run with other settings \(steps: 5 -> 6\)"):
        RunFolder(tmp_path / "run").prepare({"steps": 6, "sizes": (64, 32)}, {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        RunFolder(tmp_path / "other").prepare({"steps": 5}, {})


def test_a_folder_whose_first_file_was_never_finished_is_free(tmp_path: Path) -> None:
    torn = tmp_path / ".config.yaml.123.tmp"
    torn.write_text("steps: ")
    RunFolder(tmp_path).prepare({"steps": 5}, {})
    assert read_config(tmp_path)["steps"] == 5
    assert not torn.exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / ".config.yaml.123.tmp").write_text("")
    (other / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        RunFolder(other).prepare({"steps": 5}, {})
    assert (other / ".config.yaml.123.tmp").exists()


def test_metrics_survive_a_torn_line_and_continue_where_the_checkpoint_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        run.log({"step": step, "seconds": 10.0 * step, "loss": math.nan if step == 2 else 1.0})
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert read_metrics(tmp_path)[1]["loss"] is None
    again = RunFolder(tmp_path)
    again.continue_after(2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert again.seconds() >= 20.0
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", writes=False)
    run.prepare({"steps": 1}, {})
    run.log({"step": 1})
    run.manifest({"status": "running"})
    assert not (tmp_path / "run").exists()


def test_auto_values_come_with_a_reason() -> None:
    assert resolve_precision("fp32") == ("32-true", "")
    assert resolve_precision("bf16") == ("bf16-mixed", "")
    assert resolve_precision("auto")[1]
    assert resolve_workers(3, 1) == (3, "")
    workers, reason = resolve_workers("auto", 1)
    assert workers >= 0
    assert "cores" in reason
