"""What the evaluation of a fine-tuned model ends with, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.metrics import CaseScores


@dataclass(frozen=True)
class CasePicture:
    """A case to look at. name: of it in its store. pixels [row, column] in [0, 1]. note: what else to say of it."""

    name: str
    pixels: npt.NDArray[np.float32]
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """Cases of a classifier, to be looked at: what one is, what the model says of them, and case -> its picture."""

    unit: str
    scores: CaseScores
    picture: Callable[[int], CasePicture]


@dataclass(frozen=True)
class Evaluation:
    """What a model says of the test split of a store.

    content: of evaluation.json. scores: of every case, by what is told of it; several, as of the heads of a model for
    haemorrhage, where the cases or the figures are several kinds, the one of content's figures first. save: leaves what
    else there is to see in a run folder. shown: what a page of the cases is made of.
    """

    content: dict[str, Any]
    scores: Mapping[str, CaseScores]
    save: Callable[[Path], None] = lambda run: None
    shown: Shown | None = None
