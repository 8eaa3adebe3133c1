"""A training that goes on without damaged images says so, and gives up when they are many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoutview.batches import TrainingBatch
from scoutview.errors import RunError
from scoutview.pretraining.damage import DamageCount
from scoutview.training import RunFolder
from scoutview.views import ViewBatch

EMPTY = torch.zeros(0)
BATCH = TrainingBatch(3, ViewBatch(*[EMPTY] * 12), torch.zeros(64, dtype=torch.long), EMPTY)


def damaged(count: int) -> TrainingBatch:
    return replace(BATCH, damaged=tuple(f"image {number} in shards/ct/a.tar at byte 512" for number in range(count)))


def test_every_replaced_image_is_logged_and_ten_are_allowed(tmp_path: Path) -> None:
    run, count = RunFolder(tmp_path), DamageCount(0)
    for batch in (BATCH, damaged(6), damaged(4)):
        count.add(batch, run)
    assert (count.images, count.replaced) == (192, 10)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["damaged"] * 10
    assert "image 5 in shards/ct/a.tar at byte 512" in lines[5]["message"]
    with pytest.raises(RunError, match=r"11 of the 256 images that rank 0 read were damaged, more than 0.1%"):
        count.add(damaged(1), run)


def test_one_in_a_thousand_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, count = RunFolder(tmp_path, writes=False), DamageCount(2, images=50_000 - 64, replaced=49)
    count.add(damaged(1), run)
    assert "rank 2 step 3: replaced: image 0" in capsys.readouterr().err
    with pytest.raises(RunError):
        count.add(damaged(1), run)
