"""What the evaluation of a fine-tuned model ends with, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoutview.metrics import CaseScores


@dataclass(frozen=True)
class Evaluation:
    """What a model says of the test split of a store.

    content: of evaluation.json. scores: of every case, by what is told of it; several, as of the heads of a model for
    haemorrhage, where the cases or the figures are several kinds, the one of content's figures first. save: leaves what
    else there is to see in a run folder.
    """

    content: dict[str, Any]
    scores: Mapping[str, CaseScores]
    save: Callable[[Path], None] = lambda run: None
