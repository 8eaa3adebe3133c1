"""Two gloo processes against one on the joined batch, with synchronised BatchNorm and a full queue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_ranks import run

SCRIPT = Path(__file__).with_name("two_ranks.py")


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([[4, 4], [4, 4]], id="equal"),
        pytest.param([[6, 3], [2, 5]], id="unequal"),
        pytest.param([[8, 0], [0, 8]], id="a rank without a modality"),
    ],
)
def test_loss_gradients_and_queue_equal_one_rank_on_the_joined_batch(counts: list[list[int]], tmp_path: Path) -> None:
    expected = run(counts, 0, 1, 3)
    shares = "/".join(",".join(str(count) for count in row) for row in counts)
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
        str(tmp_path),
        shares,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], check=True, env=environment, timeout=300, capture_output=True)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        for name, gradient in expected["gradients"].items():
            scale = max(float(gradient.abs().max()), 1.0)
            assert float((found["gradients"][name] - gradient).abs().max()) / scale < 1e-5, name
        for mine, theirs in zip(found["queue"], expected["queue"], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
        for mine, theirs in zip(found["telemetry"], expected["telemetry"], strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
            assert mine["code_entropy"] == pytest.approx(theirs["code_entropy"], abs=1e-4)
            assert mine["prototypes_used"] == theirs["prototypes_used"]
