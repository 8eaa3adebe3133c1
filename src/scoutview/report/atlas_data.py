"""What the script of an atlas reads: numbers as compact base64, texts as JSON that cannot leave its element."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scoutview.report.curves import modality_inks
from scoutview.report.sprites import ACROSS, PER_SHEET
from scoutview.report.svg import SERIES
from scoutview.report.wording import modality

MOST_VALUES = 254
"""Values of a column that are told apart; the most frequent ones."""
OTHER, UNKNOWN = 254, 255
ID_SIGNS = 12


def data_of(content: Mapping[str, Any]) -> Markup:
    """The JSON for the element that the script reads.

    Of image i: places 0 to 65535 in `x` and `y`, neighbours and 10,000 times their cosines in rows of `width`, the
    SHA-256 of its pixels, and a number per column, into the column's values. Numbers are little-endian.
    """
    images = content["images"]
    neighbours = np.array(images["neighbours"], dtype="<u4").reshape(len(images["image"]), -1)
    cosines = np.array(images["cosines"], dtype=np.float64)
    data = {
        "across": ACROSS,
        "sheet": PER_SHEET,
        "images": [image[:ID_SIGNS] for image in images["image"]],
        "hidden": images["hidden"],
        "x": _packed(_places(images["x"]), "<u2"),
        "y": _packed(_places(images["y"]), "<u2"),
        "width": neighbours.shape[1],
        "neighbours": _packed(neighbours, "<u4"),
        "cosines": _packed((cosines * 10_000).round(), "<i2"),
        "pixels": base64.b64encode(bytes.fromhex("".join(images["pixel_sha256"]))).decode("ascii"),
        "columns": [column_of(name, values) for name, values in content["columns"].items()],
    }
    return safe_json(data)


def column_of(name: str, values: Sequence[str | None]) -> dict[str, Any]:
    """A column with its values, the most frequent first, and the ink of each of the first ones."""
    counts = Counter(value for value in values if value is not None)
    known = sorted(counts, key=lambda value: (-counts[value], value))
    code = {value: number for number, value in enumerate(known[:MOST_VALUES])}
    codes = [UNKNOWN if value is None else code.get(value, OTHER) for value in values]
    if name == "modality":
        inks = list(modality_inks(known).values())
        shown = [modality(value) for value in known]
    else:
        inks, shown = list(SERIES), known[:MOST_VALUES]
    return {
        "name": name,
        "values": shown,
        "counts": [counts[value] for value in known[:MOST_VALUES]],
        "inks": inks[: len(shown)],
        "codes": _packed(np.array(codes), "u1"),
    }


def safe_json(value: Any) -> Markup:
    """JSON in ASCII without a sign that HTML knows, so that no text in it can end the element around it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _places(values: Sequence[float]) -> NDArray[np.float64]:
    places: NDArray[np.float64] = (np.clip(np.asarray(values, dtype=np.float64), 0, 1) * 65535).round()
    return places


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values.astype(kind)).tobytes()).decode("ascii")
