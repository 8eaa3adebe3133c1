"""One pretraining and three fine-tuning runs, and the page about them, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from run_folders import HOSTILE, finetuning_run, pretraining_run

from scoutview.report import write_report


@dataclass(frozen=True)
class Made:
    runs: list[Path]
    page: Path

    @property
    def html(self) -> str:
        return self.page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("runs")
    encoder = "/data/private/pretrain_swav/encoder.safetensors"
    runs = [
        pretraining_run(folder / "pretrain_swav"),
        finetuning_run(folder / "from_encoder", encoder, 1.6),
        finetuning_run(folder / "from_nothing", "none", 0.8),
        finetuning_run(folder / "many", encoder, 1.2, "findings", ("effusion", HOSTILE)),
    ]
    return Made(runs, write_report(runs, folder / "report.html", f"Archive {HOSTILE}"))
