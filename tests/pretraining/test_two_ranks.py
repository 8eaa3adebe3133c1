"""Two gloo processes against one on the joined batch, with synchronised BatchNorm and a full queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_ranks import run

SCRIPT = Path(__file__).with_name("two_ranks.py")


METHODS = {
    "swav": {},
    "simclr": {"method": "simclr", "crops": [2], "sizes": [48]},
    "dino": {"method": "dino"},
    "supervised": {"method": "supervised", "label": "a"},
    "hybrid": {"label": "a", "alpha": 0.7, "beta": 1.5},
}


def on_two_ranks(counts: list[list[int]], changes: dict, folder: Path) -> list[dict]:
    shares = "/".join(",".join(str(count) for count in row) for row in counts)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launch, str(SCRIPT), str(folder), shares, json.dumps(changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        pytest.param([[4, 4], [4, 4]], "swav", id="equal"),
        pytest.param([[6, 3], [2, 5]], "swav", id="unequal"),
        pytest.param([[8, 0], [0, 8]], "swav", id="a rank without a modality"),
        *(pytest.param([[6, 3], [2, 5]], name, id=name) for name in METHODS if name != "swav"),
    ],
)
def test_loss_gradients_and_queue_equal_one_rank_on_the_joined_batch(
    counts: list[list[int]], name: str, tmp_path: Path
) -> None:
    """Where there are labels, they are on the second rank only."""
    expected = run(counts, 0, 1, 3, METHODS[name])
    for found in on_two_ranks(counts, METHODS[name], tmp_path):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        for parameter, gradient in expected["gradients"].items():
            scale = max(float(gradient.abs().max()), 1.0)
            assert float((found["gradients"][parameter] - gradient).abs().max()) / scale < 1e-5, parameter
        for mine, theirs in zip(found["queue"], expected["queue"], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
        for mine, theirs in zip(found["telemetry"], expected["telemetry"], strict=True):
            for key in sorted(set(theirs) - {"feature_std"}):  # the mean of each rank's own
                assert mine[key] == pytest.approx(theirs[key], abs=1e-4), key
