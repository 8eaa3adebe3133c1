"""Boxes in COCO's JSON: images[].file_name, annotations[].bbox and .category_id, categories[].name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoutview.errors import UsageError
from scoutview.ingest.joining import SHOWN, Targets
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.store import Annotation, ImageRow


def boxes_of(
    path: Path, rows: Sequence[ImageRow], pseudonyms: Pseudonyms, reader: str = ""
) -> tuple[list[Annotation], list[str]]:
    """(annotations, notes) of a COCO file for the images of a store.

    A box has value "1". A listed image without a box of a category gets one annotation of kind "box" with value
    "0" and no coordinates: it was searched, and has none (COCO lists all boxes of its images). An annotation
    may carry a "reader".

    Raises:
        UsageError: the file is no COCO file, a box is malformed or lies outside its image, or no image is known.
    """
    data, content = _read(path)
    targets = Targets.of(rows, pseudonyms)
    sizes = {row.image: (row.rows, row.columns) for row in rows}
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    images: dict[Any, str | None] = {}
    for entry in content["images"]:
        try:
            target = targets.by_file(str(entry["file_name"]))
        except ValueError as error:
            raise UsageError(
                f"{path}: {entry['file_name']!r} is the name of several files: give the path below the source"
            ) from error
        images[entry["id"]] = target if target in sizes else None
    known = {target for target in images.values() if target}
    if not known:
        raise UsageError(f"no image of {path} is in the store: file_name is a path below the source or a file name")
    source = f"coco:{hashlib.sha256(data).hexdigest()[:16]}"
    annotations: list[Annotation] = []
    found: set[tuple[str, str, str]] = set()
    for number, entry in enumerate(content["annotations"]):
        where = f"{path} annotation {number + 1}"
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise UsageError(f"{where} is about an image or category that the file does not list: correct it")
        target = images[entry["image_id"]]
        if target is None:
            continue
        x, y, width, height = _box(entry.get("bbox"), sizes[target], where)
        name, by = categories[entry["category_id"]], str(entry.get("reader", reader))
        found.add((target, name, by))
        annotations.append(Annotation(target, "box", name, "1", x, y, width, height, by, source))
    readers = sorted({by for _, _, by in found} | ({reader} if not found else set()))
    annotations += [
        Annotation(target, "box", name, "0", reader=by, source=source)
        for target in sorted(known)
        for name in sorted(set(categories.values()))
        for by in readers
        if (target, name, by) not in found
    ]
    missing = [str(entry["file_name"]) for entry in content["images"] if images[entry["id"]] is None]
    notes = [f"{len(missing)} images of the file are not in the store: {', '.join(missing[:SHOWN])}"] if missing else []
    return annotations, notes


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        data = path.read_bytes()
        content: dict[str, Any] = json.loads(data)
        for part, needed in (("images", "file_name"), ("annotations", "image_id"), ("categories", "name")):
            for entry in content[part]:
                entry["id" if part != "annotations" else "category_id"], entry[needed]
    except OSError as error:
        raise UsageError(f"the label file {path} cannot be read ({error.strerror}): give a JSON file") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a COCO file ({type(error).__name__}): it needs images, annotations and categories"
        ) from error
    return data, content


def _box(box: Any, size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    """(x, y, width, height) in px, checked against the image; half a pixel of tolerance for rounding."""
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: bbox is not four numbers x, y, width, height: correct it") from error
    rows, columns = size
    inside = x >= -0.5 and y >= -0.5 and x + width <= columns + 0.5 and y + height <= rows + 0.5
    if not (all(math.isfinite(value) for value in (x, y, width, height)) and width > 0 and height > 0 and inside):
        raise UsageError(
            f"{where}: the box {x:g}, {y:g}, {width:g}, {height:g} is not within its image of {columns} x {rows} px: "
            "correct it"
        )
    return x, y, width, height
